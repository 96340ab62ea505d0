"""Collecting episodes, physics only: our vectorised roll-out over Stable-Baselines3's plain `predict` loop, in one run.

python benchmarks/collect.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import SAC

import worldplan.envs  # noqa: F401 (registers the environments)
from worldplan.agents.actor import load_policy
from worldplan.envs.parallel import rollout_states
from worldplan.eval.statistics.estimate import estimate


def plain_loop(steps: int) -> float:
    """Steps per second of `model.predict` and `env.step` in turn, with a network of the shipped policy's size."""
    env = gym.make("worldplan/Reacher-v0")
    model = SAC("MlpPolicy", env, policy_kwargs={"net_arch": [128, 128]}, buffer_size=1, device="cpu", seed=0)
    observation, _ = env.reset(seed=0)
    start = time.perf_counter()
    for _ in range(steps):
        action, _ = model.predict(observation, deterministic=True)
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            observation, _ = env.reset()
    return steps / (time.perf_counter() - start)


def ours(episodes: int, steps: int) -> float:
    """Steps per second of `rollout_states`, which makes the same episodes (a test holds them equal)."""
    policy = load_policy("reacher-easy")
    start = time.perf_counter()
    rollout_states(policy, episodes, seed=0, steps=steps)
    return episodes * steps / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/collect.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    plain_loop(50), ours(8, 10)  # imports and first calls
    pairs = [(plain_loop(1000), ours(256, 200)) for _ in range(options.rounds)]
    ratio = estimate(np.array([b / a for a, b in pairs]), np.median)
    facts = {"plain_steps_per_s": [a for a, _ in pairs], "ours_steps_per_s": [b for _, b in pairs]}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({**facts, "ratio_median": ratio.__dict__}, indent=2) + "\n")
    print(f"SB3 predict loop {np.median(facts['plain_steps_per_s']):,.0f} steps/s, ", end="")
    print(f"ours {np.median(facts['ours_steps_per_s']):,.0f} steps/s, ratio {ratio}")


if __name__ == "__main__":
    main()
