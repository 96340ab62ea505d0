"""Films of an agent at work: frames side by side, as GIF (Pillow) or MP4 (the `video` extra)."""

from __future__ import annotations

from importlib.util import find_spec
from io import BytesIO

import numpy as np
from PIL import Image, ImageFont

from worldplan.arrays import Frames
from worldplan.errors import MissingExtra, UnknownName

RATE = 25  # pictures a second
STRIDE = 2  # control steps of 20 ms a picture: real time
HOLD = 25  # pictures for which the last one is repeated
GHOST = 0.35  # weight of the goal image in a blended frame


def require_video(kind: str) -> None:
    """Check early that a film of this kind can be written here.

    Raises:
        UnknownName: no such kind.
        MissingExtra: mp4 without imageio and its ffmpeg.
    """
    if kind not in ("gif", "mp4", "none"):
        raise UnknownName("kind of video", kind, ["gif", "mp4", "none"])
    if kind == "mp4" and not (find_spec("imageio") and find_spec("imageio_ffmpeg")):
        raise MissingExtra("an mp4 film (--video gif works without)", "video")


def blend_goal(frames: Frames, goal: Frames) -> Frames:
    """Frames (..., 64, 64, 3) with the goal image blended in."""
    mixed = (1.0 - GHOST) * frames.astype(np.float64) + GHOST * goal.astype(np.float64)
    return mixed.round().astype(np.uint8)


def encode_video(pictures: Frames, kind: str = "gif") -> bytes:
    """Bytes of a `gif` or `mp4` film of pictures (P, height, width, 3), 25 a second.

    Raises:
        UnknownName: no such kind.
        MissingExtra: mp4 without imageio and its ffmpeg.
    """
    require_video(kind)
    if kind == "mp4":
        import imageio.v3 as imageio

        data: bytes = imageio.imwrite("<bytes>", pictures, extension=".mp4", fps=RATE)
        return data
    # One palette for all pictures, or still parts would flicker.
    sample = Image.fromarray(np.concatenate(pictures[:: max(1, len(pictures) // 8)]))
    palette = sample.quantize(256, dither=Image.Dither.NONE)
    images = [Image.fromarray(p).quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    stream = BytesIO()
    images[0].save(
        stream,
        format="GIF",
        save_all=True,
        append_images=images[1:],
        duration=round(1000 / RATE),
        loop=0,
        optimize=False,
    )
    return stream.getvalue()


def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """The font of captions; `size` in pixels."""
    return ImageFont.load_default(size)
