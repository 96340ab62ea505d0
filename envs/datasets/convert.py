"""Convert datasets of episodes to and from HDF5 files and Minari's datasets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
from numpy.typing import NDArray

from worldplan.data import own
from worldplan.data.episodes import EpisodeDataset
from worldplan.data.saving import STATES, save_episodes
from worldplan.data.world_card import FRAME_SIZE, REACHER, WorldCard
from worldplan.envs.datasets.hdf5 import export_hdf5, has_columns, import_columns, import_hdf5
from worldplan.envs.datasets.minari_datasets import export_minari, import_minari, minari_provenance
from worldplan.envs.reacher import fingertip
from worldplan.envs.reacher_task import state_vector
from worldplan.errors import InvalidInput

_MINARI = "minari:"


def convert_episodes(
    source: str | Path,
    target: str | Path,
    *,
    frames: bool = False,
    test_share: float = 0.2,
    seed: int = 0,
    world: WorldCard | None = None,
    size: int = FRAME_SIZE,
) -> str:
    """Export a folder of episodes, or import into one; returns where the result is.

    Imported are files that worldplan exported, any Minari dataset whose observations are images, and HDF5 files of flat
    columns (`import_columns`). Episodes without pictures are those of the Reacher, whose frames are drawn later.

    Args:
        source: a folder, a file `*.hdf5` or `minari:<id>`.
        target: one of the other two kinds if the source is a folder, otherwise a new folder.
        frames: export the frames as observations, in place of the state vectors of `worldplan/Reacher-v0`; those of
            other worlds are always exported so.
        test_share: for imports, the probability that an episode belongs to the test split; the file does not tell.
        seed: for imports, the seed of the split.
        world: for imports of pictures, their world; None for the one that the file names, or one of its own, called as
            the file is.
        size: for imports of pictures without a world, pixels a side that they are resized to.

    Raises:
        InvalidInput: none or two of the ends are folders, or what is imported lacks qpos, qvel, target or rewards.
        BadFile: an end cannot be read, or was altered, or exists already.
    """
    ends = [str(source), str(target)]
    foreign = [e.startswith(_MINARI) or e.endswith((".hdf5", ".h5")) for e in ends]
    if sum(foreign) != 1:
        raise InvalidInput(f"one end must be a folder, the other a file *.hdf5 or {_MINARI}<id>; got {ends}")
    if foreign[0]:
        return str(_imported(ends[0], target, test_share, seed, world, size).folder)
    folder = EpisodeDataset(source)
    folder.verify()
    home = folder.world.name == REACHER.name
    data = folder.load(frames=frames or not home)
    if not frames and home:
        rows = zip(data.info["qpos"], data.info["qvel"], data.info["target"], strict=True)
        data = replace(data, frames=[state_vector(q, v, goal[:, :2] - fingertip(q)) for q, v, goal in rows])
    provenance = {"runs": folder.runs, "summary": folder.manifest["summary"], "sha256": folder.manifest_sha256}
    provenance |= {} if home else {"world": folder.world.to_dict()}
    if ends[1].startswith(_MINARI):
        task = folder.runs[0].get("task", "easy")
        env = gym.make("worldplan/Reacher-v0", task=task) if home and not frames else None
        export_minari(data, ends[1].removeprefix(_MINARI), env=env, provenance=provenance)
        return ends[1]
    return str(export_hdf5(data, target, provenance=provenance))


def _imported(
    source: str, target: str | Path, test_share: float, seed: int, world: WorldCard | None, size: int
) -> EpisodeDataset:
    minari = source.startswith(_MINARI)
    kept: dict[str, Any] = {"test_share": test_share, "seed": seed}
    kept["source"] = {"from": source if minari else Path(source).name}
    told: Any = None
    if minari:
        data, told = import_minari(source.removeprefix(_MINARI)), minari_provenance(source.removeprefix(_MINARI))
    elif Path(source).is_file() and has_columns(source):
        data = import_columns(source, size if world is None else world.size)
    else:
        data, told = import_hdf5(source)
    if set(STATES) <= set(data.info) or data.frames[0].ndim != 4:
        return save_episodes(data, target, **kept)
    record = told.get("world") if isinstance(told, Mapping) else None
    if world is None and record is not None:
        world = WorldCard.from_dict(record)
    name = re.sub(r"[^\w.-]+", "-", source.removeprefix(_MINARI) if minari else Path(source).stem)
    states = {
        key: [row.reshape(len(row), -1) for row in rows] for key, rows in data.info.items() if _numbers(key, rows)
    }
    if world is not None:
        wanted = {**world.states, **world.fixed}
        states = {key: rows for key, rows in states.items() if key in wanted}
        world = replace(
            world,
            states={key: width for key, width in world.states.items() if key in states},
            fixed={key: width for key, width in world.fixed.items() if key in states},
        )
    given: dict[str, Any] = {"rewards": list(data.rewards) or None, "states": states, "world": world}
    return own.save_episodes(target, data.frames, data.actions, name=name, size=size, **given, **kept)


def _numbers(name: str, rows: list[NDArray[Any]]) -> bool:
    """Whether these are numbers at every step, of one width, under a name that a state may have."""
    widths = {row.shape[1:] for row in rows}
    named = name.isidentifier() and name not in ("frames", "actions", "rewards", "expected")
    return named and len(widths) == 1 and len(next(iter(widths))) < 2 and all(row.dtype.kind in "fiub" for row in rows)
