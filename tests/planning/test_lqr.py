import dataclasses
from decimal import Decimal

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.linalg import block_diag, solve_discrete_are

import worldplan.planning.lqr
import worldplan.planning.modes
from worldplan.errors import InvalidInput, NotStabilizable, SolverFailed, WorldplanError
from worldplan.planning.bounds import System, bounded, bounded_finite, feedback_step, many_digits, precise, summed
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.lqr import solve_lqr
from worldplan.planning.modes import unreachable_modes, unseen_modes
from worldplan.planning.riccati import doubled_riccati
from worldplan.planning.rotation import change_basis, random_rotation

from turned import lift, rotate_dynamics, rotate_state

checked = settings(derandomize=True, deadline=None, max_examples=25)
seeds = st.integers(0, 2**32 - 1)


def random_system(rng, d, m, radius=1.2):
    A = rng.standard_normal((d, d))
    return LinearDynamics(A * radius / np.abs(np.linalg.eigvals(A)).max(), rng.standard_normal((d, m)))


def random_cost(rng, d, m, latent_dim=None):
    factor, effort = rng.standard_normal((d, d)), rng.standard_normal((m, m))
    return QuadraticCost(factor @ factor.T + 0.1 * np.eye(d), effort @ effort.T + 0.1 * np.eye(m), latent_dim)


def reacher_like(n=2, damping=0.87):
    eye, zero = np.eye(n), np.zeros((n, n))
    return LinearDynamics(np.block([[eye, damping * eye], [zero, damping * eye]]), 0.02 * np.vstack([eye, eye]))


def out_of_reach(rng, d, m, hidden):
    """A random system with the block `hidden` beyond the reach of B, in random coordinates."""
    k = len(hidden)
    A = block_diag(random_system(rng, d, m, 0.9).A, hidden)
    A[:d, d:] = rng.standard_normal((d, k))
    B = np.vstack([rng.standard_normal((d, m)), np.zeros((k, m))])
    M = random_rotation(d + k, rng) @ np.diag(rng.uniform(0.5, 2, d + k)) @ random_rotation(d + k, rng)
    return change_basis(LinearDynamics(A, B), M)


def measured_cost(dynamics, cost, x, policy, steps):
    """The naive loop: the cost of a policy (x, t) -> u, and where it ends."""
    total = 0.0
    for t in range(steps):
        u = policy(x, t)
        total += x @ cost.W @ x + u @ cost.R @ u
        x = dynamics.A @ x + dynamics.B @ u
    return total, x


def test_the_gain_of_the_scalar_integrator_is_the_golden_one_and_its_sign_is_ours():
    assert "u = -K (x - x_goal)" in solve_lqr.__doc__.splitlines()[0]
    lqr = solve_lqr(LinearDynamics([[1.0]], [[1.0]]), QuadraticCost([[1.0]], [[1.0]]))
    golden = (1 + np.sqrt(5)) / 2
    np.testing.assert_allclose(lqr.value_matrix, [[golden]], rtol=1e-12)
    np.testing.assert_allclose(lqr.gain, [[golden / (1 + golden)]], rtol=1e-12)
    assert lqr.radius == pytest.approx(1 - golden / (1 + golden)) and lqr.residual < 1e-12 and lqr.certified
    # Left of the goal the control must push right.
    np.testing.assert_allclose(lqr.action([-1.0], [2.0]), [3 * golden / (1 + golden)], rtol=1e-12)
    assert lqr.value([-1.0], [2.0]) == pytest.approx(9 * golden)
    assert lqr.gains is None and lqr.value_matrices is None


@checked
@given(seeds, st.integers(1, 6), st.integers(1, 3))
def test_rolling_out_costs_what_the_value_matrix_says_and_any_other_gain_costs_more(seed, d, m):
    rng = np.random.default_rng(seed)
    dynamics, cost = random_system(rng, d, m), random_cost(rng, d, m)
    lqr = solve_lqr(dynamics, cost)
    x = rng.standard_normal(d)
    for t in (1, 3, 30):  # principle of optimality: what is left at any time is again x'Px
        spent, rest = measured_cost(dynamics, cost, x, lambda x, _: -lqr.gain @ x, t)
        assert spent + lqr.value(rest, np.zeros(d)) == pytest.approx(lqr.value(x, np.zeros(d)), rel=1e-8)
    if lqr.radius < 0.9:
        assert measured_cost(dynamics, cost, x, lambda x, _: -lqr.gain @ x, 400)[0] == pytest.approx(
            lqr.value(x, np.zeros(d)), rel=1e-8
        )
    for size in (1e-2, 1e-1):  # adverse: a wrong gain pays exactly sum |u + K x|^2 in the norm R + B'PB, hence more
        wrong = lqr.gain + size * rng.standard_normal((m, d))
        spent, rest = measured_cost(dynamics, cost, x, lambda x, _, wrong=wrong: -wrong @ x, 20)
        assert spent + lqr.value(rest, np.zeros(d)) > lqr.value(x, np.zeros(d)) * (1 + 1e-9)


