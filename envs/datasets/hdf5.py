"""Episodes to and from plain HDF5 files, and what all such formats share."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldplan.data.files import atomic_write
from worldplan.data.pictures import square_frames
from worldplan.data.trajectories import Trajectories
from worldplan.errors import BadFile, InvalidInput

Arrays = dict[str, NDArray[Any]]  # one episode: `observations`, `actions`, `rewards` if any, `infos/<name>`

_FORMAT = "worldplan trajectories 1"
_DEFLATE = 1032  # bytes that gzip can make of one
_MARKS = "ep_len", "ep_offset"
_COLUMNS = ("pixels", "action", "reward", *_MARKS, "actions", "rewards", "frames", "expected")  # are no states
_NUMBERS = "biuf"  # NumPy's kinds: booleans, integers, floats; up to 64 bits, since wider floats are not portable
# What h5py and Minari raise on files that are damaged or not what they seem; InvalidInput is a ValueError.
UNREADABLE = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError)


def export_hdf5(data: Trajectories, path: Path | str, *, provenance: Mapping[str, Any] | None = None) -> Path:
    """Write episodes to a new HDF5 file, every array in its own type; returns the path.

    Group `episode_<k>` holds `observations` (T + 1, ...), `actions` (T, m), `rewards` (T,) if there are any, and
    `infos/<name>` (T + 1, ...). Minari uses the same names. Arrays are compressed by gzip, with checksums. The file has
    the attributes `format`, `episodes` (how many) and `provenance` (JSON text). The same data give the same bytes.

    Args:
        data: the episodes; they may differ in length.
        path: a file that does not exist yet; it appears whole or not at all.
        provenance: where the data came from, in JSON values.

    Raises:
        BadFile: the file exists.
        InvalidInput: an array of other than numbers, an info name that HDF5 cannot hold, or provenance beyond JSON.
        OSError: it cannot be written, for example because the disk is full.
    """
    import h5py

    path = Path(path)
    if path.exists():
        raise BadFile(path, "already exists; choose another name or delete it")
    note = json_text(provenance)
    image = io.BytesIO()  # HDF5 goes back and forth while it writes, and a full disk would leave it in pieces
    with h5py.File(image, "w") as file:
        file.attrs.update({"format": _FORMAT, "episodes": len(data), "provenance": note})
        for k, episode in enumerate(flat_episodes(data)):
            for name, rows in episode.items():
                file.create_dataset(f"episode_{k}/{name}", data=rows, compression="gzip", shuffle=True, fletcher32=True)
    with atomic_write(path) as stream:
        stream.write(image.getbuffer())
    return path


def import_hdf5(path: Path | str) -> tuple[Trajectories, dict[str, Any]]:
    """Read what `export_hdf5` wrote: the episodes, bit by bit, and their provenance.

    Raises BadFile if there is no such file, or it is damaged, of another layout, or has other data than numbers in it.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise BadFile(path, "no such file")
    check_harmless(path)
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != _FORMAT:
                raise BadFile(path, f"is HDF5, but not in the layout {_FORMAT!r} that export_hdf5 writes")
            check_contained(file)
            provenance = json.loads(file.attrs["provenance"])
            episodes = [_read_group(file[f"episode_{k}"]) for k in range(int(file.attrs["episodes"]))]
        return join_episodes(episodes), provenance
    except UNREADABLE as error:
        raise BadFile(path, f"is no HDF5 file or damaged ({error}); export it again") from error


def import_columns(path: Path | str, size: int) -> Trajectories:
    """Read an HDF5 file of flat columns, as LeWorldModel's datasets are: one row for every frame of every episode.

    `pixels` (N, H, W, 3) uint8, `action` (N, m), `ep_len` (E,) and `ep_offset` (E,), the row at which an episode
    starts. The action of an episode's last row led nowhere, and is left out. `reward` (N,) is read if it is there, and
    every other column of N rows of numbers as a state. The file is read an episode at a time, for its size.

    Args:
        path: the file.
        size: pixels a side that frames are resized to.

    Raises:
        BadFile: there is no such file, or it is damaged, of another layout, or episodes lie outside the rows.
    """
    import h5py

    path = Path(path)
    check_harmless(path)
    try:
        with h5py.File(path, "r") as file:
            check_contained(file)
            lengths, starts = (np.asarray(file[name][()]).astype(np.int64).ravel() for name in _MARKS)
            count = len(file["pixels"])
            if not len(lengths) or len(lengths) != len(starts) or (lengths < 2).any() or (starts < 0).any():
                raise InvalidInput("needed are ep_len and ep_offset of the same length, of episodes of 2 rows or more")
            if (starts + lengths > count).any() or len(file["action"]) != count:
                raise InvalidInput(f"episodes end beyond the {count} rows, or there are other numbers of actions")
            told = [name for name in file if name not in _COLUMNS and _tells(file[name], count)]
            rows = [slice(start, start + length) for start, length in zip(starts, lengths, strict=True)]
            frames = [square_frames(file["pixels"][r], size, f"pixels of episode {k}") for k, r in enumerate(rows)]
            actions = [_floats(file["action"], r)[:-1] for r in rows]
            paid = [_floats(file["reward"], r)[:-1, 0] for r in rows] if "reward" in file else []
            info = {name: [_floats(file[name], r) for r in rows] for name in told}
        return Trajectories(frames, actions, paid, info)
    except UNREADABLE as error:
        raise BadFile(path, f"is no HDF5 file of flat columns, or damaged ({error})") from error


