"""Convert datasets of episodes to and from HDF5 files and Minari's datasets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gymnasium as gym

from worldplan.data.episodes import EpisodeDataset
from worldplan.data.world_card import REACHER, same_world
from worldplan.envs.datasets.episodes import save_episodes
from worldplan.envs.datasets.hdf5 import export_hdf5, import_hdf5
from worldplan.envs.datasets.minari_datasets import export_minari, import_minari
from worldplan.envs.reacher import fingertip
from worldplan.envs.reacher_task import state_vector
from worldplan.errors import InvalidInput

_MINARI = "minari:"


def convert_episodes(
    source: str | Path, target: str | Path, *, frames: bool = False, test_share: float = 0.2, seed: int = 0
) -> str:
    """Export a folder of episodes, or import into one; returns where the result is.

    Args:
        source: a folder, a file `*.hdf5` or `minari:<id>`.
        target: one of the other two kinds if the source is a folder, otherwise a new folder.
        frames: export the frames as observations, in place of the state vectors of `worldplan/Reacher-v0`.
        test_share: for imports, the probability that an episode belongs to the test split; the file does not tell.
        seed: for imports, the seed of the split.

    Raises:
        InvalidInput: none or two of the ends are folders, or what is imported lacks qpos, qvel, target or rewards.
        BadFile: an end cannot be read, or was altered, or exists already.
    """
    ends = [str(source), str(target)]
    foreign = [e.startswith(_MINARI) or e.endswith((".hdf5", ".h5")) for e in ends]
    if sum(foreign) != 1:
        raise InvalidInput(f"one end must be a folder, the other a file *.hdf5 or {_MINARI}<id>; got {ends}")
    if foreign[0]:
        data = import_minari(ends[0].removeprefix(_MINARI)) if ends[0].startswith(_MINARI) else import_hdf5(source)[0]
        name = Path(ends[0]).name if foreign[0] and not ends[0].startswith(_MINARI) else ends[0]
        return str(save_episodes(data, target, test_share=test_share, seed=seed, source={"from": name}).folder)
    folder = EpisodeDataset(source)
    same_world(str(source), folder.world, REACHER)
    folder.verify()
    data = folder.load(frames=frames)
    if not frames:
        rows = zip(data.info["qpos"], data.info["qvel"], data.info["target"], strict=True)
        data = replace(data, frames=[state_vector(q, v, goal[:, :2] - fingertip(q)) for q, v, goal in rows])
    provenance = {"runs": folder.runs, "summary": folder.manifest["summary"], "sha256": folder.manifest_sha256}
    if ends[1].startswith(_MINARI):
        task = folder.runs[0].get("task", "easy")
        env = None if frames else gym.make("worldplan/Reacher-v0", task=task)
        export_minari(data, ends[1].removeprefix(_MINARI), env=env, provenance=provenance)
        return ends[1]
    return str(export_hdf5(data, target, provenance=provenance))
