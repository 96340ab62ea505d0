"""Rows of a training log for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Curves:
    """Writes the rows that `pretrain` reports to `folder`/tb, for `tensorboard --logdir`.

    A run that goes on from a checkpoint takes the place of what was written after it.

    Args:
        folder: of the encoder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tb"
        self._writer: Any = None

    def __call__(self, row: dict[str, float]) -> None:
        """Write the terms of a row at its `step`."""
        step = int(row["step"])
        if self._writer is None:  # at the first row: a folder that is refused stays as it was
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=step)
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name.replace("validation_", "validation/"), value, step)
        self._writer.flush()  # a run that is interrupted or refused keeps its curves

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
