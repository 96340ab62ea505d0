"""Files of strangers: no name in one leads out of its folder, and no size in one is believed before it is checked."""

import json
import resource
import shutil

import h5py
import numpy as np
import pytest
from forged import forge

from worldplan.agents.planning_agent import PlanningAgent, load_agent
from worldplan.data.episodes import EpisodeDataset
from worldplan.data.files import inside, read_json, sha256, write_json
from worldplan.data.own import save_episodes
from worldplan.data.pairs import PairDataset
from worldplan.data.pictures import square_frames
from worldplan.data.recipes import EpisodeConfig
from worldplan.data.shards import MANIFEST, UNFINISHED, digest, open_array
from worldplan.envs.datasets import hdf5
from worldplan.envs.datasets.episodes import record_episodes
from worldplan.envs.datasets.frames import draw_frames
from worldplan.envs.datasets.hdf5 import export_hdf5, import_hdf5
from worldplan.envs.datasets.pairs import collect_pairs
from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rollout import rollout
from worldplan.envs.worlds import OUWorld
from worldplan.errors import BadFile, InvalidInput, UnknownName
from worldplan.learning.encoder import load_encoder

OUTSIDE = [
    "../victim.npy",
    "{}/victim.npy",
    "/proc/self/root{}/victim.npy",
    "a/../../victim.npy",
    "..",
    "",
    ".hidden.npy",
    "x\\y.npy",
]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    home = tmp_path_factory.mktemp("strangers")
    collect_pairs(OUWorld(), 3, home / "pairs", with_labels=True)
    record_episodes(None, home / "episodes", EpisodeConfig(episodes=3, steps=4))
    draw_frames(home / "episodes", "fast")
    load_encoder("reacher-ou-90").save(home / "elsewhere")
    other = load_agent("reacher-lejepa")
    PlanningAgent(load_encoder(home / "elsewhere"), other.dynamics, other.cost).save(home / "agent")
    return home


@pytest.fixture
def home(originals, tmp_path):
    return shutil.copytree(originals, tmp_path / "home")


def rewrite(folder, change):
    """Change a manifest and give it the right hash, as its author could."""
    manifest = read_json(folder / MANIFEST)
    manifest.pop("sha256")
    change(manifest)
    write_json(folder / MANIFEST, {**manifest, "sha256": digest(manifest)})


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_plain_name_is_a_path_in_the_folder(tmp_path):
    assert inside(tmp_path, "frames-00000.npy", ".npy") == tmp_path / "frames-00000.npy"


@pytest.mark.parametrize("name", [*OUTSIDE, None, 3, ["a"], "a" * 300, "a\0.npy", "manifest.json"])
def test_other_names_are_refused(tmp_path, name):
    with pytest.raises(BadFile, match="plain name"):
        inside(tmp_path, name.format(tmp_path) if isinstance(name, str) else name, ".npy")


def test_links_may_not_leave_the_folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "own.npy").touch()
    (tmp_path / "out.npy").touch()
    for name, to in (("good.npy", "own.npy"), ("bad.npy", "../out.npy"), ("loop.npy", "loop.npy")):
        (tmp_path / "in" / name).symlink_to(to)
    assert inside(tmp_path / "in", "good.npy").exists()
    with pytest.raises(BadFile, match="link out of its folder"):
        inside(tmp_path / "in", "bad.npy")
    (tmp_path / "same").symlink_to("in")  # the folder itself may be a link
    assert inside(tmp_path / "same", "good.npy").exists()


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize(
    ("kind", "array"),
    [("pairs", "frames"), ("pairs", "labels"), ("episodes", "frames"), ("episodes", "qpos"), ("episodes", "target")],
)
def test_a_manifest_that_names_a_file_elsewhere_is_refused(home, kind, array, name):
    victim, folder = home / "victim.npy", home / kind
    shutil.copy(folder / f"{array}-00000.npy" if array != "frames" else next(folder.glob("frames-*")), victim)
    before = victim.read_bytes()
    named = {"file": name.format(home), "sha256": sha256(victim)}  # shape and hash are right
    rewrite(folder, lambda manifest: manifest["shards"][0].update({array: named}))
    with pytest.raises(BadFile, match="plain name"):
        (PairDataset if kind == "pairs" else EpisodeDataset)(folder)
    if kind == "episodes":
        with pytest.raises(BadFile, match="plain name"):
            draw_frames(folder, "dmc")
    assert victim.read_bytes() == before


