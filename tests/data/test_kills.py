"""A writer that dies before a rename or removal: the folder is the old state or the new one, and `resume` goes on.

All of them, for five verbs, take minutes; here is the last one, when the manifest is new already.
"""

import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from worldplan.data.episodes import EpisodeDataset
from worldplan.data.files import held
from worldplan.data.pairs import PairDataset
from worldplan.data.recipes import EpisodeConfig
from worldplan.data.shards import ShardWriter
from worldplan.envs.datasets import episodes, pairs
from worldplan.envs.datasets.episodes import record_episodes
from worldplan.envs.datasets.frames import draw_frames
from worldplan.envs.datasets.pairs import collect_pairs
from worldplan.envs.worlds import OUWorld
from worldplan.errors import BadFile

# Children of a process that has drawn cannot draw; those of this server can, and need no new imports.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["worldplan.envs.datasets.pairs", "worldplan.envs.datasets.episodes"])
CONFIG = EpisodeConfig(episodes=4, steps=3)


def ou(folder, resume):
    pairs._SHARD = 2
    collect_pairs(OUWorld(), 4, folder, with_labels=True, resume=resume)


def record(folder, resume):
    episodes.SHARD = 2
    record_episodes(None, folder, CONFIG, resume=resume)


def frames(folder, resume):
    draw_frames(folder, "fast", resume=resume)


def again(folder, resume):
    draw_frames(folder, "dmc", resume=resume)


VERBS = {"ou": [ou], "again": [record, frames, again]}
WHOLE = 100  # exit code of a child that came to its end, plus its renames and removals


def run(verb, folder, resume, deaths):
    """Do it in another process, which ends without a word before its `deaths`-th rename or removal; None for never.

    Returns WHOLE and the number of these, or less if it did not come to its end.
    """
    process = SERVER.Process(target=_run, args=(verb, folder, resume, deaths))
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def _run(verb, folder, resume, deaths):
    done = []

    def mortal(real):
        def act(*args, **kwargs):
            if len(done) == deaths:
                os._exit(9)
            done.append(args)
            return real(*args, **kwargs)

        return act

    os.replace, Path.unlink = mortal(os.replace), mortal(Path.unlink)
    verb(folder, resume)
    os._exit(WHOLE + len(done))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


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
    assert run(verb, folder, False, count - 1) == 9
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
    assert run(record, tmp_path / "data", False, 1) == 9
    with held(tmp_path / "data"):
        pass