@checked
@given(seeds, st.integers(1, 5), st.integers(1, 3), st.integers(1, 12), st.booleans())
def test_the_finite_recursion_agrees_with_one_big_least_squares_problem(seed, d, m, horizon, own_terminal):
    rng = np.random.default_rng(seed)
    dynamics, cost = random_system(rng, d, m), random_cost(rng, d, m)
    terminal = random_cost(rng, d, m).W if own_terminal else cost.W
    lqr = solve_lqr(dynamics, cost, horizon, terminal=terminal if own_terminal else None)
    x0 = rng.standard_normal(d)
    half = [np.linalg.cholesky(M).T for M in (cost.W, cost.R, terminal)]

    def residuals(u):  # |residuals|^2 is the cost; affine in u, so that its columns come from unit actions
        x, rows = x0, []
        for t in range(horizon):
            rows += [half[0] @ x, half[1] @ u[t]]
            x = dynamics.A @ x + dynamics.B @ u[t]
        return np.concatenate([*rows, half[2] @ x])

    units = np.eye(horizon * m).reshape(-1, horizon, m)
    free = residuals(np.zeros((horizon, m)))
    columns = np.array([residuals(unit) - free for unit in units]).T
    best = np.linalg.lstsq(columns, -free)[0].reshape(horizon, m)
    x = x0
    for t in range(horizon):
        np.testing.assert_allclose(lqr.action(x, np.zeros(d), step=t), best[t], atol=1e-7 * (1 + np.abs(best).max()))
        x = dynamics.A @ x + dynamics.B @ best[t]
    assert lqr.value(x0, np.zeros(d)) == pytest.approx(np.sum(residuals(best) ** 2), rel=1e-8)
    assert lqr.gains.shape == (horizon, m, d) and lqr.value_matrices.shape == (horizon + 1, d, d)
    np.testing.assert_array_equal(lqr.gain, lqr.gains[0])
    np.testing.assert_array_equal(lqr.value_matrices[-1], terminal)


