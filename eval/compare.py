"""Encoders compared by what they are for: the cost of control from pixels, episode by episode on the same goals."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldplan.agents.planning import Encoder
from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rollout import rollout
from worldplan.errors import RenderingUnavailable
from worldplan.eval.batch import rollout_goals, target_spheres
from worldplan.eval.contestants import Contestant, find_contestants
from worldplan.eval.control import (
    ControlResult,
    ControlSummary,
    Estimate,
    StandStill,
    TrueStateLQR,
    TrueStateObservation,
    evaluate_control,
    measure,
    sample_pairs,
    summarise,
)
from worldplan.eval.correlation import Correlation, correlate
from worldplan.eval.identifiability import identify_latents
from worldplan.eval.planning import RANDOM, STILL
from worldplan.eval.provenance import plain, provenance
from worldplan.eval.trial import (
    RHO,
    SCALE,
    CompareConfig,
    Stage,
    build_stage,
    figure_rows,
    fit_contestant,
    random_torques,
    step_time,
)
from worldplan.eval.workers import worker_pool

Floats = NDArray[np.float64]
Progress = Callable[[Iterator[Any], int], Iterator[Any]]

PATHS = 3  # episodes whose paths are kept
_NO_RATIO = 1e-9  # cost of the reference below which start and goal are one


@dataclass(frozen=True, eq=False)
class ComparisonRow:
    """One encoder: how it controls, and how well it is identified. What does not apply or was not reached is None.

    Attributes:
        name: of the encoder: a zoo name, a folder, `module:object`, `oracle` or `untrained`.
        kind: `zoo`, `folder`, `module`, `object` (handed over in Python), `oracle` or `untrained`.
        status: `ok` or `failed`.
        reason: why it failed, a sentence; empty otherwise.
        latent_dim: m, width of the encoder's latent.
        reduced_dim: k <= m, principal components of the latent that were planned in.
        dropped: share of the latent's variance on the fitting frames that the other components held, 0 to 1.
        scale: radians per latent unit that the cost used: of the angles' spread over the latent's, angles N(0, .7^2).
        charts: whether the agent plans in quarter turns of the image.
        control: its episodes against the true-state clipped LQR's on the same pairs: `cost_ratio_mean`,
            `cost_ratio_median`, `cost_ratio_p95`, `reach` (an `Estimate` each: value and 95% interval). Rows are
            ranked by `control.cost_ratio_mean.value`.
        latent_to_state: R2(h -> z), out of sample, joint angles N(0, .7^2); h is what is planned in, here and below.
        state_to_latent: R2(z -> h), likewise.
        orthogonality_error: `||M'M - I||_F` of the linear map M from state to latent, in units in which both have the
            same spread; 0 for a rotation.
        theorem3_bound: upper bound of `E|h - Q z|^2` (Theorem 3).
        theorem3_error: the measured `E|h - Q z|^2` that it bounds.
        step_ms: median milliseconds of one control step: encode one frame, estimate, plan.
        ratios: (N,) cost of every episode over the reference's; NaN where the reference's is zero.
        latents: (S, k) latents of `Comparison.angles`, as planned in; the first two columns make a picture.
        paths: three (T + 1, 2) paths of joint angles, radians, one for each of `Comparison.starts`.
        notes: warnings that came up, such as of a renderer that differs from the one trained with.
    """

    name: str
    kind: str
    status: str = "ok"
    reason: str = ""
    latent_dim: int | None = None
    reduced_dim: int | None = None
    dropped: float | None = None
    scale: float | None = None
    charts: bool | None = None
    control: ControlSummary | None = None
    latent_to_state: Estimate | None = None
    state_to_latent: Estimate | None = None
    orthogonality_error: Estimate | None = None
    theorem3_bound: Estimate | None = None
    theorem3_error: Estimate | None = None
    step_ms: float | None = None
    ratios: Floats | None = None
    latents: Floats | None = None
    paths: tuple[Floats, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the trial ran to its end."""
        return self.status == "ok"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return plain(self, digits=6)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Encoders ranked by mean closed-loop cost ratio.

    Attributes:
        config: what all were put through.
        provenance: command, seed and versions.
        rows: best first, failed ones last.
        baselines: random torques and standing still on the same episodes, against the same reference.
        correlation: of cost with `1 - R2`.
        angles: (S, 2) joint angles, radians, of the frames behind `ComparisonRow.latents`.
        starts: (3, 2) poses at which `ComparisonRow.paths` start.
        goals: (3, 2) where they should end.
        targets: (3, 3) target spheres of these episodes: `render_frames(path, targets[i], config.profile)` draws a path
            as the encoder saw it.
        reference_paths: the three paths of the true-state clipped LQR, (T + 1, 2) each.
    """

    config: CompareConfig
    provenance: dict[str, Any]
    rows: tuple[ComparisonRow, ...]
    baselines: tuple[ControlSummary, ...]
    correlation: Correlation
    angles: Floats
    starts: Floats
    goals: Floats
    targets: Floats
    reference_paths: tuple[Floats, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values: every number behind table and figures."""
        return plain(self, digits=6)  # type: ignore[no-any-return]


_Outcome = tuple[ComparisonRow, ControlResult | None]
"""A row without what needs the reference, and the episodes; None where the encoder failed."""


