"""Episodes go to HDF5 and Minari and come back bit by bit; what is damaged or foreign is named, and runs no code."""

import json
import os
import pickle
import shutil
import warnings
from pathlib import Path

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings, strategies as st
from minari.data_collector import EpisodeBuffer
from minari.dataset._storages.hdf5_storage import HDF5Storage

from worldplan.data.trajectories import Trajectories
from worldplan.envs.datasets.hdf5 import export_hdf5, import_hdf5
from worldplan.envs.datasets.minari_datasets import export_minari, import_minari
from worldplan.envs.parallel import rollout_states
from worldplan.errors import BadFile, InvalidInput

ID = "reacher/random-v0"
LENGTHS = (30, 7, 1)


@pytest.fixture(scope="module")
def real():
    """Random torques on the Reacher, episodes of unequal length."""
    parts = [rollout_states(None, 1, seed=k, steps=t) for k, t in enumerate(LENGTHS)]
    info = {name: [p.info[name][0] for p in parts] for name in parts[0].info}
    return Trajectories(*([getattr(p, name)[0] for p in parts] for name in ("frames", "actions", "rewards")), info)


@pytest.fixture(scope="module")
def frames():
    """Pictures with an edge and noise, which JPEG cannot hold."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (t + 1, 64, 64, 3), dtype=np.uint8) for t in (3, 2)]
    return Trajectories(pictures, [rng.uniform(-1, 1, (t, 2)) for t in (3, 2)], [np.ones(t) for t in (3, 2)])


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """Where Minari keeps its datasets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def columns(data):
    return {
        "frames": data.frames,
        "actions": data.actions,
        "rewards": data.rewards,
        **{f"info {k}": v for k, v in data.info.items()},
    }


def assert_identical(ours, theirs):
    """The same names, shapes, types and bits."""
    ours, theirs = columns(ours), columns(theirs)
    assert set(ours) == set(theirs)
    for name in theirs:
        for mine, wanted in zip(ours[name], theirs[name], strict=True):
            assert (mine.dtype, mine.shape) == (wanted.dtype, wanted.shape), name
            assert mine.tobytes() == wanted.tobytes(), name


def changed(data, name, row):
    """The same data with another first episode in one column."""
    parts = {**columns(data), name: [row, *columns(data)[name][1:]]}
    info = {key[5:]: value for key, value in parts.items() if key.startswith("info ")}
    return Trajectories(parts["frames"], parts["actions"], parts["rewards"], info)


def test_identity_is_strict(real):
    assert_identical(real, real)
    first = real.frames[0]
    for name, row in [
        ("frames", first.astype(np.float64)),
        ("frames", np.nextafter(first, 2, dtype=np.float32)),
        ("frames", first[:, ::-1]),
        ("info is_success", real.info["is_success"][0].astype(np.uint8)),
    ]:
        with pytest.raises(AssertionError):
            assert_identical(changed(real, name, row), real)


# --- HDF5 -----------------------------------------------------------------------------------------------------------

TYPES = ("?", "i1", "u1", "<i4", "<u8", "<f2", "<f4", ">f4", "<f8", ">f8")


