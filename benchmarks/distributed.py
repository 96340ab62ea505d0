"""Losses of training in 2 and 4 processes against one, for the same global batch, with every objective.

    python benchmarks/distributed.py [--steps 20 --sizes 2 4]

All processes run on this machine and talk by gloo. *One process* is a group of one, as `torchrun --nproc-per-node 1`
starts it. *No group* is the first step of a process without torchrun, whose BatchNorm is torch's own. *Parts alone* is
the negative control: every process takes the statistics of its own part of the batch, and the gradients are averaged,
as wrapping the network in `DistributedDataParallel` would do.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from worldplan.data.files import atomic_write, write_json

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # several processes are the tests' own

import ranks


@dataclass(frozen=True)
class Options:
    """How much."""

    steps: int = 20
    sizes: tuple[int, ...] = (2, 4)
    batch: int = 64
    width: int = 8
    episodes: int = 40
    seed: int = 0
    out: Path = Path("benchmarks/results")


Cases = dict[str, tuple[list[dict[str, float]], list[float]]]


def trained(folder: str, steps: int, more: dict[str, int]) -> Cases:
    """Rows and weights of every case."""
    found = {case: ranks.trained(case, folder, steps, **more) for case in ranks.CASES}
    return {case: (rows, weights.tolist()) for case, (rows, weights) in found.items()}


def first_apart(folder: str, more: dict[str, int]) -> dict[str, float]:
    """Losses of the first step, with the statistics of each part alone."""
    with ranks.apart():
        return {case: ranks.trained(case, folder, 1, **more)[0][0]["loss"] for case in ranks.CASES}


def main(options: Options) -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    more = {"batch": options.batch, "width": options.width, "seed": options.seed}
    with tempfile.TemporaryDirectory() as place:
        data, load = f"{place}/data", os.getloadavg()[0]
        ranks.dots(data, options.seed, options.episodes)
        alone = {case: ranks.trained(case, data, 1, **more)[0][0]["loss"] for case in ranks.CASES}
        one = ranks.together(trained, 1, f"{place}/1", data, options.steps, more)[0]
        several = {k: ranks.together(trained, k, f"{place}/{k}", data, options.steps, more) for k in options.sizes}
        for found in several.values():
            assert all(other == found[0] for other in found), "the processes differ"
        parts = ranks.together(first_apart, 2, f"{place}/apart", data, more)
    rows = {
        case: {
            **{f"{k} processes": differences(one[case], found[0][case]) for k, found in several.items()},
            "no group": relative(one[case][0][0]["loss"], alone[case]),
            "parts alone": relative(one[case][0][0]["loss"], float(np.mean([part[case] for part in parts]))),
        }
        for case in ranks.CASES
    }
    facts = {**more, "steps": options.steps, "torch": torch.__version__, "load": round(load, 2), "cases": rows}
    write_json(options.out / "distributed.json", facts)
    table = markdown(rows, options)
    with atomic_write(options.out / "distributed.md") as stream:
        stream.write(table.encode())
    print(table)


def differences(one: Any, several: Any) -> dict[str, float]:
    """Of the loss in the first step and the most in all, of the first gradient, and of the weights in the end."""
    (rows, weights), (others, reached) = one, several
    losses = [relative(a["loss"], b["loss"]) for a, b in zip(rows, others, strict=True)]
    return {
        "first": losses[0],
        "most": max(losses),
        "gradient": relative(rows[0]["gradient"], others[0]["gradient"]),
        "weights": float(np.abs(np.subtract(weights, reached)).max()),
    }


def relative(a: float, b: float) -> float:
    """Relative difference."""
    return abs(a - b) / abs(a)


def markdown(rows: dict[str, Any], options: Options) -> str:
    """The losses as a table."""
    heads = [f"{k} processes, {which}" for k in options.sizes for which in ("step 1", f"{options.steps} steps")]
    lines = [["objective", *heads, "no group, step 1", "parts alone, step 1"]]
    lines.append(["---"] * len(lines[0]))
    for case, row in rows.items():
        cells = [row[f"{k} processes"][which] for k in options.sizes for which in ("first", "most")]
        lines.append([case, *(f"{value:.0e}" for value in [*cells, row["no group"], row["parts alone"]])])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
