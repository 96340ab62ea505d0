"""Colours, names and axes that all figures share."""

from __future__ import annotations

from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, RED, GREEN, ORANGE, VIOLET = "#1f4e79", "#c1272d", "#5b8c2a", "#e08a1e", "#8a3ffc"
JOINTS = ("shoulder", "wrist")
JOINT_COLOURS = (BLUE, ORANGE)


def tidy(axes: Axes, size: float = 9, /, **names: str) -> None:
    """Set small tick labels and remove the frame at the top and right.

    `names` are `title`, `xlabel` and `ylabel`, written in this size of the labels, points.
    """
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if names:
        axes.set(**names)
        axes.title.set_fontsize(size + 1)
        axes.xaxis.label.set_fontsize(size)
        axes.yaxis.label.set_fontsize(size)


def png(figure: Figure) -> bytes:
    """PNG bytes of a figure."""
    stream = BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