def has_columns(path: Path | str) -> bool:
    """Whether this is an HDF5 file of flat columns: `pixels`, `action`, `ep_len` and `ep_offset`."""
    import h5py

    check_harmless(Path(path))
    try:
        with h5py.File(path, "r") as file:
            return {"pixels", "action", *_MARKS} <= set(file)
    except UNREADABLE:
        return False


def _floats(column: Any, rows: slice) -> NDArray[np.float64]:
    """Some rows of a column, (T, width)."""
    found = np.asarray(column[rows], dtype=np.float64)
    return found.reshape(len(found), -1)


def _tells(item: Any, count: int) -> bool:
    """Whether a column holds numbers of every row."""
    import h5py

    numbers = isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu" and item.ndim in (1, 2)
    return numbers and item.shape[0] == count and item.name.rpartition("/")[2].isidentifier()


def flat_episodes(data: Trajectories) -> Iterator[Arrays]:
    """One dictionary of arrays for each episode."""
    columns = {"observations": data.frames, "actions": data.actions}
    columns |= {"rewards": data.rewards} if len(data.rewards) else {}
    for name, column in data.info.items():
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise InvalidInput(f"info {name!r}: names here are letters, digits, _, . and - only; rename it")
        columns[f"infos/{name}"] = column
    for k in range(len(data)):
        episode = {name: np.asarray(column[k]) for name, column in columns.items()}
        _check_numbers(episode)
        yield episode


def join_episodes(episodes: list[Arrays]) -> Trajectories:
    """The inverse of `flat_episodes`. Raises InvalidInput if the episodes do not fit together."""
    names = set(episodes[0]) if episodes else set()
    for k, episode in enumerate(episodes):
        if set(episode) != names or not {"observations", "actions"} <= names:
            raise InvalidInput(f"episode {k} holds {sorted(episode)}, episode 0 {sorted(names)}")
        _check_numbers(episode)

    def column(name: str) -> list[NDArray[Any]]:
        return [episode[name] for episode in episodes if name in episode]

    info = {name[6:]: column(name) for name in sorted(names) if name.startswith("infos/")}
    return Trajectories(column("observations"), column("actions"), column("rewards"), info)


def json_text(provenance: Mapping[str, Any] | None) -> str:
    """Provenance as JSON. Raises InvalidInput for values that JSON cannot hold."""
    try:
        return json.dumps(dict(provenance or {}), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"provenance must be what JSON can hold: {error}") from error


def check_harmless(path: Path) -> None:
    """Let another process read an HDF5 file first. Raises BadFile if that process dies."""
    command = [sys.executable, "-I", str(Path(__file__).with_name("hdf5_trial.py")), str(path)]
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    if ended.returncode < 0:
        raise BadFile(path, f"is damaged: HDF5 dies of it (signal {-ended.returncode}); export it again")


def check_contained(group: Any, seen: set[int] | None = None) -> None:
    """Walk a group of an open HDF5 file before anything in it is read.

    Raises InvalidInput for links (they may lead to other files), for arrays that are kept in other files, and for
    arrays whose size the bytes that are stored cannot hold.
    """
    import h5py

    seen = set() if seen is None else seen
    for name in group:
        where = f"{group.name.rstrip('/')}/{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise InvalidInput(f"{where} is a link; needed is what it leads to")
        item = group[name]
        address = h5py.h5o.get_info(item.id).addr
        if address in seen:
            continue
        seen.add(address)
        if isinstance(item, h5py.Group):
            check_contained(item, seen)
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise InvalidInput(f"{where} is kept in another file")
            stored = item.id.get_storage_size()
            if item.dtype.kind in _NUMBERS and item.nbytes > _DEFLATE * stored:
                raise InvalidInput(f"{where} says {item.nbytes:,} bytes, which the {stored:,} stored cannot hold")


def _read_group(group: Any) -> Arrays:
    """The arrays of an episode's group, read only after a check that they are numbers."""
    items = {name: group[name] for name in ("observations", "actions", "rewards") if name in group}
    items |= {f"infos/{name}": item for name, item in group.get("infos", {}).items()}
    for name, item in items.items():
        if item.dtype.kind not in _NUMBERS:
            raise InvalidInput(f"{group.name}/{name} is {item.dtype}; needed are numbers")
    return {name: item[()] for name, item in items.items()}


def _check_numbers(episode: Arrays) -> None:
    for name, rows in episode.items():
        dtype = np.asarray(rows).dtype
        if dtype.kind not in _NUMBERS or dtype.itemsize > 8:
            raise InvalidInput(f"{name} must be an array of booleans or of numbers up to 64 bits, got {dtype}")
