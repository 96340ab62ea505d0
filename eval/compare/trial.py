"""The trial of every encoder: the same frames to fit and to judge, the same pipeline on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from worldplan.agents.config import FitConfig
from worldplan.agents.fitting import FRAME_STRIDE, build_agent
from worldplan.agents.planning_agent import PlanningAgent
from worldplan.arrays import Floats, Frames, varies
from worldplan.data.trajectories import Trajectories
from worldplan.envs.fingerprint import check_encoder
from worldplan.envs.parallel import target_spheres
from worldplan.envs.reacher import CONTROL_WEIGHT
from worldplan.envs.tasks import Tasks, normal_poses, random_torques, sample_tasks
from worldplan.errors import EncoderCollapsed
from worldplan.eval.compare.config import CompareConfig
from worldplan.eval.compare.entrants import Entrant, examine
from worldplan.eval.compare.reduction import LinearReduction, ReducedEncoder, fit_reduction
from worldplan.eval.control.open_loop import OpenLoopRow, OpenLoopTask, Query, Scene
from worldplan.eval.identifiability.identify import gaussian_views
from worldplan.learning.encoder import Encoder, encode, space_of

JOINTS = 2
RHO, SCALE = 0.5, 0.7  # of the Gaussian world to judge in; at .7 rad no angle is ambiguous
FIT_STEPS = 60  # of a random-torque episode
CHECKED = 24  # frames on which an encoder is examined
_DOTS = 400  # latents of a figure


def open_loop_task(config: CompareConfig) -> OpenLoopTask:
    """Open-loop plans to decode: as many pairs as episodes."""
    return OpenLoopTask(
        config.episodes, libraries=config.libraries, seed=config.seed, profile=config.profile, target=config.target
    )


def torque_data(config: CompareConfig, pixels: bool = True) -> Trajectories:
    """The random-torque episodes that dynamics are fitted to, with frames or without."""
    starts = normal_poses((config.fit_episodes,), np.random.default_rng([config.seed, 0]))
    return random_torques(starts, FIT_STEPS, config.seed, profile=config.profile, target=config.target, pixels=pixels)


@dataclass(frozen=True, eq=False)
class SharedFrames:
    """Data shown to all encoders, drawn once.

    Attributes:
        pairs: start and goal poses of the episodes; `targets` (N, 3) are their target spheres.
        torques: random-torque episodes, with frames.
        states: (F, 2, 2) pairs of states z ~ N(0, I), correlated by `RHO`; joint angles are `SCALE` times that.
        frames: (F, 2, 64, 64, 3) of these states, target anywhere.
        plans: ends and library of open-loop plans.
    """

    pairs: Tasks
    targets: Floats
    torques: Trajectories
    states: Floats
    frames: Frames
    plans: Scene


@lru_cache(maxsize=1)
def shared_frames(config: CompareConfig) -> SharedFrames:
    """Roll out and draw all that the encoders share."""
    states, frames = gaussian_views(
        config.frame_pairs, scale=SCALE, rho=RHO, seed=config.seed, profile=config.profile, target=config.target
    )
    pairs = sample_tasks(config.episodes, config.seed, config.distribution)
    targets = target_spheres(config.episodes, config.seed, config.target)
    return SharedFrames(pairs, targets, torque_data(config), states, frames, open_loop_task(config).draw())


def figure_rows(episodes: Sequence[Floats]) -> Floats:
    """Some hundreds of rows, evenly spaced, of all episodes (T, k): the same of latents as of angles."""
    rows = np.concatenate(episodes)
    return np.asarray(rows[:: max(1, len(rows) // _DOTS)])


@dataclass(frozen=True, eq=False)
class Fitted:
    """An encoder with dynamics and planner on top.

    Attributes:
        agent: its encoder gives what is planned in: the latent, or its principal components.
        reduction: to the components; None where the latent is no wider than the world.
        scale: radians per latent unit.
        latents: E arrays (T + 1, k), of the random-torque frames.
        judged: (F, 2, k) of the Gaussian world's frames, in units in which their spread is that of the states.
    """

    agent: PlanningAgent
    reduction: LinearReduction | None
    scale: float
    latents: list[Floats]
    judged: Floats


def fit_entrant(entrant: Entrant, encoder: Encoder, shared: SharedFrames, planner: str = "lqr") -> Fitted:
    """Examine an encoder, then do what `fit_agent` does, on frames that are drawn already and in common units.

    The cost is `|h - g|^2 + (.1 / scale^2) |u|^2`. In the Gaussian world, `scale` gives the latent the spread of the
    joint angles. All encoders then trade torque for distance alike, whatever the units of their latents.

    Raises:
        InvalidInput: no frozen encoder of the world (see `examine`), or latents that do not identify dynamics.
        EncoderCollapsed: a constant encoder.
        NotStabilizable: no feedback stabilises what was fitted.
    """
    check_encoder(encoder)
    qpos = shared.torques.info["qpos"]
    shown = [entrant.shown(frames, angles) for frames, angles in zip(shared.torques.frames, qpos, strict=True)]
    apart = np.concatenate([frames[::FRAME_STRIDE] for frames in shown])
    examine(encoder, apart[:CHECKED], JOINTS)
    latents, reduction, space = [encode(encoder, frames) for frames in shown], None, space_of(encoder)
    if encoder.latent_dim > JOINTS and space.flat:  # a circle has no principal components
        reduction = fit_reduction(np.concatenate(latents), JOINTS)
        encoder, latents = ReducedEncoder(encoder, reduction), [reduction(h) for h in latents]
    angles, frames = SCALE * shared.states.reshape(-1, JOINTS), shared.frames.reshape(-1, *shared.frames.shape[2:])
    judged = space_of(encoder).chart(encode(encoder, entrant.shown(frames, angles)))
    if not varies(judged).any():
        raise EncoderCollapsed(f"the encoder is constant on {len(judged)} frames of the Gaussian world")
    scale = spread(angles) / spread(judged)  # radians per latent unit
    agent = build_agent(
        encoder,
        latents,
        replace(shared.torques, frames=shown),
        FitConfig(control_weight=CONTROL_WEIGHT, scale=scale, planner=planner),
    )
    return Fitted(agent, reduction, scale, latents, (judged * scale / SCALE).reshape(len(shared.states), 2, -1))


def open_loop(entrant: Entrant, encoder: Encoder, shared: SharedFrames) -> tuple[OpenLoopRow, ...]:
    """Open-loop control cost of what is planned in; `encoder` is that of `Fitted.agent`.

    Raises:
        InvalidInput: latents of another shape, or that are not finite.
    """
    truth, task = shared.plans.truth, shared.plans.task
    poses = zip(shared.plans.frames, (truth.starts, truth.goals, truth.library), strict=True)
    starts, goals, library = (encode(encoder, entrant.shown(frames, angles)) for frames, angles in poses)
    latent = Query(starts, goals, library, space_of(encoder))
    return tuple(task.rows(latent, entrant.name))


def spread(rows: Floats) -> float:
    """Root of the total variance of rows (N, k); a rotation does not change it."""
    return float(np.sqrt(rows.var(axis=0).sum()))