def test_an_unfinished_dataset_that_names_a_file_elsewhere_is_refused(home):
    folder, victim = home / "episodes", home / "victim.npy"
    victim.write_bytes(b"precious")
    shards = [dict(shard) for shard in EpisodeDataset(folder).shards]
    shards[0]["frames"] = {"file": "../victim.npy", "sha256": sha256(victim)}
    data = EpisodeDataset(folder)
    recipe = {"frames": {"look": "dmc", "seed": 0, "nuisances": None}, "of": data.manifest_sha256}
    write_json(folder / UNFINISHED, {"recipe": recipe, "shards": shards, "done": 0})
    with pytest.raises(BadFile, match="plain name"):
        draw_frames(folder, "dmc", resume=True)
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["../elsewhere", "{}/elsewhere", "elsewhere"])
def test_an_agent_whose_encoder_is_elsewhere_is_refused(home, name, monkeypatch):
    monkeypatch.chdir(home)
    forge(home / "agent" / "agent.json", encoder=name.format(home))
    with pytest.raises((BadFile, UnknownName), match=r"plain name|unknown encoder"):
        load_agent(home / "agent")


def test_an_agent_whose_encoder_is_a_link_is_refused(home):
    shutil.rmtree(home / "agent" / "encoder")
    (home / "agent" / "encoder").symlink_to(home / "elsewhere")
    with pytest.raises(BadFile, match="link out of its folder"):
        load_agent(home / "agent")


# --- HDF5 -------------------------------------------------------------------------------------------------------------


def external(file, path):
    with h5py.File(path.with_name("other.hdf5"), "w") as other:
        other["secret"] = np.zeros((4, 2))
    file["episode_0/actions"] = h5py.ExternalLink("other.hdf5", "/secret")


def soft(file, path):
    file["episode_0/spare"] = np.zeros((4, 2))
    file["episode_0/actions"] = h5py.SoftLink("/episode_0/spare")


def group(file, path):
    with h5py.File(path.with_name("other.hdf5"), "w") as other:
        other["infos/qpos"] = np.zeros((5, 2))
    del file["episode_0/infos"]
    file["episode_0/infos"] = h5py.ExternalLink("other.hdf5", "/infos")
    file["episode_0/actions"] = np.zeros((4, 2))


def claims(file, path):
    file.create_dataset(
        "episode_0/actions", (2**31, 2), float, chunks=(1024, 2), compression="gzip"
    )  # 34 GB of nothing


@pytest.mark.parametrize(
    ("plant", "says"),
    [(external, "is a link"), (soft, "is a link"), (group, "is a link"), (claims, "stored cannot hold")],
)
def test_hdf5_that_leads_elsewhere_or_claims_too_much_is_refused(tmp_path, plant, says):
    path = export_hdf5(rollout(ReacherGoal(pixels=False), None, 1, steps=4), tmp_path / "data.hdf5")
    with h5py.File(path, "a") as file:
        del file["episode_0/actions"]
        plant(file, path)
    with pytest.raises(BadFile, match=says):
        import_hdf5(path)


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"hidden": 10**6}, {"width": 2000}, {"latent_dim": 10**7}, {"hidden": 65}])
def test_sizes_in_a_card_take_no_memory_before_the_weights_confirm_them(home, wrong):
    card = read_json(home / "elsewhere" / "encoder.json")
    forge(home / "elsewhere" / "encoder.json", network={**card["network"], **wrong})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadFile, match="holds no weights of this network"):
        load_encoder(home / "elsewhere")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB; the network would take GB


