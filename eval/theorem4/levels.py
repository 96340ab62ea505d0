"""The levels of the verifier of Theorem 4: what was measured, what is allowed, and whether it passed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from worldplan.provenance import Result


@dataclass(frozen=True)
class ExactLevel(Result):
    """Random problems, each planned in the true coordinates and behind an encoder `h = Q z + b`.

    Attributes:
        failed: number of problems beyond their tolerance, or not solved.
        by_condition: number beyond `tolerance`, but within 1e3 x machine epsilon x their condition number.
        worst: largest relative gap; `quantity` and `problem` say where.
        condition: condition number of that problem; None if it could not be solved.
        gaps: largest relative gap by quantity.
    """

    derived = ("passed",)

    name: str
    problems: int
    failed: int
    tolerance: float
    by_condition: int
    worst: float
    quantity: str
    problem: str
    condition: float | None
    gaps: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether all problems agree."""
        return self.problems > 0 and self.failed == 0


@dataclass(frozen=True)
class Dose:
    """Effect of one size of a mistake; `value`, `action` (first) and `plan` (all actions) are median relative errors.

    `least` is the smallest worst gap of a trial, over the gap that would have been accepted.
    """

    size: float
    trials: int
    rejected: int
    value: float
    action: float
    plan: float
    least: float


@dataclass(frozen=True)
class MistakeLevel:
    """One mistake or harmless change, over its sizes.

    Attributes:
        planner: LQR, MPC, or QP for the one with limits on latents.
        expected: `rejected` for a mistake, `accepted` for a harmless change.
        required: smallest size for which that must hold in all trials.
        tolerance: relative gap that is accepted.
        doses: results by size, descending.
    """

    name: str
    planner: str
    expected: Literal["rejected", "accepted"]
    required: float
    tolerance: float
    doses: tuple[Dose, ...]

    @property
    def resolution(self) -> float | None:
        """Smallest tested size down to which every trial was rejected; None if not even the largest was."""
        smallest = None
        for dose in self.doses:
            if dose.rejected < dose.trials:
                break
            smallest = dose.size
        return smallest

    @property
    def judged(self) -> tuple[Dose, ...]:
        """The doses of the required size or more, which count for the verdict."""
        return tuple(dose for dose in self.doses if dose.size >= self.required * (1 - 1e-9))

    @property
    def passed(self) -> bool:
        """Whether all trials that count were judged as expected."""
        wanted = [dose.trials if self.expected == "rejected" else 0 for dose in self.judged]
        return bool(wanted) and [dose.rejected for dose in self.judged] == wanted

    @property
    def monotone(self) -> bool:
        """Whether the median errors never grow as the size falls, over the doses that count."""
        rows = [(dose.value, dose.action, dose.plan) for dose in self.judged]
        return all(a >= b for big, small in pairwise(rows) for a, b in zip(big, small, strict=True))

    @property
    def derived(self) -> tuple[str, ...]:
        """Of the JSON values, see `Result`: the verdict; for mistakes also resolution and monotonicity."""
        return ("passed", "resolution", "monotone") if self.expected == "rejected" else ("passed",)


@dataclass(frozen=True)
class PixelLevel(Result):
    """The whole pipeline on the same frames, built from an encoder f and from another map of its output.

    Attributes:
        expected: a rotation must be accepted, a shear rejected.
        tolerance: tolerance on torques, in action units (of 1).
        torque_gap: largest difference of torques on the same frames; for charts, relative to a quarter turn.
        cost_gap: largest relative difference of closed-loop costs in MuJoCo; None if it was not run.
    """

    derived = ("passed",)

    name: str
    expected: Literal["rejected", "accepted"]
    frames: int
    tolerance: float
    torque_gap: float
    cost_gap: float | None

    @property
    def passed(self) -> bool:
        """Whether the gap is on the expected side of the tolerance."""
        worst = max(self.torque_gap, self.cost_gap or 0.0)
        return worst <= self.tolerance if self.expected == "accepted" else self.torque_gap > self.tolerance


@dataclass(frozen=True)
class LearnedLevel(Result):
    """One number by which an encoder is judged; `evidence` tells a reader where it comes from.

    `interval` is its 95% interval over episodes; None for what no episode moves.
    """

    derived = ("passed",)

    name: str
    gap: float
    tolerance: float
    evidence: str
    interval: tuple[float, float] | None = None

    @property
    def passed(self) -> bool:
        """Whether the gap lies within the tolerance; NaN does not."""
        return self.gap <= self.tolerance
