"""Worlds by name: those that ship, those of other packages, and any environment."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from typing import Any

import gymnasium as gym

from worldplan.checks import positive_int
from worldplan.data.world_card import FRAME_SIZE
from worldplan.envs.world.arm import LINKS
from worldplan.envs.world.frame_env import FrameEnv
from worldplan.envs.world.shipped import arm, cartpole, point_mass, reacher_v5
from worldplan.envs.world.world import World
from worldplan.errors import InvalidInput
from worldplan.named import named_object

FORM = "module:factory, such as myarm:Arm, a function or class that gives a Gymnasium environment or a World"

GROUP = "worldplan.worlds"  # entry points of packages that add worlds: name -> `module:factory`
WORLDS: dict[str, Callable[..., World]] = {
    "point_mass": point_mass,
    "cartpole": cartpole,
    "Reacher-v5": reacher_v5,
    **{f"arm{links}": partial(arm, links=links) for links in range(LINKS[0], LINKS[1] + 1)},
}
"""Shipped worlds: functions of `size` and `repeat`."""


def find_world(name: str, size: int | None = None, repeat: int | None = None) -> World:
    """The world behind `--env`.

    Args:
        name: a registered name, `dm_control/domain-task`, the id of a Gymnasium environment, or `module:factory`, a
            function without arguments that gives a `World` or an environment.
        size: pixels a side of the frames; None takes 64, or the world's own.
        repeat: steps of the environment for one action; None takes 1, or the world's own.

    Raises:
        UnknownName: nothing of this name.
        InvalidInput: an environment without frames, or whose actions are no bounded `Box`; or a size for a world that
            has its own.
    """
    added = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    wanted = {k: v for k, v in {"size": size, "repeat": repeat}.items() if v is not None}
    for key, value in wanted.items():
        positive_int(key, value)
    if name in WORLDS:
        return WORLDS[name](**wanted)
    place = added.get(name, name)
    if re.fullmatch(r"[\w.]+:[\w.]+", place):
        return _from_factory(place, name, wanted)
    return World.from_gym(name, **wanted)


def _from_factory(place: str, name: str, wanted: dict[str, int]) -> World:
    made = _called(place)
    if isinstance(made, World):
        if wanted:
            raise InvalidInput(f"{name} is a world with its own frames and steps; leave out {', '.join(wanted)}")
        return made
    if not isinstance(made, gym.Env):
        raise InvalidInput(f"{place} must give a World or a Gymnasium environment, got {type(made).__name__}")
    made.close()
    return World.from_env(partial(_make_own, place, wanted.get("size", FRAME_SIZE), wanted.get("repeat", 1)), name)


def _make_own(place: str, size: int, repeat: int) -> gym.Env[Any, Any]:
    return FrameEnv(_called(place), size, repeat)


def _called(place: str) -> Any:
    """What a factory without arguments gives."""
    factory = named_object(place, FORM)
    try:
        return factory()
    except TypeError as error:
        raise InvalidInput(f"{place} is no function without arguments ({error}); the form is {FORM}") from error
