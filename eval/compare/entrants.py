"""Entrants of a comparison: shipped encoders, folders, a user's own code, the oracle, and random weights."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from worldplan.arrays import Floats, Frames
from worldplan.data.hub import is_address
from worldplan.envs.reacher import angle_error
from worldplan.envs.rendering import SIZE, render_frames
from worldplan.envs.tasks import Tasks
from worldplan.errors import EncoderCollapsed, InvalidInput, UnknownName
from worldplan.learning.encoder import (
    CARDS,
    CODE,
    Encoder,
    PixelEncoder,
    encode,
    find_encoder,
    known_encoders,
    load_encoder,
)
from worldplan.learning.network import ConvEncoder
from worldplan.named import check_module
from worldplan.provenance import pinned
from worldplan.sweeps.jobs import checksum

BATCH_TOLERANCE = 1e-3  # of the latents' spread: rounding of float32 stays far below, BatchNorm in training far above
_ANGLES = 2 * np.dtype(np.float64).itemsize  # bytes


@dataclass(frozen=True, eq=False)
class Entrant:
    """An encoder that is not loaded yet, and how the world is shown to it.

    `kind` is `zoo`, `folder`, `hub`, `module`, `object` (handed over in Python), `oracle` or `untrained`. `spec` is
    what the user wrote, an address on the hub with its commit.
    """

    name: str
    kind: str
    load: Callable[[], Encoder]
    spec: str = ""

    def draw(self, qpos: Floats, targets: Floats, profile: str) -> Frames:
        """Frames (N, 64, 64, 3) of joint angles (N, 2) with target spheres (N, 3); the oracle's hold the angles."""
        return angle_frames(qpos) if self.kind == "oracle" else render_frames(qpos, targets, profile)

    def shown(self, frames: Frames, qpos: Floats) -> Frames:
        """Drawn frames (N, 64, 64, 3) as the entrant sees them; a copy, which an encoder may write on."""
        return angle_frames(qpos) if self.kind == "oracle" else frames.copy()

    def tasks(self, pairs: Tasks) -> Tasks:
        """Tasks as this entrant gets them; the oracle's goals are angles the shorter way round, as in the cost."""
        if self.kind != "oracle":
            return pairs
        return Tasks(pairs.starts, pairs.starts + angle_error(pairs.goals, pairs.starts))


def find_entrants(specs: Iterable[str | Path | Encoder], seed: int = 0) -> list[Entrant]:
    """Entrants for specifications; loads none of them.

    A specification is a name in `known_encoders()`, `oracle` (the true joint angles), `untrained` (random weights from
    `seed`), a folder, `hf://OWNER/NAME@REVISION`, `module:object`, or an encoder itself.

    Raises:
        InvalidInput: no specification, one that is no text and no encoder, or a module that is not there.
        UnknownName: a text that is none of these.
        BadFile, HubError, MissingExtra: those of an address on the hub, whose files are fetched now.
    """
    found = [_entrant(spec, seed) for spec in specs]
    if not found:
        raise InvalidInput("name at least one encoder")
    seen: Counter[str] = Counter()
    numbered = []
    for entrant in found:
        seen[entrant.name] += 1
        count = seen[entrant.name]
        numbered.append(entrant if count == 1 else replace(entrant, name=f"{entrant.name} ({count})"))
    return numbered


