"""Agents as ONNX graphs: in closed loop, on frames nobody believes, and with files that do not belong together."""

import copy
import json
import os
import pickle
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from forged import forge

import worldplan as wp
from worldplan.__main__ import main
from worldplan.agents import export
from worldplan.agents.export import CONTRACT, GOAL, STEP, ExportedAgent, export_agent, read_contract
from worldplan.agents.planning_agent import PlanningAgent, load_agent
from worldplan.data.files import read_json, sha256, write_json
from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rollout import rollout
from worldplan.errors import BadFile, InvalidInput, MissingExtra
from worldplan.learning.runtime import onnx_session

PAGE = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()


@pytest.fixture(scope="module")
def agent():
    return load_agent("reacher")


@pytest.fixture(scope="module")
def frames(agent):
    """An episode whose shoulder passes from one side of the seam to the other."""
    pose = {"qpos": [2.9, 0.5], "goal_qpos": [-2.7, -0.8]}
    return rollout(ReacherGoal(profile="fast"), agent, 1, steps=40, options=[pose]).frames[0]


@pytest.fixture(scope="module")
def folder(agent, frames, tmp_path_factory):
    return export_agent(
        agent, tmp_path_factory.mktemp("export") / "a", frames, command="worldplan export reacher"
    ).folder


def test_an_exported_agent_reaches_what_the_agent_reaches(agent, folder):
    env = ReacherGoal(profile="fast")
    ends = []
    for _ in range(2):
        for steer in (agent, ExportedAgent(folder)):
            seen, info = env.reset(seed=5, options={"qpos": [2.9, 0.5], "goal_qpos": [-2.7, -0.8]})
            if isinstance(steer, ExportedAgent):
                steer.reset(seen["desired_goal"])
            state = None
            for _ in range(100):
                if isinstance(steer, ExportedAgent):
                    action = steer.act(seen["observation"])
                else:
                    action, state = steer.predict(seen, state)
                seen, *_, info = env.step(action)
            ends.append(info["qpos"])
            assert info["is_success"]
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-3)
    np.testing.assert_array_equal(ends[1], ends[3])  # a second episode forgets the first


def test_actions_agree_beyond_rounding_only_if_the_agent_is_another(agent, frames, folder):
    made = export_agent(agent, folder, frames)
    assert made.latent_error <= export.LATENT_TOLERANCE
    assert made.action_error <= 1e-6
    assert made.total_error <= 1e-6  # the encoder computes by the same graph
    dearer = PlanningAgent(agent.encoder, agent.dynamics, wp.QuadraticCost.goal_reaching(2, control_weight=0.2))
    graphs = {name: (folder / name).read_bytes() for name in (GOAL, STEP)}
    assert export._compared(dearer, graphs, frames, folder).action_error > 1e-3


def test_the_agent_stays_as_it_was(frames, tmp_path):
    agent = load_agent("reacher")
    before = [(p.stride(), p.clone()) for p in agent.encoder.network.parameters()]
    export_agent(agent, tmp_path / "a", frames)
    for (stride, value), now in zip(before, agent.encoder.network.parameters(), strict=True):
        assert stride == now.stride()  # channels last, as control runs fastest
        assert torch.equal(value, now)


def test_a_graph_that_differs_is_not_written(agent, frames, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "UNBELIEVABLE", 1e9)  # the graph would believe everything
    with pytest.raises(InvalidInput, match="nothing was written"):
        export_agent(agent, tmp_path / "a", frames)
    assert not (tmp_path / "a").exists() or not any((tmp_path / "a").iterdir())


def test_the_contract_names_what_the_graphs_take(folder):
    contract = read_contract(folder)
    assert contract["sizes"] == {"frame": 64, "latent": 2, "state": 4, "action": 2}
    assert contract["space"] == ["circle", "line"]
    for name in (GOAL, STEP):
        session = onnx_session((folder / name).read_bytes())
        for told, real in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
            wanted = [(x["name"], x["shape"]) for x in contract["graphs"][name][told]]
            assert [(x.name, x.shape) for x in real] == wanted


