"""The agent behind `predict`: its bookkeeping, its symmetry on real frames, its files, and SB3's loop around it."""

import json
import multiprocessing
import os
import pickle
import shutil
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from forged import forge

from worldplan.agents.planners import receding
from worldplan.agents.planning_agent import PlanningAgent, known_agents, load_agent
from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rollout import rollout
from worldplan.envs.tasks import sample_tasks
from worldplan.errors import BadFile, InvalidInput, NotStabilizable, PlannerFellBack, SolverFailed, UnknownName
from worldplan.eval.control.baselines import true_dynamics
from worldplan.learning.encoder import PixelEncoder, load_encoder
from worldplan.learning.network import ConvEncoder
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics, fit_dynamics
from worldplan.planning.lqr import solve_lqr
from worldplan.planning.mpc import solve_mpc
from worldplan.planning.rotation import random_rotation

from turned import rotate_dynamics

COST = QuadraticCost.goal_reaching(2, 0.1)
SHEAR = np.array([[1.0, 0.5], [0.0, 1.0]])


def to_frames(angles):
    """Images whose first bytes are two angles: a world without a camera."""
    angles = np.atleast_2d(np.asarray(angles, dtype=np.float64))
    frames = np.zeros((len(angles), 64 * 64 * 3), dtype=np.uint8)
    frames[:, :16] = np.ascontiguousarray(angles).view(np.uint8)
    return frames.reshape(-1, 64, 64, 3)


class ReadAngles:
    """The perfect encoder of `to_frames`; remembers how many frames each call brought."""

    latent_dim = 2

    def __init__(self):
        self.calls = []

    def __call__(self, frames):
        self.calls.append(len(frames))
        return np.ascontiguousarray(frames.reshape(len(frames), -1)[:, :16]).view(np.float64)


class AngleFrames(gym.ObservationWrapper):
    """ReacherGoal seen through `to_frames`."""

    def observation(self, observation):
        info = self.unwrapped.info()
        return {"observation": to_frames(info["qpos"])[0], "desired_goal": to_frames(info["goal_qpos"])[0]}


def joints(noise=True):
    """Two like joints with friction; in this world a goal is a rest point."""
    A = np.kron([[1.0, 0.8], [0.0, 0.8]], np.eye(2))
    B = np.tile([[0.05, 0.01], [0.0, 0.04]], (2, 1))
    covariances = (np.kron(np.ones((2, 2)), 1e-4 * np.eye(2)), 1e-3 * np.eye(2)) if noise else (None, None)
    return LinearDynamics(A, B, np.zeros(0), *covariances)


def agent_on_angles(planner="lqr", **options):
    return PlanningAgent(ReadAngles(), joints(), COST, planner, **options)


def observe(angles, goals):
    """One observation of one pose, or N of N."""
    single = np.ndim(angles) == 1
    frames, goals = to_frames(angles), to_frames(goals)
    return {"observation": frames[0] if single else frames, "desired_goal": goals[0] if single else goals}


def walk(N, steps=4, seed=0):
    """Poses (steps, N, 2) and goals (N, 2)."""
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal((steps, N, 2)).cumsum(axis=0), 0.3 * rng.standard_normal((N, 2))


# --- one observation or N -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("planner", ["lqr", "mpc"])
def test_one_row_or_many_give_the_same(planner):
    poses, goals = walk(3)
    together, alone = agent_on_angles(planner), agent_on_angles(planner)
    state, states = None, [None] * 3
    for pose in poses:
        actions, state = together.predict(observe(pose, goals), state)
        assert actions.shape == (3, 2) and actions.dtype == np.float32
        for i in range(3):
            action, states[i] = alone.predict(observe(pose[i], goals[i]), states[i])
            assert action.shape == (2,) and action.dtype == np.float32
            assert np.allclose(action, actions[i], rtol=0, atol=2e-6)
            assert np.allclose(states[i][0], state[0][i : i + 1], rtol=0, atol=1e-7)
    assert len(np.unique(actions, axis=0)) == 3


