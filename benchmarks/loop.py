"""The numbers of the loop, from goal image to goal: prints a table and writes it with JSON beside it.

python benchmarks/loop.py --agents reacher reacher-lejepa --pairs 300 --out benchmarks/results
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
import tyro
from tqdm import tqdm

from worldplan import __version__
from worldplan.agents import load_agent
from worldplan.data.files import atomic_write, write_json
from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rollout import rollout
from worldplan.envs.tasks import Distribution, sample_tasks
from worldplan.eval.control.baselines import REFERENCE
from worldplan.eval.control.episodes import ControlSummary, evaluate_baselines, evaluate_control, summarise
from worldplan.eval.control.timing import StepTime, time_steps
from worldplan.eval.identifiability.identify import identify
from worldplan.learning.encoder import space_of
from worldplan.provenance import processor


@dataclass(frozen=True)
class Options:
    """What to measure."""

    agents: tuple[str, ...] = ("reacher", "reacher-lejepa")
    """Shipped agents or folders."""
    planners: tuple[str, ...] = ("lqr", "mpc")
    """The first one runs with every agent on every distribution, the others with the first agent on the normal one."""
    pairs: int = 300
    """Paired episodes per distribution."""
    seed: int = 2000
    """Of poses and targets; apart from every seed that training, fitting and development used."""
    profile: str = "dmc"
    target: str = "hard"
    out: Path = Path("benchmarks/results")


def main(options: Options) -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    started = os.getloadavg()
    world = {"profile": options.profile, "target": options.target}
    rows: list[ControlSummary] = []
    for distribution in get_args(Distribution):
        pairs = sample_tasks(options.pairs, options.seed, distribution)
        judged = {"success": "qpos"} if distribution == "ahead" else {}
        blind = evaluate_baselines(pairs, options.seed, **judged)
        first = options.planners[:1]
        for agent in options.agents:
            every = agent == options.agents[0] and distribution == "normal"
            for planner in options.planners if every else first:
                name = f"{distribution}: {agent}, {planner}"
                found = evaluate_control(
                    load_agent(agent, planner=planner),
                    pairs,
                    options.seed,
                    progress=partial(_bar, name),
                    **world,
                    **judged,
                )
                rows.append(summarise(name, found, blind[REFERENCE]))
        rows += [summarise(f"{distribution}: {name}", found, blind[REFERENCE]) for name, found in blind.items()]
    times = {f"{agent}, {p}": step_time(agent, p) for agent in options.agents for p in options.planners}
    flat = [agent for agent in options.agents if space_of(load_agent(agent).encoder).flat]
    report = {
        "version": __version__,
        "machine": {"processor": processor(), "cores": os.cpu_count(), "load": [started, os.getloadavg()]},
        "options": {**asdict(options), "out": str(options.out)},
        "control": [row.to_dict() for row in rows],
        "r2_normal_0.7": {
            agent: identify(load_agent(agent).encoder, count=2000, resamples=100).labels["unwrapped"].to_dict()
            for agent in flat  # R2 of a circle depends on where it is cut
        },
        "step": {name: asdict(t) | {"ratio": t.ratio} for name, t in times.items()},
    }
    text = table(report, rows)
    print(text)
    write_json(options.out / "loop.json", report)
    with atomic_write(options.out / "loop.md") as stream:
        stream.write(text.encode())


def step_time(agent_name: str, planner: str) -> StepTime:
    """Of an agent on the frames of one of its own episodes."""
    agent, env = load_agent(agent_name, planner=planner), ReacherGoal()
    observation, _ = env.reset(seed=0)
    return time_steps(agent, rollout(env, agent, 1, seed=0).frames[0], observation["desired_goal"])


def table(report: dict[str, Any], rows: list[ControlSummary]) -> str:
    """The report as Markdown."""
    lines = [
        "| distribution: controller | episodes | reached | reached by step 50 | tip error, mm, median | p95 "
        "| cost ratio, median | mean | p95 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        millimetres = [
            f"{1e3 * e.value:.3g} [{1e3 * e.low:.3g}, {1e3 * e.high:.3g}]"
            for e in (row.tip_error_median, row.tip_error_p95)
            if e is not None
        ]
        costs = [row.cost_ratio_median, row.cost_ratio_mean, row.cost_ratio_p95]
        cells = [row.reach, row.reach_within, *millimetres, *costs]
        lines.append(f"| {row.name} | {row.episodes} | " + " | ".join(str(c) for c in cells) + " |")
    lines += ["", "| measure | value |", "|---|---|"]
    for agent, r2 in report["r2_normal_0.7"].items():
        joints = " / ".join(f"{r['value']:.4f}" for r in r2["per_joint"])
        forward = f"{r2['latent_to_state']['value']:.4f} (per joint {joints})"
        lines += [f"| {agent}: R2(h -> z), angles N(0, .7^2), stock frames | {forward} |"]
        lines += [f"| {agent}: R2(z -> h), the same | {r2['state_to_latent']['value']:.4f} |"]
    for name, t in report["step"].items():
        cells = f"{t['predict_ms']:.2f} ms / {t['forward_ms']:.2f} ms = {t['ratio']:.2f} |"
        lines.append(f"| {name}: control step without rendering, over the bare forward pass | {cells}")
    machine = report["machine"]
    load = ", ".join(f"{v[0]:.1f}" for v in machine["load"])
    lines += [
        "",
        f"Brackets: 95% intervals. {machine['processor']}, {machine['cores']} cores; load before and after: {load}.",
        "",
    ]
    return "\n".join(lines)


def _bar(name: str, steps: Iterator[int], total: int) -> Iterator[int]:
    return iter(tqdm(steps, name, total))


if __name__ == "__main__":
    main(tyro.cli(Options))
