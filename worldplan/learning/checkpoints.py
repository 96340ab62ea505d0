"""Checkpoints: tensors and optimisers in one safetensors file, written whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from worldplan.data.files import atomic_write
from worldplan.errors import BadFile


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and a few lines of text, whole or not at all."""
    copies = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    with atomic_write(path) as stream:
        stream.write(save(copies, metadata=dict(metadata)))


@contextmanager
def read_tensors(path: Path) -> Iterator[tuple[dict[str, Tensor], dict[str, str]]]:
    """Context manager that gives a checkpoint's tensors and text. Raises BadFile if they cannot be read or loaded."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {k: file.get_tensor(k).clone() for k in file.keys()}  # noqa: SIM118 (no mapping)
            metadata = dict(file.metadata())
        yield tensors, metadata
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise BadFile(path, f"cannot be read ({error}); start a new folder") from error


def optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's state as named tensors."""
    slots = optimizer.state_dict()["state"].items()
    return {f"{prefix}{i}.{name}": value for i, state in slots for name, value in state.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Undo `optimizer_tensors`; the names come without the prefix."""
    state = optimizer.state_dict()
    for key, value in tensors.items():
        i, slot = key.split(".")
        state["state"].setdefault(int(i), {})[slot] = value
    optimizer.load_state_dict(state)


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, under the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
