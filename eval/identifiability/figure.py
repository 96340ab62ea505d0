"""Identifiability of several encoders in one picture: R2 by label, energy by degree, Theorem 3."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worldplan.errors import InvalidInput
from worldplan.eval.identifiability.identify import IdentifiabilityReport
from worldplan.eval.identifiability.regression import LABEL_KINDS
from worldplan.eval.show.style import BLUE, GREEN, ORANGE, RED, png, tidy
from worldplan.eval.statistics.estimate import Estimate

LABEL_COLOURS = dict(zip(LABEL_KINDS, (BLUE, ORANGE, GREEN), strict=True))
DEGREE_COLOURS = (BLUE, ORANGE, GREEN, "0.8")
LEAST = 1e-5  # errors below are drawn there, for the axis is logarithmic


def draw_identifiability(reports: Mapping[str, IdentifiabilityReport]) -> bytes:
    """A PNG with a line for each encoder, the first on top. Raises InvalidInput without encoders.

    Left: R2 of joint angles from the latent, by kind of label, and the ceiling of unwrapped labels. Middle: shares of
    the latent's variance by Hermite degree. Right: measured distance from a rotation, and its bound by Theorem 3.
    """
    if not reports:
        raise InvalidInput("no encoder to draw")
    figure = Figure(figsize=(13.0, 2.2 + 0.5 * len(reports)), dpi=110, layout="constrained")
    left, middle, right = figure.subplots(1, 3, sharey=True)
    names, found = list(reports), list(reports.values())
    for place, report in enumerate(found):
        for k, kind in enumerate(LABEL_KINDS):
            label = kind if place == 0 else None
            _point(left, report.labels[kind].latent_to_state, place + 0.2 * (k - 1), LABEL_COLOURS[kind], label)
        ceiling = report.ceiling["unwrapped"]
        left.plot([ceiling, ceiling], [place - 0.35, place + 0.35], color="0.3", lw=1, ls=":")
        _energy(middle, report, place)
        for quantity, colour, label in (("error", BLUE, "measured"), ("bound", RED, "bound")):
            estimate = getattr(report.theorem3, quantity)
            _point(right, estimate, place, colour, label if place == 0 else None, LEAST)
    left.set_yticks(range(len(names)), names)
    left.set_ylim(len(names) - 0.5, -0.5)
    left.set_title("R²(latent → angles) by label; dotted: ceiling", fontsize=9.5)
    left.set_xlim(min(-0.02, *(r.labels[k].latent_to_state.low for r in found for k in LABEL_KINDS)), 1.02)
    middle.set_title("variance by Hermite degree of the state", fontsize=9.5)
    middle.set_xlim(0, 1)
    right.set_title("E|h − Qz|², and its bound by Theorem 3", fontsize=9.5)
    right.set_xscale("log")
    for axes, columns in ((left, 3), (middle, 4), (right, 2)):
        tidy(axes)
        axes.grid(axis="x", color="0.92", lw=0.8)
        axes.set_axisbelow(True)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=columns, fontsize=8, frameon=False)
    return png(figure)


def _point(axes: Axes, value: Estimate, place: float, colour: str, label: str | None, least: float = -np.inf) -> None:
    x, low, high = (max(least, number) for number in (value.value, value.low, value.high))
    axes.plot([low, high], [place, place], color=colour, lw=1.4)
    axes.plot(x, place, "o", color=colour, ms=5, label=label)


def _energy(axes: Axes, report: IdentifiabilityReport, place: int) -> None:
    shares = [*(share.value for share in report.hermite.by_degree), report.hermite.rest.value]
    names = [*(f"degree {d}" for d in range(1, len(shares))), "rest"]
    left = 0.0
    for share, name, colour in zip(np.clip(shares, 0, None), names, DEGREE_COLOURS, strict=True):
        axes.barh(place, share, 0.6, left, color=colour, label=name if place == 0 else None)
        left += float(share)
