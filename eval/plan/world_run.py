"""Picture and files of a plan in any world."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from worldplan.arrays import Floats, Frames
from worldplan.eval.control.in_world import WorldPlanReport
from worldplan.eval.plan.writing import write_pictures
from worldplan.eval.show.film import DONE, INK, Tile, blend_goal, draw_tiles, encode_video
from worldplan.eval.show.style import BLUE, GREEN, png, tidy
from worldplan.provenance import provenance

TILES = 7  # pictures of an episode


def draw_world_plan(report: WorldPlanReport) -> bytes:
    """PNG of the first episodes: film strips with the goal blended in, and what is left to the goal over time."""
    shown, judge = report.films, report.world.judge
    figure = Figure(
        figsize=(12.0, 1.6 * len(shown) + 3.4), dpi=110, layout=ConstrainedLayoutEngine(rect=(0.0, 0.03, 1.0, 0.97))
    )
    figure.suptitle(report.title, fontsize=14, fontweight="bold", ha="left", x=0.01)
    count = report.config.episodes
    note = f"The first {len(shown)} of {count} episodes; below, all of them. Faint: the goal, laid over."
    figure.text(0.01, 0.0, note, fontsize=9, color="0.3", va="bottom")
    grid = figure.add_gridspec(len(shown) + 1, TILES + 1, height_ratios=[1.0] * len(shown) + [1.7])
    for k, (frames, goal) in enumerate(shown):
        times = np.linspace(0, len(frames) - 1, TILES).round().astype(int)
        pictures = [*blend_goal(frames[times], goal), goal]
        seconds = [f"{t * report.world.card.step_seconds:.1f} s" for t in times]
        for j, (picture, label) in enumerate(zip(pictures, [*seconds, "goal"], strict=True)):
            axes = figure.add_subplot(grid[k, j])
            axes.imshow(picture)
            axes.set_axis_off()
            axes.set_title(label, fontsize=8.5)
    axes = figure.add_subplot(grid[len(shown), :])
    for path in report.paths:
        axes.plot(np.arange(len(path)) * report.world.card.step_seconds, path, color=BLUE, alpha=0.5, lw=1)
    if judge is not None:
        axes.axhline(judge.tolerance, color=GREEN, lw=1, ls="--")
    axes.set_xlabel("seconds")
    axes.set_ylabel(f"error, {judge.unit}" if judge is not None else "distance to the goal, latent units")
    axes.set_ylim(bottom=0)
    tidy(axes)
    return png(figure)


def draw_world_film(report: WorldPlanReport) -> Frames:
    """Pictures (P, height, width, 3) of the first episodes, what is left to the goal under each (`draw_tiles`)."""
    tiles = [
        Tile(frames, goal, partial(_status, report, report.paths[k])) for k, (frames, goal) in enumerate(report.films)
    ]
    return draw_tiles(tiles, report.world.card.step_seconds)


def _status(report: WorldPlanReport, path: Floats, step: int) -> tuple[str, tuple[int, int, int]]:
    """What is left to the goal as text, and its colour."""
    judge = report.world.judge
    if judge is None:
        return f"latent distance {path[step]:.2f}", INK
    return f"error {path[step]:.3f} {judge.unit}", DONE if path[step] <= judge.tolerance else INK


def write_world_plan(
    report: WorldPlanReport, folder: Path | str, command: str = "", *, video: str = "gif"
) -> list[Path]:
    """Write `plan.json`, `plan.png` and `plan.gif` or `plan.mp4`, each whole or not at all; returns their paths.

    `video` is `gif`, `mp4` or `none`. Raises MissingExtra for mp4 without the `video` extra.
    """
    films = {} if video == "none" else {f"plan.{video}": encode_video(draw_world_film(report), video)}
    facts = {**provenance(command, report.config.seed), **report.to_dict()}
    return write_pictures(folder, {"plan.png": draw_world_plan(report), **films}, facts)
