"""From arrays to an agent: any sizes and lengths, and what is refused."""

import numpy as np
import pytest

import worldplan as wp
from worldplan.data.episodes import EpisodeDataset
from worldplan.data.pictures import square_frames
from worldplan.envs.datasets.convert import convert_episodes
from worldplan.errors import BadFile, InvalidInput
from worldplan.learning.encoder import load_encoder

LENGTHS = 40, 40, 25, 33
SMALL = {"width": 2, "hidden": 8, "batch": 32, "epochs": 2, "validation": 32, "device": "cpu"}


def slide(steps, rng, height=48, width=80):
    """A disc that actions push along a strip: frames, actions, and places; pictures that are no squares."""
    place, speed, places = rng.uniform(-0.5, 0.5), 0.0, []
    actions = rng.uniform(-2, 2, (steps, 1))
    for push in [0.0, *actions[:, 0]]:
        speed = 0.8 * speed + 0.03 * push
        place = np.clip(place + speed, -0.8, 0.8)
        places.append(place)
    y, x = np.mgrid[0:height, 0:width]
    centre = (np.array(places)[:, None, None] + 1) / 2 * width
    disc = (8.5 - np.hypot(x - centre, y - height / 2)).clip(0, 1)
    return (255 * np.stack([disc, 1 - disc, disc / 2], axis=-1)).astype(np.uint8), actions, np.array(places)[:, None]


@pytest.fixture(scope="module")
def recorded():
    rng = np.random.default_rng(0)
    return [list(x) for x in zip(*(slide(steps, rng) for steps in LENGTHS * 3), strict=True)]


def test_arrays_become_a_dataset(recorded, tmp_path):
    frames, actions, places = recorded
    data = wp.save_episodes(tmp_path / "d", frames, actions, states={"place": places}, step_seconds=0.05, name="slide")
    data.verify()
    kept = EpisodeDataset(tmp_path / "d").load(frames=True)
    assert [len(u) for u in kept.actions] == list(LENGTHS * 3)
    for k, (f, u, p) in enumerate(zip(frames, actions, places, strict=True)):
        np.testing.assert_array_equal(kept.frames[k], square_frames(f, 64))
        np.testing.assert_array_equal(kept.actions[k], u)
        np.testing.assert_array_equal(kept.info["place"][k], p)
    assert data.world.name == "slide"
    assert data.world.step_seconds == 0.05
    assert data.world.action_low == (min(u.min() for u in actions),)
    again = wp.save_episodes(tmp_path / "e", frames, actions, states={"place": places}, step_seconds=0.05, name="slide")
    assert again.manifest_sha256 == data.manifest_sha256
    with pytest.raises(BadFile, match="already holds"):
        wp.save_episodes(tmp_path / "d", frames, actions)


def test_from_arrays_to_a_saved_agent(recorded, tmp_path):
    frames, actions, _ = recorded
    encoder = wp.pretrain(
        frames, tmp_path / "e", actions, space=("line",), window=8, least=-9.0, step_seconds=0.05, **SMALL
    )
    again = load_encoder(tmp_path / "e")
    seen = square_frames(frames[0], 64)
    np.testing.assert_array_equal(encoder(seen), again(seen))
    agent = wp.fit(encoder, tmp_path / "e" / "episodes", tmp_path / "agent", control_weight=0.01, episodes=8)
    found = wp.agents.load_agent(tmp_path / "agent")
    observation = {"observation": seen[0], "desired_goal": seen[9]}
    np.testing.assert_array_equal(agent.predict(observation)[0], found.predict(observation)[0])
    assert found.world.name == "own"
    more = {**SMALL, "epochs": 15}  # with few steps LeJEPA has not spread yet
    pairs = wp.pretrain(tmp_path / "e" / "episodes", tmp_path / "p", objective="lejepa", latent_dim=1, stride=2, **more)
    assert pairs.latent_dim == 1


