"""Encoders and agents to the hub: what goes up and what does not, by the hub's own client against a hub on loopback."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from forged import forge
from huggingface_hub import constants
from huggingface_hub.repocard import metadata_load
from loopback import TOKEN, Repository

from worldplan.agents.model_card import model_card
from worldplan.agents.planning_agent import PlanningAgent, load_agent
from worldplan.agents.publishing import prepare, push_to_hub
from worldplan.data.cards import ZOO
from worldplan.data.files import read_json
from worldplan.errors import BadFile, HubError, InvalidInput
from worldplan.learning.encoder import load_encoder, torch_encoder

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the client to its own library
ENCODER = ZOO / "encoders" / "arm2"
FRAMES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def encoder(tmp_path):
    """The folder of an encoder, with what else lies about in such folders."""
    folder = shutil.copytree(ENCODER, tmp_path / "encoder")
    for name in ("checkpoint.safetensors", ".env", "evil.pkl", "notes.txt"):
        (folder / name).write_bytes(b"secret")
    return folder


@pytest.fixture
def agent(tmp_path, encoder):
    """The folder of an agent with an encoder of its own."""
    base = load_agent("arm2")
    folder = PlanningAgent(load_encoder(encoder), base.dynamics, base.cost).save(tmp_path / "agent")
    shutil.copy(ZOO / "agents" / "arm2" / "fit.json", folder)
    (folder / "plan.gif").write_bytes(b"secret")
    return folder


@pytest.fixture
def signed(hub, monkeypatch):
    """The hub, for somebody who has logged in."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


# --- what goes up ---------------------------------------------------------------------------------------------------


def test_an_encoder_goes_up_and_comes_back(signed, encoder):
    address = push_to_hub(encoder, "me/enc", license="mit")
    (repository,) = signed.repositories.values()
    assert address == f"hf://me/enc@{repository.branches['main']}"
    assert repository.messages == ["Upload encoder with worldplan"]
    up = repository.commits[repository.branches["main"]]
    assert set(up) == {"encoder.json", "encoder.safetensors", "README.md"}
    assert all(up[name] == (encoder / name).read_bytes() for name in ("encoder.json", "encoder.safetensors"))
    for name in (address, "hf://me/enc"):
        np.testing.assert_array_equal(load_encoder(name)(FRAMES), load_encoder(encoder)(FRAMES))


def test_an_agent_goes_up_and_comes_back(signed, agent):
    push_to_hub(agent, "me/agent", message="The first")
    (repository,) = signed.repositories.values()
    up = repository.commits[repository.branches["main"]]
    parts = {f"encoder/encoder.{kind}" for kind in ("json", "safetensors")}
    assert set(up) == {"agent.json", "fit.json", "README.md", *parts}
    assert repository.messages == ["The first"]
    assert not repository.private
    observation = {"observation": FRAMES, "desired_goal": FRAMES[::-1]}
    (there, _), (here, _) = (load_agent(name).predict(observation) for name in ("hf://me/agent", agent))
    np.testing.assert_array_equal(there, here)


def test_an_agent_of_a_shipped_encoder_goes_up_without_it(tmp_path):
    folder = load_agent("arm2").save(tmp_path / "agent")
    assert set(files(prepare(folder, tmp_path / "out", "me/agent"))) == {"agent.json", "README.md"}


def test_a_second_push_is_a_second_commit_and_the_same_is_none(signed, encoder):
    first = push_to_hub(encoder, "me/enc")
    assert load_encoder("hf://me/enc").name == first
    forge(encoder / "encoder.json", command="another")
    second = push_to_hub(encoder, "me/enc")
    assert second != first
    assert load_encoder("hf://me/enc").name == second  # a push is seen in the process that made it
    assert load_encoder(first).card["command"] != "another" == load_encoder("hf://me/enc").card["command"]


def test_a_branch_of_its_own(signed, encoder):
    address = push_to_hub(encoder, "me/enc", revision="small")
    (repository,) = signed.repositories.values()
    assert repository.commits[repository.branches["main"]] == {}
    assert address.endswith(repository.branches["small"])
    assert (
        'wp.load_encoder("hf://me/enc@small")' in repository.commits[repository.branches["small"]]["README.md"].decode()
    )
    again = push_to_hub(encoder, "me/enc", revision="small", license="mit")
    assert load_encoder("hf://me/enc@small").name == again != address


def test_private_is_private_or_nothing(signed, encoder, monkeypatch):
    push_to_hub(encoder, "me/enc", private=True)
    assert signed.repositories["me/enc"].private
    public = signed.repositories["me/public"] = Repository()
    with pytest.raises(HubError, match="is there already, and public"):
        push_to_hub(encoder, "me/public", private=True)
    assert list(public.commits.values()) == [{}]


# --- what does not --------------------------------------------------------------------------------------------------


def test_nobody_is_logged_in(hub, encoder):
    with pytest.raises(HubError, match="hf auth login"):
        push_to_hub(encoder, "me/enc")
    assert hub.repositories == {}


def test_no_network(signed, encoder, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        push_to_hub(encoder, "me/enc")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="cannot be reached"):
        push_to_hub(encoder, "me/enc")
    assert signed.asked == []


