"""SAC on latents against SAC on pixels and on the true state: what a pretrained encoder saves.

    python examples/sac_on_latents.py --out runs/sac-on-latents

Three learners reach the poses of goal images. They differ only in what they see:

- `state`: joint angles and velocities, and the goal's angles;
- `latents`: `LatentObservation` of the shipped agent, vectors that an encoder and a filter made of frames;
- `pixels`: two frames and the goal image, through SB3's own convolutional network.

All else is the same: steps, updates, batch, learning rate, reward. Each run is a job that is done once: a second call
goes on where the first one ended. The planner, random and still rows need no training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import tyro
from dm_control.utils import rewards
from gymnasium import spaces
from stable_baselines3 import SAC

import worldplan as wp
from worldplan.envs.reacher import TIP_TOLERANCE
from worldplan.eval.statistics.estimate import Estimate, estimate

KINDS = "state", "latents", "pixels"
BASELINES = "planner", "random", "still"
JUDGED = 100_000  # seed of the first episode of an evaluation; training begins at the run's own


@dataclass(frozen=True)
class Options:
    """What to run.

    Args:
        out: folder of results, figure and table.
        steps: environment steps of a run.
        seeds: runs of each kind.
        evaluations: evaluations of a run, evenly spaced; the last one is at its end.
        episodes: episodes of an evaluation, of 100 steps, the same for all runs.
        kinds: what the learners see.
        processes: runs at the same time.
    """

    out: Path = Path("runs/sac-on-latents")
    steps: int = 50_000
    seeds: int = 3
    evaluations: int = 5
    episodes: int = 50
    kinds: tuple[str, ...] = KINDS
    processes: int = 1


class Closeness(gym.Wrapper):
    """A reward from 0 to 1: 1 with the fingertip at the goal's, .1 at a distance of 10 cm more."""

    def step(self, action: Any) -> Any:
        """As the environment does, with this reward."""
        seen, _, terminated, truncated, info = self.env.step(action)
        reward = rewards.tolerance(info["tip_distance"], bounds=(0.0, TIP_TOLERANCE), margin=0.1)
        return seen, float(reward), terminated, truncated, info


class State(gym.ObservationWrapper):
    """The true state beside the goal's: cosine and sine of the shoulder, the wrist; velocities, radians a second."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(-np.inf, np.inf, (8,), np.float32)

    def observation(self, observation: Any) -> Any:
        """The vector (8,); the frames are black and are not looked at."""
        info = self.unwrapped.info()
        poses = [[np.cos(q[0]), np.sin(q[0]), q[1]] for q in (info["qpos"], info["goal_qpos"])]
        return np.concatenate([*poses, info["qvel"]]).astype(np.float32)


class Pixels(gym.ObservationWrapper):
    """The last two frames, which show the velocity, and the goal image: uint8 (64, 64, 9)."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(0, 255, (64, 64, 9), np.uint8)
        self._last: Any = None

    def reset(self, **options: Any) -> Any:
        """Start an episode, at rest: twice the first frame."""
        self._last = None
        return super().reset(**options)

    def observation(self, observation: Any) -> Any:
        """Frames and goal image, along the channels."""
        frame = observation["observation"]
        before, self._last = frame if self._last is None else self._last, frame
        return np.concatenate([before, frame, observation["desired_goal"]], axis=-1)


def make(kind: str) -> gym.Env:
    """The environment as a learner of this kind, or the planner (`frames`), sees it."""
    env = gym.make("worldplan/ReacherGoal-v0", profile="fast", target="hidden", pixels=kind != "state")
    see = {"state": State, "latents": wp.agents.LatentObservation, "pixels": Pixels}
    return Closeness(see[kind](env) if kind in see else env)


class Torques:
    """Torques that look at nothing: uniform, or none at all."""

    def __init__(self, size: float) -> None:
        self._size, self._rng = size, np.random.default_rng(0)

    def predict(self, seen: Any, state: Any = None, deterministic: bool = True) -> tuple[Any, Any]:
        """An action (2,)."""
        return (self._size * self._rng.uniform(-1, 1, 2)).astype(np.float32), None


def judge(agent: Any, kind: str, episodes: int) -> dict[str, list[float]]:
    """Return, and steps with the fingertip at the goal, of each episode; the same episodes for all agents."""
    env = make(kind)
    found: dict[str, list[float]] = {"return": [], "at_goal": []}
    for episode in range(episodes):
        seen, _ = env.reset(seed=JUDGED + episode)
        state, over, total, held = None, False, 0.0, 0
        while not over:
            action, state = agent.predict(seen, state, deterministic=True)
            seen, reward, _, over, info = env.step(action)
            total, held = total + float(reward), held + info["is_success"]
        found["return"].append(total)
        found["at_goal"].append(held)
    env.close()
    return found


