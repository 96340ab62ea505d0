"""Our environments in Gymnasium's registry. Imports nothing heavy: the environments load when they are made."""

from __future__ import annotations

from typing import Any


def register_environments(_: Any = None) -> None:
    """Register `worldplan/ReacherGoal-v0` and the others, once; Gymnasium must be there."""
    from gymnasium.envs.registration import register, registry

    if "worldplan/ReacherGoal-v0" in registry:
        return
    # Gymnasium's own limit in the place of ours: so `max_episode_steps` is obeyed, and the spec tells it.
    for name, place, steps in (
        ("ReacherGoal", "worldplan.envs.reacher:ReacherGoal", 100),
        ("Reacher", "worldplan.envs.reacher_task:ReacherTask", 1000),
        ("ReacherPixels", "worldplan.envs.reacher_task:ReacherPixels", 1000),
    ):
        limits: dict[str, Any] = {"kwargs": {"episode_steps": None}, "max_episode_steps": steps}
        if name == "ReacherGoal":
            limits["vector_entry_point"] = "worldplan.envs.vector:ReacherGoalVector"
        register(f"worldplan/{name}-v0", entry_point=place, **limits)
    register("worldplan/Arm-v0", entry_point="worldplan.envs.world.arm:ArmEnv", disable_env_checker=True)