def compare_encoders(
    specs: Iterable[str | Path | Encoder],
    config: CompareConfig | None = None,
    *,
    command: str = "",
    progress: Progress = lambda items, total: items,
) -> Comparison:
    """Put encoders through the same frames, pipeline and paired episodes, and rank them by what control cost.

    For each: linear dynamics from the same random-torque frames, a Kalman filter and clipped LQR on top; latents wider
    than the world are first reduced to their principal components. An encoder that fails gets a row that says why.

    Args:
        specs: names of shipped encoders, `oracle` (true joint angles), `untrained` (random weights), folders,
            `module:object`, or encoders themselves: callables on uint8 (T, 64, 64, 3) with `latent_dim`.
        config: None for the defaults.
        command: the command line, for provenance.
        progress: wraps the iterator of encoders.

    Raises:
        InvalidInput: no encoder, or a number in the configuration that is out of range.
        UnknownName: a specification of none of these kinds.
        RenderingUnavailable: no OpenGL here.
    """
    config = config or CompareConfig()
    contestants = find_contestants(specs, config.seed)
    pairs = sample_pairs(config.episodes, config.seed, config.distribution)
    with worker_pool(config.processes) as start:
        # What was handed over in Python is tried in this process: it need not survive a journey to another.
        outcomes = [(partial if c.kind == "object" else start)(_attempt, c, config) for c in contestants]
        reference, *others = (
            evaluate_control(agent, pairs, config.seed, true_state=True)
            for agent in (TrueStateLQR(), None, StandStill())
        )
        tried = [_finish(outcomes[k], contestants[k]) for k in progress(iter(range(len(outcomes))), len(outcomes))]
    rows = [_judged(row, result, reference) for row, result in tried]
    shown = pairs.options()[:PATHS]
    world = TrueStateObservation(ReacherGoal(pixels=False))
    paths = rollout(world, TrueStateLQR(), len(shown), options=shown).info["qpos"]
    return Comparison(
        config,
        provenance(command, config.seed),
        tuple(sorted(rows, key=_rank)),
        tuple(summarise(name, result, reference) for name, result in zip((RANDOM, STILL), others, strict=True)),
        _correlation(rows, config.seed),
        figure_rows(random_torques(config, pixels=False).info["qpos"]),
        pairs.starts[:PATHS],
        pairs.goals[:PATHS],
        target_spheres(len(shown), config.seed, config.target),
        tuple(paths),
    )


def _finish(outcome: Callable[[], _Outcome], contestant: Contestant) -> _Outcome:
    try:
        return outcome()
    except BrokenExecutor:
        reason = "its process died, or that of an encoder beside it: out of memory? Try --processes 1"
        return ComparisonRow(contestant.name, contestant.kind, "failed", reason), None


def _attempt(contestant: Contestant, config: CompareConfig) -> _Outcome:
    """An encoder's row, but for what needs the reference, and its episodes."""
    stage = build_stage(config)  # what goes wrong here is no encoder's fault
    row, result = ComparisonRow(contestant.name, contestant.kind), None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            encoder = contestant.load()
            row = replace(row, latent_dim=int(getattr(encoder, "latent_dim", 0)))
            row, result = _trial(row, contestant, encoder, stage, config)
        except RenderingUnavailable:
            raise
        except Exception as error:  # whatever a user's code raises costs its own row only
            row = replace(row, status="failed", reason=f"{type(error).__name__}: {error}")
    return replace(row, notes=tuple(dict.fromkeys(str(w.message) for w in caught))), result


def _trial(
    row: ComparisonRow, contestant: Contestant, encoder: Encoder, stage: Stage, config: CompareConfig
) -> _Outcome:
    fitted = fit_contestant(contestant, encoder, stage)
    agent, reduction = fitted.agent, fitted.reduction
    views = [x[:, k] for x in (fitted.judged, stage.states) for k in range(2)]
    judged = identify_latents(*views, scale=SCALE, rho=RHO, resamples=config.resamples, seed=config.seed)
    draw = partial(contestant.draw, profile=config.profile)
    run = rollout_goals(agent, contestant.tasks(stage.pairs), stage.targets, draw)
    film = contestant.shown(stage.torques.frames[0], stage.torques.info["qpos"][0])
    labels = judged.labels["unwrapped"]
    row = replace(
        row,
        reduced_dim=agent.encoder.latent_dim,
        dropped=None if reduction is None else reduction.dropped,
        scale=fitted.scale,
        charts=agent.charts is not None,
        latent_to_state=labels.latent_to_state,
        state_to_latent=labels.state_to_latent,
        orthogonality_error=judged.linear.orthogonality,
        theorem3_bound=judged.theorem3.bound,
        theorem3_error=judged.theorem3.error,
        step_ms=step_time(agent, film),
        latents=figure_rows(fitted.latents),
        paths=tuple(run.frames[:PATHS]),
    )
    return row, measure([run])


def _judged(row: ComparisonRow, result: ControlResult | None, reference: ControlResult) -> ComparisonRow:
    if result is None:
        return row
    possible = reference.cost > _NO_RATIO
    ratios = np.divide(result.cost, reference.cost, out=np.full_like(result.cost, np.nan), where=possible)
    return replace(row, control=summarise(row.name, result, reference), ratios=ratios)


def _rank(row: ComparisonRow) -> float:
    return np.inf if row.control is None else row.control.cost_ratio_mean.value


def _correlation(rows: list[ComparisonRow], seed: int) -> Correlation:
    done = [(r.control, r.latent_to_state) for r in rows if r.control is not None and r.latent_to_state is not None]
    costs = np.array([control.cost_ratio_mean.value for control, _ in done])
    return correlate(costs, np.array([1 - r2.value for _, r2 in done]), seed)