@checked
@given(seeds, st.integers(1, 6), st.integers(1, 3))
def test_a_long_finite_horizon_is_the_infinite_one_and_a_short_one_is_not(seed, d, m):
    rng = np.random.default_rng(seed)
    dynamics, cost = random_system(rng, d, m), random_cost(rng, d, m)
    infinite = solve_lqr(dynamics, cost)
    steps = int(np.ceil(np.log(1e-12) / np.log(max(infinite.radius, 0.5))))
    finite = solve_lqr(dynamics, cost, horizon=min(steps, 3000))
    np.testing.assert_allclose(finite.value_matrix, infinite.value_matrix, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(finite.gain, infinite.gain, rtol=1e-6, atol=1e-8)
    assert finite.radius == pytest.approx(infinite.radius, abs=1e-6)
    assert np.trace(solve_lqr(dynamics, cost, horizon=1).value_matrix) < np.trace(infinite.value_matrix)
    # Begun at the infinite value, the recursion stays there: the gains are constant.
    steady = solve_lqr(dynamics, cost, horizon=5, terminal=infinite.value_matrix)
    np.testing.assert_allclose(steady.gains, np.broadcast_to(infinite.gain, (5, m, d)), rtol=1e-7, atol=1e-9)


@checked
@given(seeds, st.integers(2, 4), st.sampled_from([None, 30]))
def test_theorem_4_the_solution_turns_with_the_latents(seed, n, horizon):
    rng = np.random.default_rng(seed)
    dynamics, cost = random_system(rng, 2 * n, 2), QuadraticCost.goal_reaching(n, velocity_weight=0.3, action_dim=2)
    Q = random_rotation(n, rng)
    L = lift(Q, 2)
    plain, turned = solve_lqr(dynamics, cost, horizon), solve_lqr(rotate_dynamics(dynamics, Q), cost, horizon)
    scale = np.abs(plain.value_matrix).max()
    np.testing.assert_allclose(turned.value_matrix, L @ plain.value_matrix @ L.T, atol=1e-9 * scale)
    np.testing.assert_allclose(turned.gain, plain.gain @ L.T, atol=1e-9 * (1 + np.abs(plain.gain).max()))
    x, goal = rng.standard_normal(2 * n), rng.standard_normal(n)
    u = plain.action(x, goal)
    np.testing.assert_allclose(
        turned.action(rotate_state(x, Q), rotate_state(goal, Q)), u, atol=1e-8 * (1 + abs(u).max())
    )


def theorem_4_error(dynamics, cost, M, turn_goal=True):
    """How far torques in the latents `M h` are from those in h."""
    L, x, goal = np.kron(np.eye(2), M), np.array([1.0, -0.5, 0.1, 0.2]), np.array([0.3, 0.8])
    other = solve_lqr(change_basis(dynamics, L), cost)
    return np.abs(
        other.action(L @ x, M @ goal if turn_goal else goal) - solve_lqr(dynamics, cost).action(x, goal)
    ).max()


def test_theorem_4_fails_where_it_must():
    dynamics, cost, Q = reacher_like(), QuadraticCost.goal_reaching(2), random_rotation(2, 3)
    assert theorem_4_error(dynamics, cost, Q) < 1e-10
    assert theorem_4_error(dynamics, cost, Q, turn_goal=False) > 0.1
    assert theorem_4_error(dynamics, cost, np.array([[1, 0.1], [0, 1]]) @ Q) > 1e-3
    assert theorem_4_error(dynamics, cost, 1.1 * Q) > 1e-3
    for s in (1e-2, 1.0):
        anisotropic = QuadraticCost(np.diag([1 + s, 1, 0, 0]), cost.R, latent_dim=2)
        assert theorem_4_error(dynamics, anisotropic, Q) > 1e-3 * s


hidden_blocks = st.one_of(
    st.floats(1.0, 1.5).map(lambda size: np.array([[size]])),
    st.floats(-1.5, -1.0).map(lambda size: np.array([[size]])),
    st.tuples(st.floats(1.0, 1.5), st.floats(0.1, 3.0)).map(
        lambda polar: polar[0] * np.array([[np.cos(polar[1]), -np.sin(polar[1])], [np.sin(polar[1]), np.cos(polar[1])]])
    ),
    st.just(np.array([[1.0, 1.0], [0.0, 1.0]])),  # a drifting object that nothing touches: a defective mode
)


@settings(checked, max_examples=150)
@given(seeds, st.integers(1, 6), st.integers(1, 3), hidden_blocks)
def test_what_cannot_be_stabilised_raises(seed, d, m, hidden):
    rng = np.random.default_rng(seed)
    dynamics, cost = out_of_reach(rng, d, m, hidden), random_cost(rng, d + len(hidden), m)
    with pytest.raises((NotStabilizable, SolverFailed)) as caught:
        solve_lqr(dynamics, cost)
    if isinstance(caught.value, NotStabilizable):
        gap = np.abs(np.subtract.outer(caught.value.modes, np.linalg.eigvals(hidden))).min(axis=1)
        assert len(caught.value.modes) and gap.max() < 1e-5
    assert np.isfinite(solve_lqr(dynamics, cost, horizon=20).gains).all()  # a finite horizon needs no stabilisability


@settings(checked, max_examples=60)
@given(seeds, st.integers(1, 6), st.integers(1, 3), st.floats(-0.99, 0.99))
def test_what_decays_by_itself_need_not_be_reached(seed, d, m, decaying):
    rng = np.random.default_rng(seed)
    dynamics, cost = out_of_reach(rng, d, m, np.array([[decaying]])), random_cost(rng, d + 1, m)
    lqr = solve_lqr(dynamics, cost)
    assert lqr.certified and abs(decaying) - 1e-9 <= lqr.radius < 1
    assert len(unreachable_modes(dynamics)) == 0


@settings(checked, max_examples=40)
@given(seeds, st.integers(1, 6), st.integers(1, 3), hidden_blocks, st.floats(-12, 0))
def test_the_quick_test_of_reach_decides_nothing_by_itself(seed, d, m, hidden, power):
    """What factorisations pass over, singular values pass too; also where B reaches a mode only just."""
    rng = np.random.default_rng(seed)
    dynamics = out_of_reach(rng, d, m, hidden)
    dynamics = LinearDynamics(dynamics.A, dynamics.B + 10**power * rng.standard_normal(dynamics.B.shape))
    quick = unreachable_modes(dynamics)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worldplan.planning.modes, "PLAINLY_REACHED", 1e3)  # no pencil has such singular values
        np.testing.assert_array_equal(unreachable_modes(dynamics), quick)
        patch.setattr(
            worldplan.planning.modes, "PLAINLY_REACHED", 0.0
        )  # below rounding, the factorisation says anything
        assert len(unreachable_modes(dynamics)) <= len(quick)


