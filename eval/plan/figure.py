"""Figures of `worldplan plan`, drawn through matplotlib's objects: no window, no global state."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from worldplan.arrays import Floats, Frames
from worldplan.envs.reacher import STEP_SECONDS, TIP_TOLERANCE
from worldplan.errors import InvalidInput
from worldplan.eval.plan.result import Episode, PlanReport
from worldplan.eval.show.film import DONE, INK, Tile, blend_goal, draw_tiles
from worldplan.eval.show.style import BLUE, GREEN, JOINT_COLOURS, JOINTS, RED, png, tidy

ROWS = 3  # episodes drawn
HEAD, EPISODE = 1.0, 4.35  # inches: above the first episode, and each
LEFT, RIGHT = 0.055, 0.978  # margins
FLOOR = 0.5  # mm: smaller distances are drawn there, since the axis is logarithmic
TILES = 7  # pictures of a film strip, the goal beside them


def draw_plan(report: PlanReport) -> bytes:
    """PNG of the first episodes: film strip with the goal blended in, latent path, distance, torques.

    Raises:
        InvalidInput: no episode's frames were kept.
    """
    shown = report.filmed[:ROWS]
    if not shown:
        raise InvalidInput("no episode's frames were kept")
    height = HEAD + EPISODE * len(shown)
    figure = Figure(figsize=(12.0, height), dpi=110)
    figure.text(LEFT, 1 - 0.12 / height, report.title, ha="left", va="top", fontsize=15, fontweight="bold")
    lines = _subtitle(report, len(shown))
    figure.text(LEFT, 1 - 0.47 / height, lines, ha="left", va="top", fontsize=9.5, color="0.3", linespacing=1.4)
    plane = _principal_plane(np.concatenate([np.vstack([e.latents, e.goal_latent]) for e in report.episodes]))
    for k, episode in enumerate(shown):
        top = height - HEAD - EPISODE * k  # inches from below
        strip = (LEFT, (top - 1.65) / height, RIGHT - LEFT, 1.35 / height)
        plots = figure.add_gridspec(
            1,
            3,
            left=LEFT,
            right=RIGHT,
            top=(top - 2.2) / height,
            bottom=(top - EPISODE + 0.65) / height,
            wspace=0.22,
            width_ratios=[0.8, 1.0, 1.0],
        )
        _strip(figure.add_axes(strip), episode, k + 1)
        others = [e for e in report.episodes if e is not episode]
        _path(figure.add_subplot(plots[0]), episode, others, plane)
        _distance(figure.add_subplot(plots[1]), episode, report.config.success)
        _torques(figure.add_subplot(plots[2]), episode)
    return png(figure)


def _subtitle(report: PlanReport, shown: int) -> str:
    agent, n = report.agent, len(report.episodes)
    which = ("one episode" if n == 1 else f"all {n} episodes") if shown == n else f"the first {shown} of {n} episodes"
    first = f"Agent {Path(agent['name']).name!r}, planner {agent['planner']}; {which}."
    if report.controllers and n > 1:
        row = report.controllers[0]
        first += (
            f" Over all {n}: median fingertip error {1000 * row.tip_error_median.value:.1f} mm,"
            f" median cost {row.cost_ratio_median.value:.2f} × the true-state LQR's."
        )
    second = "The agent sees 64 × 64 images and one goal image, nothing else."
    if report.config.target != "hidden":
        second += " The red ball is dm_control's target, here a distractor."
    return f"{first}\n{second} Faint arm: the goal, laid over."


def _strip(axes: Axes, episode: Episode, number: int) -> None:
    last = len(episode.actions)
    steps = np.round(last * (np.arange(TILES) / (TILES - 1)) ** 2).astype(int)  # most happens early
    tiles = [*blend_goal(episode.film[steps], episode.goal_image), episode.goal_image]
    side, gap = tiles[0].shape[0], 4
    sheet = np.full((side, len(tiles) * (side + gap) - gap, 3), 255, dtype=np.uint8)
    labels = ["start", *(f"{step * STEP_SECONDS:.2f} s" for step in steps[1:]), "goal image"]
    for i, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        x = i * (side + gap)
        sheet[:, x : x + side] = tile
        colour = RED if i == TILES else "0.2"
        axes.text(x + side / 2, side + 3, label, ha="center", va="top", fontsize=9, color=colour)
    axes.imshow(sheet, interpolation="nearest", aspect="equal")
    axes.set_axis_off()
    axes.set_title(_heading(episode, number), loc="left", fontsize=10.5)


def _heading(episode: Episode, number: int) -> str:
    if episode.tip_distance is None:
        first, last = episode.latent_distance[[0, -1]]
        return f"Episode {number}: latent distance to the goal image {first:.2f} → {last:.2f}"
    verdict = "reached" if episode.success else "missed"
    first, last = 1000 * episode.tip_distance[[0, -1]]
    ratio = "" if episode.cost_ratio is None else f", cost {episode.cost_ratio:.2f} × the true-state LQR's"
    return f"Episode {number}: {verdict}, fingertip {first:.0f} → {last:.1f} mm from the goal's{ratio}"


def _principal_plane(latents: Floats) -> tuple[Floats, Floats] | None:
    """Mean and two axes (n, 2) to draw latents with; None for n <= 2."""
    if latents.shape[1] <= 2:
        return None
    mean = latents.mean(axis=0)
    return mean, np.linalg.svd(latents - mean, full_matrices=False)[2][:2].T


def _flat(latents: Floats, plane: tuple[Floats, Floats] | None) -> Floats:
    """Latents (T, n) as points (T, 2)."""
    if plane is not None:
        return np.asarray((latents - plane[0]) @ plane[1])
    return latents if latents.shape[1] == 2 else np.column_stack([latents, np.zeros(len(latents))])


def _path(axes: Axes, episode: Episode, others: list[Episode], plane: tuple[Floats, Floats] | None) -> None:
    for other in others[:30]:
        axes.plot(*_flat(other.latents, plane).T, color="0.85", lw=0.8, zorder=1)
    h, g = _flat(episode.latents, plane), _flat(episode.goal_latent[None], plane)[0]
    axes.plot(*h.T, color=BLUE, lw=1.4, marker=".", ms=3.5, zorder=2)
    axes.plot(*h[0], "o", color=GREEN, ms=8, zorder=3, label="start")
    axes.plot(*g, "*", color=RED, ms=13, zorder=3, label="goal image")
    axes.set_aspect("equal", adjustable="datalim")
    title = "latent path" + (" (grey: other episodes)" if others else "")
    kind = "latent coordinate" if plane is None else "principal component"
    axes.legend(fontsize=8, frameon=False, loc="best")
    tidy(axes, title=title, xlabel=f"{kind} 1", ylabel=f"{kind} 2")


def _distance(axes: Axes, episode: Episode, success: str) -> None:
    seconds = STEP_SECONDS * np.arange(len(episode.latents))
    if episode.tip_distance is None:
        axes.plot(seconds, episode.latent_distance, color=BLUE, lw=1.6)
        axes.set_ylim(bottom=0)
        title = "distance to the goal image, latent units"
    else:
        axes.semilogy(seconds, (1000 * episode.tip_distance).clip(FLOOR), color=BLUE, lw=1.6)
        title = "fingertip to the goal's, mm"
        axes.set_ylim(FLOOR, 700)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if success == "tip":
            axes.axhspan(FLOOR, 1000 * TIP_TOLERANCE, color=GREEN, alpha=0.15, lw=0)
            label = f"reached: below {1000 * TIP_TOLERANCE:g} mm"
            axes.text(0.98 * seconds[-1], 900 * TIP_TOLERANCE, label, fontsize=8, color=GREEN, ha="right", va="top")
    axes.set_xlim(0, seconds[-1])
    tidy(axes, title=title, xlabel="seconds")


def _torques(axes: Axes, episode: Episode) -> None:
    seconds = STEP_SECONDS * np.arange(len(episode.actions) + 1)
    for torque, colour, name in zip(episode.actions.T, JOINT_COLOURS, JOINTS, strict=True):
        axes.step(seconds, [*torque, torque[-1]], where="post", color=colour, lw=1.3, label=name)
    axes.set_ylim(-1.12, 1.5)
    axes.set_yticks([-1, -0.5, 0, 0.5, 1])
    axes.set_xlim(0, seconds[-1])
    axes.legend(fontsize=8, frameon=False, loc="upper right", ncols=2)
    for limit in (-1, 1):
        axes.axhline(limit, color="0.7", lw=0.8, ls=":")
    tidy(axes, title="torques (limits ± 1)", xlabel="seconds")


def draw_film(report: PlanReport) -> Frames:
    """Pictures (P, height, width, 3) of the filmed episodes, the distance under each (`draw_tiles`)."""
    tiles = [Tile(e.film, e.goal_image, partial(_status, e)) for e in report.filmed]
    return draw_tiles(tiles, STEP_SECONDS)


def _status(episode: Episode, step: int) -> tuple[str, tuple[int, int, int]]:
    """Distance to the goal as text, and its colour."""
    if episode.tip_distance is None:
        return f"latent distance {episode.latent_distance[step]:.2f}", INK
    text = f"{1000 * episode.tip_distance[step]:.0f} mm from the goal"
    done = step == len(episode.actions)
    if done:
        text += ": reached" if episode.success else ": missed"
    return text, DONE if done and episode.success else INK
