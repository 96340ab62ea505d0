"""From random motion to goals, by commands alone: collect random, pretrain --objective excitation, fit --data, plan."""

import json

import numpy as np
import pytest

from worldplan.__main__ import main
from worldplan.agents.planning_agent import load_agent
from worldplan.data.episodes import EpisodeDataset
from worldplan.learning.candidates import Candidate, choose, simplest, spaces_of
from worldplan.learning.encoder import load_encoder
from worldplan.learning.excitation import Excitation
from worldplan.learning.training import PretrainConfig
from worldplan.planning.space import LatentSpace

LOOK = ["--processes", 1, "--stock", 0, "--hidden", 1]
NET = ["--width", 2, "--hidden", 16, "--batch", 64, "--epochs", 2, "--validation", 64, "--least", -99]


def run(*arguments):
    return main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("random") / "data"
    assert run("collect", "random", *LOOK, "--episodes", 24, "--steps", 40, "--test-share", 0.1, "--out", folder) == 0
    return folder


def test_from_random_motion_to_goals(data, tmp_path, capsys):
    encoder, agent, plan = (tmp_path / name for name in ("encoder", "agent", "plan"))
    options = ["--objective", "excitation", "--window", 16, "--space", "circle,line", "--symmetries", "mirror,turns"]
    assert run("pretrain", data, *options, *NET, "--out", encoder) == 0
    shown = capsys.readouterr().out
    assert "label-free J, held out" in shown and "label-free training_J" in shown
    card = load_encoder(encoder).card
    assert load_encoder(encoder).space == LatentSpace("circle", "line")
    assert card["config"]["objective"]["symmetries"] == ["mirror", "turns"]
    assert card["data"]["window"] == 16

    assert run("fit", "--encoder", encoder, "--data", data, "--episodes", 12, "--out", agent) == 0
    assert "circles are in radians" in capsys.readouterr().out
    loaded = load_agent(agent)
    assert loaded.charts is None and loaded.controller.space == LatentSpace("circle", "line")
    np.testing.assert_array_equal(loaded.dynamics.A[:, 0], [1, 0, 0, 0])  # nothing depends on where on the circle it is
    look = ["--profile", "fast", "--target", "hidden"]
    assert run("plan", "--agent", agent, "--episodes", 1, *look, "--distribution", "reset", "--out", plan) == 0
    assert len(json.loads((plan / "plan.json").read_text())["episodes"]) == 1
    assert {path.name for path in plan.iterdir()} == {"plan.json", "plan.png", "plan.gif"}


def test_what_was_not_found_is_said_and_nothing_is_left(data, tmp_path, capsys):
    """A run much too short: an error with a remedy, exit status 2, no encoder."""
    options = ["--objective", "excitation", "--space", "circle,line", "--window", 16, *NET[:-1], 0.2]
    assert run("pretrain", data, *options, "--out", tmp_path / "e") == 2
    error = capsys.readouterr().err
    assert "found fewer than 2 coordinates" in error and "window" in error
    assert not (tmp_path / "e" / "encoder.json").exists()


