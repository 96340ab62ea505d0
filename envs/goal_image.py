"""Goals given as images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image

from worldplan.arrays import Frames
from worldplan.envs.rendering import SIZE
from worldplan.errors import BadFile, InvalidInput
from worldplan.learning.encoder import check_frames


def read_goal_image(path: Path | str, size: int = SIZE) -> Frames:
    """A goal image (size, size, 3) uint8 from a PNG file.

    Raises:
        BadFile: no such file, no PNG, or cut off.
        InvalidInput: another size or other colours than RGB of this size.
    """
    if not Path(path).is_file():
        raise BadFile(path, f"no such file; a goal image is a PNG of {size} x {size} pixels")
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.size != (size, size) or image.mode != "RGB":
                raise InvalidInput(
                    f"{path}: a goal image is {size} x {size} RGB as camera 0 sees the world, got "
                    f"{image.width} x {image.height} {image.mode}; convert it: "
                    f"PIL.Image.open(file).convert('RGB').resize(({size}, {size})).save('goal.png')"
                )
            return check_frames(np.array(image), size)
    except (OSError, SyntaxError) as error:  # Pillow's PNG reader raises SyntaxError on broken chunks
        raise BadFile(path, f"cannot be read as PNG ({error}); save the image again as PNG") from error


class GoalImage(gym.ObservationWrapper[Any, Any, Any]):
    """Shows an agent `image` (64, 64, 3), or for None the environment's own goal; `shown` is the last one shown.

    The observations of `env` are `{"observation", "desired_goal"}`.
    """

    def __init__(self, env: gym.Env[Any, Any], image: Frames | None = None) -> None:
        super().__init__(env)
        self._image = image
        self.shown = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The same observation with the goal image."""
        if self._image is not None:
            observation = {**observation, "desired_goal": self._image}
        self.shown = observation["desired_goal"]
        return observation
