"""docs/constraints.md: every example on the page runs, one after the other, as it stands, and shows what it claims."""

import re
from pathlib import Path

import numpy as np
import pytest

import worldplan as wp

PAGE = (Path(__file__).parents[2] / "docs" / "constraints.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def names():
    """What the examples have defined."""
    known: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/constraints.md", "exec"), known)
    return known


def test_the_page_has_its_examples():
    assert len(BLOCKS) == 6


def test_the_examples_show_what_they_claim(names):
    assert names["fastest"] == pytest.approx(0.04, abs=1e-6)
    assert "infeasible" in names["told"] and "<= 0.04" in names["told"]
    assert names["over"][0] == pytest.approx(0.16, abs=1e-6) and names["over"][-1] < 1e-9
    assert max(names["speeds"]) == pytest.approx(0.04, abs=1e-6)


def test_without_the_constraints_they_would_not(names):
    """Negative control."""
    free = wp.solve_mpc(wp.MPCProblem(names["dynamics"], names["cost"]), names["start"], names["goal"])
    assert np.abs(free.states[1:, 2:]).max() > 0.05
    assert (free.states[1:, :2] @ [0.6, 0.8]).max() > 0.2
    assert len(set(np.round(names["costs"], 9))) == 3
