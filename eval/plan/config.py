"""The options of `worldplan plan`. Needs no NumPy: the command line reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from worldplan.checks import check_fields, checked_seed, positive_int
from worldplan.choices import Distribution, Profile, Success, Target, check_choice
from worldplan.errors import InvalidInput

Angles = Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="SHOULDER WRIST")]


@dataclass(frozen=True)
class PlanConfig:
    """Which goals to reach, and in which look of the world.

    Args:
        episodes: pairs of start and goal.
        seed: seed for poses, target places and random torques.
        start_qpos: start of every episode, radians (shoulder, wrist); None draws one each.
        goal_qpos: goal of every episode, radians; None draws one each.
        goal_image: PNG of 64 x 64 pixels whose pose is the goal of every episode; its angles stay unknown.
        distribution: law of drawn poses: `normal`, N(0, 1) clipped to +-2.4; `reset`, dm_control's; or `ahead`, with
            goals 25 random steps after a reset.
        profile: look of the frames, `dmc` or `fast`.
        target: target sphere, `hard`, `easy` or `hidden`; a distractor.
        success: `tip` (fingertip within .025 m of the goal pose's) or `qpos` (both joints within .05 rad).
    """

    episodes: int = 5
    seed: int = 0
    start_qpos: Angles = None
    goal_qpos: Angles = None
    goal_image: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    distribution: Distribution = "normal"
    profile: Profile = "dmc"
    target: Target = "hard"
    success: Success = "tip"

    def __post_init__(self) -> None:
        check_fields(self)
        positive_int("episodes", self.episodes), checked_seed(self.seed)
        check_choice("distribution of poses", self.distribution, Distribution)
        check_choice("render profile", self.profile, Profile)
        check_choice("target", self.target, Target)
        check_choice("success criterion", self.success, Success)
        if self.goal_image is not None and self.goal_qpos is not None:
            raise InvalidInput("a goal is an image or a pair of angles; give one of the two")

    @property
    def look(self) -> dict[str, Any]:
        """Arguments of `ReacherGoal`."""
        return {"profile": self.profile, "target": self.target, "success": self.success}
