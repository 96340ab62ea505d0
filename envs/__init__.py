"""The Reacher, its frames, and latent worlds; importing this registers the Gymnasium environments."""

from typing import Any

from gymnasium.envs.registration import register, registry
from lazy_loader import attach_stub

from worldplan.envs.rollout import rollout as rollout  # at once: its module has the same name, and would take its place

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)  # the names stand in __init__.pyi

if "worldplan/ReacherGoal-v0" not in registry:
    # Gymnasium's own limit in the place of ours: so `max_episode_steps` is obeyed, and the spec tells it.
    for name, place, steps in (
        ("ReacherGoal", "worldplan.envs.reacher:ReacherGoal", 100),
        ("Reacher", "worldplan.envs.reacher_task:ReacherTask", 1000),
        ("ReacherPixels", "worldplan.envs.reacher_task:ReacherPixels", 1000),
    ):
        limits: dict[str, Any] = {"kwargs": {"episode_steps": None}, "max_episode_steps": steps}
        register(f"worldplan/{name}-v0", entry_point=place, **limits)
    register("worldplan/Arm-v0", entry_point="worldplan.envs.world.arm:ArmEnv", disable_env_checker=True)
