"""The job that most experiments consist of: train an ensemble of encoders in one world, and judge each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from worldplan.eval.laboratory.ensemble import Ensemble, Training, train
from worldplan.eval.laboratory.judge import LARGEST, Encode, Judged, composed, control_cost, judge_gaussian
from worldplan.eval.laboratory.networks import Coupling, Parameters, mlp
from worldplan.eval.laboratory.optimisers import Method
from worldplan.eval.laboratory.worlds import (
    HIDDEN,
    LAYERS,
    STRENGTH,
    BalancedPairs,
    GaussianPairs,
    RecordedPairs,
    Source,
    StratifiedPairs,
    find_mixing,
)
from worldplan.provenance import Result, restored
from worldplan.sweeps.jobs import Job

UNTRAINED = "untrained"  # what a setting without steps is called
PAIRS, DIRECTIONS, WEIGHTS, MIXING, JUDGE, DRAWS = range(6)  # what a member's seed is spread over


@dataclass(frozen=True)
class Member:
    """One encoder of an ensemble.

    Attributes:
        seed: numbers that name its stream of chance; equal ones see the same pairs, and begin with the same weights.
        objective: name and options of its objective.
        rho: correlation of pairs: one number, or one for each latent.
    """

    seed: tuple[int, ...]
    objective: Mapping[str, Any]
    rho: float | tuple[float, ...] = 0.5

    def integer(self, stream: int) -> int:
        """A seed for one use."""
        return int(np.random.SeedSequence([*self.seed, stream]).generate_state(1)[0])

    def generator(self, stream: int) -> torch.Generator:
        """A generator for one use."""
        return torch.Generator().manual_seed(self.integer(stream))


@dataclass(frozen=True)
class Setting:
    """An ensemble in a world of n Gaussian latents.

    Attributes:
        mixing: name of the mixing, as for `find_mixing`; random ones differ by member.
        members: the encoders; their objectives may differ in weight and sigma only.
        training: how they are trained.
        n: latents.
        m: outputs of the encoder; None for n.
        network: "mlp"; "coupling" for one that can undo a RealNVP mixing exactly; "inverse" for one that begins as the
            inverse of the member's own.
        width: units of a hidden layer.
        depth: hidden layers, or coupling layers.
        judged: states to judge with; as many to fit the maps with.
        pairs: of a pool that each member draws its batches from; 0 for fresh pairs in each batch.
        strength: of the initial weights of a coupling encoder; at 0 it is affine at first.
    """

    mixing: str
    members: tuple[Member, ...]
    training: Training
    n: int = 2
    m: int | None = None
    network: str = "mlp"
    width: int = 256
    depth: int = 4
    judged: int = 4000
    pairs: int = 0
    strength: float = 1.0

    def job(self, function: Callable[..., Any] | None = None, **more: Any) -> Job:
        """The job that trains and judges: `train_and_judge`, or one whose rows hold more than a `Trained`."""
        return Job(function or train_and_judge, {"setting": asdict(self), **more})

    def encoder(self, seed: int) -> nn.Module:
        """A network with initial weights of a seed; that of the mixing, for an inverse."""
        if self.network == "inverse":
            return Coupling(self.n, LAYERS, HIDDEN, STRENGTH[self.mixing], inverse=True, seed=seed)
        if self.network == "coupling":
            return Coupling(self.n, self.depth, self.width, self.strength, inverse=True, seed=seed)
        return mlp(self.n, self.m or self.n, width=self.width, depth=self.depth, seed=seed)

    def networks(self) -> list[nn.Module]:
        """Each member's network, with its initial weights."""
        stream = MIXING if self.network == "inverse" else WEIGHTS
        return [self.encoder(member.integer(stream)) for member in self.members]

    def train(
        self,
        source: Source | None = None,
        *,
        actions: Callable[[Tensor], Tensor] | None = None,
        watch: Callable[[int, Parameters], None] | None = None,
        method: Method = "adamw",
        balanced: bool = False,
    ) -> Ensemble:
        """Train the members on pairs of a source, by default `self.source()`; `actions` and `watch` as for `train`.

        Balanced batches have exact moments, and SIGReg's directions are orthonormal bases: less noise in its gradient.
        """
        kind = StratifiedPairs if method == "l-bfgs" else BalancedPairs if balanced else GaussianPairs
        return train(
            self.networks(),
            source or self.source(kind),
            find_mixing(self.mixing, self.n, [member.integer(MIXING) for member in self.members]),
            [member.objective for member in self.members],
            self.training,
            [member.generator(DIRECTIONS) for member in self.members],
            actions=actions,
            watch=watch,
            method=method,
            orthonormal=balanced,
        )

    def trained_by(self, objectives: Mapping[str, Mapping[str, Any]]) -> str:
        """The name among these of the objective that trained the members; `UNTRAINED` without steps."""
        if self.training.steps == 0:
            return UNTRAINED
        return next(name for name, objective in objectives.items() if objective == self.members[0].objective)

    def rates(self) -> Tensor:
        """Correlation (M, n) of each member's coordinates."""
        return torch.tensor([np.broadcast_to(member.rho, self.n).tolist() for member in self.members])

    def source(self, kind: type[GaussianPairs | StratifiedPairs | BalancedPairs] = GaussianPairs) -> Source:
        """Where the members' pairs come from: fresh ones of a kind, or a pool, which is always drawn by chance."""
        drawn = GaussianPairs if self.pairs else kind
        fresh = drawn(self.rates(), [member.generator(PAIRS) for member in self.members])
        if not self.pairs:
            return fresh
        return RecordedPairs(fresh.draw(self.pairs), [member.generator(DRAWS) for member in self.members])


