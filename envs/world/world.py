"""A world: an environment that shows frames and takes bounded actions, and what can be known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box
from numpy.typing import NDArray

from worldplan.arrays import Floats
from worldplan.data.recipes import Exploration
from worldplan.data.world_card import WorldCard
from worldplan.envs.workers import select_backend
from worldplan.envs.world.control_env import ControlEnv, SuiteEnv
from worldplan.envs.world.frame_env import FrameEnv
from worldplan.errors import InvalidInput, RenderingUnavailable, UnknownName

SUITE = "dm_control/"
Make = Callable[[], gym.Env[Any, Any]]


@dataclass(frozen=True)
class Judge:
    """How a world says whether a goal was reached; for evaluation alone.

    Args:
        error: maps the true states at some step and at the goal, each a dictionary of arrays (..., width), to an error
            (...).
        tolerance: largest error of a goal that counts as reached.
        unit: unit of the error.
        lost: maps the true states at some step to whether the episode is lost by then, such as a pole that leans; None
            if nothing is.
    """

    error: Callable[[Mapping[str, Floats], Mapping[str, Floats]], Floats]
    tolerance: float
    unit: str
    lost: Callable[[Mapping[str, Floats]], NDArray[np.bool_]] | None = None


@dataclass(frozen=True)
class World:
    """An environment that shows frames and takes bounded actions, and what can be known of it.

    What a world cannot do costs only the verbs that need it.

    Args:
        card: name, frames, actions and states.
        make: makes the environment; its observation is a frame (S, S, 3) uint8, its `info` holds the states that the
            card names. It must be picklable if several processes are to collect.
        sample: draws `reset` options for starts and goals; None leaves both to `reset` itself.
        judge: how reaching is measured; None measures in the latent alone.
        symmetries: names in `worldplan.data.symmetries.SYMMETRIES` that hold for its frames and actions.
        exploration: the random actions that lead to goals, where the world does not sample them.
    """

    card: WorldCard
    make: Make
    sample: Callable[[np.random.Generator], dict[str, Any]] | None = None
    judge: Judge | None = None
    symmetries: tuple[str, ...] = ()
    exploration: Exploration = field(default_factory=Exploration)

    @classmethod
    def from_gym(cls, name: str, size: int = 64, *, repeat: int = 1, **options: Any) -> World:
        """A world from `dm_control/domain-task`, or from the id of a Gymnasium environment.

        Args:
            name: the id, such as `dm_control/point_mass-easy` or `Reacher-v5`.
            size: pixels a side of the frames.
            repeat: steps of the environment for one action.
            **options: arguments of `SuiteEnv` or of `gymnasium.make`.

        Raises:
            UnknownName: no such environment.
            InvalidInput: an environment without frames, or whose actions are no bounded `Box`.
        """
        return cls.from_env(partial(_make, name, size, repeat, options), name)

    @classmethod
    def from_env(cls, make: Make, name: str) -> World:
        """A world from a function that makes an environment whose observation is a frame (see `FrameEnv`).

        It is made once, to see what it is. Raises InvalidInput as `from_gym` does.
        """
        env = make()
        try:
            return cls(_card(name, env), make)
        finally:
            env.close()


def _make(name: str, size: int, repeat: int, options: dict[str, Any]) -> gym.Env[Any, Any]:
    if name.startswith(SUITE):
        domain, _, task = name.removeprefix(SUITE).partition("-")
        env: gym.Env[Any, Any] = SuiteEnv(domain, task, size, **options)
        return env if repeat == 1 else FrameEnv(env, size, repeat)
    with suppress(RenderingUnavailable):
        select_backend()  # Gymnasium's renderer would ask for a display
    try:
        made: gym.Env[Any, Any] = gym.make(name, render_mode="rgb_array", **options)
        # Those that draw as small as they are asked to; Gymnasium's do so some twenty times as fast as by default.
        wanted = _frame_options(made.unwrapped, size)
        if wanted and not options.keys() & wanted.keys():
            made.close()
            made = gym.make(name, render_mode="rgb_array", **wanted, **options)
    except (gym.error.NameNotFound, gym.error.NamespaceNotFound, gym.error.VersionNotFound) as error:
        raise UnknownName("world", name, ["dm_control/DOMAIN-TASK", "a Gymnasium id", "module:factory"]) from error
    except gym.error.Error as error:
        raise InvalidInput(f"{name} cannot be made ({error})") from error
    return FrameEnv(made, size, repeat)


def _frame_options(env: gym.Env[Any, Any], size: int) -> dict[str, Any]:
    """Arguments with which an environment draws frames of a size."""
    if isinstance(env, MujocoEnv):
        return {"width": size, "height": size}
    return {"size": size} if isinstance(env, ControlEnv) else {}


def _card(name: str, env: gym.Env[Any, Any]) -> WorldCard:
    """What an environment is; it is reset, and makes one step."""
    frame, info = env.reset(seed=0)
    actions = env.action_space
    if not isinstance(actions, Box) or len(actions.shape) != 1:
        raise InvalidInput(f"{name} has actions {actions}; make it a FrameEnv")
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[0] != frame.shape[1] or frame.shape[2] != 3:
        raise InvalidInput(f"{name} shows {frame.dtype} {frame.shape}, no square frame; make it a FrameEnv")
    *_, later = env.step(((actions.low + actions.high) / 2).astype(actions.dtype))
    always = {k: v for k, v in info.items() if k in later and np.shape(later[k]) == np.shape(v)}
    states = {k: len(v) for k, v in always.items() if isinstance(v, np.ndarray) and v.ndim == 1 and v.dtype.kind == "f"}
    return WorldCard(
        name=name,
        size=frame.shape[0],
        action_low=tuple(actions.low.tolist()),
        action_high=tuple(actions.high.tolist()),
        step_seconds=_seconds(env),
        states={k: width for k, width in states.items() if width and k.isidentifier()},
    )


def _seconds(env: gym.Env[Any, Any]) -> float:
    """Seconds of a step: told by the environment, or by its frame rate, or 1."""
    told = getattr(env.unwrapped, "step_seconds", None)
    if told is None:
        rate = env.unwrapped.metadata.get("render_fps")
        told = 1.0 / rate if rate else 1.0
    return float(told) * (env.repeat if isinstance(env, FrameEnv) else 1)
