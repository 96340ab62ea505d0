"""`hf://OWNER/NAME@REVISION`: the client of the Hugging Face hub against a hub on loopback, honest and not."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from forged import forge
from huggingface_hub import constants
from loopback import TOKEN, Repository

from worldplan import provenance
from worldplan.agents.actor import load_policy
from worldplan.agents.planning_agent import PlanningAgent, load_agent
from worldplan.data import cards, hub as client
from worldplan.data.cards import ZOO
from worldplan.data.world_card import world_of
from worldplan.errors import BadFile, HubError, InvalidInput, MissingExtra, UnknownName
from worldplan.learning.encoder import find_encoder, load_encoder

ENCODER = ZOO / "encoders" / "reacher-ou-90"
OTHER = ZOO / "encoders" / "reacher-ou-50"
FRAMES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
OUTSIDE = ["../victim.safetensors", "/etc/victim.safetensors", "a/../../victim.safetensors", "..", "", ".hidden", 3]


def files(folder):
    """Files of a folder by their names in a repository."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def forget():
    """Another process: it has read nothing yet."""
    client._FOLDERS.clear()
    provenance._COMMITS.clear()


def cached():
    """Files in the client's cache, without its locks, by the last part of their names."""
    found = Path(constants.HF_HUB_CACHE).rglob("*")
    return sorted(path.name for path in found if path.is_file() and ".locks" not in path.parts)


@pytest.fixture
def repository(hub):
    """me/enc, with an encoder in the midst of other files."""
    made = hub.repositories["me/enc"] = Repository()
    made.commit(files(ENCODER) | {"evil.pkl": b"\x80\x04.", "pytorch_model.bin": b"x", "encoder.py": b"exit()"})
    return made


@pytest.fixture(scope="module")
def agents(tmp_path_factory):
    """An agent with an encoder of its own, by its files."""
    home = tmp_path_factory.mktemp("agent")
    shutil.copytree(ENCODER, home / "encoder")
    base = load_agent("reacher-lejepa")
    PlanningAgent(load_encoder(home / "encoder"), base.dynamics, base.cost).save(home / "agent")
    (home / "agent" / "fit.json").write_text('{"verdict": "fits"}')
    (home / "agent" / "notes.txt").write_text("mine")
    return files(home / "agent")


# --- what is read ---------------------------------------------------------------------------------------------------


def test_an_encoder_comes_and_nothing_else(hub, repository):
    encoder = load_encoder("hf://me/enc")
    np.testing.assert_array_equal(encoder(FRAMES), load_encoder(ENCODER)(FRAMES))
    assert encoder.name == f"hf://me/enc@{repository.branches['main']}"
    assert world_of(encoder.card).name == "reacher"
    assert hub.downloads() == ["encoder.json", "encoder.safetensors"]
    assert not {"evil.pkl", "pytorch_model.bin", "encoder.py", "log.jsonl"} & set(cached())
    assert Path(huggingface_hub.hf_hub_download("me/enc", "evil.pkl")).is_file()  # it is there for who asks


def test_an_agent_comes_with_its_encoder(hub, agents):
    made = hub.repositories["me/agent"] = Repository()
    made.commit(agents)
    agent = load_agent("hf://me/agent")
    assert agent.encoder.name == f"hf://me/agent@{made.branches['main']}/encoder"
    assert hub.downloads() == ["agent.json", "fit.json", "encoder/encoder.json", "encoder/encoder.safetensors"]
    observation = {"observation": FRAMES, "desired_goal": FRAMES[::-1]}
    base = load_agent("reacher-lejepa")
    expected, _ = PlanningAgent(load_encoder(ENCODER), base.dynamics, base.cost).predict(observation)
    np.testing.assert_array_equal(agent.predict(observation)[0], expected)
    assert load_agent("hf://me/agent", planner="mpc", horizon=3).planner == "mpc"


def test_an_agent_of_a_shipped_encoder_takes_that(hub):
    made = hub.repositories["me/agent"] = Repository()
    made.commit({"agent.json": (ZOO / "agents/reacher/agent.json").read_bytes()})
    assert load_agent("hf://me/agent").encoder.name == "reacher-excitation"
    assert hub.downloads() == ["agent.json"]
    constants.HF_HUB_OFFLINE = True
    forget()
    assert load_agent("hf://me/agent").encoder.name == "reacher-excitation"  # also without the fit.json that is nowhere


def test_a_policy_comes_too(hub):
    made = hub.repositories["me/policy"] = Repository()
    made.commit(files(ZOO / "policies" / "reacher-easy"))
    assert load_policy("hf://me/policy").card == load_policy("reacher-easy").card
    assert hub.downloads() == ["policy.json", "policy.safetensors"]


