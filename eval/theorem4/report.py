"""Reports of the verifier of Theorem 4: all levels with their verdicts, the learned level, the dose-response."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.stats import linregress

from worldplan.eval.control.ledger import CostLedger
from worldplan.eval.show.table import Table
from worldplan.eval.theorem4.levels import Dose, ExactLevel, LearnedLevel, MistakeLevel, PixelLevel
from worldplan.provenance import Result, plain
from worldplan.rounding import percent, rounded

if TYPE_CHECKING:
    from worldplan.eval.theorem4.certificate import Certificate

QUANTITIES = ("value", "action", "plan")
ROTATION_GAPS = ("rotation", "value", "torques", "closed-loop cost")
SOLVER_PRECISION = 1e-5  # latents in single precision; plans in double
SMALL = 1e-2  # sizes up to which the leading power dominates
SEEN = 1e-10  # errors below may be rounding
FEWEST = 3  # points to fit a line to
WHOLE = 0.1  # how near a whole number a slope must lie to be called an order


@dataclass(frozen=True)
class LearnedReport(Result):
    """An encoder against a reference: the true state, or another encoder.

    Attributes:
        episodes: closed loops in MuJoCo, with the same starts and goals for both.
        encoder_ledger: ledger of the encoder's closed loops by the reference's Riccati solution, rad^2 over all
            episodes.
        reference_ledger: ledger of the reference's own closed loops.
        certificate: certificate for the linear plant that was fitted to the encoder.
    """

    derived = ("grade",)

    reference: str
    episodes: int
    steps: int
    levels: tuple[LearnedLevel, ...]
    encoder_ledger: CostLedger
    reference_ledger: CostLedger
    certificate: Certificate

    @property
    def grade(self) -> Literal["a rotation", "equivalent within tolerance", "not equivalent"]:
        """The verdict in three grades.

        The first needs a reference encoder, and gaps at solver precision (single precision of the latents included).
        The second says that every gap lies within its stated tolerance.
        """
        gaps = {level.name: level.gap for level in self.levels}
        if not all(level.passed for level in self.levels):
            return "not equivalent"
        exact = "rotation" in gaps and all(abs(gaps[name]) <= SOLVER_PRECISION for name in ROTATION_GAPS)
        return "a rotation" if exact else "equivalent within tolerance"

    @property
    def notes(self) -> list[str]:
        """Grade, ledger and certificate in words."""
        ours, theirs, proof = self.encoder_ledger, self.reference_ledger, self.certificate
        return [
            f"Grade beside {self.reference}: {self.grade}.",
            f"Cost in MuJoCo over {self.episodes} episodes of {self.steps} steps, rad^2, by the Riccati solution of "
            f"{self.reference}: {_entries(ours)}. {self.reference[0].upper()}{self.reference[1:]} itself: "
            f"{_entries(theirs)}.",
            f"Certificate, fitted linear plant without clipping, {proof.steps} steps: the encoder costs at most "
            f"{percent(proof.bound / proof.value)} of the optimum's value more; measured "
            f"{percent(proof.measured.value / proof.value)} "
            f"(eps {proof.theorem3.eps}, delta {proof.theorem3.delta} at rho {proof.theorem3.rho:g}).",
        ]


def _entries(ledger: CostLedger) -> str:
    return (
        f"{ledger.cost:.4g} = initial {ledger.initial:.4g} - tail {ledger.tail:.3g} + policy {ledger.policy:.3g} "
        f"+ model {ledger.model:.3g}"
    )


@dataclass(frozen=True)
class Theorem4Report(Result):
    """Does planning behind an encoder give the plans of the true state? Theorem 4, level by level.

    Source: Klindt, LeCun and Balestriero (2026), When Does LeJEPA Learn a World Model?, arXiv 2605.26379.

    Attributes:
        exact: random problems behind rotations, which must agree.
        controls: planted mistakes, which must be rejected down to stated sizes, and harmless changes.
        pixels: pipeline of a real encoder against that of its rotation; empty without an encoder.
        learned: that encoder against the true state or a reference; None without an encoder.
    """

    derived = ("passed",)

    seed: int
    exact: tuple[ExactLevel, ...]
    controls: tuple[MistakeLevel, ...]
    pixels: tuple[PixelLevel, ...] = ()
    learned: LearnedReport | None = None

    @property
    def levels(self) -> tuple[ExactLevel | MistakeLevel | PixelLevel | LearnedLevel, ...]:
        """All levels."""
        return (*self.exact, *self.controls, *self.pixels, *(self.learned.levels if self.learned else ()))

    @property
    def passed(self) -> bool:
        """Whether every level passed; never without exact levels and mistakes."""
        return bool(self.exact) and bool(self.controls) and all(level.passed for level in self.levels)

    @property
    def title(self) -> str:
        """The verdict in a line."""
        failed = [level.name for level in self.levels if not level.passed]
        return _title("Theorem 4", "REJECTED", self.passed, failed)

    def table(self) -> Table:
        """One row for each level."""
        columns = ("level", "verdict", "problems", "worst gap or resolution", "tolerance", "evidence")
        return Table(self.title, columns, list(self._rows()), self._notes())

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for exact in self.exact:
            condition = "" if exact.condition is None else f", condition {rounded(exact.condition)}"
            evidence = f"{exact.quantity} of {exact.problem}{condition}"
            if exact.by_condition:
                evidence += f"; {exact.by_condition} judged by condition"
            numbers = (str(exact.problems), f"{exact.worst:.1e}", f"{exact.tolerance:.0e}", evidence)
            yield exact.name, _verdict(exact.passed), *numbers
        for control in self.controls:
            dose = control.judged[-1] if control.judged else control.doses[-1]
            if control.expected == "rejected":
                reach = "none" if control.resolution is None else f"sees {control.resolution:.0e}"
                evidence = f"at {dose.size:.0e}: {dose.rejected}/{dose.trials} rejected, action error {dose.action:.1e}"
            else:
                reach = "accepts"
                evidence = f"{sum(d.trials - d.rejected for d in control.judged)} accepted, no mistake"
            trials = str(sum(d.trials for d in control.doses))
            name, tolerance = f"{control.name}, {control.planner}", f"{control.tolerance:.0e}"
            yield name, _verdict(control.passed), trials, reach, tolerance, evidence
        for pixel in self.pixels:
            evidence = "on the same frames" if pixel.cost_gap is None else f"cost gap {pixel.cost_gap:.1e}"
            gap, tolerance = f"{pixel.torque_gap:.1e}", f"{pixel.tolerance:.0e}"
            yield pixel.name, _verdict(pixel.passed), str(pixel.frames), gap, tolerance, evidence
        if self.learned is not None:
            for level in self.learned.levels:
                name, gap, tolerance = f"learned, {level.name}", rounded(level.gap), rounded(level.tolerance)
                episodes, verdict = str(self.learned.episodes), _verdict(level.passed)
                yield name, verdict, episodes, gap, tolerance, level.evidence

    def _notes(self) -> list[str]:
        seen = [c for c in self.controls if c.expected == "rejected" and c.resolution is not None]
        notes = [
            f"{sum(level.problems for level in self.exact)} random problems, "
            f"{sum(dose.trials for c in self.controls for dose in c.doses)} trials of mistakes, seed {self.seed}. "
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


def _title(what: str, otherwise: str, passed: bool, failed: list[str]) -> str:
    return f"{what}: passed" if passed else f"{what}: {otherwise} ({'; '.join(failed) or 'nothing ran'})"


def _verdict(passed: bool) -> str:
    return "pass" if passed else "FAIL"


@dataclass(frozen=True)
class Slope(Result):
    """The power with which an error of small mistakes grows with their size: `error ~ size^slope`.

    The fit is least squares of log error on log size, over sizes up to 1e-2 with errors above 1e-10. Half the mistake
    makes half the error at slope 1 (first order), and a quarter at slope 2 (second order). The value error compares the
    values that the two spaces *predict*, not what a wrong plan loses. By the envelope theorem it is of first order
    where the mistake changes the cost of the plan that was best without it. Elsewhere it is of second order, as with
    limits that this plan just touches. `stderr` is the standard error of the slope over the sizes, `points` their
    number.
    """

    derived = ("order",)

    quantity: str
    slope: float
    stderr: float
    points: int

    @property
    def order(self) -> int | None:
        """The whole number within .1 of the slope; None if there is none."""
        whole = round(self.slope)
        return whole if abs(self.slope - whole) <= WHOLE else None


def fit_slope(level: MistakeLevel, quantity: str) -> Slope | None:
    """The slope of one error of a mistake; None if fewer than three sizes can be used."""
    found = [(dose.size, getattr(dose, quantity)) for dose in level.doses]
    seen = np.log([(size, error) for size, error in found if size <= SMALL * (1 + 1e-9) and error > SEEN])
    if len(seen) < FEWEST:
        return None
    line = linregress(seen[:, 0], seen[:, 1])
    return Slope(quantity, float(line.slope), float(line.stderr), len(seen))


@dataclass(frozen=True)
class DoseReport:
    """The effect of each mistake, and the size down to which it is seen; `controls` also holds harmless changes."""

    seed: int
    controls: tuple[MistakeLevel, ...]

    @property
    def passed(self) -> bool:
        """Whether every mistake and harmless change was judged as expected, at every size that counts."""
        return bool(self.controls) and all(control.passed for control in self.controls)

    @property
    def title(self) -> str:
        """The verdict in a line."""
        failed = [f"{control.name}, {control.planner}" for control in self.controls if not control.passed]
        return _title("Dose-response of the mistakes", "FAILED", self.passed, failed)

    def slopes(self, control: MistakeLevel) -> tuple[Slope, ...]:
        """Slopes of a mistake's errors, as far as they can be fitted; empty for a harmless change."""
        if control.expected == "accepted":
            return ()
        found = (fit_slope(control, quantity) for quantity in QUANTITIES)
        return tuple(slope for slope in found if slope is not None)

    def told(self, control: MistakeLevel) -> str:
        """Its slopes in words; empty where none can be fitted."""
        return ", ".join(f"{slope.quantity} {slope.slope:.2f}" for slope in self.slopes(control))

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        rows = [{**plain(c), "slopes": {s.quantity: plain(s) for s in self.slopes(c)}} for c in self.controls]
        return {"passed": self.passed, "seed": self.seed, "controls": rows}

    def table(self) -> Table:
        """One row for each mistake, planner and size; the notes explain them and give the slopes."""
        errors = (f"{quantity} error" for quantity in QUANTITIES)
        columns = ("mistake", "planner", "size", *errors, "rejected", "resolution")
        rows = [
            (control.name, control.planner, *_cells(dose), _resolution(control))
            for control in self.controls
            for dose in control.doses
        ]
        trials = sum(dose.trials for control in self.controls for dose in control.doses)
        notes = [
            f"{trials} trials, seed {self.seed}. Errors: medians over trials, relative to the plan of the true state; "
            "rejected: trials with any gap above the tolerance; resolution: the size down to which all were.",
            f"Slope of log error on log size, sizes up to {SMALL:g} (1: first order, 2: second order; value errors are "
            "differences of predicted values, not what a wrong plan loses):",
        ]
        for control in self.controls:
            if control.expected == "rejected":
                told = self.told(control) or "too few sizes"
                notes.append(f"  {control.name}, {control.planner}: {told}")
        return Table(self.title, columns, rows, notes)


def _cells(dose: Dose) -> tuple[str, ...]:
    errors = (f"{getattr(dose, quantity):.1e}" for quantity in QUANTITIES)
    return f"{dose.size:.0e}", *errors, f"{dose.rejected} of {dose.trials}"


def _resolution(control: MistakeLevel) -> str:
    if control.expected == "accepted":
        return "no mistake" if control.passed else "no mistake: FAIL"
    seen = "none" if control.resolution is None else f"{control.resolution:.0e}"
    return seen if control.passed else f"{seen}: FAIL"
