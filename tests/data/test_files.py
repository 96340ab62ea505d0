"""Files are whole or absent, and say what is wrong with them; errors cross process borders with their evidence."""

import copy
import fcntl
import hashlib
import json
import os
import pickle
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from worldplan import errors
from worldplan.data.files import atomic_write, held, read_json, sha256, write_json
from worldplan.errors import BadFile, WorldplanError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_atomic_write_appears_only_at_the_end(tmp_path):
    path = tmp_path / "new" / "file.bin"
    with atomic_write(path) as stream:
        stream.write(b"whole")
        stream.flush()
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as stream:
        stream.write(b"half of the n")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@settings(max_examples=20)
@given(value=st.dictionaries(st.text(), JSON, max_size=4))
def test_json_round_trip(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "value.json"
    write_json(path, value)
    back = read_json(path)
    assert back == value
    assert list(back) == list(value)  # keys in their order


def test_what_json_cannot_hold_is_refused_and_not_written(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "value.json", {"value": write_json})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "back"),
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.arange(3), [0, 1, 2]),
        (np.zeros((1, 2)), [[0.0, 0.0]]),
        (Path("a") / "b", "a/b"),
    ],
)
def test_numbers_of_numpy_are_numbers(tmp_path, given, back):
    write_json(tmp_path / "value.json", {"value": given, "more": [given]})
    assert read_json(tmp_path / "value.json") == {"value": back, "more": [back]}


def test_sha256_is_the_standard_one(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "b").write_bytes(b"abd")
    assert sha256(tmp_path / "b") == hashlib.sha256(b"abd").hexdigest() != sha256(tmp_path / "a")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        (b'{"a": 1', "cannot be read as JSON"),
        (b"", "cannot be read as JSON"),
        (b"\x80\x04\x95", "cannot be read as JSON"),  # a pickle's first bytes
        (b"[1, 2]", "holds no JSON object"),
        (b'{"a": ' * 100_000, "cannot be read as JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "cannot be read as JSON"),
    ],
)
def test_bad_json_is_a_bad_file(tmp_path, content, says):
    path = tmp_path / "value.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadFile, match=says) as caught:
        read_json(path)
    assert caught.value.path == path
    assert str(path) in str(caught.value)


EXAMPLES = [
    errors.WorldplanError("m"),
    errors.InvalidInput("m"),
    errors.UnknownName("planet", "Pluto", ["Venus", "Mars"]),
    errors.BadFile("folder/file", "is cut off"),
    errors.NotStabilizable("m", modes=(1.5,)),
    errors.SolverFailed("m", problem="p", status="infeasible"),
    errors.EncoderCollapsed("m"),
    errors.ProcessLost("m"),
    errors.RenderingUnavailable("m"),
    errors.MissingExtra("video", "video"),
    errors.HubError("hf://owner/name", "m"),
    errors.ClusterUnavailable("m"),
    errors.JobFailed("m", {"row": 1}),
]


def test_every_error_has_an_example_here():
    classes = {c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, WorldplanError)}
    assert classes == {type(e) for e in EXAMPLES}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("send", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy], ids=["pickle", "copy"])
def test_errors_survive_the_way_from_a_worker_process(error, send):
    back = send(error)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_unknown_name_lists_the_known_ones_sorted():
    error = errors.UnknownName("planet", "Pluto", ["Venus", "Mars"])
    assert str(error) == "unknown planet 'Pluto'; known: Mars, Venus"
    assert json.dumps(error.known) == '["Mars", "Venus"]'
    assert isinstance(error, LookupError)


def test_a_writer_that_comes_too_late_leaves_the_folder_to_the_first(tmp_path, monkeypatch):
    """Both see no folder; the one that does not get the lock must not remove what it did not make."""
    folder, make, first = tmp_path / "run", Path.mkdir, ExitStack()

    def overtaken(path, *arguments, **options):
        monkeypatch.undo()
        first.enter_context(held(folder))
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", overtaken)
    with first:
        with pytest.raises(BadFile, match="is being written"), held(folder):
            pass
        assert folder.is_dir()
    assert not folder.exists()  # the first one wrote nothing


def test_a_lock_is_of_the_folder_that_is_there(tmp_path, monkeypatch):
    """The last holder removes its empty folder after the next one has opened it."""
    folder, lock = tmp_path / "run", fcntl.flock

    def removed(handle, how):
        monkeypatch.undo()
        folder.rmdir()
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", removed)
    with held(folder):
        assert folder.is_dir()
        with pytest.raises(BadFile, match="is being written"), held(folder):
            pass


def test_a_folder_that_another_fills_meanwhile_stays(tmp_path, monkeypatch):
    """Its holder wrote nothing, and another makes a folder in it at the moment it would be removed."""
    folder, remove = tmp_path / "run", os.rmdir

    def filled(path, *arguments, **options):
        monkeypatch.undo()
        (folder / "other").mkdir()
        remove(path, *arguments, **options)

    monkeypatch.setattr(os, "rmdir", filled)
    with pytest.raises(KeyError, match="of the block"), held(folder):
        raise KeyError("of the block")
    assert (folder / "other").is_dir()