@st.composite
def any_data(draw, least=0, types=TYPES):
    """Episodes of any lengths, shapes and types, of random bits (NaN, infinities and negative zeros are among them)."""
    lengths = draw(st.lists(st.integers(least, 4), min_size=1, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def column(extra):
        dtype, shape = np.dtype(draw(st.sampled_from(types))), draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
        size = [int(np.prod((t + extra, *shape))) for t in lengths]
        bits = [rng.integers(0, 2 if dtype.kind == "b" else 256, n * dtype.itemsize, dtype=np.uint8) for n in size]
        return [b.view(dtype).reshape(t + extra, *shape) for t, b in zip(lengths, bits, strict=True)]

    names = draw(st.sets(st.sampled_from(["qpos", "is_success", "a.b-c", "actions", "_0"])))
    return Trajectories(column(1), column(0), draw(st.sampled_from([[], column(0)])), {n: column(1) for n in names})


@settings(max_examples=25)
@given(data=any_data(), provenance=st.none() | st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_hdf5_round_trip_keeps_every_bit(tmp_path_factory, data, provenance):
    path = tmp_path_factory.mktemp("hdf5") / "new" / "data.hdf5"
    assert export_hdf5(data, path, provenance=provenance) == path
    back, note = import_hdf5(path)
    assert_identical(back, data)
    assert note == (provenance or {})
    assert list(path.parent.iterdir()) == [path]


def test_hdf5_of_real_episodes_and_frames(tmp_path, real, frames):
    note = {"returns": [0.1] * 20_000}  # more than the 64 kB of a plain HDF5 attribute
    for name, data in (("real", real), ("frames", frames)):
        back, seen = import_hdf5(export_hdf5(data, tmp_path / name, provenance=note))
        assert_identical(back, data)
        assert seen == note


def test_hdf5_has_plain_names_for_other_programs(tmp_path, real):
    with h5py.File(export_hdf5(real, tmp_path / "a.hdf5", provenance={"seed": 3})) as file:
        assert json.loads(file.attrs["provenance"]) == {"seed": 3}
        assert file.attrs["episodes"] == len(file) == 3
        for k in range(3):
            group = file[f"episode_{k}"]
            assert set(group) == {"observations", "actions", "rewards", "infos"}
            np.testing.assert_array_equal(group["observations"], real.frames[k])
            np.testing.assert_array_equal(group["actions"][:], real.actions[k])
            np.testing.assert_array_equal(group["infos/qpos"], real.info["qpos"][k])
            assert group["observations"].compression == "gzip"


def test_the_same_data_give_the_same_bytes(tmp_path, real):
    paths = [export_hdf5(real, tmp_path / name, provenance={"seed": 3}) for name in ("a", "b")]
    other = export_hdf5(real, tmp_path / "c", provenance={"seed": 4})
    assert paths[0].read_bytes() == paths[1].read_bytes() != other.read_bytes()


def test_an_existing_file_is_refused_and_kept(tmp_path, real):
    path = tmp_path / "data.hdf5"
    path.write_bytes(b"old")
    with pytest.raises(BadFile, match=r"already exists; choose another name"):
        export_hdf5(real, path)
    assert path.read_bytes() == b"old"


def full(*_):
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_no_half_hdf5(tmp_path, real, monkeypatch):
    old = export_hdf5(real, tmp_path / "old.hdf5")
    before = old.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("worldplan.data.files.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            export_hdf5(real, tmp_path / "new.hdf5")
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_bytes() == before
    export_hdf5(real, tmp_path / "new.hdf5")  # with space again


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_cut_off_hdf5_is_a_bad_file(tmp_path, real, share):
    path = export_hdf5(real, tmp_path / "data.hdf5")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(BadFile, match="no HDF5 file or damaged") as caught:
        import_hdf5(path)
    assert caught.value.path == path
    path.write_bytes(whole)
    assert_identical(import_hdf5(path)[0], real)


def test_a_flipped_bit_in_the_numbers_is_seen(tmp_path, frames):
    path = export_hdf5(frames, tmp_path / "data.hdf5")
    with h5py.File(path) as file:
        chunks = file["episode_1/observations"].id
        places = [chunks.get_chunk_info(k) for k in range(chunks.get_num_chunks())]
    whole = path.read_bytes()
    for place in places:
        for offset in (place.byte_offset + 5, place.byte_offset + place.size // 2):
            damaged = bytearray(whole)
            damaged[offset] ^= 1
            path.write_bytes(damaged)
            with pytest.raises(BadFile, match="damaged"):
                import_hdf5(path)


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def replace(name, **made):
    def damage(file, tmp_path):
        del file[name]
        file.create_dataset(name, **made)

    return damage


def nested(file, tmp_path):
    del file["episode_0/infos/qpos"]
    file["episode_0/infos/qpos/x"] = np.zeros((31, 2))


def pickled(file, tmp_path):
    bits = pickle.dumps(Payload(tmp_path / "ran"))
    replace("episode_0/observations", data=np.array([np.void(bits)] * 31))(file, tmp_path)


def elsewhere(file, tmp_path):
    (tmp_path / "raw").write_bytes(bytes(31 * 8))
    made = {"shape": (31,), "dtype": float, "external": [(str(tmp_path / "raw"), 0, 31 * 8)]}
    replace("episode_0/observations", **made)(file, tmp_path)


def virtual(file, tmp_path):
    layout = h5py.VirtualLayout((31, 2), float)
    layout[:] = h5py.VirtualSource(str(tmp_path / "gone.hdf5"), "x", (31, 2))  # would read as zeros
    del file["episode_0/observations"]
    file.create_virtual_dataset("episode_0/observations", layout)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda file, _: file.attrs.pop("format"), "not in the layout"),
        (lambda file, _: file.attrs.update(format="worldplan trajectories 2"), "not in the layout"),
        (lambda file, _: file.attrs.update(format=[1.0, 2.0]), "damaged"),
        (lambda file, _: file.attrs.update(provenance="{"), "damaged"),
        (lambda file, _: file.attrs.update(episodes=4), "episode_3"),
        (lambda file, _: file.attrs.update(episodes=0), "one episode or more"),
        (lambda file, _: file.pop("episode_1"), "episode_1"),
        (lambda file, _: file.pop("episode_1/rewards"), "episode 1 holds"),
        (lambda file, _: file.pop("episode_0/actions"), "episode 0 holds"),
        (lambda file, _: file.pop("episode_2/infos/qpos"), "episode 2 holds"),
        (replace("episode_0/actions", data=np.zeros((31, 2))), r"T \+ 1"),
        (replace("episode_0/infos/qpos", data=np.zeros((30, 2))), r"qpos.*T \+ 1"),
        (replace("episode_0/infos", data=np.zeros(31)), "damaged"),
        (nested, "damaged"),
        (replace("episode_0/rewards", data=3.0), "damaged"),
        (replace("episode_0/observations", data=["text"] * 31), "needed are numbers"),
        (replace("episode_0/observations", data=np.zeros(31, [("a", "f4")])), "needed are numbers"),
        (replace("episode_0/infos/qpos", shape=31, dtype=h5py.vlen_dtype(float)), "needed are numbers"),
        (pickled, "needed are numbers"),
        (elsewhere, "kept in another file"),
        (virtual, "kept in another file"),
    ],
)
def test_other_hdf5_is_a_bad_file(tmp_path, real, damage, says):
    path = export_hdf5(real, tmp_path / "data.hdf5")
    with h5py.File(path, "a") as file:
        damage(file, tmp_path)
    with pytest.raises(BadFile, match=says) as caught:
        import_hdf5(path)
    assert caught.value.path == path
    assert not (tmp_path / "ran").exists()


def test_the_payload_would_run(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def test_rewriting_an_hdf5_unchanged_is_no_damage(tmp_path, real):
    path = export_hdf5(real, tmp_path / "data.hdf5")
    with h5py.File(path, "a") as file:
        replace("episode_0/observations", data=real.frames[0])(file, tmp_path)
    assert_identical(import_hdf5(path)[0], real)


@pytest.mark.parametrize(("content", "says"), [(None, "no such file"), (b"P6 64 64 255", "no HDF5 file or damaged")])
def test_no_hdf5_at_all(tmp_path, content, says):
    path = tmp_path / "data.hdf5"
    if content:
        path.write_bytes(content)
    with pytest.raises(BadFile, match=says):
        import_hdf5(path)
    with pytest.raises(BadFile, match="no such file"):
        import_hdf5(tmp_path)


ONE = {"frames": [np.zeros((3, 2))], "actions": [np.zeros((2, 1))], "rewards": [np.zeros(2)]}


@pytest.mark.parametrize("export", [export_hdf5, lambda data, _, **kw: export_minari(data, ID, env=None, **kw)])
@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        ({"frames": [np.array(["a", "b", "c"])]}, {}, "observations must be an array of booleans or of numbers"),
        ({"frames": [np.array([{}, {}, {}])]}, {}, "observations must be an array of"),
        ({"actions": [np.zeros((2, 1), complex)]}, {}, "actions must be an array of"),
        ({"info": {"qpos": [np.zeros((3, 1), np.longdouble)]}}, {}, "infos/qpos must be an array of"),
        ({"info": {"a/b": [np.zeros(3)]}}, {}, "info 'a/b': names here are letters"),
        ({"info": {"..": [np.zeros(3)]}}, {}, "info '..': names here are letters"),
        ({"info": {"": [np.zeros(3)]}}, {}, "info '': names here are letters"),
        ({}, {"provenance": {"return": float("nan")}}, "provenance must be what JSON can hold"),
        ({}, {"provenance": {"returns": np.zeros(2)}}, "provenance must be what JSON can hold"),
    ],
)
def test_what_no_format_can_hold_is_refused(tmp_path, root, export, change, options, says):
    with pytest.raises(InvalidInput, match=says):
        export(Trajectories(**{**ONE, **change}), tmp_path / "a.hdf5", **options)
    assert not (tmp_path / "a.hdf5").exists()
    assert not (root / ID).exists()
    export(Trajectories(**ONE), tmp_path / "a.hdf5")


# --- Minari ---------------------------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(data=any_data(least=1, types=("?", "i1", "u1", "<i4", "<u8")), scale=st.sampled_from([1.0, 1e-300, 1e300]))
def test_minari_round_trip_keeps_every_bit(tmp_path_factory, data, scale):
    rng = np.random.default_rng(len(data))
    actions = [rng.normal(size=(len(a), 2)) * scale for a in data.actions]
    rewards = [rng.normal(size=len(a)).astype(np.float32) for a in data.actions]
    data = Trajectories(data.frames, actions, rewards, data.info)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        export_minari(data, ID, env=None)
        assert_identical(import_minari(ID), data)


def test_minari_round_trip_of_real_episodes(root, real):
    filters = list(warnings.filters)
    assert export_minari(real, ID) == root / ID
    assert warnings.filters == filters
    assert_identical(import_minari(ID), real)


def test_frames_keep_every_bit_in_minari(frames):
    for name, env in (("named-v0", "worldplan/ReacherPixels-v0"), ("free-v0", None)):
        rounded = Trajectories(frames.frames, [a.astype("f4").astype("f8") for a in frames.actions], frames.rewards)
        export_minari(rounded, name, env=env)
        assert_identical(import_minari(name), rounded)
        assert minari.load_dataset(name).observation_space == spaces.Box(0, 255, (64, 64, 3), np.uint8)


def test_minaris_own_reader_gives_the_same_numbers(real):
    note = {"seed": 0, "returns": [1.0, 2.0, 3.0]}
    about = {"description": "d", "algorithm_name": "random", "author": "a", "author_email": "m", "code_permalink": "c"}
    export_minari(real, ID, provenance=note, **about)
    dataset = minari.load_dataset(ID)
    assert ID in minari.list_local_datasets()
    assert (dataset.total_episodes, dataset.total_steps) == (3, sum(LENGTHS))
    assert dataset.storage.metadata["provenance"] == note
    assert {**about, "author": {"a"}, "author_email": {"m"}}.items() <= dataset.storage.metadata.items()
    env = gym.make("worldplan/Reacher-v0")
    assert (dataset.observation_space, dataset.action_space) == (env.observation_space, env.action_space)
    dataset.set_seed(1)
    episodes = dataset.sample_episodes(3)
    assert sorted(e.id for e in episodes) == [0, 1, 2]
    for episode in episodes:
        k = int(episode.id)
        np.testing.assert_array_equal(episode.observations, real.frames[k])
        np.testing.assert_array_equal(episode.actions, real.actions[k])
        np.testing.assert_array_equal(episode.rewards, real.rewards[k])
        np.testing.assert_array_equal(episode.infos["tip_distance"], real.info["tip_distance"][k])
        assert set(episode.infos) == set(real.info)
        assert not episode.terminations.any()
        assert list(episode.truncations) == [False] * (LENGTHS[k] - 1) + [True]
        assert all(map(dataset.observation_space.contains, episode.observations))
        assert all(map(dataset.action_space.contains, episode.actions))


def replayed(env, episode):
    start = {"qpos": episode.infos["qpos"][0], "target": episode.infos["target"][0][:2]}
    rows = [env.reset(seed=0, options=start)[0]]
    rows += [env.step(action)[0] for action in episode.actions]
    return np.abs(np.stack(rows) - episode.observations).max()


def test_the_recovered_environment_repeats_the_episodes(real):
    """An episode replayed from its infos gives its observations; another episode's do not."""
    hard = rollout_states(None, 1, seed=3, task="hard", steps=20)
    export_minari(real, ID)
    export_minari(hard, "reacher/hard-v0", env=gym.make("worldplan/Reacher-v0", task="hard"))
    easy_env, hard_env = (minari.load_dataset(name).recover_environment() for name in (ID, "reacher/hard-v0"))
    assert (easy_env.unwrapped.task, hard_env.unwrapped.task) == ("easy", "hard")
    episode, other = minari.load_dataset(ID)[0], minari.load_dataset(ID)[1]
    assert replayed(easy_env, episode) < 1e-6
    assert replayed(hard_env, minari.load_dataset("reacher/hard-v0")[0]) < 1e-6
    other.infos["qpos"][0] = episode.infos["qpos"][0]
    assert replayed(easy_env, other) > 1e-3


def test_an_existing_dataset_is_refused_and_kept(real, frames):
    export_minari(real, ID)
    with pytest.raises(BadFile, match="'reacher/random-v0' already exists; choose another name or version"):
        export_minari(frames, ID, env=None)
    assert_identical(import_minari(ID), real)
    export_minari(frames, "reacher/random-v1", env=None)


def test_a_full_disk_leaves_no_half_dataset(root, real, monkeypatch):
    export_minari(real, ID)
    write = HDF5Storage.update_episodes

    def half(self, episodes):
        write(self, episodes[:1])
        full()

    with monkeypatch.context() as patch:
        patch.setattr(HDF5Storage, "update_episodes", half)
        with pytest.raises(OSError, match="No space"):
            export_minari(real, "reacher/random-v1")
    assert [path.name for path in (root / "reacher").iterdir() if path.is_dir()] == ["random-v0"]
    assert_identical(import_minari(ID), real)
    export_minari(real, "reacher/random-v1")  # with space again


@pytest.mark.parametrize("name", ["", "random", "random-0", "../random-v0", "/random-v0", "a b-v0", "reacher/random"])
def test_malformed_ids_are_refused(root, real, name):
    with pytest.raises(InvalidInput, match="of the form reacher/random-v0"):
        export_minari(real, name)
    with pytest.raises(InvalidInput, match="of the form reacher/random-v0"):
        import_minari(name)
    assert not root.exists()


class Dictionary(gym.Env):
    observation_space = spaces.Dict(position=spaces.Box(-1, 1, (7,)))
    action_space = spaces.Box(-1, 1, (2,))


def test_data_outside_the_spaces_are_refused(root, real):
    first, actions, env = real.frames[0], real.actions[0], gym.make("worldplan/Reacher-v0")
    for name, row, says in [
        ("frames", first + 10, r"observations of episode 0, rows \(7,\) of float32, do not lie in Box"),
        ("frames", first * np.float32(np.nan), "observations of episode 0"),
        ("frames", first[:, :6], r"rows \(6,\)"),
        ("frames", first.astype(np.float64) / 3, "observations of episode 0"),  # would lose bits
        ("actions", actions * 1.5 / np.abs(actions).max(), "actions of episode 0"),
        ("actions", actions / 3, "actions of episode 0"),  # would lose bits
        ("actions", actions * 1e300, "actions of episode 0"),
        ("actions", actions[:, :1], "actions of episode 0"),
    ]:
        with pytest.raises(InvalidInput, match=says):
            export_minari(changed(real, name, row), ID, env=env)
    with pytest.raises(InvalidInput, match="env cannot be made"):
        export_minari(real, ID, env="worldplan/Nowhere-v0")
    with pytest.raises(InvalidInput, match="observations of env are Dict"):
        export_minari(real, ID, env=Dictionary())
    with pytest.raises(InvalidInput, match="a reward for every action"):
        export_minari(Trajectories(real.frames, real.actions), ID, env=env)
    with pytest.raises(InvalidInput, match="no episode without actions, and episode 1 has none"):
        export_minari(
            Trajectories([first, first[:1]], [actions, actions[:0]], [real.rewards[0], np.zeros(0)]), ID, env=env
        )
    assert not (root / ID).exists()
    export_minari(real, ID, env=env)


def foreign(name="other-v0", observation=None, action=None, jpeg=True, **change):
    """A dataset by Minari alone: two steps, terminated."""
    parts = {
        "observations": np.zeros((3, 2), dtype=np.float32),
        "actions": np.full((2, 1), 0.1, dtype=np.float32),
        "rewards": np.ones(2),
        "terminations": np.array([False, True]),
        "truncations": np.zeros(2, dtype=bool),
        "infos": {"step": np.arange(3)},
    }
    with pytest.warns(UserWarning, match="is set to None|env_spec is None"):
        minari.create_dataset_from_buffers(
            name,
            [EpisodeBuffer(**{**parts, **change})],
            observation_space=observation or spaces.Box(-1, 1, (2,)),
            action_space=action or spaces.Box(-1, 1, (1,)),
            jpeg_encoding=jpeg,
        )
    return name


def test_datasets_of_others_are_read(frames):
    data = import_minari(foreign())
    wanted = Trajectories(
        [np.zeros((3, 2), np.float32)],
        [np.full((2, 1), np.float64(np.float32(0.1)))],
        [np.ones(2)],
        {"step": [np.arange(3)]},
    )
    assert_identical(data, wanted)
    assert import_minari(foreign("bare-v0", infos=None)).info == {}
    pictures, space = frames.frames[1], spaces.Box(0, 255, (64, 64, 3), np.uint8)
    lossless = import_minari(foreign("a-v0", space, observations=pictures, jpeg=False)).frames[0]
    np.testing.assert_array_equal(lossless, pictures)
    lossy = import_minari(foreign("b-v0", space, observations=pictures)).frames[0]
    assert lossy.shape == pictures.shape
    assert np.abs(lossy.astype(int) - pictures).max() > 10  # what jpeg_encoding=False is for


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"observation": spaces.Dict(x=spaces.Box(-1, 1, (2,))), "observations": {"x": np.zeros((3, 2))}},
            "observations are Dict.*needed is one array a step",
        ),
        ({"observation": spaces.Text(5), "observations": ["a", "b", "c"]}, "observations are Text"),
        ({"action": spaces.Discrete(3), "actions": np.ones(2, dtype=int)}, "actions are Discrete"),
        ({"infos": {"step": np.arange(2)}}, r"step.*2 rows for 2 actions.*T \+ 1"),
        ({"infos": {"name": ["a", "b", "c"]}}, "infos/name must be an array of"),
        ({"infos": {"deep": {"x": np.zeros(3)}}}, "infos/deep must be an array of"),
        ({"observations": np.zeros((2, 2))}, r"frames: 2 rows.*T \+ 1"),
    ],
)
def test_datasets_with_other_shapes_are_refused(root, change, says):
    with pytest.raises(BadFile, match=says) as caught:
        import_minari(foreign(**change))
    assert caught.value.path == root / "other-v0" / "data"


