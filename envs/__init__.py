"""The Reacher, its frames, and latent worlds; importing this registers the Gymnasium environments."""

from gymnasium.envs.registration import register, registry
from lazy_loader import attach_stub

from worldplan.envs.rollout import rollout as rollout  # at once: its module has the same name, and would take its place

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)  # the names stand in __init__.pyi

if "worldplan/ReacherGoal-v0" not in registry:
    register("worldplan/ReacherGoal-v0", entry_point="worldplan.envs.reacher:ReacherGoal")
    register("worldplan/Reacher-v0", entry_point="worldplan.envs.reacher_task:ReacherTask")
    register("worldplan/ReacherPixels-v0", entry_point="worldplan.envs.reacher_task:ReacherPixels")