def test_state_is_a_tuple_of_arrays_with_a_row_each():
    poses, goals = walk(3)
    _, state = agent_on_angles().predict(observe(poses[0], goals))
    assert isinstance(state, tuple) and all(isinstance(part, np.ndarray) and len(part) == 3 for part in state)
    mean, applied, chart, encoded, fallbacks, seen = state
    assert np.array_equal(mean, np.hstack([poses[0], np.zeros((3, 2))]))  # at rest at first
    assert applied.shape == (3, 2) and seen.shape == (3, 64, 64, 3)
    assert np.array_equal(encoded, goals) and fallbacks.tolist() == chart.tolist() == [0, 0, 0]


def test_predict_changes_neither_its_state_nor_its_observation():
    agent, (poses, goals) = agent_on_angles(), walk(3)
    _, state = agent.predict(observe(poses[0], goals))
    kept = [part.copy() for part in state]
    observation = observe(poses[1], goals + [[0.1, 0], [0, 0], [0, 0]])
    seen = {k: v.copy() for k, v in observation.items()}
    first = agent.predict(observation, state, np.array([False, True, False]))
    again = agent.predict(observation, state, np.array([False, True, False]))
    assert all(np.array_equal(a, b) for a, b in zip(state, kept, strict=True))
    assert all(np.array_equal(observation[k], seen[k]) for k in seen)
    assert np.array_equal(first[0], again[0])


def test_the_law_is_clipped_linear_feedback_on_the_filtered_state():
    agent, (poses, goals) = agent_on_angles(), walk(2)
    K = solve_lqr(joints(), COST).gain
    action, state, mean = None, None, None
    for pose in poses:
        estimator = agent.controller.estimator
        mean = estimator.start(pose) if mean is None else estimator.update(mean, action, pose)
        action, state = agent.predict(observe(pose, goals), state)
        error = mean - np.hstack([goals, np.zeros((2, 2))])
        assert np.allclose(action, np.clip(-error @ K.T, -1, 1), rtol=0, atol=1e-7)
        assert np.allclose(state[0], mean, rtol=0, atol=1e-7)


def test_the_action_that_was_applied_enters_the_next_estimate():
    pose, goal = np.zeros(2), np.array([5.0, -5.0])
    agent = agent_on_angles()
    action, state = agent.predict(observe(pose, goal))
    assert action.tolist() == [1.0, -1.0]  # clipped, and the filter knows
    _, state = agent.predict(observe(pose, goal), state)
    ahead = joints().B @ action
    assert np.allclose(state[0][0], ahead - agent.controller.estimator.gain @ ahead[:2], rtol=0, atol=1e-12)


# --- restarts and goals ---------------------------------------------------------------------------------------------


def test_episode_start_resets_that_row_alone():
    agent, (poses, goals) = agent_on_angles(), walk(3)
    _, state = agent.predict(observe(poses[0], goals))
    through, kept = agent.predict(observe(poses[1], goals), state)
    reset, mixed = agent.predict(observe(poses[1], goals), state, np.array([False, True, False]))
    fresh, _ = agent.predict(observe(poses[1], goals))
    assert np.array_equal(reset[[0, 2]], through[[0, 2]]) and np.array_equal(reset[1], fresh[1])
    assert not np.array_equal(reset[1], through[1])
    assert np.array_equal(mixed[0][1], [*poses[1][1], 0, 0]) and np.array_equal(mixed[0][0], kept[0][0])
    assert np.array_equal(agent.predict(observe(poses[1], goals), state, np.ones(3, dtype=bool))[0], fresh)


def test_another_number_of_rows_is_only_legal_at_a_start():
    agent, (poses, goals) = agent_on_angles(), walk(3)
    _, state = agent.predict(observe(poses[0], goals))
    fewer = observe(poses[1][:2], goals[:2])
    for starts in (None, np.array([False, True])):
        with pytest.raises(InvalidInput, match="2 observations for the state of 3"):
            agent.predict(fewer, state, starts)
    assert agent.predict(fewer, state, np.array([True, True]))[0].shape == (2, 2)


