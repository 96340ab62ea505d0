"""The run behind `worldplan plan`: reach goals, and record the outcome."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from worldplan.agents.planning_agent import AgentState, PlanningAgent
from worldplan.agents.quarter_turns import turn
from worldplan.arrays import Frames
from worldplan.data.trajectories import Trajectories
from worldplan.envs.fingerprint import check_encoder
from worldplan.envs.goal_image import GoalImage, read_goal_image
from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rollout import rollout
from worldplan.envs.tasks import Tasks, sample_tasks
from worldplan.eval.control.baselines import AGENT, RANDOM, REFERENCE, STILL
from worldplan.eval.control.episodes import (
    ControlSummary,
    Recorder,
    cost_ratios,
    evaluate_baselines,
    measure,
    summarise,
)
from worldplan.eval.control.timing import time_steps
from worldplan.eval.plan.config import PlanConfig
from worldplan.eval.plan.figure import draw_film, draw_plan
from worldplan.eval.plan.result import Episode, LatentSummary, PlanReport
from worldplan.eval.plan.writing import write_pictures
from worldplan.eval.show.film import encode_video
from worldplan.eval.statistics.estimate import estimate
from worldplan.learning.encoder import encode, space_of
from worldplan.learning.familiarity import warn_unfamiliar
from worldplan.progress import Progress, silent
from worldplan.provenance import provenance

FILMED = 6  # episodes whose frames are kept for figure and video


def plan_to_goals(
    agent: PlanningAgent,
    config: PlanConfig | None = None,
    *,
    name: str = "",
    progress: Progress = silent,
) -> PlanReport:
    """Let an agent reach goals from pixels, beside the true-state clipped LQR, random torques and standing still.

    All controllers run the same pairs with the same seeds. `name` is the agent's in the report.

    Raises:
        BadFile: the goal image is missing or no PNG.
        InvalidInput: the goal image has another size or colours, or a pose is out of range.
    """
    config = config or PlanConfig()
    goal = None if config.goal_image is None else read_goal_image(config.goal_image)
    if goal is not None:
        warn_unfamiliar(agent.encoder, goal)
    card = getattr(agent.encoder, "card", {})
    check_encoder(agent.encoder)
    pairs = tasks_of(config)
    env = GoalImage(ReacherGoal(**config.look), goal)
    episodes, runs = [], []
    for k in progress(iter(range(config.episodes)), config.episodes):
        watched = Recorder(agent)
        run = rollout(env, watched, 1, seed=config.seed + k, options=[pairs.options()[k]])
        episodes.append(_episode(agent, watched.states[-1], run, env.shown, goal is None, keep=k < FILMED))
        runs.append(replace(run, frames=[episodes[-1].latents]))  # the frames of many episodes would fill memory
    time = time_steps(agent, episodes[0].film, episodes[0].goal_image)
    controls: tuple[ControlSummary, ...] = ()
    distances: tuple[LatentSummary, ...] = ()
    if goal is None:
        results = {AGENT: measure(runs), **evaluate_baselines(pairs, config.seed, **config.look)}
        reference = results[REFERENCE]
        controls = tuple(summarise(name, result, reference) for name, result in results.items())
        ratios = [float(r) if np.isfinite(r) else None for r in cost_ratios(results[AGENT], reference)]
        episodes = [replace(e, cost_ratio=r) for e, r in zip(episodes, ratios, strict=True)]
    else:
        distances = _latent_distances(agent, config, pairs, episodes)
    about = {
        "name": name or type(agent).__name__,
        "encoder_sha256": card.get("sha256"),
        "planner": agent.planner,
        "options": {name: _told(value) for name, value in agent.options.items()},
    }
    return PlanReport(config, about, controls, distances, time, tuple(episodes))


def _told(option: Any) -> Any:
    """An option as JSON values: constraints are code, of which the name is told."""
    return getattr(option, "__qualname__", type(option).__qualname__) if callable(option) else option


def tasks_of(config: PlanConfig) -> Tasks:
    """Start and goal poses; those given in the config replace drawn ones."""
    tasks = sample_tasks(config.episodes, config.seed, config.distribution)
    for drawn, given in ((tasks.starts, config.start_qpos), (tasks.goals, config.goal_qpos)):
        if given is not None:
            drawn[:] = given
    return tasks


def write_plan(report: PlanReport, folder: Path | str, video: str = "gif", command: str = "") -> list[Path]:
    """Write `plan.json`, `plan.png` and `plan.gif` or `plan.mp4`, each whole or not at all; returns their paths.

    The folder is made if missing, and files of an earlier run are replaced. `video` is `gif`, `mp4` or `none`.
    `command` is recorded as provenance.

    Raises:
        MissingExtra: mp4 without the `video` extra.
    """
    films = {} if video == "none" else {f"plan.{video}": encode_video(draw_film(report), video)}
    pictures = {"plan.png": draw_plan(report), **films}  # all drawn before the first is written
    return write_pictures(folder, pictures, {**provenance(command, report.config.seed), **report.to_dict()})


def _episode(
    agent: PlanningAgent, last: AgentState, run: Trajectories, goal: Frames, known: bool, keep: bool
) -> Episode:
    info = {name: values[0] for name, values in run.info.items()}
    shown = np.concatenate([run.frames[0], goal[None]])
    chart = int(last.turns[0])
    latents = encode(agent.encoder, turn(shown, np.full(len(shown), chart)))
    space = space_of(agent.encoder)
    path = space.unwrap(latents[:-1])
    return Episode(
        start_qpos=info["qpos"][0],
        goal_qpos=info["goal_qpos"][0] if known else None,
        qpos=info["qpos"],
        actions=run.actions[0],
        latents=path,
        goal_latent=space.lift(latents[-1], path[-1]),  # the representative where the path ends
        tip_distance=info["tip_distance"] if known else None,
        success=bool(info["is_success"][-1]) if known else None,
        cost_ratio=None,
        chart=chart,
        fallbacks=int(last.fallbacks.sum()),
        goal_image=goal,
        frames=run.frames[0] if keep else None,
    )


def _latent_distances(
    agent: PlanningAgent, config: PlanConfig, pairs: Tasks, episodes: list[Episode]
) -> tuple[LatentSummary, ...]:
    """Final distances of the agent, random torques and standing still (no gravity: an arm at rest stays)."""
    env, goal = ReacherGoal(**config.look), episodes[0].goal_latent
    random = []
    for k, options in enumerate(pairs.options()):
        last = rollout(env, None, 1, seed=config.seed + k, options=[options]).frames[0][-1]
        random.append(np.linalg.norm(space_of(agent.encoder).difference(agent.encoder(last), goal)))
    ends = {
        AGENT: np.array([e.latent_distance[-1] for e in episodes]),
        RANDOM: np.array(random),
        STILL: np.array([e.latent_distance[0] for e in episodes]),
    }
    return tuple(LatentSummary(name, len(d), estimate(d, np.median)) for name, d in ends.items())
