"""`worldplan collect sac|random|mixture|frames` and what follows: pretrain, fit; damage and interruptions."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from worldplan.__main__ import main
from worldplan.agents.actor import load_policy
from worldplan.agents.planning_agent import load_agent
from worldplan.data.episodes import EpisodeDataset
from worldplan.envs.datasets import frames as drawing
from worldplan.learning.encoder import load_encoder, save_encoder
from worldplan.learning.network import ConvEncoder

SMALL = ["--processes", 1, "--stock", 0]


def run(*arguments):
    return main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def sac(tmp_path_factory):
    """Episodes of the shipped policy, with frames."""
    folder = tmp_path_factory.mktemp("sac") / "data"
    assert run("collect", "sac", *SMALL, "--episodes", 24, "--steps", 24, "--out", folder) == 0
    return folder


def test_from_the_shipped_policy_to_an_agent(sac, tmp_path, capsys):
    encoder, agent = tmp_path / "encoder", tmp_path / "agent"
    data = EpisodeDataset(sac)
    policy = load_policy("reacher-easy")
    assert data.runs[0]["policy"] == {"name": "reacher-easy", "sha256": policy.card["sha256"]}
    assert data.runs[0]["command"].startswith("worldplan collect sac ")

    net = ["--width", 2, "--hidden", 16, "--batch", 64, "--epochs", 25, "--validation", 32, "--weight", 0.5]
    net += ["--lr", 0.01, "--slices", 32, "--half"]
    assert run("pretrain", sac, "--stride", 4, *net, "--out", encoder) == 0
    card = load_encoder(encoder).card
    assert (card["data"]["stride"], card["data"]["data"]) == (4, data.manifest_sha256)
    assert card["data"]["runs"] == data.runs
    assert all(v.dtype != np.float32 for v in load_file(encoder / "encoder.safetensors").values())

    assert run("fit", "--encoder", encoder, "--episodes", 12, "--steps", 12, "--profile", "fast", "--out", agent) == 0
    assert "of the recorded angles" in capsys.readouterr().out
    deviation = np.exp(np.mean(np.log(data.manifest["summary"]["angle_deviation"])))
    assert np.allclose(load_agent(agent).cost.R, 0.1 / deviation**2 * np.eye(2))


@pytest.mark.parametrize(("kind", "share"), [("random", {1.0}), ("mixture", {0.0, 1.0})])
def test_random_and_mixed_episodes(kind, share, tmp_path, capsys):
    assert run("collect", kind, "--episodes", 12, "--steps", 3, "--no-frames", "--json", "--out", tmp_path / "d") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["episodes"] == 12
    data = EpisodeDataset(tmp_path / "d")
    assert {float(r) for s in data.shards for r in s["random"]} == share
    assert not list((tmp_path / "d").glob("frames*"))
    assert run("collect", "frames", tmp_path / "d", "--look", "fast", *SMALL) == 0
    assert EpisodeDataset(tmp_path / "d").load(frames=True).frames[0].shape == (4, 64, 64, 3)


def test_without_a_stride_episodes_are_refused_and_the_other_way_round(sac, tmp_path, capsys):
    assert run("pretrain", sac, "--out", tmp_path / "a") == 2
    assert "pretrain on them with --stride" in capsys.readouterr().err
    assert run("pretrain", sac, "--stride", 25, "--out", tmp_path / "a") == 2
    assert "episode has 24 steps" in capsys.readouterr().err
    assert run("collect", "ou", "--pairs", 2, *SMALL, "--out", tmp_path / "pairs") == 0
    assert run("pretrain", tmp_path / "pairs", "--stride", 1, "--out", tmp_path / "a") == 2
    assert "holds pairs, not episodes" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_damaged_dataset_is_noticed_before_training(tmp_path, capsys):
    data = tmp_path / "data"
    assert run("collect", "random", *SMALL, "--episodes", 3, "--steps", 4, "--out", data) == 0
    path = next(data.glob("frames*"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert run("pretrain", data, "--stride", 1, "--out", tmp_path / "out") == 2
    assert "was altered" in capsys.readouterr().err


def test_an_interrupted_collection_goes_on(sac, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "data"
    command = ["collect", "sac", *SMALL, "--episodes", 24, "--steps", 24, "--out", folder]

    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(drawing, "frame_stream", stop)
        assert run(*command) == 130
    assert "--resume" in capsys.readouterr().err
    assert run(*command) == 2  # not begun anew unasked
    assert run(*command, "--resume") == 0
    ours, theirs = EpisodeDataset(folder), EpisodeDataset(sac)
    for kind in ("qpos", "frames"):
        assert [s[kind]["sha256"] for s in ours.shards] == [s[kind]["sha256"] for s in theirs.shards]


@pytest.mark.parametrize("damage", ["foreign", "truncated", "spaces", "unknown"])
def test_a_foreign_or_damaged_policy(damage, tmp_path, capsys):
    policy = load_policy("reacher-easy")
    folder = tmp_path / "policy"
    if damage == "foreign":
        save_encoder(ConvEncoder(2, 2, 8), folder, {})
        said = "no such file"
    elif damage == "unknown":
        said = "known"
    elif damage == "truncated":
        policy.save(folder)
        path = next(folder.glob("*.safetensors"))
        path.write_bytes(path.read_bytes()[:-4])
        said = "truncated or altered"
    else:
        from gymnasium import spaces

        from worldplan.agents.actor import ActorPolicy

        wide = {k: np.concatenate([v, v[:, :1]], 1) if k == "hidden.0.weight" else v for k, v in policy.tensors.items()}
        box = spaces.Box(-1.0, 1.0, (8,), np.float32)
        ActorPolicy(wide, box, policy.action_space, {}).save(folder)
        said = "observation_space"
    assert run("collect", "sac", "--policy", folder, "--out", tmp_path / "data") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_export_and_import_give_the_same_episodes(sac, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    ours = EpisodeDataset(sac).load()
    for place in (tmp_path / "sac.hdf5", "minari:reacher/sac-v0"):
        assert run("convert", sac, "--out", place) == 0
        folder = tmp_path / f"back{len(list(tmp_path.glob('back*')))}"
        assert run("convert", place, "--out", folder) == 0
        theirs = EpisodeDataset(folder).load()
        for name in ("qpos", "qvel", "target"):
            assert all((a == b).all() for a, b in zip(ours.info[name], theirs.info[name], strict=True))
        assert all((a == b).all() for a, b in zip(ours.actions, theirs.actions, strict=True))
        assert all((a == b).all() for a, b in zip(ours.rewards, theirs.rewards, strict=True))
        assert run("convert", sac, "--out", place) == 2
        assert "exist" in capsys.readouterr().err
    assert run("convert", sac, "--out", tmp_path / "elsewhere") == 2
    assert "one end must be a folder" in capsys.readouterr().err


def test_diagnose(tmp_path, capsys):
    for kind, seed in (("sac", 0), ("random", 1)):
        folder = tmp_path / kind
        size = ["--episodes", 16, "--steps", 20, "--seed", seed, "--no-frames"]
        assert run("collect", kind, *size, "--out", folder) == 0
    capsys.readouterr()
    out = tmp_path / "out"
    assert run("diagnose", tmp_path / "sac", tmp_path / "random", "--max-lag", 8, "--out", out) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("OU, rho 0.9", "sac", "random", "Henze-Zirkler"))
    assert [w["name"] for w in json.loads((out / "diagnostics.json").read_text())["worlds"]][1:] == ["sac", "random"]
    assert (out / "diagnostics.png").stat().st_size > 10_000
    assert run("diagnose", tmp_path / "sac", "--max-lag", 20, "--out", out) == 2  # of 20 actions, none is 20 apart
    assert "error: " in capsys.readouterr().err


def test_half_precision_moves_the_latents_little(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ConvEncoder(2, 4, 16)
    save_encoder(network, tmp_path / "full", {})
    save_encoder(network, tmp_path / "half", {}, half=True)
    frames = np.random.default_rng(0).integers(0, 256, (32, 64, 64, 3), dtype=np.uint8)
    full, half = (load_encoder(tmp_path / name)(frames) for name in ("full", "half"))
    assert 0 < np.abs(full - half).max() < 1e-2 * full.std()
    sizes = [(tmp_path / name / "encoder.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
