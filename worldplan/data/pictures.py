"""Frames of any size as square ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worldplan.arrays import Frames
from worldplan.data.world_card import check_frame_size
from worldplan.errors import InvalidInput


def square_frames(frames: Any, size: int, what: str = "frames") -> Frames:
    """Frames (T, size, size, 3) of frames (T, H, W, 3), every pixel the mean of those that it covers.

    Raises InvalidInput unless these are uint8, (T, H, W, 3), T > 0, and for a size beyond `LARGEST_FRAME`.
    """
    check_frame_size(size)
    array: NDArray[Any] = np.asarray(frames)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3 or 0 in array.shape:
        raise InvalidInput(f"{what} must be uint8 (T, H, W, 3), channels last, got {array.dtype} {array.shape}")
    if array.shape[1:3] == (size, size):
        return array
    return np.stack([np.asarray(Image.fromarray(f).resize((size, size), Image.Resampling.BOX)) for f in array])
