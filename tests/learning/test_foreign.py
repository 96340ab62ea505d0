"""Any network: as it is, trained by us, saved with an agent, and its code run only where it is trusted."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import worldplan as wp
from worldplan.data.episodes import EpisodeDataset
from worldplan.data.recipes import EpisodeConfig, Nuisances
from worldplan.data.windows import Windows
from worldplan.envs.datasets.episodes import record_episodes
from worldplan.envs.datasets.frames import draw_frames
from worldplan.errors import BadFile, InvalidInput, UnknownName
from worldplan.learning.encoder import CARDS, find_encoder, load_encoder, torch_encoder
from worldplan.learning.excitation import Excitation
from worldplan.learning.pretraining import pretrain
from worldplan.learning.training import PretrainConfig
from worldplan.planning.space import LatentSpace

HERE = Path(__file__).parent
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.delenv("WORLDPLAN_TRUST_CODE", raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("episodes") / "data"
    record_episodes(None, folder, EpisodeConfig(episodes=24, steps=30, test_share=0.0), seed=0)
    draw_frames(folder, "varied", nuisances=Nuisances(stock=0.0, hidden=1.0))
    return folder


def by_hand(module, mean=0.5, std=1.0):
    """What a user's own pipeline gives."""
    with torch.no_grad():
        x = (torch.from_numpy(FRAMES).permute(0, 3, 1, 2).float() / 255 - torch.tensor(mean)) / torch.tensor(std)
        return module.eval()(x.contiguous()).numpy()


# --- an encoder of a module -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "std"), [(0.5, 1.0), (0.0, 1.0), ([[[0.4]], [[0.5]], [[0.6]]], [[[0.2]], [[0.3]], [[0.4]]])]
)
def test_a_module_gets_what_its_own_pipeline_would_give_it(mean, std):
    import own_nets

    flat = [np.ravel(x).tolist() if np.ndim(x) else x for x in (mean, std)]
    encoder = torch_encoder(own_nets.module, mean=flat[0], std=flat[1])
    np.testing.assert_allclose(encoder(FRAMES), by_hand(own_nets.fixed(), mean, std), atol=1e-5)
    assert encoder.latent_dim == 2
    assert encoder(FRAMES[0]).shape == (2,)


def test_a_copy_is_taken_and_put_into_evaluation_mode():
    import own_nets

    module = own_nets.fixed().train()
    encoder = torch_encoder(module)
    before = encoder(FRAMES)
    with torch.no_grad():
        module.last.weight.mul_(2)
    assert np.array_equal(encoder(FRAMES), before)
    assert module.training
    np.testing.assert_allclose(encoder(FRAMES)[:1], encoder(FRAMES[:1]), atol=1e-6)  # BatchNorm does not see the batch


def test_other_sizes_spaces_and_devices():
    net = nn.Sequential(nn.AvgPool2d(24), nn.Flatten(), nn.Linear(12, 3))
    encoder = torch_encoder(net, size=48, space=LatentSpace("circle", "line", "line"))
    assert encoder.space == LatentSpace("circle", "line", "line")
    assert encoder(np.zeros((2, 48, 48, 3), np.uint8)).shape == (2, 3)
    with pytest.raises(InvalidInput, match="48"):
        encoder(FRAMES)
    with pytest.raises(InvalidInput, match="latents of 3"):
        torch_encoder(net, size=48, space=LatentSpace("line"))
    with pytest.raises(InvalidInput, match="device"):
        torch_encoder(net, size=48, device="nowhere")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (nn.Conv2d(3, 3, 1), "end it with a head"),
        (nn.Linear(7, 2), "takes no frames"),
        (3, "no torch.nn.Module"),
        ("own_nets:nothing", "gives int"),
        ("own_nets:gone", "cannot import"),
        ("own_nets", "is not of the form"),
    ],
)
def test_what_is_no_encoder_is_refused(wrong, says):
    with pytest.raises(InvalidInput, match=says):
        torch_encoder(wrong)


@pytest.mark.parametrize("shade", [{"std": 0.0}, {"mean": [0.1, 0.2]}, {"mean": np.nan}])
def test_impossible_normalisations_are_refused(shade):
    with pytest.raises(InvalidInput):
        torch_encoder("own_nets:fixed", **shade)


def test_every_way_to_name_an_encoder():
    same = [find_encoder(f"own_nets:{name}")(FRAMES) for name in ("fixed", "module")]
    np.testing.assert_array_equal(*same)
    assert find_encoder("own_nets:encoder").latent_dim == 2
    assert find_encoder("reacher").name == "reacher"
    with pytest.raises(InvalidInput, match="is a class"):
        find_encoder("own_nets:Encoder")
    with pytest.raises(UnknownName):
        find_encoder("own_nets")


# --- saved with an agent --------------------------------------------------------------------------------------------