def test_a_goal_is_encoded_once_and_again_where_it_changes():
    agent, (poses, goals) = agent_on_angles(), walk(3)
    calls = agent.encoder.calls
    _, state = agent.predict(observe(poses[0], goals))
    assert calls == [3, 3]
    _, state = agent.predict(observe(poses[1], goals.copy()), state)
    assert calls == [3, 3, 3]  # frames alone
    moved = goals + [[0, 0], [0.1, 0], [0, 0]]
    _, state = agent.predict(observe(poses[2], moved), state)
    assert sorted(calls[3:]) == [1, 3]
    assert np.array_equal(state[3], moved)
    action, _ = agent.predict(observe(poses[3], moved), state)
    other, _ = agent.predict(observe(poses[3], goals), state)
    assert (action != other).any(axis=1).tolist() == [False, True, False]


def test_a_goal_image_drawn_into_the_same_array_is_noticed():
    agent, (poses, goals) = agent_on_angles(), walk(1)
    observation = observe(poses[0], goals)
    _, state = agent.predict(observation)
    observation["desired_goal"][:] = to_frames(goals + 0.2)
    _, state = agent.predict(observation, state)
    assert np.array_equal(state[3], goals + 0.2)


def test_latent_goals():
    agent, (poses, goals) = agent_on_angles(), walk(2)
    images, state = agent.predict(observe(poses[0], goals))
    frames = to_frames(poses[0])
    latents, _ = agent.predict({"observation": frames, "desired_goal": goals})
    assert np.array_equal(latents, images)
    one, _ = agent.predict({"observation": frames[1], "desired_goal": goals[1].tolist()})
    assert np.array_equal(one, images[1])
    zero, _ = agent.predict({"observation": frames, "desired_goal": np.zeros((2, 2), dtype=int)}, state)
    assert np.array_equal(zero, agent.predict(observe(poses[0], np.zeros((2, 2))), state)[0])  # from image to latent


# --- limits and planners --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("planner", ["lqr", "mpc"])
def test_actions_stay_within_their_limits(planner):
    far = observe([[0.0, 0.0], [0.0, 0.0]], [[9.0, -9.0], [0.01, 0.0]])
    agent = agent_on_angles(planner, action_low=-0.3, action_high=0.4)
    actions, _ = agent.predict(far)
    assert actions[0] == pytest.approx([0.4, -0.3], abs=1e-6)
    assert (np.abs(actions[1]) < 0.3).all() and actions[1].any()


def test_mpc_is_lqr_where_no_limit_is_active():
    poses, goals = walk(2)
    near = observe(0.05 * poses[0], 0.05 * goals)
    lqr, mpc = (agent_on_angles(planner).predict(near)[0] for planner in ("lqr", "mpc"))
    assert np.allclose(lqr, mpc, rtol=0, atol=1e-6) and np.abs(lqr).max() > 0.01
    far = observe([[0.0, 0.0]], [[0.9, 0.02]])
    lqr, mpc = (agent_on_angles(planner).predict(far)[0] for planner in ("lqr", "mpc"))
    assert np.abs(lqr - mpc).max() > 1e-3  # it does plan with the limits


def test_a_failing_solver_falls_back_to_lqr_and_is_counted():
    poses, goals = walk(3)

    def fails_at_the_second(solver, state, goal):
        if np.array_equal(goal, goals[1]):
            raise SolverFailed("no")
        return solve_mpc(solver, state, goal)

    agent = agent_on_angles(partial(receding, solve=fails_at_the_second))
    with pytest.warns(PlannerFellBack, match="SolverFailed"):
        actions, state = agent.predict(observe(poses[0], goals))
    assert state[4].tolist() == [0, 1, 0]
    assert np.array_equal(actions[1], agent_on_angles("lqr").predict(observe(poses[0], goals))[0][1])
    with pytest.warns(PlannerFellBack):
        _, state = agent.predict(observe(poses[1], goals), state)
        assert state[4].tolist() == [0, 2, 0]
        _, state = agent.predict(observe(poses[2], goals), state, np.array([True, True, False]))
        assert state[4].tolist() == [0, 1, 0]


def raises(error):
    def act(states, goals):
        raise error

    return act


def gives(*rows):
    return lambda states, goals: (np.array(rows), np.zeros(len(rows), dtype=bool))


