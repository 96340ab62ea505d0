"""Frames of a dataset: draw those of recorded episodes, and the nuisances that differ between frames beside the arm."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldplan.checks import check_name, checked_seed
from worldplan.data.episodes import FORMAT, EpisodeDataset
from worldplan.data.recipes import Nuisances
from worldplan.data.shards import ShardWriter, digest, settle
from worldplan.envs.fingerprint import render_fingerprint
from worldplan.envs.rendering import PROFILES, TARGET_SIZE, frame_stream, sample_targets
from worldplan.progress import Progress, silent


def draw_nuisances(nuisances: Nuisances, count: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], list[str]]:
    """Targets (count, 3) and profile names for `count` views."""
    targets = sample_targets(count, rng)
    targets[:, 2] = np.where(rng.random(count) < nuisances.small, TARGET_SIZE["hard"], TARGET_SIZE["easy"])
    targets[rng.random(count) < nuisances.hidden, 2] = 0.0
    return targets, list(np.where(rng.random(count) < nuisances.stock, "dmc", "fast"))


def draw_frames(
    folder: Path | str,
    look: str = "varied",
    *,
    seed: int = 0,
    nuisances: Nuisances | None = None,
    processes: int = 1,
    resume: bool = False,
    progress: Progress = silent,
) -> EpisodeDataset:
    """Draw the frames of a dataset's episodes; frames that it already has are replaced at the very end.

    `look` is `dmc` or `fast`, with the recorded target; or `varied`, look and target drawn anew for each frame, which
    alone needs `seed` and `nuisances`. The target stays in place for a whole episode: `varied` keeps an encoder of
    pairs from learning it. The other arguments are those of `collect_pairs`.

    Raises:
        BadFile: no such dataset, or unfinished work of other options.
        UnknownName: no such look.
        InvalidInput: a seed below 0.
    """
    seed = checked_seed(seed)
    check_name("look", look, ("varied", *PROFILES))
    settled, data = settle(folder), EpisodeDataset(folder)
    how = frame_recipe(look, seed, nuisances)
    if resume and settled and {name: (data.manifest["frames"] or {}).get(name) for name in how} == how:
        return data
    recipe = {"frames": how, "of": data.manifest_sha256}
    with ShardWriter(folder, recipe, FORMAT, resume=resume, onto=data.shards) as writer:
        _draw(writer, data, look, seed, nuisances, processes, progress)
    return EpisodeDataset(folder)


def _draw(
    writer: ShardWriter,
    data: EpisodeDataset,
    look: str,
    seed: int,
    nuisances: Nuisances | None,
    processes: int,
    progress: Progress,
) -> None:
    children = np.random.SeedSequence(seed).spawn(len(data.shards))
    batches, shapes = [], []
    for shard, child in list(zip(data.shards, children, strict=True))[writer.done :]:
        qpos, target = data.poses(shard)
        shapes.append((*qpos.shape[:2], 64, 64, 3))
        count = qpos.shape[0] * qpos.shape[1]
        if look == "varied":
            targets, looks = draw_nuisances(nuisances or Nuisances(), count, np.random.default_rng(child))
        else:
            targets, looks = np.repeat(target, qpos.shape[1], axis=0), [look] * count
        batches.append((qpos.reshape(-1, 2), targets, looks))
    tag = digest(writer.recipe)[:8] + "-"
    with frame_stream(processes) as draw:
        for shape, drawn in zip(shapes, progress(draw(batches), len(batches)), strict=True):
            writer.extend(writer.done, {"frames": drawn.reshape(shape)}, tag)
    head = {name: data.manifest[name] for name in ("kind", "runs", "summary")}
    writer.finish(**head, frames={**writer.recipe["frames"], "render": render_fingerprint()})


def frame_recipe(look: str, seed: int, nuisances: Nuisances | None) -> dict[str, Any]:
    """What the manifest records of how frames were drawn, except the renderer."""
    return {"look": look, "seed": seed, "nuisances": asdict(nuisances or Nuisances()) if look == "varied" else None}