def test_scipy_alone_gives_wrong_answers_without_raising():
    """Why the checks are there: without them these would have passed for solutions."""
    silent = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        dynamics, cost = out_of_reach(rng, 3, 2, np.array([[1.2]])), random_cost(rng, 4, 2)
        try:
            solve_discrete_are(dynamics.A, dynamics.B, cost.W, cost.R)
        except np.linalg.LinAlgError:
            continue
        silent += 1
    assert silent > 10


def test_the_certificate_alone_rejects_what_the_solver_makes_up(monkeypatch):
    """The second line: with the first one off, no system out of reach gets an answer either."""
    monkeypatch.setattr(worldplan.planning.lqr, "hidden_modes", lambda A, B, W: (np.zeros(0), np.zeros(0)))
    for seed in range(40):
        rng = np.random.default_rng(seed)
        with pytest.raises(SolverFailed) as caught:
            solve_lqr(out_of_reach(rng, 3, 2, np.array([[1.2]])), random_cost(rng, 4, 2))
        assert caught.value.status in ("failed", "not certified", "not finite")


@pytest.fixture
def answer_wrongly(monkeypatch):
    """`answer_wrongly(wrong)`: every Riccati solver returns `wrong(P)` in the place of P."""
    lqr = worldplan.planning.lqr

    def answer(wrong):
        for name in ("_scipys", "_doubled"):
            solve = getattr(lqr, name)
            monkeypatch.setattr(lqr, name, lambda system, solve=solve: wrong(solve(system)))

    return answer


@pytest.mark.parametrize("wrong", [lambda P: 1.001 * P, lambda P: 0 * P, lambda P: -P, lambda P: P + np.eye(len(P))])
@pytest.mark.parametrize("refinements", [1, 40])
def test_a_wrong_answer_of_the_solvers_is_mended_or_refused(monkeypatch, answer_wrongly, wrong, refinements):
    dynamics, cost = reacher_like(), QuadraticCost.goal_reaching(2)
    right = solve_lqr(dynamics, cost)
    monkeypatch.setattr(worldplan.planning.lqr, "REFINEMENTS", refinements)
    answer_wrongly(wrong)
    try:
        np.testing.assert_allclose(solve_lqr(dynamics, cost).value_matrix, right.value_matrix, rtol=1e-9, atol=1e-12)
        assert refinements > 1
    except SolverFailed as error:
        assert error.problem == (dynamics, cost)


def test_two_solvers_that_disagree_are_refused(monkeypatch):
    """Not by choice of one of them: a proof that both are right is a proof too many."""
    found = worldplan.planning.lqr._refined
    monkeypatch.setattr(worldplan.planning.lqr, "CROSS_CHECK", -1.0)  # each answer is refined, and held against others
    assert solve_lqr(reacher_like(), QuadraticCost.goal_reaching(2)).certified
    turn = iter([1, 2] * 4)

    def another_each_time(*args):
        answer = found(*args)
        return answer if next(turn) == 1 else answer._replace(P=answer.P * type(answer.P[0, 0])(1.00001))

    monkeypatch.setattr(worldplan.planning.lqr, "_refined", another_each_time)
    with pytest.raises(SolverFailed, match="two solvers disagree"):
        solve_lqr(reacher_like(), QuadraticCost.goal_reaching(2))


def barely_reached(rate, push, rng, d=5):
    """A system with a mode of growth `rate` that B reaches by `push` only, in random coordinates."""
    A = np.zeros((d, d))
    A[0, 0], A[1:, 1:], A[1:, 0] = rate, random_system(rng, d - 1, 1, 0.8).A, 0.3 * rng.standard_normal(d - 1)
    B = rng.standard_normal((d, 2))
    B[0] = push
    Q = random_rotation(d, rng)
    return LinearDynamics(Q @ A @ Q.T, Q @ B)


def exact_value(dynamics, cost, digits=80):
    """P by doubling with many digits: the oracle, in the arithmetic of another library."""
    with mpmath.workdps(digits):
        A, B, P, R = (mpmath.matrix(M.tolist()) for M in (dynamics.A, dynamics.B, cost.W, cost.R))
        G, eye = B * R**-1 * B.T, mpmath.eye(dynamics.state_dim)
        for _ in range(40):
            inverse = (eye + G * P) ** -1
            A, G, P = A * inverse * A, G + A * inverse * G * A.T, P + A.T * P * inverse * A
        return np.array(P.tolist(), dtype=object)


