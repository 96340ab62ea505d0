"""Agents on disk, in copies, in threads and in other processes."""

import json
import multiprocessing
import os
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from arms import COST, agent_on_angles, joints, small_encoder
from forged import forge

from worldplan.agents.planning_agent import PlanningAgent, known_agents, load_agent
from worldplan.errors import BadFile, InvalidInput, UnknownName
from worldplan.learning.encoder import load_encoder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return PlanningAgent(small_encoder(), joints(), COST).save(tmp_path_factory.mktemp("agents") / "mine")


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def real_episode():
    frames = np.random.default_rng(0).integers(0, 256, (4, 2, 64, 64, 3)).astype(np.uint8)
    return [{"observation": o, "desired_goal": frames[0]} for o in frames[1:]]


def play(agent):
    state, actions = None, []
    for observation in real_episode():
        action, state = agent.predict(observation, state)
        actions.append(action)
    return np.array(actions)


def test_a_saved_agent_acts_the_same_to_the_byte(saved):
    agent = PlanningAgent(small_encoder(), joints(), COST)
    loaded = load_agent(saved)
    assert play(loaded).tobytes() == play(agent).tobytes()
    assert play(PlanningAgent(small_encoder(1), joints(), COST)).tobytes() != play(agent).tobytes()
    assert loaded.to_dict() == agent.to_dict()
    assert sorted(p.name for p in saved.rglob("*")) == ["agent.json", "encoder", "encoder.json", "encoder.safetensors"]


def test_saved_again_it_is_the_same_to_the_byte(copy):
    def files():
        return {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}

    before = files()
    load_agent(copy).save(copy)
    assert files() == before
    PlanningAgent(small_encoder(1), joints(), COST).save(copy)
    assert files().keys() != before.keys()  # another encoder stands under another name


