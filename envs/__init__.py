"""Worlds one can look at: the Reacher, its frames, latent processes, rollouts; importing registers the environments."""

from gymnasium.envs.registration import register, registry

from worldplan.envs.rollout import rollout
from worldplan.envs.worlds import OUWorld

__all__ = ["OUWorld", "rollout"]

if "worldplan/ReacherGoal-v0" not in registry:
    register("worldplan/ReacherGoal-v0", entry_point="worldplan.envs.reacher:ReacherGoal")
    register("worldplan/Reacher-v0", entry_point="worldplan.envs.reacher_task:ReacherTask")
    register("worldplan/ReacherPixels-v0", entry_point="worldplan.envs.reacher_task:ReacherPixels")
