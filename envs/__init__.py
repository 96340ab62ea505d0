"""The Reacher, its frames, and latent worlds; importing this registers the Gymnasium environments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymnasium.envs.registration import register, registry

from worldplan.envs.rollout import rollout  # at once: its module has the same name, and would take its place
from worldplan.lazy import lazy_names

if TYPE_CHECKING:  # for type checkers and editors; a test holds this list and _HOMES together
    from worldplan.envs.tasks import Tasks as Tasks, sample_tasks as sample_tasks
    from worldplan.envs.worlds import OUWorld as OUWorld

_HOMES = {
    "OUWorld": "worldplan.envs.worlds",
    "Tasks": "worldplan.envs.tasks",
    "sample_tasks": "worldplan.envs.tasks",
}

__all__ = ["rollout", *sorted(_HOMES)]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)

if "worldplan/ReacherGoal-v0" not in registry:
    register("worldplan/ReacherGoal-v0", entry_point="worldplan.envs.reacher:ReacherGoal")
    register("worldplan/Reacher-v0", entry_point="worldplan.envs.reacher_task:ReacherTask")
    register("worldplan/ReacherPixels-v0", entry_point="worldplan.envs.reacher_task:ReacherPixels")