@pytest.mark.parametrize("rate, push", [(0.9, 1.0), (1.001, 1e-6), (1.5, 1e-3), (1.05, 1e-5)])
def test_the_bounds_hold_in_eighty_digits(rate, push):
    """Where a residual of 2e-9 went with a value that was off by 2%."""
    rng = np.random.default_rng(5)
    dynamics, cost = barely_reached(rate, push, rng), random_cost(rng, 5, 2)
    lqr, truth = solve_lqr(dynamics, cost), exact_value(dynamics, cost)

    def off(P):
        error = np.vectorize(mpmath.mpf)(P) - truth
        return float(np.sqrt((error**2).sum()) / np.sqrt((truth**2).sum()))

    assert lqr.certified and off(lqr.value_matrix) <= lqr.value_error
    assert off(lqr.value_matrix * (1 + 1e-5)) > lqr.value_error  # negative control: the oracle tells a worse one


@pytest.mark.parametrize("arithmetic", [np.float64, np.longdouble, Decimal])
def test_the_bounds_tell_wrong_values_and_gains(arithmetic):
    rng = np.random.default_rng(0)
    dynamics, cost = random_system(rng, 4, 2), random_cost(rng, 4, 2)
    lqr, system = solve_lqr(dynamics, cost), System(dynamics.A, dynamics.B, cost.W, cost.R)
    with many_digits():

        def judged(K, value):
            P = precise(value, arithmetic)
            return bounded(system, P, feedback_step(system, K, P, P))

        right = judged(lqr.gain, lqr.value_matrix)
        assert right.below < 1e-11 and right.above < 1e-11
        for size in (1e-9, 1e-6):
            off = lqr.value_matrix * (1 + size)
            worse = judged(lqr.gain, off)
            # The truth lies within: P - below Z <= truth.
            assert np.linalg.eigvalsh(lqr.value_matrix - off + worse.below * worse.Z)[0] > 0 and worse.below > size / 10
        assert judged(0 * lqr.gain, lqr.value_matrix) is None  # radius 1.2: not stable
        assert judged(lqr.gain, -lqr.value_matrix) is None


@checked
@given(seeds, st.integers(1, 6), st.integers(1, 3))
def test_units_of_the_states_change_nothing(seed, d, m):
    """A hundred and thirty-two of 333 systems in mixed units were once called not stabilisable."""
    rng = np.random.default_rng(seed)
    dynamics, cost = random_system(rng, d, m), random_cost(rng, d, m)
    units = 10.0 ** rng.uniform(-8, 8, d)
    mixed = LinearDynamics(dynamics.A * units / units[:, None], dynamics.B / units[:, None])
    other = solve_lqr(mixed, QuadraticCost(cost.W * np.outer(units, units), cost.R))
    np.testing.assert_allclose(other.gain / units, solve_lqr(dynamics, cost).gain, rtol=1e-6, atol=1e-9)
    assert not len(unreachable_modes(mixed)) and not len(unseen_modes(mixed, other.cost))
    with pytest.raises(NotStabilizable):  # negative control: what B does not reach stays so in any units
        solve_lqr(LinearDynamics(mixed.A + (1.2 - mixed.A) * np.eye(d), 0 * mixed.B), cost)


