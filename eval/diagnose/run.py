"""Diagnostics of several datasets side by side: how far recorded episodes are from the Gaussian world."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worldplan.data.episodes import EpisodeDataset
from worldplan.data.files import write_json
from worldplan.data.trajectories import Trajectories
from worldplan.data.world_card import REACHER
from worldplan.errors import InvalidInput
from worldplan.eval.diagnose.figure import figure
from worldplan.eval.diagnose.normality import TrajectoryDiagnostics, diagnose, ou_episodes
from worldplan.eval.identifiability.excitation import ExcitationReport, excitation_report
from worldplan.eval.show.table import Table
from worldplan.learning.encoder import Encoder
from worldplan.rounding import percent, rounded

_MAX_LAG = 64  # by default


def diagnose_datasets(
    folders: Sequence[Path | str],
    out: Path | str,
    *,
    rho: float = 0.9,
    max_lag: int | None = None,
    encoder: Encoder | None = None,
    window: int = 16,
    seed: int = 0,
) -> tuple[list[TrajectoryDiagnostics], list[ExcitationReport]]:
    """Diagnose the poses of datasets, beside Ornstein-Uhlenbeck episodes of as many poses as the first has.

    Poses are the Reacher's: of datasets of other worlds, excitation alone is reported.

    `out` receives `diagnostics.json` and `diagnostics.png`. `rho` is the autocorrelation of the Ornstein-Uhlenbeck
    episodes at one step; their diagnostics come first in the result. Without `max_lag` the largest lag is 64 steps, or
    what the shortest episodes have. `encoder` and `window` are those of `excitation_report`; datasets without frames
    have none.

    Raises:
        InvalidInput: no dataset, too few episodes or too short ones.
        BadFile: no such dataset, or it was altered.
    """
    if not folders:
        raise InvalidInput("name one dataset of episodes or more")
    names = [Path(folder).name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    datasets = [EpisodeDataset(folder) for folder in folders]
    for data in datasets:
        data.verify()
    arms = {name: data.load() for name, data in zip(names, datasets, strict=True) if data.world.name == REACHER.name}
    found = _angles(arms, Path(out), rho, max_lag, seed) if arms else []
    excited = [
        excitation_report(data, name, encoder, window=window, seed=seed)
        for name, data in zip(names, datasets, strict=True)
        if data.manifest.get("frames")
    ]
    sources = [data.runs for data in datasets]
    facts = {"worlds": [d.to_dict() for d in found], "excitation": [report.to_dict() for report in excited]}
    write_json(Path(out) / "diagnostics.json", {**facts, "runs": dict(zip(names, sources, strict=True))})
    return found, excited


def _angles(
    runs: dict[str, Trajectories], out: Path, rho: float, max_lag: int | None, seed: int
) -> list[TrajectoryDiagnostics]:
    """Diagnose the Reacher's joint angles in each dataset, and draw them."""
    first = next(iter(runs.values()))
    if max_lag is None:
        shortest = min(len(actions) for run in runs.values() for actions in run.actions)
        if shortest < 2:
            raise InvalidInput("episodes of one step have no autocorrelation; collect longer ones with --steps")
        max_lag = min(_MAX_LAG, shortest - 1)
    ou = ou_episodes(len(first), len(first.actions[0]), rho, seed=seed)
    worlds: list[tuple[str, Sequence[Any], Sequence[Any] | None]] = [(f"OU, rho {rho:g}", ou, None)]
    worlds += [(name, run.info["qpos"], run.actions) for name, run in runs.items()]
    found = [diagnose(q, name=name, actions=u, max_lag=max_lag, seed=seed) for name, q, u in worlds]
    figure(found, {name: np.concatenate(q) for name, q, _ in worlds}, out / "diagnostics.png")
    return found


def diagnosis_table(found: Sequence[TrajectoryDiagnostics]) -> Table:
    """One row for each set of episodes."""
    rows = [
        [
            d.name,
            rounded(d.henze_zirkler_p),
            f"{rounded(d.shoulder.epps_pulley_p)} / {rounded(d.wrist.epps_pulley_p)}",
            f"{rounded(d.shoulder.excess_kurtosis.value)} / {rounded(d.wrist.excess_kurtosis.value)}",
            percent(d.shoulder.beyond.value),
            rounded(round(d.shoulder.effective_size)),
        ]
        for d in found
    ]
    columns = ("", "Henze-Zirkler p", "Epps-Pulley p", "excess kurtosis", "shoulder past pi", "effective poses")
    notes = ["Where two numbers stand: shoulder / wrist."]
    return Table("Joint angles against the Gaussian world", columns, rows, notes)
