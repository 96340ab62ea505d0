"""Positive-pair datasets on disk: memory-mapped shards of frames under a hashed JSON manifest.

Files: `frames-00000.npy` (N, V, 64, 64, 3) uint8, ...; `labels-00000.npy` (N, V, 2) float64 joint angles, only if made
with labels. `PairDataset` opens only frames: training cannot see an angle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worldplan.data.shards import check_file, open_array, read_manifest
from worldplan.errors import BadFile, InvalidInput

FORMAT = 1  # version of the manifest's format


class Pairs(Protocol):
    """Positive pairs: `PairDataset`, `StridedPairs`, or your own."""

    provenance: dict[str, Any]
    manifest_sha256: str

    def __len__(self) -> int:
        """Number of pairs."""
        ...

    def __getitem__(self, index: NDArray[np.intp], /) -> NDArray[np.uint8]:
        """Frames (len(index), V, 64, 64, 3)."""
        ...

    def split(self, held_out: int, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Indices of pairs held out, and of pairs to train on."""
        ...


class PairDataset:
    """Frames of a dataset of positive pairs, memory-mapped.

    Opening checks the manifest's own hash, and names, shapes and sizes of files. `verify` also compares the hashes of
    the shards, which reads every byte. Raises BadFile if the manifest or a shard is missing, cut off or altered.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.manifest, self.manifest_sha256 = read_manifest(self.folder, FORMAT)
        if "provenance" not in self.manifest:
            raise BadFile(self.folder, "holds episodes, not pairs; pretrain on them with --stride")
        self.provenance: dict[str, Any] = self.manifest["provenance"]
        self._shards = [
            open_array(self.folder / s["frames"]["file"], tuple(s["shape"]), np.uint8) for s in self.manifest["shards"]
        ]
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
        """Compare the SHA-256 of every shard with the manifest. Raises BadFile if one differs or is gone."""
        for shard in self.manifest["shards"]:
            check_file(self.folder, shard["frames"])

    def split(self, held_out: int, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Indices of `held_out` pairs drawn at random, and of the others in random order."""
        order = rng.permutation(len(self))
        return order[:held_out], order[held_out:]


def load_labels(folder: Path | str) -> NDArray[np.float64]:
    """Joint angles (N, V, 2), radians, for evaluation only. Raises BadFile if there are none or they were altered."""
    dataset = PairDataset(folder)
    shards = dataset.manifest["shards"]
    if not all("labels" in s for s in shards):
        raise BadFile(folder, "was collected without labels; collect it again with --with-labels")
    for shard in shards:
        check_file(dataset.folder, shard["labels"])
    return np.concatenate(
        [open_array(dataset.folder / s["labels"]["file"], (*s["shape"][:2], 2), np.float64) for s in shards]
    )
