"""The pixel-exact level: the pipeline of a real encoder f, built from f and from `M f`, on the same frames.

Theorem 4 of Klindt, LeCun and Balestriero (2026, arXiv 2605.26379) says: for an orthogonal M all torques must agree,
whatever f is. On circles M has to be a symmetry (`random_symmetry`). This needs no identifiability. It finds every step
that does not turn with the latent, such as a ridge, a diagonal noise model, or clipping by coordinate. For a shear the
torques must differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from worldplan.agents.fitting import FRAME_STRIDE, find_charts, world_scale
from worldplan.agents.latent_controller import LatentController
from worldplan.agents.planning_agent import PlanningAgent
from worldplan.agents.quarter_turns import QuarterTurns, encode_turned, turn
from worldplan.arrays import Floats, Frames
from worldplan.data.trajectories import Trajectories
from worldplan.envs.reacher import CONTROL_WEIGHT, WRIST_LIMIT, ReacherGoal
from worldplan.envs.rollout import rollout
from worldplan.envs.tasks import Tasks, random_torques, sample_tasks
from worldplan.envs.world.goal_env import GoalEnv
from worldplan.envs.world.world import World
from worldplan.errors import EncoderCollapsed
from worldplan.eval.control.episodes import Recorder
from worldplan.eval.theorem4.levels import PixelLevel
from worldplan.learning.encoder import Encoder, encode, space_of
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import fit_dynamics
from worldplan.planning.rotation import random_symmetry
from worldplan.planning.space import LatentSpace

LQR_TOLERANCE, MPC_TOLERANCE = 1e-6, 1e-5  # torque, of 1
MPC_HORIZON = 15
SHEAR = 0.1
NEAR = 0.3  # radians from start to goal
LAG = 10  # steps over which displacements tell a coordinate's units
REACHABLE = np.array([np.inf, WRIST_LIMIT])


@dataclass(eq=False)
class MappedEncoder:
    """The encoder `M f`, turned on its circles by `offset` (n,) if that is given."""

    encoder: Encoder
    M: Floats
    offset: Floats | None = None

    def __post_init__(self) -> None:
        self.latent_dim = len(self.M)
        known = getattr(self.encoder, "space", None)
        own = known if isinstance(known, LatentSpace) and known.dim == self.latent_dim else None
        self.space: LatentSpace = own or LatentSpace.lines(self.latent_dim)

    def __call__(self, frames: Frames) -> Floats:
        """Latents (T, n) of frames (T, 64, 64, 3)."""
        return self.mapped(np.asarray(self.encoder(frames), dtype=np.float64))

    def mapped(self, latents: Floats) -> Floats:
        """Latents (T, n) of the encoder f as those of this one."""
        found = latents @ self.M.T
        return found if self.offset is None else self.space.wrap(found + self.offset)


def radians_per_unit(encoder: Encoder, data: Trajectories) -> float:
    """Radians per latent unit: 1 with circles, else from the encoder's card if it names one scale, or from spreads."""
    if not space_of(encoder).flat:
        return 1.0
    scales: list[float] = getattr(encoder, "card", {}).get("data", {}).get("world", {}).get("scale") or []
    if len(set(scales)) == 1:
        return float(scales[0])
    angles, latents = np.concatenate(data.info["qpos"]), np.concatenate([encoder(frames) for frames in data.frames])
    return float(np.sqrt(angles.var(axis=0).sum() / latents.var(axis=0).sum()))


@dataclass(frozen=True, eq=False)
class Units:
    """How the joints appear in a latent: coordinate k shows joint `order[k]`, one unit of it is `radians[k]`.

    Attributes:
        order: (n,) joints.
        radians: (n,), or one number for all.
    """

    order: NDArray[np.intp]
    radians: Floats

    def positions(self, angles: Floats) -> Floats:
        """Joint angles (..., n), radians, in the order and units of the latent."""
        return np.asarray(angles[..., self.order] / self.radians)


def units_of(encoder: Encoder, data: Trajectories) -> Units:
    """Order and units of an encoder's coordinates; for evaluation, since it reads joint angles.

    A latent of lines may be rotated: one scale for all joints. On circles and lines each coordinate shows one joint;
    the slope of its displacements against the joints' gives both.
    """
    space = space_of(encoder)
    if space.flat:
        return Units(np.arange(2), np.asarray(radians_per_unit(encoder, data)))
    latents = [space.unwrap(encoder(frames)) for frames in data.frames]
    moved, turned = (np.concatenate([x[LAG:] - x[:-LAG] for x in rows]) for rows in (latents, data.info["qpos"]))
    slopes = np.linalg.lstsq(turned, moved, rcond=None)[0]  # (joints, coordinates)
    order = np.abs(slopes).argmax(axis=0)
    return Units(order, 1.0 / np.abs(slopes[order, np.arange(len(order))]))


