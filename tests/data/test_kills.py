"""A writer that dies before a rename or removal: the folder is the old state or the new one, and `resume` goes on.

All of them, for eight verbs, take minutes (`benchmarks/faults.py`); here is the last one, when the manifest is new.
"""

import os
import shutil

import pytest
from killed import STOPPED, WHOLE, again, contents, frames, ou, record, run

from worldplan.data.episodes import EpisodeDataset
from worldplan.data.files import held
from worldplan.data.pairs import PairDataset
from worldplan.data.shards import ShardWriter
from worldplan.errors import BadFile

VERBS = {"ou": [ou], "again": [record, frames, again]}


def readable(folder, verb):
    return (PairDataset if verb is ou else EpisodeDataset)(folder)


@pytest.fixture(scope="module", params=VERBS)
def stages(request, tmp_path_factory):
    """A verb, the folder as it finds it (None if it does not) and as it leaves it, and its renames and removals."""
    *before, verb = VERBS[request.param]
    folder = tmp_path_factory.mktemp(request.param) / "data"
    for first in before:
        assert run(first, folder, False, None) >= WHOLE
    old = shutil.copytree(folder, folder.with_name("old")) if before else None
    return verb, old, folder, run(verb, folder, False, None) - WHOLE


def test_a_death_before_the_last_removal_loses_nothing(stages, tmp_path):
    verb, old, new, count = stages
    assert count >= 5
    states = [contents(new)] + ([contents(old)] if old else [])
    folder = shutil.copytree(old, tmp_path / "data") if old else tmp_path / "data"
    assert run(verb, folder, False, count - 1) == STOPPED
    if (folder / "manifest.json").exists():  # what readers see is whole, and one of the two
        readable(folder, verb).verify()
        assert (folder / "manifest.json").read_bytes() in [state["manifest.json"] for state in states]
    assert run(verb, folder, (folder / "unfinished.json").exists(), None) >= WHOLE
    assert contents(folder) == states[0]


def test_what_is_whole_is_not_made_again(stages, tmp_path):
    verb, _, new, _ = stages
    folder = shutil.copytree(new, tmp_path / "data")
    assert run(verb, folder, True, 0) == WHOLE  # not one rename
    assert contents(folder) == contents(new)


def test_two_writers_do_not_share_a_folder(tmp_path):
    with (
        ShardWriter(tmp_path / "data", {}, 1),
        pytest.raises(BadFile, match=f"is being written by process {os.getpid()}; wait"),
    ):
        ShardWriter(tmp_path / "data", {}, 1)
    with ShardWriter(tmp_path / "data", {}, 1):  # and let go of it
        assert run(record, tmp_path / "data", False, None) == 1
    assert run(record, tmp_path / "data", False, None) > WHOLE


def test_a_dead_writer_holds_nothing(tmp_path):
    assert run(record, tmp_path / "data", False, 1) == STOPPED
    with held(tmp_path / "data"):
        pass
