"""Agents of several worlds, each reaching goals in its own: the table, and one picture of them.

All agents were trained from random motion alone.

    python benchmarks/worlds.py --pairs 300
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure

from worldplan.agents.planning_agent import load_agent
from worldplan.arrays import Frames
from worldplan.data.files import atomic_write, write_json
from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rollout import rollout
from worldplan.envs.world.registry import find_world
from worldplan.eval.control.baselines import AGENT
from worldplan.eval.control.in_world import WorldPlanConfig, plan_in_world
from worldplan.eval.show.film import blend_goal
from worldplan.eval.show.style import png
from worldplan.eval.show.table import Table
from worldplan.provenance import provenance

TITLES = {
    "reacher": "reacher, stock frames",
    "point_mass": "point mass",
    "arm2": "arm of two joints",
    "arm3": "arm of three joints",
    "cartpole": "cart and pole, one force",
}
SECONDS = {"point_mass": 4.0, "cartpole": 4.0}  # of an episode; 3 s elsewhere
TILES = 7
REACHER_STEPS = 100


@dataclass(frozen=True)
class Options:
    """What to measure."""

    worlds: tuple[str, ...] = ("point_mass", "arm2", "arm3", "cartpole")
    pairs: int = 300
    seed: int = 1000
    """Of starts and goals."""
    out: Path = Path("benchmarks/results/worlds")
    picture: Path = Path("docs/worlds.png")


def main(options: Options) -> None:
    """Plan in every world, print, write."""
    torch.set_num_threads(1)
    films = {"reacher": (*_reacher(options.seed), REACHER_STEPS * 0.02)}
    lines = []
    for name in options.worlds:
        world = find_world(name)
        seconds = SECONDS.get(name, 3.0)
        config = WorldPlanConfig(options.pairs, round(seconds / world.card.step_seconds), seed=options.seed)
        report = plan_in_world(load_agent(name), world, config)
        films[name] = (*report.films[0], seconds)
        facts = {key: value for key, value in report.to_dict().items() if key != "paths"}
        write_json(options.out / f"{name}.json", {**provenance("benchmarks/worlds.py", options.seed), **facts})
        ends = np.array([path[-1] for path in report.paths])
        for row in report.rows:
            assert row.reached is not None
            assert world.judge is not None
            rate = row.reached
            tail = (
                f"{np.median(ends):.2g} / {np.quantile(ends, 0.95):.2g} {world.judge.unit}" if row.name == AGENT else ""
            )
            share = f"{rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}]"
            lines.append(
                [
                    name,
                    row.name,
                    f"{round(rate.value * options.pairs)} of {options.pairs}",
                    share,
                    tail if row.name == AGENT else "",
                ]
            )
    heads = ["world", "controller", "reached", "share, 95% interval", "error at the end, median / 95th percentile"]
    text = Table("Goals reached, by world", heads, lines).markdown()
    print(text)
    with atomic_write(options.out / "worlds.md") as stream:
        stream.write(text.encode())
    with atomic_write(options.picture) as stream:
        stream.write(_picture(films))


def _reacher(seed: int) -> tuple[Frames, Frames]:
    """Frames (T + 1, 64, 64, 3) and goal of an episode of the shipped agent."""
    env = ReacherGoal()
    run = rollout(env, load_agent("reacher"), 1, seed=seed, steps=REACHER_STEPS)
    goal = env._goal_image
    return run.frames[0], goal


def _picture(films: dict[str, Any]) -> bytes:
    figure = Figure(figsize=(11.0, 1.62 * len(films) + 0.45), dpi=110, layout="constrained")
    figure.suptitle(
        "Four worlds, learned from random motion alone: start to goal from pixels", fontsize=13, weight="bold"
    )
    grid = figure.subplots(len(films), TILES + 1, squeeze=False)
    for row, (name, (frames, goal, seconds)) in zip(grid, films.items(), strict=True):
        times = np.linspace(0, 0.6 * (len(frames) - 1), TILES).round().astype(int)  # then the arm is there
        pictures = [*blend_goal(frames[times], goal), goal]
        labels = [*(f"{t / (len(frames) - 1) * seconds:.1f} s" for t in times), "goal"]
        for axes, picture, label in zip(row, pictures, labels, strict=True):
            axes.imshow(picture)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            axes.set_title(label, fontsize=8)
        row[0].set_ylabel(TITLES.get(name, name).replace(" of ", "\nof ").replace(", ", ",\n"), fontsize=9)
    return png(figure)


if __name__ == "__main__":
    main(tyro.cli(Options))
