"""Datasets on disk: numbered .npy files under one hashed JSON manifest, written whole, resumed, or extended.

The manifest is written last; without it readers see no dataset. Until then `unfinished.json` records every complete
shard, so that an interrupted writer can resume.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tokenize import TokenError
from typing import Any, Self

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from worldplan.data.files import atomic_write, held, inside, read_json, sha256, to_json, write_json
from worldplan.errors import BadFile

MANIFEST, UNFINISHED = "manifest.json", "unfinished.json"

Shard = dict[str, Any]
_REPLACED = re.compile(r"[a-z]+-[0-9a-f]{8}-\d{5}\.npy")  # files that `ShardWriter.extend` wrote under a tag


class ShardWriter:
    """Writes a dataset shard by shard; a context manager, since it keeps other writers out of the folder.

    Args:
        folder: destination.
        recipe: JSON values that determine the bytes; only the same recipe may resume.
        form: version of the manifest's format.
        resume: continue an unfinished dataset, or start where there is none.
        onto: shards of a finished dataset in the folder, to append to or to add arrays to; None for a new dataset.

    Attributes:
        shards: entries of the future manifest.
        done: number of shards that this writer has written, before and after interruptions.

    Raises:
        BadFile: the folder holds a finished dataset (with `onto` None), or an unfinished one (without `resume`, or of
            another recipe); or another writer is at work in it.
    """

    def __init__(
        self,
        folder: Path | str,
        recipe: Mapping[str, Any],
        form: int,
        *,
        resume: bool = False,
        onto: list[Shard] | None = None,
    ) -> None:
        self.folder, self.recipe, self.form = Path(folder), json.loads(to_json(recipe)), form
        with ExitStack() as stack:
            stack.enter_context(held(folder))
            self._begin(resume, onto)
            self._held = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def _begin(self, resume: bool, onto: list[Shard] | None) -> None:
        self.shards: list[Shard] = [dict(s) for s in onto or ()]
        self.done = 0
        path = self.folder / UNFINISHED
        if onto is None and (self.folder / MANIFEST).exists():
            raise BadFile(self.folder, "already holds a dataset; choose another folder, or --append where there is one")
        if not resume and path.exists():
            raise BadFile(self.folder, "holds an unfinished dataset; continue it with --resume or delete the folder")
        if path.exists():
            saved = read_json(path)
            if saved.get("recipe") != self.recipe:
                raise BadFile(path, "belongs to other options or another seed; resume with those, or delete the folder")
            self.shards, self.done = _checked(path, saved.get("shards")), saved["done"]

    def add(self, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any] | None = None) -> None:
        """Write one more shard: arrays become files, facts go into the manifest."""
        self.shards.append(dict(facts or {}))
        self.extend(len(self.shards) - 1, arrays)

    def extend(self, index: int, arrays: Mapping[str, NDArray[Any]], tag: str = "") -> None:
        """Add arrays to the shard `index`, or replace those of the same name; `tag` keeps old and new files apart."""
        for kind, array in arrays.items():
            name = f"{kind}-{tag}{index:05d}.npy"
            with atomic_write(self.folder / name) as stream:
                np.save(stream, array)
            self.shards[index][kind] = {"file": name, "sha256": sha256(self.folder / name)}
        self.done += 1
        write_json(self.folder / UNFINISHED, {"recipe": self.recipe, "shards": self.shards, "done": self.done})

    def finish(self, **head: Any) -> None:
        """Write the manifest: the shards with their hashes, and the entries `head`. With it, the dataset is another."""
        body = {"format": self.form, "shards": self.shards, **head}
        write_json(self.folder / MANIFEST, {**body, "sha256": digest(body)})
        settle(self.folder)


def settle(folder: Path | str) -> bool:
    """Clear away what a writer leaves whose manifest is written, also one that was killed just then.

    These are the frames that the manifest does not name any more, and the record of unfinished work. Returns whether
    there is nothing unfinished.
    """
    manifest, unfinished = Path(folder) / MANIFEST, Path(folder) / UNFINISHED
    if not unfinished.exists():
        return True
    if not manifest.exists():
        return False
    shards = read_json(manifest).get("shards")
    if shards != read_json(unfinished).get("shards"):
        return False
    named = {entry["file"] for shard in _checked(manifest, shards) for entry in shard.values() if _is_file(entry)}
    for path in Path(folder).iterdir():
        if _REPLACED.fullmatch(path.name) and path.name not in named:
            path.unlink(missing_ok=True)
    unfinished.unlink(missing_ok=True)  # another process may settle it too
    return True


def _is_file(entry: object) -> bool:
    return isinstance(entry, dict) and "file" in entry


def read_manifest(folder: Path, form: int) -> tuple[dict[str, Any], str]:
    """A manifest, checked, and its SHA-256. Raises BadFile if it is missing, altered, of another format, or empty."""
    if (folder / UNFINISHED).exists() and not (folder / MANIFEST).exists():
        raise BadFile(folder, "holds an unfinished dataset; continue collecting with --resume")
    manifest = read_json(folder / MANIFEST)
    recorded = manifest.pop("sha256", None)
    if manifest.get("format") != form or recorded != digest(manifest):
        raise BadFile(folder / MANIFEST, "was altered or is of another format; collect the dataset again")
    if not _checked(folder / MANIFEST, manifest.get("shards")):
        raise BadFile(folder, "holds no shard")
    return manifest, str(recorded)


def _checked(path: Path, shards: Any) -> list[Shard]:
    """The shards of a manifest. Raises BadFile if they are no objects, or name anything but a file beside it."""
    if not isinstance(shards, list) or not all(isinstance(shard, dict) for shard in shards):
        raise BadFile(path, "holds no list of shards; collect the dataset again")
    for entry in (value for shard in shards for value in shard.values() if isinstance(value, dict)):
        if not isinstance(entry.get("sha256"), str):
            raise BadFile(path, "has a file without a SHA-256; collect the dataset again")
        inside(path.parent, entry.get("file"), ".npy")
    return shards


def open_array(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Memory-map a shard's file. Raises BadFile if it is missing, cut off, no .npy file, or not as in the manifest."""
    try:
        array: NDArray[Any] = open_memmap(path, mode="r")  # reads .npy alone, and never a pickled object
    except (OSError, ValueError, EOFError, TypeError, SyntaxError, RecursionError, TokenError) as error:
        raise BadFile(path, f"is missing, cut off or no .npy file ({error}); collect the dataset again") from error
    if array.shape != shape or array.dtype != dtype:
        found, wanted = f"{array.dtype} {array.shape}", f"{np.dtype(dtype)} {shape}"
        raise BadFile(path, f"holds {found}, the manifest says {wanted}; collect the dataset again")
    return array


def check_file(folder: Path, entry: Mapping[str, str]) -> None:
    """Compare a file with the SHA-256 in the manifest. Raises BadFile if it is missing or differs."""
    path = folder / entry["file"]
    if not path.is_file() or sha256(path) != entry["sha256"]:
        raise BadFile(path, "is missing or was altered since it was collected; collect the dataset again")


def digest(body: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object."""
    return hashlib.sha256(to_json(body, sort_keys=True).encode()).hexdigest()