@pytest.mark.parametrize(
    ("policy", "rows", "reason"),
    [
        (raises(np.linalg.LinAlgError("singular")), [0, 1], "LinAlgError: singular"),
        (raises(MemoryError()), [0, 1], "MemoryError"),
        (raises(RuntimeError("no")), [0, 1], "RuntimeError: no"),
        (raises(ZeroDivisionError("no")), [0, 1], "ZeroDivisionError"),
        (raises(SolverFailed("no", status="user_limit")), [0, 1], "SolverFailed: user_limit"),
        (gives([np.nan, 0.0], [0.1, 0.2]), [0], "not finite"),
        (gives([0.1, 0.2], [0.0, np.inf]), [1], "not finite"),
        (gives([0.1, 0.2]), [0, 1], r"gave \(1, 2\), not \(2, 2\)"),
        (gives([0.1], [0.2]), [0, 1], r"gave \(2, 1\)"),
    ],
)
def test_whatever_a_planner_does_the_torques_are_sane(policy, rows, reason):
    poses, goals = walk(2)
    agent, observation = agent_on_angles(lambda setting: policy), observe(poses[0], goals)
    with pytest.warns(PlannerFellBack, match=reason):
        actions, state = agent.predict(observation)
    assert np.flatnonzero(state.fallbacks).tolist() == rows
    np.testing.assert_array_equal(actions[rows], agent_on_angles().predict(observation)[0][rows])
    assert np.isfinite(actions).all() and (np.abs(actions) <= 1).all()


def test_torques_beyond_the_limits_are_clipped():
    poses, goals = walk(2)
    agent = agent_on_angles(
        lambda setting: gives([7.0, -0.1], [-9.0, 0.2]), action_low=[-0.5, -1], action_high=[1, 0.1]
    )
    actions, state = agent.predict(observe(poses[0], goals))
    assert actions == pytest.approx(np.array([[1.0, -0.1], [-0.5, 0.1]])) and not state.fallbacks.any()


@pytest.mark.parametrize("planner", ["lqr", "mpc", "cem", "mppi"])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e308])
def test_a_poisoned_state_never_becomes_a_torque(planner, poison):
    poses, goals = walk(2)
    agent = agent_on_angles(planner)
    _, state = agent.predict(observe(poses[0], goals))
    for name in ("mean", "action", "goal"):
        bad = getattr(state, name).copy()
        bad[1, 0] = poison
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's of what overflows, and that LQR acts
            try:
                actions, _ = agent.predict(observe(poses[1], goals), state._replace(**{name: bad}))
            except InvalidInput as error:
                assert "finite" in str(error) or "large" in str(error)
            else:
                assert np.isfinite(actions).all() and (np.abs(actions) <= 1).all()


def test_a_cost_that_declares_no_blocks_is_read_alike():
    poses, goals = walk(2)
    plain = QuadraticCost(COST.W, COST.R)
    for planner in ("lqr", "mpc"):
        declared = agent_on_angles(planner).predict(observe(poses[0], goals))[0]
        agent = PlanningAgent(ReadAngles(), joints(), plain, planner)
        assert np.allclose(agent.predict(observe(poses[0], goals))[0], declared, rtol=0, atol=1e-7)


# --- the loop -------------------------------------------------------------------------------------------------------


def test_with_a_perfect_encoder_the_arm_reaches_its_goals():
    agent = PlanningAgent(ReadAngles(), true_dynamics(), COST)
    env, options = AngleFrames(ReacherGoal(pixels=False)), sample_tasks(12, seed=1).options()
    reached = rollout(env, agent, 12, options=options).info["is_success"]
    assert sum(hits[-1] for hits in reached) >= 11
    lost = PlanningAgent(lambda_encoder(lambda h: -h), true_dynamics(), COST)  # joints the wrong way round
    missed = rollout(env, lost, 4, options=options[:4]).info["is_success"]
    assert not any(hits[-1] for hits in missed)


def lambda_encoder(turn):
    class Turned(ReadAngles):
        def __call__(self, frames):
            return turn(super().__call__(frames))

    return Turned()


