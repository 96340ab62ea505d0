"""The numbers of the loop, from goal image to goal: prints a table and writes it with JSON beside it.

python benchmarks/loop.py --agent reacher --pairs 300 --out benchmarks/results
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from tqdm import tqdm

from worldplan import __version__
from worldplan.agents import load_agent
from worldplan.data.files import atomic_write, write_json
from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rollout import rollout
from worldplan.envs.tasks import sample_tasks
from worldplan.eval.control.baselines import StandStill, TrueStateLQR
from worldplan.eval.control.episodes import ControlSummary, evaluate_control, summarise
from worldplan.eval.control.timing import StepTime, time_steps
from worldplan.eval.identifiability.identify import identify
from worldplan.provenance import processor


@dataclass(frozen=True)
class Options:
    """What to measure."""

    agent: str = "reacher"
    """A shipped agent or a folder."""
    planners: tuple[str, ...] = ("lqr", "mpc")
    """The first one runs on both distributions, the others on the normal one."""
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
    for distribution in ("normal", "reset"):
        pairs = sample_tasks(options.pairs, options.seed, distribution)
        reference = evaluate_control(TrueStateLQR(), pairs, options.seed, true_state=True)
        planners = options.planners if distribution == "normal" else options.planners[:1]
        agents = {f"pixels, {p}": load_agent(options.agent, planner=p) for p in planners}
        for name, agent in agents.items():
            bar = partial(_bar, f"{distribution}, {name}")
            result = evaluate_control(agent, pairs, options.seed, progress=bar, **world)
            rows.append(summarise(f"{distribution}: {name}", result, reference))
        for name, agent in {
            "true state, clipped LQR": TrueStateLQR(),
            "random torques": None,
            "still": StandStill(),
        }.items():
            blind = (
                reference
                if isinstance(agent, TrueStateLQR)
                else evaluate_control(agent, pairs, options.seed, pixels=False)
            )
            rows.append(summarise(f"{distribution}: {name}", blind, reference))
    encoder = load_agent(options.agent).encoder
    times = {p: step_time(options.agent, p) for p in options.planners}
    report = {
        "version": __version__,
        "agent": options.agent,
        "machine": {"processor": processor(), "cores": os.cpu_count(), "load": [started, os.getloadavg()]},
        "options": {**asdict(options), "out": str(options.out)},
        "control": [row.to_dict() for row in rows],
        "r2_normal_0.7": identify(encoder, count=2000, resamples=100).labels["unwrapped"].to_dict(),
        "step": {p: asdict(t) | {"ratio": t.ratio} for p, t in times.items()},
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
        "| distribution: agent | episodes | reach | tip error, mm, median | mean | cost ratio, median | mean | p95 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        millimetres = [
            f"{1e3 * e.value:.3g} [{1e3 * e.low:.3g}, {1e3 * e.high:.3g}]"
            for e in (row.tip_error_median, row.tip_error_mean)
        ]
        cells = [row.reach, *millimetres, row.cost_ratio_median, row.cost_ratio_mean, row.cost_ratio_p95]
        lines.append(f"| {row.name} | {row.episodes} | " + " | ".join(str(c) for c in cells) + " |")
    r2 = report["r2_normal_0.7"]
    joints = " / ".join(f"{r['value']:.4f}" for r in r2["per_joint"])
    lines += ["", "| measure | value |", "|---|---|"]
    forward = f"{r2['latent_to_state']['value']:.4f} (per joint {joints})"
    lines += [f"| R2(h -> z), angles N(0, .7^2), stock frames | {forward} |"]
    lines += [f"| R2(z -> h), the same | {r2['state_to_latent']['value']:.4f} |"]
    for planner, t in report["step"].items():
        cells = f"{t['predict_ms']:.2f} ms / {t['forward_ms']:.2f} ms = {t['ratio']:.2f} |"
        lines.append(f"| control step without rendering, {planner}, over the bare forward pass | {cells}")
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
