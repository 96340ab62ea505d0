"""Episodes to and from Minari's datasets of offline reinforcement learning (https://minari.farama.org)."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from worldplan.data.files import inside, read_json
from worldplan.data.trajectories import Trajectories
from worldplan.envs.datasets.hdf5 import (
    UNREADABLE,
    check_contained,
    check_harmless,
    flat_episodes,
    join_episodes,
    json_text,
)
from worldplan.errors import BadFile, InvalidInput

_COLUMNS = ("observations", "actions")


def export_minari(
    data: Trajectories,
    dataset_id: str,
    *,
    env: str | gym.Env[Any, Any] | None = "worldplan/Reacher-v0",
    provenance: Mapping[str, Any] | None = None,
    description: str | None = None,
    algorithm_name: str | None = None,
    author: str | None = None,
    author_email: str | None = None,
    code_permalink: str | None = None,
) -> Path:
    """Write a new local Minari dataset, which `minari.load_dataset(dataset_id)` opens; returns its folder.

    Every episode ends by truncation. Observations and actions get the types of their spaces, if that loses nothing.
    Images are stored as they are, not as JPEG, which is Minari's default. Minari keeps its datasets under
    `MINARI_DATASETS_PATH`, by default `~/.minari/datasets`.

    Args:
        data: the episodes, with rewards and one action or more each; they may differ in length.
        dataset_id: a name as Minari wants it, such as `reacher/random-v0`; must not exist yet.
        env: where the episodes were collected, by name or made with arguments such as `task="hard"`. The dataset takes
            its spaces from it, and `recover_environment` makes it again. None for unbounded spaces of the data's types.
        provenance: where the data came from, in JSON values: `dataset.storage.metadata["provenance"]`.
        description: description for Minari's metadata, as are the following.
        algorithm_name: what chose the actions.
        author: who collected the data.
        author_email: how to reach them.
        code_permalink: the code that collected the data.

    Raises:
        BadFile: the dataset exists.
        InvalidInput: a malformed id, data outside the spaces of `env`, spaces other than Box, episodes without rewards
            or actions, arrays of other than numbers, or provenance beyond JSON.
        OSError: it cannot be written, for example because the disk is full; nothing is left behind.
    """
    from minari import create_dataset_from_buffers
    from minari.data_collector import EpisodeBuffer

    path = _minari_folder(dataset_id)
    if path.exists():
        raise BadFile(path, f"dataset {dataset_id!r} already exists; choose another name or version, or delete it")
    metadata = {"provenance": json.loads(json_text(provenance))}
    if not len(data.rewards):
        raise InvalidInput("Minari needs a reward for every action; these episodes have none")
    try:
        world = gym.make(env) if isinstance(env, str) else env
    except gym.error.Error as error:
        raise InvalidInput(f"env cannot be made: {error}") from error
    episodes = list(flat_episodes(data))
    if world is None:
        space: dict[str, spaces.Space[Any]] = {name: _unbounded(episodes[0][name]) for name in _COLUMNS}
    else:
        space = {"observations": world.observation_space, "actions": world.action_space}
    buffers = []
    for k, episode in enumerate(episodes):
        steps = len(episode["actions"])
        if not steps:
            raise InvalidInput(f"Minari takes no episode without actions, and episode {k} has none")
        buffers.append(
            EpisodeBuffer(
                id=k,
                **{name: _rows_of(space[name], name, k, episode[name]) for name in _COLUMNS},
                rewards=episode["rewards"],
                terminations=np.zeros(steps, dtype=bool),
                truncations=np.arange(steps) == steps - 1,
                infos={name[6:]: rows for name, rows in episode.items() if name.startswith("infos/")},
            )
        )
    try:
        with warnings.catch_warnings():  # Minari misses what nobody gave: an author, a permalink, an environment
            warnings.filterwarnings("ignore", r"`\w+` is set to None|env_spec is None", UserWarning)
            dataset = create_dataset_from_buffers(
                dataset_id,
                buffers,
                env=world,
                observation_space=space["observations"],
                action_space=space["actions"],
                description=description,
                algorithm_name=algorithm_name,
                author=author,
                author_email=author_email,
                code_permalink=code_permalink,
                data_format="hdf5",
                jpeg_encoding=False,  # JPEG loses bits
            )
        dataset.storage.update_metadata(metadata)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return path


def import_minari(dataset_id: str) -> Trajectories:
    """Read a local Minari dataset, by worldplan or by others.

    Observations, rewards and infos keep their types; actions become float64, as in all trajectories. Whether an episode
    was terminated or truncated is not kept. `MINARI_DATASETS_PATH` says where to look, as for Minari.

    Raises:
        InvalidInput: a malformed id.
        BadFile: no such dataset, damaged, not HDF5, not Box spaces, or infos that are not T + 1 rows of numbers.
    """
    import h5py
    from minari import load_dataset

    path = _minari_folder(dataset_id) / "data"
    if not path.is_dir():
        raise BadFile(path, f"no such Minari dataset; see `minari list local`, or `minari download {dataset_id}`")
    metadata = read_json(path / "metadata.json")
    # Without spaces Minari would make the environment that the file names: any code at all. Other storages are untried.
    if not {"observation_space", "action_space"} <= metadata.keys() or metadata.get("data_format") != "hdf5":
        raise BadFile(path, "needs observation_space, action_space and data_format 'hdf5' in its metadata.json")
    numbers = inside(path, "main_data.hdf5")
    check_harmless(numbers)
    try:
        with h5py.File(numbers, "r") as file:
            check_contained(file)
        dataset = load_dataset(dataset_id)
        for name, space in zip(_COLUMNS, (dataset.observation_space, dataset.action_space), strict=True):
            if not isinstance(space, spaces.Box):
                raise BadFile(path, f"{name} are {space}; needed is one array a step, a gymnasium.spaces.Box")
        episodes = []
        for episode in dataset.iterate_episodes():
            arrays = {name: getattr(episode, name) for name in (*_COLUMNS, "rewards")}
            arrays |= {f"infos/{name}": rows for name, rows in (episode.infos or {}).items()}
            arrays["actions"] = arrays["actions"].astype(np.float64)
            episodes.append(arrays)
        return join_episodes(episodes)
    except UNREADABLE as error:
        raise BadFile(path, f"cannot be read as trajectories ({error})") from error


def minari_provenance(dataset_id: str) -> dict[str, Any]:
    """What `export_minari` recorded of a dataset's origin; nothing for a dataset of others."""
    told = read_json(_minari_folder(dataset_id) / "data" / "metadata.json").get("provenance")
    return told if isinstance(told, dict) else {}


