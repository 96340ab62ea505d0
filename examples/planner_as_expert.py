"""The planner as expert: its experience in the replay buffer, before SAC learns on frames with a pretrained encoder.

    python examples/planner_as_expert.py --steps 4000 --expert 4000

Two runs of SAC see the same frames through the same frozen encoder (`LeJEPAExtractor`). One begins with an empty
buffer, the other with episodes of the planner.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import tyro
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import worldplan as wp
from worldplan.eval.statistics.estimate import estimate


@dataclass(frozen=True)
class Options:
    """What to run.

    Args:
        steps: environment steps of each run.
        expert: steps of the planner that the second run begins with.
        episodes: episodes that judge, of 100 steps.
        seed: seed of weights, episodes and noise.
    """

    steps: int = 4_000
    expert: int = 4_000
    episodes: int = 20
    seed: int = 0


def make() -> gym.Env:
    """Frames and goal images."""
    return Monitor(gym.make("worldplan/ReacherGoal-v0", profile="fast", target="hidden"))


def train(options: Options, expert: int) -> SAC:
    """SAC on latents of the frozen encoder, after so many steps of the planner."""
    features = {
        "features_extractor_class": wp.agents.LeJEPAExtractor,
        "features_extractor_kwargs": {"encoder": "reacher"},
    }
    model = SAC(
        "MultiInputPolicy",
        make(),
        learning_rate=1e-3,
        gamma=0.98,
        batch_size=64,
        buffer_size=options.steps + expert,
        learning_starts=0 if expert else min(1000, options.steps // 2),
        train_freq=4,
        policy_kwargs={"net_arch": [128, 128], **features},
        seed=options.seed,
        device="cpu",
    )
    if expert:
        wp.agents.add_experience(model, wp.agents.load_agent("reacher"), expert)
    return model.learn(options.steps)


def main(options: Options) -> None:
    """Train both, and judge them on the same episodes."""
    for name, expert in (("empty buffer", 0), ("planner as expert", options.expert)):
        env = make()
        env.reset(seed=100_000)
        returns, _ = evaluate_policy(
            train(options, expert), env, options.episodes, return_episode_rewards=True, warn=False
        )
        print(f"{name:18} return {estimate(np.array(returns))}")


if __name__ == "__main__":
    main(tyro.cli(Options))
