"""Vector environments of 16 Reachers: ours over Gymnasium's AsyncVectorEnv (spawn), and what latents cost on top.

python benchmarks/vector.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, VectorEnv

import worldplan as wp
from worldplan.eval.statistics.estimate import estimate

ID, N = "worldplan/ReacherGoal-v0", 16


def single() -> gym.Env[Any, Any]:
    """One environment, for AsyncVectorEnv."""
    import worldplan  # noqa: F401 (registers it in the spawned process)

    return gym.make(ID)


def frames_per_second(env: VectorEnv, steps: int) -> float:
    """Frames of all rows a second."""
    still = np.zeros((N, 2), np.float32)
    env.step(still)
    start = time.perf_counter()
    for _ in range(steps):
        env.step(still)
    return N * steps / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/vector.json"))
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    envs: dict[str, VectorEnv] = {
        "async, spawn": AsyncVectorEnv([single] * N, context="spawn"),
        "ours, 1 process": gym.make_vec(ID, num_envs=N),
        f"ours, {cores} processes": gym.make_vec(ID, num_envs=N, processes=cores),
        "ours with latents, 1 process": wp.agents.VectorLatentObservation(gym.make_vec(ID, num_envs=N), "reacher"),
    }
    for env in envs.values():
        env.reset(seed=0)
    rates: dict[str, list[float]] = {name: [] for name in envs}
    for _ in range(options.rounds):  # in turn, so that a drift of the machine's speed affects all alike
        for name, env in envs.items():
            rates[name].append(frames_per_second(env, options.steps))
    for env in envs.values():
        env.close()
    base, plain = np.array(rates["async, spawn"]), np.array(rates["ours, 1 process"])
    ratios = {name: estimate(np.array(found) / base, np.median) for name, found in rates.items()}
    overhead = estimate(plain / np.array(rates["ours with latents, 1 process"]) - 1, np.median)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    facts = {"frames_per_s": rates, "over_async": {k: r.__dict__ for k, r in ratios.items()}, "cores": cores}
    options.out.write_text(json.dumps({**facts, "overhead_of_latents": overhead.__dict__}, indent=2) + "\n")
    for name, ratio in ratios.items():
        print(f"{name}: {np.median(rates[name]):,.0f} frames/s, over async {ratio}")
    print(f"latents cost {overhead} of the time of drawing")


if __name__ == "__main__":
    main()
