"""Pixel-exact: the pipeline of a real encoder f, built once from f and once from `M f`, on the same frames.

For an orthogonal M all torques must agree, whatever f is: this needs no identifiability, and finds every step that does
not turn with the latent (a ridge, a diagonal noise model, clipping by coordinate). For a shear they must not.
Theorem 4 of Klindt, LeCun, Balestriero (2026, arXiv 2605.26379).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldplan.agents.planning import Encoder, PlanningAgent
from worldplan.charts import QuarterTurns, encode_turned, turn
from worldplan.cost import QuadraticCost, finite_array
from worldplan.dynamics import LinearDynamics, fit_dynamics
from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rollout import rollout
from worldplan.errors import EncoderCollapsed, InvalidInput
from worldplan.estimation import build_estimator
from worldplan.eval.control import Pairs, sample_pairs
from worldplan.eval.fitting import find_charts
from worldplan.eval.verdicts import PixelLevel
from worldplan.lqr import solve_lqr
from worldplan.mpc import MPCProblem, build_mpc, solve_mpc
from worldplan.rotation import random_rotation
from worldplan.trajectories import Trajectories

Floats = NDArray[np.float64]
Frames = NDArray[np.uint8]

LQR_TOLERANCE, MPC_TOLERANCE = 1e-6, 1e-5  # torque, of 1
FIT_EPISODES, FIT_STEPS = 30, 25
CHART_STRIDE = 12  # frames of an episode that show much the same
TEST_EPISODES, TEST_STEPS = 3, 25
CONTROL_WEIGHT, MPC_HORIZON = 0.1, 15
SHEAR = 0.1
NEAR = 0.3  # radians from start to goal
JOINT_RANGE = np.array([np.inf, 2.79])  # the wrist stops


@dataclass(eq=False)
class MappedEncoder:
    """`M f(frames)`."""

    encoder: Encoder
    M: Floats

    def __post_init__(self) -> None:
        self.latent_dim = len(self.M)

    def __call__(self, frames: Frames) -> Floats:
        """Frames (T, 64, 64, 3) to latents (T, n)."""
        return np.asarray(self.encoder(frames), dtype=np.float64) @ self.M.T


class Recorder:
    """An agent's `predict`, and a copy of what it was shown.

    Args:
        agent: whose.
    """

    def __init__(self, agent: PlanningAgent) -> None:
        self.agent, self.seen = agent, list[dict[str, Frames]]()

    def predict(self, observation: Any, *state: Any, **more: Any) -> Any:
        """The agent's."""
        self.seen.append({name: np.array(value) for name, value in observation.items()})
        return self.agent.predict(observation, *state, **more)


def checked_latents(encoder: Encoder, frames: Frames) -> Floats:
    """Latents (T, n) of frames.

    Raises:
        InvalidInput: they are not (T, latent_dim), not finite, or not the same at the second call.
    """
    n = getattr(encoder, "latent_dim", None)
    if not callable(encoder) or isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise InvalidInput(f"an encoder is a callable with an integer latent_dim >= 1, got {encoder!r}")
    first = finite_array("the encoder's output", encoder(frames))
    if first.shape != (len(frames), n):
        raise InvalidInput(f"the encoder must give latents ({len(frames)}, {n}), got {first.shape}")
    again = finite_array("the encoder's second output", encoder(frames))
    if again.shape != first.shape or not np.array_equal(first, again):
        raise InvalidInput("the encoder is not deterministic: two calls on the same frames differ; put it in eval mode")
    return first


def radians_per_unit(encoder: Encoder, data: Trajectories) -> float:
    """By the encoder's card; where that names no single scale, the ratio of the spreads of angles and latents."""
    scales: list[float] = getattr(encoder, "card", {}).get("data", {}).get("world", {}).get("scale") or []
    if len(set(scales)) == 1:
        return float(scales[0])
    angles, latents = np.concatenate(data.info["qpos"]), np.concatenate([encoder(frames) for frames in data.frames])
    return float(np.sqrt(angles.var(axis=0).sum() / latents.var(axis=0).sum()))


def torque_episodes(seed: int, profile: str) -> Trajectories:
    """Random-torque episodes that every pipeline of the verifier is fitted to, frames and joint angles."""
    return _torque_episodes(seed, profile, FIT_EPISODES, FIT_STEPS)


@lru_cache(maxsize=1)
def _torque_episodes(seed: int, profile: str, episodes: int, steps: int) -> Trajectories:
    starts = sample_pairs(episodes, seed).starts
    options = [{"qpos": start} for start in starts]
    return rollout(ReacherGoal(profile=profile), None, episodes, seed=seed, steps=steps, options=options)


