"""Episodes on disk: physics first, then frames; splits by episode; pairs at a stride; what interrupts leave."""

import itertools
import json
import shutil

import numpy as np
import pytest
from hypothesis import given, strategies as st

from worldplan.agents.actor import load_policy
from worldplan.data.episodes import EpisodeDataset, StridedPairs
from worldplan.data.pairs import PairDataset
from worldplan.data.recipes import EpisodeConfig
from worldplan.data.saving import save_episodes
from worldplan.data.shards import MANIFEST
from worldplan.data.trajectories import Trajectories
from worldplan.envs.datasets import episodes as record
from worldplan.envs.datasets.episodes import interrupted, record_episodes
from worldplan.envs.datasets.frames import draw_frames
from worldplan.envs.parallel import rollout_states
from worldplan.envs.rendering import render_frames
from worldplan.errors import BadFile, InvalidInput, UnknownName

CONFIG = EpisodeConfig(episodes=10, steps=7, random_share=0.5, test_share=0.3)


def sac(seed):
    return load_policy("reacher-easy", seed)


@pytest.fixture(scope="module", autouse=True)
def small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "SHARD", 4)
        yield


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("episodes") / "data"
    record_episodes(sac, folder, CONFIG, seed=3, source={"name": "reacher-easy"}, command="worldplan collect mixture")
    return draw_frames(folder, "fast").folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "copy")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stop_after(count):
    def stop(shards, total):
        yield from itertools.islice(shards, count)
        raise KeyboardInterrupt

    return stop


# --- what is recorded -----------------------------------------------------------------------------------------------


def test_a_dataset_holds_one_observation_more_than_actions(original):
    data = EpisodeDataset(original)
    runs = data.load(frames=True)
    assert len(data) == len(runs) == 10
    for k in range(10):
        assert runs.frames[k].shape == (8, 64, 64, 3)
        assert runs.actions[k].shape == (7, 2)
        assert runs.info["qpos"][k].shape == (8, 2)
    assert [s["episodes"] for s in data.shards] == [4, 4, 2]


def test_frames_show_the_recorded_poses_and_target(original):
    runs = EpisodeDataset(original).load(frames=True)
    for k in (0, 9):
        wanted = render_frames(runs.info["qpos"][k], runs.info["target"][k], "fast")
        np.testing.assert_array_equal(runs.frames[k], wanted)
        assert (render_frames(runs.info["qpos"][k] + 0.3, runs.info["target"][k], "fast") != wanted).any()


def test_recorded_states_obey_the_physics(original):
    """Playing the actions again from the first state gives the recorded states; other actions do not."""
    from worldplan.envs.reacher_task import ReacherTask

    runs = EpisodeDataset(original).load()
    env = ReacherTask("easy")
    env.reset(options={"qpos": runs.info["qpos"][0][0], "target": runs.info["target"][0][0, :2]})
    for t, action in enumerate(runs.actions[0]):
        *_, info = env.step(action.astype(np.float32))
        np.testing.assert_allclose(info["qpos"], runs.info["qpos"][0][t + 1], atol=1e-9)
    env.reset(options={"qpos": runs.info["qpos"][0][0], "target": runs.info["target"][0][0, :2]})
    *_, info = env.step(-runs.actions[0][0].astype(np.float32))
    assert np.abs(info["qpos"] - runs.info["qpos"][0][1]).max() > 1e-6


def test_a_mixture_has_episodes_of_both_kinds_and_says_which(original):
    data = EpisodeDataset(original)
    random = np.concatenate([s["random"] for s in data.shards])
    assert 0 < random.sum() < 10
    observations = rollout_states(None, 1, 0, steps=1).frames[0]  # shape of what the policy sees
    assert observations.shape == (2, 7)
    policy = load_policy("reacher-easy")
    from worldplan.envs.reacher import fingertip
    from worldplan.envs.reacher_task import state_vector

    runs = data.load()
    for k, chance in enumerate(random):
        q, v, target = (runs.info[name][k][:-1] for name in ("qpos", "qvel", "target"))
        seen = state_vector(q, v, target[:, :2] - fingertip(q))
        of_policy = np.allclose(policy.predict(seen)[0], runs.actions[k], atol=1e-5)
        assert of_policy != chance


