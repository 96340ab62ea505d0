"""What the verifier of Theorem 4 says: levels with verdict, tolerance and evidence, and the report over all of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from worldplan.eval.learned_report import LearnedLevel, LearnedReport
from worldplan.eval.provenance import plain


@dataclass(frozen=True)
class ExactLevel:
    """Random problems, each planned in the world's coordinates and behind an encoder `h = Q z + b`.

    Attributes:
        name: planner and plant.
        problems: how many.
        failed: how many of them lie beyond their tolerance, or were not solved.
        tolerance: relative gap that is allowed.
        by_condition: problems that lie beyond it, but within 1e3 x machine epsilon x their condition number.
        worst: largest relative gap of all problems.
        quantity: of what.
        problem: which problem that was.
        condition: its condition number; None if it could not be solved.
        gaps: largest relative gap by quantity.
    """

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
    """What one size of a mistake does.

    Attributes:
        size: of the mistake.
        trials: problems.
        rejected: of these.
        value: median relative error of the value.
        action: of the first action.
        plan: of the action sequence.
        least: smallest worst gap of a trial, over the gap that would have been accepted.
    """

    size: float
    trials: int
    rejected: int
    value: float
    action: float
    plan: float
    least: float


@dataclass(frozen=True)
class ControlLevel:
    """A control over its sizes.

    Attributes:
        name: what is wrong.
        planner: LQR, MPC, or QP for the one with limits on latents.
        expected: whether it has to be rejected (a mistake) or accepted (none).
        required: smallest size for which that must hold in all trials.
        tolerance: relative gap that is accepted.
        doses: by size, descending.
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
        """The doses that count for the verdict."""
        return tuple(dose for dose in self.doses if dose.size >= self.required * (1 - 1e-9))

    @property
    def passed(self) -> bool:
        """Whether the verifier judged this control as it must."""
        wanted = [dose.trials if self.expected == "rejected" else 0 for dose in self.judged]
        return bool(wanted) and [dose.rejected for dose in self.judged] == wanted

    @property
    def monotone(self) -> bool:
        """Whether larger mistakes have larger median effects on value, action and plan, where they count."""
        rows = [(dose.value, dose.action, dose.plan) for dose in self.judged]
        return all(a >= b for big, small in pairwise(rows) for a, b in zip(big, small, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Fields and verdict; of mistakes also what was seen of them."""
        effects = {"resolution": self.resolution, "monotone": self.monotone}
        return {**asdict(self), "passed": self.passed} | (effects if self.expected == "rejected" else {})


@dataclass(frozen=True)
class PixelLevel:
    """The whole pipeline on the same frames, built from an encoder f and from another map of its output.

    Attributes:
        name: planner and map: a rotation, to be accepted; a shear, to be rejected.
        expected: which of the two.
        frames: on which torques were compared.
        tolerance: on torques, in action units (of 1).
        torque_gap: largest difference of torques on the same frames; of charts, relative to a quarter turn.
        cost_gap: largest relative difference of closed-loop costs in MuJoCo; None if it was not run.
    """

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
class PlanningReport:
    """Does planning behind an encoder give the plans of the true state? Theorem 4, level by level.

    Klindt, LeCun, Balestriero (2026), When Does LeJEPA Learn a World Model?, arXiv 2605.26379.

    Attributes:
        seed: of all problems.
        exact: random problems behind rotations must agree.
        controls: mistakes must be rejected, at sizes that the level names: a verifier that passes one has failed.
        pixels: the pipeline of a real encoder, with that encoder rotated; empty if none was given.
        learned: that encoder against the true state or a reference; None if none was given.
    """

    seed: int
    exact: tuple[ExactLevel, ...]
    controls: tuple[ControlLevel, ...]
    pixels: tuple[PixelLevel, ...] = ()
    learned: LearnedReport | None = None

    @property
    def levels(self) -> tuple[ExactLevel | ControlLevel | PixelLevel | LearnedLevel, ...]:
        """All of them."""
        return (*self.exact, *self.controls, *self.pixels, *(self.learned.levels if self.learned else ()))

    @property
    def passed(self) -> bool:
        """Whether every level passed; never without exact levels and controls."""
        return bool(self.exact) and bool(self.controls) and all(level.passed for level in self.levels)

    @property
    def title(self) -> str:
        """The verdict in a line."""
        failed = [level.name for level in self.levels if not level.passed]
        return "Theorem 4: passed" if self.passed else f"Theorem 4: REJECTED ({'; '.join(failed) or 'nothing ran'})"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        facts = {"passed": self.passed, **asdict(self)}
        for group in ("exact", "pixels"):
            for level, row in zip(getattr(self, group), facts[group], strict=True):
                row["passed"] = level.passed
        facts["controls"] = [control.to_dict() for control in self.controls]
        if self.learned is not None:
            facts["learned"] = self.learned.to_dict()
        return plain(facts)  # type: ignore[no-any-return]

    @property
    def columns(self) -> tuple[str, ...]:
        """Headings of `rows`."""
        return ("level", "verdict", "problems", "worst gap or resolution", "tolerance", "evidence")

    def rows(self) -> list[tuple[str, ...]]:
        """One row a level, for a reader."""
        rows: list[tuple[str, ...]] = []
        for exact in self.exact:
            condition = "" if exact.condition is None else f", condition {exact.condition:.2g}"
            evidence = f"{exact.quantity} of {exact.problem}{condition}"
            if exact.by_condition:
                evidence += f"; {exact.by_condition} judged by condition"
            numbers = (str(exact.problems), f"{exact.worst:.1e}", f"{exact.tolerance:.0e}", evidence)
            rows.append((exact.name, _verdict(exact.passed), *numbers))
        for control in self.controls:
            dose = control.judged[-1] if control.judged else control.doses[-1]
            if control.expected == "rejected":
                reach = "none" if control.resolution is None else f"sees {control.resolution:.0e}"
                evidence = f"at {dose.size:.0e}: {dose.rejected}/{dose.trials} rejected, action error {dose.action:.1e}"
            else:
                reach = "accepts"
                evidence = f"{sum(d.trials - d.rejected for d in control.judged)} accepted, no mistake"
            trials = str(sum(d.trials for d in control.doses))
            verdict = _verdict(control.passed)
            name = f"{control.name}, {control.planner}"
            rows.append((name, verdict, trials, reach, f"{control.tolerance:.0e}", evidence))
        for pixel in self.pixels:
            evidence = "on the same frames" if pixel.cost_gap is None else f"cost gap {pixel.cost_gap:.1e}"
            gap, tolerance = f"{pixel.torque_gap:.1e}", f"{pixel.tolerance:.0e}"
            rows.append((pixel.name, _verdict(pixel.passed), str(pixel.frames), gap, tolerance, evidence))
        if self.learned is not None:
            for level in self.learned.levels:
                name, gap, tolerance = f"learned, {level.name}", f"{level.gap:.2g}", f"{level.tolerance:.2g}"
                episodes, verdict = str(self.learned.episodes), _verdict(level.passed)
                rows.append((name, verdict, episodes, gap, tolerance, level.evidence))
        return rows

    @property
    def notes(self) -> list[str]:
        """How to read the table, and how much of each mistake is seen."""
        seen = [c for c in self.controls if c.expected == "rejected" and c.resolution is not None]
        notes = [
            f"{sum(level.problems for level in self.exact)} random problems, "
            f"{sum(dose.trials for c in self.controls for dose in c.doses)} trials of controls, seed {self.seed}. "
            "The same cost in both spaces; each space solves its own equations.",
        ]
        for planner in dict.fromkeys(control.planner for control in seen):
            worst = max(c.resolution or 0.0 for c in seen if c.planner == planner)
            floor = min(c.required for c in seen if c.planner == planner)
            notes.append(
                f"Resolution, {planner}: every mistake of relative size {worst:.0e} is seen ({floor:.0e} asked)."
            )
        if not self.pixels:
            notes.append("No encoder was given: its own pipeline was not tested.")
        return [*notes, *(self.learned.notes if self.learned else [])]


def _verdict(passed: bool) -> str:
    return "pass" if passed else "FAIL"