@pytest.mark.parametrize("fault", ["weights", "card", "none", "link"])
def test_a_damaged_folder_stays_here(signed, encoder, fault):
    if fault == "weights":
        (encoder / "encoder.safetensors").write_bytes(b"x")
    elif fault == "card":
        (encoder / "encoder.json").write_text("{}")
    elif fault == "none":
        (encoder / "encoder.json").unlink()
    else:
        shutil.move(encoder / "encoder.safetensors", encoder.parent / "elsewhere")
        (encoder / "encoder.safetensors").symlink_to("../elsewhere")
    with pytest.raises(BadFile):
        push_to_hub(encoder, "me/enc")
    assert signed.asked == []


@pytest.mark.parametrize("name", ["enc", "me/", "me/a/b", "../me", "me/..", "me/enc@main", "hf://me/enc", "me/e nc"])
def test_other_names(signed, encoder, name):
    with pytest.raises(InvalidInput, match="the form is"):
        push_to_hub(encoder, name)
    assert signed.asked == []


@pytest.mark.parametrize("options", [{"license": "mit\nx: 1"}, {"license": "MIT Licence"}, {"revision": "../x"}])
def test_other_options(signed, encoder, options):
    with pytest.raises(InvalidInput):
        push_to_hub(encoder, "me/enc", **options)
    assert signed.asked == []


def test_a_network_of_ones_own_asks_for_trust(signed, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "learning")
    torch_encoder("own_nets:fixed").save(tmp_path / "own")
    with pytest.raises(BadFile, match="trust"):
        push_to_hub(tmp_path / "own", "me/own")
    push_to_hub(tmp_path / "own", "me/own", trust_code=True)
    with pytest.raises(BadFile, match="pass trust_code=True"):
        load_encoder("hf://me/own")
    assert load_encoder("hf://me/own", trust_code=True).latent_dim == 2
    (repository,) = signed.repositories.values()
    text = repository.commits[repository.branches["main"]]["README.md"].decode()
    assert 'wp.load_encoder("hf://me/own", trust_code=True)' in text
    assert "`own_nets:fixed`" in text


# --- the folder and its model card ----------------------------------------------------------------------------------


def test_what_would_go_up_can_be_looked_at(encoder, tmp_path):
    out = prepare(encoder, tmp_path / "new" / "out", "me/enc")
    assert set(files(out)) == {"encoder.json", "encoder.safetensors", "README.md"}
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    before = files(out)
    with pytest.raises(BadFile, match="is there already"):
        prepare(encoder, out, "me/enc")
    assert files(out) == before
    (tmp_path / "empty").mkdir()
    assert files(prepare(encoder, tmp_path / "empty", "me/enc")) == before


def test_a_readme_of_ones_own_is_the_model_card(encoder, tmp_path):
    (encoder / "README.md").write_text("# Mine\n")
    assert (prepare(encoder, tmp_path / "out", "me/enc") / "README.md").read_text() == "# Mine\n"


def test_the_model_card_tells_the_numbers_of_the_card(encoder, tmp_path):
    card = read_json(encoder / "encoder.json")
    out = prepare(encoder, tmp_path / "out", "me/enc", license="apache-2.0")
    text = (out / "README.md").read_text()
    metadata = metadata_load(out / "README.md")
    assert (metadata["library_name"], metadata["license"]) == ("worldplan", "apache-2.0")
    assert metadata["pipeline_tag"] == "image-feature-extraction"
    assert "# enc\n" in text
    assert "the world `arm2`, 64 x 64 pixels, to a latent of 2" in text
    assert f"| held out: J | {card['validation']['J']:.4g} |" in text
    assert f"| SHA-256 of the weights | {card['sha256']} |" in text
    assert "| latent | circle, line |" in text
    assert f"\n    {card['command']}\n" in text
    assert "Licence: apache-2.0." in text


def test_the_model_card_of_an_agent(agent, tmp_path):
    fit = read_json(agent / "fit.json")
    out = prepare(agent, tmp_path / "out", "me/agent")
    text = (out / "README.md").read_text()
    assert "license" not in metadata_load(out / "README.md")
    assert "No licence was given" in text
    assert f"| closed loop radius | {fit['closed_loop_radius']:.6g} |" in text
    assert f"| environment steps | {fit['environment_steps']} |" in text
    assert fit["verdict"] in text
    assert 'wp.agents.load_agent("hf://me/agent")' in text


def test_a_card_cannot_break_out_of_the_model_card(encoder):
    forge(encoder / "encoder.json", command="a\n---\nlicense: evil\n| b |", validation={"a": "x", "J": 1.5, "on": True})
    text = model_card(load_encoder(encoder), "hf://me/enc")
    assert text.count("\n---\n") == 1
    assert "held out: J | 1.5" in text
    assert "held out: a" not in text
    assert "held out: on" not in text


def test_the_code_of_the_model_card_runs(signed, agent, encoder):
    for folder, name in ((encoder, "me/enc"), (agent, "me/agent")):
        push_to_hub(folder, name)
        repository = signed.repositories[name]
        text = repository.commits[repository.branches["main"]]["README.md"].decode()
        observation = {"observation": FRAMES, "desired_goal": FRAMES[::-1]}
        known = {"frames": FRAMES, "observation": observation, "state": None}
        exec(text.partition("```python\n")[2].partition("```")[0], known)
        assert len(known.get("latents", known.get("action"))) == 3
