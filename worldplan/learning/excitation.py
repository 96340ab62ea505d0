"""The objective for episodes with actions: a latent whose displacement is a linear function of the actions.

Theory, proof and the tests that hold each line: docs/excitation.md. The claim is ours. It needs no Gaussian law of the
states, but actions that excite every coordinate and do not depend on the state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from worldplan.checks import check_fields
from worldplan.choices import check_choice
from worldplan.data.symmetries import check_symmetries
from worldplan.errors import InvalidInput
from worldplan.learning.distributed import average, gathered, shards, total
from worldplan.learning.gaussianity import sigreg
from worldplan.planning.space import LatentSpace

Anticollapse = Literal["whitening", "sigreg"]
Drift = Literal["removed", "explained"]
_JITTER = 1e-8  # of the mean variance of the displacements: keeps a collapsed batch finite


@dataclass(frozen=True)
class Excitation:
    """`-log det(C + e I)`, C the explained part of the whitened displacement: its eigenvalues are the shares explained.

    `dh = h(q') (-) h(q)` is the latent's displacement over a window, `a` the features of the actions (`Windows`), S
    their covariances in the batch. The shares are the squared canonical correlations of dh and a, the eigenvalues of
    `S_hh^-1 S_ha S_aa^-1 S_ah`, and `J` is their sum (Hotelling 1936; with networks: Andrew et al. 2013). A share is
    what the best linear prediction of the next embedding from the actions gets right: a joint embedding whose predictor
    knows the action. Shares have no scale, so nothing can collapse and no weight is tuned. To first order in the
    displacement, all of them are largest iff `h(q) = M q + b` with M invertible, whatever the law of q
    (docs/excitation.md; ours).

    The logarithm (D-optimality, Kiefer and Wolfowitz 1959) pulls most on the coordinate that is explained least. The
    sum J leaves a coordinate that is not found yet where it is: the slope of a squared correlation at 0 is 0. The floor
    e is the share `p / B` that noise explains of a batch of B by p features.

    With `against="sigreg"` the same is taken of each coordinate's own share of explained displacement, and SIGReg of
    the displacements, in units of their deviations, stands against collapse: `weight * sigreg + (1 - weight) * error`,
    LeJEPA given the actions.

    A plant with inertia moves on by itself, an unstable one falls. With `past`, what the latent's own displacement over
    the steps before the window, and its place, explain linearly is taken from displacements and actions first. The
    shares are then partial ones, and the claim is the same.

    With the drift `explained`, only the place is taken out, and what the motion explains counts along with the
    actions. This is for plants whose coordinates answer an action alike, as a cart and its pole do: what tells them
    apart is how they move by themselves. All shares are 1 if the plant is linear and `h(q) = M q + b`; a bent latent
    has the square of the velocity in its displacement, which is linear in nothing (docs/excitation.md; ours).

    Args:
        window: steps from the first frame to the second.
        past: steps before the window over which the latent's displacement tells the first velocity; 0: it is unknown.
        drift: with `past`: what the motion explains is `removed` first like the place, or counts as `explained`.
        space: kinds of the latent's coordinates (`LatentSpace`); empty for lines.
        symmetries: names of the world's symmetries (`worldplan.data.symmetries`), for windows that were not recorded.
        against: what stands against collapse, `whitening` or `sigreg`.
        weight: sigreg: lambda in [0, 1].
        slices: sigreg: random directions per step.
        first_windows: windows of the first fifth of a run, those of its first episodes; 0 for all.
        patience: validations (100 steps each) without a better J after which a run that has found all coordinates
            stops; 0 goes on to the end.
        least: share of a coordinate's displacement that the actions must explain on held-out episodes; a run that finds
            less ends with an error.

    Raises:
        InvalidInput: an option is out of range.
    """

    window: int = 16
    space: tuple[str, ...] = ()
    symmetries: tuple[str, ...] = ()
    against: Anticollapse = "whitening"
    weight: float = 0.02
    slices: int = 256
    first_windows: int = 30_000
    least: float = 0.2
    patience: int = 6
    past: int = 0
    drift: Drift = "removed"

    name: ClassVar[str] = "excitation"
    remedy: ClassVar[str] = "the window, the batch"

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "space", tuple(self.space))
        object.__setattr__(self, "symmetries", check_symmetries(self.symmetries))
        if self.space:
            LatentSpace(*self.space)
        check_choice("against", self.against, Anticollapse)
        check_choice("drift", self.drift, Drift)
        if min(self.first_windows, self.past, self.patience) < 0:
            raise InvalidInput(f"first_windows (0: all), past and patience must be at least 0, got {self}")
        if self.drift == "explained" and not self.past:
            raise InvalidInput("what drifts is told from the motion before the window; set past (--past 8), in steps")
        if self.window < 2 or self.slices < 1 or not (0.0 <= self.weight <= 1.0 and self.least < 1.0):
            raise InvalidInput(f"need window >= 2, slices >= 1, weight in [0, 1] and least < 1, got {self}")

    def __call__(
        self,
        embeddings: Tensor,
        generator: torch.Generator | None = None,
        actions: Tensor | None = None,
        controls: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Loss terms of embeddings (B, V, n), V = 2, or 3 with `past`, and features of actions (B, p).

        Where a policy acted, `actions` are features of its exploration noise and `controls` (B, c) of its means. What
        the controls explain linearly is taken from displacements and actions first: a drift that depends on the state
        would reward a bent latent (docs/excitation.md).

        `loss` is to minimise: n where nothing is explained, 0 where all is. To log: `J`, and `r2_1` ... `r2_n`, the
        squared canonical correlations, descending.

        Raises:
            InvalidInput: no actions, or shapes that do not fit.
        """
        if actions is None:
            raise InvalidInput("the objective excitation needs the actions of each window; train on episodes")
        views = 3 if self.past else 2
        if embeddings.ndim != 3 or embeddings.shape[1] != views or len(actions) != len(embeddings):
            shapes = f"{tuple(embeddings.shape)} and {tuple(actions.shape)}"
            raise InvalidInput(f"embeddings must be (B, {views}, n) and actions (B, p), got {shapes}")
        moved, actions, controls = self.regression(embeddings, actions, controls)
        spread, part = covariances(moved, actions, controls)
        shares = explained(spread, part)
        terms = {"J": shares.sum(), **{f"r2_{k + 1}": share for k, share in enumerate(shares.flip(0))}}
        noise = actions.shape[1] / (len(actions) * shards())
        if self.against == "whitening":
            return {"loss": unexplained(shares, noise).sum(), **terms}
        sizes = spread.diagonal() + _floor(spread)
        error = unexplained(part.diagonal() / sizes, noise).mean()
        scaled = (moved - average(moved.mean(dim=0))) / sizes.sqrt().to(moved.dtype)
        gauss = sigreg(scaled, self.slices, generator)
        return {"loss": self.weight * gauss + (1.0 - self.weight) * error, "error": error, "sigreg": gauss, **terms}

    def displacement(self, embeddings: Tensor) -> Tensor:
        """Displacements (B, n) of embeddings (B, V, n) over the window, on circles the shorter way."""
        return self._between(embeddings[:, -2], embeddings[:, -1])

    def regression(
        self, embeddings: Tensor, actions: Tensor, controls: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What is explained (B, n), by which features (B, p), and what is taken from both first (B, c), or None."""
        moved = self.displacement(embeddings)
        if not self.past:
            return moved, actions, controls
        motion, place = self._state(embeddings)
        if self.drift == "explained":
            actions = torch.cat([actions.to(motion), motion], dim=1)
            known = [place]
        else:
            known = [motion, place]
        return moved, actions, torch.cat([*([] if controls is None else [controls.to(place)]), *known], dim=1)

    def _state(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """The latent's motion before the window, and its place, in units of their deviations.

        The place on a circle is its cosine and sine.
        """
        circles = [k for k, kind in enumerate(self.space) if kind == "circle"]
        lines = [k for k in range(embeddings.shape[2]) if k not in circles]
        here = embeddings[:, 1]
        motion = self._between(embeddings[:, 0], here)
        place = torch.cat([here[:, lines], here[:, circles].cos(), here[:, circles].sin()], dim=1)
        return _standardised(motion), _standardised(place)

    def _between(self, here: Tensor, there: Tensor) -> Tensor:
        moved = there - here
        circles = [k for k, kind in enumerate(self.space) if kind == "circle"]
        if circles:
            moved = moved.clone()
            moved[:, circles] = torch.remainder(moved[:, circles] + math.pi, 2.0 * math.pi) - math.pi
        return moved


def _standardised(rows: Tensor) -> Tensor:
    """Rows in units of their deviations, float64."""
    found = rows.double()
    whole = gathered(found)
    return (found - whole.mean(dim=0)) / (whole.var(dim=0) + 1e-24).sqrt()  # the slope of `std` at 0 is no number


def covariances(moved: Tensor, actions: Tensor, controls: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Covariance (n, n) of displacements (B, n), and the part of it that actions (B, p) explain; in float64.

    What the controls (B, c) explain linearly is taken from both first.
    """
    n, p = moved.shape[1], actions.shape[1]
    known = [torch.ones_like(moved[:, :1]), *([] if controls is None else [controls])]
    rows, given = (torch.cat(parts, dim=1).double() for parts in ([moved, actions], known))
    cross = total(given.T @ rows)
    left = (total(rows.T @ rows) - cross.T @ torch.linalg.solve(_gram(given), cross)) / (len(rows) * shards())
    spread, shared, free = left[:n, :n], left[:n, n : n + p], left[n:, n:]
    return spread, shared @ torch.linalg.solve(_regular(free), shared.T)


def _gram(rows: Tensor) -> Tensor:
    """Second moments (k, k) of rows, regular."""
    return _regular(total(rows.T @ rows))


def _regular(gram: Tensor) -> Tensor:
    """A little more on the diagonal: columns may say the same, or nothing."""
    return gram + torch.diag(_JITTER * gram.diagonal() + 1e-30)


def _floor(spread: Tensor) -> Tensor:
    return _JITTER * spread.diagonal().mean() + 1e-30


def explained(spread: Tensor, part: Tensor) -> Tensor:
    """Squared canonical correlations (n,), ascending: eigenvalues of `spread^-1 part`; 0 where nothing moves."""
    root = torch.linalg.cholesky(spread + _floor(spread) * torch.eye(len(spread)).to(spread))
    half = torch.linalg.solve_triangular(root, part, upper=False)
    shares: Tensor = torch.linalg.eigvalsh(torch.linalg.solve_triangular(root, half.T, upper=False))
    return shares


def unexplained(shares: Tensor, noise: float) -> Tensor:
    """Shares (n,) as losses: 1 for a share of 0, 0 for one of 1, the logarithm of `share + noise` in between."""
    return torch.log((1.0 + noise) / (shares + noise)) / math.log((1.0 + noise) / noise)


def predicted(moved: Tensor, actions: Tensor, fitted: int | None = None) -> Tensor:
    """The best affine prediction (B, n) of displacements (B, n) from features of actions (B, p), by least squares.

    The first `fitted` rows alone determine it; None takes all.
    """
    middle, origin = (x[:fitted].double().mean(dim=0) for x in (moved, actions))
    known = actions[:fitted].double() - origin
    coefficients = torch.linalg.solve(_gram(known), known.T @ (moved[:fitted].double() - middle))
    guess: Tensor = middle + (actions.double() - origin) @ coefficients
    return guess.to(moved.dtype)


def shares_of(moved: Tensor, guess: Tensor) -> Tensor:
    """Eigenvalues (n,), ascending, of `I - S^-1 S_r`: S the covariance of displacements, S_r of what `guess` misses.

    With a guess from other data they measure a prediction: they are at most 1, and negative where it is worse than
    none.
    """
    centred, missed = moved.double() - moved.double().mean(dim=0), (moved - guess).double()
    spread, left = (x.T @ x / len(moved) for x in (centred, missed))
    return explained(spread, spread - left).to(moved.dtype)
