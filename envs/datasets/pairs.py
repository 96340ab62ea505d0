"""Render a latent world into a dataset of positive pairs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from worldplan.checks import checked_seed
from worldplan.data.files import to_json
from worldplan.data.pairs import FORMAT
from worldplan.data.recipes import Nuisances
from worldplan.data.shards import MANIFEST, ShardWriter, read_manifest, settle
from worldplan.envs.datasets.frames import draw_nuisances
from worldplan.envs.fingerprint import render_fingerprint
from worldplan.envs.rendering import frame_stream
from worldplan.errors import InvalidInput
from worldplan.progress import Progress, silent

_SHARD = 2048  # pairs a file


class LatentWorld(Protocol):
    """A frozen dataclass that draws joint angles."""

    kind: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def views(self) -> int:
        """Views in a set."""
        ...

    def sample(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Joint angles (count, views, 2), radians."""
        ...


def collect_pairs(
    world: LatentWorld,
    pairs: int,
    folder: Path | str,
    *,
    seed: int = 0,
    nuisances: Nuisances | None = None,
    with_labels: bool = False,
    processes: int = 1,
    command: str = "",
    resume: bool = False,
    progress: Progress = silent,
) -> Path:
    """Sample `pairs` sets of views from `world`, draw them, write the dataset, and return its folder.

    The bytes depend on the arguments and `seed` alone, not on `processes`.

    Args:
        world: the latent process.
        pairs: number of positive pairs.
        folder: a folder without a dataset.
        seed: seed; every shard draws from its own child of `SeedSequence(seed)`.
        nuisances: None for the defaults.
        with_labels: also store the joint angles (for evaluation; training cannot open them).
        processes: renderer processes.
        command: provenance, the command line that asked for this.
        resume: continue a dataset that was interrupted, or start where none was begun.
        progress: wraps the iterator of shards, for a progress bar.

    Raises:
        InvalidInput: no pairs, or a seed below 0.
        BadFile: the folder holds a dataset, or unfinished work of other options.
    """
    if pairs < 1:
        raise InvalidInput(f"pairs must be at least 1, got {pairs}")
    seed, nuisances = checked_seed(seed), nuisances or Nuisances()
    recipe = {
        "kind": world.kind,
        "seed": seed,
        "pairs": pairs,
        "world": asdict(world),
        "nuisances": asdict(nuisances),
    }
    if resume and settle(folder) and _made(folder, {**recipe, "with_labels": with_labels}):
        return Path(folder)
    with ShardWriter(folder, {**recipe, "with_labels": with_labels}, FORMAT, resume=resume) as writer:
        return _collect(writer, world, recipe, with_labels, processes, command, progress)


def _made(folder: Path | str, recipe: dict[str, Any]) -> bool:
    """Whether a folder holds the whole dataset of this recipe."""
    if not (Path(folder) / MANIFEST).exists():
        return False
    manifest = read_manifest(Path(folder), FORMAT)[0]
    found = {**manifest.get("provenance", {}), "with_labels": "labels" in manifest["shards"][0]}
    wanted = json.loads(to_json(recipe))
    return bool({name: found.get(name) for name in wanted} == wanted)


def _collect(
    writer: ShardWriter,
    world: LatentWorld,
    recipe: dict[str, Any],
    with_labels: bool,
    processes: int,
    command: str,
    progress: Progress,
) -> Path:
    pairs, nuisances = recipe["pairs"], Nuisances(**recipe["nuisances"])
    sizes = [min(_SHARD, pairs - start) for start in range(0, pairs, _SHARD)]
    angles, batches = [], []
    for size, child in zip(sizes, np.random.SeedSequence(recipe["seed"]).spawn(len(sizes)), strict=True):
        rng = np.random.default_rng(child)
        angles.append(world.sample(size, rng))
        batches.append((angles[-1].reshape(-1, 2), *draw_nuisances(nuisances, size * world.views, rng)))
    todo = slice(writer.done, None)
    with frame_stream(processes) as draw:
        drawn = progress(draw(batches[todo]), len(batches[todo]))
        for theta, frames in zip(angles[todo], drawn, strict=True):
            views = frames.reshape(len(theta), world.views, *frames.shape[1:])
            labels = {"labels": theta} if with_labels else {}
            writer.add({"frames": views, **labels}, {"shape": list(views.shape)})
    writer.finish(provenance={"command": command, **recipe, "render": render_fingerprint()})
    return writer.folder
