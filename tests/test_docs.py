"""Every example in a docstring of the package runs, and gives what it says; every benchmark starts."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

import worldplan

REPO = Path(__file__).parents[1]
PACKAGE = [found.name for found in pkgutil.walk_packages(worldplan.__path__, "worldplan.")]
MODULES = [name for name in PACKAGE if not name.endswith("__main__")]


def examples(module: types.ModuleType) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder().find(module) if test.examples]


def failures(tests: list[doctest.DocTest]) -> int:
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    return sum(runner.run(test).failed for test in tests)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_give_what_they_say(name: str) -> None:
    assert failures(examples(importlib.import_module(name))) == 0


def test_the_walk_finds_the_examples_of_the_planners() -> None:
    assert {"worldplan.planning.lqr", "worldplan.planning.mpc", "worldplan.eval.control.paths"} <= set(MODULES)
    planners = importlib.import_module("worldplan.planning.lqr"), importlib.import_module("worldplan.planning.mpc")
    assert all(examples(module) for module in planners)


def test_a_wrong_example_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    planted = types.ModuleType("planted")
    exec('def half(x):\n    """Half.\n\n    >>> half(4)\n    3\n    """\n    return x // 2', planted.__dict__)
    planted.half.__module__ = "planted"
    assert failures(examples(planted)) == 1
    assert "Got:\n    2" in capsys.readouterr().out


# --- benchmarks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", sorted((REPO / "benchmarks").glob("*.py")), ids=lambda script: script.stem)
def test_every_benchmark_finds_what_it_imports(script: Path) -> None:
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def misplaced(mutants: list[dict[str, str]]) -> list[str]:
    """Planted mistakes whose text is not in their file exactly once."""
    return [m["name"] for m in mutants if (REPO / m["file"]).read_text("utf-8").count(m["old"]) != 1]


def test_every_planted_mistake_has_its_place() -> None:
    mutants = tomllib.loads((REPO / "benchmarks" / "mutants.toml").read_text("utf-8"))["mutant"]
    assert len(mutants) > 50
    assert misplaced(mutants) == []
    assert misplaced([{**mutants[0], "old": "a line that went"}]) == [mutants[0]["name"]]
