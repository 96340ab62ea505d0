"""The encoder inside SB3's policies, and the planner's experience inside its replay buffers."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO, SAC, HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

from worldplan.agents.expert import add_experience
from worldplan.agents.extractor import LeJEPAExtractor
from worldplan.agents.planning_agent import load_agent
from worldplan.envs.rendering import render_frames
from worldplan.errors import InvalidInput
from worldplan.learning.encoder import load_encoder

GOAL, PIXELS = "worldplan/ReacherGoal-v0", "worldplan/ReacherPixels-v0"
FAST = {"profile": "fast"}


def policy(kind=LeJEPAExtractor, **options):
    """Arguments of a small policy, a new dictionary: SB3 writes into it."""
    return {"features_extractor_class": kind, "net_arch": [8], "features_extractor_kwargs": options}


@pytest.fixture(scope="module")
def frames():
    return render_frames(np.random.default_rng(0).uniform(-2, 2, (6, 2)), None, "fast")


def image(shape):
    return spaces.Box(0, 255, shape, np.uint8)


# --- features -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("name", ["reacher", "reacher-ou-90"])
def test_features_are_latents_whatever_the_layout_and_scale(name, trainable, frames):
    encoder = load_encoder(name)
    wanted = encoder.space.embed(encoder(frames))
    first = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    for space, given in (
        (image((3, 64, 64)), first / 255),
        (image((3, 64, 64)), first),
        (image((64, 64, 3)), torch.from_numpy(frames).float() / 255),
    ):
        extractor = LeJEPAExtractor(space, name, trainable)
        assert extractor.features_dim == wanted.shape[1]
        found = extractor.train()(given)
        assert found.requires_grad is trainable
        np.testing.assert_allclose(found.detach().numpy(), wanted, atol=2e-4)


def test_stacked_frames_and_dictionaries(frames):
    encoder = load_encoder("reacher")
    wanted = encoder.space.embed(encoder(frames))
    pair = torch.from_numpy(np.concatenate([frames, frames[::-1].copy()], axis=3)).float() / 255
    both = np.concatenate([wanted, wanted[::-1]], axis=1)
    for space, given in ((image((6, 64, 64)), pair.permute(0, 3, 1, 2)), (image((64, 64, 6)), pair)):
        np.testing.assert_allclose(LeJEPAExtractor(space)(given).numpy(), both, atol=2e-4)
    speeds = torch.arange(12.0).reshape(6, 2)
    space = spaces.Dict({"camera": image((3, 64, 64)), "speed": spaces.Box(-9, 9, (2,))})
    found = LeJEPAExtractor(space)({"camera": pair[..., :3].permute(0, 3, 1, 2), "speed": speeds}).numpy()
    np.testing.assert_allclose(found, np.concatenate([wanted, speeds], axis=1), atol=2e-4)


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (4,)), image((32, 32, 3)), image((64, 64, 4))])
def test_what_shows_no_frame_of_this_size_is_refused(space):
    with pytest.raises(InvalidInput, match="the encoder takes frames"):
        LeJEPAExtractor(space)


@pytest.mark.parametrize(
    ("kind", "name", "form"),
    [(PPO, PIXELS, "CnnPolicy"), (A2C, GOAL, "MultiInputPolicy"), (SAC, GOAL, "MultiInputPolicy")],
)
def test_algorithms_take_it_as_it_is_and_keep_its_weights(kind, name, form, frames, tmp_path):
    short = {PPO: {"n_steps": 8, "batch_size": 8}, A2C: {"n_steps": 8}}
    short |= {SAC: {"buffer_size": 40, "learning_starts": 10}}
    model = kind(form, gym.make(name, **FAST), policy_kwargs=policy(), device="cpu", seed=0, **short[kind])
    model.learn(20)
    extractors = [m for m in model.policy.modules() if isinstance(m, LeJEPAExtractor)]
    wanted = load_encoder("reacher")(frames)
    given = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 - 0.5
    assert extractors
    for extractor in extractors:
        with torch.no_grad():
            np.testing.assert_allclose(extractor.encoder(given).numpy(), wanted, atol=2e-4)
    model.save(tmp_path / "model")
    again = kind.load(tmp_path / "model", device="cpu")
    seen = model.get_env().reset()
    np.testing.assert_array_equal(
        again.predict(seen, deterministic=True)[0], model.predict(seen, deterministic=True)[0]
    )


def test_sb3_itself_would_draw_the_weights_anew(frames):
    """The control: without the guard, `ortho_init` replaces a trained encoder."""

    class Unguarded(LeJEPAExtractor):
        def __init__(self, observation_space):
            super().__init__(observation_space)
            self.encoder = self.encoder.network

    kwargs = policy(Unguarded)
    model = PPO("CnnPolicy", gym.make(PIXELS, **FAST), policy_kwargs=kwargs, device="cpu", n_steps=8, batch_size=8)
    given = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 - 0.5
    with torch.no_grad():
        found = model.policy.features_extractor.encoder(given).numpy()
    assert np.abs(found - load_encoder("reacher")(frames)).max() > 0.1


def test_a_trainable_encoder_learns_on(frames):
    kwargs = policy(trainable=True)
    model = PPO(
        "CnnPolicy", gym.make(PIXELS, **FAST), policy_kwargs=kwargs, device="cpu", n_steps=8, batch_size=8, seed=0
    )
    before = {k: v.clone() for k, v in model.policy.features_extractor.state_dict().items()}
    model.learn(16)
    after = model.policy.features_extractor.state_dict()
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert moved
    assert not any("running" in k for k in moved)


def test_frame_stacks_of_sb3(frames):
    env = VecFrameStack(make_vec_env(PIXELS, n_envs=2, env_kwargs=FAST, seed=0), 3)
    model = PPO("CnnPolicy", env, policy_kwargs=policy(), device="cpu", n_steps=8, batch_size=8)
    one = load_encoder("reacher").space
    assert model.policy.features_extractor.features_dim == 3 * (one.dim + int(one.circles.sum()))
    model.learn(16)


# --- experience -----------------------------------------------------------------------------------------------------


def test_the_planners_transitions_stand_in_the_buffer():
    env = make_vec_env(GOAL, n_envs=2, seed=0, env_kwargs={**FAST, "max_episode_steps": 15})
    model = SAC("MultiInputPolicy", env, buffer_size=200, policy_kwargs=policy(), device="cpu")
    mean = add_experience(model, load_agent("reacher"), 60)
    buffer = model.replay_buffer
    assert buffer.pos == 30
    assert buffer.rewards[:30].mean() == pytest.approx(mean, rel=1e-5)
    assert np.abs(buffer.actions[:30]).max() > 0.3
    starts, ends = (buffer.observations["observation"], buffer.next_observations["observation"])
    for k in range(29):
        same = np.array_equal(starts[k + 1], ends[k])
        assert same != (k == 14)  # the last frame of an episode is not the first of the next
    assert buffer.dones[14].all()
    assert buffer.timeouts[14].all()
    model.learn(4)


def test_experience_of_the_planner_is_better_than_chance():
    class Chance:
        def predict(self, seen, state=None, episode_start=None, deterministic=True):
            return np.random.default_rng(0).uniform(-1, 1, (len(seen["observation"]), 2)).astype(np.float32), None

    env = make_vec_env(GOAL, n_envs=4, seed=0, env_kwargs=FAST)
    model = SAC("MultiInputPolicy", env, buffer_size=2000, policy_kwargs=policy(), device="cpu")
    planned, chance = (add_experience(model, agent, 400) for agent in (load_agent("reacher"), Chance()))
    assert planned > 0.5 * chance  # rewards are negative


def test_hindsight_buffers_take_it_too():
    env = gym.make(GOAL, **FAST, reward="match", max_episode_steps=12)
    model = SAC("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, buffer_size=60, policy_kwargs=policy(),
                device="cpu", learning_starts=20)  # fmt: skip
    add_experience(model, load_agent("reacher"), 36)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert set(model.replay_buffer.sample(32).rewards.unique().tolist()) <= {-1.0, 0.0}


@pytest.mark.parametrize("wrong", ["no model", "on-policy", "no environment", "normalised"])
def test_models_without_a_buffer_are_refused(wrong):
    model = None
    if wrong == "on-policy":
        model = PPO(
            "CnnPolicy", gym.make(PIXELS, **FAST), policy_kwargs=policy(), device="cpu", n_steps=8, batch_size=8
        )
    elif wrong == "no environment":
        model = SAC("CnnPolicy", gym.make(PIXELS, **FAST), policy_kwargs=policy(), device="cpu", buffer_size=10)
        model.env = None
    elif wrong == "normalised":
        env = VecNormalize(make_vec_env(GOAL, env_kwargs=FAST), norm_obs=False)
        model = SAC("MultiInputPolicy", env, policy_kwargs=policy(), device="cpu", buffer_size=10)
    with pytest.raises(InvalidInput, match=r"replay buffer|VecNormalize"):
        add_experience(model, load_agent("reacher"), 5)
