"""Datasets of positive pairs: reproducible bytes, independent nuisances, labels out of reach, damage noticed."""

import errno
import itertools
import json
import shutil

import numpy as np
import pytest

from worldplan.data.files import sha256
from worldplan.data.pairs import FORMAT, PairDataset, load_labels
from worldplan.data.recipes import Nuisances
from worldplan.data.shards import MANIFEST, ShardWriter
from worldplan.envs.datasets import pairs as collect
from worldplan.envs.datasets.frames import draw_nuisances
from worldplan.envs.datasets.pairs import collect_pairs
from worldplan.envs.fingerprint import render_fingerprint
from worldplan.envs.rendering import TARGET_SIZE, render_frames
from worldplan.envs.worlds import OUWorld
from worldplan.errors import BadFile, InvalidInput

WORLD = OUWorld(rho=0.9, scale=(0.9, 0.9), views=3)
PAIRS, SHARD = 10, 4  # three shards, the last one short
ARGUMENTS = {"seed": 3, "with_labels": True, "command": "worldplan collect ou"}


@pytest.fixture(scope="module", autouse=True)
def small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "_SHARD", SHARD)
        yield


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return collect_pairs(WORLD, PAIRS, tmp_path_factory.mktemp("pairs") / "data", **ARGUMENTS)


@pytest.fixture
def folder(original, tmp_path):
    """A copy to damage."""
    return shutil.copytree(original, tmp_path / "data")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- collecting -----------------------------------------------------------------------------------------------------


def test_bytes_are_the_same_from_one_and_from_two_processes(original, tmp_path):
    assert contents(collect_pairs(WORLD, PAIRS, tmp_path / "two", processes=2, **ARGUMENTS)) == contents(original)


def test_another_seed_gives_other_pairs_throughout(original, tmp_path):
    other = PairDataset(collect_pairs(WORLD, PAIRS, tmp_path / "other", seed=4))
    mine = PairDataset(original)[np.arange(PAIRS)]
    assert (mine != other[np.arange(PAIRS)]).any(axis=(2, 3, 4)).all()
    distinct = {frame.tobytes() for frame in mine.reshape(-1, 64, 64, 3)}
    assert len(distinct) == PAIRS * WORLD.views  # shards do not repeat each other either


def test_frames_show_the_labels(original):
    """The label of a view drawn again without its nuisances lies nearer to its frame than every other label does."""
    dataset = PairDataset(original)
    angles = load_labels(original)
    assert (len(dataset), dataset.views) == (PAIRS, 3)
    assert angles.shape == (PAIRS, 3, 2)
    frames = dataset[np.arange(PAIRS)].reshape(-1, 64, 64, 3).astype(float)
    looks = [render_frames(angles.reshape(-1, 2), None, profile).astype(float) for profile in ("dmc", "fast")]
    apart = np.min([np.abs(frames[:, None] - look[None]).mean(axis=(2, 3, 4)) for look in looks], axis=0)
    np.testing.assert_array_equal(apart.argmin(axis=1), np.arange(len(frames)))


def test_views_have_independent_nuisances_of_the_chosen_frequencies():
    targets, profiles = draw_nuisances(Nuisances(), 4000, np.random.default_rng(0))
    shown, stock = targets[:, 2] > 0, np.array(profiles) == "dmc"
    assert set(profiles) == {"dmc", "fast"}
    assert set(targets[shown, 2]) == set(TARGET_SIZE.values())
    noise = 4 * 0.5 / np.sqrt(4000)
    small = targets[shown, 2] == TARGET_SIZE["hard"]
    assert [stock.mean(), shown.mean(), small.mean()] == pytest.approx([0.75, 0.85, 0.75], abs=noise)
    columns = np.stack([*targets.T[:2], shown, stock])
    one_view, next_view = columns[:, 0::2], columns[:, 1::2]
    across = np.corrcoef(one_view, next_view)[:4, 4:]
    assert np.abs(across).max() < 5 / np.sqrt(2000)  # views of a pair stand one after the other in the draw
    same = np.corrcoef(one_view, one_view)[:4, 4:]  # negative control: nuisances that are shared would show
    assert np.abs(same).max() > 0.99