def _entrant(spec: str | Path | Encoder, seed: int) -> Entrant:
    if not isinstance(spec, str | Path):
        if not callable(spec):
            raise InvalidInput(f"an encoder is a name, a folder, {CODE}, or such an object; got {spec!r}")
        return Entrant(str(getattr(spec, "name", type(spec).__name__)), "object", lambda: spec)
    text = str(spec)
    plain = isinstance(spec, str)  # a `Path` is a folder, also one that is called like something that ships
    if plain and text in known_encoders():
        return Entrant(text, "zoo", partial(load_encoder, text))
    made: dict[str, Callable[[], Encoder]] = {"oracle": AngleReader, "untrained": partial(untrained_encoder, seed)}
    if plain and text in made:
        return Entrant(text, text, made[text])
    if os.path.isdir(text):  # unlike `Path.is_dir`, also for names that are too long
        return Entrant(text, "folder", partial(load_encoder, Path(text)), text)
    if is_address(spec):
        CARDS.find(text)  # other processes then find this very commit in the cache
        return Entrant(text, "hub", partial(load_encoder, pinned(text)), pinned(text))
    if ":" in text:
        check_module(text, CODE)  # a slip of the pen is told before anything is drawn
        return Entrant(text, "module", partial(find_encoder, text), text)
    kind = f"encoder (a shipped name, oracle, untrained, a folder, hf://OWNER/NAME, or {CODE})"
    raise UnknownName(kind, text, known_encoders())


def source(entrant: Entrant) -> str:
    """What lies behind an entrant: checksum of its folder or its module's files, or the commit; empty for our code."""
    if entrant.kind in ("zoo", "folder"):
        return checksum(CARDS.find(entrant.name if entrant.kind == "zoo" else Path(entrant.spec)))
    if entrant.kind == "hub":
        return entrant.spec
    if entrant.kind == "module":
        found = importlib.util.find_spec(entrant.spec.partition(":")[0].partition(".")[0])
        folders = list(found.submodule_search_locations or ()) if found is not None else []
        files = [path for folder in folders for path in sorted(Path(folder).rglob("*.py"))]
        if found is not None and found.origin and not folders:
            files = [Path(found.origin)]
        return hashlib.sha256("".join(map(checksum, files)).encode()).hexdigest()
    return ""


def untrained_encoder(seed: int = 0, latent_dim: int = 2) -> PixelEncoder:
    """The shipped encoders' network with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PixelEncoder(ConvEncoder(latent_dim), {}, "untrained")


def angle_frames(qpos: Floats) -> Frames:
    """Frames (N, 64, 64, 3) for the oracle: black, but the first bytes are the joint angles (N, 2)."""
    frames = np.zeros((len(qpos), SIZE, SIZE, 3), dtype=np.uint8)
    angles = np.ascontiguousarray(qpos, dtype=np.float64)
    frames.reshape(len(qpos), -1)[:, :_ANGLES] = angles.view(np.uint8).reshape(len(qpos), -1)
    return frames


class AngleReader:
    """The oracle: reads true joint angles from `angle_frames`. All later steps are the same as for pixels."""

    latent_dim = 2

    def __call__(self, frames: Frames) -> Floats:
        """Frames (T, 64, 64, 3) to joint angles (T, 2), radians."""
        return np.ascontiguousarray(frames.reshape(len(frames), -1)[:, :_ANGLES]).view(np.float64)


def examine(encoder: Encoder, frames: Frames, least: int = 2) -> None:
    """Reject what is no frozen encoder of the world, before the long trial.

    `frames` (T, 64, 64, 3) show different poses, T > 8. `least` is the width of the world.

    Raises:
        InvalidInput: no encoder, a wrong shape, values that are not finite, a latent narrower than the world, two
            answers to the same frames, or answers that depend on the batch.
        EncoderCollapsed: the same latent for all frames.
    """
    latents = encode(encoder, frames, twice=True)
    if latents.shape[1] < least:
        raise InvalidInput(f"a latent of {latents.shape[1]} is narrower than the world, which has {least} joints")
    spread = float(latents.std(axis=0).max())
    if not spread > 1e-9 * (1 + np.abs(latents).max()):
        raise EncoderCollapsed(f"the encoder is constant: spread {spread:.2g} over {len(frames)} frames")
    for size in (1, 7):
        parts = [encode(encoder, frames[k : k + size], twice=True) for k in range(0, len(frames), size)]
        gap = float(np.abs(np.concatenate(parts) - latents).max())
        if gap > BATCH_TOLERANCE * spread:
            raise InvalidInput(
                f"the encoder's latents depend on what else is in the batch (by {gap / spread:.2g} of their spread in "
                f"batches of {size}); put it in eval mode"
            )
