"""The supervised reference: the same network as in pretraining, trained on the joint angles."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from worldplan.data.pairs import PairDataset
from worldplan.errors import BadFile, InvalidInput
from worldplan.learning.distributed import average, leads
from worldplan.learning.training import PretrainConfig, Report, Run, Watch, train_encoder, unreported, unwatched


@dataclass(frozen=True)
class SquaredError:
    """Mean square of its input, which here is the error of the embedding."""

    name: ClassVar[str] = "supervised"
    remedy: ClassVar[str] = "the number of pairs"

    def __call__(self, embeddings: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Loss of errors (B, V, n): mean over batch, views and coordinates."""
        return {"loss": average(embeddings.square().mean())}


def train_supervised(
    data: PairDataset,
    labels: ArrayLike,
    folder: Path | str,
    config: PretrainConfig | None = None,
    *,
    scale: tuple[float, ...] = (1.0, 1.0),
    command: str = "",
    progress: Watch = unwatched,
    report: Report = unreported,
) -> Path:
    """Train an encoder to give `z = wrapped angles / scale`, save it as `load_encoder` reads it, and return the folder.

    Network, optimiser, schedule and data order are those of `pretrain` with the same `config`. The loss is the mean
    squared error of every view, `E |h - z|^2 / n`.

    Angles are wrapped to [-pi, pi), because an image does not distinguish an angle from the angle + 2 pi. (With
    unwrapped angles beyond pi, the best encoder shrinks its output near the seam.) In a world truncated at pi, wrapping
    changes nothing. In others, the wrapped angles no longer follow the world's law exactly.

    `labels` are the joint angles (N, V, n), radians, of the frames in `data` (`worldplan.data.pairs.load_labels`).
    `scale` is one angle per joint, radians: the world's standard deviations give units like those of `pretrain`.
    `folder` is new or empty; the card in it is of kind "supervised". The other arguments are those of `pretrain`; the
    objective and the checkpoints of `config` are not used.

    Raises:
        BadFile: the folder is not empty.
        EncoderCollapsed: the loss is not finite.
        InvalidInput: labels or scale that do not fit the frames or the latent, or too few pairs.
    """
    config, folder = replace(config or PretrainConfig(), objective=SquaredError()), Path(folder)
    if leads() and folder.exists() and any(folder.iterdir()):
        raise BadFile(folder, "is not empty; choose another folder")
    targets = _targets(labels, scale, (len(data), data.views, config.latent_dim))
    facts = {"kind": SquaredError.name, "command": command, "scale": list(scale)}
    run = SupervisedRun(data, config, targets)
    run.share(0)
    return train_encoder(run, folder, facts, checkpoints=False, progress=progress, report=report)


class SupervisedRun(Run):
    """A run whose loss sees embedding - target in place of the embedding."""

    def __init__(self, data: PairDataset, config: PretrainConfig, targets: NDArray[np.float32]) -> None:
        super().__init__(data, config)
        self._targets = targets

    def embed(self, index: NDArray[np.intp]) -> Tensor:
        """Errors of the embedding (len(index), V, n)."""
        return super().embed(index) - torch.from_numpy(self._targets[index]).to(self.device)


def _targets(labels: ArrayLike, scale: tuple[float, ...], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    angles: NDArray[Any] = np.asarray(labels, dtype=np.float64)
    if angles.shape != shape or not np.isfinite(angles).all():
        raise InvalidInput(f"labels must be finite angles (pairs, views, latent_dim) = {shape}, got {angles.shape}")
    if len(scale) != shape[2] or not all(math.isfinite(s) and s > 0 for s in scale):
        raise InvalidInput(f"scale must be {shape[2]} positive angles, got {scale}")
    wrapped = np.remainder(angles + np.pi, 2 * np.pi) - np.pi
    targets: NDArray[np.float32] = (wrapped / np.asarray(scale)).astype(np.float32)
    return targets