def test_views_of_one_pair_differ_though_the_arm_does_not(tmp_path):
    """With rho so close to 1 that the arm stands still, what is left are the nuisances."""
    still = OUWorld(rho=1 - 1e-12, views=4)

    def apart(**nuisances):
        """Differences (pairs x 6) between the views of each pair."""
        folder = collect_pairs(still, 3, tmp_path / str(nuisances), seed=0, nuisances=Nuisances(**nuisances))
        views = PairDataset(folder)[np.arange(3)].astype(float)
        return np.abs(views[:, :, None] - views[:, None]).mean(axis=(3, 4, 5))[:, *np.triu_indices(4, 1)]

    assert (apart() > 0.05).all()
    assert (apart(stock=1.0, hidden=1.0) < 0.01).all()  # negative control: nothing left to differ in


def test_the_manifest_tells_where_the_data_came_from(original):
    provenance = PairDataset(original).provenance
    assert provenance["command"] == "worldplan collect ou"
    assert (provenance["seed"], provenance["pairs"]) == (3, PAIRS)
    assert OUWorld(**{**provenance["world"], "scale": tuple(provenance["world"]["scale"])}) == WORLD
    assert Nuisances(**provenance["nuisances"]) == Nuisances()
    assert provenance["render"] == render_fingerprint()
    assert [s["shape"][0] for s in PairDataset(original).manifest["shards"]] == [4, 4, 2]


def stop_after(count):
    def stop(shards, total):
        yield from itertools.islice(shards, count)
        raise KeyboardInterrupt

    return stop


def test_an_interrupt_while_collecting_leaves_no_dataset_and_what_is_done_is_resumed(original, tmp_path, monkeypatch):
    folder = tmp_path / "data"
    with pytest.raises(KeyboardInterrupt):
        collect_pairs(WORLD, PAIRS, folder, progress=stop_after(2), **ARGUMENTS)
    with pytest.raises(BadFile, match="--resume"):
        PairDataset(folder)
    with pytest.raises(BadFile, match="--resume"):  # nor is the work thrown away unasked
        collect_pairs(WORLD, PAIRS, folder, **ARGUMENTS)
    with pytest.raises(BadFile, match="another seed"):
        collect_pairs(WORLD, PAIRS, folder, resume=True, **{**ARGUMENTS, "seed": 4})
    times = {path.name: path.stat().st_mtime_ns for path in folder.glob("frames-*")}
    assert len(times) == 2
    assert contents(collect_pairs(WORLD, PAIRS, folder, resume=True, **ARGUMENTS)) == contents(original)
    assert all((folder / name).stat().st_mtime_ns == time for name, time in times.items())  # not drawn again


def test_where_nothing_was_begun_resuming_starts(original, tmp_path):
    folder = collect_pairs(WORLD, PAIRS, tmp_path / "data", resume=True, **ARGUMENTS)
    assert contents(folder) == contents(original)


def test_a_full_disk_costs_one_shard_at_most(original, tmp_path, monkeypatch):
    folder, save, saved = tmp_path / "data", np.save, []

    def full(stream, array):
        if len(saved) == 3:  # frames and labels of the first shard, frames of the second
            stream.write(b"half a file")
            raise OSError(errno.ENOSPC, "No space left on device")
        saved.append(save(stream, array))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(np, "save", full)
        collect_pairs(WORLD, PAIRS, folder, **ARGUMENTS)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]  # no half file
    assert contents(collect_pairs(WORLD, PAIRS, folder, resume=True, **ARGUMENTS)) == contents(original)


def test_a_finished_dataset_is_not_overwritten(folder):
    before = contents(folder)
    with pytest.raises(BadFile, match="already holds a dataset"):
        collect_pairs(WORLD, 2, folder)
    assert contents(folder) == before


@pytest.mark.parametrize(
    "wrong",
    [{"pairs": 0}, {"pairs": -1}, {"processes": 0}, {"nuisances": {"hidden": 1.5}}, {"nuisances": {"stock": -1}}],
    ids=str,
)
def test_bad_arguments_write_nothing(tmp_path, wrong):
    with pytest.raises(InvalidInput):
        nuisances = Nuisances(**wrong.pop("nuisances", {}))
        collect_pairs(WORLD, **{"pairs": 2, "folder": tmp_path / "data", "nuisances": nuisances, **wrong})
    assert list(tmp_path.iterdir()) == []


# --- reading --------------------------------------------------------------------------------------------------------