class Projection:
    """Principal components of real frames, then a matrix and an offset: cheap, deterministic, and no true state."""

    latent_dim = 2

    def __init__(self, frames, matrix=None):
        rows = self._blocks(frames)
        self.mean = rows.mean(axis=0)
        self.axes = np.linalg.svd(rows - self.mean, full_matrices=False)[2][:2].T
        self.matrix = np.eye(2) if matrix is None else matrix

    @staticmethod
    def _blocks(frames):
        return frames.reshape(len(frames), 16, 4, 16, 4, 3).mean(axis=(2, 4)).reshape(len(frames), -1) / 255

    def __call__(self, frames):
        return ((self._blocks(frames) - self.mean) @ self.axes + 0.3) @ self.matrix.T


@pytest.fixture(scope="module")
def frames_of_the_arm():
    env = ReacherGoal(profile="fast", target="hidden")
    fit = rollout(env, None, 12, seed=0, steps=30)
    rng = np.random.default_rng(1)
    shown = env.reset(seed=1, options={"qpos": [0.4, 0.8], "goal_qpos": [-0.5, 1.5]})[0]
    episode = [shown]
    for torque in rng.uniform(-1, 1, (40, 2)):
        episode.append(env.step(torque)[0])
    return fit, episode


def torques(frames_of_the_arm, matrix, turned_dynamics=False):
    """The whole pipeline from one encoder: its torques over an episode in float64, and its fit."""
    fit, episode = frames_of_the_arm
    encoder = Projection(np.concatenate(fit.frames), matrix)
    dynamics = fit_dynamics([encoder(f) for f in fit.frames], fit.actions, iterations=10)
    if turned_dynamics:
        plain = Projection(np.concatenate(fit.frames))
        dynamics = rotate_dynamics(fit_dynamics([plain(f) for f in fit.frames], fit.actions, iterations=10), matrix)
    cost = QuadraticCost.goal_reaching(2, 0.2)
    agent, state, law = PlanningAgent(encoder, dynamics, cost), None, []
    for observation in episode:
        _, state = agent.predict(observation, state)
        law.append(agent.controller.act(state.mean, state.goal)[0][0])
    return np.array(law)


@pytest.mark.parametrize("turned_dynamics", [True, False], ids=["rotated dynamics", "fitted again"])
def test_a_rotated_encoder_gives_the_same_torques_on_real_frames(frames_of_the_arm, turned_dynamics):
    plain = torques(frames_of_the_arm, np.eye(2))
    assert 0.2 < np.abs(plain).mean() < 0.9  # there is something to compare
    for seed in range(2):
        turned = torques(frames_of_the_arm, random_rotation(2, seed), turned_dynamics)
        assert np.allclose(turned, plain, rtol=0, atol=1e-9)


def test_a_sheared_encoder_does_not(frames_of_the_arm):
    plain, sheared = (torques(frames_of_the_arm, M) for M in (np.eye(2), SHEAR))
    assert np.abs(sheared - plain).max() > 0.05


def small_encoder(seed=0, latent_dim=2):
    torch.manual_seed(seed)
    return PixelEncoder(ConvEncoder(latent_dim=latent_dim, width=2, hidden=8), {"made": "at random"})


def test_sb3_evaluates_the_agent_as_it_is():
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    env = make_vec_env(
        "worldplan.envs:worldplan/ReacherGoal-v0", 2, seed=0, env_kwargs={"profile": "fast", "target": "hidden"}
    )
    agent = PlanningAgent(small_encoder(), joints(), COST)
    returns, lengths = evaluate_policy(agent, env, n_eval_episodes=2, return_episode_rewards=True)
    assert lengths == [100, 100] and all(np.isfinite(returns)) and max(returns) < 0
    env.close()


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return PlanningAgent(small_encoder(), joints(), COST).save(tmp_path_factory.mktemp("agents") / "mine")


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def real_episode():
    frames = np.random.default_rng(0).integers(0, 256, (4, 2, 64, 64, 3)).astype(np.uint8)
    return [{"observation": o, "desired_goal": frames[0]} for o in frames[1:]]


def play(agent):
    state, actions = None, []
    for observation in real_episode():
        action, state = agent.predict(observation, state)
        actions.append(action)
    return np.array(actions)