def test_auto_prints_the_candidates_takes_the_best_and_goes_on(data, tmp_path, capsys):
    out = tmp_path / "encoder"
    options = ["--objective", "excitation", "--window", "auto", "--space", "auto", *NET, "--out", out]
    assert run("pretrain", data, *options) == 0
    shown = capsys.readouterr().out
    told = json.loads((out / "candidates.json").read_text())
    found = told["candidates"]
    assert [c["window"] for c in found[:2]] == [8, 16]  # more is longer than half an episode
    assert {tuple(c["space"]) for c in found} == {("line", "line"), ("circle", "line"), ("circle", "circle")}
    assert len(found) == 4 and f"Chosen: {told['chosen']}" in shown
    card = load_encoder(out).card
    window = max(found[:2], key=lambda c: c["J"])["window"]
    best = simplest([Candidate(tuple(c["space"]), window, c["J"], ()) for c in found if c["window"] == window])
    assert card["data"]["window"] == window and card["config"]["objective"]["space"] == list(best.space)
    before = (out / "candidates" / f"circle-line-{window}" / "encoder.safetensors").stat().st_mtime_ns

    for name in ("encoder.json", "encoder.safetensors", "log.jsonl"):  # as if it had stopped at a candidate
        (out / name).unlink()
    assert run("pretrain", data, *options, "--resume") == 0
    assert (out / "candidates" / f"circle-line-{window}" / "encoder.safetensors").stat().st_mtime_ns == before
    assert load_encoder(out).card["sha256"] == card["sha256"]

    (out / "encoder.json").unlink()
    assert run("pretrain", data, *options, "--resume", "--seed", 3) == 2
    assert "candidate of other options" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "mixed", "circles", "taken"),
    [
        (1.2, 1.8, 1.83, "mixed"),  # a joint with a stop: a circle tells it as well, by chance a little better
        (1.81, 1.8, 1.83, "lines"),
        (1.2, 1.5, 1.8, "circles"),  # two joints that turn all round: lines pay for the jump
        (1.8, 1.2, 1.1, "lines"),
    ],
)
def test_of_spaces_that_tie_the_simplest_is_taken(lines, mixed, circles, taken):
    spaces = {"lines": ("line", "line"), "mixed": ("circle", "line"), "circles": ("circle", "circle")}
    values = {"lines": lines, "mixed": mixed, "circles": circles}
    found = [Candidate(space, 48, values[name], ()) for name, space in spaces.items()]
    assert simplest(found).space == simplest(found[::-1]).space == spaces[taken]


@pytest.mark.parametrize(
    ("shares", "taken"),
    [
        ({1: 0.9, 2: 0.6, 3: 0.1, 4: 0.5}, 2),  # the third is not found: a fourth is not even tried
        ({1: 0.9, 2: 0.1}, 1),
        ({1: 0.9, 2: 0.8, 3: 0.7, 4: 0.6}, 4),
        ({1: 0.1, 2: 0.9}, 2),  # alone it is not found, and the error of the run itself will say so
    ],
)
def test_the_widest_space_of_which_all_is_found_is_taken(data, tmp_path, monkeypatch, shares, taken):
    asked = []

    def tried(data, config, space, window, where, progress):
        asked.append(len(space))
        least = shares.get(len(space), -1.0)
        return Candidate(tuple(space), window, len(space) * least, (0.95,) * (len(space) - 1) + (least,))

    monkeypatch.setattr("worldplan.learning.candidates._tried", tried)
    config = PretrainConfig(objective=Excitation(window=16))
    spaces = [space for n in range(1, 5) for space in spaces_of(n)]
    found, _ = choose(EpisodeDataset(data), config, tmp_path, spaces=spaces)
    assert found.latent_dim == taken and found.space == LatentSpace.lines(taken)
    assert max(asked) == min(4, taken + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", 64], "lower --window"),
        (["--window", 1], "window >= 2"),
        (["--space", "circle,torus"], "circle and line"),
        (["--space", "circle,line,line", "--latent-dim", 4], "leave the latter out"),
        (["--symmetries", "spin"], "unknown symmetry 'spin'"),
        (["--stride", 4], "--window in place of --stride"),
        (["--mirror", "--space", "circle,line"], "without --mirror"),
        (["--against", "hope"], "known: sigreg, whitening"),
    ],
)
def test_wrong_options_end_before_training(data, tmp_path, capsys, options, message):
    assert run("pretrain", data, "--objective", "excitation", *NET, *options, "--out", tmp_path / "e") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_frames_without_actions_are_refused(tmp_path, capsys):
    assert run("collect", "ou", "--pairs", 4, "--processes", 1, "--stock", 0, "--out", tmp_path / "pairs") == 0
    assert run("pretrain", tmp_path / "pairs", "--objective", "excitation", "--out", tmp_path / "e") == 2
    assert "holds pairs, not episodes" in capsys.readouterr().err
