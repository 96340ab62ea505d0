"""Positive-pair datasets on disk: memory-mapped shards of frames under a hashed JSON manifest.

`frames-00000.npy` (N, V, 64, 64, 3) uint8, ...; `labels-00000.npy` (N, V, 2) float64 joint angles only when the
dataset was made with labels. `PairDataset` opens frames and nothing else, so training cannot see an angle.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from worldplan.errors import BadFile, InvalidInput
from worldplan.files import atomic_write, read_json, sha256, write_json

MANIFEST = "manifest.json"
_FORMAT = 1


class PairWriter:
    """Writes a dataset shard by shard; it exists for readers once `finish` has written the manifest.

    Args:
        folder: where to; must not hold a dataset yet.

    Raises:
        BadFile: the folder holds a finished dataset.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if (self.folder / MANIFEST).exists():
            raise BadFile(self.folder, "already holds a dataset; choose another folder or delete it")
        self._shards: list[dict[str, Any]] = []

    def add(self, frames: NDArray[np.uint8], labels: NDArray[np.float64] | None = None) -> None:
        """Write one shard: frames (N, V, 64, 64, 3), labels (N, V, 2) or None."""
        index = len(self._shards)
        shard: dict[str, Any] = {"shape": list(frames.shape)}
        for kind, array in (("frames", frames), ("labels", labels)):
            if array is not None:
                name = f"{kind}-{index:05d}.npy"
                with atomic_write(self.folder / name) as stream:
                    np.save(stream, array)
                shard[kind] = {"file": name, "sha256": sha256(self.folder / name)}
        self._shards.append(shard)

    def finish(self, provenance: dict[str, Any]) -> None:
        """Write the manifest: the shards, their hashes, and where the data came from."""
        body = {"format": _FORMAT, "shards": self._shards, "provenance": provenance}
        write_json(self.folder / MANIFEST, {**body, "sha256": _digest(body)})


class PairDataset:
    """Frames of a dataset of positive pairs, memory-mapped.

    Raises:
        BadFile: manifest or shard is missing, cut off or altered. (Shard hashes are compared by `verify`, since that
            reads every byte; opening compares the manifest's own hash, names, shapes and sizes.)
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.manifest = read_json(self.folder / MANIFEST)
        digest = self.manifest.pop("sha256", None)
        if self.manifest.get("format") != _FORMAT or digest != _digest(self.manifest):
            raise BadFile(self.folder / MANIFEST, "was altered or is of another format; collect the dataset again")
        self.manifest_sha256: str = digest
        self.provenance: dict[str, Any] = self.manifest["provenance"]
        self._shards = [
            _open(self.folder / s["frames"]["file"], tuple(s["shape"]), np.uint8) for s in self.manifest["shards"]
        ]
        if not self._shards:
            raise BadFile(self.folder, "holds no shard")
        self._starts = np.cumsum([0] + [len(s) for s in self._shards])

    def __len__(self) -> int:
        """Number of pairs."""
        return int(self._starts[-1])

    @property
    def views(self) -> int:
        """Views per pair, V."""
        return int(self._shards[0].shape[1])

    def __getitem__(self, index: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Frames (len(index), V, 64, 64, 3) of the pairs `index`."""
        index = np.asarray(index)
        if index.ndim != 1 or (len(index) and index.dtype.kind not in "iu"):
            raise InvalidInput(f"index must be a 1-d array of integers, got {index.dtype} {index.shape}")
        if len(index) and not 0 <= index.min() <= index.max() < len(self):
            raise InvalidInput(f"index must lie within [0, {len(self)})")
        shard = np.searchsorted(self._starts, index, side="right") - 1
        out = np.empty((len(index), *self._shards[0].shape[1:]), dtype=np.uint8)
        for s in np.unique(shard):
            rows = np.flatnonzero(shard == s)
            out[rows] = self._shards[s][index[rows] - self._starts[s]]
        return out

    def verify(self) -> None:
        """Read every shard and compare its SHA-256 with the manifest.

        Raises:
            BadFile: a shard differs or is gone.
        """
        for shard in self.manifest["shards"]:
            path = self.folder / shard["frames"]["file"]
            _check(path, shard["frames"]["sha256"])


def load_labels(folder: Path | str) -> NDArray[np.float64]:
    """Joint angles (N, V, 2), radians, of a dataset made with labels: for evaluation only.

    Raises:
        BadFile: the dataset was made without labels, or they are missing or altered.
    """
    dataset = PairDataset(folder)
    shards = dataset.manifest["shards"]
    if not all("labels" in s for s in shards):
        raise BadFile(folder, "was collected without labels; collect it again with --with-labels")
    for shard in shards:
        _check(dataset.folder / shard["labels"]["file"], shard["labels"]["sha256"])
    return np.concatenate(
        [_open(dataset.folder / s["labels"]["file"], (*s["shape"][:2], 2), np.float64) for s in shards]
    )


def _open(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    try:
        array: NDArray[Any] = open_memmap(path, mode="r")  # reads .npy alone, and never a pickled object
    except (OSError, ValueError, EOFError) as error:
        raise BadFile(path, f"is missing, cut off or no .npy file ({error}); collect the dataset again") from error
    if array.shape != shape or array.dtype != dtype:
        found, wanted = f"{array.dtype} {array.shape}", f"{np.dtype(dtype)} {shape}"
        raise BadFile(path, f"holds {found}, the manifest says {wanted}; collect the dataset again")
    return array


def _check(path: Path, digest: str) -> None:
    if not path.is_file() or sha256(path) != digest:
        raise BadFile(path, "is missing or was altered since it was collected; collect the dataset again")


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