def test_a_saved_agent_acts_the_same_to_the_byte(saved):
    agent = PlanningAgent(small_encoder(), joints(), COST)
    loaded = load_agent(saved)
    assert play(loaded).tobytes() == play(agent).tobytes()
    assert play(PlanningAgent(small_encoder(1), joints(), COST)).tobytes() != play(agent).tobytes()
    assert loaded.to_dict() == agent.to_dict()
    assert sorted(p.name for p in saved.rglob("*")) == ["agent.json", "encoder", "encoder.json", "encoder.safetensors"]


# --- copies, threads, processes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("planner", ["lqr", "mpc", "cem", "mppi"])
def test_copies_of_an_agent_act_the_same_and_share_no_workspace(planner):
    agent = PlanningAgent(small_encoder(), joints(), COST, planner)
    before = play(agent).tobytes()
    for other in (deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        assert play(other).tobytes() == before
        if planner != "lqr":
            mine, others = (a.controller._policy.solver for a in (agent, other))
            assert mine is not others and mine._workspace is not others._workspace


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_an_agent_travels_to_other_processes(method):
    agent, observation = PlanningAgent(small_encoder(), joints(), COST, "mpc"), real_episode()[0]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        action, state = pool.submit(agent.predict, observation).result(timeout=120)
    here = agent.predict(observation)
    assert action.tobytes() == here[0].tobytes() and state.mean.tobytes() == here[1].mean.tobytes()


@pytest.mark.parametrize("planner", ["lqr", "mpc"])
def test_threads_may_share_an_agent(planner):
    agent = PlanningAgent(small_encoder(), joints(), COST, planner)
    before = play(agent).tobytes()
    with ThreadPoolExecutor(8) as pool:
        assert {actions.tobytes() for actions in pool.map(play, [agent] * 16)} == {before}


def test_an_encoder_of_ones_own_under_a_shipped_name_is_saved_with_its_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_encoder().save("reacher")
    mine = load_encoder(Path("./reacher"))
    assert mine.card["sha256"] != load_encoder("reacher").card["sha256"]
    agent = PlanningAgent(mine, joints(), COST)
    assert play(load_agent(agent.save(tmp_path / "agent"))).tobytes() == play(agent).tobytes()


def test_a_death_while_one_agent_replaces_another_leaves_either(saved, tmp_path, monkeypatch):
    folder = shutil.copytree(saved, tmp_path / "agent")
    real, seen = os.replace, []
    old, new = play(load_agent(saved)).tobytes(), PlanningAgent(small_encoder(1), joints(), COST)

    def look(*args, **kwargs):
        seen.append(play(load_agent(folder)).tobytes())
        real(*args, **kwargs)
        seen.append(play(load_agent(folder)).tobytes())

    monkeypatch.setattr(os, "replace", look)
    new.save(folder)
    assert set(seen) == {old, play(new).tobytes()} and len(seen) == 6
    assert len(list(folder.glob("encoder*"))) == 1 and play(load_agent(folder)).tobytes() == play(new).tobytes()


def test_saving_removes_no_encoder_but_the_replaced_agents(tmp_path):
    small_encoder().save(tmp_path / "encoder")  # somebody's own run
    shipped = PlanningAgent(load_encoder("reacher"), joints(), COST)
    shipped.save(tmp_path)
    PlanningAgent(small_encoder(1), joints(), COST).save(tmp_path)
    assert load_encoder(tmp_path / "encoder").card["sha256"] == small_encoder().save(tmp_path / "other")
    assert len(list(tmp_path.glob("encoder-*"))) == 1
    shipped.save(tmp_path)
    assert (tmp_path / "encoder").is_dir() and not list(tmp_path.glob("encoder-*"))


def test_dynamics_without_noise_and_planner_options_are_saved(tmp_path):
    agent = PlanningAgent(small_encoder(), joints(noise=False), COST, "mpc", action_low=-0.5, horizon=7)
    folder = agent.save(tmp_path)
    loaded = load_agent(folder)
    assert loaded.planner == "mpc" and loaded.dynamics.process_noise is None
    assert loaded.options == {"action_low": -0.5, "action_high": 1.0, "horizon": 7}
    assert np.allclose(play(loaded), play(agent), rtol=0, atol=1e-6)
    assert load_agent(folder, horizon=9).options["horizon"] == 9
    lqr = load_agent(folder, planner="lqr")
    assert lqr.planner == "lqr" and lqr.options == {"action_low": -0.5, "action_high": 1.0}  # mpc's option is dropped


def test_a_shipped_name():
    assert "reacher" in known_agents()
    assert load_agent("reacher").encoder.name == "reacher-excitation"
    assert load_agent("reacher-lejepa").encoder.name == "reacher"
    with pytest.raises(UnknownName, match=r"unknown agent .* 'yours'; known: .*reacher"):
        load_agent("yours")


def test_unknown_planners_list_the_known_ones(saved):
    with pytest.raises(UnknownName) as caught:
        load_agent(saved, planner="guess")
    assert {"lqr", "mpc"} <= set(caught.value.known)


def edit(folder, **changes):
    forge(folder / "agent.json", **changes)


def without(folder, name):
    forge(folder / "agent.json", **{name: ...})


DYNAMICS = {"A": joints().A.tolist(), "B": joints().B.tolist(), "intercept": [0.0] * 4}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "agent.json").unlink(), "no such file"),
        (lambda f: (f / "agent.json").write_text("{"), "cannot be read as JSON"),
        (lambda f: (f / "agent.json").write_text("[1]"), "no JSON object"),
        (lambda f: (f / "encoder" / "encoder.safetensors").unlink(), "no such file"),
        (lambda f: (f / "encoder" / "encoder.safetensors").write_bytes(b"x"), "SHA-256"),
        (lambda f: small_encoder(1).save(f / "encoder"), "another encoder"),
        (lambda f: edit(f, encoder_sha256="0" * 64), "another encoder"),
        (lambda f: edit(f, format=2), "format 2"),
        (lambda f: without(f, "dynamics"), "is no agent.*dynamics"),
        (lambda f: without(f, "format"), "format None"),
        (lambda f: edit(f, dynamics=[1]), "is no agent"),
        (lambda f: edit(f, dynamics={**DYNAMICS, "A": [[1.0]]}), "is no agent.*B must be"),
        (lambda f: edit(f, dynamics={**DYNAMICS, "A": [["x"]]}), "is no agent.*real numbers"),
        (lambda f: edit(f, dynamics={**DYNAMICS, "A": [[1.0], [1.0, 2.0]]}), "is no agent.*not an array"),
        (lambda f: edit(f, dynamics={**DYNAMICS, "C": 1}), "is no agent"),
        (lambda f: edit(f, cost={"W": [[1.0]], "R": [[1.0]]}), "is no agent"),
        (lambda f: edit(f, cost={"W": (-np.eye(4)).tolist(), "R": [[1.0]]}), "is no agent.*semidefinite"),
        (lambda f: edit(f, options={"action_low": 2.0, "action_high": 1.0}), "is no agent.*action_low"),
        (lambda f: edit(f, options={"horizont": 3}), "is no agent.*horizont"),
        (lambda f: edit(f, options=3), "is no agent"),
    ],
)
def test_damaged_files_are_refused(copy, spoil, message):
    load_agent(copy)
    spoil(copy)
    with pytest.raises(BadFile, match=message):
        load_agent(copy)


