"""Verify Theorem 4: an encoder that is a rotation gives the plans of the true state, and others do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from worldplan.checks import checked_seed, positive_int
from worldplan.data.world_card import for_reacher, same_world, world_of
from worldplan.envs.workers import worker_pool
from worldplan.errors import InvalidInput, NotStabilizable, SolverFailed
from worldplan.eval.theorem4.dose import SIZES, MistakeTest, checked_sizes, measure_mistake, mistake_tests
from worldplan.eval.theorem4.gaps import TOLERANCE, Gaps, cem_gaps, lqr_gaps, mpc_gaps, mppi_gaps
from worldplan.eval.theorem4.levels import ExactLevel, MistakeLevel, PixelLevel
from worldplan.eval.theorem4.problems import draw_problem, seen_through
from worldplan.eval.theorem4.report import Theorem4Report
from worldplan.planning.rotation import random_rotation
from worldplan.progress import Progress, silent

if TYPE_CHECKING:
    from worldplan.envs.world.world import World
    from worldplan.eval.theorem4.pixels import PixelConfig
    from worldplan.learning.encoder import Encoder

HORIZON = (5, 20)
NOISE = 0.1


@dataclass(frozen=True)
class Family:
    """One kind of random problem, and the planner that is tested on it.

    `share` is the share of all problems. `gaps` computes the planner's gaps; finite horizons take a third argument.
    `small` is the range of latent dimensions; `large` families also have larger ones. For `bend` see `LatentProblem`.
    """

    name: str
    share: float
    gaps: Callable[..., Gaps]
    small: tuple[int, int] = (2, 16)
    large: bool = False
    finite: bool = False
    bend: float = 0.0


FAMILIES = (
    Family("LQR, infinite horizon", 0.45, lqr_gaps, large=True),
    Family("LQR, finite horizon", 0.35, lqr_gaps, large=True, finite=True),
    Family("LQR, nonlinear plant", 0.13, lqr_gaps, bend=0.05),
    Family("MPC, torque limits", 0.05, mpc_gaps, small=(2, 4)),
    Family("CEM, common draws", 0.01, cem_gaps, small=(2, 4)),
    Family("MPPI, common draws", 0.01, mppi_gaps, small=(2, 4)),
)
NUMBERS = {family.name: k for k, family in enumerate(FAMILIES)}  # problems do not depend on what else is run


def verify_planning(
    encoder: Encoder | None = None,
    reference: Encoder | None = None,
    seed: int = 0,
    *,
    problems: int = 1000,
    largest: int = 256,
    trials: int = 8,
    sizes: Sequence[float] = SIZES,
    profile: str = "dmc",
    world: World | None = None,
    families: Sequence[Family] = FAMILIES,
    tests: Sequence[MistakeTest] | None = None,
    pixels: PixelConfig | None = None,
    processes: int = 1,
    progress: Progress = silent,
) -> Theorem4Report:
    """Test Theorem 4 of Klindt, LeCun and Balestriero (2026, arXiv 2605.26379) on random problems and planted mistakes.

    *exact*: random systems are stable, unstable, noisy or nonlinear; latents get a random rotation and offset. Each
    planner solves both spaces from scratch. Values, actions, gains and closed loops must agree, and LQR and MPC
    solutions must be minima. *mistakes*: the same comparison with a mistake of known size must be rejected.
    *pixel-exact*, with an encoder f: fit, filter and planner built from `Q f` must give the torques of f on frames of
    the Reacher or of `world`. Built from a shear of f, they must not. *learned*: values, torques and closed-loop costs
    behind f must lie within stated tolerances of those of the true state. The cost ledger must close, and the
    certificate of the fitted linear plant must hold.

    Args:
        encoder: any map of frames with `latent_dim`; None tests without pictures.
        reference: another encoder to compare with at the learned level; None is the true state.
        seed: seed for all problems.
        problems: number of random problems at the exact level.
        largest: largest latent dimension of these.
        trials: see `dose_response`.
        sizes: see `dose_response`.
        profile: look of the frames.
        world: another world than the Reacher, whose frames the encoder sees. There is no learned level then, for no
            true-state plan to compare with, and no reference.
        families: kinds of random problems, each with a name in `FAMILIES`.
        tests: mistakes and harmless changes; None for `mistake_tests()`.
        pixels: amount of rendering for the levels with an encoder; None for the defaults.
        processes: worker processes for the levels without one; more than 1 needs an importable `__main__` (spawn), and
            `families` and `tests` that can be pickled. The report does not depend on it.
        progress: wraps the iterator over the levels.

    Raises:
        InvalidInput: a number is out of range, the encoder gives no latents or is for another world than the Reacher,
            or there is a reference only.
        NotStabilizable: no feedback stabilises the dynamics fitted to the encoder.
        EncoderCollapsed: the encoder is constant.
        SolverFailed: a mistake could not be solved.
    """
    problems, trials = positive_int("problems", problems), positive_int("trials", trials)
    largest, seed = positive_int("largest", largest), checked_seed(seed)
    if problems < 10 or largest < 2:
        raise InvalidInput(f"need 10 problems or more of 2 latents or more, got {problems} of up to {largest}")
    if reference is not None and (encoder is None or world is not None):
        raise InvalidInput("a reference needs an encoder of the Reacher that is compared with it: pass `encoder`")
    if world is not None and encoder is None:
        raise InvalidInput("a world is shown to an encoder: pass `encoder`")
    jobs: list[Callable[[], ExactLevel | MistakeLevel]] = [
        partial(_exact, family, max(1, round(family.share * problems)), largest, seed) for family in families
    ]
    tests = mistake_tests() if tests is None else tests
    jobs += [partial(measure_mistake, test, trials, seed, checked_sizes(sizes)) for test in tests]
    shown: tuple[PixelLevel, ...] = ()
    learned = None
    if world is None:
        for given in (encoder, reference):
            for_reacher(given)
    if encoder is not None:  # first: wrong encoders show at once
        from worldplan.eval.theorem4.learned import learned_level
        from worldplan.eval.theorem4.pixels import pixel_levels

        trained = world_of(getattr(encoder, "card", {}))
        if world is not None and trained is not None:
            same_world("this encoder", trained, world.card)
        shown = pixel_levels(encoder, seed, profile, pixels, world)
        if world is None:
            learned = learned_level(encoder, reference, seed, profile, pixels)
    with worker_pool(processes, torch=False) as start:
        found = [start(job) for job in jobs]
        levels = [result() for result in progress(iter(found), len(found))]
    return Theorem4Report(
        seed=seed,
        exact=tuple(level for level in levels if isinstance(level, ExactLevel)),
        controls=tuple(level for level in levels if isinstance(level, MistakeLevel)),
        pixels=shown,
        learned=learned,
    )


# --- exact ----------------------------------------------------------------------------------------------------------


def _exact(family: Family, count: int, largest: int, seed: int) -> ExactLevel:
    worst: tuple[float, str, str, float | None] = (-1.0, "", "", None)
    gaps_by_quantity: dict[str, float] = {}
    failed = by_condition = 0
    for k, n in enumerate(_latents(family, count, largest)):
        rng = np.random.default_rng([seed, NUMBERS[family.name], k])
        world = draw_problem(
            rng,
            n,
            blocks=1 if n > family.small[1] else 1 + k % 2,  # large ones have one
            noise=NOISE * (k % 3 > 0),
            bend=family.bend,
            steps=int(rng.integers(*HORIZON)),
        )
        label = f"#{k} {world.label}"
        try:
            seen = seen_through(world, random_rotation(n, rng), rng.standard_normal(n))
            gaps = family.gaps(world, seen, len(world.noise)) if family.finite else family.gaps(world, seen)
        except (SolverFailed, NotStabilizable) as error:
            failed += 1
            worst = max(worst, (np.inf, type(error).__name__, label, None), key=lambda entry: entry[0])
            continue
        for name, gap in gaps.all.items():
            gaps_by_quantity[name] = max(gap, gaps_by_quantity.get(name, 0.0))
        name, gap = gaps.worst
        failed += gap > gaps.tolerance()
        by_condition += TOLERANCE < gap <= gaps.tolerance()
        if gap > worst[0]:
            worst = (gap, name, label, gaps.condition())
    gap, name, label, condition = worst
    return ExactLevel(
        name=family.name,
        problems=count,
        failed=int(failed),
        tolerance=TOLERANCE,
        by_condition=int(by_condition),
        worst=gap,
        quantity=name,
        problem=label,
        condition=condition,
        gaps=gaps_by_quantity,
    )


def _latents(family: Family, count: int, largest: int) -> list[int]:
    """Latent dimensions of `count` problems: the largest, its halves down to the small ones, then small ones."""
    low, high = family.small[0], min(family.small[1], largest)
    large: list[int] = []
    n = largest
    while family.large and n > high and len(large) < count // 10:
        large.append(n)
        n //= 2
    return [*large, *(low + k % (high - low + 1) for k in range(count - len(large)))]
