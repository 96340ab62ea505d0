"""The agent behind `predict`: its bookkeeping, its symmetry on real frames, and SB3's loop around it."""

import warnings
from functools import partial

import numpy as np
import pytest
from arms import COST, AngleFrames, ReadAngles, agent_on_angles, joints, observe, small_encoder, to_frames, walk

import worldplan as wp
from worldplan.agents.planners import receding
from worldplan.agents.planning_agent import PlanningAgent
from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rollout import rollout
from worldplan.envs.tasks import sample_tasks
from worldplan.errors import InvalidInput, NotStabilizable, PlannerFellBack, SolverFailed, UnknownName
from worldplan.eval.control.baselines import true_dynamics
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics, fit_dynamics
from worldplan.planning.lqr import solve_lqr
from worldplan.planning.mpc import solve_mpc
from worldplan.planning.rotation import random_rotation

from turned import rotate_dynamics

SHEAR = np.array([[1.0, 0.5], [0.0, 1.0]])

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
    mean, applied, chart, encoded, fallbacks, seen, ignored, blind = state
    assert not ignored.any() and not blind.any()
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
        (gives([0.1, 0.2]), [0, 1], r"gave float64 \(1, 2\), not \(2, 2\)"),
        (gives([0.1], [0.2]), [0, 1], r"gave float64 \(2, 1\)"),
        (gives([0.1, 0.2j], [0.3, 0.4]), [0, 1], "gave complex128"),
        (gives([0.1, None], [0.3, 0.4]), [0, 1], "gave object"),
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
        ({"observation": FRAME[:32], "desired_goal": FRAME}, "resize"),
        ({"observation": FRAME, "desired_goal": FRAME[:32]}, "resize"),
        ({"observation": FRAME[None][:0], "desired_goal": FRAME[None][:0]}, "empty batch"),
        ({"observation": FRAME, "desired_goal": FRAME[None]}, "one goal image per frame|must be"),
        ({"observation": FRAME[None], "desired_goal": FRAME}, "one goal image per frame"),
        ({"observation": FRAME, "desired_goal": np.zeros(3)}, r"latent goals of 1 frames are \(1, 2\), got \(1, 3\)"),
        ({"observation": FRAME, "desired_goal": np.zeros((1, 2))}, "latent goals|must be"),
        ({"observation": FRAME, "desired_goal": [np.nan, 0]}, "a latent goal has entries that are not finite"),
        ({"observation": FRAME, "desired_goal": None}, "a latent goal"),
        ({"observation": FRAME, "desired_goal": [[1], [2, 3]]}, "dictionary of two arrays"),
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
    wrong = [state[:2], 5, state._replace(mean=None), state._replace(mean=state.mean[:, :1])]
    wrong += [state._replace(goal=state.goal[0]), state._replace(action=state.action.astype(object))]
    for other in wrong:
        with pytest.raises(InvalidInput, match="what the last call returned"):
            agent.predict(observation, other)


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


def test_encoder_and_agent_say_what_they_are():
    agent = wp.agents.load_agent("cartpole")
    told = "PixelEncoder('cartpole', frames 64 x 64, LatentSpace('line', 'line'), world 'cartpole', onnxruntime)"
    assert repr(agent.encoder) == told
    assert repr(agent) == f"PlanningAgent({told}, planner 'lqr', 4 states, 1 actions)"
