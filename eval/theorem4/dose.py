"""The dose-response of Theorem 4: planted mistakes of known size, and how wrong the plans are at each size.

A verifier that accepts everything verifies nothing. Each mistake breaks one premise of the theorem by a known amount,
and must be rejected down to a stated size. Harmless changes break none, and must be accepted at every size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from worldplan.checks import checked_seed, positive_int
from worldplan.errors import InvalidInput
from worldplan.eval.theorem4.gaps import TOLERANCE, Gaps, lqr_gaps, mpc_gaps
from worldplan.eval.theorem4.levels import Dose, MistakeLevel
from worldplan.eval.theorem4.mistakes import HARMLESS, MISTAKES, Mistake, permuted_box, rotated_box
from worldplan.eval.theorem4.problems import draw_problem
from worldplan.eval.theorem4.report import QUANTITIES, DoseReport
from worldplan.eval.theorem4.spaces import SPACE_HARMLESS, SPACE_MISTAKES
from worldplan.planning.mpc import TOLERANCE as QP_TOLERANCE
from worldplan.progress import Progress, silent

Expected = Literal["rejected", "accepted"]
Trial = Callable[[float, np.random.Generator, int], Gaps]
"""Maps size of the mistake, generator and number of the trial to the gaps."""

SIZES = tuple(10.0**-k for k in range(7))
LARGEST = 2.0  # a goal that is not rotated differs from the rotated one by at most twice its norm
LQR_REQUIRED = 1e-6  # smallest size at which every trial must be rejected
QP_REQUIRED = 10 * QP_TOLERANCE  # the same, where a quadratic program is solved
BOX_TOLERANCE = 1e-7  # relative gap of plans with limits on latents, whose solver is good to 1e-9


@dataclass(frozen=True)
class MistakeTest:
    """One mistake or harmless change with one planner; see `MistakeLevel` for the fields, `Trial` for `trial`."""

    name: str
    planner: str
    expected: Expected
    required: float
    tolerance: float
    trial: Trial


def dose_response(
    seed: int = 0,
    *,
    trials: int = 8,
    sizes: Sequence[float] = SIZES,
    tests: Sequence[MistakeTest] | None = None,
    progress: Progress = silent,
) -> DoseReport:
    """Measure errors of plans, first actions and values for each mistake and size, and the share that is rejected.

    `verify_planning` judges the same tests, on the same problems for the same seed. `trials` is for LQR; tests that
    solve quadratic programs run half as many, at least 2. Sizes are relative, in any order. Those below what a test
    requires do not count for its verdict. `progress` wraps the iterator over the tests.

    Raises:
        InvalidInput: a number is out of range, or no size is large enough to judge every test.
        SolverFailed: a test could not be solved.
    """
    seed, trials, sizes = checked_seed(seed), positive_int("trials", trials), checked_sizes(sizes)
    tests = mistake_tests() if tests is None else tests
    levels = tuple(measure_mistake(test, trials, seed, sizes) for test in progress(iter(tests), len(tests)))
    return DoseReport(seed, levels)


def checked_sizes(sizes: Sequence[float]) -> tuple[float, ...]:
    """Sizes without repeats, descending. Raises InvalidInput if one is out of range or all are too small."""
    descending = tuple(sorted({float(size) for size in sizes}, reverse=True))
    if not descending or not all(math.isfinite(size) and 0 < size <= LARGEST for size in descending):
        raise InvalidInput(f"sizes must lie in (0, {LARGEST:g}], at least one of them, got {tuple(sizes)}")
    if descending[0] < QP_REQUIRED * (1 - 1e-9):
        raise InvalidInput(f"need a size of {QP_REQUIRED:g} or more to judge every control, got {tuple(sizes)}")
    return descending


def mistake_tests(
    mistakes: Mapping[str, Mistake] = MISTAKES,
    harmless: Mapping[str, Mistake] = HARMLESS,
    *,
    lqr: Callable[..., Gaps] = lqr_gaps,
    mpc: Callable[..., Gaps] = mpc_gaps,
    box: Trial = rotated_box,
) -> list[MistakeTest]:
    """Every mistake and every harmless change, with every planner that it applies to."""
    tests = []
    for planner, gaps, required, most in (("LQR", lqr, LQR_REQUIRED, 6), ("MPC", mpc, QP_REQUIRED, 4)):
        for name, mistake in [*mistakes.items(), *harmless.items()]:
            expected: Expected = "rejected" if name in mistakes else "accepted"
            trial = partial(_trial, mistake, gaps, most)
            tests.append(MistakeTest(name, planner, expected, required, TOLERANCE, trial))
    tests.append(MistakeTest("latent box", "QP", "rejected", QP_REQUIRED, BOX_TOLERANCE, box))
    tests.append(MistakeTest("box, axes permuted", "QP", "accepted", QP_REQUIRED, BOX_TOLERANCE, permuted_box))
    for name, circle in [*SPACE_MISTAKES.items(), *SPACE_HARMLESS.items()]:
        expected = "rejected" if name in SPACE_MISTAKES else "accepted"
        tests.append(MistakeTest(name, "LQR, circles", expected, LQR_REQUIRED, TOLERANCE, circle))
    return tests


def _trial(
    control: Mistake, gaps: Callable[..., Gaps], most: int, size: float, rng: np.random.Generator, k: int
) -> Gaps:
    return gaps(*control(draw_problem(rng, 2 + k % (most - 1), blocks=1 + k % 2, steps=8), size, rng))


def measure_mistake(test: MistakeTest, trials: int, seed: int, sizes: Sequence[float]) -> MistakeLevel:
    """Run one test at all sizes, which must descend."""
    doses = []
    trials = trials if test.planner.startswith("LQR") else max(2, trials // 2)
    for size in sizes:
        # The same problems and directions at every size, and for every test.
        measured = [test.trial(size, np.random.default_rng([seed, 1000, k]), k) for k in range(trials)]
        judged = [(gaps.worst[1], gaps.tolerance(test.tolerance)) for gaps in measured]
        errors = {name: float(np.median([getattr(gaps, name) for gaps in measured])) for name in QUANTITIES}
        doses.append(
            Dose(
                size=size,
                trials=trials,
                rejected=sum(gap > limit for gap, limit in judged),
                **errors,
                least=min(gap / limit for gap, limit in judged),
            )
        )
    return MistakeLevel(test.name, test.planner, test.expected, test.required, test.tolerance, tuple(doses))
