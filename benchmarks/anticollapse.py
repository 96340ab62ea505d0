"""Whitening or SIGReg against the collapse of `excitation`: encoders of several seeds by each, judged alike.

What is there is not made again, so an interrupted run goes on. Two cores take about an hour and a half for three seeds.
Poses, goals and targets are other ones than those of `loop.py` and `excitation.py`, which judge what ships.

    python benchmarks/anticollapse.py --seeds 3
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
import tyro

from worldplan.agents.config import FitConfig
from worldplan.agents.fitting import fit_agent, recorded
from worldplan.data.files import atomic_write, read_json, write_json
from worldplan.envs.reacher import WRIST_LIMIT
from worldplan.envs.rendering import render_frames, sample_targets
from worldplan.envs.tasks import sample_tasks
from worldplan.eval.control.baselines import RANDOM, REFERENCE, STILL
from worldplan.eval.control.episodes import evaluate_baselines, evaluate_control, summarise
from worldplan.eval.identifiability.circles import affine_error
from worldplan.eval.show.table import Table
from worldplan.learning.encoder import encode, load_encoder, space_of
from worldplan.learning.excitation import Anticollapse
from worldplan.planning.space import LatentSpace
from worldplan.provenance import provenance

COLLECT = "worldplan collect random --episodes 180 --steps 200 --test-share 0 --out {data}"
RECIPE = (
    "worldplan pretrain {data} --objective excitation --against {against} --window 48 --space circle,line "
    "--symmetries mirror,turns --epochs {epochs:g} --first-windows 0 --threads {threads} --seed {seed} --out {out}"
)
NONE = "–"
WORLD: dict[str, Any] = {"profile": "dmc", "target": "hard"}


@dataclass(frozen=True)
class Options:
    """What to train and measure."""

    seeds: int = 3
    epochs: float = 11.0
    pairs: int = 300
    """Pairs of start and goal of the reset distribution."""
    poses: int = 3000
    judged: int = 4000
    """Seed of poses, goals and targets."""
    threads: int = 2
    data: Path = Path("data/random")
    runs: Path = Path("runs/anticollapse")
    out: Path = Path("benchmarks/results")


def main(options: Options) -> None:
    """Train, judge, print, write."""
    torch.set_num_threads(options.threads)
    if not (options.data / "manifest.json").exists():
        _run(COLLECT.format(data=options.data))
    tasks = sample_tasks(options.pairs, options.judged, "reset")
    blind = evaluate_baselines(tasks, options.judged)
    rows = []
    for seed in range(options.seeds):
        for against in get_args(Anticollapse):
            folder = options.runs / f"{against}-s{seed}"
            if not (folder / "judged.json").exists():
                write_json(folder / "judged.json", _judge(folder, against, seed, tasks, blind[REFERENCE], options))
            rows.append({"against": against, "seed": seed, **read_json(folder / "judged.json")})
    others = [summarise(name, blind[name], blind[REFERENCE]).to_dict() for name in (RANDOM, STILL)]
    text = _table(rows, others, options)
    print(text)
    report = {**provenance("", options.judged), "encoders": rows, "baselines": others}
    write_json(options.out / "anticollapse.json", report)
    with atomic_write(options.out / "anticollapse.md") as stream:
        stream.write(text.encode())


def _judge(folder: Path, against: str, seed: int, tasks: Any, reference: Any, options: Options) -> dict[str, Any]:
    """Train an encoder unless it is there, fit its agent to the same episodes, and measure both."""
    if not (folder / "encoder.json").exists():
        resume = " --resume" if (folder / "checkpoint.json").exists() else ""
        values = {"data": options.data, "against": against, "seed": seed, "out": folder}
        try:
            _run(RECIPE.format(**values, epochs=options.epochs, threads=options.threads) + resume)
        except subprocess.CalledProcessError:  # that nothing was found is a result
            return {"found": False}
    encoder = load_encoder(folder)
    rng = np.random.default_rng(options.judged)
    angles = rng.uniform([-np.pi, -WRIST_LIMIT], [np.pi, WRIST_LIMIT], (options.poses, 2))
    latents = encode(encoder, render_frames(angles, sample_targets(options.poses, rng, "hard"), "dmc"))
    error = affine_error(latents, angles, space_of(encoder), LatentSpace("circle", "line"))
    agent = fit_agent(encoder, recorded(options.data, FitConfig().episodes).data, FitConfig()).agent
    control = summarise(folder.name, evaluate_control(agent, tasks, options.judged, **WORLD), reference)
    held_out = {k: v for k, v in encoder.card["validation"].items() if k == "J" or k.startswith("r2")}
    return {"found": True, "held_out": held_out, "error": error.to_dict()["joints"], "control": control.to_dict()}


def _table(rows: list[dict[str, Any]], others: list[dict[str, Any]], options: Options) -> str:
    columns = ("against", "seed", "held-out shares", "error all round, rad", "reached", "fingertip, mm", "cost, mean")
    lines = []
    for row in rows:
        line = [row["against"], str(row["seed"])]
        if not row["found"]:
            lines.append([*line, *[NONE] * 5])
            continue
        shares = " / ".join(f"{row['held_out'][k]:.3f}" for k in ("r2_1", "r2_2"))
        lines.append([*line, shares, " / ".join(f"{e['value']:.4f}" for e in row["error"]), *_control(row["control"])])
    lines += [[row["name"], NONE, NONE, NONE, *_control(row)] for row in others]
    notes = [
        f"{options.pairs} pairs of the reset distribution, stock frames, target anywhere; reached: fingertip within "
        "25 mm at step 100; fingertip error: median / 95th percentile. Brackets: 95% intervals.",
        f"Error: best affine map over {options.poses:,} uniform poses, root mean square, shoulder / wrist.",
    ]
    told = Table("Against collapse", columns, lines, notes)
    return "\n".join([told.markdown(), "", *(f"- {note}" for note in notes), ""])


def _control(row: dict[str, Any]) -> list[str]:
    reach, mean = row["reach"], row["cost_ratio_mean"]
    tips = [f"{1e3 * row[k]['value']:.3g}" for k in ("tip_error_median", "tip_error_p95")]
    cells = [f"{100 * reach['value']:.1f}% [{100 * reach['low']:.1f}, {100 * reach['high']:.1f}]", " / ".join(tips)]
    return [*cells, f"{mean['value']:.4g} [{mean['low']:.4g}, {mean['high']:.4g}]"]


def _run(command: str) -> None:
    print(f"$ {command}", flush=True)
    subprocess.run([sys.executable, "-m", *shlex.split(command)], check=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