def test_the_manifest_says_where_the_data_came_from_and_what_it_is(original):
    data = EpisodeDataset(original)
    (run,) = data.runs
    assert (run["seed"], run["policy"], run["command"]) == (3, {"name": "reacher-easy"}, "worldplan collect mixture")
    assert run["random_share"] == 0.5
    runs, summary = data.load(), data.manifest["summary"]
    angles = np.concatenate(runs.info["qpos"])
    assert summary["shoulder_past_pi"] == pytest.approx(np.mean(np.abs(angles[:, 0]) > np.pi))
    np.testing.assert_allclose(summary["angle_deviation"], angles.std(axis=0))
    returns = [r for s in data.shards for r in s["returns"]]
    np.testing.assert_allclose(returns, [r.sum() for r in runs.rewards])
    assert summary["mean_return"] == pytest.approx(np.mean(returns))
    assert data.manifest["frames"]["look"] == "fast"


def test_random_torques_are_uncorrelated_and_a_trained_policy_s_are_not(tmp_path):
    config = EpisodeConfig(episodes=40, steps=60)
    for policy, low, high in ((None, -0.1, 0.1), (sac, 0.5, 1.0)):
        data = record_episodes(policy, tmp_path / str(policy is None), config)
        correlation = data.manifest["summary"]["action_autocorrelation"]
        assert low < min(correlation) <= max(correlation) < high


def test_same_seed_same_bytes_other_seed_others(original, tmp_path):
    for seed, same in ((3, True), (4, False)):
        folder = tmp_path / str(seed)
        source, command = {"name": "reacher-easy"}, "worldplan collect mixture"
        record_episodes(sac, folder, CONFIG, seed=seed, source=source, command=command)
        draw_frames(folder, "fast", processes=2 if same else 1)
        assert (contents(folder) == contents(original)) == same