def test_any_order_of_pairs_over_all_shards(original):
    dataset = PairDataset(original)
    dataset.verify()
    shards = np.concatenate([np.load(path) for path in sorted(original.glob("frames-*.npy"))])
    for index in (np.arange(PAIRS), np.array([9, 0, 4, 4, 3, 8]), np.array([5]), np.array([], dtype=int)):
        np.testing.assert_array_equal(dataset[index], shards[index])


@pytest.mark.parametrize("index", [[-1], [PAIRS], 3, [[1, 2]], [0.5], [True, False]], ids=str)
def test_an_index_out_of_range_or_of_another_kind_is_refused(original, index):
    with pytest.raises(InvalidInput, match="index must"):
        PairDataset(original)[np.array(index)]


def test_labels_exist_only_on_request(tmp_path):
    folder = collect_pairs(WORLD, 2, tmp_path / "data")
    assert not list(folder.glob("labels*"))
    with pytest.raises(BadFile, match="--with-labels"):
        load_labels(folder)


def test_the_dataset_class_never_opens_labels(folder):
    for path in folder.glob("labels*"):
        path.unlink()
    dataset = PairDataset(folder)
    dataset.verify()
    assert dataset[np.arange(PAIRS)].shape == (PAIRS, 3, 64, 64, 3)
    with pytest.raises(BadFile, match=r"labels-00000\.npy"):  # negative control: who wants them does miss them
        load_labels(folder)


# --- damage ---------------------------------------------------------------------------------------------------------


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def header_only(path):
    path.write_bytes(path.read_bytes()[:20])


def pickle_it(path):
    np.save(path, np.array([{"an": "object"}, print], dtype=object), allow_pickle=True)


def zip_it(path):
    with open(path, "wb") as stream:
        np.savez(stream, np.load(path.with_name("frames-00000.npy")))


def other_type(path):
    np.save(path, np.load(path).astype(np.float32))


def other_shape(path):
    np.save(path, np.load(path)[:-1])


@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), truncate, empty, header_only, pickle_it, zip_it, other_type, other_shape]
)
def test_a_damaged_shard_is_noticed_when_opened(folder, damage):
    path = folder / "frames-00001.npy"
    damage(path)
    with pytest.raises(BadFile, match="collect the dataset again") as caught:
        PairDataset(folder)
    assert caught.value.path == path


def flip_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_an_altered_pixel_is_noticed_by_verify(folder):
    path = folder / "frames-00002.npy"
    flip_last_byte(path)
    dataset = PairDataset(folder)  # opening does not read every byte
    with pytest.raises(BadFile, match="altered") as caught:
        dataset.verify()
    assert caught.value.path == path


def test_a_shard_that_vanishes_after_opening_is_noticed_by_verify(folder):
    dataset = PairDataset(folder)
    (folder / "frames-00001.npy").unlink()
    with pytest.raises(BadFile, match="missing"):
        dataset.verify()


@pytest.mark.parametrize("damage", [flip_last_byte, truncate, pickle_it])
def test_damaged_labels_are_noticed(folder, damage):
    damage(folder / "labels-00001.npy")
    with pytest.raises(BadFile, match="altered"):
        load_labels(folder)


@pytest.mark.parametrize("key", ["provenance", "shards", "format", "sha256"])
def test_an_altered_manifest_is_noticed(folder, key):
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest))
    PairDataset(folder)  # other white space is no alteration
    changed = {"provenance": {**manifest["provenance"], "seed": 4}, "shards": [], "format": 2, "sha256": "0" * 64}
    (folder / MANIFEST).write_text(json.dumps({**manifest, key: changed[key]}))
    with pytest.raises(BadFile, match="was altered"):
        PairDataset(folder)
    (folder / MANIFEST).write_text(json.dumps({k: v for k, v in manifest.items() if k != key}))
    with pytest.raises(BadFile, match="was altered"):
        PairDataset(folder)


def test_a_folder_without_shards_is_no_dataset(tmp_path):
    ShardWriter(tmp_path, {}, FORMAT).finish(provenance={})
    with pytest.raises(BadFile, match="holds no shard"):
        PairDataset(tmp_path)


def test_hashes_in_the_manifest_are_those_of_the_files(original):
    for shard in PairDataset(original).manifest["shards"]:
        for kind in ("frames", "labels"):
            assert shard[kind]["sha256"] == sha256(original / shard[kind]["file"])