@dataclass(frozen=True)
class PixelConfig:
    """Amount of rendering for the levels that have an encoder; each number of steps is for one episode or path.

    Args:
        fit_episodes: random-torque episodes to which every pipeline is fitted.
        test_episodes: closed loops in which torques are compared.
        episodes: closed loops of the learned level.
        pairs: pairs of poses for the certificate's eps and delta.
        paths: paths for the certificate's measured loss.
    """

    fit_episodes: int = 30
    fit_steps: int = 25
    test_episodes: int = 3
    test_steps: int = 25
    episodes: int = 8
    steps: int = 60
    pairs: int = 600
    paths: int = 24
    path_steps: int = 30


@lru_cache(maxsize=1)
def torque_episodes(seed: int, profile: str, config: PixelConfig) -> Trajectories:
    """Random-torque episodes to which every pipeline of the verifier is fitted: frames and joint angles."""
    return random_torques(sample_tasks(config.fit_episodes, seed).starts, config.fit_steps, seed, profile=profile)


@dataclass(frozen=True, eq=False)
class Stage:
    """Where pipelines are compared: what they are fitted to, and where they act.

    Attributes:
        data: random episodes with frames, to which every pipeline is fitted.
        make: makes the environment of the closed loops.
        options: its reset options, one for each closed loop; None draws them.
        low: (m,) lowest actions.
        high: (m,) highest actions.
        weight: of a squared action, in squared latents of the encoder f, by f and its latents of `data`.
        turnable: frames in which charts are sought; None seeks none.
        cost: cost of each closed loop.
    """

    data: Trajectories
    make: Callable[[], gym.Env[Any, Any]]
    options: list[dict[str, Any]] | None
    low: Floats
    high: Floats
    weight: Callable[[Encoder, list[Floats]], float]
    turnable: Frames | None
    cost: Callable[[Trajectories], Floats]


def reacher_stage(seed: int, profile: str, config: PixelConfig) -> Stage:
    """The Reacher, with charts; weights in radians."""
    # Any shoulder angle, so that all charts come up; goals nearby, so that torques stay within their limits.
    poses = sample_tasks(config.test_episodes, seed + 1, "reset")
    near = (poses.starts + NEAR * sample_tasks(config.test_episodes, seed + 1).goals).clip(-REACHABLE, REACHABLE)
    data = torque_episodes(seed, profile, config)
    return Stage(
        data,
        partial(ReacherGoal, profile=profile),
        Tasks(poses.starts, near).options(),
        -np.ones(2),
        np.ones(2),
        lambda encoder, latents: CONTROL_WEIGHT / radians_per_unit(encoder, data) ** 2,  # torques are worth the same
        np.concatenate([frames[::FRAME_STRIDE] for frames in data.frames]),
        lambda run: np.array([-rewards.sum() for rewards in run.rewards]),
    )


def world_stage(world: World, seed: int, config: PixelConfig) -> Stage:
    """Any world: random episodes of its own exploration, and goals that it draws; costs are its errors if it judges."""
    env = GoalEnv(world)
    try:
        data = rollout(env, None, config.fit_episodes, seed, steps=config.fit_steps, exploration=world.exploration)
    finally:
        env.close()
    low, high = np.array(world.card.action_low), np.array(world.card.action_high)
    return Stage(
        data,
        partial(GoalEnv, world),
        None,
        low,
        high,
        lambda encoder, latents: CONTROL_WEIGHT / world_scale(encoder, latents, world.card)[0] ** 2,
        None,
        lambda run: np.array([np.sum(errors) for errors in run.info.get("error", [1.0])]),
    )


