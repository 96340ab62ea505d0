"""Hindsight experience replay on latents: goals are images, rewards 0 or -1, and no true state is read.

    python examples/her_on_latents.py --steps 20000

`LatentObservation` with a tolerance is a goal environment whose goals are latents. Distances between latents are those
between poses, up to a rotation. So HER may set goals that the arm reached by accident, and reward itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import tyro
from stable_baselines3 import SAC, HerReplayBuffer

import worldplan as wp
from worldplan.eval.statistics.estimate import estimate_rate

JUDGED = 100_000  # seed of the first episode that judges


@dataclass(frozen=True)
class Options:
    """What to run.

    Args:
        steps: environment steps.
        tolerance: largest distance from a goal that counts as reached, radians for the shipped agent.
        episodes: episodes that judge, of 50 steps.
        seed: seed of weights, episodes and noise.
    """

    steps: int = 20_000
    tolerance: float = 0.3
    episodes: int = 50
    seed: int = 0


def make(tolerance: float) -> gym.Env:
    """The goal environment on latents."""
    env = gym.make("worldplan/ReacherGoal-v0", profile="fast", target="hidden", max_episode_steps=50)
    return wp.agents.LatentObservation(env, "reacher", tolerance=tolerance)


def reached(model: Any, env: gym.Env, episodes: int) -> np.ndarray:
    """Whether each episode ends within the tolerance; `model` None gives random torques."""
    ends = []
    env.action_space.seed(0)
    for episode in range(episodes):
        seen, _ = env.reset(seed=JUDGED + episode)
        over = False
        while not over:
            action = env.action_space.sample() if model is None else model.predict(seen, deterministic=True)[0]
            seen, reward, _, over, _ = env.step(action)
        ends.append(reward == 0.0)
    return np.array(ends)


def main(options: Options) -> None:
    """Train, and judge before and after."""
    env = make(options.tolerance)
    model = SAC(
        "MultiInputPolicy",
        env,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
        learning_rate=1e-3,
        gamma=0.95,
        batch_size=256,
        learning_starts=min(1000, options.steps // 2),
        train_freq=4,
        policy_kwargs={"net_arch": [128, 128]},
        seed=options.seed,
        device="cpu",
    )
    model.learn(options.steps)
    judge = make(options.tolerance)
    for name, policy in (("random", None), ("SAC with HER", model)):
        print(f"{name:14} reaches {estimate_rate(reached(policy, judge, options.episodes))} of the goals")


if __name__ == "__main__":
    main(tyro.cli(Options))
