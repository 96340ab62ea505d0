"""What the verifier of Theorem 4 reports: all levels with their verdict, the learned level, the dose-response."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import linregress

from worldplan.eval.control.ledger import CostLedger
from worldplan.eval.show.table import Table
from worldplan.eval.theorem4.certificate import Certificate
from worldplan.eval.theorem4.levels import Dose, ExactLevel, LearnedLevel, MistakeLevel, PixelLevel
from worldplan.provenance import plain

QUANTITIES = ("value", "action", "plan")
SMALL = 1e-2  # sizes up to which the leading power shows alone
SEEN = 1e-10  # errors below may hold rounding
FEWEST = 3  # points of a line
WHOLE = 0.1  # how near a whole number a slope must lie to be called an order


@dataclass(frozen=True)
class LearnedReport:
    """An encoder against a reference: the true state, or another encoder.

    Attributes:
        reference: its name.
        episodes: closed loops in MuJoCo, the same starts and goals for both.
        steps: of each.
        levels: what is judged.
        encoder_ledger: of the encoder's closed loops, by the reference's Riccati solution, rad^2 over all episodes.
        reference_ledger: of the reference's own.
        certificate: for the linear plant that was fitted to the encoder.
    """

    reference: str
    episodes: int
    steps: int
    levels: tuple[LearnedLevel, ...]
    encoder_ledger: CostLedger
    reference_ledger: CostLedger
    certificate: Certificate

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with what follows from them."""
        facts = asdict(self)
        for level, row in zip(self.levels, facts["levels"], strict=True):
            row["passed"] = level.passed
        for name in ("encoder_ledger", "reference_ledger"):
            facts[name]["residual"] = getattr(self, name).residual
        facts["certificate"] |= {"holds": self.certificate.holds, "looseness": self.certificate.looseness}
        return facts

    @property
    def notes(self) -> list[str]:
        """Ledger and certificate for a reader."""
        ours, theirs, proof = self.encoder_ledger, self.reference_ledger, self.certificate
        return [
            f"Cost in MuJoCo over {self.episodes} episodes of {self.steps} steps, rad^2, by the Riccati solution of "
            f"{self.reference}: {_entries(ours)}. {self.reference[0].upper()}{self.reference[1:]} itself: "
            f"{_entries(theirs)}.",
            f"Certificate, fitted linear plant without clipping, {proof.steps} steps: the encoder costs at most "
            f"{proof.bound / proof.value:.2%} of the optimum's value more; measured "
            f"{proof.measured.value / proof.value:.2%} "
            f"(eps {proof.theorem3.eps}, delta {proof.theorem3.delta} at rho {proof.theorem3.rho:g}).",
        ]


def _entries(ledger: CostLedger) -> str:
    return (
        f"{ledger.cost:.4g} = initial {ledger.initial:.4g} - tail {ledger.tail:.3g} + policy {ledger.policy:.3g} "
        f"+ model {ledger.model:.3g}"
    )


@dataclass(frozen=True)
class Theorem4Report:
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
    controls: tuple[MistakeLevel, ...]
    pixels: tuple[PixelLevel, ...] = ()
    learned: LearnedReport | None = None

    @property
    def levels(self) -> tuple[ExactLevel | MistakeLevel | PixelLevel | LearnedLevel, ...]:
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

    def table(self) -> Table:
        """One row a level."""
        columns = ("level", "verdict", "problems", "worst gap or resolution", "tolerance", "evidence")
        return Table(self.title, columns, self._rows(), self._notes())

    def _rows(self) -> list[tuple[str, ...]]:
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

    def _notes(self) -> list[str]:
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


@dataclass(frozen=True)
class Slope:
    """The power of the size with which an error of small mistakes grows: `error ~ size^slope`.

    Least squares of log error on log size, over sizes up to 1e-2 whose error is above 1e-10. Slope 1 is first order:
    half the mistake, half the error. Slope 2 is second order: half the mistake, a quarter. The value error compares
    the values that the two spaces *predict*, not what a wrong plan loses: it is of first order where the mistake
    changes the cost of the plan that was best without it (the envelope theorem), and of second order where it does
    not, as with limits that this plan just touches.

    Attributes:
        quantity: value, action or plan.
        slope: of the line.
        stderr: its standard error over the sizes.
        points: sizes.
    """

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
    """The slope of one error of a control; None if fewer than three sizes tell."""
    found = [(dose.size, getattr(dose, quantity)) for dose in level.doses]
    seen = np.log([(size, error) for size, error in found if size <= SMALL * (1 + 1e-9) and error > SEEN])
    if len(seen) < FEWEST:
        return None
    line = linregress(seen[:, 0], seen[:, 1])
    return Slope(quantity, float(line.slope), float(line.stderr), len(seen))


@dataclass(frozen=True)
class DoseReport:
    """How much each mistake does, and down to which size it is seen.

    Attributes:
        seed: of all problems.
        controls: mistakes, which must be rejected, and changes that are none, which must be accepted.
    """

    seed: int
    controls: tuple[MistakeLevel, ...]

    @property
    def passed(self) -> bool:
        """Whether every control was judged as it must be, at every size that counts."""
        return bool(self.controls) and all(control.passed for control in self.controls)

    @property
    def title(self) -> str:
        """The verdict in a line."""
        failed = [f"{control.name}, {control.planner}" for control in self.controls if not control.passed]
        return "Dose-response of the mistakes: " + (
            "passed" if self.passed else f"FAILED ({'; '.join(failed) or 'nothing ran'})"
        )

    def slopes(self, control: MistakeLevel) -> tuple[Slope, ...]:
        """Of the errors of a mistake, as far as they can be fitted; none of what is no mistake."""
        if control.expected == "accepted":
            return ()
        found = (fit_slope(control, quantity) for quantity in QUANTITIES)
        return tuple(slope for slope in found if slope is not None)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        rows = []
        for control in self.controls:
            slopes = {s.quantity: {**plain(s), "order": s.order} for s in self.slopes(control)}
            rows.append({**control.to_dict(), "slopes": slopes})
        return plain({"passed": self.passed, "seed": self.seed, "controls": rows})  # type: ignore[no-any-return]

    def table(self) -> Table:
        """One row for each mistake, planner and size; below, how to read it, and the slopes."""
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
            *self._slope_lines(),
        ]
        return Table(self.title, columns, rows, notes)

    def _slope_lines(self) -> Iterator[str]:
        for control in self.controls:
            if control.expected == "rejected":
                told = [f"{s.quantity} {s.slope:.3f}" for s in self.slopes(control)]
                yield f"  {control.name}, {control.planner}: {', '.join(told) or 'too few sizes'}"


def _cells(dose: Dose) -> tuple[str, ...]:
    errors = (f"{getattr(dose, quantity):.1e}" for quantity in QUANTITIES)
    return f"{dose.size:.0e}", *errors, f"{dose.rejected} of {dose.trials}"


def _resolution(control: MistakeLevel) -> str:
    if control.expected == "accepted":
        return "no mistake" if control.passed else "no mistake: FAIL"
    seen = "none" if control.resolution is None else f"{control.resolution:.0e}"
    return seen if control.passed else f"{seen}: FAIL"