def test_sizes_in_a_header_take_no_memory(home):
    path = next((home / "episodes").glob("qpos-*"))
    header = json.dumps({"descr": "<f8", "fortran_order": False, "shape": [10**9, 5, 2]})
    text = header.replace("[", "(").replace("]", ")").replace("false", "False").encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117) + b"\n" + bytes(64))
    rewrite(home / "episodes", lambda m: m["shards"][0]["qpos"].update(sha256=sha256(path)))
    for call in (lambda: EpisodeDataset(home / "episodes").load(), lambda: draw_frames(home / "episodes", "fast")):
        with pytest.raises(BadFile, match="cut off"):
            call()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["shards"][0].update(episodes=10**12),
        lambda m: m["shards"][0].update(steps="4"),
        lambda m: m["shards"][0].update(episodes=True),
        lambda m: m["shards"][0].pop("test"),
        lambda m: m["shards"][0].update(test=[True]),
        lambda m: m.update(shards={}),
        lambda m: m.update(shards=[3]),
        lambda m: m.pop("shards"),
        lambda m: m["shards"][0]["qpos"].pop("sha256"),
    ],
)
def test_a_manifest_of_another_form_is_refused(home, change):
    rewrite(home / "episodes", change)
    with pytest.raises(BadFile):
        EpisodeDataset(home / "episodes")


@pytest.mark.parametrize(("old", "new"), [(b"}", b" "), (b"(", b"["), (b"'shape'", b"[((((((")])
def test_a_damaged_header_of_an_array_is_a_typed_error(tmp_path, old, new):
    """NumPy tries to read it as Python, and raises what Python raises."""
    np.save(tmp_path / "x.npy", np.zeros((4, 3)))
    whole = (tmp_path / "x.npy").read_bytes()
    assert len(old) == len(new) and old in whole
    (tmp_path / "x.npy").write_bytes(whole.replace(old, new, 1))
    with pytest.raises(BadFile, match=r"no \.npy file"):
        open_array(tmp_path / "x.npy", (4, 3), np.float64)


def test_an_hdf5_file_that_goes_in_circles_comes_to_an_end(tmp_path):
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        group = file.create_group("a")
        group["b"] = group["c"] = group
    hdf5.check_harmless(tmp_path / "x.hdf5")


def test_an_hdf5_file_that_kills_its_reader_is_a_typed_error(tmp_path, monkeypatch):
    """Some damages crash the HDF5 library: another process reads the file first."""
    (tmp_path / "x.hdf5").write_bytes(b"")
    hdf5.check_harmless(tmp_path / "x.hdf5")  # no HDF5, and no harm
    deadly = tmp_path / "hdf5_trial.py"
    deadly.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(hdf5, "__file__", str(deadly))
    with pytest.raises(BadFile, match=r"dies of it \(signal 11\)"):
        hdf5.check_harmless(tmp_path / "x.hdf5")


@pytest.mark.parametrize("size", [0, -3, 1.5, "64", None, 5000, 10**7])
def test_a_size_of_frames_is_checked_before_memory_is_taken(size, tmp_path):
    frames, actions = np.zeros((3, 8, 8, 3), np.uint8), np.array([[0.0], [1.0]])
    with pytest.raises(InvalidInput, match=r"size|pixels a side"):
        square_frames(frames, size)
    with pytest.raises(InvalidInput, match=r"size|pixels a side"):
        save_episodes(tmp_path, [frames], [actions], size=size)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"test_share": x} for x in (2, -0.1, np.nan, "x", None, [0.1])] + [{"seed": -1}])
def test_a_split_of_other_shares_is_refused(options, tmp_path):
    frames, actions = np.zeros((3, 64, 64, 3), np.uint8), np.array([[0.0], [1.0]])
    with pytest.raises(InvalidInput, match=next(iter(options))):
        save_episodes(tmp_path, [frames], [actions], **options)
    assert not list(tmp_path.iterdir())
    assert (
        save_episodes(tmp_path / "a", [frames], [actions], test_share=np.float32(0), seed=np.int64(1)).verify() is None
    )
