"""Record episodes of the Reacher into a dataset: physics first, frames in a second pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldplan.arrays import finite_array
from worldplan.checks import checked_seed
from worldplan.data.episodes import FORMAT, EpisodeDataset
from worldplan.data.files import read_json
from worldplan.data.recipes import EpisodeConfig
from worldplan.data.shards import MANIFEST, UNFINISHED, ShardWriter, settle
from worldplan.data.trajectories import Trajectories
from worldplan.data.world_card import REACHER, WorldCard, same_world
from worldplan.envs.datasets.writing import episode_arrays, episode_facts, finish_episodes
from worldplan.envs.parallel import rollout_states
from worldplan.envs.rollout import Predictor
from worldplan.errors import InvalidInput
from worldplan.progress import Progress, silent

Policy = Callable[[int], Predictor]  # a policy whose drawn actions follow from this seed

SHARD = 32  # episodes a file
STATES = (*REACHER.states, *REACHER.fixed)


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
        BadFile: the folder holds a dataset (without `append`), or nothing that fits to resume.
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
    pick = list(zip(random.tolist(), rank.tolist(), strict=True))
    return _pick(parts, pick), random


def _pick(
    parts: Mapping[bool, Trajectories], rows: list[tuple[bool, int]], states: Sequence[str] = STATES
) -> Trajectories:
    """Episodes (part, number in it), in this order, with these states."""
    info = {name: [parts[p].info[name][k] for p, k in rows] for name in states}
    if any("expected" in part.info for part in parts.values()):  # random torques are 0 on average
        zero = {p: [np.zeros_like(q) for q in part.info["qpos"]] for p, part in parts.items()}
        info["expected"] = [parts[p].info.get("expected", zero[p])[k] for p, k in rows]
    return Trajectories(
        frames=[parts[p].frames[k] for p, k in rows],
        actions=[parts[p].actions[k] for p, k in rows],
        rewards=[parts[p].rewards[k] for p, k in rows],
        info=info,
    )


def save_episodes(
    data: Trajectories,
    folder: Path | str,
    *,
    world: WorldCard = REACHER,
    test_share: float = 0.2,
    seed: int = 0,
    source: dict[str, Any],
) -> EpisodeDataset:
    """Write episodes that came from elsewhere (`import_hdf5`, `import_minari`, a roll-out of your own).

    Args:
        data: needs in its `info` the states that the world's card names (the Reacher: `qpos`, `qvel` and `target`, 2, 2
            and 3 wide), actions as wide as the world's, rewards, and in other worlds than the Reacher frames.
        folder: a folder without a dataset.
        world: the world of the episodes.
        test_share: probability that an episode belongs to the test split.
        seed: seed of the split.
        source: provenance.

    Raises:
        InvalidInput: something is missing, has another shape or is not finite, what is fixed moves within an episode
            (the target), or a seed below 0.
        BadFile: the folder holds a dataset.
    """
    seed, drawn = checked_seed(seed), world is not REACHER
    wanted = {**world.states, **world.fixed}
    missing = [name for name in wanted if name not in data.info] + ["rewards"] * (not len(data.rewards))
    if missing:
        names = ", ".join(wanted)
        raise InvalidInput(f"need {names} and rewards of every step to keep episodes, {missing} are missing")
    widths = {name: {rows.shape[1:] for rows in data.info[name]} for name in wanted}
    acts = {rows.shape[1:] for rows in data.actions}
    if widths != {name: {(width,)} for name, width in wanted.items()} or acts != {(world.action_dim,)}:
        name = "the Reacher" if world is REACHER else world.name
        raise InvalidInput(f"these are no episodes of {name}: widths {widths}, actions {acts}")
    for name, rows in {"actions": data.actions, "rewards": data.rewards, **{n: data.info[n] for n in wanted}}.items():
        for k, row in enumerate(rows):
            finite_array(f"{name} of episode {k}", row)
    for name in world.fixed:
        moving = [k for k, rows in enumerate(data.info[name]) if np.ptp(rows, axis=0).any()]
        if moving:
            raise InvalidInput(f"the {name} moves within the episodes {moving[:5]}; one place an episode is kept")
    for k, frames in enumerate(data.frames if drawn else ()):
        if frames.dtype != np.uint8 or frames.shape[1:] != world.frame:
            raise InvalidInput(f"frames of episode {k} are {frames.dtype} {frames.shape[1:]}, not uint8 {world.frame}")
    run = {"seed": seed, "policy": None, "test_share": test_share, "imported": source}
    rng, head = np.random.default_rng(seed), {"world": world.to_dict()} if drawn else {}
    groups = [list(g) for _, g in itertools.groupby(range(len(data)), key=lambda k: len(data.actions[k]))]
    with ShardWriter(folder, {"save": run, **head}, FORMAT) as writer:
        for group in (g[i : i + SHARD] for g in groups for i in range(0, len(g), SHARD)):
            part = _pick({True: data}, [(True, k) for k in group], tuple(wanted))
            arrays: dict[str, NDArray[Any]] = dict(episode_arrays(part, world))
            arrays |= {"frames": np.stack(part.frames)} if drawn else {}
            writer.add(arrays, episode_facts(part, rng.random(len(group)) < test_share, None, world))
        if drawn:
            head["frames"] = {"look": world.name, "seed": seed, "nuisances": None}
        finish_episodes(writer, [run], world, **head)
    return EpisodeDataset(folder)


def interrupted(folder: Path | str) -> str:
    """Where recording into a folder stopped: while making `episodes` or `frames`, `between` the two, or `nothing`."""
    folder = Path(folder)
    if not settle(folder):
        return "frames" if "frames" in read_json(folder / UNFINISHED).get("recipe", {}) else "episodes"
    return "between" if (folder / MANIFEST).exists() else "nothing"
