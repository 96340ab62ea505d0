"""Figures and film of a comparison, as PNG and GIF bytes."""

from __future__ import annotations

from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from PIL import Image, ImageDraw

from worldplan.arrays import Floats
from worldplan.envs.reacher import STEP_SECONDS
from worldplan.envs.rendering import render_frames
from worldplan.errors import InvalidInput
from worldplan.eval.compare.result import Comparison, ComparisonRow
from worldplan.eval.show.film import HOLD, STRIDE, blend_goal, encode_video, font
from worldplan.eval.show.style import BLUE, GREEN, JOINTS, ORANGE, RED, VIOLET, png, tidy
from worldplan.eval.statistics.correlation import FEWEST
from worldplan.eval.statistics.estimate import Estimate

KINDS = {"oracle": GREEN, "untrained": RED}  # all other kinds are blue
GOALS = (BLUE, ORANGE, VIOLET)
LEAST = 1e-3  # smaller 1 - R2 are drawn there, since the axis is logarithmic
DOTS = 1500  # latents drawn
ZOOM, MARGIN, LABEL = 2, 6, 18  # of the film, pixels


def draw_cost_against_r2(comparison: Comparison) -> bytes:
    """PNG: mean cost ratio against 1 - R2(latent -> joint angles), one dot per encoder, numbered by rank.

    Both axes are logarithmic; bars are 95% intervals.
    """
    figure = Figure(figsize=(9.0, 5.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    drawn = [(k, row) for k, row in enumerate(comparison.rows, 1) if row.ok and row.control and row.latent_to_state]
    for k, row in drawn:
        assert row.control is not None and row.latent_to_state is not None
        x, y = _one_minus(row.latent_to_state), row.control.cost_ratio_mean
        colour = KINDS.get(row.kind, BLUE)
        axes.errorbar(x.value, y.value, _bars(y), _bars(x), fmt="none", ecolor=colour, elinewidth=1, alpha=0.6)
        axes.plot(x.value, y.value, "o", ms=13, color=colour, label=f"{k}  {_plain(_short(row.name))}", zorder=3)
        axes.annotate(str(k), (x.value, y.value), color="white", fontsize=8, ha="center", va="center", zorder=4)
    axes.set(xscale="log", yscale="log")
    axes.margins(0.08)
    for line, baseline in zip(cycle(["-", "--", ":"]), comparison.baselines, strict=False):
        level = baseline.cost_ratio_mean.value
        if np.isfinite(level) and level > 0:
            axes.axhline(level, color="0.45", ls=line, lw=1, label=_plain(baseline.name))
    axes.set_xlabel("1 − R²(latent → joint angles); to the left: identified")
    axes.set_ylabel("mean cost over the true-state LQR's")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{'≤ ' if np.isclose(value, LEAST) else ''}{value:g}")
    )
    axes.grid(color="0.92", lw=0.8)
    rank = comparison.correlation.spearman
    if comparison.correlation.n >= FEWEST and np.isfinite(rank.value):
        axes.set_title(f"rank correlation {rank} over {comparison.correlation.n} encoders", fontsize=10, loc="left")
    figure.legend(loc="outside right upper", fontsize=8, frameon=False, labelspacing=0.75)
    tidy(axes)
    return png(figure)


def draw_encoder(comparison: Comparison, row: ComparisonRow) -> bytes:
    """PNG of one encoder: its latent coloured by each true joint angle, and the joint paths planned in it.

    Raises:
        InvalidInput: the row holds neither latents nor paths.
    """
    panels = (2 if row.latents is not None else 0) + bool(row.paths)
    if not panels:
        raise InvalidInput(f"row {row.name!r} holds nothing to draw")
    figure = Figure(figsize=(3.4 * panels, 3.1), dpi=110, layout="constrained")
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    if row.latents is not None:
        for joint, name in enumerate(JOINTS):
            _latents(axes.pop(0), row.latents, comparison.angles[:, joint], name)
    if row.paths:
        _paths(axes.pop(0), comparison, row.paths)
    return png(figure)


def draw_film(comparison: Comparison, rows: list[ComparisonRow]) -> bytes:
    """GIF in real time: a line of pictures for each row, a column for each goal, with the goal image blended in.

    Raises:
        InvalidInput: no row holds paths.
        RenderingUnavailable: nothing can be rendered here.
    """
    shown = [("true-state LQR", comparison.reference_paths)] + [(_short(r.name), r.paths) for r in rows if r.paths]
    if len(shown) == 1:
        raise InvalidInput("no row holds paths to film")
    profile, films = comparison.config.profile, []
    for _, paths in shown:
        line = []
        for path, goal, target in zip(paths, comparison.goals, comparison.targets, strict=True):
            steps = path[np.r_[0 : len(path) - 1 : STRIDE, len(path) - 1]]
            line.append(blend_goal(render_frames(steps, target, profile), render_frames(goal[None], target, profile)))
        films.append(np.concatenate(line, axis=2))  # goals side by side
    side = ZOOM * films[0].shape[1]
    width, height = ZOOM * films[0].shape[2] + 2 * MARGIN, len(films) * (side + LABEL) + 2 * MARGIN
    pictures, last = [], len(films[0]) - 1
    caption = font(12)
    for step in [*range(last), *[last] * HOLD]:
        sheet = Image.new("RGB", (width, height), "white")
        pen = ImageDraw.Draw(sheet)
        for k, (film, (name, _)) in enumerate(zip(films, shown, strict=True)):
            y = MARGIN + k * (side + LABEL)
            clock = f"   {step * STRIDE * STEP_SECONDS:.2f} s" if k == 0 else ""
            pen.text((MARGIN, y), name + clock, fill=(32, 32, 32), font=caption)
            picture = Image.fromarray(film[step]).resize((ZOOM * film.shape[2], side), Image.Resampling.NEAREST)
            sheet.paste(picture, (MARGIN, y + LABEL))
        pictures.append(np.asarray(sheet))
    return encode_video(np.stack(pictures))


def _latents(axes: Axes, latents: Floats, angle: Floats, joint: str) -> None:
    flat = np.column_stack([latents, np.zeros(len(latents))])[:DOTS, :2]  # a latent of one dimension lies on a line
    limit = float(np.abs(angle[:DOTS]).max())
    dots = axes.scatter(
        flat[:, 0], flat[:, 1], c=angle[:DOTS], s=9, cmap="viridis", vmin=-limit, vmax=limit, linewidths=0
    )
    bar = axes.figure.colorbar(dots, ax=axes, shrink=0.85, aspect=25, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    axes.set_aspect("equal", adjustable="datalim")
    tidy(axes, 8, title=f"latent by {joint} angle, rad")


def _paths(axes: Axes, comparison: Comparison, paths: tuple[Floats, ...]) -> None:
    for path, reference, goal, colour in zip(paths, comparison.reference_paths, comparison.goals, GOALS, strict=True):
        axes.plot(*reference.T, color=colour, lw=3.5, alpha=0.25, solid_capstyle="round")
        axes.plot(*path.T, color=colour, lw=1.3)
        axes.plot(*path[0], "o", color=colour, ms=5)
        # An angle and the angle + 2 pi look alike: mark the copy of the goal nearest to the path's end.
        turns = np.round((path[-1] - goal) / (2 * np.pi)) * [1, 0]
        axes.plot(*(goal + 2 * np.pi * turns), "*", color=colour, ms=12, mec="white", mew=0.8, zorder=5)
    axes.set_aspect("equal", adjustable="datalim")
    tidy(axes, 8, title="paths to the goals in joint space", xlabel="shoulder, rad", ylabel="wrist, rad")


def _one_minus(r2: Estimate) -> Estimate:
    return Estimate(*(max(LEAST, 1 - value) for value in (r2.value, r2.high, r2.low)))


def _bars(estimate: Estimate) -> Floats:
    """Lengths (2, 1) of an error bar, for matplotlib."""
    lengths = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
    return np.asarray(np.nan_to_num(np.array(lengths)).clip(0))


def _short(name: str, most: int = 30) -> str:
    """A name for a figure: the end of a long one, where folders differ."""
    return name if len(name) <= most else "…" + name[1 - most :]


def _plain(text: str) -> str:
    """Text that matplotlib does not read as mathematics."""
    return text.replace("$", r"\$")
