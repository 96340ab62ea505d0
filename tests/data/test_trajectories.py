"""Trajectories refuse lengths that do not fit together."""

import numpy as np
import pytest

from worldplan.data.trajectories import Trajectories
from worldplan.errors import InvalidInput

LENGTHS = (3, 5)


def parts(rows=1):
    return {
        "frames": [np.zeros((t + rows, 2)) for t in LENGTHS],
        "actions": [np.zeros((t, 1)) for t in LENGTHS],
        "rewards": [np.zeros(t) for t in LENGTHS],
        "info": {"qpos": [np.zeros((t + 1, 2)) for t in LENGTHS]},
    }


def test_episodes_of_unequal_length_are_counted():
    data = Trajectories(**parts())
    assert (len(data), data.steps) == (2, 8)
    assert len(Trajectories(parts()["frames"], parts()["actions"])) == 2  # rewards and info are optional


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": []}, "as many of frames"),
        ({"frames": [], "actions": []}, "one episode or more"),
        ({"frames": parts()["frames"][:1]}, "got 1 and 2"),
        ({"frames": parts(rows=0)["frames"]}, r"frames: 3 rows for 3 actions.*T \+ 1"),
        ({"frames": parts(rows=2)["frames"]}, r"frames: 5 rows for 3 actions.*T \+ 1"),
        ({"rewards": [np.zeros(3), np.zeros(6)]}, "rewards: 6 rows for 5 actions in episode 1"),
        ({"rewards": [np.zeros(3)]}, "rewards: 1 episodes for 2"),
        ({"info": {"qpos": [np.zeros((4, 2))]}}, r"info\['qpos'\]: 1 episodes for 2"),
        ({"info": {"qpos": [np.zeros((4, 2)), np.zeros((5, 2))]}}, r"info\['qpos'\]: 5 rows for 5 actions"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(change, message):
    with pytest.raises(InvalidInput, match=message):
        Trajectories(**{**parts(), **change})
