"""Frames of dm_control's Reacher at given joint angles, in two looks.

Drawing uses dm_control's own camera. A second OpenGL context beside dm_control's (`mujoco.Renderer`) corrupts the next
frames that anyone renders, and users have stock environments in the same process.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from worldplan.arrays import Floats, Frames
from worldplan.checks import check_name, positive_int
from worldplan.data.world_card import FRAME_SIZE
from worldplan.envs.drawing import drawing_thread, no_garbage_collection, plain_quality, unavailable
from worldplan.envs.workers import select_backend, spawned_pool
from worldplan.errors import InvalidInput, RenderingUnavailable

SIZE = FRAME_SIZE
TARGET_SIZE = {"easy": 0.05, "hard": 0.015}  # metres: the two tasks of dm_control.suite.reacher
TARGET_RADIUS = (0.05, 0.20)  # metres from the shoulder: where its reset puts the target
LARGEST = 2048  # pixels a side of a frame
_CHUNK = 256  # frames a worker draws per task


@dataclass(frozen=True)
class RenderProfile:
    """One look of the scene: which effects are drawn."""

    shadows: bool
    reflections: bool


PROFILES = {
    "dmc": RenderProfile(shadows=True, reflections=True),
    "fast": RenderProfile(shadows=False, reflections=False),
}


def load_physics() -> Any:
    """Choose a back end and make `dm_control.suite.reacher.Physics`.

    Without an OpenGL library there is physics all the same. Raises RenderingUnavailable if one is there and fails.
    """
    with suppress(RenderingUnavailable):
        select_backend()
    try:
        from dm_control.suite import reacher
    except Exception as error:  # dm_control opens the back end while it is imported
        raise unavailable(error) from error
    return reacher.Physics.from_xml_string(*reacher.get_model_and_assets())


class ReacherRenderer:
    """Draws Reacher frames, (S, S, 3) uint8, from camera 0.

    One sample a pixel and a 256 x 256 shadow map change stock dm_control frames by .6/255 on average. They make drawing
    about six times as fast. One context serves all profiles, which differ only in scene flags. Frames of another size
    than 64, which nobody plans from, have the model's own quality.

    Args:
        size: S, pixels a side.

    Raises:
        InvalidInput: a size out of range.
        RenderingUnavailable: no OpenGL context can be made here.
    """

    def __init__(self, size: int = SIZE) -> None:
        if not 1 <= positive_int("size", size) <= LARGEST:
            raise InvalidInput(f"frames have 1 to {LARGEST} pixels a side, got {size}")
        select_backend()
        self._physics = load_physics()
        from dm_control.mujoco.engine import Camera

        model = self._physics.model
        if size == SIZE:
            plain_quality(model, SIZE)
        model.vis.global_.offwidth = model.vis.global_.offheight = size
        self._material = int(model.geom("target").matid[0])
        try:
            self._camera = Camera(self._physics, size, size, camera_id=0)
            self._camera.render()
        except Exception as error:  # OpenGL bindings raise many unrelated types
            raise unavailable(error) from error

    def render(self, qpos: Floats, target: Floats | None = None, profile: str = "dmc") -> Frames:
        """Draw one frame, (S, S, 3) uint8.

        Args:
            qpos: (2,) angles of shoulder and wrist, radians.
            target: (3,) x, y and radius of the target sphere, metres; None or radius 0 hides it.
            profile: a name in `PROFILES`.

        Raises:
            InvalidInput: wrong shape or values that are not finite.
            UnknownName: no such profile.
        """
        check_name("render profile", profile, PROFILES)
        look = PROFILES[profile]
        qpos = np.asarray(qpos, dtype=np.float64)
        target = np.zeros(3) if target is None else np.asarray(target, dtype=np.float64)
        if qpos.shape != (2,) or target.shape != (3,) or not (np.isfinite(qpos).all() and np.isfinite(target).all()):
            raise InvalidInput(f"need 2 finite angles and a finite target (x, y, radius), got {qpos} and {target}")
        if target[2] < 0:
            raise InvalidInput(f"the target's radius must not be negative, got {target[2]}; 0 hides it")
        visible = bool(target[2] > 0)
        model = self._physics.named.model
        model.geom_pos["target", :2] = target[:2]
        model.geom_size["target", 0] = target[2] if visible else 1e-3
        model.geom_matid["target"] = self._material if visible else -1
        model.geom_rgba["target", 3] = float(visible)
        self._physics.data.qpos[:] = qpos
        self._physics.forward()
        flags = {"shadow": look.shadows, "reflection": look.reflections}
        with no_garbage_collection():
            frame: Frames = self._camera.render(render_flag_overrides=flags).copy()  # the camera reuses its buffer
        return frame

    def free(self) -> None:
        """Give the context back, in the thread that made this; nothing can be drawn afterwards."""
        self._physics.free()


class SharedRenderer:
    """A `ReacherRenderer` for all threads of a process, in the one thread that draws; see `DrawingThread`.

    Arguments and errors are those of `ReacherRenderer`.
    """

    def __init__(self, size: int = SIZE) -> None:
        self._thread = drawing_thread()
        self._renderer: ReacherRenderer = self._thread.do(partial(ReacherRenderer, size))
        atexit.register(self._free)

    def render(self, qpos: Floats, target: Floats | None = None, profile: str = "dmc") -> Frames:
        """See `ReacherRenderer.render`."""
        return self.render_all([(qpos, target, profile)])[0]

    def render_all(self, jobs: Iterable[tuple[Floats, Floats | None, str]]) -> list[Frames]:
        """Frames of several poses, targets and profiles."""
        frames: list[Frames] = self._thread.do(lambda: [self._renderer.render(*job) for job in jobs])
        return frames

    def _free(self) -> None:
        if self._thread.here:
            self._thread.do(self._renderer.free)


_MAKING = threading.Lock()


def shared_renderer(size: int = SIZE) -> SharedRenderer:
    """The one renderer of this process and size: contexts are slow to make and few. Errors: see `SharedRenderer`."""
    with _MAKING:
        return _renderer(size)


@cache
def _renderer(size: int) -> SharedRenderer:
    return SharedRenderer(size)


def render_frames(
    qpos: Floats, targets: Floats | None = None, profiles: str | Iterable[str] = "dmc", processes: int = 1
) -> Frames:
    """Draw many frames, (N, 64, 64, 3) uint8, in this process or in several spawned ones with the same result.

    Args:
        qpos: (N, 2) joint angles, radians.
        targets: (N, 3) or (3,) target spheres as in `ReacherRenderer.render`; None hides the target.
        profiles: one name, or N of them.
        processes: worker processes; more than 1 needs an importable `__main__` (spawn).
    """
    with frame_stream(processes) as draw:
        frames: Frames = next(draw([(qpos, targets, profiles)]))
    return frames


Batch = tuple[Floats, Floats | None, "str | Iterable[str]"]


@contextmanager
def frame_stream(processes: int = 1) -> Iterator[Any]:
    """Context manager that gives `draw(batches) -> iterator of frames`, over one pool of renderer processes."""
    if processes < 1:
        raise InvalidInput(f"processes must be at least 1, got {processes}")
    with spawned_pool(processes) if processes > 1 else nullcontext() as pool:
        spread = map if pool is None else pool.map
        yield lambda batches: (np.concatenate(list(spread(_draw, _chunks(b)))) for b in batches)


def _chunks(batch: Batch) -> list[Batch]:
    qpos, targets, profiles = batch
    qpos = np.asarray(qpos, dtype=np.float64)
    if qpos.ndim != 2 or qpos.shape[1] != 2 or len(qpos) == 0:
        raise InvalidInput(f"qpos must be (N, 2) with N > 0, got {qpos.shape}")
    n = len(qpos)
    places = np.zeros(3) if targets is None else np.asarray(targets, dtype=np.float64)
    if places.shape not in ((3,), (n, 3)):
        raise InvalidInput(f"targets must be (3,) or ({n}, 3), got {places.shape}")
    places = np.broadcast_to(places, (n, 3))
    names = [profiles] * n if isinstance(profiles, str) else list(profiles)
    if len(names) != n:
        raise InvalidInput(f"got {len(names)} profiles for {n} frames")
    return [(qpos[i : i + _CHUNK], places[i : i + _CHUNK], names[i : i + _CHUNK]) for i in range(0, n, _CHUNK)]


def _draw(batch: Batch) -> Frames:
    qpos, targets, profiles = batch
    assert targets is not None
    return np.stack(shared_renderer().render_all(zip(qpos, targets, profiles, strict=True)))


def sample_targets(count: int, rng: np.random.Generator, task: str = "hard") -> Floats:
    """Target spheres (count, 3) with the places of dm_control's reset and the size of `task`; `hidden` has radius 0."""
    if task != "hidden":
        check_name("task", task, TARGET_SIZE)
    angle, radius = rng.uniform(0, 2 * np.pi, count), rng.uniform(*TARGET_RADIUS, count)
    size = np.full(count, TARGET_SIZE.get(task, 0.0))
    return np.stack([radius * np.sin(angle), radius * np.cos(angle), size], axis=1)
