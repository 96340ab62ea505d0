"""Any Gymnasium environment as one whose observation is a square frame."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from worldplan.arrays import Frames
from worldplan.checks import episode_seed
from worldplan.data.pictures import square_frames
from worldplan.errors import InvalidInput


class FrameEnv(gym.Wrapper[Frames, NDArray[Any], Any, Any]):
    """Shows the frame, (S, S, 3) uint8, in place of the observation; the observation is `info["state"]` if it is flat.

    The frame is the environment's own observation if that is an image, else what `render()` draws. It is resized to S
    pixels a side (every pixel is the mean of those that it covers). An action is repeated for `repeat` steps, unless
    the episode ends; rewards add up.

    Args:
        env: an environment with a bounded `Box` of actions (m,); made with `render_mode="rgb_array"`, unless it
            observes images.
        size: S.
        repeat: steps of `env` for one action.

    Raises:
        InvalidInput: other actions, no frames, frames of changing sizes, or less than one step.
    """

    def __init__(self, env: gym.Env[Any, Any], size: int = 64, repeat: int = 1) -> None:
        super().__init__(env)
        actions = env.action_space
        if not isinstance(actions, spaces.Box) or len(actions.shape) != 1 or actions.dtype.kind != "f":
            raise InvalidInput(
                f"{_name(env)} has actions {actions}; linear dynamics need a Box of m real numbers: wrap it "
                "(gymnasium.wrappers.TransformAction) or choose another environment"
            )
        if not actions.is_bounded():
            raise InvalidInput(
                f"{_name(env)} has actions without limits, {actions}; set them with gymnasium.wrappers.RescaleAction "
                "or a TransformAction"
            )
        if repeat < 1 or size < 1:
            raise InvalidInput(f"need frames of 1 pixel or more and actions for 1 step or more, got {size}, {repeat}")
        seen = env.observation_space
        self._sees = isinstance(seen, spaces.Box) and seen.dtype == np.uint8 and _is_frame(np.empty(seen.shape))
        if not self._sees and env.render_mode != "rgb_array":
            raise InvalidInput(
                f"{_name(env)} shows no frames: it observes {type(seen).__name__}{seen.shape or ''} and its "
                f"render_mode is {env.render_mode!r}; make it with render_mode='rgb_array'"
            )
        self._told = isinstance(seen, spaces.Box) and len(seen.shape) == 1
        self._size, self.repeat = size, repeat
        self._shape: tuple[int, ...] = ()  # of the frames, before they are resized
        self.observation_space = spaces.Box(0, 255, (size, size, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frames, dict[str, Any]]:
        """Start an episode."""
        seen, info = self.env.reset(seed=episode_seed(seed), options=options)
        return self._frame(seen), self._info(seen, info)

    def step(self, action: NDArray[Any]) -> tuple[Frames, float, bool, bool, dict[str, Any]]:
        """Act for `repeat` steps."""
        total, over = 0.0, False
        for _ in range(self.repeat):
            if over:
                break
            seen, reward, terminated, truncated, info = self.env.step(action)
            total, over = total + float(reward), terminated or truncated
        return self._frame(seen), total, bool(terminated), bool(truncated), self._info(seen, info)

    def render(self) -> Any:
        """What the environment itself draws."""
        return self.env.render()

    def _info(self, seen: Any, info: dict[str, Any]) -> dict[str, Any]:
        return {**info, "state": np.asarray(seen, dtype=np.float64)} if self._told else info

    def _frame(self, seen: Any) -> Frames:
        try:
            frame: NDArray[Any] = np.asarray(seen if self._sees else self.env.render())
        except gym.error.Error as error:
            raise InvalidInput(f"{_name(self.env)} cannot draw ({error})") from error
        if frame.dtype != np.uint8 or not _is_frame(frame):
            raise InvalidInput(
                f"{_name(self.env)} draws {frame.dtype} {frame.shape}, no uint8 frame (H, W, 3); wrap its render()"
            )
        self._shape = self._shape or frame.shape
        if frame.shape != self._shape:
            raise InvalidInput(
                f"{_name(self.env)} draws frames of changing sizes, {self._shape} and {frame.shape}: nothing would "
                "stay in place; let its render() give one size"
            )
        if frame.shape == self.observation_space.shape:
            return frame.copy()  # environments may reuse their buffers
        square: Frames = square_frames(frame[None], self._size)[0]
        return square


def _is_frame(array: NDArray[Any]) -> bool:
    return array.ndim == 3 and array.shape[2] == 3 and min(array.shape[:2]) >= 8


def _name(env: gym.Env[Any, Any]) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
