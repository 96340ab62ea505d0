"""Colours, names and axes that all figures share."""

from __future__ import annotations

from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, RED, GREEN, ORANGE, VIOLET = "#1f4e79", "#c1272d", "#5b8c2a", "#e08a1e", "#8a3ffc"
JOINTS = ("shoulder", "wrist")
JOINT_COLOURS = (BLUE, ORANGE)


def tidy(axes: Axes) -> None:
    """Small tick labels, no frame above and to the right."""
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    stream = BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
