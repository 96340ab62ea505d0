"""What the dose-response of the negative controls says: errors by size, the share rejected, and slopes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import linregress

from worldplan.eval.provenance import plain
from worldplan.eval.verdicts import ControlLevel, Dose

QUANTITIES = ("value", "action", "plan")
SMALL = 1e-2  # sizes up to which the leading power shows alone
SEEN = 1e-10  # errors below may hold rounding
FEWEST = 3  # points of a line
WHOLE = 0.1  # how near a whole number a slope must lie to be called an order


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


def fit_slope(level: ControlLevel, quantity: str) -> Slope | None:
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
    controls: tuple[ControlLevel, ...]

    @property
    def passed(self) -> bool:
        """Whether every control was judged as it must be, at every size that counts."""
        return bool(self.controls) and all(control.passed for control in self.controls)

    @property
    def title(self) -> str:
        """The verdict in a line."""
        failed = [f"{control.name}, {control.planner}" for control in self.controls if not control.passed]
        return "Dose-response of the negative controls: " + (
            "passed" if self.passed else f"FAILED ({'; '.join(failed) or 'nothing ran'})"
        )

    def slopes(self, control: ControlLevel) -> tuple[Slope, ...]:
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

    @property
    def columns(self) -> tuple[str, ...]:
        """Headings of `rows`."""
        errors = (f"{quantity} error" for quantity in QUANTITIES)
        return ("control", "planner", "size", *errors, "rejected", "resolution")

    def rows(self) -> list[tuple[str, ...]]:
        """One row for each control, planner and size, for a reader."""
        return [
            (control.name, control.planner, *_cells(dose), _resolution(control))
            for control in self.controls
            for dose in control.doses
        ]

    @property
    def notes(self) -> list[str]:
        """How to read the table, and the slopes."""
        trials = sum(dose.trials for control in self.controls for dose in control.doses)
        return [
            f"{trials} trials, seed {self.seed}. Errors: medians over trials, relative to the plan of the true state; "
            "rejected: trials with any gap above the tolerance; resolution: the size down to which all were.",
            f"Slope of log error on log size, sizes up to {SMALL:g} (1: first order, 2: second order; value errors are "
            "differences of predicted values, not what a wrong plan loses):",
            *self._slope_lines(),
        ]

    def _slope_lines(self) -> Iterator[str]:
        for control in self.controls:
            if control.expected == "rejected":
                told = [f"{s.quantity} {s.slope:.3f}" for s in self.slopes(control)]
                yield f"  {control.name}, {control.planner}: {', '.join(told) or 'too few sizes'}"


def _cells(dose: Dose) -> tuple[str, ...]:
    errors = (f"{getattr(dose, quantity):.1e}" for quantity in QUANTITIES)
    return f"{dose.size:.0e}", *errors, f"{dose.rejected} of {dose.trials}"


def _resolution(control: ControlLevel) -> str:
    if control.expected == "accepted":
        return "no mistake" if control.passed else "no mistake: FAIL"
    seen = "none" if control.resolution is None else f"{control.resolution:.0e}"
    return seen if control.passed else f"{seen}: FAIL"