@checked
@given(seeds, st.integers(1, 15), st.floats(-8, 8))
def test_cheap_and_dear_controls_are_solved_to_rounding(seed, d, power):
    rng = np.random.default_rng(seed)
    dynamics = random_system(rng, d, 2, radius=rng.uniform(0.3, 2))
    W = np.diag([1.0] * (d - d // 2) + [0.0] * (d // 2))
    assert solve_lqr(dynamics, QuadraticCost(W, 10**power * np.eye(2))).residual < 1e-10


def test_the_riccati_solution_that_does_not_stabilise_is_refused(answer_wrongly):
    """P = 0 solves the equation exactly when W = 0, and leaves the unstable loop as it is."""
    dynamics, cost = LinearDynamics([[2.0]], [[1.0]]), QuadraticCost([[0.0]], [[1.0]])
    stabilising = solve_lqr(dynamics, cost)
    assert stabilising.radius == pytest.approx(0.5) and stabilising.value_matrix[0, 0] == pytest.approx(3.0)
    answer_wrongly(np.zeros_like)
    with pytest.raises(SolverFailed, match="no solver finds a solution that stabilises"):
        solve_lqr(dynamics, cost)


@checked
@given(seeds, st.integers(1, 12), st.integers(1, 4), st.floats(-6, 6))
def test_doubling_gives_what_scipy_gives(seed, d, m, power):
    rng = np.random.default_rng(seed)
    dynamics, cost = random_system(rng, d, m, radius=rng.uniform(0.3, 1.5)), random_cost(rng, d, m)
    weight = 10**power * np.eye(d) + cost.W
    doubled = doubled_riccati(dynamics.A, dynamics.B @ dynamics.B.T, weight)
    wanted = solve_discrete_are(dynamics.A, dynamics.B, weight, np.eye(m))
    np.testing.assert_allclose(doubled, wanted, rtol=1e-6, atol=1e-9 * np.abs(wanted).max())
    with pytest.raises(AssertionError):
        shorter = doubled_riccati(0.9 * dynamics.A, dynamics.B @ dynamics.B.T, weight)
        np.testing.assert_allclose(shorter, wanted, rtol=1e-6, atol=1e-9 * np.abs(wanted).max())


def test_doubling_waits_for_slow_loops():
    """Twelve doublings see 4096 steps; a loop of radius .999999 forgets within ten million."""
    slow = np.array([[0.999999]])
    P = doubled_riccati(slow, np.array([[1e-16]]), np.eye(1))
    assert P[0, 0] == pytest.approx(solve_discrete_are(slow, [[1e-8]], [[1.0]], [[1.0]])[0, 0], rel=1e-6)


def test_each_step_of_a_finite_horizon_counts(monkeypatch):
    step = worldplan.planning.lqr.riccati_step
    times = iter(range(100))

    def once_wrong(dynamics, cost, P):
        K, value = step(dynamics, cost, P)
        return (K, value * (1 + 1e-4)) if next(times) == 7 else (K, value)

    monkeypatch.setattr(worldplan.planning.lqr, "riccati_step", once_wrong)
    with pytest.raises(SolverFailed, match="lost its accuracy"):
        solve_lqr(reacher_like(), QuadraticCost.goal_reaching(2), horizon=15)


def test_the_bound_of_a_finite_horizon_is_true_and_carries_errors_of_late_steps_to_the_start():
    rng = np.random.default_rng(7)
    dynamics, cost = random_system(rng, 3, 2), random_cost(rng, 3, 2)
    lqr = solve_lqr(dynamics, cost, horizon=12)
    with mpmath.workdps(60):
        A, B, W, R = (mpmath.matrix(M.tolist()) for M in (dynamics.A, dynamics.B, cost.W, cost.R))
        P = W
        for _ in range(12):
            P = W + A.T * P * (A - B * (R + B.T * P * B) ** -1 * (B.T * P * A))
        off = np.array((P - mpmath.matrix(lqr.value_matrix.tolist())).tolist(), dtype=np.float64)
    assert 0 < np.linalg.norm(off) <= lqr.value_error * np.linalg.norm(lqr.value_matrix)
    # One step makes a mistake, and those before it none: the bound at the start is that of what comes of it.
    values, gains = lqr.value_matrices.copy(), lqr.gains.copy()
    values[2] *= 1.00001
    for t in reversed(range(2)):
        gains[t], values[t] = worldplan.planning.lqr.riccati_step(dynamics, cost, values[t + 1])
    system = System(dynamics.A, dynamics.B, cost.W, cost.R)
    bounds = bounded_finite(system, feedback_step(system, gains, values[1:], values[:-1]), values[1:])
    excess = values[0] - lqr.value_matrix
    assert np.linalg.norm(excess) > 1e-9 and np.linalg.eigvalsh(bounds[0] - excess)[0] > 0


def test_a_bad_gain_whose_own_value_is_exact_is_bounded_too():
    """P_K has no defect with K: only the slope tells that another gain costs less."""
    rng = np.random.default_rng(2)
    dynamics, cost = random_system(rng, 3, 2, radius=0.9), random_cost(rng, 3, 2)
    lqr, system = solve_lqr(dynamics, cost), System(dynamics.A, dynamics.B, cost.W, cost.R)
    gain = lqr.gain + 1e-4
    loop = dynamics.A - dynamics.B @ gain
    own = summed(cost.W + gain.T @ cost.R @ gain, precise(loop, np.longdouble))
    bound = bounded(system, own, feedback_step(system, gain, own, own))
    gap = own.astype(np.float64) - lqr.value_matrix
    assert np.linalg.eigvalsh(gap)[-1] > 1e-10  # what the gain loses
    assert np.linalg.eigvalsh(bound.below * bound.Z - gap)[0] > 0


def test_where_one_solver_does_not_stabilise_the_other_answers(monkeypatch):
    # Doubling finds the least solution, which is 0 where there is no cost of the state: SciPy's stabilises.
    dynamics, free = LinearDynamics([[2.0]], [[1.0]]), QuadraticCost([[0.0]], [[1.0]])
    np.testing.assert_array_equal(doubled_riccati(dynamics.A, np.eye(1), free.W), 0.0)
    assert solve_lqr(dynamics, free).value_matrix[0, 0] == pytest.approx(3.0, rel=1e-12)
    # Out of reach of the actions and growing: the value of ever more steps has no limit.
    assert doubled_riccati(np.array([[1.2]]), np.zeros((1, 1)), np.eye(1)) is None
    plain = solve_lqr(reacher_like(), QuadraticCost.goal_reaching(2))
    monkeypatch.setattr(worldplan.planning.lqr, "LARGEST_QZ", 0)  # as for many states: doubling alone
    alone = solve_lqr(reacher_like(), QuadraticCost.goal_reaching(2))
    np.testing.assert_allclose(alone.value_matrix, plain.value_matrix, rtol=1e-12)
    with pytest.raises(SolverFailed):
        solve_lqr(dynamics, free)


def test_results_judge_themselves():
    lqr = solve_lqr(reacher_like(), QuadraticCost.goal_reaching(2))
    assert lqr.certified
    assert not dataclasses.replace(lqr, value_error=1e-3).certified
    assert not dataclasses.replace(lqr, gain_loss=1e-3).certified
    assert not dataclasses.replace(lqr, radius=1.0).certified
    finite = solve_lqr(reacher_like(), QuadraticCost.goal_reaching(2), horizon=3)
    assert finite.certified and not dataclasses.replace(finite, value_error=1e-3).certified


def test_an_undamped_mode_that_the_cost_does_not_see_is_named():
    dynamics = LinearDynamics(np.diag([1.0, 0.5]), np.eye(2))
    blind = QuadraticCost(np.diag([0.0, 1.0]), np.eye(2))
    with pytest.raises(SolverFailed, match="does not see") as caught:
        solve_lqr(dynamics, blind)
    assert caught.value.status == "unseen mode"
    np.testing.assert_allclose(unseen_modes(dynamics, blind), [1.0])
    assert solve_lqr(dynamics, QuadraticCost(np.diag([1e-6, 1.0]), np.eye(2))).certified  # what the message says to do
    assert solve_lqr(dynamics, blind, horizon=10).certified
    # Position alone sees the velocity through A: the default cost of goal reaching is fine.
    assert len(unseen_modes(reacher_like(damping=1.0), QuadraticCost.goal_reaching(2))) == 0
    assert solve_lqr(reacher_like(damping=1.0), QuadraticCost.goal_reaching(2)).certified


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e6])
def test_reach_does_not_depend_on_the_units_of_actions(unit):
    plain, cost = reacher_like(), QuadraticCost.goal_reaching(2)
    other = solve_lqr(LinearDynamics(plain.A, plain.B * unit), QuadraticCost(cost.W, cost.R * unit**2, latent_dim=2))
    np.testing.assert_allclose(other.value_matrix, solve_lqr(plain, cost).value_matrix, rtol=1e-6, atol=1e-9)
    mixed = LinearDynamics(plain.A, plain.B * [1, unit])
    assert len(unreachable_modes(mixed)) == 0


