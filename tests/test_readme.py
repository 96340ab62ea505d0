"""The README's own lines run, and do what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_first_example_reaches_its_goal(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(BLOCKS[0], names)
    assert names["info"]["is_success"]
    assert "mm from the goal" in capsys.readouterr().out


def test_the_first_example_is_short_and_stands_on_the_first_screen() -> None:
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 11
    assert README.index("make plan") < README.index("make test") < README.index(BLOCKS[0]) < 3500


@pytest.mark.parametrize("block", BLOCKS[1:])
def test_every_other_example_runs(block: str) -> None:
    exec(block, {})


def test_every_picture_is_there() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert pictures, "the first screen shows what the package does"
    for picture in pictures:
        assert (Path(__file__).parents[1] / picture).stat().st_size > 10_000
