"""Images that show something else than an encoder's world are told apart; familiar ones are not."""

import numpy as np
import pytest

import worldplan as wp
from worldplan.envs.rendering import render_frames, sample_targets
from worldplan.envs.world.registry import find_world
from worldplan.errors import UnfamiliarGoal
from worldplan.learning.encoder import known_encoders, torch_encoder
from worldplan.learning.familiarity import UNLIKE, unlikeness, warn_unfamiliar

WORLDS = sorted(set(known_encoders()) - set(known_encoders("reacher")))
NOISE = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
ODD = {"black": 0 * NOISE, "white": 0 * NOISE + 255, "noise": NOISE}


def frames_of(name):
    """Frames of the world of an encoder."""
    rng = np.random.default_rng(1)
    if name in known_encoders("reacher"):
        return render_frames(rng.uniform(-2.5, 2.5, (100, 2)), sample_targets(100, rng), "dmc")
    world = find_world(name)
    env = world.make()
    return np.stack([env.reset(seed=k, options=world.sample(rng))[0] for k in range(100)])


@pytest.mark.parametrize("name", ["reacher", "reacher-excitation", *WORLDS])
def test_an_encoder_knows_its_world(name):
    encoder, frames = wp.load_encoder(name), frames_of(name)
    assert unlikeness(encoder, frames).max() < UNLIKE
    for odd in ODD.values():
        assert unlikeness(encoder, odd)[0] > UNLIKE
    if name == "point_mass":  # the same walls and floor, with an arm
        assert unlikeness(encoder, frames_of("reacher")[:1])[0] > UNLIKE


@pytest.mark.parametrize("odd", ODD)
def test_a_goal_that_shows_something_else_is_told(odd):
    encoder = wp.load_encoder("reacher-excitation")
    with pytest.warns(UnfamiliarGoal, match="unlike everything"):
        warn_unfamiliar(encoder, ODD[odd][0])
    warn_unfamiliar(encoder, frames_of("reacher")[0])  # warnings are errors here


def test_networks_without_such_layers_say_nothing():
    from torch import nn

    encoder = torch_encoder(nn.Sequential(nn.AvgPool2d(32), nn.Flatten(), nn.Linear(12, 2)))
    assert unlikeness(encoder, NOISE) is None
    warn_unfamiliar(encoder, NOISE[0])