def test_names_inside_a_file_that_nobody_knows(copy):
    edit(copy, planner="guess")
    with pytest.raises(UnknownName, match=r"planner 'guess'; known: .*lqr"):
        load_agent(copy)
    edit(copy, planner="lqr", encoder="nowhere")
    with pytest.raises(UnknownName, match="unknown encoder"):
        load_agent(copy)


def test_a_callers_own_mistake_is_not_blamed_on_the_file(saved):
    with pytest.raises(InvalidInput, match="horizont"):
        load_agent(saved, horizont=3)


def test_only_our_own_encoder_can_be_saved(tmp_path):
    with pytest.raises(InvalidInput, match="can be saved"):
        agent_on_angles().save(tmp_path / "agent")
    assert not (tmp_path / "agent").exists()


def test_the_file_is_plain_json(saved):
    assert json.loads((saved / "agent.json").read_text())["planner"] == "lqr"


# --- bad input ------------------------------------------------------------------------------------------------------


FRAME = to_frames([0.0, 0.0])[0]


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (FRAME, "dictionary"),
        (None, "dictionary"),
        ({"observation": FRAME}, "dictionary"),
        ({"observation": FRAME.astype(np.float32), "desired_goal": FRAME}, "frames must be uint8"),
        ({"observation": FRAME, "desired_goal": FRAME.astype(float)}, "frames must be uint8"),
        ({"observation": FRAME, "desired_goal": np.full((64, 64, 3), np.nan)}, "holds NaN"),
        ({"observation": np.moveaxis(FRAME, -1, 0), "desired_goal": FRAME}, "channels last"),
        ({"observation": FRAME[:32], "desired_goal": FRAME}, "resize"),
        ({"observation": FRAME, "desired_goal": FRAME[:32]}, "resize"),
        ({"observation": FRAME[None][:0], "desired_goal": FRAME[None][:0]}, "empty batch"),
        ({"observation": FRAME, "desired_goal": FRAME[None]}, "one goal image per frame|must be"),
        ({"observation": FRAME[None], "desired_goal": FRAME}, "one goal image per frame"),
        ({"observation": FRAME, "desired_goal": np.zeros(3)}, r"latent goals of 1 frames are \(1, 2\), got \(1, 3\)"),
        ({"observation": FRAME, "desired_goal": np.zeros((1, 2))}, "latent goals|must be"),
        ({"observation": FRAME, "desired_goal": [np.nan, 0]}, "a latent goal has entries that are not finite"),
        ({"observation": FRAME, "desired_goal": None}, "a latent goal"),
    ],
)
def test_bad_observations_are_refused(observation, message):
    with pytest.raises(InvalidInput, match=message):
        agent_on_angles().predict(observation)


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (lambda h: h * np.nan, "the encoder's output has entries that are not finite"),
        (lambda h: h[:, :1], r"the encoder must give latents \(1, 2\), got \(1, 1\)"),
        (lambda h: h[0], r"got \(2,\)"),
    ],
)
def test_a_broken_encoder_is_named(turn, message):
    agent = PlanningAgent(lambda_encoder(turn), joints(), COST)
    with pytest.raises(InvalidInput, match=message):
        agent.predict({"observation": FRAME, "desired_goal": FRAME})


