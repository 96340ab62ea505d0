"""Where a user's code failed: its own line, not that of a library below it or of worldplan above it."""

import json
import sys
from traceback import extract_tb

import pytest

from worldplan.errors import InvalidInput
from worldplan.failure import failure
from worldplan.learning.encoder import find_encoder

MODULES = {
    "eyes_of_mine": """\
import json
import numpy as np

class Eyes:
    latent_dim = 2

    def __call__(self, frames):
        return json.loads("[1,")

eyes = Eyes()

def loaded():
    try:
        eyes(0)
    except ValueError as error:
        raise KeyError("weights") from error

def shaped():
    return np.reshape([1, 2, 3], (2, 2))
""",
    "unfinished_eyes": "x = 1\ndef f(:\n",
    "blind_eyes": "\nimport no_such_library\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's modules, in a folder below the current one."""
    (tmp_path / "nets").mkdir()
    for name, code in MODULES.items():
        (tmp_path / "nets" / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "nets")
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


def caught(spec):
    """The error of making or using an encoder."""
    try:
        find_encoder(spec)(0)
    except Exception as error:
        return error.with_traceback(error.__traceback__.tb_next)  # without this file, as where worldplan catches it
    raise AssertionError("it did not fail")


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ("eyes_of_mine:eyes", "eyes_of_mine.py:8 in Eyes.__call__"),  # it arose in json
        ("eyes_of_mine:loaded", "eyes_of_mine.py:16 in loaded"),  # not in its cause
        ("eyes_of_mine:shaped", "eyes_of_mine.py:19 in shaped"),  # it arose in NumPy
        ("unfinished_eyes:eyes", "unfinished_eyes.py:2"),
        ("blind_eyes:eyes", "blind_eyes.py:2 in <module>"),  # the cause of worldplan's error
    ],
)
def test_the_line_of_the_users_code_is_told(spec, place, folder):
    error = caught(spec)
    assert failure(error) == f"{type(error).__name__}: {error} (nets/{place})"
    last = extract_tb(error.__traceback__)[-1].filename
    assert last.endswith("eyes_of_mine.py") == (spec == "eyes_of_mine:loaded")  # the last call of all is elsewhere


def test_a_file_elsewhere_is_only_named(folder, tmp_path_factory, monkeypatch):
    error = caught("eyes_of_mine:eyes")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert failure(error).endswith("(eyes_of_mine.py:8 in Eyes.__call__)") and str(folder) not in failure(error)


def test_what_is_not_the_users_has_no_place(folder):
    assert failure(InvalidInput("too few")) == "InvalidInput: too few"
    for spec in ("json:no_such_thing", "json:loads"):
        error = caught(spec)
        assert failure(error) == f"{type(error).__name__}: {error}"
    with pytest.raises(json.JSONDecodeError) as found:
        json.loads("[1,")
    assert failure(found.value).endswith(" in test_what_is_not_the_users_has_no_place)")  # here this file is the user's
