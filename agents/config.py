"""The options of fitting and of SAC. Imports no NumPy and no torch, because the command line reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import tyro

from worldplan.checks import check_fields, check_name, checked_seed, positive_int
from worldplan.choices import Profile, Target, check_choice
from worldplan.errors import InvalidInput


@dataclass(frozen=True)
class FitConfig:
    """How dynamics and cost are made for an encoder.

    Args:
        episodes: random-torque episodes, from poses drawn N(0, 1) clipped to +-2.4 rad.
        steps: control steps of 20 ms in each episode.
        profile: look of the frames, `dmc` or `fast`.
        target: target sphere, `hard`, `easy` or `hidden`.
        control_weight: cost of a squared torque, relative to a squared radian.
        velocity_weight: cost of a squared radian per step, relative to a squared radian.
        scale: radians per latent unit; None takes the world's from the encoder's card.
        planner: planner that the saved agent uses unless told otherwise.
        horizon: steps over which the model's predictions are fitted, at least 2, for unstable plants and noisy latents;
            0 fits single steps, by instruments. None: 0, and around a goal 24.
        near: around a goal: share of the frames, those nearest to it, that count.
        seed: seed for poses and torques.
    """

    episodes: int = 60
    steps: int = 60
    profile: Profile = "dmc"
    target: Target = "hard"
    control_weight: float = 0.1
    velocity_weight: float = 0.0
    scale: Annotated[float | None, tyro.conf.arg(metavar="RADIANS")] = None
    planner: str = "lqr"
    horizon: Annotated[int | None, tyro.conf.arg(metavar="STEPS")] = None
    near: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if not (self.horizon in (None, 0) or self.horizon >= 2) or not 0 < self.near <= 1:
            raise InvalidInput(f"need a horizon of 0 or >= 2 and near in (0, 1], got {self.horizon} and {self.near}")
        if self.episodes < 1 or not 5 <= self.steps <= 100:
            raise InvalidInput(f"need episodes >= 1 of 5 to 100 steps, got {self.episodes} of {self.steps}")
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise InvalidInput(f"scale must be a positive angle, got {self.scale}")
        checked_seed(self.seed)
        check_choice("render profile", self.profile, Profile)
        check_choice("target", self.target, Target)
        from worldplan.agents.planners import PLANNERS

        check_name("planner", self.planner, PLANNERS)  # before the simulator runs


@dataclass(frozen=True)
class SACConfig:
    """How a policy is trained (Haarnoja et al. 2018, arXiv 1812.05905, with a learned temperature).

    Args:
        steps: environment steps, over all copies.
        hidden: units of the hidden layers, of actor and critics.
        learning_rate: learning rate of Adam.
        gamma: discount.
        tau: share of the critic that its target takes over in each update.
        batch: transitions per update.
        buffer: transitions kept.
        warmup: random steps before the first update.
        temperature: initial temperature.
        entropy: target entropy of the actions, in nats. A lower value gives a less random policy, which less often
            stops short of the goal when run without noise.
        copies: environments side by side; one step of all is followed by `updates`.
        updates: gradient steps per step of all copies.
        episode_steps: steps after which training episodes are truncated (not terminated); None as the environment does.
            An environment without a time limit is evaluated over so many steps, too.
        evaluate_every: steps between evaluations; each is followed by a checkpoint.
        evaluations: episodes of an evaluation, the same each time.
        tests: episodes of the final test, other than those of the evaluations.
        stop_at: mean return of an evaluation that ends training.
        seed: seed for weights, episodes and noise; training, evaluation and test use different children of it.
    """

    steps: int = 160_000
    hidden: tuple[int, ...] = (128, 128)
    learning_rate: float = 1e-3
    gamma: float = 0.98
    tau: float = 0.01
    batch: int = 256
    buffer: int = 400_000
    warmup: int = 5_000
    temperature: float = 0.1
    entropy: float = -4.0
    copies: int = 8
    updates: int = 2
    episode_steps: Annotated[int | None, tyro.conf.arg(metavar="INT|None")] = 250
    evaluate_every: int = 16_000
    evaluations: int = 40
    tests: int = 20
    stop_at: Annotated[float | None, tyro.conf.arg(metavar="RETURN")] = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("steps", "batch", "copies", "updates", "evaluate_every", "evaluations", "tests"):
            positive_int(name, getattr(self, name))
        positive_int("episode_steps", 1 if self.episode_steps is None else self.episode_steps)
        if not self.hidden or min(self.hidden) < 1 or self.warmup < 0:
            raise InvalidInput(f"need layers with units in hidden, got {self.hidden}; warmup >= 0, got {self.warmup}")
        if not (self.learning_rate > 0 and self.temperature > 0):
            raise InvalidInput(f"learning_rate ({self.learning_rate}) and temperature ({self.temperature}) must be > 0")
        if not (0 <= self.gamma < 1 and 0 < self.tau <= 1):
            raise InvalidInput(f"need gamma in [0, 1), got {self.gamma}, and tau in (0, 1], got {self.tau}")
        checked_seed(self.seed)
        if self.evaluate_every % self.copies or self.steps % self.evaluate_every:
            sizes = f"steps ({self.steps}), evaluate_every ({self.evaluate_every}), copies ({self.copies})"
            raise InvalidInput(f"{sizes}: each must be a multiple of the next")
        if self.buffer < max(self.batch, self.copies):
            raise InvalidInput(f"a buffer of {self.buffer} holds no batch of {self.batch}")