def test_a_branch_a_tag_and_a_commit(hub, repository):
    first = repository.branches["v1"] = repository.branches["main"]
    repository.branches["refs/pr/1"] = repository.commit(files(OTHER))
    ours, others = (load_encoder(folder)(FRAMES) for folder in (ENCODER, OTHER))
    for revision, expected in (("v1", ours), (first, ours), ("main", others), ("refs/pr/1", others)):
        np.testing.assert_array_equal(load_encoder(f"hf://me/enc@{revision}")(FRAMES), expected)
    assert not np.array_equal(ours, others)
    np.testing.assert_array_equal(find_encoder("hf://me/enc@v1")(FRAMES), ours)


def test_a_process_sees_one_commit_and_tells_which(hub, repository):
    assert "hub" not in provenance.provenance("", 0)
    first = repository.branches["main"]
    load_encoder("hf://me/enc")
    second = repository.commit(files(OTHER))
    assert load_encoder("hf://me/enc").name.endswith(first)
    assert provenance.provenance("", 0)["hub"] == {"hf://me/enc": first}
    forget()
    assert load_encoder("hf://me/enc").name.endswith(second)
    assert provenance.provenance("", 0)["hub"] == {"hf://me/enc": second}


def test_a_path_is_a_folder(hub, repository, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownName, match="hf:/me/enc"):
        load_encoder(Path("hf://me/enc"))
    shutil.copytree(OTHER, "hf:/me/enc")
    for name in (Path("hf://me/enc"), "./hf:/me/enc"):
        np.testing.assert_array_equal(load_encoder(name)(FRAMES), load_encoder(OTHER)(FRAMES))
    assert hub.asked == []


# --- the cache and no network ---------------------------------------------------------------------------------------