@checked
@given(seeds, st.floats(1e-3, 1e3))
def test_scaling_the_cost_scales_the_value_and_not_the_gain(seed, factor):
    rng = np.random.default_rng(seed)
    dynamics, cost = random_system(rng, 4, 2), random_cost(rng, 4, 2)
    plain, scaled = solve_lqr(dynamics, cost), solve_lqr(dynamics, QuadraticCost(factor * cost.W, factor * cost.R))
    np.testing.assert_allclose(scaled.value_matrix, factor * plain.value_matrix, rtol=1e-7, atol=1e-9 * factor)
    np.testing.assert_allclose(scaled.gain, plain.gain, rtol=1e-7, atol=1e-9)


def test_actions_come_in_batches_and_goals_in_both_forms():
    lqr = solve_lqr(reacher_like(), QuadraticCost.goal_reaching(2))
    x = np.random.default_rng(0).standard_normal((5, 4))
    batch = lqr.action(x, [0.1, 0.2])
    assert batch.shape == (5, 2)
    np.testing.assert_allclose(batch[3], lqr.action(x[3], [0.1, 0.2, 0, 0]), rtol=1e-12)
    np.testing.assert_allclose(batch[3], -lqr.gain @ (x[3] - [0.1, 0.2, 0, 0]), rtol=1e-12)
    np.testing.assert_allclose(lqr.action(x, x), 0)
    assert lqr.value(x, [0.1, 0.2]).shape == (5,)