# --- copies, threads, processes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("planner", ["lqr", "mpc", "cem", "mppi"])
def test_copies_of_an_agent_act_the_same_and_share_no_workspace(planner):
    agent = PlanningAgent(small_encoder(), joints(), COST, planner)
    before = play(agent).tobytes()
    for other in (deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        assert play(other).tobytes() == before
        if planner != "lqr":
            mine, others = (a.controller._policy.solver for a in (agent, other))
            assert mine is not others and mine._workspace is not others._workspace


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_an_agent_travels_to_other_processes(method):
    agent, observation = PlanningAgent(small_encoder(), joints(), COST, "mpc"), real_episode()[0]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        action, state = pool.submit(agent.predict, observation).result(timeout=120)
    here = agent.predict(observation)
    assert action.tobytes() == here[0].tobytes() and state.mean.tobytes() == here[1].mean.tobytes()


@pytest.mark.parametrize("planner", ["lqr", "mpc"])
def test_threads_may_share_an_agent(planner):
    agent = PlanningAgent(small_encoder(), joints(), COST, planner)
    before = play(agent).tobytes()
    with ThreadPoolExecutor(8) as pool:
        assert {actions.tobytes() for actions in pool.map(play, [agent] * 16)} == {before}


def test_an_encoder_of_ones_own_under_a_shipped_name_is_saved_with_its_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_encoder().save("reacher")
    mine = load_encoder(Path("./reacher"))
    assert mine.card["sha256"] != load_encoder("reacher").card["sha256"]
    agent = PlanningAgent(mine, joints(), COST)
    assert play(load_agent(agent.save(tmp_path / "agent"))).tobytes() == play(agent).tobytes()


def test_a_death_while_one_agent_replaces_another_leaves_either(saved, tmp_path, monkeypatch):
    folder = shutil.copytree(saved, tmp_path / "agent")
    real, seen = os.replace, []
    old, new = play(load_agent(saved)).tobytes(), PlanningAgent(small_encoder(1), joints(), COST)

    def look(*args, **kwargs):
        seen.append(play(load_agent(folder)).tobytes())
        real(*args, **kwargs)
        seen.append(play(load_agent(folder)).tobytes())

    monkeypatch.setattr(os, "replace", look)
    new.save(folder)
    assert set(seen) == {old, play(new).tobytes()} and len(seen) == 6
    assert len(list(folder.glob("encoder*"))) == 1 and play(load_agent(folder)).tobytes() == play(new).tobytes()


def test_saving_removes_no_encoder_but_the_replaced_agents(tmp_path):
    small_encoder().save(tmp_path / "encoder")  # somebody's own run
    shipped = PlanningAgent(load_encoder("reacher"), joints(), COST)
    shipped.save(tmp_path)
    PlanningAgent(small_encoder(1), joints(), COST).save(tmp_path)
    assert load_encoder(tmp_path / "encoder").card["sha256"] == small_encoder().save(tmp_path / "other")
    assert len(list(tmp_path.glob("encoder-*"))) == 1
    shipped.save(tmp_path)
    assert (tmp_path / "encoder").is_dir() and not list(tmp_path.glob("encoder-*"))


def test_dynamics_without_noise_and_planner_options_are_saved(tmp_path):
    agent = PlanningAgent(small_encoder(), joints(noise=False), COST, "mpc", action_low=-0.5, horizon=7)
    folder = agent.save(tmp_path)
    loaded = load_agent(folder)
    assert loaded.planner == "mpc" and loaded.dynamics.process_noise is None
    assert loaded.options == {"action_low": -0.5, "action_high": 1.0, "horizon": 7}
    assert np.allclose(play(loaded), play(agent), rtol=0, atol=1e-6)
    assert load_agent(folder, horizon=9).options["horizon"] == 9
    lqr = load_agent(folder, planner="lqr")
    assert lqr.planner == "lqr" and lqr.options == {"action_low": -0.5, "action_high": 1.0}  # mpc's option is dropped


def test_a_shipped_name():
    assert "reacher" in known_agents()
    assert load_agent("reacher").encoder.name == "reacher-excitation"
    assert load_agent("reacher-lejepa").encoder.name == "reacher"
    with pytest.raises(UnknownName, match=r"unknown agent .* 'yours'; known: .*reacher"):
        load_agent("yours")


def test_unknown_planners_list_the_known_ones(saved):
    with pytest.raises(UnknownName) as caught:
        load_agent(saved, planner="guess")
    assert {"lqr", "mpc"} <= set(caught.value.known)


def edit(folder, **changes):
    forge(folder / "agent.json", **changes)


def without(folder, name):
    forge(folder / "agent.json", **{name: ...})


DYNAMICS = {"A": joints().A.tolist(), "B": joints().B.tolist(), "intercept": [0.0] * 4}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "agent.json").unlink(), "no such file"),
        (lambda f: (f / "agent.json").write_text("{"), "cannot be read as JSON"),
        (lambda f: (f / "agent.json").write_text("[1]"), "no JSON object"),
        (lambda f: (f / "encoder" / "encoder.safetensors").unlink(), "no such file"),
        (lambda f: (f / "encoder" / "encoder.safetensors").write_bytes(b"x"), "SHA-256"),
        (lambda f: small_encoder(1).save(f / "encoder"), "another encoder"),
        (lambda f: edit(f, encoder_sha256="0" * 64), "another encoder"),
        (lambda f: edit(f, format=2), "format 2"),
        (lambda f: without(f, "dynamics"), "is no agent.*dynamics"),
        (lambda f: without(f, "format"), "format None"),
        (lambda f: edit(f, dynamics=[1]), "is no agent"),
        (lambda f: edit(f, dynamics={**DYNAMICS, "A": [[1.0]]}), "is no agent.*B must be"),
        (lambda f: edit(f, dynamics={**DYNAMICS, "A": [["x"]]}), "is no agent.*real numbers"),
        (lambda f: edit(f, dynamics={**DYNAMICS, "A": [[1.0], [1.0, 2.0]]}), "is no agent.*not an array"),
        (lambda f: edit(f, dynamics={**DYNAMICS, "C": 1}), "is no agent"),
        (lambda f: edit(f, cost={"W": [[1.0]], "R": [[1.0]]}), "is no agent"),
        (lambda f: edit(f, cost={"W": (-np.eye(4)).tolist(), "R": [[1.0]]}), "is no agent.*semidefinite"),
        (lambda f: edit(f, options={"action_low": 2.0, "action_high": 1.0}), "is no agent.*action_low"),
        (lambda f: edit(f, options={"horizont": 3}), "is no agent.*horizont"),
        (lambda f: edit(f, options=3), "is no agent"),
    ],
)
def test_damaged_files_are_refused(copy, spoil, message):
    load_agent(copy)
    spoil(copy)
    with pytest.raises(BadFile, match=message):
        load_agent(copy)


def test_names_inside_a_file_that_nobody_knows(copy):
    edit(copy, planner="guess")
    with pytest.raises(UnknownName, match=r"planner 'guess'; known: .*lqr"):
        load_agent(copy)
    edit(copy, planner="lqr", encoder="nowhere")
    with pytest.raises(UnknownName, match="unknown encoder"):
        load_agent(copy)


def test_a_callers_own_mistake_is_not_blamed_on_the_file(saved):
    with pytest.raises(InvalidInput, match="horizont"):
        load_agent(saved, horizont=3)


def test_only_our_own_encoder_can_be_saved(tmp_path):
    with pytest.raises(InvalidInput, match="can be saved"):
        agent_on_angles().save(tmp_path / "agent")
    assert not (tmp_path / "agent").exists()


def test_the_file_is_plain_json(saved):
    assert json.loads((saved / "agent.json").read_text())["planner"] == "lqr"
