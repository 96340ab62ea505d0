"""CEM and MPPI: planning by drawing action sequences, on the same problem and with the same plan as `solve_mpc`.

Both draw `samples` sequences around a mean, clip them to the action limits, and compute their costs. Mean and spread
then move to where the cheap ones lie. Only costs are used; since an exact solver exists here, these are baselines.

Noise is drawn in action space, and only its shape depends on the problem. So the same generator state gives the same
noise in every latent space. With these common random numbers Theorem 4 (Klindt, LeCun and Balestriero 2026, arXiv
2605.26379) holds plan by plan, to rounding.

Costs come from the condensed matrices of `build_mpc`, in NumPy. A torch roll-out of the same samples takes 20 to 150
times as long on a CPU. The same product in torch saves less than a tenth of a solve.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldplan.arrays import Floats, check_memory, finite_array
from worldplan.checks import positive_int, positive_number
from worldplan.errors import InvalidInput, SolverFailed
from worldplan.planning.mpc import TOLERANCE, MPCProblem, MPCSolver, Plan, built

SAMPLED = "sampled"  # status of a plan that no solver calls optimal


@dataclass(frozen=True)
class ShootingConfig:
    """What both planners have.

    Args:
        samples: sequences drawn in an iteration.
        iterations: rounds of drawing and moving.
        std: first standard deviation, action units. None takes the step that one action alone would take to its best,
            at most half the distance of the limits.
    """

    samples: int = 256
    iterations: int = 24
    std: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("samples", "iterations"):
            object.__setattr__(self, name, positive_int(name, getattr(self, name)))
        if self.std is not None:
            self._check("std", lambda std: 0 < std < math.inf, "> 0 and finite")

    def _check(self, name: str, holds: Callable[[float], bool], wanted: str) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not holds(float(value)):
            raise InvalidInput(f"{name} must be a number {wanted}, got {value!r}")

    def move(self, mean: Floats, std: Floats, candidates: Floats, costs: Floats) -> tuple[Floats, Floats]:
        """The next mean and standard deviation (k,) from candidates (S, k) and their costs (S,)."""
        raise NotImplementedError


@dataclass(frozen=True)
class CEMConfig(ShootingConfig):
    """The cross-entropy method: mean and standard deviation become those of the cheapest `elite_fraction`.

    `mean <- smoothing mean + (1 - smoothing) elite mean`, and the standard deviations of the entries alike. Sources:
    Rubinstein, The Cross-Entropy Method for Combinatorial and Continuous Optimization (1999); de Boer, Kroese, Mannor &
    Rubinstein, A Tutorial on the Cross-Entropy Method (2005), section 4. Raises InvalidInput if an option is out of
    range.

    Args:
        elite_fraction: share of the samples that are elite, in (0, 1]; at least two are.
        smoothing: share of the old mean and deviation that stays, in [0, 1).
    """

    elite_fraction: float = 0.1
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("elite_fraction", lambda share: 0 < share <= 1, "in (0, 1]")
        self._check("smoothing", lambda kept: 0 <= kept < 1, "in [0, 1)")

    def move(self, mean: Floats, std: Floats, candidates: Floats, costs: Floats) -> tuple[Floats, Floats]:
        """Towards mean and deviation of the cheapest."""
        elite = candidates[_cheapest(costs, max(2, math.ceil(self.elite_fraction * self.samples)))]
        keep, take = self.smoothing, 1 - self.smoothing
        return keep * mean + take * elite.mean(axis=0), keep * std + take * elite.std(axis=0)


@dataclass(frozen=True)
class MPPIConfig(ShootingConfig):
    """Model predictive path integral control: the mean becomes the average weighted by `exp(-cost / lambda)`.

    With a Gaussian around the mean as prior this is the information-theoretic law of Williams et al., Information
    Theoretic MPC for Model-Based Reinforcement Learning (ICRA 2017). Without active limits its average over infinitely
    many samples is the proximal step `argmin f(u) + lambda/2 (u - mean)' S^-1 (u - mean)`, S the samples' covariance.
    Their lambda is in units of cost. Ours is `temperature` times the standard deviation of the samples' costs, so plans
    do not depend on the unit of cost. Raises InvalidInput if an option is out of range.

    Args:
        temperature: lambda over the standard deviation of the costs, > 0; towards 0 only the best sample counts.
        decay: factor on the standard deviation after each iteration, in (0, 1].
    """

    temperature: float = 0.2
    decay: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("temperature", lambda ratio: 0 < ratio < math.inf, "> 0 and finite")
        self._check("decay", lambda factor: 0 < factor <= 1, "in (0, 1]")

    def move(self, mean: Floats, std: Floats, candidates: Floats, costs: Floats) -> tuple[Floats, Floats]:
        """The weighted average, and a smaller deviation."""
        size = float(np.abs(costs).max())
        scaled = costs / size if size > 1e150 else costs  # whose squares would overflow
        weights = np.exp((scaled.min() - scaled) / (self.temperature * float(scaled.std()) or 1.0))
        return weights @ candidates / weights.sum(), self.decay * std


def solve_cem(
    problem: MPCProblem | MPCSolver,
    state: ArrayLike,
    goal: ArrayLike,
    *,
    config: CEMConfig | None = None,
    rng: np.random.Generator | int = 0,
    guess: ArrayLike | None = None,
    tolerance: float = TOLERANCE,
) -> Plan:
    """Plan from a state to a goal by the cross-entropy method.

    The plan is the cheapest sequence seen: all samples, all means, the guess, and zeros clipped to the limits. Its
    `gap` bounds what it loses to the optimum. Its status is "sampled", and `certified` is hardly ever true; unlike with
    `solve_mpc`, that is no error.

    Args:
        problem: the problem (built on first use and kept with it), or one that `build_mpc` built.
        state: (d,).
        goal: (n,) latent position, at rest, or (d,).
        config: None for the defaults.
        rng: generator or seed. A generator always advances by `iterations x samples x N m` normal draws.
        guess: (N, m) first mean, clipped to the limits; `previous_plan.shifted` is a warm start. None starts from
            zeros.
        tolerance: tolerance of `certified`.

    Raises:
        InvalidInput: a shape does not match, an entry is not finite, `rng` is no seed, or the problem has constraints.
        NotStabilizable: on building, see `build_mpc`.
        SolverFailed: on building; or costs overflow.

    Example:
        >>> from worldplan.planning.cost import QuadraticCost
        >>> from worldplan.planning.dynamics import LinearDynamics
        >>> dynamics = LinearDynamics(A=[[1, 1], [0, 1]], B=[[0.5], [1]])
        >>> problem = MPCProblem(dynamics, QuadraticCost.goal_reaching(1), horizon=8)
        >>> plan = solve_cem(problem, state=[0, 0], goal=[5], rng=0)
        >>> plan.actions[:3].round(1).tolist()
        [[1.0], [1.0], [-0.3]]
        >>> plan.status, plan.certified
        ('sampled', False)
    """
    return _search(problem, state, goal, _rule(config, CEMConfig), rng, guess, tolerance)


def solve_mppi(
    problem: MPCProblem | MPCSolver,
    state: ArrayLike,
    goal: ArrayLike,
    *,
    config: MPPIConfig | None = None,
    rng: np.random.Generator | int = 0,
    guess: ArrayLike | None = None,
    tolerance: float = TOLERANCE,
) -> Plan:
    """Plan by model predictive path integral control; arguments, plan and errors are those of `solve_cem`."""
    return _search(problem, state, goal, _rule(config, MPPIConfig), rng, guess, tolerance)


def _rule(config: Any, kind: type[ShootingConfig]) -> ShootingConfig:
    if not (config is None or isinstance(config, kind)):
        raise InvalidInput(f"config is a {kind.__name__}, got {config!r}")
    return kind() if config is None else config


def _search(
    problem: MPCProblem | MPCSolver,
    state: ArrayLike,
    goal: ArrayLike,
    rule: ShootingConfig,
    rng: np.random.Generator | int,
    guess: ArrayLike | None,
    tolerance: float,
) -> Plan:
    tolerance, solver = positive_number("tolerance", tolerance), built(problem)
    if solver.problem.constraints is not None:
        raise InvalidInput("only solve_mpc knows constraints; sampling planners take problems without")
    N, m = solver.problem.horizon, solver.problem.dynamics.action_dim
    check_memory(f"{rule.samples} samples", (rule.samples, N, m))
    q = solver.linear_term(state, goal)
    low, high = (np.tile(limit, N) for limit in solver.problem.limits)
    best = np.clip(np.zeros(N * m), low, high)
    mean = best if guess is None else np.clip(_checked_guess(guess, (N, m)), low, high)
    std = np.full(N * m, rule.std) if rule.std else _first_std(solver, q, mean, low, high)
    generator = _generator(rng)
    for _ in range(rule.iterations):
        # Invariant: best costs no more than the zeros, all samples so far, and all means before the current one.
        samples = np.clip(mean + std * generator.standard_normal((rule.samples, N * m)), low, high)
        candidates = np.vstack([best, mean, samples])
        costs = _costs(solver, q, mean, candidates)
        best = candidates[np.argmin(costs)]
        mean, std = rule.move(mean, std, candidates, costs)
        mean = np.clip(mean, low, high)  # an average may leave the box by rounding
    last = np.vstack([best, mean])
    best = last[np.argmin(_costs(solver, q, mean, last))]
    return solver.judge(state, goal, q, best, SAMPLED, tolerance)


def _costs(solver: MPCSolver, q: Floats, mean: Floats, candidates: Floats) -> Floats:
    """Costs (S,) of candidates (S, N m) less the mean's.

    Costs of close samples agree in all their digits. Rounding, which differs between latent spaces, would choose among
    them; a difference avoids this.
    """
    away, slope = candidates - mean, 2 * (solver.qp.H @ mean + q)
    with np.errstate(over="ignore", invalid="ignore"):
        costs = np.einsum("ij,ij->i", away @ solver.qp.H + slope, away)
    if not np.isfinite(costs).all():
        raise SolverFailed("the costs of samples overflow; shorten the horizon", solver.problem, "overflow")
    return np.asarray(costs)


def _cheapest(costs: Floats, count: int) -> NDArray[np.intp]:
    return np.argpartition(costs, count - 1)[:count]


def _first_std(solver: MPCSolver, q: Floats, mean: Floats, low: Floats, high: Floats) -> Floats:
    """The longest step that one entry alone would take from the mean to its best, at most half the limits' distance.

    All entries get this step, measured in `sqrt(H_ii) u_i`: the root of cost, whatever an action's unit.
    """
    root = np.sqrt(np.diag(solver.qp.H))
    step = np.clip(mean - (solver.qp.H @ mean + q) / root**2, low, high) - mean
    return np.asarray(np.minimum(np.abs(root * step).max() / root, (high - low) / 2))


def _checked_guess(guess: ArrayLike, shape: tuple[int, int]) -> Floats:
    actions = finite_array("guess", guess)
    if actions.shape != shape:
        raise InvalidInput(f"guess must have shape {shape}, got {actions.shape}")
    return actions.ravel()


def _generator(rng: np.random.Generator | int) -> np.random.Generator:
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"rng must be a Generator or a seed >= 0, got {rng!r}") from error