def baseline(name: str, episodes: int, folder: Path) -> Any:
    """A row that needs no training."""
    if name == "planner":
        return judge(wp.agents.load_agent("reacher"), "frames", episodes)
    return judge(Torques({"random": 1.0, "still": 0.0}[name]), "state", episodes)


def train(kind: str, seed: int, steps: int, evaluations: int, episodes: int, folder: Path) -> Any:
    """One run of SAC: its evaluations, each with its number of steps."""
    model = SAC(
        {"state": "MlpPolicy", "latents": "MultiInputPolicy", "pixels": "CnnPolicy"}[kind],
        make(kind),
        learning_rate=1e-3,
        gamma=0.98,
        tau=0.01,
        batch_size=64,
        buffer_size=steps,
        learning_starts=min(1000, steps // 4),
        train_freq=8,  # an update every eight steps: on a CPU, pixels are slow
        policy_kwargs={"net_arch": [128, 128]},
        seed=seed,
        device="cpu",
    )
    curve = []
    for k in range(evaluations):
        model.learn(steps // evaluations, reset_num_timesteps=k == 0)
        curve.append({"steps": model.num_timesteps, **judge(model, kind, episodes)})
    return curve


def main(options: Options) -> None:
    """Run what is missing; show all as a table and a figure."""
    judged = {"episodes": options.episodes}
    size = {"steps": options.steps, "evaluations": options.evaluations, **judged}
    rows = [wp.Job(baseline, {"name": name, **judged}) for name in BASELINES]
    runs = [
        wp.Job(train, {"kind": kind, "seed": seed, **size}) for seed in range(options.seeds) for kind in options.kinds
    ]
    ended = wp.run_jobs([*rows, *runs], options.out, processes=options.processes)
    for outcome in ended:
        if not outcome.done:
            raise SystemExit(f"{dict(outcome.job.arguments)}: {outcome.reason}")
    flat = {outcome.job.arguments["name"]: outcome.result for outcome in ended[: len(rows)]}
    curves = {
        kind: [outcome.result for outcome in ended[len(rows) :] if outcome.job.arguments["kind"] == kind]
        for kind in options.kinds
    }
    show(flat, curves, options.out)


def show(flat: dict[str, Any], curves: dict[str, Any], out: Path) -> None:
    """Print the table, and draw the return over the steps."""
    print(f"{'':10}{'return of 100':>24}{'steps at the goal of 100':>30}")
    last = {kind: [run[-1] for run in runs] for kind, runs in curves.items()}
    for name, runs in {**{name: [row] for name, row in flat.items()}, **last}.items():
        print(f"{name:10}{over_seeds(runs, 'return')!s:>24}{over_seeds(runs, 'at_goal')!s:>30}")
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for k, (name, row) in enumerate(flat.items()):  # side by side: two of them are nearly the same
        level, place = float(np.mean(row["return"])), {"transform": axes.get_yaxis_transform(), "ha": "right"}
        axes.axhline(level, color="0.6", linestyle="--", linewidth=1)
        axes.text(0.99 - 0.13 * k, level - 4, name, color="0.4", fontsize=8, **place)
    for kind, runs in curves.items():
        steps = [point["steps"] for point in runs[0]]
        points = [over_seeds([run[k] for run in runs], "return") for k in range(len(steps))]
        (line,) = axes.plot(steps, [point.value for point in points], marker="o", markersize=3, label=kind)
        axes.fill_between(steps, [p.low for p in points], [p.high for p in points], alpha=0.2, color=line.get_color())
    axes.set(xlabel="environment steps", ylabel="return of an episode, at most 100", ylim=(0, 100))
    axes.legend(loc="upper left", fontsize=8)
    figure.savefig(out / "sac_on_latents.png", dpi=150)


def over_seeds(runs: list[Any], name: str) -> Estimate:
    """Mean over runs of the mean over episodes; the interval is over runs, or over the episodes of a single one."""
    means = np.array([np.mean(run[name]) for run in runs])
    return estimate(means if len(means) > 1 else np.array(runs[0][name]))


if __name__ == "__main__":
    main(tyro.cli(Options))
