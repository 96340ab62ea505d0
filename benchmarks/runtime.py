"""Latents by ONNX Runtime over torch's bare forward pass, TorchScript beside them, by the number of frames a call.

python benchmarks/runtime.py [--rounds 9] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import worldplan as wp
from worldplan.eval.statistics.estimate import Estimate, estimate
from worldplan.learning.encoder import PixelEncoder
from worldplan.learning.network import to_input
from worldplan.provenance import processor

ENCODERS = ("reacher", "reacher-supervised")  # width 16, averaged with the mirror image; width 8
CALLS = {1: 60, 4: 30, 16: 12, 64: 4, 256: 2}  # frames a call, and calls in a round


def milliseconds(run: Callable[[], Any], calls: int) -> float:
    """Median of some calls, after one that is not counted."""
    run()
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return 1000.0 * float(np.median(seconds))


def compared(encoder: PixelEncoder, count: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each way, by round."""
    frames = np.random.default_rng(0).integers(0, 256, (count, encoder.size, encoder.size, 3), dtype=np.uint8)
    network, inputs = encoder.network.eval(), to_input(torch.from_numpy(frames))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript's, about its future
        script = torch.jit.freeze(torch.jit.trace(network, inputs))
    ways: dict[str, Callable[[], Any]] = {
        "torch, bare": lambda: network(inputs),
        "TorchScript, bare": lambda: script(inputs),
        "encoder, torch": lambda: encoder._torch(frames),
        "encoder, ONNX Runtime": lambda: encoder(frames),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    with torch.inference_mode():
        for _ in range(rounds):  # in turn, so that a drift of the machine's speed affects all alike
            for way, run in ways.items():
                times[way].append(milliseconds(run, CALLS[count]))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/runtime.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows, before = [], os.getloadavg()
    for name in ENCODERS:
        encoder = wp.load_encoder(name)
        for count in CALLS:
            times = compared(encoder, count, options.rounds)
            bare = np.array(times.pop("torch, bare"))
            ratios: dict[str, Estimate] = {k: estimate(np.array(ms) / bare, np.median) for k, ms in times.items()}
            print(f"| {name} | {count} | {np.median(bare):.2f} ms |", " | ".join(map(str, ratios.values())), "|")
            told = {way: ratio.__dict__ for way, ratio in ratios.items()}
            rows.append({"encoder": name, "frames": count, "bare_ms": bare.tolist(), "over_bare": told})
    load = [before, os.getloadavg()]
    machine = {"processor": processor(), "cores": os.cpu_count(), "load": load, "threads": options.threads}
    print(f"load {load[0][0]:.1f} before and {load[1][0]:.1f} after")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
