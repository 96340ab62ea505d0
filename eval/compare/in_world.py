"""The comparison of `worldplan compare --env`: encoders by how an agent on them reaches goals, in any world."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from worldplan.agents.config import FitConfig
from worldplan.agents.fitting import Recorded, fit_agent
from worldplan.arrays import Floats, Frames
from worldplan.envs.world.world import World
from worldplan.errors import InvalidInput, RenderingUnavailable
from worldplan.eval.compare.entrants import Entrant, examine, find_entrants
from worldplan.eval.compare.kept import try_all
from worldplan.eval.control.in_world import WorldPlanConfig, WorldRow, plan_in_world
from worldplan.eval.show.table import NONE, Cell, Column, Table, number, rate
from worldplan.eval.statistics.estimate import Estimate, estimate
from worldplan.eval.statistics.paired_test import FEWEST, paired_test
from worldplan.failure import failure
from worldplan.learning.encoder import Encoder
from worldplan.progress import Progress, silent
from worldplan.provenance import plain, provenance

EXAMINED = 64  # frames on which an encoder is tried before its trial


@dataclass(frozen=True, eq=False)
class WorldEntry:
    """An encoder, or a baseline, on all episodes.

    Attributes:
        name: of the encoder, or what moved in its place.
        kind: where it comes from (`Entrant`), or `baseline`.
        status: `ok`, `failed`, or `waiting` for another shard.
        reason: of that.
        latent_dim: n.
        reached: share of episodes that end within the tolerance and were never lost.
        error: median of the error at the end, in the world's unit.
        cost: mean over the episodes of the mean error on the way.
        costs: (N,), of each episode.
        verdict: whether the fitted model predicts episodes that it was not fitted to.
        p: p-value of no difference in cost from the first; None for the first, baselines and few episodes.
        notes: warnings.
    """

    name: str
    kind: str
    status: str = "ok"
    reason: str = ""
    latent_dim: int = 0
    reached: Estimate | None = None
    error: Estimate | None = None
    cost: Estimate | None = None
    costs: Floats | None = None
    verdict: str = ""
    p: float | None = None
    notes: tuple[str, ...] = ()


_Tried = tuple[WorldEntry, tuple[WorldEntry, ...]]
"""A row, and those of the baselines."""


@dataclass(frozen=True, eq=False)
class WorldComparison:
    """Result of `compare_in_world`: encoders by cost, then those that failed, then the baselines."""

    world: World
    config: WorldPlanConfig
    fit: FitConfig
    origin: dict[str, Any]
    rows: tuple[WorldEntry, ...]

    def table(self) -> Table:
        """One row per encoder and baseline; the notes say why an encoder failed."""
        judge, n = self.world.judge, self.config.episodes
        assert judge is not None
        reached = f"an error of {judge.tolerance:g} {judge.unit} or less at the end"
        reached += "" if judge.lost is None else ", in an episode that was never lost"
        cost, chance = "mean error over an episode, averaged over the episodes", "random flips of paired differences"
        columns = (
            Column("encoder", "Its name, and where it comes from.", named=True),
            Column(f"cost: error on the way, {judge.unit}", f"The {cost}.", f"cost: error on\nthe way, {judge.unit}"),
            Column(f"error at the end, {judge.unit}", "Its median.", f"error at the\nend, {judge.unit}"),
            Column("reached", f"Episodes with {reached}."),
            Column("p against first", f"p-value of no difference in cost, by {chance}.", "p against\nfirst"),
            Column("model", "Whether the fitted model predicts episodes that it was not fitted to.", named=True),
        )
        steps = f"{self.config.steps} steps of {self.world.card.step_seconds:g} s; the same pairs for all"
        notes = [
            f"{n} episodes of {steps}. Reached: {reached}.",
            f"Cost: the {cost}; p: {chance}.",
            "Brackets: 95% intervals.",
            *(f"{row.name} {row.status}: {row.reason}" for row in self.rows if row.status != "ok"),
        ]
        rows = [_cells(row, n) for row in self.rows]
        return Table(f"Encoders in {self.world.card.name}, cheapest first", columns, rows, notes)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        facts = {**self.origin, "world": self.world.card.to_dict(), "config": asdict(self.config)}
        return plain({**facts, "fit": asdict(self.fit), "rows": self.rows})  # type: ignore[no-any-return]


def compare_in_world(
    specs: Iterable[str | Path | Encoder],
    world: World,
    episodes: Recorded,
    config: WorldPlanConfig | None = None,
    fit: FitConfig | None = None,
    *,
    around: Frames | None = None,
    command: str = "",
    progress: Progress = silent,
    folder: Path | str | None = None,
    on: str = "processes",
    shard: tuple[int, int] = (1, 1),
) -> WorldComparison:
    """Rank encoders by the error on the way to goals, with the same episodes, pipeline and pairs for all.

    Each gets dynamics and a cost from the same recorded episodes (`fit_agent`), and acts on the same starts and goals,
    beside random actions and standing still. An encoder that fails gets a row that says why. The world's judge
    measures; no encoder and no fit sees a true state.

    Args:
        specs: as for `compare_encoders`, but `oracle`, which is the Reacher's.
        world: one that can judge.
        episodes: recorded episodes of it.
        config: pairs and steps.
        fit: how dynamics and cost are made.
        around: frame of a goal near which the models are to hold; None: everywhere.
        command: the command line, for provenance.
        progress: wraps the iterator of the encoders.
        folder: keeps each row as it ends, as for `compare_encoders`.
        on: where encoders are tried, as for `run_jobs`.
        shard: (k, n): try only every n-th encoder, from the k-th on.

    Raises:
        InvalidInput: no encoder, or a world that cannot judge.
        BadFile: another call writes to the folder.
        ClusterUnavailable: no such cluster can be reached.
        UnknownName: a specification of no known kind.
    """
    config, fit = config or WorldPlanConfig(), fit or FitConfig()
    if world.judge is None:
        raise InvalidInput(
            f"{world.card.name} cannot judge, and latents of two encoders have no unit in common; give the World a "
            "`judge`"
        )
    entrants = find_entrants(specs, config.seed)
    if any(entrant.kind == "oracle" for entrant in entrants):
        raise InvalidInput(f"oracle: reads the Reacher's angles only; leave it out for {world.card.name}")
    about: dict[str, Any] = {"world": world.card.to_dict(), "config": asdict(config), "fit": asdict(fit)}
    about |= _checksums(episodes, around)
    context = {"world": world, "episodes": episodes, "config": config, "fit": fit, "around": around}
    where: dict[str, Any] = {"folder": folder, "on": on, "shard": shard}

    def tries(asked: Sequence[Entrant], first: Entrant, watch: Progress) -> dict[str, _Tried]:
        """The first one brings the baselines, whose frames need an agent too."""
        trial = lambda entrant: {**about, "baselines": entrant is first}  # noqa: E731
        return try_all(_attempt, asked, _Tried, trial, context, progress=watch, **where)

    found = tries(entrants, entrants[0], progress)
    sound = [entrant for entrant in entrants if found[entrant.name][0].status == "ok"]
    if sound and found[entrants[0].name][0].status == "failed":  # it brought none
        found |= tries(sound[:1], sound[0], silent)
    tried = [found[entrant.name][0] for entrant in entrants]
    baselines = [other for _, others in found.values() for other in others or ()]
    done = sorted(((row, row.costs) for row in tried if row.costs is not None), key=lambda pair: float(pair[1].mean()))
    ranked = [row for row, _ in done]
    if len(done) > 1 and config.episodes >= FEWEST:
        cheapest = done[0][1]
        ranked[1:] = [replace(row, p=paired_test(cheapest, costs, config.seed)) for row, costs in done[1:]]
    failed = [row for row in tried if row.cost is None]
    return WorldComparison(world, config, fit, provenance(command, config.seed), (*ranked, *failed, *baselines))


def _attempt(
    entrant: Entrant,
    world: World,
    episodes: Recorded,
    config: WorldPlanConfig,
    fit: FitConfig,
    around: Frames | None,
    trial: dict[str, Any],
) -> _Tried:
    """The row of an entrant, and those of the baselines where the trial asks for them and it did not fail."""
    row, others = WorldEntry(entrant.name, entrant.kind), list[WorldEntry]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            encoder = entrant.load()
            row = replace(row, latent_dim=int(getattr(encoder, "latent_dim", 0)))
            examine(encoder, np.concatenate(list(episodes.data.frames[:8]))[-EXAMINED:], least=1)
            report = fit_agent(encoder, episodes.data, fit, episodes.world, held_out=episodes.held_out, around=around)
            found = plan_in_world(report.agent, world, config, baselines=trial["baselines"])
            verdict = "" if report.prediction is None else report.prediction.verdict
            row = replace(_entry(row, found.rows[0]), verdict=verdict)
            others = [_entry(WorldEntry(other.name, "baseline"), other) for other in found.rows[1:]]
        except RenderingUnavailable:
            raise
        except (Exception, SystemExit) as error:  # errors of a user's code cost only its own row
            row = WorldEntry(row.name, row.kind, "failed", failure(error), row.latent_dim)
    return replace(row, notes=tuple(dict.fromkeys(str(w.message) for w in caught))), tuple(others)


def _checksums(episodes: Recorded, around: Frames | None) -> dict[str, str]:
    """SHA-256 of what agents are fitted to."""
    halves = [episodes.data] if episodes.held_out is None else [episodes.data, episodes.held_out]
    arrays = [array for half in halves for part in (half.frames, half.actions) for array in part]
    found = {"data": hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()}
    return found if around is None else {**found, "around": hashlib.sha256(around.tobytes()).hexdigest()}


def _cells(row: WorldEntry, episodes: int) -> list[Cell]:
    reached = NONE if row.reached is None else rate(row.reached, episodes)
    said = row.status if row.status != "ok" else row.verdict
    told = Cell(said, order=said) if said else NONE
    return [Cell(row.name, order=row.name), number(row.cost), number(row.error), reached, number(row.p), told]


def _entry(row: WorldEntry, found: WorldRow) -> WorldEntry:
    costs = np.array([errors.mean() for errors in found.errors])
    return replace(row, reached=found.reached, error=found.error, cost=estimate(costs), costs=costs)
