"""Render fingerprints: what frames look like here, to detect a driver or a MuJoCo that draws them differently."""

from __future__ import annotations

import hashlib
import warnings
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from worldplan.arrays import Floats
from worldplan.data.world_card import for_reacher
from worldplan.envs.rendering import PROFILES, shared_renderer
from worldplan.errors import FingerprintMismatch


@cache
def render_fingerprint() -> dict[str, str]:
    """What this machine's frames look like: MuJoCo's version and, per profile, a hash and 8 x 8 block means."""
    renderer = shared_renderer()
    mark = {"mujoco": version("mujoco")}
    for name in PROFILES:
        frame = renderer.render(np.array([0.5, 1.0]), np.array([-0.1, 0.1, 0.05]), name)
        blocks = frame.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)).round().astype(np.uint8)
        mark[name] = hashlib.sha256(frame.tobytes()).hexdigest()[:16]
        mark[f"{name}_blocks"] = blocks.tobytes().hex()
    return mark


def check_encoder(encoder: Any) -> bool:
    """Whether frames drawn here look like an encoder's training frames (True if its card has none); warns if not.

    Raises InvalidInput for an encoder that was trained in another world than the Reacher.
    """
    for_reacher(encoder)
    data = getattr(encoder, "card", {}).get("data", {})
    recorded = data.get("render") or (data.get("frames") or {}).get("render")
    return recorded is None or check_fingerprint(recorded, f"encoder {getattr(encoder, 'name', '')!r}")


def check_fingerprint(recorded: dict[str, str], what: str) -> bool:
    """Whether frames drawn here agree with those that `what` was made with; warns if they differ visibly.

    Two drivers may differ in the last bit, so the block means decide (mean difference over 1/255), not the hash.
    """
    here = render_fingerprint()
    for name in PROFILES:
        old, new = (_block_means(mark, name) for mark in (recorded, here))
        if old.shape != new.shape or np.abs(old - new).mean() > 1.0:
            warnings.warn(
                f"{what} was made with MuJoCo {recorded.get('mujoco')} ({name} frame {recorded.get(name)}), but this "
                f"machine draws with MuJoCo {here['mujoco']} ({name} frame {here[name]}): encodings may be off; "
                "install the recorded version or train again",
                FingerprintMismatch,
                stacklevel=2,
            )
            return False
    return True


def _block_means(mark: dict[str, str], profile: str) -> Floats:
    try:
        blocks = bytes.fromhex(mark.get(f"{profile}_blocks", ""))
    except ValueError:  # no hexadecimal digits: as good as missing
        blocks = b""
    return np.frombuffer(blocks, dtype=np.uint8).astype(np.float64)
