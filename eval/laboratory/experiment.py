"""What an experiment of the laboratory is: its jobs, and what is read from their results."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np

from worldplan.eval.show.table import NONE, Cell, Table
from worldplan.eval.statistics.estimate import Estimate, estimate
from worldplan.sweeps.jobs import Job

ScaleName = Literal["smoke", "cpu", "full"]
SCALES: tuple[ScaleName, ...] = ("smoke", "cpu", "full")
Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Finding:
    """What an experiment found.

    Attributes:
        sentence: the finding, in one sentence, made of the numbers.
        table: rows with published values beside ours, and the null.
        figure: PNG.
        facts: the same as JSON values, for programs.
        differences: of protocol, from the published experiment; a sentence each.
        more: further tables.
    """

    sentence: str
    table: Table
    figure: bytes
    facts: dict[str, Any] = field(default_factory=dict)
    differences: tuple[str, ...] = ()
    more: tuple[Table, ...] = ()


Results = Sequence[tuple[Mapping[str, Any], Any]]  # arguments of each job that is done, and its result


@dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes:
        name: what the command line calls it.
        claim: the theorem or claim that it tests, with its source, in one sentence.
        jobs: jobs of a scale and a seed; each gives JSON values, and takes one thread.
        read: what the results of these jobs say.
        related: jobs of other experiments whose results are read too, where the same call has them.
    """

    name: str
    claim: str
    jobs: Callable[[ScaleName, int], list[Job]]
    read: Callable[[ScaleName, Results], Finding]
    related: Callable[[ScaleName, int], list[Job]] = lambda scale, seed: []


def lacking(r2: Estimate) -> Cell:
    """What an R2 lacks to 1, with its order of magnitude and interval."""
    value, low, high = 1 - r2.value, 1 - r2.high, 1 - r2.low
    if not math.isfinite(value):
        return NONE
    return Cell(f"{value:.1e}", f"{low:.1e}, {high:.1e}" if math.isfinite(low) else "", repr(value))


def over_seeds(items: Sequence[Item], measure: Callable[[Item], float | None]) -> Estimate:
    """Mean of a measure over encoders, or anything else, that differ by seed only, and its 95% interval.

    NaN where one of them has no such number; one seed has no interval.
    """
    values = np.array([np.nan if (value := measure(item)) is None else value for item in items], np.float64)
    return estimate(values) if len(values) > 1 else Estimate(float(values.mean()), np.nan, np.nan)
