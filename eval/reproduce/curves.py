"""The curves over excitation and over amounts of motion, as a table, as Markdown, as a picture, and on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worldplan.data.files import atomic_write, write_json
from worldplan.eval.reproduce.motion import OBJECTIVES, Motion, controls, motions
from worldplan.eval.reproduce.trajectories import MotionReport, MotionResult
from worldplan.eval.show.style import BLUE, ORANGE, png, tidy
from worldplan.eval.show.table import Table

COLOURS = {"excitation": BLUE, "lejepa": ORANGE}
NAMES = {"excitation": "excitation", "lejepa": "LeJEPA on pairs"}
NONE = "–"
COLUMNS = (
    "objective",
    "who acts",
    "minutes",
    "explained of\ntrue angles",
    "trained,\nseeds",
    "R2 on N(0, 1)\nshoulder / wrist",
    "error all round, rad\nshoulder / wrist",
    "goals reached",
    "cost ratio,\nmedian",
    "cost ratio,\ntotal",
)


def table(report: MotionReport) -> Table:
    """One row for each condition: medians over seeds, with their range if there are several; the baselines last."""
    rows = [_line(motion, report.of(motion)) for motion in motions(report.scale)]
    rows += [_baseline(found) for found in report.baselines]
    scale = report.scale
    warning = "; smoke: these numbers mean nothing" if report.name == "smoke" else ""
    seeds = "one encoder a row" if scale.seeds == 1 else f"medians of {scale.seeds} seeds [lowest, highest]"
    notes = [
        f"{seeds}; {scale.plans} pairs of start and goal of the reset distribution, reached: fingertip within .025 m "
        "at the last of 100 steps.",
        "R2: wrapped angles from latents, linear. Error: best affine map of the latent space over uniform poses, root "
        "mean square.",
        "Explained: shares of displacement that the actions explain on held-out episodes, by direction, in the windows "
        f"of excitation ({scale.window} steps, {scale.policy_window} where SAC acts), were the latent the true angles.",
        f"Same network and at most {scale.steps:,} steps of {scale.net.batch} for every row; dynamics are fitted to "
        "the same episodes. Noise: standard deviation of what is added to SAC's torques, of 1.",
    ]
    planted = [f"{row[0]} {row[1]}" for row in controls_table(report).rows]
    notes.append(f"Negative controls that were reported as such, seeds: {', '.join(planted)}.")
    for motion in motions(scale):
        if lost := [row for row in report.of(motion) if row.reason]:
            notes.append(f"{motion.name}, {len(lost)} of {len(report.of(motion))}: {_said(lost[0])}.")
    return Table(f"Encoders by excitation and amount of motion{warning}", COLUMNS, rows, notes)


PLANTED = {
    "": "SAC's policy without noise",
    "shuffled": "actions of other windows",
    "unplugged": "the wrist's motor unplugged",
    "lines": "no circle in the space",
}


def controls_table(report: MotionReport) -> Table:
    """One row for each negative control: in how many seeds it was reported, and as what."""
    rows = []
    for control in controls(report.scale):
        told, found = report.reported(control), report.of(control)
        what = dict.fromkeys(_said(row) or "; ".join(row.faults) or f"J {row.J:.2f}" for row in found)
        rows.append([PLANTED[control.fault], f"{sum(told)} of {len(told)}", "\n".join(what)])
    return Table("Negative controls of excitation", ("planted", "reported, seeds", "what was said"), rows, [])


def _said(row: MotionResult) -> str:
    """Why a run ended with an error, without what to do about it."""
    return row.reason.split(";")[0]


def write_trajectories(report: MotionReport, out: Path | str) -> list[Path]:
    """Write `trajectories.json`, `trajectories.md` and `trajectories.png`, and return their paths."""
    paths = [Path(out) / f"trajectories.{kind}" for kind in ("json", "md", "png")]
    write_json(paths[0], report.to_dict())
    shown = table(report)
    source = f"Made by `{report.provenance['command']}`, seed {report.provenance['seed']}."
    told = [f"# {shown.title}", "", "![dose-response](trajectories.png)", "", shown.markdown(), ""]
    planted = controls_table(report)
    notes = [*(f"- {note}" for note in shown.notes), "", f"## {planted.title}", "", planted.markdown(), ""]
    text = "\n".join([*told, *notes, source, ""])
    for path, content in zip(paths[1:], (text.encode(), draw(report)), strict=True):
        with atomic_write(path) as stream:
            stream.write(content)
    return paths


def draw(report: MotionReport) -> bytes:
    """A PNG: R2 of the wrist, error and goals reached by exploration noise, and goals reached by minutes of motion.

    A dot is an encoder, lines join medians of seeds, and a cross marks seeds that were refused, or found nothing.
    """
    scale = report.scale
    figure = Figure(figsize=(13.0, 3.5), dpi=110, layout="constrained")
    panels = figure.subplots(1, 4)
    doses = [*scale.noises, None]
    names = ["random" if noise is None else f"{noise:g}" for noise in doses]
    measures = ("R2 of the wrist, poses N(0, 1)", "error of the worse joint, rad", "goals reached")
    for axes, title, value in zip(panels[:3], measures, (_wrist, _error, _reach), strict=True):
        for objective in OBJECTIVES:
            rows = [report.of(Motion(objective, noise, scale.minutes)) for noise in doses]
            _curve(axes, range(len(doses)), rows, value, objective)
        axes.set_xticks(range(len(doses)), names)
        tidy(axes, title=title, xlabel="noise added to SAC's torques")
    amounts = sorted({*scale.amounts, scale.minutes})
    rows = [report.of(Motion("excitation", None, minutes)) for minutes in amounts]
    _curve(panels[3], range(len(amounts)), rows, _reach, "excitation")
    panels[3].set_xticks(range(len(amounts)), [f"{minutes:g}" for minutes in amounts])
    tidy(panels[3], title="goals reached, random torques", xlabel="minutes of motion")
    for axes in (panels[0], panels[2], panels[3]):
        axes.set_ylim(-0.05, 1.05)
    panels[1].set_ylim(0.0, 1.1 * panels[1].dataLim.ymax)
    panels[0].plot([], [], "x", color="0.3", ms=7, label="refused, or nothing found")
    panels[0].legend(fontsize=8, frameon=False)
    return png(figure)


def _curve(
    axes: Axes,
    places: Sequence[int],
    rows: list[list[MotionResult]],
    value: Callable[[MotionResult], float],
    objective: str,
) -> None:
    colour = COLOURS[objective]
    medians = []
    for place, found in zip(places, rows, strict=True):
        values = [value(row) for row in found if row.r2]
        axes.plot([place] * len(values), values, "o", color=colour, ms=4, alpha=0.5, mew=0)
        medians.append(np.median(values) if values else np.nan)
        lost = len(found) - len(values)
        if lost:  # above all values
            above = axes.get_xaxis_transform()
            axes.plot(place, 1.0, "x", color=colour, ms=7, clip_on=False, transform=above)
            if values:
                text = f"  {lost} of {len(found)}"
                axes.text(place, 1.0, text, color=colour, fontsize=8, va="center", transform=above)
    axes.plot(places, medians, "-", color=colour, lw=1.5, label=NAMES[objective])


def _wrist(row: MotionResult) -> float:
    return max(0.0, float(row.r2[1]["value"]))


def _error(row: MotionResult) -> float:
    return max(float(e["value"]) for e in row.error)


def _reach(row: MotionResult) -> float:
    return float(row.control["reach"]["value"]) if row.control else 0.0


def _line(motion: Motion, found: list[MotionResult]) -> list[str]:
    who = "random" if motion.noise is None else f"SAC, noise {motion.noise:g}"
    head = [NAMES[motion.objective], who, f"{motion.minutes:g}"]
    seen = [row for row in found if row.r2]
    truths = [row.truth for row in found if row.truth]
    told = " / ".join(f"{np.median(shares):.2f}" for shares in zip(*truths, strict=True)) if truths else NONE
    head += [told, f"{len(seen)} of {len(found)}"]
    if not seen:
        return [*head, *[NONE] * (len(COLUMNS) - len(head))]
    pairs = [" / ".join(_cell([float(p[j]["value"]) for p in parts]) for j in range(2)) for parts in _parts(seen)]
    return [*head, *pairs, *_controls([row.control for row in seen if row.control])]


def _parts(seen: list[MotionResult]) -> tuple[list[Any], list[Any]]:
    return [row.r2 for row in seen], [row.error for row in seen]


def _baseline(found: dict[str, Any]) -> list[str]:
    return [NONE, str(found["name"]), *[NONE] * (len(COLUMNS) - 5), *_controls([found])]


def _controls(found: list[dict[str, Any]]) -> list[str]:
    if not found:
        return [NONE] * 3
    reach = [100 * float(row["reach"]["value"]) for row in found]
    costs = (_cell([float(row[name]["value"]) for row in found]) for name in ("cost_ratio_median", "cost_ratio_total"))
    return [_cell(reach, "{:.1f}") + "%", *costs]


def _cell(values: list[float], form: str = "{:.2f}") -> str:
    text = form.format(np.median(values))
    return text if len(values) == 1 else f"{text} [{form.format(min(values))}, {form.format(max(values))}]"