def pixel_levels(
    encoder: Encoder,
    seed: int = 0,
    profile: str = "dmc",
    config: PixelConfig | None = None,
    world: World | None = None,
) -> tuple[PixelLevel, ...]:
    """Compare the encoder f with `Q f` (Q random; circles are turned too) and with a shear of f.

    Dynamics, noise, filter, charts and planner are fitted to each map of the same random-torque frames. Torques are
    compared in float64, on the frames and actions of f's closed loops. Costs of f and `Q f` are compared in closed
    loops of their own. Charts change torques only where they choose another quarter turn, so their parameters are
    compared too. `world` is another one than the Reacher, which `profile` is of.

    Raises:
        InvalidInput: f is not an encoder, see `encode`, or its latents do not identify dynamics.
        EncoderCollapsed: f is constant on the frames.
    """
    config = config or PixelConfig()
    probe = ReacherGoal(profile=profile) if world is None else world.make()
    frame = probe.reset(seed=seed)[0]
    encode(encoder, (frame["observation"] if isinstance(frame, dict) else frame)[None], twice=True)  # before the rest
    probe.close()
    stage = reacher_stage(seed, profile, config) if world is None else world_stage(world, seed, config)
    data, tests = stage.data, stage.options
    latents = [encode(encoder, frames, twice=True) for frames in data.frames]
    spread = np.concatenate(latents).std(axis=0)
    if not (spread > 1e-9 * (1 + np.abs(np.concatenate(latents)).max())).all():
        raise EncoderCollapsed(f"a latent of the encoder is constant over {data.steps} frames (spread {spread})")
    n, rng = latents[0].shape[1], np.random.default_rng([seed, 2000])
    shear = (np.eye(n) + SHEAR * np.eye(n, k=1)) if n > 1 else (1 + SHEAR) * np.eye(1)
    space = space_of(encoder)
    maps = {"f": np.eye(n), "Q f": random_symmetry(space, rng), "shear of f": shear}
    # Where zero lies on a circle is free too. On lines the fit takes any offset up, which says nothing about plans.
    turned = None if space.flat else np.where(space.circles, rng.uniform(-np.pi, np.pi, n), 0.0)
    mapped = {name: MappedEncoder(encoder, M, turned if name == "Q f" else None) for name, M in maps.items()}
    weight = stage.weight(encoder, latents)
    pipelines = {
        name: _Pipeline(image, [image.mapped(h) for h in latents], stage, weight) for name, image in mapped.items()
    }
    costs, shown = {}, list[dict[str, Frames]]()
    env = stage.make()
    for name in ("f", "Q f"):
        recorder = Recorder(pipelines[name].agent)
        run = rollout(env, recorder, config.test_episodes, seed=seed + 1, steps=config.test_steps, options=tests)
        costs[name] = stage.cost(run)
        if name == "f":
            shown, actions = recorder.seen, np.stack(run.actions)
    env.close()
    torques = {name: pipeline.replay(shown, actions) for name, pipeline in pipelines.items()}
    cost_gap = float(np.abs(costs["Q f"] / costs["f"] - 1).max())
    half = (stage.high - stage.low) / 2.0
    levels = []
    for k, (planner, tolerance) in enumerate((("LQR", LQR_TOLERANCE), ("MPC", MPC_TOLERANCE))):
        gaps = {
            name: float((np.abs(torques[name][k] - torques["f"][k]) / half).max()) for name in ("Q f", "shear of f")
        }
        closed = cost_gap if planner == "LQR" else None
        levels.append(PixelLevel(f"Q f, {planner}", "accepted", len(shown), tolerance, gaps["Q f"], closed))
        levels.append(PixelLevel(f"shear of f, {planner}", "rejected", len(shown), tolerance, gaps["shear of f"], None))
    if stage.turnable is not None and pipelines["f"].charts is not None:
        gap = _chart_gap(pipelines["f"].charts, pipelines["Q f"].charts, maps["Q f"])
        levels.append(PixelLevel("Q f, charts", "accepted", len(stage.turnable), LQR_TOLERANCE, gap, None))
    return tuple(levels)


def _chart_gap(charts: QuarterTurns, turned: QuarterTurns | None, Q: Floats) -> float:
    """Distance of the charts of `Q f` from the turned charts of f, over the size of a quarter turn."""
    if turned is None:
        return float("inf")
    gaps = [np.linalg.norm(turned.shift - Q @ charts.shift), np.linalg.norm(turned.centre - Q @ charts.centre)]
    return float(max(gaps) / np.linalg.norm(charts.shift))


class _Pipeline:
    """Everything between frames and torques, fitted to one encoder's latents."""

    def __init__(self, encoder: Encoder, latents: list[Floats], stage: Stage, weight: float) -> None:
        self.encoder = encoder
        self.charts = None if stage.turnable is None else find_charts(encoder, stage.turnable)
        dynamics = fit_dynamics(latents, stage.data.actions, space=space_of(encoder))
        cost = QuadraticCost.goal_reaching(encoder.latent_dim, weight, action_dim=dynamics.action_dim)
        cost = replace(cost, R=cost.R / np.square((stage.high - stage.low) / 2.0))
        limits: dict[str, Any] = {"action_low": stage.low, "action_high": stage.high}
        self.agent = PlanningAgent(encoder, dynamics, cost, charts=self.charts, **limits)
        self.mpc = LatentController(
            dynamics,
            cost,
            encoder.latent_dim,
            "mpc",
            low=stage.low,
            high=stage.high,
            space=space_of(encoder),
            horizon=MPC_HORIZON,
        )

    def replay(self, shown: list[dict[str, Frames]], actions: Floats) -> tuple[Floats, Floats]:
        """Torques (frames, m) of LQR and MPC for what was shown, where the actions (E, T, m) were applied."""
        steps = actions.shape[1]
        frames, goals = (np.stack([row[key] for row in shown]) for key in ("observation", "desired_goal"))
        chart = np.zeros(len(shown), dtype=np.int64)
        if self.charts is not None:
            ends = (encode_turned(self.encoder, images[::steps]) for images in (frames, goals))
            chart = np.repeat(self.charts.choose(*ends), steps)
        seen, wanted = (encode(self.encoder, turn(images, chart)) for images in (frames, goals))
        episodes = seen.reshape(len(actions), steps, -1), wanted[::steps], actions
        controllers = (self.agent.controller, self.mpc)
        linear, planned = (c.replay(*episodes).reshape(len(shown), -1) for c in controllers)
        return linear, planned
