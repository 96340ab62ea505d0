"""The run behind `worldplan compare`: cost of control from pixels, episode by episode on the same goals."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from worldplan.agents.planners import PLANNERS
from worldplan.checks import check_name
from worldplan.envs.parallel import rollout_goals, target_spheres
from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rendering import render_frames
from worldplan.envs.rollout import rollout
from worldplan.envs.tasks import TrueStateObservation, sample_tasks
from worldplan.errors import RenderingUnavailable
from worldplan.eval.compare.config import CompareConfig
from worldplan.eval.compare.entrants import Entrant, find_entrants
from worldplan.eval.compare.kept import try_all
from worldplan.eval.compare.result import Comparison, ComparisonRow
from worldplan.eval.compare.trial import (
    RHO,
    SCALE,
    SharedFrames,
    figure_rows,
    fit_entrant,
    open_loop,
    open_loop_task,
    shared_frames,
    torque_data,
)
from worldplan.eval.control.baselines import REFERENCE, TrueStateLQR
from worldplan.eval.control.episodes import ControlResult, cost_ratios, evaluate_baselines, measure, summarise
from worldplan.eval.control.timing import time_steps
from worldplan.eval.identifiability.identify import identify_latents
from worldplan.eval.statistics.correlation import Correlation, correlate
from worldplan.eval.statistics.paired_test import FEWEST, false_positive_rate, paired_test
from worldplan.failure import failure
from worldplan.learning.encoder import Encoder
from worldplan.progress import Progress, silent
from worldplan.provenance import provenance

PATHS = 3  # episodes whose paths are kept


_Tried = tuple[ComparisonRow, ControlResult | None]
"""A row without what needs the reference, and the episodes; None where the encoder failed."""


def compare_encoders(
    specs: Iterable[str | Path | Encoder],
    config: CompareConfig | None = None,
    *,
    command: str = "",
    progress: Progress = silent,
    folder: Path | str | None = None,
    on: str = "processes",
    shard: tuple[int, int] = (1, 1),
) -> Comparison:
    """Rank encoders by cost of control, with the same frames, pipeline and paired episodes for all.

    Each gets linear dynamics from the same random-torque frames, a Kalman filter and clipped LQR. Latents wider than
    the world are first reduced to their principal components. An encoder that fails gets a row that says why.
    `find_entrants` explains `specs`; an encoder is a callable on uint8 (T, 64, 64, 3) with `latent_dim`.

    Args:
        specs: encoders.
        config: the trial; None for the defaults.
        command: the command line, for provenance.
        progress: wraps the iterator of the encoders.
        folder: keeps each row as it ends; the same call goes on where it was interrupted. None keeps nothing. Objects
            handed over in Python are tried each time: they have no address.
        on: where encoders are tried, as for `run_jobs`.
        shard: (k, n): try only every n-th encoder, from the k-th on; n calls share a folder, and the last one has all
            rows. Those of others that are not there yet have the status `waiting`.

    Raises:
        BadFile: another call writes to the folder.
        ClusterUnavailable: no such cluster can be reached.
        InvalidInput: no encoder, or a number in the configuration that is out of range.
        UnknownName: a specification of none of these kinds, or no such planner.
        RenderingUnavailable: no OpenGL here.
    """
    config = config or CompareConfig()
    check_name("planner", config.planner, PLANNERS)
    entrants = find_entrants(specs, config.seed)
    pairs = sample_tasks(config.episodes, config.seed, config.distribution)
    render_frames(pairs.starts[:1], target_spheres(1, config.seed, config.target), config.profile)  # or no OpenGL
    baselines = evaluate_baselines(pairs, config.seed)
    where: dict[str, Any] = {"folder": folder, "on": on, "processes": config.processes, "shard": shard}
    trial = {name: value for name, value in asdict(config).items() if name != "processes"}
    tried = try_all(_attempt, entrants, _Tried, lambda _: trial, {"config": config}, progress=progress, **where)
    reference = baselines[REFERENCE]
    rows = _judged([tried[c.name] for c in entrants], reference, config.seed)
    shown = pairs.options()[:PATHS]
    world = TrueStateObservation(ReacherGoal(pixels=False))
    paths = rollout(world, TrueStateLQR(), len(shown), options=shown).info["qpos"]
    return Comparison(
        config,
        provenance(command, config.seed),
        tuple(rows),
        tuple(summarise(name, result, reference) for name, result in baselines.items()),
        tuple(open_loop_task(config).floor()),
        _correlation(rows, config.seed),
        figure_rows(torque_data(config, pixels=False).info["qpos"]),
        pairs.starts[:PATHS],
        pairs.goals[:PATHS],
        target_spheres(len(shown), config.seed, config.target),
        tuple(paths),
    )


def _attempt(entrant: Entrant, config: CompareConfig, trial: Any = None) -> _Tried:
    shared = shared_frames(config)  # errors here are no encoder's fault
    row, result = ComparisonRow(entrant.name, entrant.kind), None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            encoder = entrant.load()
            row = replace(row, latent_dim=int(getattr(encoder, "latent_dim", 0)))
            row, result = _trial(row, entrant, encoder, shared, config)
        except RenderingUnavailable:
            raise
        except (Exception, SystemExit) as error:  # errors of a user's code cost only its own row
            row = replace(row, status="failed", reason=failure(error))
    return replace(row, notes=tuple(dict.fromkeys(str(w.message) for w in caught))), result


def _trial(
    row: ComparisonRow, entrant: Entrant, encoder: Encoder, shared: SharedFrames, config: CompareConfig
) -> _Tried:
    fitted = fit_entrant(entrant, encoder, shared, config.planner)
    agent, reduction = fitted.agent, fitted.reduction
    views = [x[:, k] for x in (fitted.judged, shared.states) for k in range(2)]
    judged = identify_latents(*views, scale=SCALE, rho=RHO, resamples=config.resamples, seed=config.seed)
    draw = partial(entrant.draw, profile=config.profile)
    run = rollout_goals(agent, entrant.tasks(shared.pairs), shared.targets, draw)
    film = entrant.shown(shared.torques.frames[0], shared.torques.info["qpos"][0])
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
        step_ms=time_steps(agent, film[:-1], film[-1], 100).predict_ms,
        latents=figure_rows(fitted.latents),
        paths=tuple(run.frames[:PATHS]),
        open_loop=open_loop(entrant, agent.encoder, shared),
    )
    return row, measure([run])


def _judged(tried: list[_Tried], reference: ControlResult, seed: int) -> list[ComparisonRow]:
    """Rows by rank, with cost ratios to the reference and p-values against the first row."""
    rows = [
        row
        if result is None
        else replace(row, control=summarise(row.name, result, reference), ratios=cost_ratios(result, reference))
        for row, result in tried
    ]
    rows.sort(key=_rank)
    judged, first = list[ComparisonRow](), np.empty(0)
    for row in rows:
        ratios = np.empty(0) if row.ratios is None else row.ratios[np.isfinite(row.ratios)]
        null = false_positive_rate(ratios, seed=seed) if len(ratios) >= FEWEST else None
        p = paired_test(ratios, first, seed) if len(ratios) and judged else None
        judged.append(replace(row, null=null, p_first=p))
        first = first if len(first) else ratios
    return judged


def _rank(row: ComparisonRow) -> float:
    return np.inf if row.control is None else row.control.cost_ratio_mean.value


def _correlation(rows: list[ComparisonRow], seed: int) -> Correlation:
    done = [(r.control, r.latent_to_state) for r in rows if r.control is not None and r.latent_to_state is not None]
    costs = np.array([control.cost_ratio_mean.value for control, _ in done])
    return correlate(costs, np.array([1 - r2.value for _, r2 in done]), seed)
