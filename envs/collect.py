"""Render a latent world into a dataset of positive pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldplan.envs.rendering import TARGET_SIZE, frame_stream, render_fingerprint, sample_targets
from worldplan.envs.worlds import OUWorld
from worldplan.errors import InvalidInput
from worldplan.pairs import PairWriter

_SHARD = 2048  # pairs a file


@dataclass(frozen=True)
class Nuisances:
    """What differs between the views of a pair beside the arm; drawn independently for each view.

    Args:
        stock: probability of the `dmc` look (else `fast`).
        small: probability of the small target (radius .015 m, else .05 m).
        hidden: probability that the target is not drawn.
    """

    stock: float = 0.75
    small: float = 0.75
    hidden: float = 0.15

    def __post_init__(self) -> None:
        if not all(0.0 <= p <= 1.0 for p in (self.stock, self.small, self.hidden)):
            raise InvalidInput(f"nuisance probabilities must lie in [0, 1], got {self}")

    def sample(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], list[str]]:
        """Draw targets (count, 3) and profile names for `count` views."""
        targets = sample_targets(count, rng)
        targets[:, 2] = np.where(rng.random(count) < self.small, TARGET_SIZE["hard"], TARGET_SIZE["easy"])
        targets[rng.random(count) < self.hidden, 2] = 0.0
        return targets, list(np.where(rng.random(count) < self.stock, "dmc", "fast"))


def collect_pairs(
    world: OUWorld,
    pairs: int,
    folder: Path | str,
    *,
    seed: int = 0,
    nuisances: Nuisances | None = None,
    with_labels: bool = False,
    processes: int = 1,
    command: str = "",
    progress: Callable[[Iterator[NDArray[np.uint8]], int], Iterator[NDArray[np.uint8]]] = lambda items, total: items,
) -> Path:
    """Sample `pairs` sets of views from `world`, draw them, write the dataset.

    The bytes depend on the arguments and `seed` alone, not on `processes`.

    Args:
        world: the latent process.
        pairs: how many positive pairs.
        folder: a folder without a dataset.
        seed: every shard draws from its own child of `SeedSequence(seed)`.
        nuisances: None for the defaults.
        with_labels: also store the joint angles (for evaluation; training cannot open them).
        processes: renderer processes.
        command: provenance, the command line that asked for this.
        progress: wraps the iterator of shards, for a progress bar.

    Returns:
        The folder.
    """
    if pairs < 1:
        raise InvalidInput(f"pairs must be at least 1, got {pairs}")
    nuisances = nuisances or Nuisances()
    writer = PairWriter(folder)
    sizes = [min(_SHARD, pairs - start) for start in range(0, pairs, _SHARD)]
    angles, batches = [], []
    for size, child in zip(sizes, np.random.SeedSequence(seed).spawn(len(sizes)), strict=True):
        rng = np.random.default_rng(child)
        angles.append(world.sample(size, rng))
        batches.append((angles[-1].reshape(-1, 2), *nuisances.sample(size * world.views, rng)))
    with frame_stream(processes) as draw:
        for theta, frames in zip(angles, progress(draw(batches), len(sizes)), strict=True):
            writer.add(frames.reshape(len(theta), world.views, *frames.shape[1:]), theta if with_labels else None)
    writer.finish(
        {
            "command": command,
            "kind": "ou",
            "seed": seed,
            "pairs": pairs,
            "world": asdict(world),
            "nuisances": asdict(nuisances),
            "render": render_fingerprint(),
        }
    )
    return writer.folder