@dataclass(frozen=True)
class Trained(Result):
    """A trained encoder, judged.

    Attributes:
        loss: of training, mean over the last tenth of the steps.
        align: mean squared distance of views to their centre: `L / (4 m)`.
        regulariser: what keeps the encoder from collapsing, before its weight.
        judged: see `Judged`.
        control: cost of LQR in the latent over true-state LQR's; NaN where the fitted model has no gain, and for more
            than `judge.LARGEST` latents.
        cloud: embeddings of the first `SHOWN` states of `picture`, for figures; empty unless n = m = 2.
    """

    member: Member
    loss: float
    align: float
    regulariser: float
    judged: Judged
    control: float
    cloud: tuple[tuple[float, ...], ...] = field(default=())


SHOWN = 300


def picture() -> Any:
    """States (SHOWN, 2) that all figures of the plane show."""
    return np.random.default_rng(0).standard_normal((SHOWN, 2))


def train_members(
    own: Setting, source: Source | None = None, actions: Callable[[Tensor], Tensor] | None = None
) -> list[Encode]:
    """Train the members, as `Setting.train` does; each encoder after its mixing."""
    return encodes_of(own, own.train(source, actions=actions))


def encodes_of(own: Setting, ensemble: Ensemble) -> list[Encode]:
    """Each encoder, after its mixing, as a function of the latents."""
    mixings = (find_mixing(own.mixing, own.n, [member.integer(MIXING)]) for member in own.members)
    return [composed(ensemble.encoder(k), mixing) for k, mixing in enumerate(mixings)]


def train_and_judge(
    setting: Mapping[str, Any], folder: Path, method: Method = "adamw", *, balanced: bool = False
) -> list[dict[str, Any]]:
    """The job: a `Trained` for each member, as JSON."""
    return [encoder.to_dict() for _, encoder in encoders(restored(Setting, setting), method, balanced=balanced)]


def encoders(own: Setting, method: Method = "adamw", *, balanced: bool = False) -> Iterator[tuple[Encode, Trained]]:
    """Train an ensemble; each member as a map of latents, and as it was judged."""
    ensemble = own.train(method=method, balanced=balanced)
    for k, (member, encode) in enumerate(zip(own.members, encodes_of(own, ensemble), strict=True)):
        judged = judge_gaussian(encode, own.n, count=own.judged, seed=member.integer(JUDGE))
        cloud = encode(picture()).round(4).tolist() if own.n == 2 and own.m in (None, 2) else ()
        loss, align, regulariser = map(float, ensemble.losses[k])
        cost = control_cost(encode, own.n, seed=member.integer(JUDGE)) if own.n <= LARGEST else math.nan
        yield encode, Trained(member, loss, align, regulariser, judged, cost, cloud)


def trained(results: Sequence[tuple[Mapping[str, Any], Any]]) -> list[tuple[Setting, Trained]]:
    """Every encoder of results of `Setting.job`."""
    return measured(results, Trained)


Kind = TypeVar("Kind", bound=Trained)


def measured(results: Sequence[tuple[Mapping[str, Any], Any]], kind: type[Kind]) -> list[tuple[Setting, Kind]]:
    """The same with what else its job measured, in the fields of a kind of `Trained`."""
    return [
        (restored(Setting, arguments["setting"]), restored(kind, row)) for arguments, rows in results for row in rows
    ]