def test_a_stochastic_policy_draws_from_the_seed(tmp_path):
    config = EpisodeConfig(episodes=3, steps=4, deterministic=False)
    actions = [record_episodes(sac, tmp_path / str(k), config, seed=k // 2).load().actions[0] for k in range(3)]
    mean = record_episodes(sac, tmp_path / "mean", EpisodeConfig(episodes=3, steps=4), seed=0).load().actions[0]
    assert (actions[0] == actions[1]).all()
    assert (actions[0] != actions[2]).any()
    assert (actions[0] != mean).any()


# --- splits and pairs -----------------------------------------------------------------------------------------------


def test_whole_episodes_belong_to_training_or_to_test(original):
    data = EpisodeDataset(original)
    train, test = ({q.tobytes() for q in data.load(s).info["qpos"]} for s in ("train", "test"))
    assert train
    assert test
    assert not train & test
    assert len(train) + len(test) == 10
    with pytest.raises(UnknownName):
        data.load("validation")


@given(stride=st.integers(1, 7), pick=st.integers(0, 10**6))
def test_pairs_lie_a_stride_apart_in_one_training_episode(original, stride, pick):
    data = EpisodeDataset(original)
    pairs, runs = StridedPairs(data, stride), data.load("train", frames=True)
    assert len(pairs) == len(runs) * (8 - stride)
    k, t = divmod(pick % len(pairs), 8 - stride)
    first, second = pairs[np.array([pick % len(pairs)])][0]
    np.testing.assert_array_equal(first, runs.frames[k][t])
    np.testing.assert_array_equal(second, runs.frames[k][t + stride])


def test_held_out_pairs_share_no_episode_with_the_others(original):
    pairs = StridedPairs(EpisodeDataset(original), 2)
    held, rest = pairs.split(8, np.random.default_rng(0))
    owner = np.repeat(np.arange(len(pairs) // 6), 6)
    assert len(held) == 8
    assert not set(owner[held]) & set(owner[rest])
    assert len(set(owner[rest])) + len(set(owner[held])) == len(pairs) // 6
    with pytest.raises(InvalidInput, match="lower --validation"):
        pairs.split(len(pairs), np.random.default_rng(0))


def test_pairs_open_no_angle(folder):
    for name in ("qpos", "qvel", "actions", "rewards", "target"):
        for path in folder.glob(f"{name}-*"):
            path.unlink()
    data = EpisodeDataset(folder)
    assert StridedPairs(data, 1)[np.arange(2)].shape == (2, 2, 64, 64, 3)
    with pytest.raises(BadFile, match="missing"):
        data.load()


def test_a_stride_longer_than_the_episodes(original):
    data = EpisodeDataset(original)
    assert len(StridedPairs(data, 7))
    with pytest.raises(InvalidInput, match="its longest train episode has 7 steps"):
        StridedPairs(data, 8)
    with pytest.raises(InvalidInput, match="at least 1"):
        StridedPairs(data, 0)


def test_another_stride_is_another_dataset_for_resuming(original):
    data = EpisodeDataset(original)
    hashes = {StridedPairs(data, s, split).manifest_sha256 for s in (1, 2) for split in ("train", "test")}
    assert len(hashes) == 4


# --- the second pass ------------------------------------------------------------------------------------------------


def test_frames_can_be_drawn_anew_in_another_look(folder):
    before = EpisodeDataset(folder).load(frames=True).frames[0].copy()
    other = draw_frames(folder, "dmc").load(frames=True)
    assert np.abs(other.frames[0].astype(float) - before).mean() > 5.0
    assert len(list(folder.glob("frames-*"))) == 3  # the old ones are gone


def test_varied_frames_differ_in_target_while_the_arm_stands_still(tmp_path):
    still = rollout_states(None, 1, 0, steps=6)
    still.info["qpos"][0][:] = [0.3, 1.0]
    save_episodes(still, tmp_path / "data", source={})
    varied = draw_frames(tmp_path / "data", "varied", seed=1).load(frames=True).frames[0]
    assert len({f.tobytes() for f in varied}) == 7
    fixed = draw_frames(tmp_path / "data", "fast").load(frames=True).frames[0]
    assert len({f.tobytes() for f in fixed}) == 1


def test_unknown_look(folder):
    with pytest.raises(UnknownName):
        draw_frames(folder, "noir")


# --- interrupts, appending ------------------------------------------------------------------------------------------


def test_an_interrupt_while_recording_or_drawing_is_resumed_to_the_same_bytes(original, tmp_path):
    folder, options = tmp_path / "data", {"seed": 3, "source": {"name": "reacher-easy"}}
    options["command"] = "worldplan collect mixture"
    assert interrupted(folder) == "nothing"
    with pytest.raises(KeyboardInterrupt):
        record_episodes(sac, folder, CONFIG, progress=stop_after(1), **options)
    assert interrupted(folder) == "episodes"
    with pytest.raises(BadFile, match="--resume"):
        EpisodeDataset(folder)
    record_episodes(sac, folder, CONFIG, resume=True, **options)
    assert interrupted(folder) == "between"
    with pytest.raises(KeyboardInterrupt):
        draw_frames(folder, "fast", progress=stop_after(2))
    assert interrupted(folder) == "frames"
    assert len(EpisodeDataset(folder).load()) == 10  # the states are there all the while
    with pytest.raises(BadFile, match="other options"):
        draw_frames(folder, "dmc", resume=True)
    draw_frames(folder, "fast", resume=True)
    assert contents(folder) == contents(original)


def test_appending_keeps_what_is_there(folder):
    before = EpisodeDataset(folder).load()
    data = record_episodes(sac, folder, EpisodeConfig(episodes=3, steps=5), seed=9, append=True)
    after = data.load()
    assert len(after) == 13
    for k in range(10):
        np.testing.assert_array_equal(before.info["qpos"][k], after.info["qpos"][k])
    assert [len(r) for r in after.actions[10:]] == [5, 5, 5]
    assert [run["seed"] for run in data.runs] == [3, 9]
    with pytest.raises(InvalidInput, match="already holds these very episodes"):
        record_episodes(sac, folder, EpisodeConfig(episodes=3, steps=5), seed=9, append=True)
    with pytest.raises(InvalidInput, match="draw frames"):
        StridedPairs(data, 1)
    assert len(StridedPairs(draw_frames(folder, "fast"), 6)) < len(StridedPairs(EpisodeDataset(folder), 5))


def test_an_interrupted_append_leaves_the_dataset_as_it_was(folder):
    before = contents(folder)
    with pytest.raises(KeyboardInterrupt):
        record_episodes(sac, folder, CONFIG, seed=9, append=True, progress=stop_after(1))
    assert len(EpisodeDataset(folder)) == 10
    now = contents(folder)
    assert {name: now[name] for name in before} == before
    assert len(record_episodes(sac, folder, CONFIG, seed=9, append=True, resume=True)) == 20


def test_a_finished_dataset_is_not_overwritten(folder):
    with pytest.raises(BadFile, match="already holds a dataset"):
        record_episodes(sac, folder, CONFIG, seed=3)


# --- from elsewhere -------------------------------------------------------------------------------------------------


def test_episodes_of_different_lengths_are_kept_in_order(tmp_path):
    parts = [rollout_states(None, 2, seed, steps=steps) for seed, steps in ((0, 3), (1, 5), (2, 3))]
    data = Trajectories(
        frames=[f for p in parts for f in p.frames],
        actions=[a for p in parts for a in p.actions],
        rewards=[r for p in parts for r in p.rewards],
        info={name: [r for p in parts for r in p.info[name]] for name in parts[0].info},
    )
    kept = save_episodes(data, tmp_path / "data", source={"from": "a test"}).load()
    for k in range(6):
        for name in ("qpos", "qvel", "target"):
            np.testing.assert_array_equal(kept.info[name][k], data.info[name][k])
        np.testing.assert_array_equal(kept.actions[k], data.actions[k])
        np.testing.assert_array_equal(kept.rewards[k], data.rewards[k])


def test_what_is_no_reacher_episode_is_refused(tmp_path):
    data = rollout_states(None, 1, 0, steps=3)
    short = {name: rows for name, rows in data.info.items() if name != "target"}
    with pytest.raises(InvalidInput, match="target"):
        save_episodes(Trajectories(data.frames, data.actions, data.rewards, short), tmp_path / "a", source={})
    wide = {**data.info, "qpos": [np.zeros((4, 3))]}
    with pytest.raises(InvalidInput, match="no episodes of the Reacher"):
        save_episodes(Trajectories(data.frames, data.actions, data.rewards, wide), tmp_path / "b", source={})
    moving = {**data.info, "target": [data.info["target"][0] + np.linspace(0, 1e-3, 4)[:, None]]}
    with pytest.raises(InvalidInput, match="target moves"):
        save_episodes(Trajectories(data.frames, data.actions, data.rewards, moving), tmp_path / "c", source={})
    for name, value in itertools.product(("qpos", "qvel", "target", "actions", "rewards"), (np.nan, np.inf)):
        lists = {"actions": [a.copy() for a in data.actions], "rewards": [r.copy() for r in data.rewards]}
        info = {key: [rows.copy() for rows in data.info[key]] for key in ("qpos", "qvel", "target")}
        {**lists, **info}[name][0][1] = value
        with pytest.raises(InvalidInput, match=f"{name} of episode 0"):
            save_episodes(Trajectories(data.frames, **lists, info=info), tmp_path / "d", source={})
    assert not list(tmp_path.iterdir())


# --- damage ---------------------------------------------------------------------------------------------------------


def test_a_dataset_cut_off_inside_a_shard_is_noticed(folder):
    path = next(iter(folder.glob("frames-*00001.npy")))
    path.write_bytes(path.read_bytes()[:5000])
    data = EpisodeDataset(folder)
    with pytest.raises(BadFile, match="cut off") as caught:
        StridedPairs(data, 1)
    assert caught.value.path == path
    with pytest.raises(BadFile, match="altered"):
        data.verify()


def test_an_altered_byte_or_manifest_is_noticed(folder):
    data = EpisodeDataset(folder)
    data.verify()
    path = folder / data.shards[0]["qpos"]["file"]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadFile, match="altered"):
        data.verify()
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["runs"][0]["seed"] = 5
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BadFile, match="was altered"):
        EpisodeDataset(folder)


def test_pairs_and_episodes_are_not_mistaken_for_each_other(original, tmp_path):
    from worldplan.envs.datasets.pairs import collect_pairs
    from worldplan.envs.worlds import OUWorld

    with pytest.raises(BadFile, match="--stride"):
        PairDataset(original)
    with pytest.raises(BadFile, match="holds pairs"):
        EpisodeDataset(collect_pairs(OUWorld(), 2, tmp_path / "pairs"))


@pytest.mark.parametrize(
    "wrong", [{"episodes": 0}, {"steps": 0}, {"task": "hardest"}, {"random_share": 1.5}, {"test_share": 1.0}]
)
def test_impossible_configurations(wrong):
    with pytest.raises((InvalidInput, UnknownName)):
        EpisodeConfig(**wrong)