def test_zero_actions_are_best_where_nothing_can_be_done_in_time():
    dynamics = LinearDynamics(np.diag([2.0, 0.5]), [[0.0], [1.0]])  # the unstable half is out of reach
    lqr = solve_lqr(dynamics, QuadraticCost(np.diag([1.0, 0.0]), [[1.0]]), horizon=10)
    np.testing.assert_array_equal(lqr.gains, 0)
    assert lqr.value([1.0, 0.0], [0.0, 0.0]) == pytest.approx(sum(4.0**t for t in range(11)))


def test_a_recursion_that_overflows_raises_and_does_not_warn():
    dynamics = LinearDynamics(np.diag([1e3, 0.5]), [[0.0], [1.0]])
    with pytest.raises(SolverFailed):
        solve_lqr(dynamics, QuadraticCost(np.eye(2), [[1.0]]), horizon=200)


@pytest.mark.parametrize(
    "arguments",
    [
        (QuadraticCost.goal_reaching(3),),
        (QuadraticCost.goal_reaching(2, action_dim=1),),
        (QuadraticCost.goal_reaching(2), 0),
        (QuadraticCost.goal_reaching(2), 2.5),
        (QuadraticCost.goal_reaching(2), True),
        (QuadraticCost.goal_reaching(2), None, np.eye(4)),
        (QuadraticCost.goal_reaching(2), 5, np.eye(2)),
        (QuadraticCost.goal_reaching(2), 5, -np.eye(4)),
        (QuadraticCost.goal_reaching(2), 5, np.full((4, 4), np.nan)),
    ],
)
def test_bad_problems_are_refused(arguments):
    with pytest.raises(InvalidInput) as caught:
        solve_lqr(reacher_like(), *arguments)
    assert isinstance(caught.value, WorldplanError)


@pytest.mark.parametrize(
    "state, goal, step",
    [([1, 2], [0, 0], 0), ([1, 2, 3, np.nan], [0, 0], 0), ([1, 2, 3, 4], [0], 0), ([1, 2, 3, 4], [0, 0], 5),
     ([1, 2, 3, 4], [0, 0], -1)],
)  # fmt: skip
def test_bad_states_goals_and_steps_are_refused(state, goal, step):
    with pytest.raises(InvalidInput):
        solve_lqr(reacher_like(), QuadraticCost.goal_reaching(2), horizon=5).action(state, goal, step)


def test_a_step_that_is_no_number_of_a_step_is_refused():
    lqr = solve_lqr(LinearDynamics([[1.0]], [[1.0]]), QuadraticCost([[1.0]], [[1.0]]), horizon=3)
    assert lqr.action([1.0], [0.0], np.int64(2)).shape == (1,)
    for step in (-1, 3, 1.5, True, None, "0"):
        with pytest.raises(InvalidInput, match="step must"):
            lqr.action([1.0], [0.0], step)


@pytest.mark.parametrize("size", [1e150, 1e160, 1e300, 1.7e308])
@pytest.mark.parametrize("direction", [[1, 0], [1, 1], [0, -1], [-1, 1]])
def test_no_action_and_no_cost_overflows_in_silence(size, direction):
    """Of states of any size, actions and costs are finite or an error, and a finite one is that of longer numbers."""
    dynamics, cost = LinearDynamics([[1.0, 1.0], [0.0, 1.0]], [[0.5], [1.0]]), QuadraticCost.goal_reaching(1)
    lqr, state, goal = solve_lqr(dynamics, cost), size * np.array(direction, float), [-size]
    x = state.astype(np.longdouble) - np.array([-size, 0.0], np.longdouble)
    wanted = {
        "action": -lqr.gain.astype(np.longdouble) @ x,
        "value": x @ lqr.value_matrix.astype(np.longdouble) @ x,
        "stage": x @ cost.W.astype(np.longdouble) @ x,
    }
    calls = {"action": lqr.action, "value": lqr.value, "stage": lambda s, g: cost.stage(s - np.array([*g, 0.0]), [0.0])}
    for name, call in calls.items():
        try:
            with np.errstate(over="ignore"):
                found = call(state, goal)
        except InvalidInput as error:
            assert "overflows" in str(error) or "not finite" in str(error)
            assert np.abs(wanted[name]).max() > 1e300 or size > 1e307
        else:
            np.testing.assert_allclose(found, wanted[name].astype(np.float64), rtol=1e-9)
            assert np.isfinite(found).all()
