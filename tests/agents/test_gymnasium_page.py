"""docs/gymnasium.md: every example on the page runs, one after the other, as it stands."""

import re
import warnings
from pathlib import Path

import gymnasium as gym
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "gymnasium.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the examples have defined; they write into a folder of their own."""
    known: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(tmp_path_factory.mktemp("page"))
        for block in BLOCKS:
            exec(compile(block, "docs/gymnasium.md", "exec"), known)
    return known


def test_the_page_has_its_examples():
    assert len(BLOCKS) == 8


def test_the_planner_reaches_its_goal(names, capsys):
    assert names["info"]["is_success"]
    assert -2.0 < names["reward"] < 0.0  # the expert's mean reward a step, over two episodes
    assert set(names["observations"]) == {"observation", "achieved_goal", "desired_goal"}


@pytest.mark.parametrize("name", re.findall(r"^\| `(worldplan/[^`]*)`", PAGE, re.MULTILINE))
def test_every_environment_of_the_table_can_be_made(name):
    env = gym.make(name)
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space
    env.close()