def pixel_levels(encoder: Encoder, seed: int = 0, profile: str = "dmc") -> tuple[PixelLevel, ...]:
    """Compare f with `Q f` (Q random) and with a shear of f.

    Dynamics, noise, filter, charts and planner are fitted to each map of the same random-torque frames; torques are
    compared in float64 on the frames and actions of closed-loop episodes of f, costs in closed loops of their own.
    Charts only move where they choose another quarter turn, so that what they consist of is compared too.

    Args:
        encoder: f.
        seed: of poses, torques and Q.
        profile: look of the frames.

    Raises:
        InvalidInput: f is not an encoder, see `checked_latents`, or its latents do not identify dynamics.
        EncoderCollapsed: f is constant on the frames.
    """
    # Any shoulder angle, so that all charts come up; goals nearby, so that torques stay within their limits.
    poses = sample_pairs(TEST_EPISODES, seed + 1, "reset")
    near = (poses.starts + NEAR * sample_pairs(TEST_EPISODES, seed + 1).goals).clip(-JOINT_RANGE, JOINT_RANGE)
    tests = Pairs(poses.starts, near).options()
    env = ReacherGoal(profile=profile)
    checked_latents(encoder, env.reset(seed=seed)[0]["observation"][None])  # before half a minute of rendering
    data = torque_episodes(seed, profile)
    latents = [checked_latents(encoder, frames) for frames in data.frames]
    spread = np.concatenate(latents).std(axis=0)
    if not (spread > 1e-9 * (1 + np.abs(np.concatenate(latents)).max())).all():
        raise EncoderCollapsed(f"a latent of the encoder is constant over {data.steps} frames (spread {spread})")
    n, rng = latents[0].shape[1], np.random.default_rng([seed, 2000])
    shear = (np.eye(n) + SHEAR * np.eye(n, k=1)) if n > 1 else (1 + SHEAR) * np.eye(1)
    maps = {"f": np.eye(n), "Q f": random_rotation(n, rng), "shear of f": shear}
    weight = CONTROL_WEIGHT / radians_per_unit(encoder, data) ** 2  # whatever the units, torques are worth the same
    turnable = np.concatenate([frames[::CHART_STRIDE] for frames in data.frames])
    pipelines = {
        name: _Pipeline(MappedEncoder(encoder, M), [h @ M.T for h in latents], data.actions, weight, turnable)
        for name, M in maps.items()
    }
    costs, shown = {}, list[dict[str, Frames]]()
    for name in ("f", "Q f"):
        recorder = Recorder(pipelines[name].agent)
        run = rollout(env, recorder, TEST_EPISODES, seed=seed + 1, steps=TEST_STEPS, options=tests)
        costs[name] = np.array([-rewards.sum() for rewards in run.rewards])
        if name == "f":
            shown, actions = recorder.seen, np.stack(run.actions)
    torques = {name: pipeline.replay(shown, actions) for name, pipeline in pipelines.items()}
    cost_gap = float(np.abs(costs["Q f"] / costs["f"] - 1).max())
    levels = []
    for k, (planner, tolerance) in enumerate((("LQR", LQR_TOLERANCE), ("MPC", MPC_TOLERANCE))):
        gaps = {name: float(np.abs(torques[name][k] - torques["f"][k]).max()) for name in ("Q f", "shear of f")}
        closed = cost_gap if planner == "LQR" else None
        levels.append(PixelLevel(f"Q f, {planner}", "accepted", len(shown), tolerance, gaps["Q f"], closed))
        levels.append(PixelLevel(f"shear of f, {planner}", "rejected", len(shown), tolerance, gaps["shear of f"], None))
    if pipelines["f"].charts is not None:
        gap = _chart_gap(pipelines["f"].charts, pipelines["Q f"].charts, maps["Q f"])
        levels.append(PixelLevel("Q f, charts", "accepted", len(turnable), LQR_TOLERANCE, gap, None))
    return tuple(levels)


def _chart_gap(charts: QuarterTurns, turned: QuarterTurns | None, Q: Floats) -> float:
    """By how much the charts of `Q f` are not those of f, turned; over the size of a quarter turn."""
    if turned is None:
        return float("inf")
    gaps = [np.linalg.norm(turned.shift - Q @ charts.shift), np.linalg.norm(turned.centre - Q @ charts.centre)]
    return float(max(gaps) / np.linalg.norm(charts.shift))


class _Pipeline:
    """All that stands between frames and torques, fitted to one encoder's latents."""

    def __init__(self, encoder: Encoder, latents: list[Floats], actions: Any, weight: float, turnable: Frames) -> None:
        self.encoder, self.charts = encoder, find_charts(encoder, turnable)
        self.dynamics: LinearDynamics = fit_dynamics(latents, actions)
        cost = QuadraticCost.goal_reaching(encoder.latent_dim, weight, action_dim=self.dynamics.action_dim)
        self.agent = PlanningAgent(encoder, self.dynamics, cost, charts=self.charts)
        self.estimator = build_estimator(self.dynamics, encoder.latent_dim)
        self.lqr = solve_lqr(self.dynamics, cost)
        self.mpc = build_mpc(MPCProblem(self.dynamics, cost, MPC_HORIZON))

    def replay(self, shown: list[dict[str, Frames]], actions: Floats) -> tuple[Floats, Floats]:
        """Torques (frames, m) of LQR and MPC for what was shown, with the actions (E, T, m) that were applied."""
        steps = actions.shape[1]
        frames, goals = (np.stack([row[key] for row in shown]) for key in ("observation", "desired_goal"))
        chart = np.zeros(len(shown), dtype=np.int64)
        if self.charts is not None:
            ends = (encode_turned(self.encoder, images[::steps]) for images in (frames, goals))
            chart = np.repeat(self.charts.choose(*ends), steps)
        seen, wanted = self.encoder(turn(frames, chart)), self.encoder(turn(goals, chart))
        linear, planned = [], []
        mean = np.zeros((1, self.dynamics.state_dim))
        for i, (latent, goal) in enumerate(zip(seen, wanted, strict=True)):
            episode, t = divmod(i, steps)
            if t:
                mean = self.estimator.update(mean, actions[episode, t - 1 : t], latent[None])
            else:
                mean = self.estimator.start(latent[None])
            linear.append(self.lqr.action(mean[0], goal).clip(-1, 1))
            planned.append(solve_mpc(self.mpc, mean[0], goal).actions[0])
        return np.array(linear), np.array(planned)
