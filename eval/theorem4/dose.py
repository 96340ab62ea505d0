"""The negative controls of Theorem 4: mistakes of known size, and the errors of plans that each size makes.

A verifier that accepts everything verifies nothing. Every control breaks one premise of the theorem (Klindt, LeCun,
Balestriero 2026, arXiv 2605.26379) by a known amount, from gross to minute, and must be rejected down to a stated size;
beside them stand changes that break none, and must be accepted at every size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from worldplan.checks import checked_seed, positive_int
from worldplan.errors import InvalidInput
from worldplan.eval.theorem4.gaps import TOLERANCE, Gaps, lqr_gaps, mpc_gaps
from worldplan.eval.theorem4.levels import Dose, MistakeLevel
from worldplan.eval.theorem4.mistakes import HARMLESS, MISTAKES, Mistake, permuted_box, rotated_box
from worldplan.eval.theorem4.problems import draw_problem
from worldplan.eval.theorem4.report import DoseReport
from worldplan.planning.mpc import TOLERANCE as QP_TOLERANCE

Progress = Callable[[Iterator[Any], int], Iterator[Any]]
Expected = Literal["rejected", "accepted"]
Trial = Callable[[float, np.random.Generator, int], Gaps]
"""Size of the mistake, generator and number of the trial to the gaps."""

SIZES = tuple(10.0**-k for k in range(7))
LARGEST = 2.0  # a goal that is not rotated differs from the rotated one by at most twice its norm
LQR_REQUIRED = 1e-6  # smallest size at which every trial must be rejected
QP_REQUIRED = 10 * QP_TOLERANCE  # the same, where a quadratic program is solved
BOX_TOLERANCE = 1e-7  # relative gap of plans with limits on latents, whose solver is good to 1e-9


@dataclass(frozen=True)
class MistakeTest:
    """A control with one planner: `trial` gives the gaps for a size, a generator and the number of the trial."""

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
    progress: Progress = lambda items, total: items,
) -> DoseReport:
    """How far plans, first actions and values are off for each mistake at each size, and the share that is rejected.

    These are the negative controls of `verify_planning`, with the same problems for the same seed.

    Args:
        seed: of all problems.
        trials: random problems of each mistake at each size with LQR; half as many, at least 2, where each takes the
            solution of quadratic programs.
        sizes: of the mistakes, relative, in any order; those below what is asked of a control are measured, and do
            not count for its verdict.
        tests: what is judged; None for all of `mistake_tests()`.
        progress: wraps the iterator over the controls.

    Raises:
        InvalidInput: a number is out of range, or no size is large enough to judge every control.
        SolverFailed: a control could not be solved.
    """
    seed, trials, sizes = checked_seed(seed), positive_int("trials", trials), checked_sizes(sizes)
    tests = mistake_tests() if tests is None else tests
    levels = tuple(measure_mistake(test, trials, seed, sizes) for test in progress(iter(tests), len(tests)))
    return DoseReport(seed, levels)


def checked_sizes(sizes: Sequence[float]) -> tuple[float, ...]:
    """Descending, each once."""
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
    """Every mistake, and every harmless change, with every planner it goes with."""
    tests = []
    for planner, gaps, required, most in (("LQR", lqr, LQR_REQUIRED, 6), ("MPC", mpc, QP_REQUIRED, 4)):
        for name, mistake in [*mistakes.items(), *harmless.items()]:
            expected: Expected = "rejected" if name in mistakes else "accepted"
            trial = partial(_trial, mistake, gaps, most)
            tests.append(MistakeTest(name, planner, expected, required, TOLERANCE, trial))
    tests.append(MistakeTest("latent box", "QP", "rejected", QP_REQUIRED, BOX_TOLERANCE, box))
    tests.append(MistakeTest("box, axes permuted", "QP", "accepted", QP_REQUIRED, BOX_TOLERANCE, permuted_box))
    return tests


def _trial(
    control: Mistake, gaps: Callable[..., Gaps], most: int, size: float, rng: np.random.Generator, k: int
) -> Gaps:
    return gaps(*control(draw_problem(rng, 2 + k % (most - 1), blocks=1 + k % 2, steps=8), size, rng))


def measure_mistake(test: MistakeTest, trials: int, seed: int, sizes: Sequence[float]) -> MistakeLevel:
    """One control over its sizes, which descend."""
    doses = []
    trials = trials if test.planner == "LQR" else max(2, trials // 2)
    for size in sizes:
        # The same problems and directions at every size, and for every control.
        measured = [test.trial(size, np.random.default_rng([seed, 1000, k]), k) for k in range(trials)]
        accepted = [gaps.tolerance(test.tolerance) for gaps in measured]
        worst = [gaps.worst[1] for gaps in measured]
        value, action, plan = (
            float(np.median([getattr(gaps, name) for gaps in measured])) for name in ("value", "action", "plan")
        )
        doses.append(
            Dose(
                size=size,
                trials=trials,
                rejected=sum(gap > limit for gap, limit in zip(worst, accepted, strict=True)),
                value=value,
                action=action,
                plan=plan,
                least=min(gap / limit for gap, limit in zip(worst, accepted, strict=True)),
            )
        )
    return MistakeLevel(test.name, test.planner, test.expected, test.required, test.tolerance, tuple(doses))
