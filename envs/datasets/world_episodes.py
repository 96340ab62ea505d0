"""Record episodes of random actions in any world, with their frames."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldplan.checks import checked_seed
from worldplan.data.episodes import FORMAT, EpisodeDataset
from worldplan.data.recipes import Exploration, WorldEpisodes
from worldplan.data.shards import MANIFEST, ShardWriter, settle
from worldplan.data.trajectories import Trajectories
from worldplan.data.world_card import WorldCard
from worldplan.data.writing import episode_arrays, episode_facts, finish_episodes
from worldplan.envs.rollout import rollout
from worldplan.envs.workers import worker_pool
from worldplan.envs.world.world import World
from worldplan.errors import BadFile, InvalidInput
from worldplan.progress import Progress, silent

SHARD = 16  # episodes a file
HOLDS = 1, 2, 4, 8, 16, 32  # steps, among which `choose_hold` chooses
TRIED, LASTING, APART = 4, 96, 32  # episodes for each hold, their steps, and the steps between two frames
ENOUGH = 0.9  # of the most that any hold moves


def record_world(
    world: World,
    folder: Path | str,
    config: WorldEpisodes | None = None,
    *,
    seed: int = 0,
    processes: int = 1,
    command: str = "",
    resume: bool = False,
    progress: Progress = silent,
) -> EpisodeDataset:
    """Act at random in a world, and write frames, actions, rewards and true states.

    The bytes depend on the arguments alone, not on `processes`. The arguments are those of `collect_pairs`.

    Raises:
        BadFile: the folder holds a dataset, or unfinished work of other options.
        InvalidInput: an episode ended early, frames never change, a reward is not finite, a reset ignores its seed, or
            a seed below 0.
    """
    seed, config = checked_seed(seed), config or WorldEpisodes()
    run = {"seed": seed, "policy": None, **asdict(config)}
    facts = world.card.to_dict()
    if resume and settle(folder) and (Path(folder) / MANIFEST).exists():
        made = EpisodeDataset(folder)
        if [{k: v for k, v in r.items() if k != "command"} for r in made.runs] == [run] and made.world == world.card:
            return made
        raise BadFile(folder, "holds other episodes; choose another --out")
    sizes = [min(SHARD, config.episodes - start) for start in range(0, config.episodes, SHARD)]
    children = np.random.SeedSequence(seed).spawn(len(sizes))
    with ShardWriter(folder, {"record": run, "world": facts}, FORMAT, resume=resume) as writer:
        if not writer.done:
            _check_reset(world)
        with worker_pool(processes, torch=False) as start:
            todo = list(zip(sizes, children, strict=True))[writer.done :]
            results = [start(_episodes, world, config, size, child) for size, child in todo]
            for result in progress(iter(results), len(results)):
                data, test = result()
                frames = {"frames": np.stack(data.frames)}
                writer.add({**episode_arrays(data, world.card), **frames}, episode_facts(data, test, None, world.card))
        drawn = {"look": world.card.name, "seed": seed, "nuisances": None}
        finish_episodes(writer, [{**run, "command": command}], world.card, world=facts, frames=drawn)
    return EpisodeDataset(folder)


def choose_hold(world: World, seed: int = 0) -> tuple[int, dict[int, float]]:
    """How long to hold random actions, so that a plant moves: the hold, and what each one of `HOLDS` moves.

    What it moves is the mean absolute difference of pixels, of 255, over 32 steps, in four episodes. The least hold
    that moves nearly as much as any is taken: the shorter, the more actions there are to learn from.

    Raises InvalidInput if nothing moves, whatever the hold.
    """
    moved = {}
    for hold in HOLDS:
        env = world.make()
        try:
            data = rollout(env, None, TRIED, seed=seed, steps=LASTING, exploration=Exploration(hold))
        finally:
            env.close()
        apart = [np.abs(f[APART:].astype(np.int16) - f[:-APART]).mean() for f in data.frames if len(f) > APART]
        moved[hold] = float(np.mean(apart)) if apart else 0.0
    most = max(moved.values())
    if not most > 0.0:
        raise InvalidInput(f"no frame of {world.card.name} changes, whatever the hold: no camera sees what moves")
    return next(hold for hold in HOLDS if moved[hold] >= ENOUGH * most), moved


def _episodes(
    world: World, config: WorldEpisodes, size: int, child: np.random.SeedSequence
) -> tuple[Trajectories, NDArray[np.bool_]]:
    """A shard's episodes, and which of them are for testing."""
    rng = np.random.default_rng(child)
    how, env = Exploration(config.hold, config.memory, config.strength), world.make()
    try:
        data = rollout(env, None, size, seed=int(rng.integers(2**31)), steps=config.steps, exploration=how)
    finally:
        env.close()
    _check(data, config, world.card)
    return data, rng.random(size) < config.test_share


def _check(data: Trajectories, config: WorldEpisodes, world: WorldCard) -> None:
    """Refuse episodes from which nothing could be learned, as soon as they are there."""
    short = min(len(u) for u in data.actions)
    if short < config.steps:
        raise InvalidInput(
            f"an episode of {world.name} ended after {short} of {config.steps} steps; collect with --steps {short} or "
            "less, or make the environment without termination and with a longer limit"
        )
    if not all(np.isfinite(r).all() for r in data.rewards):
        raise InvalidInput(f"{world.name} gives rewards that are not finite; mend its step(), or wrap it")
    if any(f.shape[1:] != world.frame for f in data.frames):
        raise InvalidInput(f"{world.name} shows frames of other sizes than {world.frame}; mend its render()")
    if not any((f != f[:1]).any() for f in data.frames):
        raise InvalidInput(f"the frames of {world.name} never change: no camera sees what the actions move")
    told = {name: {i.shape[1:] for i in data.info.get(name, [])} for name in world.states}
    changing = [name for name, width in world.states.items() if told[name] != {(width,)}]
    if changing:
        raise InvalidInput(f"{world.name} tells {', '.join(changing)} at some steps alone; leave it out of its info")


def _check_reset(world: World) -> None:
    """Warn of a world whose `reset` ignores the seed: no run could be repeated."""
    env = world.make()
    try:
        first, second = (env.reset(seed=7)[0] for _ in range(2))
    finally:
        env.close()
    if not np.array_equal(first, second):
        warnings.warn(
            f"two resets of {world.card.name} with one seed show different frames; pass the seed on in its reset(), or "
            "no run can be repeated",
            stacklevel=3,
        )