def test_a_state_or_start_that_does_not_fit():
    agent, (poses, goals) = agent_on_angles(), walk(2)
    observation = observe(poses[0], goals)
    _, state = agent.predict(observation)
    with pytest.raises(InvalidInput, match="3 episode starts for 2"):
        agent.predict(observation, state, np.zeros(3, dtype=bool))
    with pytest.raises(InvalidInput, match="what the last call returned"):
        agent.predict(observation, state[:2])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"planner": "guess"}, UnknownName, r"planner 'guess'; known: .*lqr"),
        ({"action_low": 1.0}, InvalidInput, "below action_high"),
        ({"action_low": np.nan}, InvalidInput, "action_low is NaN"),
        ({"action_low": [-1.0, 2.0]}, InvalidInput, "above action_high"),
        ({"action_low": [-1.0] * 3}, InvalidInput, r"a number or \(2,\)"),
        ({"horizon": 5}, InvalidInput, "planner 'lqr'.*horizon"),
        ({"planner": "mpc", "horizon": 0}, InvalidInput, "horizon"),
        ({"cost": QuadraticCost.goal_reaching(3)}, InvalidInput, "cost"),
        (
            {"cost": QuadraticCost(np.eye(4), np.eye(2), latent_dim=1)},
            InvalidInput,
            "latents of 1, the encoder gives 2",
        ),
        ({"dynamics": LinearDynamics(np.eye(3), np.ones((3, 2)))}, InvalidInput, "fit no latent of 2"),
        ({"dynamics": LinearDynamics(1.1 * np.eye(4), np.zeros((4, 2)))}, NotStabilizable, "no feedback"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        PlanningAgent(**{"encoder": ReadAngles(), "dynamics": joints(), "cost": COST, **arguments})
