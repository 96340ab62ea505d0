"""SAC: runs that resume to the byte, a shipped actor that is SB3's up to rounding, and files that are refused."""

import json
import random
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from forged import forge
from gymnasium.envs.registration import EnvSpec
from safetensors.numpy import load_file, save_file
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import worldplan.agents.sac
import worldplan.envs  # registers the environments
from worldplan.__main__ import main
from worldplan.agents.actor import ActorPolicy, known_policies, load_policy
from worldplan.agents.config import SACConfig
from worldplan.agents.sac import load_sb3_zip, train_sac
from worldplan.agents.sac_run import Run, _describe, _limited, actor_tensors, episode_returns
from worldplan.data.files import held, read_json, sha256
from worldplan.envs.reacher_task import ReacherTask
from worldplan.errors import BadFile, InvalidInput, UnknownName

CONFIG = SACConfig(
    steps=192,  # three rounds; the buffer wraps in the last
    hidden=(16, 8),
    batch=16,
    buffer=128,
    warmup=32,
    copies=4,
    updates=1,
    episode_steps=20,
    evaluate_every=64,
    evaluations=2,
    tests=3,
)
MADE = {"policy.json", "policy.safetensors", "learning_curve.jsonl"}


class Point(gym.Env):
    """Say what you see: `-|a - 2 o|^2` for o in [-1, 1]^2; actions have other bounds on each side."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Box(np.float32([-2, -3]), np.float32([3, 2]), dtype=np.float32)
    seeds = ()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.seeds = (*self.seeds, seed)
        self.steps, self.seen = 0, self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.seen, {}

    def step(self, action):
        assert self.action_space.contains(action)
        reward = -float(np.sum((action - 2 * self.seen) ** 2))
        self.steps, self.seen = self.steps + 1, self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.seen, reward, False, self.steps >= 10, {}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return train_sac(Point, tmp_path_factory.mktemp("sac") / "run", CONFIG, command="worldplan train-sac")


@pytest.fixture
def copy(uninterrupted, tmp_path):
    return shutil.copytree(uninterrupted, tmp_path / "policy")


def made(folder):
    return {name: (folder / name).read_bytes() for name in MADE}


def stop_at(step):
    def progress(done, total):
        if done >= step:
            raise KeyboardInterrupt

    return progress


@pytest.fixture
def interrupted(tmp_path):
    """A run stopped in its third round."""
    with pytest.raises(KeyboardInterrupt):
        train_sac(Point, tmp_path / "run", CONFIG, command="worldplan train-sac", progress=stop_at(150))
    return tmp_path / "run"


@pytest.fixture(scope="module")
def model():
    """SB3's own SAC on actions with uneven bounds, its weights far from the start's."""
    model = SAC("MlpPolicy", Point(), policy_kwargs={"net_arch": [16, 8]}, seed=0, device="cpu")
    with torch.no_grad():
        for value in model.actor.parameters():
            value.mul_(3.0)
    return model


# --- training -------------------------------------------------------------------------------------------------------


def test_a_run_leaves_a_policy_a_curve_and_a_log(uninterrupted):
    assert {path.name for path in uninterrupted.iterdir()} == MADE | {"tb"}
    board = EventAccumulator(str(uninterrupted / "tb")).Reload()
    evaluations = board.Scalars("evaluation/return")
    card = read_json(uninterrupted / "policy.json")
    curve = [json.loads(line) for line in (uninterrupted / "learning_curve.jsonl").read_text().splitlines()]
    assert card["learning_curve"] == curve
    np.testing.assert_allclose([e.value for e in evaluations], [row["return"] for row in curve], rtol=1e-6)
    assert {"train/critic_loss", "rollout/ep_rew_mean"} <= set(board.Tags()["scalars"])
    assert [row["step"] for row in curve] == [64, 128, 192]
    best = max(curve, key=lambda row: row["return"])
    assert card["chosen_step"] == best["step"]
    assert card["command"] == "worldplan train-sac"
    assert card["environment"] == {"id": "Point"}
    assert card["config"] == json.loads(json.dumps(vars(CONFIG)))
    assert card["test"]["episodes"] == 3
    assert np.mean(card["test"]["returns"]) == pytest.approx(card["test"]["return"])


def test_the_saved_policy_is_the_one_that_was_evaluated(uninterrupted):
    policy = load_policy(uninterrupted)
    seeds = [np.random.SeedSequence([CONFIG.seed, k]).generate_state(1)[0] for k in (2, 3)]
    again = episode_returns(policy, [Point(), Point()], int(seeds[0]))
    assert again.mean() == max(row["return"] for row in policy.card["learning_curve"])
    assert (
        episode_returns(policy, [Point() for _ in range(3)], int(seeds[1])).tolist() == policy.card["test"]["returns"]
    )


def test_training_learns(tmp_path):
    """A one-step problem that a few hundred updates solve; without updates worth the name it stays unsolved."""
    config = replace(CONFIG, steps=800, evaluate_every=400, buffer=1000, hidden=(32,), batch=64, gamma=0.0)
    learned, untaught = (
        load_policy(train_sac(Point, tmp_path / name, replace(config, learning_rate=rate))).card["test"]["return"]
        for name, rate in (("a", 1e-2), ("b", 1e-9))
    )
    assert untaught < -15
    assert learned > untaught / 3


def test_reacher_trains_from_state(tmp_path):
    make = partial(gym.make, "worldplan/Reacher-v0", task="hard", max_episode_steps=30)
    folder = train_sac(make, tmp_path / "run", replace(CONFIG, steps=64))
    policy = load_policy(folder)
    assert policy.environment == "worldplan/Reacher-v0"
    assert policy.card["environment"]["task"] == "hard"
    policy.check_env(gym.make("worldplan/Reacher-v0", task="easy"))
    data = worldplan.envs.rollout(make(), policy, episodes=1, steps=10)
    np.testing.assert_allclose(data.actions[0], policy.predict(data.frames[0][:-1])[0], atol=1e-6)


def test_training_evaluation_and_test_use_seeds_of_their_own(tmp_path):
    envs = []

    def make():
        envs.append(Point())
        return envs[-1]

    train_sac(make, tmp_path / "run", CONFIG)
    judges, copies, tests = envs[:2], envs[2:6], envs[6:]
    assert len(tests) == CONFIG.tests
    for judge in judges:
        assert len(judge.seeds) == 3  # rounds
        assert len(set(judge.seeds)) == 1  # the same episodes each time
    used = [{s for env in group for s in env.seeds} for group in (judges, copies, tests)]
    assert [len(u) for u in used] == [2, 12, 3]
    assert len(set.union(*used)) == 17


def test_training_stops_at_a_return(tmp_path):
    folder = train_sac(Point, tmp_path / "run", replace(CONFIG, stop_at=-1e9))
    assert read_json(folder / "policy.json")["chosen_step"] == 64
    assert not (folder / "checkpoint.json").exists()


def test_another_seed_gives_another_policy_and_global_randomness_is_left_alone(uninterrupted, tmp_path):
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    again = train_sac(Point, tmp_path / "again", CONFIG, command="worldplan train-sac")
    after = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert made(again) == made(uninterrupted)
    other = train_sac(Point, tmp_path / "other", replace(CONFIG, seed=1))
    assert made(other)["policy.safetensors"] != made(uninterrupted)["policy.safetensors"]


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 100},
        {"evaluate_every": 66},
        {"hidden": ()},
        {"hidden": (0,)},
        {"learning_rate": 0.0},
        {"gamma": 1.0},
        {"buffer": 8},
        {"episode_steps": 0},
    ],
)
def test_bad_configurations_are_refused(change):
    with pytest.raises(InvalidInput):
        replace(CONFIG, **change)


def test_pictures_and_unbounded_actions_are_refused(tmp_path):
    class Free(Point):
        action_space = gym.spaces.Box(-np.inf, np.inf, (2,))

    for make, error in ((partial(gym.make, "worldplan/ReacherPixels-v0"), "flat Box"), (Free, "bounded")):
        with pytest.raises(InvalidInput, match=error):
            train_sac(make, tmp_path / "run", CONFIG)
    assert not (tmp_path / "run").exists()


# --- interruption ---------------------------------------------------------------------------------------------------


def test_an_interrupted_run_holds_a_checkpoint_and_its_best_policy(interrupted):
    assert {path.name for path in interrupted.iterdir()} == MADE | {"tb", "checkpoint.json", "checkpoint.safetensors"}
    assert read_json(interrupted / "checkpoint.json")["steps"] == 128
    assert load_policy(interrupted).card["chosen_step"] in (64, 128)
    with pytest.raises(BadFile, match="--resume"):
        train_sac(Point, interrupted, CONFIG)


def test_resuming_gives_the_bytes_of_the_uninterrupted_run(interrupted, uninterrupted):
    seen = []
    train_sac(Point, interrupted, CONFIG, resume=True, command="x --resume", progress=lambda *s: seen.append(s))
    assert seen[0] == (132, 192)
    assert made(interrupted) == made(uninterrupted)
    assert {path.name for path in interrupted.iterdir()} == MADE | {"tb"}


def test_where_nothing_was_begun_resuming_starts(uninterrupted, tmp_path):
    train_sac(Point, tmp_path / "run", CONFIG, command="worldplan train-sac", resume=True)
    assert made(tmp_path / "run") == made(uninterrupted)


def test_a_resumed_run_may_be_shorter_or_longer(interrupted, uninterrupted):
    shorter = shutil.copytree(interrupted, interrupted.parent / "shorter")
    train_sac(Point, shorter, replace(CONFIG, steps=128), resume=True)
    assert [row["step"] for row in load_policy(shorter).card["learning_curve"]] == [64, 128]
    train_sac(Point, interrupted, replace(CONFIG, steps=256), resume=True)
    curve = load_policy(interrupted).card["learning_curve"]
    assert curve[:3] == load_policy(uninterrupted).card["learning_curve"]
    assert len(curve) == 4


@pytest.mark.parametrize("where", ["checkpoint", "delete"])
def test_a_death_before_the_first_checkpoint_or_the_clean_up_leaves_a_way_on(uninterrupted, tmp_path, where):
    def die(*args):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            *((Run, "checkpoint") if where == "checkpoint" else (worldplan.agents.sac, "delete_checkpoint")), die
        )
        train_sac(Point, tmp_path / "run", CONFIG, command="worldplan train-sac")
    assert (tmp_path / "run" / "policy.json").exists()
    train_sac(Point, tmp_path / "run", CONFIG, command="worldplan train-sac", resume=where == "delete")
    assert made(tmp_path / "run") == made(uninterrupted)


def test_resuming_another_run_is_refused(interrupted, uninterrupted):
    with pytest.raises(BadFile, match="already holds"):
        train_sac(Point, uninterrupted, CONFIG, resume=True)
    with pytest.raises(BadFile, match="already holds"):
        train_sac(Point, uninterrupted, CONFIG)
    with pytest.raises(BadFile, match=r"another configuration or environment \(--gamma was 0.98, is 0.9\)"):
        train_sac(Point, interrupted, replace(CONFIG, gamma=0.9), resume=True)
    with pytest.raises(BadFile, match="another configuration or environment"):
        train_sac(partial(gym.make, "worldplan/Reacher-v0"), interrupted, CONFIG, resume=True)


def test_a_damaged_checkpoint_is_refused_and_the_policy_stays(interrupted):
    before = made(interrupted)
    path = interrupted / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadFile, match="start a new folder"):
        train_sac(Point, interrupted, CONFIG, resume=True)
    path.unlink()
    with pytest.raises(BadFile, match="start a new folder"):
        train_sac(Point, interrupted, CONFIG, resume=True)
    assert made(interrupted) == before


def test_a_full_disk_leaves_the_earlier_files_whole(interrupted, full_disk):
    before = made(interrupted)
    with full_disk(), pytest.raises(OSError, match="No space"):
        train_sac(Point, interrupted, CONFIG, resume=True)
    assert made(interrupted) == before
    assert not [p for p in interrupted.iterdir() if p.name.startswith(".")]
    train_sac(Point, interrupted, CONFIG, resume=True)


# --- the policy -----------------------------------------------------------------------------------------------------


def rounding(policy, observations, noise=0.0):
    """By how much two float32 evaluations of the policy may differ, (N, m): twice a running error bound.

    A product over k terms with a bias errs by at most `(k + 1) u (|W| |x| + |b|)`, u the unit roundoff, and passes on
    the errors of x through |W| (Higham 2002, chapter 3). ReLU, clip and tanh do not amplify; exp does, by its value.
    """
    u = np.finfo(np.float32).eps / 2

    def layer(name, x, error):
        weight, bias = (policy.tensors[f"{name}.{kind}"].astype(np.float64) for kind in ("weight", "bias"))
        grown = error @ np.abs(weight.T) + (len(weight.T) + 1) * u * (np.abs(x) @ np.abs(weight.T) + np.abs(bias))
        return x @ weight.T + bias, grown

    x, error = observations.astype(np.float64), np.zeros(observations.shape)
    for i in range(len(policy.hidden)):
        x, error = layer(f"hidden.{i}", x, error)
        x = np.maximum(x, 0)
    (mean, error), (log_std, of_log_std) = layer("mean", x, error), layer("log_std", x, error)
    std = np.exp(log_std.clip(-20, 2))
    error = error + np.abs(noise) * std * (of_log_std + 4 * u) + 4 * u * (np.abs(mean) + np.abs(noise) * std)
    low, high = policy.action_space.low, policy.action_space.high
    return 2 * ((high - low) / 2 * (error + 4 * u) + 4 * u * np.maximum(np.abs(low), np.abs(high)))


def test_the_policy_is_sb3s_actor(model, tmp_path):
    ActorPolicy(actor_tensors(model), model.observation_space, model.action_space).save(tmp_path / "p")
    policy = load_policy(tmp_path / "p")
    observations = np.random.default_rng(0).uniform(-1, 1, (500, 2)).astype(np.float32)
    theirs, _ = model.predict(observations, deterministic=True)
    ours, _ = policy.predict(observations, deterministic=True)
    assert (ours.dtype, ours.shape) == (np.float32, (500, 2))
    allowed = rounding(policy, observations)
    assert (np.abs(ours - theirs) <= allowed).all()
    assert allowed.max() < 1e-3  # or the bound would allow anything
    assert np.ptp(theirs, axis=0).min() > 1.0  # the comparison is not between constants
    policy.tensors["mean.bias"] += 1e-3
    assert (np.abs(policy.predict(observations)[0] - theirs) > allowed).any()


def test_drawn_actions_are_sb3s_distribution(model):
    policy = ActorPolicy(actor_tensors(model), model.observation_space, model.action_space)
    observations = np.random.default_rng(0).uniform(-1, 1, (200, 2)).astype(np.float32)
    drawn, _ = policy.predict(observations, deterministic=False, rng=np.random.default_rng(5))
    noise = torch.from_numpy(np.random.default_rng(5).standard_normal((200, 2), dtype=np.float32))
    with torch.no_grad():
        mean, log_std, _ = model.actor.get_action_dist_params(torch.from_numpy(observations))
        squashed = torch.tanh(mean + log_std.exp() * noise).numpy()
    assert (
        np.abs(drawn - model.policy.unscale_action(squashed)) <= rounding(policy, observations, noise.numpy())
    ).all()
    assert np.abs(drawn - policy.predict(observations)[0]).max() > 0.1


def test_one_many_and_tensors(uninterrupted):
    policy = load_policy(uninterrupted)
    observations = np.random.default_rng(0).uniform(-1, 1, (5, 2)).astype(np.float32)
    many, state = policy.predict(observations, (np.ones(3),), np.ones(5, dtype=bool))
    np.testing.assert_array_equal(state[0], np.ones(3))
    one, state = policy.predict(observations[2])
    assert one.shape == (2,)
    assert state is None
    assert (np.abs(one - many[2]) <= rounding(policy, observations[2:3])[0]).all()
    tensor, _ = policy.predict(torch.from_numpy(observations))
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), many)
    assert policy.action_space.contains(one)


def test_a_seed_fixes_drawn_actions(uninterrupted):
    observation = np.array([0.1, 0.2], dtype=np.float32)
    first, again, other = (
        load_policy(uninterrupted, seed=s).predict(observation, deterministic=False)[0] for s in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("observation", "error"),
    [
        (np.zeros(3), r"takes observations \(2,\)"),
        (np.zeros((2, 2, 2)), "takes observations"),
        (np.zeros((64, 64, 3), dtype=np.uint8), "takes observations"),
        ({"observation": 1}, "takes observations"),
        ([[1.0], [1.0, 2.0]], "same shape"),
        (np.array([0.0, np.nan]), "not finite"),
    ],
)
def test_bad_observations_are_refused(uninterrupted, observation, error):
    with pytest.raises(InvalidInput, match=error):
        load_policy(uninterrupted).predict(observation)


def test_options_of_an_environment_that_are_no_json_are_told_by_name():
    """Before the first step, not when all is trained; and alike in every run, so that a run can go on."""
    env = Point()
    options = {
        "reward": np.tanh,
        "cost": Point.step,
        "weights": np.ones(2),
        "rng": np.random.default_rng(0),
        "n": np.int64(2),
    }
    env.spec = EnvSpec("Mine-v0", kwargs=options, max_episode_steps=5)
    told = {"reward": "tanh", "cost": "Point.step", "weights": [1.0, 1.0], "rng": "Generator", "n": 2}
    assert _describe(env) == {"id": "Mine-v0", **told, "max_episode_steps": 5}


def test_environments_with_other_spaces_are_refused(uninterrupted):
    policy = load_policy(uninterrupted)
    policy.check_env(Point())

    class Wider(Point):
        action_space = gym.spaces.Box(-4.0, 4.0, (2,), np.float32)

    for env, error in (
        (gym.make("worldplan/Reacher-v0"), "observation_space"),
        (gym.make("worldplan/ReacherPixels-v0"), "observation_space"),
        (gym.make("worldplan/ReacherGoal-v0"), "observation_space"),
        (Wider(), "action_space"),
    ):
        with pytest.raises(InvalidInput, match=error):
            policy.check_env(env)


# --- files ----------------------------------------------------------------------------------------------------------


def test_unknown_policies_are_refused(tmp_path):
    with pytest.raises(UnknownName, match="policy"):
        load_policy("nonsense")
    with pytest.raises(BadFile, match="no such file"):
        load_policy(tmp_path)


def rewritten(folder, tensors):
    """Weights that the card vouches for."""
    save_file(tensors, folder / "policy.safetensors")
    forge(folder / "policy.json", sha256=digest(folder))


def digest(folder):
    return sha256(folder / "policy.safetensors")


def test_altered_weights_are_refused(copy):
    weights = copy / "policy.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:-1], whole[:50] + b"\x00" + whole[51:], b""):
        weights.write_bytes(damaged)
        with pytest.raises(BadFile, match="SHA-256"):
            load_policy(copy)
    weights.unlink()
    with pytest.raises(BadFile, match="no such file"):
        load_policy(copy)


def test_weights_that_do_not_fit_are_refused_though_the_card_vouches(copy):
    good = load_file(copy / "policy.safetensors")
    nan = {**good, "mean.bias": np.full(2, np.nan, dtype=np.float32)}
    for bad in (
        {},
        {k: v for k, v in good.items() if k != "log_std.bias"},
        {**good, "more": np.zeros(1, dtype=np.float32)},
        {**good, "hidden.1.weight": np.zeros((8, 15), dtype=np.float32)},
        {**good, "hidden.0.weight": good["hidden.0.weight"].astype(np.float64)},
        nan,
    ):
        rewritten(copy, bad)
        with pytest.raises(BadFile, match="holds no weights of this policy"):
            load_policy(copy)
    (copy / "policy.safetensors").write_bytes(b"PK\x03\x04 no safetensors")
    forge(copy / "policy.json", sha256=digest(copy))
    with pytest.raises(BadFile, match="holds no weights"):
        load_policy(copy)
    rewritten(copy, good)
    load_policy(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "encoder"},
        {"format": 2},
        {"hidden": [16, 16]},
        {"observation_space": None},
        {"observation_space": {"low": [0.0], "high": [1.0], "dtype": "float32"}},
        {"action_space": {"low": [0.0, 0.0], "high": [1.0], "dtype": "float32"}},
        {"action_space": {"low": [0.0, 0.0], "high": [1.0, 1.0], "dtype": "object"}},
    ],
)
def test_foreign_cards_are_refused(copy, change):
    forge(copy / "policy.json", **change)
    with pytest.raises(BadFile):
        load_policy(copy)


class Trap:
    """What a pickle can do: who opens it makes a file."""

    def __init__(self, sprung):
        self.sprung = sprung

    def __reduce__(self):
        return Path.touch, (self.sprung,)


def test_sb3_zips_load_behind_trust_only(model, tmp_path):
    path, sprung = tmp_path / "model.zip", tmp_path / "sprung"
    model.trap = Trap(sprung)
    model.save(path)
    del model.trap
    policy = load_sb3_zip(path, trust=True)
    assert sprung.exists()
    sprung.unlink()
    observations = np.random.default_rng(0).uniform(-1, 1, (50, 2)).astype(np.float32)
    np.testing.assert_allclose(
        policy.predict(observations)[0], model.predict(observations, None, None, True)[0], atol=1e-6
    )
    for trust in (False, "yes", 1):
        with pytest.raises(InvalidInput, match="trust=True"):
            load_sb3_zip(path, trust=trust)
    assert not sprung.exists()


class Times10(BaseFeaturesExtractor):
    """Features of its own, which no weight shows."""

    def __init__(self, space):
        super().__init__(space, 2)

    def forward(self, x):
        return 10 * x


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"policy_kwargs": {"activation_fn": torch.nn.Tanh}}, "Tanh"),
        ({"policy_kwargs": {"activation_fn": torch.nn.LeakyReLU}}, "LeakyReLU"),
        ({"policy_kwargs": {"features_extractor_class": Times10}}, "Times10"),
        ({"use_sde": True}, "use_sde"),
    ],
)
def test_actors_that_would_be_played_as_others_are_refused(options, named, tmp_path):
    SAC("MlpPolicy", Point(), device="cpu", seed=0, buffer_size=10, **options).save(tmp_path / "model.zip")
    with pytest.raises(InvalidInput, match=f"this one has {named}; use SB3's own"):
        load_sb3_zip(tmp_path / "model.zip", trust=True)


def test_an_actor_that_acts_otherwise_is_refused(model, tmp_path, monkeypatch):
    """Whatever the reason: here, one bias that the reading lost."""
    model.save(tmp_path / "model.zip")
    read = worldplan.agents.sac.actor_tensors
    lost = lambda model: {k: 0 * v + 0.1 if k == "mean.bias" else v for k, v in read(model).items()}  # noqa: E731
    monkeypatch.setattr(worldplan.agents.sac, "actor_tensors", lost)
    with pytest.raises(InvalidInput, match="acts otherwise"):
        load_sb3_zip(tmp_path / "model.zip", trust=True)


def test_foreign_zips_are_refused(tmp_path):
    with pytest.raises(BadFile, match="no such file"):
        load_sb3_zip(tmp_path / "no.zip", trust=True)
    (tmp_path / "a.zip").write_bytes(b"no zip")
    PPO("MlpPolicy", Point(), device="cpu", n_steps=8, batch_size=8).save(tmp_path / "ppo.zip")
    for name in ("a.zip", "ppo.zip"):
        with pytest.raises(BadFile, match="no SAC"):
            load_sb3_zip(tmp_path / name, trust=True)


# --- what ships, and the command line -------------------------------------------------------------------------------


def test_the_shipped_policy_solves_reacher_easy():
    assert "reacher-easy" in known_policies()
    policy = load_policy("reacher-easy")
    envs = [gym.make("worldplan/Reacher-v0") for _ in range(4)]
    policy.check_env(envs[0])
    assert episode_returns(policy, envs, seed=123).mean() > 900
    assert policy.card["test"]["episodes"] >= 20
    assert policy.card["test"]["return"] > 900
    assert policy.card["command"].startswith("worldplan train-sac easy")
    untrained = ActorPolicy(
        {k: v * 0 for k, v in policy.tensors.items()}, policy.observation_space, policy.action_space
    )
    assert episode_returns(untrained, envs, seed=123).mean() < 500


SMOKE = "--steps 32 --evaluate-every 16 --warmup 16 --copies 4 --evaluations 1 --tests 1 --hidden 8 --batch 8"


def test_the_command_line_trains_resumes_and_answers_in_json(tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    arguments = ["train-sac", "hard", *SMOKE.split(), "--out", str(out), "--json"]
    learn, rounds = Run.round, []

    def interrupted(self, progress):
        rounds.append(self.steps)
        if len(rounds) == 2:
            raise KeyboardInterrupt
        return learn(self, progress)

    monkeypatch.setattr(Run, "round", interrupted)
    assert main(arguments) == 130
    assert "--resume" in capsys.readouterr().err
    assert main(arguments) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert rounds == [0, 16, 16]
    assert facts["sha256"] == digest(out)
    assert facts["test"]["episodes"] == 1
    card = load_policy(out).card
    assert card["command"] == f"worldplan {' '.join(arguments)}"  # the first one
    assert card["environment"]["task"] == "hard"


class Endless(Point):
    """`Point` without an end."""

    def step(self, action):
        self.longest = max(getattr(self, "longest", 0), self.steps + 1)
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, False, info


def test_an_environment_without_an_end_is_evaluated_over_the_episodes_of_training(tmp_path):
    made = []

    def make():
        made.append(Endless())
        return made[-1]

    train_sac(make, tmp_path / "run", replace(CONFIG, steps=64, tests=1))
    judges = made[: CONFIG.evaluations] + made[-1:]  # before and after those of training, of 16 steps each in a round
    assert {env.longest for env in judges} == {CONFIG.episode_steps} and max(e.longest for e in made) == 20
    limited = gym.wrappers.TimeLimit(Endless(), 7)
    assert _limited(limited, 20) is limited  # a limit of its own stays
    own = gym.make("worldplan.envs:worldplan/Reacher-v0")
    assert _limited(own, 20) is own and _limited(ReacherTask(), 20).episode_steps == 1000


def test_two_runs_do_not_share_a_folder(tmp_path):
    with held(tmp_path / "run"), pytest.raises(BadFile, match="is being written by process"):
        train_sac(Point, tmp_path / "run", CONFIG)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("path", "error"), [(None, InvalidInput), (b"a.zip", InvalidInput), ("x" * 5000, BadFile)])
def test_what_is_no_path_of_a_zip_is_refused(path, error):
    with pytest.raises(error):
        load_sb3_zip(path, trust=True)
