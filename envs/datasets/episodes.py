"""Record episodes of the Reacher into a dataset: physics first, frames in a second pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldplan.checks import checked_seed
from worldplan.data.episodes import FORMAT, EpisodeDataset
from worldplan.data.files import read_json
from worldplan.data.recipes import EpisodeConfig
from worldplan.data.saving import SHARD, pick
from worldplan.data.shards import MANIFEST, UNFINISHED, ShardWriter, settle
from worldplan.data.trajectories import Trajectories
from worldplan.data.world_card import REACHER, same_world
from worldplan.data.writing import episode_arrays, episode_facts, finish_episodes
from worldplan.envs.parallel import rollout_states
from worldplan.envs.rollout import Predictor
from worldplan.errors import InvalidInput
from worldplan.progress import Progress, silent

Policy = Callable[[int], Predictor]  # a policy whose drawn actions follow from this seed


def run_record(
    config: EpisodeConfig, policy: Policy | None, seed: int, source: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What the manifest records of episodes made in this way, except the command line."""
    config = replace(config, random_share=1.0) if policy is None else config
    facts = asdict(config)
    if not config.noise:
        del facts["noise"]  # records from before there was noise are of the same run
    return {"seed": seed, "policy": source, **facts}


def record_episodes(
    policy: Policy | None,
    folder: Path | str,
    config: EpisodeConfig | None = None,
    *,
    seed: int = 0,
    source: dict[str, Any] | None = None,
    command: str = "",
    append: bool = False,
    resume: bool = False,
    progress: Progress = silent,
) -> EpisodeDataset:
    """Simulate episodes and write their states, actions and rewards. The bytes depend on the arguments alone.

    `policy` gives the policy for a seed, or is None for random torques only; `source` is its provenance (name,
    SHA-256). `config` is None for the defaults. `seed` decides starts, targets, torques and splits. `append` adds to
    the folder's dataset; if that has frames, `draw_frames` must draw all anew. The other arguments are those of
    `collect_pairs`.

    Raises:
        BadFile: the folder holds a dataset (without `append`), or unfinished work of other options.
        InvalidInput: the same run appended to itself, or a seed below 0.
    """
    seed, config = checked_seed(seed), config or EpisodeConfig()
    run = run_record(config, policy, seed, source)
    settled = settle(folder)
    before = EpisodeDataset(folder) if append or (resume and settled and (Path(folder) / MANIFEST).exists()) else None
    if before:
        same_world(f"the dataset in {folder}", before.world, REACHER)
    runs = before.runs if before else []
    made = [{k: v for k, v in r.items() if k != "command"} == run for r in runs]
    if before and resume and settled and made[-1:] == [True]:
        return before
    if append and any(made):
        raise InvalidInput(f"{folder} already holds these very episodes; append with another --seed")
    recipe: dict[str, Any] = {"record": run, "after": runs if append else []}
    onto = before.shards if before and append else None
    sizes = [min(SHARD, config.episodes - start) for start in range(0, config.episodes, SHARD)]
    with ShardWriter(folder, recipe, FORMAT, resume=resume, onto=onto) as writer:
        todo = list(zip(sizes, np.random.SeedSequence(seed).spawn(len(sizes)), strict=True))[writer.done :]
        for size, child in progress(iter(todo), len(todo)):
            data, random = _simulate(policy, size, child, config)
            rng = np.random.default_rng(child.spawn(1)[0])
            writer.add(episode_arrays(data), episode_facts(data, rng.random(size) < config.test_share, random))
        finish_episodes(writer, [*recipe["after"], {**run, "command": command}])
    return EpisodeDataset(folder)


def _simulate(
    policy: Policy | None, size: int, child: np.random.SeedSequence, config: EpisodeConfig
) -> tuple[Trajectories, NDArray[np.bool_]]:
    rng = np.random.default_rng(child)
    random = rng.random(size) < (1.0 if policy is None else config.random_share)
    seeds = [int(s) for s in rng.integers(2**31, size=3)]
    parts: dict[bool, Trajectories] = {}
    for chosen in (True, False):
        count = int((random == chosen).sum())
        if count:
            agent = None if chosen or policy is None else policy(seeds[2])
            parts[chosen] = rollout_states(
                agent, count, seeds[chosen], task=config.task, steps=config.steps, deterministic=config.deterministic
            )
    rank = np.where(random, random.cumsum(), (~random).cumsum()) - 1
    return pick(parts, list(zip(random.tolist(), rank.tolist(), strict=True))), random


def interrupted(folder: Path | str) -> str:
    """Where recording into a folder stopped: while making `episodes` or `frames`, `between` the two, or `nothing`."""
    folder = Path(folder)
    if not settle(folder):
        return "frames" if "frames" in read_json(folder / UNFINISHED).get("recipe", {}) else "episodes"
    return "between" if (folder / MANIFEST).exists() else "nothing"
