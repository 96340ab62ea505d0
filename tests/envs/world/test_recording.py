"""Episodes of random actions in any world: the same bytes from a seed, and no dataset that teaches nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from worldplan.data.episodes import EpisodeDataset, StridedPairs
from worldplan.data.recipes import Exploration, WorldEpisodes
from worldplan.data.windows import Windows
from worldplan.envs.datasets import world_episodes
from worldplan.envs.datasets.world_episodes import choose_hold, record_world
from worldplan.envs.exploration import random_actions
from worldplan.envs.world.registry import find_world
from worldplan.errors import BadFile, InvalidInput

FEW = WorldEpisodes(episodes=5, steps=8, hold=2)


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(world_episodes, "SHARD", 2)


@pytest.fixture
def slide():
    return find_world("slide:Slide", size=32)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_recorded(slide, tmp_path):
    data = record_world(slide, tmp_path / "data", FEW, seed=3)
    data.verify()
    assert data.world == slide.card
    runs = data.load(frames=True)
    assert len(runs) == 5
    assert all(f.shape == (9, 32, 32, 3) for f in runs.frames)
    actions = np.concatenate(runs.actions)
    assert ((actions >= -1.0) & (actions <= 2.0)).all()
    assert actions.max() > 1.0  # of the world's own limits, and not of +-1
    assert set(runs.info) == {"place"}
    assert StridedPairs(data, 4)[np.arange(2)].shape == (2, 2, 32, 32, 3)
    assert Windows(data, 4).features.shape[1] == 6


def test_the_bytes_follow_from_the_seed_alone(slide, tmp_path):
    for name, more in {"one": {}, "two": {"processes": 2}, "other": {"seed": 4}}.items():
        record_world(slide, tmp_path / name, FEW, **{"seed": 3, **more})
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert files(tmp_path / "one") != files(tmp_path / "other")


def test_an_interrupted_recording_goes_on(slide, tmp_path, monkeypatch):
    whole = files(record_world(slide, tmp_path / "whole", FEW, seed=3).folder)
    real, calls = world_episodes.rollout, []

    def cut(*arguments, **more):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **more)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(world_episodes, "rollout", cut)
        record_world(slide, tmp_path / "cut", FEW, seed=3)
    with pytest.raises(BadFile, match="unfinished"):
        EpisodeDataset(tmp_path / "cut")
    with pytest.raises(BadFile, match="other options"):
        record_world(slide, tmp_path / "cut", FEW, seed=4, resume=True)
    assert files(record_world(slide, tmp_path / "cut", FEW, seed=3, resume=True).folder) == whole
    assert files(record_world(slide, tmp_path / "cut", FEW, seed=3, resume=True).folder) == whole  # nothing is left
    with pytest.raises(BadFile, match="other episodes"):
        record_world(slide, tmp_path / "cut", replace(FEW, hold=3), seed=3, resume=True)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Short", "--steps 5"),
        ("Blind", "never change"),
        ("Unpaid", "rewards that are not finite"),
        ("Fickle", "tells speed at some steps alone"),
    ],
)
def test_episodes_that_teach_nothing_are_refused(name, says, tmp_path):
    with pytest.raises(InvalidInput, match=says):
        record_world(find_world(f"slide:{name}"), tmp_path / "data", FEW)
    assert not (tmp_path / "data" / "manifest.json").exists()


def test_a_world_that_ends_by_itself_is_recorded_up_to_there(tmp_path):
    data = record_world(find_world("slide:Short"), tmp_path / "data", replace(FEW, steps=5))
    assert len(data) == 5


def test_a_reset_that_ignores_its_seed_is_told(tmp_path):
    with pytest.warns(UserWarning, match="two resets of slide:Forgetful with one seed"):
        record_world(find_world("slide:Forgetful"), tmp_path / "data", FEW)


# --- exploration ----------------------------------------------------------------------------------------------------

LOW, HIGH = np.array([-1.0, 2.0]), np.array([1.0, 3.0])


def drawn(how, count=4000, seed=0):
    actions = random_actions(how, LOW, HIGH, np.random.default_rng(seed))
    return np.stack([next(actions) for _ in range(count)])


def test_white_actions_are_those_of_the_generator():
    rng = np.random.default_rng(0)
    assert np.array_equal(drawn(Exploration(), 50), np.stack([rng.uniform(LOW, HIGH) for _ in range(50)]))


@pytest.mark.parametrize("hold", [2, 5, 16])
def test_held_actions_last_that_long(hold):
    actions = drawn(Exploration(hold))
    changes = np.flatnonzero((actions[1:] != actions[:-1]).any(axis=1)) + 1
    assert (np.diff(changes) == hold).all()
    assert 1 <= changes[0] <= hold
    firsts = {
        int(np.flatnonzero((a[1:] != a[:-1]).any(axis=1))[0])
        for a in (drawn(Exploration(hold), 60, s) for s in range(40))
    }
    assert len(firsts) > 1  # or all episodes would change their actions at the same steps


def test_actions_with_memory_are_correlated_as_asked():
    actions = (drawn(Exploration(memory=0.9), 40_000) - (LOW + HIGH) / 2) / ((HIGH - LOW) / 2)
    assert (np.abs(actions) <= 1.0).all()
    for row in actions.T:
        assert 0.8 < np.corrcoef(row[1:], row[:-1])[0, 1] < 0.93  # clipping costs a little
    white = drawn(Exploration(), 40_000)
    assert abs(np.corrcoef(white[1:, 0], white[:-1, 0])[0, 1]) < 0.03


@pytest.mark.parametrize("wrong", [{"hold": 0}, {"memory": 1.0}, {"memory": -0.1}, {"hold": 2.5}])
def test_impossible_explorations_are_refused(wrong):
    with pytest.raises(InvalidInput):
        Exploration(**wrong)


def test_the_hold_is_chosen_by_what_moves(slide):
    hold, moved = choose_hold(slide)
    assert moved[hold] >= 0.9 * max(moved.values())
    assert moved[1] < 0.9 * max(moved.values())
    assert hold > 1
    with pytest.raises(InvalidInput, match="whatever the hold"):
        choose_hold(find_world("slide:Blind"))
