"""The supervised reference: the encoder that pretraining's network becomes when it is told the joint angles."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from worldplan.data.files import atomic_write
from worldplan.data.pairs import PairDataset
from worldplan.errors import BadFile, EncoderCollapsed, InvalidInput
from worldplan.learning.encoder import save_encoder
from worldplan.learning.pretraining import PretrainConfig, _Run


@dataclass(frozen=True)
class SquaredError:
    """Mean square of what it is given: here the errors of the embedding, not the embedding."""

    name: ClassVar[str] = "supervised"
    remedy: ClassVar[str] = "the number of pairs"

    def __call__(self, embeddings: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Loss of errors (B, V, n): mean over batch, views and coordinates."""
        return {"loss": embeddings.square().mean()}


def train_supervised(
    data: PairDataset,
    labels: ArrayLike,
    folder: Path | str,
    config: PretrainConfig | None = None,
    *,
    scale: tuple[float, ...] = (1.0, 1.0),
    command: str = "",
    progress: Callable[[Iterator[int], int, int], Iterator[int]] = lambda steps, start, total: steps,
    report: Callable[[dict[str, float]], None] = lambda row: None,
) -> Path:
    """Train an encoder to tell `z = wrapped angles / scale`, and save it in the form that `load_encoder` reads.

    Network, optimiser, schedule and order of the data are those of `pretrain` with the same `config`; the loss is the
    mean squared error of every view, `E |h - z|^2 / n`.

    Angles are wrapped to [-pi, pi): an image does not tell an angle from the angle + 2 pi, so the wrapped one is all
    that can be learned. (Told unwrapped angles beyond pi, the best encoder shrinks what it says near the seam.) In a
    world truncated at pi both are the same; in another the wrapped angles are no longer exactly of the world's law.

    Args:
        data: frames.
        labels: joint angles (N, V, n), radians, of the same frames (`worldplan.data.pairs.load_labels`).
        folder: new or empty; receives `encoder.json` (kind "supervised"), `encoder.safetensors` and `log.jsonl`.
        config: None for the defaults; its objective and its checkpoints are not used.
        scale: one angle per joint, radians: the world's standard deviations, for units like those of `pretrain`.
        command: provenance, stored in the card.
        progress: wraps the iterator of steps (start, total given), for a progress bar.
        report: receives each logged row.

    Returns:
        The folder.

    Raises:
        BadFile: the folder is not empty.
        EncoderCollapsed: the loss is not finite.
        InvalidInput: labels or scale that do not fit the frames or the latent, or too few pairs.
    """
    config, folder = replace(config or PretrainConfig(), objective=SquaredError()), Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise BadFile(folder, "is not empty; choose another folder")
    if len(data) < config.validation + config.batch:
        wanted = f"{config.validation} held out and batches of {config.batch}"
        raise InvalidInput(f"{len(data)} pairs are too few for {wanted}; collect more or lower both")
    run = _SupervisedRun(data, config, _targets(labels, scale, (len(data), data.views, config.latent_dim)))
    rows = []
    for step in progress(iter(range(run.steps)), 0, run.steps):
        row, done = run.step(step), step + 1
        if not (math.isfinite(row["loss"]) and math.isfinite(row["gradient"])):
            raise EncoderCollapsed(f"loss {row['loss']} at step {done}; lower lr")
        if done % 100 == 0 or done == run.steps:
            rows.append({"step": done, **row})
            report(rows[-1])
    with atomic_write(folder / "log.jsonl") as stream:
        stream.writelines(json.dumps(row).encode() + b"\n" for row in rows)
    save_encoder(
        run.network,
        folder,
        card={
            "kind": SquaredError.name,
            "command": command,
            "mirror": config.mirror,
            "config": config.to_dict(),
            "scale": list(scale),
            "data": {"sha256": data.manifest_sha256, **data.provenance},
            "validation": run.validate(),
        },
        half=config.half,
    )
    return folder


class _SupervisedRun(_Run):
    """A run of pretraining whose loss sees embedding - target instead of the embedding."""

    def __init__(self, data: PairDataset, config: PretrainConfig, targets: NDArray[np.float32]) -> None:
        super().__init__(data, config)
        self._targets = targets

    def _embed(self, index: NDArray[np.intp]) -> Tensor:
        return super()._embed(index) - torch.from_numpy(self._targets[index]).to(self.device)


def _targets(labels: ArrayLike, scale: tuple[float, ...], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    angles: NDArray[Any] = np.asarray(labels, dtype=np.float64)
    if angles.shape != shape or not np.isfinite(angles).all():
        raise InvalidInput(f"labels must be finite angles (pairs, views, latent_dim) = {shape}, got {angles.shape}")
    if len(scale) != shape[2] or not all(math.isfinite(s) and s > 0 for s in scale):
        raise InvalidInput(f"scale must be {shape[2]} positive angles, got {scale}")
    wrapped = np.remainder(angles + np.pi, 2 * np.pi) - np.pi
    targets: NDArray[np.float32] = (wrapped / np.asarray(scale)).astype(np.float32)
    return targets