def agent_of(encoder):
    dynamics = wp.LinearDynamics(A=np.eye(4) * 0.9 + np.eye(4, k=2) * 0.1, B=np.eye(4)[:, 2:])
    return wp.agents.PlanningAgent(encoder, dynamics, wp.QuadraticCost.goal_reaching(2, 0.1, 0.0, 2))


def test_an_agent_keeps_weights_and_the_import_path(tmp_path):
    agent = agent_of(torch_encoder("own_nets:fixed", mean=0.4, std=0.2))
    agent.save(tmp_path / "agent")
    with pytest.raises(BadFile, match=r"'own_nets:fixed' makes, which would run.*trust_code"):
        wp.agents.load_agent(tmp_path / "agent")
    again = wp.agents.load_agent(tmp_path / "agent", trust_code=True)
    np.testing.assert_array_equal(again.encoder(FRAMES), agent.encoder(FRAMES))
    seen = {"observation": FRAMES[0], "desired_goal": FRAMES[1]}
    np.testing.assert_array_equal(again.predict(seen)[0], agent.predict(seen)[0])
    assert {p.suffix for p in (tmp_path / "agent").rglob("*") if p.is_file()} == {".json", ".safetensors"}


def test_a_module_without_a_path_cannot_be_saved(tmp_path):
    import own_nets

    with pytest.raises(InvalidInput, match="import path"):
        agent_of(torch_encoder(own_nets.module)).save(tmp_path / "agent")
    assert not (tmp_path / "agent" / "agent.json").exists()


def test_code_that_makes_another_network_is_refused(tmp_path):
    torch_encoder("own_nets:fixed").save(tmp_path / "e")
    card = CARDS.read(tmp_path / "e")
    card["network"]["source"] = "own_nets:many"
    CARDS.write_card(tmp_path / "e", card)
    with pytest.raises(BadFile, match="no weights of this network"):
        load_encoder(tmp_path / "e", trust_code=True)


def test_untrusted_code_is_not_even_imported(tmp_path):
    torch_encoder("own_nets:fixed").save(tmp_path / "e")
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    card = CARDS.read(tmp_path / "e")
    card["network"]["source"] = "evil:make"
    CARDS.write_card(tmp_path / "e", card)
    run = [sys.executable, "-c", "import worldplan as wp; wp.load_encoder('e')"]
    ended = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "BadFile" in ended.stderr
    assert "ran" not in ended.stderr.splitlines()[-1]
    run[2] = "import worldplan as wp; wp.load_encoder('e', trust_code=True)"  # the control
    assert subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False).stderr.strip() == "ran"


# --- trained by us --------------------------------------------------------------------------------------------------

CONFIG = PretrainConfig(
    objective=Excitation(window=8, space=("circle", "line"), least=-9.0, first_windows=0),
    network="own_nets:make",
    batch=64,
    epochs=2,
    validation=64,
    device="cpu",
    checkpoint_every=4,
)


def test_a_network_of_ones_own_is_trained_saved_and_resumed(folder, tmp_path):
    data = Windows(EpisodeDataset(folder), 8)
    whole = pretrain(data, tmp_path / "a", CONFIG)
    card = json.loads((whole / "encoder.json").read_text())
    assert card["network"]["source"] == "own_nets:make"
    with pytest.raises(BadFile, match="trust"):
        load_encoder(whole)
    encoder = load_encoder(whole, trust_code=True)
    assert encoder.space == LatentSpace("circle", "line")
    assert np.isfinite(encoder(FRAMES)).all()

    def stop(steps, start, total):
        for step in steps:
            if step == 6:
                raise KeyboardInterrupt
            yield step

    with pytest.raises(KeyboardInterrupt):
        pretrain(data, tmp_path / "b", CONFIG, progress=stop)
    pretrain(data, tmp_path / "b", CONFIG, resume=True)
    assert (tmp_path / "b" / "encoder.safetensors").read_bytes() == (whole / "encoder.safetensors").read_bytes()


def test_lines_of_a_network_of_ones_own_get_axes(folder, tmp_path):
    objective = replace(CONFIG.objective, space=("line", "line"))
    where = pretrain(Windows(EpisodeDataset(folder), 8), tmp_path / "a", replace(CONFIG, objective=objective))
    axes = load_encoder(where, trust_code=True).network.angles.axes.numpy()
    assert not np.allclose(axes, np.eye(2))


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ("own_nets:many", "no function of the number of outputs"),
        ("own_nets:gone", "cannot import"),
        ("timm:no-such-model", "timm"),
        ("mine", "is not of the form"),
    ],
)
def test_networks_that_cannot_be_made_are_refused(network, says, folder, tmp_path):
    with pytest.raises(InvalidInput, match=says):
        pretrain(Windows(EpisodeDataset(folder), 8), tmp_path / "a", replace(CONFIG, network=network))
    assert not (tmp_path / "a" / "encoder.json").exists()
