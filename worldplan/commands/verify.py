"""`worldplan verify`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from worldplan.choices import Profile
from worldplan.commands.base import REACHER, File, Name, Verb, WorldOptions, bar

if TYPE_CHECKING:
    from worldplan.learning.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class Verify(Verb, WorldOptions):
    """Verify Theorem 4: equal plans behind rotations, and mistakes rejected; exit status 0 passed, 1 rejected.

    Random problems are planned in two latent spaces from scratch and compared; then mistakes of known size are put in,
    and each must be seen. No OpenGL unless an encoder is named.

    Args:
        encoder: a shipped name, a folder or an address: its whole pipeline is tested too, on frames of the Reacher or
            of --env.
        reference: the Reacher: another one to compare it with, in place of the true state.
        problems: random problems of the exact level.
        largest: latents of the largest of them; 1024 takes many minutes.
        trials: number of trials of each mistake at each size.
        sizes: relative sizes of the mistakes.
        profile: look of the frames.
        threads: threads of the linear algebra of torch.
        processes: worker processes.
        out: JSON file for the report.
    """

    writes_file: ClassVar[bool] = True

    encoder: Name = None
    reference: Name = None
    problems: int = 1000
    largest: int = 256
    trials: int = 8
    sizes: tuple[float, ...] = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    profile: Profile = "dmc"
    threads: int = 1
    processes: int = os.cpu_count() or 1
    out: File = None

    @property
    def uses_torch(self) -> bool:
        """Only behind an encoder."""
        return self.encoder is not None

    def run(self, command: str) -> int:
        """Exit status 0 if every level passed, 1 if one did not."""
        from worldplan.eval.theorem4.verify import verify_planning

        report = verify_planning(
            _load(self.encoder),
            _load(self.reference),
            seed=self.seed,
            problems=self.problems,
            largest=self.largest,
            trials=self.trials,
            sizes=self.sizes,
            profile=self.profile,
            world=None if self.env == REACHER else self.world(),
            processes=self.processes,
            progress=bar("levels"),
        )
        self.keep(command, report.to_dict(), report.table(), self.out)
        return 0 if report.passed else 1


def _load(name: str | None) -> Encoder | None:
    if name is None:
        return None
    from worldplan.learning.encoder import find_encoder

    return find_encoder(name)