def test_files_that_do_not_belong_together_are_refused(folder, tmp_path):
    for name in (GOAL, STEP, CONTRACT):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    contract = read_json(tmp_path / CONTRACT)
    forge(tmp_path / CONTRACT, format=9)
    with pytest.raises(BadFile, match="is of format 9"):
        ExportedAgent(tmp_path)
    for name in contract.keys() - {"card_sha256"}:
        write_json(tmp_path / CONTRACT, {**contract, name: "other"})
        with pytest.raises(BadFile):
            ExportedAgent(tmp_path)
    write_json(tmp_path / CONTRACT, contract)
    assert ExportedAgent(tmp_path)
    (tmp_path / STEP).write_bytes((folder / GOAL).read_bytes())
    with pytest.raises(BadFile, match="is not the graph of this contract"):
        ExportedAgent(tmp_path)


@pytest.mark.parametrize("graphs", [..., None, 5, {}, {GOAL: {}}, {GOAL: {"inputs": [1], "outputs": []}}])
def test_a_contract_that_tells_other_things_than_the_graphs_is_refused(graphs, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "a")
    forge(tmp_path / "a" / CONTRACT, graphs=graphs)
    with pytest.raises(BadFile, match="other things than its contract"):
        ExportedAgent(tmp_path / "a")


@pytest.mark.parametrize("files", [5, {}, {GOAL: f"../{GOAL}", STEP: STEP}, {GOAL: 5, STEP: STEP}])
def test_no_graph_lies_outside_of_the_folder(files, folder, tmp_path):
    for place in ("a", "b"):
        shutil.copytree(folder, tmp_path / place)
    shutil.copy(folder / GOAL, tmp_path / GOAL)
    if isinstance(files, dict):
        forge(tmp_path / "a" / CONTRACT, files=files)
        with pytest.raises(BadFile, match="plain name"):
            ExportedAgent(tmp_path / "a")
    (tmp_path / "b" / GOAL).unlink()
    with pytest.raises(BadFile, match="no such file"):
        ExportedAgent(tmp_path / "b")
    (tmp_path / "b" / GOAL).symlink_to(tmp_path / GOAL)
    with pytest.raises(BadFile, match="link out of its folder"):
        ExportedAgent(tmp_path / "b")


def test_frames_are_checked_and_a_goal_comes_first(folder, frames):
    exported = ExportedAgent(folder)
    with pytest.raises(InvalidInput, match="reset"):
        exported.act(frames[0])
    exported.reset(frames[-1])
    for wrong in (frames[0] / 255.0, frames[0][:32], np.moveaxis(frames[0], -1, 0), frames[:1], frames[:0], None, "x"):
        for call in (exported.reset, exported.act):
            with pytest.raises(InvalidInput):
                call(wrong)
    assert np.isfinite(exported.act(np.asfortranarray(frames[0])[::1])).all()
    for wrong in (None, 5, b"runs"):
        with pytest.raises(InvalidInput):
            ExportedAgent(wrong)


def test_exported_agents_travel_amid_an_episode(folder, frames):
    exported = ExportedAgent(folder)
    exported.reset(frames[-1])
    exported.act(frames[0])
    others = [pickle.loads(pickle.dumps(exported)), copy.deepcopy(exported), copy.copy(exported)]
    wanted = exported.act(frames[1])
    for other in others:
        np.testing.assert_array_equal(other.act(frames[1]), wanted)


def test_an_export_that_is_killed_leaves_the_old_or_the_new_one(folder, frames, tmp_path, monkeypatch):
    graphs = {name: (folder / name).read_bytes() for name in (GOAL, STEP)}
    contract = {k: v for k, v in read_contract(folder).items() if k != "format"}
    new = {name: graph + b"\x72\x00" for name, graph in graphs.items()}  # an empty entry that means nothing
    replace, unlink = os.replace, Path.unlink
    for last in range(20):
        place, left = tmp_path / str(last), [last]
        shutil.copytree(folder, place)

        def counted(act, *arguments, left=left):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return act(*arguments)

        monkeypatch.setattr(os, "replace", lambda *x: counted(replace, *x))
        monkeypatch.setattr(
            Path, "unlink", lambda path, missing_ok=False: counted(unlink, path) if not missing_ok else None
        )
        try:
            export._write(place, dict(new), dict(contract))
        except KeyboardInterrupt:
            done = False
        else:
            done = True
        monkeypatch.undo()
        seen = ExportedAgent(place)._graphs
        assert seen in (graphs, new)
        if done:
            assert seen == new and sorted(path.name for path in place.iterdir()) == sorted((GOAL, STEP, CONTRACT))
            break
    assert last >= 6  # two graphs, contract, two graphs, contract, two removals


