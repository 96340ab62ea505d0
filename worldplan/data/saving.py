"""Write episodes that are in memory as a dataset."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldplan.arrays import finite_array
from worldplan.checks import checked_seed
from worldplan.data.episodes import FORMAT, EpisodeDataset
from worldplan.data.shards import ShardWriter
from worldplan.data.trajectories import Trajectories
from worldplan.data.world_card import REACHER, WorldCard
from worldplan.data.writing import episode_arrays, episode_facts, finish_episodes
from worldplan.errors import InvalidInput

SHARD = 32  # episodes a file
STATES = (*REACHER.states, *REACHER.fixed)


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
    share = finite_array("test_share", test_share)
    if share.shape != () or not 0.0 <= share <= 1.0:
        raise InvalidInput(f"test_share must be a number in [0, 1], got {test_share!r}")
    run = {"seed": checked_seed(seed), "policy": None, "test_share": test_share, "imported": source}
    rng, head = np.random.default_rng(seed), {"world": world.to_dict()} if drawn else {}
    groups = [list(g) for _, g in itertools.groupby(range(len(data)), key=lambda k: len(data.actions[k]))]
    with ShardWriter(folder, {"save": run, **head}, FORMAT) as writer:
        for group in (g[i : i + SHARD] for g in groups for i in range(0, len(g), SHARD)):
            part = pick({True: data}, [(True, k) for k in group], tuple(wanted))
            arrays: dict[str, NDArray[Any]] = dict(episode_arrays(part, world))
            arrays |= {"frames": np.stack(part.frames)} if drawn else {}
            writer.add(arrays, episode_facts(part, rng.random(len(group)) < test_share, None, world))
        if drawn:
            head["frames"] = {"look": world.name, "seed": seed, "nuisances": None}
        finish_episodes(writer, [run], world, **head)
    return EpisodeDataset(folder)


def pick(
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
