"""Environments of dm_control as Gymnasium environments whose observation is the frame."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from worldplan.arrays import Floats, Frames, finite_array
from worldplan.checks import check_name, checked_seed, episode_seed, reset_options
from worldplan.envs.drawing import DrawingThread, drawing_thread, no_garbage_collection, plain_quality, unavailable
from worldplan.envs.workers import select_backend
from worldplan.errors import InvalidInput, RenderingUnavailable

SAMPLES = 2  # along each side of a pixel; drawing them takes two thirds of the time that OpenGL takes to smooth


class ControlEnv(gym.Env[Frames, Floats]):
    """An environment of dm_control, seen by one of its cameras; `info` holds the true state, `qpos` and `qvel`.

    Reward, step and end of an episode are dm_control's. Each pixel is the mean of four samples: without, a ball of two
    pixels is lost. Frames are drawn by the one thread of the process that draws. `reset(options=...)` takes `qpos` and
    `qvel` in place of the task's own start.

    Args:
        env: the environment, with MuJoCo's physics.
        size: pixels a side of the frames.
        camera: number of the camera.
        view: vertical field of view of the camera, degrees; None as the model has it.

    Raises:
        InvalidInput: no such camera, or no such angle.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, env: Any, size: int = 64, camera: int = 0, view: float | None = None) -> None:
        self._env = env
        self._physics, spec = self._env.physics, self._env.action_spec()
        if not 0 <= camera < self._physics.model.ncam:
            raise InvalidInput(f"the model has {self._physics.model.ncam} cameras, counted from 0; none is {camera}")
        if view is not None and not 0.0 < view < 180.0:
            raise InvalidInput(f"a field of view lies between 0 and 180 degrees, got {view}")
        if view is not None:
            self._physics.model.cam_fovy[camera] = view
        self.action_space = spaces.Box(spec.minimum, spec.maximum, spec.shape, np.float64)
        self.observation_space = spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.step_seconds = float(self._env.control_timestep())
        self.metadata = {**self.metadata, "render_fps": round(1 / self.step_seconds)}
        self._limits = spec.minimum, spec.maximum
        self._size, self._number = size, camera
        self._camera: Any = None
        self._free: Callable[[], Any] | None = None
        plain_quality(self._physics.model, SAMPLES * size)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frames, dict[str, Any]]:
        """Start an episode.

        Raises:
            InvalidInput: a state of another width, or not finite.
            UnknownName: an option of another name.
        """
        options = reset_options(options, ("qpos", "qvel"))
        super().reset(seed=episode_seed(seed))
        if seed is not None:
            self._env.task.random.seed(int(self.np_random.integers(2**32)))
        self._env.reset()
        if options:
            data = self._physics.data
            given = {"qpos": data.qpos.copy(), "qvel": np.zeros_like(data.qvel)}
            for name, value in options.items():
                row = finite_array(name, value)
                if row.shape != given[name].shape:
                    raise InvalidInput(f"{name} has the shape {given[name].shape}, got {row.shape}")
                given[name] = row
            with self._physics.reset_context():
                data.qpos[:], data.qvel[:] = given["qpos"], given["qvel"]
        return self._draw(), self._info()

    def step(self, action: Any) -> tuple[Frames, float, bool, bool, dict[str, Any]]:
        """Act for one control step, clipped to the limits. Raises InvalidInput unless the action is finite and (m,)."""
        applied = finite_array("an action", action)
        if applied.shape != self.action_space.shape:
            raise InvalidInput(f"an action has the shape {self.action_space.shape}, got {applied.shape}")
        after = self._env.step(applied.clip(*self._limits))
        over = bool(after.last())
        terminated = over and after.discount == 0.0
        return self._draw(), float(after.reward or 0.0), terminated, over and not terminated, self._info()

    def render(self) -> Frames:
        """The current frame."""
        return self._draw()

    def close(self) -> None:
        """Give the context back; nothing can be drawn afterwards."""
        if self._free is not None:
            self._free()

    def _info(self) -> dict[str, Any]:
        return {"qpos": self._physics.data.qpos.copy(), "qvel": self._physics.data.qvel.copy()}

    def _draw(self) -> Frames:
        thread = drawing_thread()
        frame: Frames = thread.do(self._drawn)
        if self._free is None:
            # Not by whichever thread drops the last reference: the context belongs to the thread that draws.
            self._free = free = weakref.finalize(self, _free, thread, self._physics)
            # At exit it must come before dm_control's own attempt, hence after the context was made, and so on its own.
            free.atexit = False
            atexit.register(free)
        return frame

    def _drawn(self) -> Frames:
        """The current frame, in the thread that draws."""
        with no_garbage_collection():
            try:
                if self._camera is None:
                    from dm_control.mujoco.engine import Camera

                    side = SAMPLES * self._size
                    self._camera = Camera(self._physics, side, side, camera_id=self._number)
                blocks = self._camera.render().reshape(self._size, SAMPLES, self._size, SAMPLES, 3)
                frame: Frames = blocks.mean(axis=(1, 3)).round().astype(np.uint8)
                return frame
            except Exception as error:  # OpenGL bindings raise many unrelated types
                raise unavailable(error) from error


def _free(thread: DrawingThread, physics: Any) -> None:
    if thread.here:
        thread.do(physics.free)


class SuiteEnv(ControlEnv):
    """A task of `dm_control.suite`.

    Args:
        domain: such as `point_mass`.
        task: such as `easy`.
        size: pixels a side of the frames.
        camera: number of the camera.
        view: vertical field of view of the camera, degrees; None as the task has it.

    Raises:
        UnknownName: dm_control has no such domain or task.
        InvalidInput: actions without limits, or no such camera.
        RenderingUnavailable: no OpenGL context can be made here.
    """

    def __init__(self, domain: str, task: str, size: int = 64, camera: int = 0, view: float | None = None) -> None:
        with suppress(RenderingUnavailable):
            select_backend()
        from dm_control import suite

        check_name("domain of dm_control.suite", domain, suite.TASKS_BY_DOMAIN)
        check_name(f"task of dm_control's {domain}", task, suite.TASKS_BY_DOMAIN[domain])
        super().__init__(suite.load(domain, task), size, camera, view)


class Launched(gym.Wrapper[Frames, Floats, Frames, Floats]):
    """Starts episodes at states that a function draws, such as a cart that a hand lets go, unless reset names one.

    Args:
        env: an environment whose reset takes these options.
        draw: draws reset options.
    """

    def __init__(self, env: gym.Env[Frames, Floats], draw: Callable[[np.random.Generator], dict[str, Any]]) -> None:
        super().__init__(env)
        self._draw, self._rng = draw, np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frames, dict[str, Any]]:
        """Start an episode; without options, at a state that is drawn."""
        if options:
            return self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._rng = np.random.default_rng(checked_seed(seed))
        return self.env.reset(seed=seed, options=self._draw(self._rng))
