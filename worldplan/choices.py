"""The named choices that options and configurations share. Needs no NumPy, like `checks`."""

from __future__ import annotations

from typing import Any, Literal, get_args

from worldplan.checks import check_name

Profile = Literal["dmc", "fast"]
"""Look of the frames: with shadows and reflections, as dm_control draws them, or without."""
Target = Literal["hard", "easy", "hidden"]
"""The target sphere in the picture: radius .015 m, .05 m, or not drawn."""
Task = Literal["easy", "hard"]
Distribution = Literal["normal", "reset", "ahead"]
"""Of poses: N(0, 1) clipped to +-2.4 rad; dm_control's reset law; or `ahead`, goals 25 random steps after a reset."""
Success = Literal["tip", "qpos"]
"""Fingertip within .025 m of the goal pose's, or both joints within .05 rad."""
Look = Literal["varied", "dmc", "fast"]


def check_choice(kind: str, name: str, choice: Any) -> None:
    """Raise UnknownName for a name that is not among those of a `Literal`."""
    check_name(kind, name, get_args(choice))
