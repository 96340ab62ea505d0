"""Open-loop control cost of an encoder, as published: plan in the latent, decode the plan, cost the joint path.

Klindt, LeCun and Balestriero (2026, arXiv 2605.26379) plan by the straight line between the latents of start and goal.
They decode each point by the nearest of a library of encoded frames with known angles. They divide the cost of the
joint path by that of the straight line in joint space. Here the ends are the true poses. Costs are also divided by that
of the cheapest path, which the straight line is not. Libraries of several sizes are used. The true angles, decoded with
the same library, give the floor: the error of decoding alone.

Every affine map preserves line and optimum (see `paths`). A rotated and a sheared latent therefore differ only in their
nearest neighbours, and not at all in the limit of a large library. The measure tells a bent latent from a straight one;
`evaluate_control` tells whether one can control with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from worldplan.arrays import Floats, Frames, finite_array, finite_vectors, varies
from worldplan.checks import positive_int
from worldplan.envs.rendering import render_frames, sample_targets
from worldplan.envs.tasks import NORMAL_CLIP, sample_tasks
from worldplan.errors import EncoderCollapsed, InvalidInput
from worldplan.eval.control.paths import cheapest_path, path_cost, straight_line
from worldplan.eval.statistics.estimate import Ratios, ratios
from worldplan.learning.encoder import Encoder, encode, space_of
from worldplan.planning.space import TURN, LatentSpace
from worldplan.provenance import Result

PLANS: dict[str, Callable[..., Floats]] = {"line": straight_line, "optimum": cheapest_path}
ORACLE = "true angles"
_SAME = 1e-9  # squared distance, rad^2, below which a start is its goal
_TRIED = 16  # frames encoded twice, to check that an encoder is deterministic


@dataclass(frozen=True)
class OpenLoopRow:
    """One plan, decoded with one library.

    Attributes:
        latent: the encoder's name, or `true angles`.
        plan: `line` (as published) or `optimum`.
        library: number of frames to decode with.
        to_line: cost over that of the straight line in joint space.
        to_optimum: cost over that of the cheapest joint path; never below 1.
    """

    latent: str
    plan: str
    library: int
    to_line: Ratios
    to_optimum: Ratios


@dataclass(frozen=True)
class OpenLoopReport(Result):
    """Result of `open_loop_cost`; rows are by library and plan, the encoder's before the true angles'."""

    digits = 6

    pairs: int
    points: int
    seed: int
    profile: str
    rows: tuple[OpenLoopRow, ...]


@dataclass(frozen=True, eq=False)
class Query:
    """Encoded starts (N, n) and goals (N, n) to plan between, and encoded library frames (L, n).

    `space` is that of the latents; None for lines. Plans go the shorter way round a circle.
    """

    starts: Floats
    goals: Floats
    library: Floats
    space: LatentSpace | None = None

    def __post_init__(self) -> None:
        n = finite_array("library", self.library).shape[-1]
        for name in ("starts", "goals", "library"):
            value = finite_vectors(name, getattr(self, name), n)
            if value.ndim != 2 or len(value) == 0:
                raise InvalidInput(f"{name} must be (N, {n}) with N > 0, got {value.shape}")
            object.__setattr__(self, name, value)
        if len(self.starts) != len(self.goals):
            raise InvalidInput(f"got {len(self.starts)} starts for {len(self.goals)} goals")
        if self.space is not None:
            object.__setattr__(self, "goals", self.space.lift(self.goals, self.starts))

    def nearest(self, latents: Floats) -> NDArray[np.intp]:
        """Indices (...) of the library's latents nearest to `latents` (..., n)."""
        if self.space is None or self.space.flat:
            return np.asarray(KDTree(self.library).query(latents)[1])
        around = self.space.circles
        turn = np.where(around, TURN, 0.0)  # 0: this coordinate has no period
        tree = KDTree(np.where(around, np.remainder(self.library, TURN) % TURN, self.library), boxsize=turn)
        return np.asarray(tree.query(np.where(around, np.remainder(latents, TURN) % TURN, latents))[1])

    def some(self, rows: NDArray[np.bool_] | slice, library: int | None = None) -> Query:
        """Some of the starts and goals, and the first latents of the library."""
        return Query(self.starts[rows], self.goals[rows], self.library[:library], self.space)


def decode_paths(latent: Query, truth: Query, plan: str, points: int) -> Floats:
    """Plan in the latent and decode the plan: joint angles (N, points, 2), radians.

    The ends are the true start and goal; between them stand the nearest poses of the library. `truth` holds the joint
    angles of `latent`, radians. `plan` is `line` or `optimum`.

    Raises:
        InvalidInput: latents and angles are not of the same frames.
    """
    if (len(latent.starts), len(latent.library)) != (len(truth.starts), len(truth.library)):
        raise InvalidInput("latents and angles must be of the same pairs and library")
    planned = PLANS[plan](latent.starts, latent.goals, points)
    nearest = latent.nearest(planned[:, 1:-1])
    decoded: Floats = np.concatenate(
        [truth.starts[:, None], truth.library[nearest], truth.goals[:, None]], axis=1, dtype=np.float64
    )
    return decoded


