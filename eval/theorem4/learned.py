"""The learned level: an encoder, with all that is fitted to it, against the true state or another encoder.

Both sides plan in their own coordinates with the same invariant cost, `|h - g|^2 + (.1 / scale^2) |u|^2`. The true
state is `z = theta / scale` with its rate (W = I, the same R). An encoder uses its latent, and encodes the goal like
the states. Both get the same rollouts and the same estimator: dynamics, noise and filter. Theorem 4 (Klindt, LeCun and
Balestriero 2026, arXiv 2605.26379) then says: if the encoder is a rotation of the state, value, torques and cost are
equal. A latent of circles and lines is compared with the true state in the latent's own units (`units_of`). No learned
encoder is exactly one, so the gaps have a stated tolerance and an interval over episodes, not a proof. Beside another
encoder, the map between the two latents is tested too: costs alone do not tell a shear from a rotation. Two proven
statements stand beside them: the ledger says where the cost comes from, the certificate how large it can be.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldplan.agents.latent_controller import LatentController
from worldplan.agents.planning_agent import PlanningAgent
from worldplan.arrays import Floats
from worldplan.data.trajectories import Trajectories
from worldplan.envs.reacher import CONTROL_WEIGHT, ReacherGoal
from worldplan.envs.rollout import rollout
from worldplan.envs.tasks import Tasks, TrueStateObservation
from worldplan.eval.control.episodes import Recorder
from worldplan.eval.control.ledger import CostLedger, cost_ledger
from worldplan.eval.statistics.estimate import Estimate, estimate_ratio
from worldplan.eval.theorem4.certificate import ROUNDING, certify
from worldplan.eval.theorem4.levels import LearnedLevel
from worldplan.eval.theorem4.orthogonality import orthogonality_error
from worldplan.eval.theorem4.pixels import PixelConfig, Units, radians_per_unit, torque_episodes, units_of
from worldplan.eval.theorem4.report import LearnedReport
from worldplan.learning.encoder import Encoder, encode, space_of
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics, fit_dynamics
from worldplan.planning.space import LatentSpace

SPREAD, FARTHEST = 0.7, 1.5  # radians: start and goal are never more than half a turn apart
# In the published figure encoders of the Gaussian world cost about 1.0 times the straight line, those of trajectories
# about 1.15, with outliers to 10. A quarter above the reference passes the former, with the noise of 8 episodes, but
# no encoder that fails to reach its goals.
TOLERANCE = 0.25
TORQUE_TOLERANCE = 0.5  # no torque at all has gap 1; noise of the last steps at the goal is most of what is left
LEDGER_TOLERANCE = 1e-9
ORTHOGONALITY_TOLERANCE = 0.03  # a shear of .05 has .05
TRUE_STATE = "the true state"


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two that are compared. If `encoder` is None, it sees the true state, in `units`.

    A squared latent unit is worth as much torque as `scale^2` squared radians.
    """

    name: str
    encoder: Encoder | None
    scale: float
    dynamics: LinearDynamics
    units: Units

    @property
    def space(self) -> LatentSpace:
        """Space of its positions."""
        return LatentSpace.lines(len(self.units.order)) if self.encoder is None else space_of(self.encoder)

    @cached_property
    def cost(self) -> QuadraticCost:
        """The cost in this side's units; times `scale^2` it is in squared radians."""
        n, m = self.dynamics.state_dim // 2, self.dynamics.action_dim
        return QuadraticCost.goal_reaching(n, CONTROL_WEIGHT / self.scale**2, action_dim=m)

    @cached_property
    def controller(self) -> LatentController:
        """The filter and the clipped LQR."""
        return LatentController(self.dynamics, self.cost, self.dynamics.state_dim // 2, space=self.space)

    def positions(self, run: Trajectories) -> Floats:
        """Positions (E, T + 1, n) in episodes of one length, as paths without jumps."""
        if self.encoder is None:
            return self.units.positions(np.stack(run.info["qpos"]))
        return np.stack([self.space.unwrap(encode(self.encoder, frames, twice=True)) for frames in run.frames])

    def values(self, positions: Floats, goals: Floats) -> Floats:
        """Cost-to-go (E,) from rest at the first of positions (E, T + 1, n), rad^2."""
        start = self.controller.start(positions[:, 0])
        return self.scale**2 * self.controller.lqr.value(start, self.space.lift(goals, positions[:, 0]))

    def ledger(self, positions: Floats, goals: Floats, actions: Floats) -> CostLedger:
        """Ledger of closed loops, whoever closed them; rad^2, summed over the episodes."""
        rates = np.diff(positions, axis=1, prepend=positions[:, :1])
        states = np.concatenate([positions, rates], axis=2)
        return cost_ledger(self.controller.lqr, states, actions, goals, self.space).times(self.scale**2)


def fit_side(encoder: Encoder | None, data: Trajectories, scale: float, name: str, units: Units) -> Side:
    """Fit dynamics and noise to what one side sees of random-torque episodes; `units` are those of the true state.

    Raises InvalidInput if `encoder` is not an encoder, or if its latents do not identify dynamics.
    """
    seen = data.info["qpos"] if encoder is None else data.frames
    latents = [units.positions(rows) if encoder is None else encode(encoder, rows, twice=True) for rows in seen]
    space = None if encoder is None else space_of(encoder)
    return Side(name, encoder, scale, fit_dynamics(latents, data.actions, space=space), units)


@dataclass(frozen=True, eq=False)
class _Informed:
    """Filter and planner of the true state, behind `predict`."""

    side: Side

    def predict(self, observation: Any, *memory: Any, **more: Any) -> tuple[NDArray[np.float32], tuple[Floats, Floats]]:
        """Torques (2,) for the observation of `TrueStateObservation`."""
        z, goal = (self.side.units.positions(observation[key][None, :2]) for key in ("observation", "desired_goal"))
        controller = self.side.controller
        before, episode_start = memory
        fresh = before is None or np.any(episode_start)
        mean = controller.start(z) if fresh else controller.observe(before[0], before[1], z)
        action = controller.act(mean, goal)[0].astype(np.float32)
        return action[0], (mean, action.astype(np.float64))


def _close_loop(side: Side, pairs: Tasks, seed: int, profile: str, steps: int) -> tuple[Trajectories, Floats]:
    """Episodes in MuJoCo, and the goals (E, n) in this side's coordinates."""
    options: dict[str, Any] = {"seed": seed, "steps": steps, "options": pairs.options()}
    if side.encoder is None:
        blind = TrueStateObservation(ReacherGoal(pixels=False))
        return rollout(blind, _Informed(side), len(pairs.starts), **options), side.units.positions(pairs.goals)
    recorder = Recorder(PlanningAgent(side.encoder, side.dynamics, side.cost))
    run = rollout(ReacherGoal(profile=profile), recorder, len(pairs.starts), **options)
    return run, encode(side.encoder, np.stack([row["desired_goal"] for row in recorder.seen[::steps]]), twice=True)


def learned_level(
    encoder: Encoder,
    reference: Encoder | None = None,
    seed: int = 0,
    profile: str = "dmc",
    config: PixelConfig | None = None,
) -> LearnedReport:
    """Compare planning behind an encoder with planning behind a reference encoder, or on the true state (None).

    Raises:
        InvalidInput: no encoder, or latents that do not identify dynamics.
        NotStabilizable: no feedback stabilises the fitted dynamics.
    """
    config = config or PixelConfig()
    data = torque_episodes(seed, profile, config)
    scale, units = radians_per_unit(encoder, data), units_of(encoder, data)
    ours = fit_side(encoder, data, scale, "the encoder", units)
    other = (scale, TRUE_STATE)
    if reference is not None:
        other = (radians_per_unit(reference, data), "the reference encoder")
    theirs = fit_side(reference, data, *other, units)
    starts, goals = (SPREAD * np.random.default_rng([seed, 4000]).standard_normal((2, config.episodes, 2))).clip(
        -FARTHEST, FARTHEST
    )
    pairs = Tasks(starts, goals)
    run, ours_goals = _close_loop(ours, pairs, seed, profile, config.steps)
    best, theirs_goals = _close_loop(theirs, pairs, seed, profile, config.steps)
    actions, h, z = np.stack(run.actions), ours.positions(run), theirs.positions(run)
    value, expected = ours.values(h, ours_goals), theirs.values(z, theirs_goals)
    torques = ours.controller.replay(h, ours_goals, actions)
    wanted = theirs.controller.replay(z, theirs_goals, actions)
    cost, least = (-float(np.sum(side.rewards)) for side in (run, best))
    ledger = theirs.ledger(z, theirs_goals, actions)
    own = theirs.ledger(theirs.positions(best), theirs_goals, np.stack(best.actions))
    agent = PlanningAgent(encoder, ours.dynamics, ours.cost)
    proof = certify(
        agent,
        scale=units.radians,
        seed=seed,
        profile=profile,
        pairs=config.pairs,
        paths=config.paths,
        steps=config.path_steps,
    )
    values = estimate_ratio(np.abs(value - expected), expected, seed)
    wrong, right = (np.square(t).sum(axis=(1, 2)) for t in (torques - wanted, wanted))
    rms = Estimate(*np.sqrt(astuple(estimate_ratio(wrong, right, seed))))
    costs = estimate_ratio(-np.array([sum(r) for r in run.rewards]), -np.array([sum(r) for r in best.rewards]), seed)
    costs = Estimate(costs.value - 1, costs.low - 1, costs.high - 1)
    residual = max(ledger.residual, own.residual, proof.ledger)
    loss, bound = proof.measured.low / proof.value, proof.bound / proof.value + ROUNDING
    frames = f"{len(wanted) * config.steps} steps of the encoder's closed loops"
    paid = f"{cost:.4g} for {least:.4g} rad^2 over {config.episodes} episodes in MuJoCo"
    limit = f"loss over value, lower limit; the bound is {proof.looseness:.2g} times the mean loss"
    levels: tuple[LearnedLevel, ...] = (
        _level("value", values, TOLERANCE, f"cost-to-go {value.sum():.3g} for {expected.sum():.3g} rad^2"),
        _level("torques", rms, TORQUE_TOLERANCE, f"r.m.s. over {frames}, relative"),
        _level("closed-loop cost", costs, TOLERANCE, paid),
        LearnedLevel("ledger", residual, LEDGER_TOLERANCE, "closes, relative residual"),
        LearnedLevel("certificate", loss, bound, limit),
    )
    if reference is not None:
        turned = orthogonality_error(theirs.scale * z, ours.scale * h, seed)
        told = f"|M'M - I| of the map between the latents, {turned}; the upper limit counts"
        levels += (LearnedLevel("rotation", turned.high, ORTHOGONALITY_TOLERANCE, told, (turned.low, turned.high)),)
    return LearnedReport(theirs.name, config.episodes, config.steps, levels, ledger, own, proof)


def _level(name: str, gap: Estimate, tolerance: float, evidence: str) -> LearnedLevel:
    interval = f"[{gap.low:.2g}, {gap.high:.2g}]"
    return LearnedLevel(name, gap.value, tolerance, f"{evidence}; {interval}", (gap.low, gap.high))
