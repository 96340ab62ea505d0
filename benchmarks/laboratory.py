"""An ensemble of 16 encoders of the laboratory over 16 runs in turn, by the width of the encoder; one thread.

    python benchmarks/laboratory.py [--rounds 7]

Batches of 256 pairs, spiral, LeJEPA with 16 slices, four hidden layers. In turn: a plain loop over one network with
the package's objective, AdamW and clipping; and, beside it, the laboratory's own loop with one member. Rounds take all
three ways in turn, so that a drift of the machine's speed affects all alike. Writes benchmarks/results/laboratory.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from worldplan.eval.laboratory.ensemble import LARGEST_GRADIENT, Training, train
from worldplan.eval.laboratory.networks import mlp
from worldplan.eval.laboratory.worlds import GaussianPairs, find_mixing
from worldplan.eval.statistics.estimate import estimate
from worldplan.learning.objectives import objective_from_dict
from worldplan.provenance import processor

MEMBERS, BATCH, RHO = 16, 256, 0.5
LEJEPA = {"name": "lejepa", "weight": 0.02, "slices": 16}
STEPS = {16: 40, 64: 30, 256: 8}  # of one round, by width
FLOOR, AIM = 0.5, 0.2


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def ensemble(width: int, members: int, steps: int) -> None:
    train(
        [mlp(2, 2, width=width, seed=seed) for seed in range(members)],
        GaussianPairs(torch.full((members, 2), RHO), generators(members)),
        find_mixing("spiral", 2, range(members)),
        [LEJEPA] * members,
        Training(steps, BATCH),
        generators(members),
    )


def alone(width: int, steps: int) -> None:
    """One run as one writes it without ensembles."""
    network, objective, training = mlp(2, 2, width=width), objective_from_dict(LEJEPA), Training(steps, BATCH)
    source, chance = GaussianPairs(torch.full((1, 2), RHO), generators(1)), torch.Generator().manual_seed(0)
    mixing = find_mixing("spiral", 2, [0])
    optimiser = torch.optim.AdamW(network.parameters(), lr=training.rate, weight_decay=training.decay, fused=True)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = training.rate_at(step)
        loss = objective(network(mixing(source.draw(BATCH))[0]), chance)["loss"]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        optimiser.step()


def seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compared(width: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of a step of 16 runs, by round; runs in turn are 16 times one."""
    steps = STEPS[width]
    ways: dict[str, tuple[Callable[[int], None], int]] = {
        "ensemble": (lambda steps: ensemble(width, MEMBERS, steps), 1),
        "plain": (lambda steps: alone(width, steps), MEMBERS),
        "members": (lambda steps: ensemble(width, 1, steps), MEMBERS),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for round_ in range(rounds + 1):
        for way, (run, times_) in ways.items():
            took = 1000 * seconds(lambda run=run: run(steps)) * times_ / steps
            if round_:  # the first only warms up
                times[way].append(took)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/laboratory.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows, before = [], os.getloadavg()
    print(f"{'width':>6}{'ensemble, ms':>14}  {'over plain runs in turn':32}{'over its own members in turn':32}")
    for width in STEPS:
        times = compared(width, options.rounds)
        together = np.array(times["ensemble"])
        ratios = {way: estimate(together / np.array(times[way]), np.median) for way in ("plain", "members")}
        print(f"{width:6}{np.median(together):14.1f}  {ratios['plain']!s:32}{ratios['members']!s:32}", flush=True)
        told = {way: ratio.__dict__ for way, ratio in ratios.items()}
        rows.append({"width": width, "ms_of_a_step_of_16": times, "ensemble_over": told})
    load = [before, os.getloadavg()]
    print(f"load {load[0][0]:.1f} before and {load[1][0]:.1f} after; floor {FLOOR}, aim {AIM}")
    machine = {"processor": processor(), "cores": os.cpu_count(), "load": load, "threads": 1}
    facts = {"machine": machine, "members": MEMBERS, "batch": BATCH, "floor": FLOOR, "aim": AIM, "rows": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
