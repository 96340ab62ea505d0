"""`worldplan identify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from worldplan.choices import Profile
from worldplan.commands.base import Verb, bar, set_threads


@dataclass(frozen=True, kw_only=True)
class Identify(Verb):
    """Measure how far the latents of encoders are from a rotation of the true state.

    Every encoder is judged in the evaluator's own Gaussian world, on the same frames: R2 both ways by kind of label,
    the best rotation, energy by Hermite degree, Theorem 3's bound beside the error, effective rank. Writes
    identify.json and identify.png; prints a table.

    Args:
        encoders: any mix of shipped names, `oracle`, `untrained`, folders, addresses hf://OWNER/NAME, and
            `module:object`, as for `compare`.
        pairs: pairs of frames.
        scale: standard deviation of the joint angles, radians.
        rho: correlation of the pairs, in (0, 1).
        profile: look of the frames.
        own_units: keep the units of each latent; by default it is scaled to the spread of the state.
        resamples: bootstrap samples behind the intervals.
        out: folder for what is written; an earlier run's files are replaced.
    """

    encoders: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="ENCODER...")]]
    pairs: int = 2000
    scale: float = 0.7
    rho: float = 0.5
    profile: Profile = "fast"
    own_units: bool = False
    resamples: int = 1000
    out: Path = Path("runs/identify")

    def run(self, command: str) -> int:
        """Exit status 0, or 1 if an encoder could not be judged."""
        from worldplan.data.files import atomic_write
        from worldplan.errors import RenderingUnavailable
        from worldplan.eval.compare.entrants import find_entrants
        from worldplan.eval.identifiability.figure import draw_identifiability
        from worldplan.eval.identifiability.identify import IdentifiabilityReport, identify
        from worldplan.eval.identifiability.table import identifiability_table
        from worldplan.failure import failure

        set_threads(1)
        entrants = find_entrants(self.encoders, self.seed)
        reports: dict[str, IdentifiabilityReport] = {}
        failed: dict[str, str] = {}
        for entrant in bar("encoders")(iter(entrants), len(entrants)):
            try:
                reports[entrant.name] = identify(
                    entrant.load(),
                    count=self.pairs,
                    scale=self.scale,
                    rho=self.rho,
                    seed=self.seed,
                    profile=self.profile,
                    matched=not self.own_units,
                    resamples=self.resamples,
                    draw=entrant.draw,
                )
            except RenderingUnavailable:
                raise
            except (Exception, SystemExit) as error:  # errors of a user's code cost only its own row
                failed[entrant.name] = failure(error)
        facts = {"encoders": {name: report.to_dict() for name, report in reports.items()}, "failed": failed}
        pictures = [self.out / "identify.png"] if reports else []
        for path in pictures:
            with atomic_write(path) as stream:
                stream.write(draw_identifiability(reports))
        self.keep(command, facts, identifiability_table(reports, failed), self.out / "identify.json", *pictures)
        return 1 if failed else 0
