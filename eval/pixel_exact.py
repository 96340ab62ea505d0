"""Pixel-exact: the pipeline of a real encoder f, built once from f and once from `M f`, on the same frames.

For an orthogonal M all torques must agree, whatever f is: this needs no identifiability, and finds every step that does
not turn with the latent (a ridge, a diagonal noise model, clipping by coordinate). For a shear they must not.
Theorem 4 of Klindt, LeCun, Balestriero (2026, arXiv 2605.26379).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldplan.agents.planning import Encoder, PlanningAgent
from worldplan.cost import QuadraticCost, finite_array
from worldplan.dynamics import LinearDynamics, fit_dynamics
from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rollout import rollout
from worldplan.errors import EncoderCollapsed, InvalidInput
from worldplan.estimation import build_estimator
from worldplan.eval.control import sample_pairs
from worldplan.eval.fitting import world_scale
from worldplan.eval.verdicts import PixelLevel
from worldplan.lqr import solve_lqr
from worldplan.mpc import MPCProblem, build_mpc, solve_mpc
from worldplan.rotation import random_rotation

Floats = NDArray[np.float64]
Frames = NDArray[np.uint8]

LQR_TOLERANCE, MPC_TOLERANCE = 1e-6, 1e-5  # torque, of 1
FIT_EPISODES, FIT_STEPS = 30, 25
TEST_EPISODES, TEST_STEPS = 3, 25
CONTROL_WEIGHT, MPC_HORIZON = 0.1, 15
SHEAR = 0.1


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


class _Recorder:
    """An agent's `predict`, and a copy of what it was shown."""

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


def pixel_levels(encoder: Encoder, seed: int = 0, profile: str = "dmc") -> tuple[PixelLevel, ...]:
    """Compare f with `Q f` (Q random) and with a shear of f.

    Dynamics, noise, filter and planner are fitted to each map of the same random-torque frames; torques are compared
    in float64 on the frames and actions of closed-loop episodes of f, costs in closed loops of their own.

    Args:
        encoder: f.
        seed: of poses, torques and Q.
        profile: look of the frames.

    Raises:
        InvalidInput: f is not an encoder, see `checked_latents`, or its latents do not identify dynamics.
        EncoderCollapsed: f is constant on the frames.
    """
    pairs = sample_pairs(FIT_EPISODES + TEST_EPISODES, seed)
    env = ReacherGoal(profile=profile)
    checked_latents(encoder, env.reset(seed=seed)[0]["observation"][None])  # before half a minute of rendering
    starts = [{"qpos": start} for start in pairs.starts[:FIT_EPISODES]]
    data = rollout(env, None, FIT_EPISODES, seed=seed, steps=FIT_STEPS, options=starts)
    latents = [checked_latents(encoder, frames) for frames in data.frames]
    spread = np.concatenate(latents).std(axis=0)
    if not (spread > 1e-9 * (1 + np.abs(np.concatenate(latents)).max())).all():
        raise EncoderCollapsed(f"a latent of the encoder is constant over {data.steps} frames (spread {spread})")
    n, rng = latents[0].shape[1], np.random.default_rng([seed, 2000])
    shear = (np.eye(n) + SHEAR * np.eye(n, k=1)) if n > 1 else (1 + SHEAR) * np.eye(1)
    maps = {"f": np.eye(n), "Q f": random_rotation(n, rng), "shear of f": shear}
    weight = CONTROL_WEIGHT / world_scale(encoder)[0] ** 2
    pipelines = {
        name: _Pipeline(MappedEncoder(encoder, M), [h @ M.T for h in latents], data.actions, weight)
        for name, M in maps.items()
    }
    tests = pairs.options()[FIT_EPISODES:]
    costs, shown = {}, list[dict[str, Frames]]()
    for name in ("f", "Q f"):
        recorder = _Recorder(pipelines[name].agent)
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
    return tuple(levels)


class _Pipeline:
    """All that stands between frames and torques, fitted to one encoder's latents."""

    def __init__(self, encoder: Encoder, latents: list[Floats], actions: Any, weight: float) -> None:
        self.encoder = encoder
        self.dynamics: LinearDynamics = fit_dynamics(latents, actions)
        cost = QuadraticCost.goal_reaching(encoder.latent_dim, weight, action_dim=self.dynamics.action_dim)
        self.agent = PlanningAgent(encoder, self.dynamics, cost)
        self.estimator = build_estimator(self.dynamics, encoder.latent_dim)
        self.lqr = solve_lqr(self.dynamics, cost)
        self.mpc = build_mpc(MPCProblem(self.dynamics, cost, MPC_HORIZON))

    def replay(self, shown: list[dict[str, Frames]], actions: Floats) -> tuple[Floats, Floats]:
        """Torques (frames, m) of LQR and MPC for what was shown, with the actions (E, T, m) that were applied."""
        steps = actions.shape[1]
        seen = self.encoder(np.stack([row["observation"] for row in shown]))
        goals = self.encoder(np.stack([row["desired_goal"] for row in shown]))
        linear, planned = [], []
        mean = np.zeros((1, self.dynamics.state_dim))
        for i, (latent, goal) in enumerate(zip(seen, goals, strict=True)):
            episode, t = divmod(i, steps)
            if t:
                mean = self.estimator.update(mean, actions[episode, t - 1 : t], latent[None])
            else:
                mean = self.estimator.start(latent[None])
            linear.append(self.lqr.action(mean[0], goal).clip(-1, 1))
            planned.append(solve_mpc(self.mpc, mean[0], goal).actions[0])
        return np.array(linear), np.array(planned)
