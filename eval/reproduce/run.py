"""The published table and control-cost figure of the Reacher, made again from scratch, beside the published numbers.

Klindt, LeCun and Balestriero 2026 (arXiv 2605.26379) train encoders on Gaussian pairs of frames and on pairs from
trajectories. They regress latents on joint angles, and cost straight lines in the latent once these are decoded. Here
the same rows are judged in both directions of R2, for each kind of label, and on held-out episodes. Control costs are
also compared with the true optimum. `differences` lists how the protocols differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldplan.arrays import Floats, Frames
from worldplan.data.episodes import EpisodeDataset
from worldplan.envs.datasets.frames import draw_nuisances
from worldplan.envs.rendering import render_frames
from worldplan.errors import EncoderCollapsed
from worldplan.eval.control.open_loop import ORACLE, OpenLoopRow, OpenLoopTask
from worldplan.eval.identifiability.ceiling import bayes_ceiling
from worldplan.eval.identifiability.regression import LABEL_KINDS, LabelFit, label_fit
from worldplan.eval.reproduce.published import POINTS, Difference, Published, differences, published_row
from worldplan.eval.reproduce.stages import Condition, Scale, Stages, conditions, find_scale, settle
from worldplan.learning.encoder import Encoder
from worldplan.progress import Progress, silent
from worldplan.provenance import plain, provenance


@dataclass(frozen=True)
class SeedResult:
    """One encoder.

    Attributes:
        seed: seed for its weights and for the order of its pairs.
        reason: why there is no encoder, a sentence; empty otherwise.
        own: R2 on frames like those of its training, one for each of `LABEL_KINDS`.
        normal: R2 on angles N(0, I), one for each of `LABEL_KINDS`.
        paths: control cost of its plans, by library and plan.
    """

    seed: int
    reason: str = ""
    own: tuple[LabelFit, ...] = ()
    normal: tuple[LabelFit, ...] = ()
    paths: tuple[OpenLoopRow, ...] = ()


@dataclass(frozen=True)
class ReproducedRow:
    """A condition, what was published about it (if anything), and one result for each seed."""

    condition: Condition
    published: Published | None
    results: tuple[SeedResult, ...]

    @property
    def done(self) -> list[SeedResult]:
        """Results of the encoders that were trained."""
        return [result for result in self.results if not result.reason]


@dataclass(frozen=True)
class Reproduction:
    """Result of `reproduce_reacher`.

    Attributes:
        ceiling: best R2(h -> z) of any function of an image, for angles N(0, I) and unwrapped labels.
        rows: Gaussian conditions first, then trajectories.
        floor: control cost of the true angles with the same libraries.
    """

    name: str
    scale: Scale
    provenance: dict[str, Any]
    ceiling: float
    rows: tuple[ReproducedRow, ...]
    floor: tuple[OpenLoopRow, ...]
    differences: tuple[Difference, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**plain(self, digits=6), "scale": plain(self.scale.to_dict())}


@dataclass(frozen=True, eq=False)
class Views:
    """Frames (N, 64, 64, 3) with their joint angles (N, 2): `train` to fit R2 on, `test` to judge it on.

    `groups` names the episode of each test row: rows of one episode are not independent.
    """

    train: tuple[Frames, Floats]
    test: tuple[Frames, Floats]
    groups: NDArray[np.intp]

    def judge(self, encoder: Encoder, seed: int) -> tuple[LabelFit, ...]:
        """R2 for each kind of label."""
        (frames, angles), (test_frames, test_angles) = self.train, self.test
        h, h_test = np.asarray(encoder(frames)), np.asarray(encoder(test_frames))
        return tuple(
            label_fit(h, angles, h_test, test_angles, kind, groups=self.groups, seed=seed) for kind in LABEL_KINDS
        )


def normal_views(scale: Scale, seed: int, processes: int = 1) -> Views:
    """Frames of angles N(0, I), drawn as for training."""
    rng = np.random.default_rng([seed, 1])
    angles = rng.standard_normal((2 * scale.frames, 2))
    frames = render_frames(angles, *draw_nuisances(scale.nuisances, len(angles), rng), processes=processes)
    cut = scale.frames
    return Views((frames[:cut], angles[:cut]), (frames[cut:], angles[cut:]), np.arange(cut))


def recorded_views(folder: Path, scale: Scale, seed: int) -> Views:
    """Frames from the training episodes of a dataset, and from its test episodes."""
    data, rng, halves = EpisodeDataset(folder), np.random.default_rng([seed, 2]), []
    for split in ("train", "test"):
        runs = data.load(split, frames=True)
        angles = runs.info["qpos"]
        each = min(-(-scale.frames // len(runs)), *(len(q) for q in angles))
        steps = [np.sort(rng.choice(len(q), each, replace=False)) for q in angles]
        frames = np.concatenate([f[s] for f, s in zip(runs.frames, steps, strict=True)])
        halves.append((frames, np.concatenate([q[s] for q, s in zip(angles, steps, strict=True)])))
    return Views(halves[0], halves[1], np.repeat(np.arange(len(runs)), each))


def reproduce_reacher(
    out: Path | str,
    scale: str | Scale = "cpu",
    *,
    seed: int = 0,
    processes: int = 1,
    command: str = "",
    progress: Progress = silent,
    watch: Callable[[Iterator[int], int, int], Iterator[int]] = lambda steps, start, total: steps,
) -> Reproduction:
    """Collect the data, train the encoders and judge them. Finished parts in `out` are kept, interrupted ones continue.

    Args:
        out: folder for datasets and encoders.
        scale: `smoke` (seconds; its numbers mean nothing), `cpu` (27 small encoders, some 45 s each on two idle cores),
            `full` (the published sizes), or your own.
        seed: seed for all draws; encoders take this and the following numbers.
        processes: number of rendering processes.
        command: command line, for provenance.
        progress: wraps the iterator over encoders.
        watch: wraps the iterator over an encoder's training steps (start and total given).

    Raises:
        UnknownName: no such scale.
        BadFile: the folder holds a reproduction of another scale or seed, or a damaged file.
        RenderingUnavailable: no OpenGL here.
    """
    out, sizes = Path(out), find_scale(scale)
    settle(out, sizes, seed)
    stages = Stages(out, sizes, seed, processes, command, watch)
    judges: dict[str, Views] = {"": normal_views(sizes, seed, processes)}
    plans = OpenLoopTask(sizes.plans, POINTS, sizes.libraries, seed, sizes.profile, sizes.target).draw()
    wanted = [(condition, k) for k in range(sizes.seeds) for condition in conditions(sizes)]
    results: dict[Condition, list[SeedResult]] = {condition: [] for condition in conditions(sizes)}
    floor: tuple[OpenLoopRow, ...] = ()
    for condition, k in progress(iter(wanted), len(wanted)):
        gaussian = condition.kind == "gaussian"
        if not gaussian and condition.dataset not in judges:
            judges[condition.dataset] = recorded_views(stages.dataset(condition), sizes, seed)
        try:
            encoder = stages.encoder(condition, k)
            report = plans.report(encoder)
        except EncoderCollapsed as error:
            results[condition].append(SeedResult(seed + k, str(error)))
            continue
        floor = tuple(row for row in report.rows if row.latent == ORACLE)
        normal = judges[""].judge(encoder, seed)
        own = normal if gaussian else judges[condition.dataset].judge(encoder, seed)  # every rho has the law N(0, I)
        paths = tuple(row for row in report.rows if row.latent != ORACLE)
        results[condition].append(SeedResult(seed + k, "", own, normal, paths))
    rows = [ReproducedRow(row, published_row(row.process, row.value), tuple(found)) for row, found in results.items()]
    told = differences(sizes)
    name = scale if isinstance(scale, str) else "own"
    return Reproduction(name, sizes, provenance(command, seed), bayes_ceiling(1.0), tuple(rows), floor, tuple(told))