def test_the_same_arrays_give_the_same_bytes(recorded, tmp_path):
    frames, actions, _ = recorded
    for name in "ab":
        wp.pretrain(frames, tmp_path / name, actions, space=("line",), window=8, least=-9.0, **SMALL)
    first, second = ((tmp_path / name / "encoder.safetensors").read_bytes() for name in "ab")
    assert first == second


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f, u: (f, None), "give the actions"),
        (lambda f, u: (f[:2], u), "as many of frames"),
        (lambda f, u: ([x[:-1] for x in f], u), "T \\+ 1"),
        (lambda f, u: ([x.astype(float) for x in f], u), "uint8"),
        (lambda f, u: ([f[0], *(x[:, :40] for x in f[1:])], u), "differ in size"),
        (lambda f, u: (f, [np.full_like(x, np.nan) for x in u]), "actions of episode 0"),
        (lambda f, u: (f, [np.ones_like(x) for x in u]), "lower below the higher"),
        (lambda f, u: (f, [x[:, 0] for x in u]), r"\(T, m\)"),
        (lambda f, u: ([], []), "one episode or more"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(recorded, change, says, tmp_path):
    frames, actions, _ = recorded
    f, u = change(frames, actions)
    with pytest.raises(InvalidInput, match=says):
        wp.pretrain(f, tmp_path / "e", u, space=("line",), window=8, **SMALL)
    assert not (tmp_path / "e" / "encoder.json").exists()
    assert not (tmp_path / "e" / "episodes" / "manifest.json").exists()


def test_options_that_nothing_has_are_refused(recorded, tmp_path):
    frames, actions, _ = recorded
    with pytest.raises(InvalidInput, match="no option wheels"):
        wp.pretrain(frames, tmp_path / "e", actions, wheels=3)
    with pytest.raises(InvalidInput, match="window"):
        wp.pretrain(frames, tmp_path / "e", actions, stride=3)
    with pytest.raises(InvalidInput, match="no option wheels"):
        wp.fit("reacher", tmp_path, wheels=3)
    with pytest.raises(InvalidInput, match="one for each action"):
        wp.save_episodes(tmp_path / "d", frames, actions, action_low=[-1.0, -1.0])
    data = wp.save_episodes(tmp_path / "d", frames, actions)
    with pytest.raises(InvalidInput, match="step_seconds"):
        wp.pretrain(data, tmp_path / "e", step_seconds=0.1)


def test_episodes_of_ones_own_go_out_and_come_back(recorded, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    frames, actions, places = recorded
    wp.save_episodes(tmp_path / "d", frames, actions, states={"place": places}, name="slide")
    for there in (str(tmp_path / "x.hdf5"), "minari:slide/random-v0"):
        back = tmp_path / ("back from minari" if there.startswith("minari") else "back from a file")
        convert_episodes(tmp_path / "d", there)
        convert_episodes(there, back, test_share=0.0)
        first, second = EpisodeDataset(tmp_path / "d"), EpisodeDataset(back)
        assert first.world == second.world
        for one, other in zip(first.load(frames=True).frames, second.load(frames=True).frames, strict=True):
            np.testing.assert_array_equal(one, other)


# --- flat columns ---------------------------------------------------------------------------------------------------


def write_columns(path, frames, actions, places, **changes):
    import h5py

    lengths = [len(f) for f in frames]
    last = [np.concatenate([u, np.full((1, u.shape[1]), np.nan)]) for u in actions]  # of no consequence
    columns = {"pixels": np.concatenate(frames), "action": np.concatenate(last).astype(np.float32)}
    columns |= {"ep_len": lengths, "ep_offset": np.cumsum([0, *lengths[:-1]]), "place": np.concatenate(places)}
    with h5py.File(path, "w") as file:
        for name, rows in {**columns, **changes}.items():
            if rows is not None:
                file[name] = rows


def test_flat_columns_of_any_width_and_size_are_read(recorded, tmp_path):
    frames, actions, places = recorded
    write_columns(tmp_path / "lewm.h5", frames, actions, places)
    convert_episodes(tmp_path / "lewm.h5", tmp_path / "d", size=32, test_share=0.0)
    data = EpisodeDataset(tmp_path / "d")
    assert data.world.name == "lewm"
    assert data.world.frame == (32, 32, 3)
    kept = data.load(frames=True)
    for k, (f, u, p) in enumerate(zip(frames, actions, places, strict=True)):
        np.testing.assert_array_equal(kept.frames[k], square_frames(f, 32))
        np.testing.assert_allclose(kept.actions[k], u, atol=1e-6)
        np.testing.assert_array_equal(kept.info["place"][k], p)


@pytest.mark.parametrize(
    "changes",
    [
        {"ep_len": [41, 10_000]},
        {"ep_offset": [-1] * 12},
        {"ep_len": None},
        {"pixels": np.zeros((7, 8, 8, 3), np.uint8)},
        {"pixels": np.zeros((426, 8, 8), np.uint8)},
        {"action": np.zeros((3, 1))},
    ],
)
def test_damaged_columns_are_refused(recorded, changes, tmp_path):
    write_columns(tmp_path / "x.h5", *recorded, **changes)
    with pytest.raises(BadFile):
        convert_episodes(tmp_path / "x.h5", tmp_path / "d")
    assert not (tmp_path / "d").exists()