def test_what_is_no_agent_or_no_episode_is_not_exported(agent, frames, tmp_path):
    for wrong in (None, "reacher", agent.encoder):
        with pytest.raises(InvalidInput, match="only agents"):
            export_agent(wrong, tmp_path, frames)
    for wrong in (frames[0], frames[:1], frames / 255.0, frames[:, :32], None):
        with pytest.raises(InvalidInput):
            export_agent(agent, tmp_path, wrong)


def test_agents_that_are_no_graph_are_refused(agent, frames, tmp_path):
    for wrong in (load_agent("reacher", planner="mpc"), load_agent("reacher-lejepa")):
        with pytest.raises(InvalidInput, match="become graphs"):
            export_agent(wrong, tmp_path / "a", frames)


def test_a_graph_that_names_other_files_is_refused(folder, tmp_path, monkeypatch):
    for name in (STEP, CONTRACT):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[2], data_location=1)
    weight.external_data.add(key="location", value="private.bin")
    told = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in ("frame", "goal")]
    node = onnx.helper.make_node("Add", ["frame", "w"], ["goal"])
    graph = onnx.helper.make_graph([node], "g", told[:1], told[1:], [weight])
    version = onnx.helper.make_opsetid("", export.OPSET)
    model = onnx.helper.make_model(graph, opset_imports=[version], ir_version=9).SerializeToString()
    (tmp_path / GOAL).write_bytes(model)
    sums = read_json(tmp_path / CONTRACT)["sha256"]
    forge(tmp_path / CONTRACT, sha256={**sums, GOAL: sha256(tmp_path / GOAL)})
    np.array([3.0, 4.0], np.float32).tofile(tmp_path / "private.bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadFile, match="no graph that runs here"):
        ExportedAgent(tmp_path)
    options = onnxruntime.SessionOptions()  # negative control: left to itself, it reads what lies there
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    bare = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    assert bare.run(None, {"frame": np.zeros(2, np.float32)})[0].tolist() == [3.0, 4.0]


def test_without_an_exporter_the_extra_is_named(agent, frames, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtra, match=r"worldplan\[onnx\]"):
        export_agent(agent, tmp_path / "a", frames)


def test_the_page_works_as_it_stands(tmp_path, monkeypatch, capsys):
    command = next(line.split() for line in PAGE.splitlines() if line.startswith("    worldplan "))
    monkeypatch.chdir(tmp_path)
    assert main([*command[1:], "--steps", "12", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differences"]["action, same latents"] <= 1e-6
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    known = {}
    exec(compile(block, "docs/deploy.md", "exec"), known)
    assert known["action"].shape == (2,)
    assert not known["state"]["start"]


def test_other_worlds_are_exported_with_their_env(tmp_path, capsys):
    line = ["export", "point_mass", "--steps", "8", "--out", str(tmp_path / "a")]
    assert main([*line, "--env", "point_mass"]) == 0
    assert main(line) == 2
    assert "name its own world with --env" in capsys.readouterr().err


def test_a_network_of_the_users_own(frames, tmp_path):
    """Torch's exporter writes its graph; there is no other."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = torch.nn.Conv2d(3, 4, 3, stride=4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(2)
        body = torch.nn.Sequential(*layers)
        body(torch.zeros(1, 3, 64, 64))
    eye, none = np.eye(2), np.zeros((2, 2))
    dynamics = wp.LinearDynamics(np.block([[eye, eye], [none, 0.9 * eye]]), 0.01 * np.vstack([eye, eye]))
    agent = PlanningAgent(wp.torch_encoder(body), dynamics, wp.QuadraticCost.goal_reaching(2))
    made = export_agent(agent, tmp_path / "own", frames)
    assert made.total_error <= 1e-5
    assert (tmp_path / "own" / STEP).stat().st_size > 1000
