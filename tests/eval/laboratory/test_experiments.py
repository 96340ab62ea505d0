"""Every experiment of the laboratory at scale smoke: what it writes, and that nothing is made twice."""

import json

import pytest

from worldplan.errors import UnknownName
from worldplan.eval.laboratory import run
from worldplan.eval.laboratory.registry import EXPERIMENTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("laboratory")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_done_once(folder, name):
    made = []

    def counted(items, total):
        for item in items:
            made.append(item)
            yield item

    finding = run.run_laboratory([name], folder, "smoke", progress=counted)[name]
    assert finding.sentence.endswith(".")
    assert finding.table.rows
    assert finding.figure.startswith(b"\x89PNG")
    facts = json.loads((folder / f"{name}.json").read_text())
    assert facts["scale"] == "smoke" and facts["finding"] == finding.sentence
    assert (folder / f"{name}.png").read_bytes() == finding.figure
    page = (folder / f"{name}.md").read_text()
    assert EXPERIMENTS[name].claim in page and finding.sentence in page and finding.differences

    made.clear()
    again = run.run_laboratory([name], folder, "smoke", progress=counted)[name]
    assert not made
    assert (again.sentence, again.figure) == (finding.sentence, finding.figure)


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("scale", ["smoke", "cpu", "full"])
def test_jobs_are_told_apart(name, scale):
    jobs = EXPERIMENTS[name].jobs(scale, 0)
    assert len({job.key for job in jobs}) == len(jobs) > 0
    assert [job.key for job in EXPERIMENTS[name].jobs(scale, 0)] == [job.key for job in jobs]
    assert {job.key for job in EXPERIMENTS[name].jobs(scale, 1)}.isdisjoint(job.key for job in jobs)


def test_unknown_names(tmp_path):
    with pytest.raises(UnknownName, match="mixings"):
        run.run_laboratory(["mixing"], tmp_path, "smoke")
    with pytest.raises(UnknownName, match="smoke"):
        run.run_laboratory(["mixings"], tmp_path, "tiny")
    assert not list(tmp_path.iterdir())
