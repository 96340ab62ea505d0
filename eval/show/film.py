"""Films of an agent at work: frames side by side, as GIF (Pillow) or MP4 (the `video` extra)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from worldplan.arrays import Frames
from worldplan.errors import InvalidInput, MissingExtra, UnknownName

RATE = 25  # pictures a second
STRIDE = 2  # steps of 20 ms a picture: real time
HOLD = 25  # pictures for which the last one is repeated
GHOST = 0.35  # weight of the goal image in a blended frame
SIDE, MARGIN, CAPTION = 192, 8, 40  # pixels: of a tile, around it, under it
COLUMNS = 3
INK, MUTED, DONE = (32, 32, 32), (110, 110, 110), (0, 128, 60)


@dataclass(frozen=True, eq=False)
class Tile:
    """An episode of a film: frames (T + 1, S, S, 3), the goal (S, S, 3), and by step a text with its colour."""

    frames: Frames
    goal: Frames
    status: Callable[[int], tuple[str, tuple[int, int, int]]]


def draw_tiles(tiles: Sequence[Tile], step_seconds: float) -> Frames:
    """Pictures (P, height, width, 3) of episodes in real time, the goal blended in, a text under each.

    Both sides are multiples of 16, as video codecs require. Episodes are as long as the first; steps that take longer
    than a picture are shown one by one.

    Raises:
        InvalidInput: no episode.
    """
    if not tiles:
        raise InvalidInput("no episode's frames were kept")
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    side = len(tiles[0].goal) * max(1, SIDE // len(tiles[0].goal))
    width, height = MARGIN + columns * (side + MARGIN), 28 + rows * (side + CAPTION) + MARGIN
    width, height = -(-width // 16) * 16, -(-height // 16) * 16
    left = (width - columns * (side + MARGIN) + MARGIN) // 2
    ghosts = [blend_goal(tile.frames, tile.goal) for tile in tiles]
    pictures = []
    last, stride = len(tiles[0].frames) - 1, max(1, round(1 / (RATE * step_seconds)))
    for step in [*range(0, last, stride), *[last] * HOLD]:
        sheet = Image.new("RGB", (width, height), "white")
        pen = ImageDraw.Draw(sheet)
        pen.text((left, 8), f"{step * step_seconds:.2f} s   ghost: goal image", fill=INK, font=font(13))
        for k, (tile, ghost) in enumerate(zip(tiles, ghosts, strict=True)):
            x, y = left + k % columns * (side + MARGIN), 28 + k // columns * (side + CAPTION)
            now = min(step, len(ghost) - 1)
            sheet.paste(Image.fromarray(ghost[now]).resize((side, side), Image.Resampling.NEAREST), (x, y))
            pen.text((x, y + side + 3), f"episode {k + 1}", fill=MUTED, font=font(12))
            text, colour = tile.status(now)
            pen.text((x, y + side + 18), text, fill=colour, font=font(13))
        pictures.append(np.asarray(sheet))
    return np.stack(pictures)


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