def open_loop_rows(
    latent: Query, truth: Query, name: str, points: int, libraries: Sequence[int], seed: int = 0
) -> list[OpenLoopRow]:
    """Rows of the report from latents and their joint angles (`truth`, radians); nothing is rendered.

    `libraries` says how many of the library's first frames to decode with. `seed` is that of the bootstrap over pairs.

    Raises:
        InvalidInput: the library is too small, or every start is its goal.
    """
    if not libraries or max(libraries) > len(truth.library):
        raise InvalidInput(f"need library sizes up to {len(truth.library)}, got {list(libraries)}")
    apart = np.square(truth.starts - truth.goals).sum(axis=1) > _SAME
    if not apart.any():
        raise InvalidInput("every start is its goal; no ratio is defined")
    latent, truth = (q.some(apart) for q in (latent, truth))
    references = [path_cost(make(truth.starts, truth.goals, points)) for make in PLANS.values()]
    rows = []
    for size in libraries:
        seen, known = (q.some(slice(None), positive_int("a library", size)) for q in (latent, truth))
        for plan in PLANS:
            cost = path_cost(decode_paths(seen, known, plan, points))
            rows.append(OpenLoopRow(name, plan, size, *(ratios(cost, reference, seed) for reference in references)))
    return rows


def largest(rows: Sequence[OpenLoopRow], plan: str) -> OpenLoopRow:
    """The plan's row with the largest library."""
    return max((row for row in rows if row.plan == plan), key=lambda row: row.library)


@dataclass(frozen=True)
class OpenLoopTask:
    """The task set to encoders; `draw` renders it, once for all of them.

    Poses of pairs and library are N(0, 1), clipped to +-2.4 rad. The target sphere has a random place, the same for the
    start and the goal of a pair.

    Args:
        points: T, of a path; both ends included.
        libraries: numbers of frames to decode with; the smaller libraries are part of the larger.
        seed: seed for poses, target places and bootstrap.
        profile: look of the frames, `dmc` or `fast`.
        target: target sphere, `hard`, `easy` or `hidden`.

    Raises:
        InvalidInput: a number is out of range.
    """

    pairs: int = 300
    points: int = 8
    libraries: Sequence[int] = (250, 1000, 4000)
    seed: int = 0
    profile: str = "fast"
    target: str = "hard"

    def __post_init__(self) -> None:
        positive_int("pairs", self.pairs)
        sizes = tuple(sorted({positive_int("a library", size) for size in self.libraries}))
        if not sizes or positive_int("points", self.points) < 3:
            raise InvalidInput("need a library size, and paths of at least 3 points: the ends are not decoded")
        object.__setattr__(self, "libraries", sizes)

    def rows(self, latent: Query, name: str) -> list[OpenLoopRow]:
        """Rows of an encoder's latents of `Scene.frames`."""
        return open_loop_rows(latent, self._poses()[0], name, self.points, self.libraries, self.seed)

    def floor(self) -> list[OpenLoopRow]:
        """Rows of the true angles, and of any rotation of them: an ideal encoder. Nothing is rendered."""
        return self.rows(self._poses()[0], ORACLE)

    def draw(self, render: Callable[..., Frames] = render_frames) -> Scene:
        """Render the task; `render` maps joint angles, targets (or None) and profile to frames.

        Raises:
            RenderingUnavailable: no OpenGL here.
        """
        truth, rng = self._poses()
        at, around = (
            None if self.target == "hidden" else sample_targets(count, rng, self.target)
            for count in (self.pairs, len(truth.library))
        )
        shown = ((truth.starts, at), (truth.goals, at), (truth.library, around))
        starts, goals, library = (render(angles, places, self.profile) for angles, places in shown)
        return Scene(self, truth, (starts, goals, library))

    def _poses(self) -> tuple[Query, np.random.Generator]:
        poses, rng = sample_tasks(self.pairs, self.seed), np.random.default_rng([self.seed, 1])
        library = rng.standard_normal((self.libraries[-1], 2)).clip(-NORMAL_CLIP, NORMAL_CLIP)
        return Query(poses.starts, poses.goals, library), rng


@dataclass(frozen=True, eq=False)
class Scene:
    """A rendered task: poses in radians, and frames (·, 64, 64, 3) of starts, goals and library."""

    task: OpenLoopTask
    truth: Query
    frames: tuple[Frames, Frames, Frames]

    def report(self, encoder: Encoder) -> OpenLoopReport:
        """`open_loop_cost` of an encoder, on these frames."""
        encode(encoder, self.frames[-1][:_TRIED], twice=True)
        starts, goals, library = (np.asarray(encoder(batch)) for batch in self.frames)
        latent = Query(starts, goals, library, space_of(encoder))
        if not varies(latent.library).any():
            raise EncoderCollapsed("the encoder gives the same latent for every frame; train it again")
        task = self.task
        named = task.rows(latent, str(getattr(encoder, "name", "encoder"))), task.floor()
        both = tuple(row for rows in zip(*named, strict=True) for row in rows)
        return OpenLoopReport(task.pairs, task.points, task.seed, task.profile, both)


def open_loop_cost(
    encoder: Encoder,
    *,
    pairs: int = 300,
    points: int = 8,
    libraries: Sequence[int] = (250, 1000, 4000),
    seed: int = 0,
    profile: str = "fast",
    target: str = "hard",
    render: Callable[..., Frames] = render_frames,
) -> OpenLoopReport:
    """Open-loop control cost of an encoder, beside the floor that the same library sets for the true angles.

    Options are those of `OpenLoopTask` and its `draw`. For several encoders on the same frames, use
    `scene = OpenLoopTask(...).draw()`, then `scene.report(encoder)` of each.

    Raises:
        InvalidInput: a number is out of range, or the encoder gives no latents.
        EncoderCollapsed: the encoder gives the same latent for every frame.
    """
    return OpenLoopTask(pairs, points, libraries, seed, profile, target).draw(render).report(encoder)