def test_what_is_in_the_cache_is_not_fetched_again(hub, repository, monkeypatch):
    load_encoder("hf://me/enc")
    pinned = f"hf://me/enc@{repository.branches['main']}"
    hub.asked.clear()
    forget()
    load_encoder("hf://me/enc")
    assert hub.asked == ["GET /api/models/me/enc/revision/main"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for address in ("hf://me/enc", pinned):
        forget()
        assert load_encoder(address).name == pinned
    assert len(hub.asked) == 1


@pytest.mark.parametrize("address", ["hf://me/enc", "hf://me/enc@" + "1" * 40])
def test_offline_without_a_cache(hub, repository, address, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="needs the hub, and HF_HUB_OFFLINE is set"):
        load_encoder(address)
    assert hub.asked == []


@pytest.mark.parametrize("fault", ["no server", "broken server"])
def test_a_hub_out_of_reach(hub, repository, fault, monkeypatch):
    load_encoder("hf://me/enc")
    forget()
    if fault == "no server":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    else:
        hub.lies["status"] = 503
    with pytest.warns(UserWarning, match=f"taken from the cache: {repository.branches['main']}"):
        load_encoder("hf://me/enc")
    with pytest.raises(HubError, match="cannot be reached" if fault == "no server" else "503"):
        load_encoder("hf://me/other")


def test_who_downloaded_it_by_other_means_reads_it_offline(hub, repository, monkeypatch):
    for name in ("encoder.json", "encoder.safetensors"):
        huggingface_hub.hf_hub_download("me/enc", name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_encoder("hf://me/enc").latent_dim == 2


def test_a_revision_that_points_to_half_a_commit_is_noticed(hub, repository, monkeypatch):
    load_encoder("hf://me/enc")
    repository.commit(files(OTHER))
    huggingface_hub.hf_hub_download("me/enc", "encoder.json")  # the client alone moves the branch with the first file
    forget()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        load_encoder("hf://me/enc")


# --- what cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["hf://", "hf://enc", "hf://me/enc/more", "hf://me/../enc", "hf://../me", "hf://me/enc@", "hf://me/enc@../../x"]
    + ["hf://me/enc@a b", "hf://me/enc?x=1", "hf://me/enc#x", "hf://me/.enc", "hf://mé/enc", "hf://me/enc@-x"],
)
def test_other_addresses(hub, address):
    with pytest.raises(InvalidInput, match="the form is hf://OWNER/NAME"):
        load_encoder(address)
    assert hub.asked == []


@pytest.mark.parametrize("name", ["me/none", "me/a--b", "me/private"])
def test_no_such_repository(hub, name):
    hub.repositories["me/private"] = Repository(private=True)
    with pytest.raises(HubError, match=r"no such repository.*hf auth login|refuses: .*--"):
        load_encoder(f"hf://{name}")
    assert cached() == []


def test_no_such_revision(hub, repository):
    for revision in ("nothing", "1" * 40):
        with pytest.raises(HubError, match="no such revision"):
            load_encoder(f"hf://me/enc@{revision}")


@pytest.mark.parametrize(("kind", "said"), [("private", "if it is private"), ("gated", "is gated: ask for access")])
def test_a_door_that_a_token_opens(hub, repository, kind, said, monkeypatch):
    setattr(repository, kind, True)
    with pytest.raises(HubError, match=said) as caught:
        load_encoder("hf://me/enc")
    assert "HF_TOKEN" in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert load_encoder("hf://me/enc").latent_dim == 2


def test_without_the_extra(hub, repository, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"hf://me/enc needs .*pip install 'worldplan\[hub\]'"):
        load_encoder("hf://me/enc")


def test_the_error_travels_between_processes():
    copy = pickle.loads(pickle.dumps(HubError("hf://me/enc", "is gone")))
    assert (copy.address, copy.reason, str(copy)) == ("hf://me/enc", "is gone", "hf://me/enc: is gone")


# --- hubs and repositories that lie ---------------------------------------------------------------------------------


def altered(folder, **changes):
    forge(folder / "encoder.json", **changes)


BAD = {
    "of another format": (lambda f: altered(f, format=9), "is of format 9, this worldplan reads 1"),
    "an altered card": (lambda f: swap(f / "encoder.json", b'"latent_dim": 2', b'"latent_dim": 3'), "was altered"),
    "altered weights": (lambda f: flip(f / "encoder.safetensors"), "does not match the SHA-256"),
    "half the weights": (lambda f: cut(f / "encoder.safetensors"), "does not match the SHA-256"),
    "no JSON": (lambda f: (f / "encoder.json").write_bytes(b"\x80\x04."), "cannot be read as JSON"),
    "no card": (lambda f: (f / "encoder.json").unlink(), "encoder.json: no such file"),
    "no weights": (lambda f: (f / "encoder.safetensors").unlink(), "encoder.safetensors: no such file"),
    "a pickle": (lambda f: altered(f, file="evil.pkl"), "not a plain name of a file \\*.safetensors"),
    "weights elsewhere": (lambda f: altered(f, file="../../x.safetensors"), "not a plain name"),
}


def swap(path, old, new):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def flip(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_commit_is_refused_and_the_old_one_stays(hub, repository, fault, tmp_path, monkeypatch):
    first = repository.branches["main"]
    load_encoder("hf://me/enc")
    spoil, said = BAD[fault]
    shutil.copytree(ENCODER, tmp_path / "bad")
    spoil(tmp_path / "bad")
    gone = dict.fromkeys(files(ENCODER))  # None: no longer there
    second = repository.commit(gone | files(tmp_path / "bad"))
    forget()
    hub.asked.clear()
    for address in ("hf://me/enc", f"hf://me/enc@{second}"):
        with pytest.raises(BadFile, match=rf"hf://me/enc@{second}: .*{said}.* hf cache rm model/me/enc"):
            load_encoder(address)
    assert set(hub.downloads()) <= {"encoder.json", "encoder.safetensors"}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_encoder("hf://me/enc").name.endswith(first)
    assert provenance.provenance("", 0)["hub"] == {"hf://me/enc": first}


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_agent_whose_encoder_is_elsewhere(hub, agents, name, tmp_path):
    (tmp_path / "agent.json").write_bytes(agents["agent.json"])
    forge(tmp_path / "agent.json", encoder=name)
    made = hub.repositories["me/agent"] = Repository()
    made.commit(agents | files(tmp_path))
    with pytest.raises(BadFile, match="plain name"):
        load_agent("hf://me/agent")
    assert hub.downloads() == ["agent.json", "fit.json"]


def test_an_agent_with_the_encoder_of_another(hub, agents):
    made = hub.repositories["me/agent"] = Repository()
    made.commit(agents | {f"encoder/{name}": content for name, content in files(OTHER).items()})
    with pytest.raises(BadFile, match="was fitted to another encoder"):
        load_agent("hf://me/agent")


def test_an_agent_is_no_encoder(hub, agents):
    hub.repositories["me/agent"] = Repository()
    hub.repositories["me/agent"].commit(agents)
    with pytest.raises(BadFile, match=r"encoder\.json: no such file"):
        load_encoder("hf://me/agent")


SIZE = (ENCODER / "encoder.safetensors").stat().st_size
WEIGHTS = (ENCODER / "encoder.safetensors").read_bytes()
LIES = {
    "too large": (2**33, WEIGHTS, BadFile, r"larger than the 4096 MiB"),
    "too large for the client": (2**40, WEIGHTS, HubError, "too large"),
    "larger than told": (SIZE // 2, WEIGHTS, HubError, "broke off .*should be of size"),
    "smaller than told": (SIZE + 9, WEIGHTS, HubError, "broke off .*should be of size"),
    "small, and endless": (SIZE, bytes(2**25), BadFile, r"larger than the 16 MiB"),
}


@pytest.mark.filterwarnings("ignore:Not enough free disk space")
@pytest.mark.parametrize("lie", LIES)
def test_sizes_that_lie(hub, repository, lie, monkeypatch):
    told, sent, error, said = LIES[lie]
    if lie == "small, and endless":
        monkeypatch.setattr(cards, "_WEIGHTS", 2**24)
    hub.lies["encoder.safetensors"] = told, sent
    with pytest.raises(error, match=said):
        load_encoder("hf://me/enc")
    left = [path for path in Path(constants.HF_HUB_CACHE).rglob("*") if path.is_file() and path.stat().st_size > 2**14]
    assert left == []
    del hub.lies["encoder.safetensors"]
    assert load_encoder("hf://me/enc").latent_dim == 2


@pytest.mark.parametrize("sha", ["../../../etc", "main", None, 3])
def test_a_hub_that_names_no_commit(hub, repository, sha):
    hub.lies["sha"] = sha
    with pytest.raises(HubError, match="names no commit"):
        load_encoder("hf://me/enc")
    assert cached() == []


@pytest.mark.parametrize("answer", [b"<html>log in</html>", b"[]", b"{}"])
def test_a_server_that_is_no_hub(hub, repository, answer):
    hub.lies["info"] = answer
    with pytest.raises(HubError, match="answered, or its client refuses"):
        load_encoder("hf://me/enc")


def test_a_damaged_cache_is_noticed(hub, repository):
    load_encoder("hf://me/enc")
    (weights,) = Path(constants.HF_HUB_CACHE).glob("models--me--enc/snapshots/*/encoder.safetensors")
    flip(weights)
    forget()
    with pytest.raises(BadFile, match="if the local cache is damaged, clear it: hf cache rm model/me/enc"):
        load_encoder("hf://me/enc")
    shutil.rmtree(Path(constants.HF_HUB_CACHE) / "models--me--enc")  # what that command does
    assert load_encoder("hf://me/enc").latent_dim == 2


def test_what_goes_wrong_leaves_no_folder(hub, repository, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    repository.commit({"encoder.json": json.dumps({"format": 1}).encode()})
    with pytest.raises(BadFile):
        load_encoder("hf://me/enc")
    assert list(tmp_path.iterdir()) == []


# --- kills, in another process and with the variables of the environment --------------------------------------------

LOAD = "import sys, worldplan as wp; print(wp.load_encoder(sys.argv[1]).name)"


@pytest.fixture
def elsewhere(hub, tmp_path):
    """Starts Python in another process, which knows the hub by the environment alone."""
    known = {"HF_ENDPOINT": constants.ENDPOINT, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    known["TMPDIR"] = str(tmp_path)  # who is killed leaves files there

    def start(code, *arguments, **more):
        words = [sys.executable, "-c", code, *arguments]
        environment = {**os.environ, **known, **more}
        return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.mark.slow
def test_a_kill_amid_a_download_leaves_the_old_commit(hub, repository, elsewhere, tmp_path):
    first = repository.branches["main"]
    assert elsewhere(LOAD, "hf://me/enc").communicate()[0] == f"hf://me/enc@{first}\n"
    second = repository.commit(files(OTHER))
    hub.held["encoder.safetensors"] = threading.Event()
    downloading = elsewhere(LOAD, "hf://me/enc")
    assert hub.reached.wait(60)
    downloading.kill()
    hub.held.pop("encoder.safetensors").set()
    assert downloading.communicate()[0] == ""
    home = tmp_path / "home" / "hub" / "models--me--enc"
    assert {path.name for path in (home / "snapshots" / second).iterdir()} == {"encoder.json"}  # it was on its way
    offline, _ = elsewhere(LOAD, "hf://me/enc", HF_HUB_OFFLINE="1").communicate()
    assert offline == f"hf://me/enc@{first}\n"
    online, _ = elsewhere(LOAD, "hf://me/enc").communicate()
    assert online == f"hf://me/enc@{second}\n"
