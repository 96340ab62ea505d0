"""Run experiments of the laboratory as jobs, and write what they found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from worldplan.checks import check_name
from worldplan.data.files import atomic_write, write_json
from worldplan.errors import InvalidInput
from worldplan.eval.laboratory.experiment import SCALES, Experiment, Finding, ScaleName
from worldplan.eval.laboratory.registry import EXPERIMENTS
from worldplan.progress import Progress, silent
from worldplan.provenance import plain, provenance
from worldplan.sweeps.run import Outcome, run_jobs

ALL = "all"


def chosen(names: Iterable[str]) -> list[Experiment]:
    """Experiments by name, in the order of the laboratory; `all` for all. Raises UnknownName."""
    wanted = list(names)
    for name in wanted:
        check_name("experiment", name, [*EXPERIMENTS, ALL])
    return [experiment for name, experiment in EXPERIMENTS.items() if ALL in wanted or name in wanted]


def run_laboratory(
    names: Iterable[str],
    out: Path | str,
    scale: ScaleName = "cpu",
    *,
    seed: int = 0,
    command: str = "",
    progress: Progress = silent,
    **place: Any,
) -> dict[str, Finding]:
    """Run experiments, and write `NAME.json`, `NAME.md` and `NAME.png` of each in `out`.

    Their jobs share `out/results`, so that a second call makes nothing again, and goes on where one was interrupted.

    Args:
        names: of experiments, or `all`.
        out: folder of results.
        scale: smoke takes seconds and its numbers mean nothing; cpu is for two cores; full is for more.
        seed: of everything random.
        command: command line, for provenance.
        progress: wraps the iterator of jobs as they end.
        place: `on`, `processes` and `shard`, as for `run_jobs`.

    Raises:
        UnknownName: no such experiment or scale.
        InvalidInput: an experiment none of whose jobs are done, with the reason of the first that failed.
    """
    check_name("scale", scale, SCALES)
    experiments, folder = chosen(names), Path(out)
    jobs = {experiment.name: experiment.jobs(scale, seed) for experiment in experiments}
    outcomes = run_jobs([job for own in jobs.values() for job in own], folder, progress=progress, **place)
    by_key = {outcome.job.key: outcome for outcome in outcomes}
    findings = {}
    for experiment in experiments:
        own = _results(experiment, [by_key[job.key] for job in jobs[experiment.name]])
        related = _done([by_key[job.key] for job in experiment.related(scale, seed) if job.key in by_key])
        finding = experiment.read(scale, [*own, *related])
        facts = {**provenance(command, seed), "scale": scale, "finding": finding.sentence, **plain(finding.facts, 6)}
        write_finding(experiment, finding, facts, folder)
        findings[experiment.name] = finding
    return findings


def _done(outcomes: Sequence[Outcome]) -> list[tuple[dict[str, Any], Any]]:
    return [(dict(outcome.job.arguments), outcome.result) for outcome in outcomes if outcome.done]


def _results(experiment: Experiment, outcomes: Sequence[Outcome]) -> list[tuple[dict[str, Any], Any]]:
    if not (done := _done(outcomes)):
        reason = next((outcome.reason for outcome in outcomes if outcome.reason), "they are another shard's")
        raise InvalidInput(f"{experiment.name} has no result: {reason}")
    return done


def write_finding(experiment: Experiment, finding: Finding, facts: dict[str, Any], folder: Path) -> None:
    """Write table, JSON and figure."""
    name = experiment.name
    write_json(folder / f"{name}.json", facts)
    with atomic_write(folder / f"{name}.png") as stream:
        stream.write(finding.figure)
    with atomic_write(folder / f"{name}.md") as stream:
        stream.write("\n".join(lines(experiment, finding)).encode())


def lines(experiment: Experiment, finding: Finding) -> list[str]:
    """A section of Markdown."""
    out = [f"## {experiment.name}", "", experiment.claim, "", f"**{finding.sentence}**", ""]
    out += [f"![{finding.table.title}]({experiment.name}.png)", "", finding.table.markdown(), ""]
    out += [note for text in finding.table.notes for note in (text, "")]
    for table in finding.more:
        out += [f"### {table.title}", "", table.markdown(), "", *(line for text in table.notes for line in (text, ""))]
    if finding.differences:
        out += ["Differences of protocol:", "", *(f"- {text}" for text in finding.differences), ""]
    return out
