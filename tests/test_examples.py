"""The example scripts run at smoke size, say what they should, and are done once."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of SB3, about small buffers


@pytest.fixture
def example(request, monkeypatch):
    """The module of a script, by its name."""
    name = request.param
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def rows_of(printed):
    """Each row's name and first number."""
    found = re.findall(r"^(.+?)\s+(-?[\d.,]+) \[", printed, re.M)
    return {" ".join(name.split()): float(value.replace(",", "")) for name, value in found}


def test_every_example_is_tried_here():
    text = Path(__file__).read_text()
    assert all(f'["{path.stem}"]' in text for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("example", ["sac_on_latents"], indirect=True)
def test_sac_on_latents(example, tmp_path, capsys):
    options = example.Options(tmp_path, steps=80, seeds=1, evaluations=2, episodes=1)
    example.main(options)
    first = capsys.readouterr().out
    rows = rows_of(first)
    assert set(rows) == {"planner", "random", "still", "state", "latents", "pixels"}
    assert rows["planner"] > 2 * max(rows["random"], rows["still"])
    assert (tmp_path / "sac_on_latents.png").stat().st_size > 10_000
    kept = {path: path.read_bytes() for path in (tmp_path / "results").iterdir()}
    assert len(kept) == 6
    example.main(options)
    assert capsys.readouterr().out == first and kept == {path: path.read_bytes() for path in kept}


@pytest.mark.parametrize("example", ["her_on_latents"], indirect=True)
def test_her_on_latents(example, capsys):
    example.main(example.Options(steps=120, episodes=2, tolerance=100.0))
    printed = capsys.readouterr().out
    assert printed.count("reaches 1.00") == 2  # everything lies within such a tolerance
    example.main(example.Options(steps=120, episodes=2, tolerance=1e-6))
    assert capsys.readouterr().out.count("reaches 0") == 2  # negative control


@pytest.mark.parametrize("example", ["planner_as_expert"], indirect=True)
def test_planner_as_expert(example, capsys):
    example.main(example.Options(steps=40, expert=60, episodes=1))
    assert set(rows_of(capsys.readouterr().out)) == {"empty buffer return", "planner as expert return"}
