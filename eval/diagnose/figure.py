"""One picture of how trajectories differ from the Gaussian world: a column for each dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike
from scipy.stats import norm

from worldplan.arrays import Floats
from worldplan.data.files import atomic_write
from worldplan.envs.worlds import JOINT_RANGE
from worldplan.errors import InvalidInput
from worldplan.eval.diagnose.normality import JointDiagnostics, TrajectoryDiagnostics
from worldplan.eval.show.style import JOINT_COLOURS, JOINTS, RED, tidy

WIDTH, HEIGHT, DPI = 12.0, 11.5, 100  # inches, inches, dots an inch: 1200 pixels wide
BINS = 60
SHOWN = 99.8  # per cent of |theta| that the axes must hold
LIMITS = ("π", "160°")  # the names of JOINT_RANGE
TICKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def figure(diagnostics: Sequence[TrajectoryDiagnostics], samples: Mapping[str, ArrayLike], path: Path | str) -> None:
    """Write a PNG: histograms of both joints with the Gaussian of equal mean and sd, joint density, autocorrelation.

    `samples` has pooled joint angles (N, 2), radians, for each name in `diagnostics`. The file is written whole or not
    at all. Raises InvalidInput without diagnostics, for two of one name, or for a name without such finite angles.
    """
    if not diagnostics or len({d.name for d in diagnostics}) < len(diagnostics):
        raise InvalidInput(f"need diagnostics with a name of their own each, got {[d.name for d in diagnostics]}")
    angles = [_angles(d.name, samples) for d in diagnostics]
    edge = 1.05 * max(np.pi, *(float(np.percentile(np.abs(a), SHOWN)) for a in angles))
    low = min(0.0, *(min(_memories(j)) for d in diagnostics for j in (d.shoulder, d.wrist)))
    drawing = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI)
    drawing.text(0.06, 0.985, "Joint angles against the Gaussian world", va="top", fontsize=15, fontweight="bold")
    note = "Tests see one pose of each episode, at a random time. Maps show the square root of the density."
    drawing.text(0.06, 0.959, note, va="top", fontsize=9.5, color="0.3")
    grid = drawing.add_gridspec(
        4,
        len(diagnostics),
        left=0.06,
        right=0.985,
        top=0.88,
        bottom=0.085,
        wspace=0.16,
        hspace=0.34,
        height_ratios=[1.0, 1.0, 1.45, 1.15],
    )
    for column, (d, a) in enumerate(zip(diagnostics, angles, strict=True)):
        axes = [drawing.add_subplot(grid[row, column]) for row in range(4)]
        for i, joint in enumerate((d.shoulder, d.wrist)):
            _histogram(axes[i], a[:, i], joint, i, edge)
        axes[0].set_title(_heading(d), fontsize=10.5, pad=8, linespacing=1.4)
        _density(axes[2], a, edge)
        _memory(axes[3], d, low)
        if column == 0:
            for ax, label in zip(axes, ("density", "density", "wrist, rad", "autocorrelation"), strict=True):
                ax.set_ylabel(label, fontsize=9)
    _legend(drawing)
    with atomic_write(path) as stream:
        drawing.savefig(stream, format="png")


def _angles(name: str, samples: Mapping[str, ArrayLike]) -> Floats:
    if name not in samples:
        raise InvalidInput(f"no angles for {name!r}; there are some for {sorted(samples)}")
    angles = np.asarray(samples[name], dtype=np.float64)
    if angles.ndim != 2 or angles.shape[1] != 2 or not len(angles) or not np.isfinite(angles).all():
        raise InvalidInput(f"{name}: need finite pooled joint angles (N, 2), got shape {angles.shape}")
    return angles


def _memories(joint: JointDiagnostics) -> tuple[float, ...]:
    return joint.autocorrelation + joint.autocorrelation_within + (joint.action_autocorrelation or ())


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _heading(d: TrajectoryDiagnostics) -> str:
    return f"{d.name}\n{d.episodes} episodes, {d.rows:,} poses\nboth joints: Henze-Zirkler {_p(d.henze_zirkler_p)}"


def _histogram(axes: Axes, angles: Floats, joint: JointDiagnostics, i: int, edge: float) -> None:
    axes.hist(angles, bins=BINS, range=(-edge, edge), density=True, color=JOINT_COLOURS[i], alpha=0.75)
    x = np.linspace(-edge, edge, 400)
    axes.plot(x, norm.pdf(x, joint.mean.value, joint.sd.value), color="0.15", lw=1.4)
    for limit in (-JOINT_RANGE[i], JOINT_RANGE[i]):
        axes.axvline(limit, 0, 0.78, color=RED, lw=1.0, ls=":")
    axes.set_xlim(-edge, edge)
    axes.set_ylim(0, 1.5 * axes.get_ylim()[1])  # room for the text
    left = f"skewness {_signed(joint.skewness.value)}\nexcess kurtosis {_signed(joint.excess_kurtosis.value)}"
    right = f"Epps-Pulley {_p(joint.epps_pulley_p)}\n{100 * joint.beyond.value:.1f}% past ±{LIMITS[i]}"
    axes.text(0.015, 0.97, left, transform=axes.transAxes, va="top", fontsize=8)
    axes.text(0.985, 0.97, right, transform=axes.transAxes, va="top", ha="right", fontsize=8)
    axes.set_xlabel(f"{JOINTS[i]}, rad", fontsize=9, labelpad=1)
    tidy(axes)


def _density(axes: Axes, angles: Floats, edge: float) -> None:
    edges = np.linspace(-edge, edge, BINS + 1)
    counts = np.histogram2d(angles[:, 0], angles[:, 1], bins=[edges, edges])[0]
    # The square root shows thin places beside thick ones.
    axes.pcolormesh(edges, edges, np.sqrt(counts.T), cmap="Blues", rasterized=True)
    variances, directions = np.linalg.eigh(np.cov(angles.T))
    for radius in (1, 2):
        width, height = 2 * radius * np.sqrt(variances.clip(0.0))
        tilt = float(np.degrees(np.arctan2(directions[1, 0], directions[0, 0])))
        axes.add_patch(Ellipse(tuple(angles.mean(axis=0)), width, height, angle=tilt, fill=False, color="0.15", lw=1.2))
    for limit in (-1, 1):
        axes.axvline(limit * JOINT_RANGE[0], color=RED, lw=1.0, ls=":")
        axes.axhline(limit * JOINT_RANGE[1], color=RED, lw=1.0, ls=":")
    axes.set_xlim(-edge, edge)
    axes.set_ylim(-edge, edge)
    axes.set_xlabel("shoulder, rad", fontsize=9, labelpad=1)
    tidy(axes)


def _memory(axes: Axes, d: TrajectoryDiagnostics, low: float) -> None:
    lags = np.arange(1, len(d.shoulder.autocorrelation) + 1)
    for joint, colour in zip((d.shoulder, d.wrist), JOINT_COLOURS, strict=True):
        axes.semilogx(lags, joint.autocorrelation, color=colour, lw=1.8)
        axes.semilogx(lags, joint.autocorrelation_within, color=colour, lw=1.4, ls="--")
        if joint.action_autocorrelation is not None:
            axes.semilogx(lags, joint.action_autocorrelation, color=colour, lw=0.9, ls=":", zorder=1)
    axes.axhline(0.0, color="0.7", lw=0.8)
    axes.set_ylim(low - 0.05, 1.05)
    axes.set_xlim(1, max(2, lags[-1]))
    ticks = [t for t in TICKS if t <= max(2, lags[-1])]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("lag, steps", fontsize=9, labelpad=1)
    tidy(axes)


def _legend(drawing: Figure) -> None:
    """Two lines at the foot that hold for all columns."""
    laws = [
        Line2D([], [], color="0.15", lw=1.4, label="Gaussian of equal mean and covariance (1 and 2 sd)"),
        Line2D([], [], color=RED, lw=1.0, ls=":", label="±π (shoulder), ±160° (wrist)"),
    ]
    joints = [Line2D([], [], color=c, lw=4, label=name) for c, name in zip(JOINT_COLOURS, JOINTS, strict=True)]
    styles = {"angles, around the pooled mean": "-", "angles, around each episode's mean": "--", "actions": ":"}
    memories = [Line2D([], [], color="0.3", lw=1.5, ls=style, label=label) for label, style in styles.items()]
    for handles, height in ((joints + laws, 0.022), (memories, 0.0)):
        drawing.legend(
            handles=handles, loc="lower center", bbox_to_anchor=(0.52, height), ncols=4, fontsize=9, frameon=False
        )
