"""Checkpoints: tensors and optimisers in one safetensors file, written whole."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from worldplan.data.files import atomic_write, write_json
from worldplan.errors import BadFile

CHECKPOINT, PROGRESS = "checkpoint.safetensors", "checkpoint.json"  # the weights, and which run they belong to
Optimizers = Mapping[str, torch.optim.Optimizer]  # by the prefix of their tensors' names


def check_start(folder: Path, what: str, finished: bool, resume: bool) -> bool:
    """Whether there is a checkpoint to go on from. Raises BadFile if a run would overwrite a trained `what` or a run.

    With `resume`, a run starts where none was begun: one command line serves for the first start and for all others. A
    run that was killed after it had `finished`, and before its checkpoint was deleted, may be resumed too.
    """
    if finished and not (folder / CHECKPOINT).exists():
        (folder / PROGRESS).unlink(missing_ok=True)  # of a run that was killed while it deleted these
    unfinished = (folder / PROGRESS).exists()
    if finished and not unfinished:
        raise BadFile(folder, f"already holds a trained {what}; choose another folder")
    if unfinished and not resume:
        raise BadFile(folder, "holds an unfinished run; continue it with --resume or choose another folder")
    return unfinished


def changed(saved: Mapping[str, Any], wanted: Mapping[str, Any], free: Collection[str] = ()) -> str:
    """In which options two records of a run differ, with both values; empty if in none but those that are `free`."""
    was, now = dict(_options({name: saved.get(name) for name in wanted})), dict(_options(wanted))
    paths = [path for path in {**was, **now} if path[-1] not in free and was.get(path) != now.get(path)]
    names = [path[-2] if path[-1] == "name" else path[-1] for path in paths]  # what has a name goes by its own
    return ", ".join(
        f"--{name.replace('_', '-')} was {was.get(path)}, is {now.get(path)}"
        for name, path in zip(names, paths, strict=True)
    )


def _options(record: Mapping[str, Any], *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values in a record and in those within it, by where they stand."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _options(value, *path, name)
        else:
            yield (*path, name), value


def delete_checkpoint(folder: Path) -> None:
    """Delete what a finished run no longer needs."""
    for name in (CHECKPOINT, PROGRESS):
        (folder / name).unlink(missing_ok=True)


def write_checkpoint(folder: Path, tensors: Mapping[str, Tensor], text: Mapping[str, str], progress: object) -> None:
    """Write tensors and a few lines of text in one file, whole or not at all; then `progress`, as JSON, beside it."""
    copies = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    with atomic_write(folder / CHECKPOINT) as stream:
        stream.write(save(copies, metadata=dict(text)))
    write_json(folder / PROGRESS, progress)


@contextmanager
def read_checkpoint(folder: Path) -> Iterator[tuple[dict[str, Tensor], dict[str, str]]]:
    """Context manager that gives a checkpoint's tensors and text. Raises BadFile if they cannot be read or loaded."""
    try:
        with safe_open(folder / CHECKPOINT, framework="pt") as file:
            tensors = {k: file.get_tensor(k).clone() for k in file.keys()}  # noqa: SIM118 (no mapping)
            metadata = dict(file.metadata())
        yield tensors, metadata
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise BadFile(folder / CHECKPOINT, f"cannot be read ({error}); start a new folder") from error


def state_tensors(network: nn.Module, optimizers: Optimizers) -> dict[str, Tensor]:
    """The state of a network and of its optimisers as named tensors."""
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    for prefix, optimizer in optimizers.items():
        slots = optimizer.state_dict()["state"].items()
        tensors |= {f"{prefix}{i}.{name}": value for i, state in slots for name, value in state.items()}
    return tensors


def load_state(network: nn.Module, optimizers: Optimizers, tensors: Mapping[str, Tensor]) -> None:
    """Undo `state_tensors`."""
    network.load_state_dict(_under("network.", tensors))
    for prefix, optimizer in optimizers.items():
        state = optimizer.state_dict()
        for key, value in _under(prefix, tensors).items():
            i, slot = key.split(".")
            state["state"].setdefault(int(i), {})[slot] = value
        optimizer.load_state_dict(state)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, under the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