def edit(**change):
    def damage(folder):
        path = folder / "metadata.json"
        kept = {k: v for k, v in {**json.loads(path.read_text()), **change}.items() if v is not None}
        path.write_text(json.dumps(kept))

    return damage


def cut(name):
    def damage(folder):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])

    return damage


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: shutil.rmtree(folder), "no such Minari dataset; see .minari list local."),
        (lambda folder: (folder / "metadata.json").unlink(), "no such file"),
        (lambda folder: (folder / "main_data.hdf5").unlink(), "cannot be read as trajectories"),
        (cut("metadata.json"), "cannot be read as JSON"),
        (cut("main_data.hdf5"), "cannot be read as trajectories"),
        (edit(data_format="arrow"), "needs .* data_format 'hdf5'"),
        (edit(data_format=None), "needs .* data_format 'hdf5'"),
        (edit(action_space=None), "needs observation_space, action_space"),
        (edit(observation_space='{"type": "Cube"}'), "cannot be read as trajectories"),
        (edit(observation_space=7), "cannot be read as trajectories"),
        (edit(minari_version="99"), "does not support the dataset"),
        (edit(total_episodes=2), "cannot be read as trajectories.*episode_1"),
        (edit(total_episodes=0), "one episode or more"),
    ],
)
def test_a_damaged_dataset_is_a_bad_file(root, damage, says):
    foreign()
    import_minari("other-v0")
    damage(root / "other-v0" / "data")
    with pytest.raises(BadFile, match=says):
        import_minari("other-v0")


def test_reading_a_dataset_makes_no_environment(root):
    """Without its spaces Minari calls the entry point that the metadata name; we do not."""
    foreign()
    entry = {"id": "x-v0", "entry_point": "os:mkdir", "kwargs": {"path": str(root / "ran")}, "additional_wrappers": []}
    edit(action_space=None, env_spec=json.dumps(entry))(root / "other-v0" / "data")
    with pytest.raises(BadFile, match="needs observation_space, action_space"):
        import_minari("other-v0")
    assert not Path(root / "ran").exists()
    with pytest.raises((TypeError, gym.error.Error)):
        minari.load_dataset("other-v0")
    assert Path(root / "ran").exists()