def _minari_folder(dataset_id: str) -> Path:
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.storage import get_dataset_path

    try:
        parse_dataset_id(dataset_id)
    except (TypeError, ValueError) as error:  # TypeError: no version
        raise InvalidInput(f"dataset id {dataset_id!r} must be of the form reacher/random-v0") from error
    return Path(get_dataset_path(dataset_id))


def _unbounded(rows: NDArray[Any]) -> spaces.Box:
    """The space of all rows of this shape and type."""
    if rows.dtype.kind == "f":
        return spaces.Box(-np.inf, np.inf, rows.shape[1:], rows.dtype.type)
    limits = (0, 1) if rows.dtype.kind == "b" else (np.iinfo(rows.dtype).min, np.iinfo(rows.dtype).max)
    return spaces.Box(*limits, rows.shape[1:], rows.dtype.type)


def _rows_of(space: spaces.Space[Any], name: str, k: int, rows: NDArray[Any]) -> NDArray[Any]:
    """The rows in a space's type, if they lie in the space and lose nothing by the cast."""
    if not isinstance(space, spaces.Box):
        raise InvalidInput(f"{name} of env are {space}; needed is one array a step, a gymnasium.spaces.Box")
    with np.errstate(over="ignore", invalid="ignore"):  # what changes is refused below
        cast = rows.astype(space.dtype)
    if rows.shape[1:] != space.shape or not ((cast == rows) & (space.low <= cast) & (cast <= space.high)).all():
        raise InvalidInput(
            f"{name} of episode {k}, rows {rows.shape[1:]} of {rows.dtype}, do not lie in {space}; give the "
            "environment that they come from as env, or env=None"
        )
    return cast
