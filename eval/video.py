"""Films of an agent at work: frames side by side, as GIF (Pillow) or MP4 (the `video` extra)."""

from __future__ import annotations

from importlib.util import find_spec
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from worldplan.envs.reacher import STEP_SECONDS
from worldplan.errors import InvalidInput, MissingExtra, UnknownName
from worldplan.eval.plan_report import Episode, PlanReport

Frames = NDArray[np.uint8]

STRIDE = 2  # steps a picture of the film: 25 pictures a second, real time
HOLD = 25  # pictures for which the last one stays
ZOOM, MARGIN, CAPTION = 3, 8, 40  # pixels: per pixel of a frame, around a tile, under it
COLUMNS = 3
GHOST = 0.35  # weight of the goal image in a blended frame
INK, MUTED, GREEN = (32, 32, 32), (110, 110, 110), (0, 128, 60)


def require_video(kind: str) -> None:
    """Say early that a film of this kind cannot be written here.

    Raises:
        UnknownName: no such kind.
        MissingExtra: mp4 without imageio and its ffmpeg.
    """
    if kind not in ("gif", "mp4", "none"):
        raise UnknownName("kind of video", kind, ["gif", "mp4", "none"])
    if kind == "mp4" and not (find_spec("imageio") and find_spec("imageio_ffmpeg")):
        raise MissingExtra("an mp4 film (--video gif works without)", "video")


def blend_goal(frames: Frames, goal: Frames) -> Frames:
    """Frames (..., 64, 64, 3) with the goal image shining through."""
    mixed = (1.0 - GHOST) * frames.astype(np.float64) + GHOST * goal.astype(np.float64)
    return mixed.round().astype(np.uint8)


def draw_film(report: PlanReport) -> Frames:
    """The filmed episodes side by side in real time, goal ghosted in, the distance under each.

    Returns:
        (P, height, width, 3) pictures, both sides multiples of 16 as video codecs want them.
    """
    shown = report.filmed
    if not shown:
        raise InvalidInput("no episode's frames were kept")
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    tile = ZOOM * len(shown[0].goal_image)
    width, height = MARGIN + columns * (tile + MARGIN), 28 + rows * (tile + CAPTION) + MARGIN
    width, height = -(-width // 16) * 16, -(-height // 16) * 16
    left = (width - columns * (tile + MARGIN) + MARGIN) // 2
    ghosts = [blend_goal(e.film, e.goal_image) for e in shown]
    pictures = []
    last = len(shown[0].actions)
    for step in [*range(0, last, STRIDE), *[last] * HOLD]:
        sheet = Image.new("RGB", (width, height), "white")
        pen = ImageDraw.Draw(sheet)
        pen.text((left, 8), f"{step * STEP_SECONDS:.2f} s   ghost: goal image", fill=INK, font=_font(13))
        for k, (episode, ghost) in enumerate(zip(shown, ghosts, strict=True)):
            x, y = left + k % columns * (tile + MARGIN), 28 + k // columns * (tile + CAPTION)
            sheet.paste(Image.fromarray(ghost[step]).resize((tile, tile), Image.Resampling.NEAREST), (x, y))
            pen.text((x, y + tile + 3), f"episode {k + 1}", fill=MUTED, font=_font(12))
            text, colour = _status(episode, step)
            pen.text((x, y + tile + 18), text, fill=colour, font=_font(13))
        pictures.append(np.asarray(sheet))
    return np.stack(pictures)


def encode_video(pictures: Frames, kind: str = "gif") -> bytes:
    """Pictures (P, height, width, 3) as the bytes of a `gif` or `mp4` file, 25 a second.

    Raises:
        UnknownName: no such kind.
        MissingExtra: mp4 without imageio and its ffmpeg.
    """
    require_video(kind)
    rate = 1.0 / (STRIDE * STEP_SECONDS)
    if kind == "mp4":
        import imageio.v3 as imageio

        data: bytes = imageio.imwrite("<bytes>", pictures, extension=".mp4", fps=rate)
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
        duration=round(1000 / rate),
        loop=0,
        optimize=False,
    )
    return stream.getvalue()


def _status(episode: Episode, step: int) -> tuple[str, tuple[int, int, int]]:
    """How far from the goal, and in which colour to say so."""
    if episode.tip_distance is None:
        return f"latent distance {episode.latent_distance[step]:.2f}", INK
    text = f"{1000 * episode.tip_distance[step]:.0f} mm from the goal"
    done = step == len(episode.actions)
    if done:
        text += ": reached" if episode.success else ": missed"
    return text, GREEN if done and episode.success else INK


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
