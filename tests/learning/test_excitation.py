"""The objective for episodes with actions: the claim, line by line, what breaks it, and a run on real frames."""

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from dm_control import suite
from hypothesis import given, settings, strategies as st

from worldplan.data.episodes import EpisodeDataset
from worldplan.data.recipes import EpisodeConfig, Nuisances
from worldplan.data.windows import Windows
from worldplan.envs.datasets.episodes import record_episodes
from worldplan.envs.datasets.frames import draw_frames
from worldplan.errors import EncoderCollapsed, InvalidInput, UnknownName
from worldplan.learning.encoder import load_encoder
from worldplan.learning.excitation import Excitation, covariances, explained, predicted, shares_of, unexplained
from worldplan.learning.excitation_run import ExcitationRun
from worldplan.learning.network import ConvEncoder
from worldplan.learning.pretraining import pretrain
from worldplan.learning.training import PretrainConfig
from worldplan.planning.space import LatentSpace

checked = settings(derandomize=True, deadline=None, max_examples=25)
seeds = st.integers(0, 2**32 - 1)
SMALL = 0.01  # displacement, of the size of the states: first order is exact to a few parts in a thousand
COUNT = 20_000


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array))


def world(seed, n=2, p=3, count=COUNT, law="uniform"):
    """States (N, n) of some law, actions (N, p) independent of them, and displacements `B a + w`."""
    rng = np.random.default_rng(seed)
    q = {
        "uniform": lambda: rng.uniform(-1, 1, (count, n)),
        "two lumps": lambda: rng.choice([-1.0, 1.0], (count, n)) + 0.1 * rng.standard_normal((count, n)),
        "correlated": lambda: rng.laplace(size=(count, n)) @ (np.eye(n) + 0.8 * np.eye(n, k=1)),
    }[law]()
    B = rng.standard_normal((n, p))
    a = rng.standard_normal((count, p)) @ (np.eye(p) + 0.3 * np.eye(p, k=1))
    w = 0.3 * rng.standard_normal((count, n))
    return q, a, SMALL * (a @ B.T + w), SMALL * B


def J(before, after, a, space=()):
    views = tensor(np.stack([before, after], axis=1))
    return float(Excitation(space=space)(views, None, tensor(a))["J"])


def bent(strength):
    """A one-to-one map of the plane whose Jacobian changes from place to place."""

    def h(q):
        x, y = q[:, 0], q[:, 1]
        return np.stack([x + strength * np.sin(2 * x), y + strength * x**2], axis=1)

    return h


# --- the value ------------------------------------------------------------------------------------------------------


@checked
@given(seeds, st.integers(1, 4), st.integers(1, 5))
def test_the_value_is_the_sum_of_squared_canonical_correlations(seed, n, p):
    """Against singular values of the product of orthonormal bases (Bjorck and Golub 1973)."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((200, p))
    moved = rng.standard_normal((200, n)) + a @ rng.standard_normal((p, n))
    bases = [np.linalg.qr(x - x.mean(axis=0))[0] for x in (moved, a)]
    shares = np.zeros(n)
    values = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False) ** 2
    shares[: len(values)] = values
    np.testing.assert_allclose(explained(*covariances(tensor(moved), tensor(a))).numpy()[::-1], shares, atol=1e-6)
    terms = Excitation()(tensor(np.stack([np.zeros_like(moved), moved], axis=1)), None, tensor(a))
    assert float(terms["J"]) == pytest.approx(shares.sum(), abs=1e-6)
    noise = p / 200
    volume = -np.log(shares.astype(np.longdouble) + noise).sum() + n * np.log1p(noise)
    assert float(terms["loss"]) == pytest.approx(float(volume / np.log1p(1 / noise)), abs=1e-4)


@checked
@given(seeds)
def test_the_value_has_no_scale_and_no_axes(seed):
    """Every invertible affine map of latent and actions has the same J: nothing can collapse, no weight is needed."""
    q, a, moved, _ = world(seed)
    rng = np.random.default_rng(seed)
    M, N = rng.standard_normal((2, 2)) + 3 * np.eye(2), rng.standard_normal((3, 3)) + 4 * np.eye(3)
    turned = J(q @ M.T + 5, (q + moved) @ M.T + 5, a @ N.T - 2)
    assert turned == pytest.approx(J(q, q + moved, a), abs=1e-5)


def test_out_of_sample_shares_are_honest():
    """Pure noise: in the sample its share is p / N, out of it about minus that."""
    rng = np.random.default_rng(0)
    moved, a = tensor(rng.standard_normal((600, 2))), tensor(rng.standard_normal((600, 40)))
    guess = predicted(moved, a, fitted=300)
    assert float(shares_of(moved[:300], guess[:300]).mean()) == pytest.approx(40 / 300, rel=0.3)
    assert float(shares_of(moved[300:], guess[300:]).mean()) < 0


def test_a_collapsed_batch_has_a_finite_loss_and_gradient():
    views = torch.zeros(64, 2, 2, requires_grad=True)
    terms = Excitation()(views, None, torch.randn(64, 3, generator=torch.Generator().manual_seed(0)))
    terms["loss"].backward()
    assert float(terms["loss"].detach()) == pytest.approx(2)
    assert torch.isfinite(views.grad).all()


def test_the_loss_pulls_on_the_coordinate_that_is_explained_least():
    """A gain of .01 in a share of .05 counts more than in one of .8; in J both count alike."""
    shares = torch.tensor([0.05, 0.8], requires_grad=True)
    losses = unexplained(shares, 0.05)
    losses.sum().backward()
    assert shares.grad[0] < 8 * shares.grad[1] < 0
    ends = unexplained(torch.tensor([0.0, 1.0]), 0.05)
    np.testing.assert_allclose(ends, [1, 0], atol=1e-6)


# --- the claim ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [("line", "line"), ("circle", "line")])
def test_a_plant_that_moves_by_itself_needs_its_past(space):
    """An unstable plant with inertia: with the motion before the window and the place, the truth explains all.

    Without, what it does by itself hides what the actions do. Bent maps are worse than the truth either way.
    """
    rng = np.random.default_rng(0)
    q = rng.uniform(-2, 2, (COUNT, 2))
    v, a = SMALL * rng.standard_normal((COUNT, 2)), rng.standard_normal((COUNT, 3))
    drift = np.stack([np.sin(q[:, 0]) if space[0] == "circle" else q[:, 0], q[:, 1]], axis=1) @ rng.standard_normal(
        (2, 2)
    )
    moved = 2 * v + SMALL * (a @ rng.standard_normal((3, 2)) + 3 * drift + 0.01 * rng.standard_normal((COUNT, 2)))

    def share(h, past):
        views = np.stack([h(q - v), h(q), h(q + moved)][0 if past else 1 :], axis=1)
        return float(Excitation(space=space, past=past)(tensor(views), None, tensor(a))["J"])

    truth = share(lambda x: x, 3)
    assert truth > 1.99
    assert share(lambda x: x, 0) < 1.0
    mixed = np.array([[1.0, 0.3 * (space[0] == "line")], [0.0, 2.0]])  # gravity has its own circle
    assert share(lambda x: x @ mixed.T, 3) == pytest.approx(truth, abs=1e-3)
    bends = [share(bent(strength), 3) for strength in (0.05, 0.2, 0.4)]
    assert truth > bends[0] > bends[1] > bends[2]
    assert bends[2] < truth - 0.05


def cart_and_pole(count=COUNT, seed=0):
    """One force moves a cart and a pole, which falls: before, start and end (N, 2) of windows, and the force (N, 1)."""
    rng = np.random.default_rng(seed)
    q, v = rng.uniform(-0.3, 0.3, (count, 2)), 0.05 * rng.standard_normal((count, 2))
    force = rng.standard_normal((count, 1))
    moved = 2 * v + q @ np.array([[0.0, 0.02], [0.0, 0.15]]).T + force * [0.09, -0.1] * 0.2
    return q - v, q, q + moved, force


def shares_of_cart_and_pole(h, drift, count=COUNT):
    before, start, end, force = cart_and_pole(count)
    views = tensor(np.stack([h(x) for x in (before, start, end)], axis=1))
    terms = Excitation(past=1, window=2, drift=drift)(views, None, tensor(force))
    return float(terms["r2_1"]), float(terms["r2_2"])


def test_coordinates_that_answer_alike_are_told_apart_by_their_drift():
    mixed = np.array([[1.0, 0.4], [-0.2, 2.0]])
    for affine in (lambda x: x, lambda x: x @ mixed.T + 1.0):
        assert min(shares_of_cart_and_pole(affine, "explained")) > 1 - 1e-6
    assert shares_of_cart_and_pole(lambda x: x, "removed")[1] < 1e-3  # the control: one force excites one coordinate
    for h in (
        lambda x: np.stack([x[:, 0], x[:, 0] ** 2], axis=1),
        lambda x: np.stack([x[:, 1], x[:, 1] ** 2], axis=1),
        lambda x: np.stack([x[:, 0], np.sin(20 * x[:, 1])], axis=1),
    ):
        assert min(shares_of_cart_and_pole(h, "explained")) < 0.9
    weak = [min(shares_of_cart_and_pole(lambda x, s=s: x + s * x**2, "explained")) for s in (0.5, 1.0, 2.0)]
    assert 1 - 1e-6 > weak[0] > weak[1] > weak[2]


def test_the_coordinates_of_dm_controls_cart_and_pole_have_the_largest_shares():
    env = suite.load("cartpole", "balance")
    rng, places, sums = np.random.default_rng(0), [], []
    for _ in range(100):
        env.reset()
        with env.physics.reset_context():
            env.physics.data.qpos[:] = rng.uniform(-1, 1, 2) * [0.25, 0.1]
            env.physics.data.qvel[:] = rng.uniform(-0.8, 0.8, 2)
        forces, q = np.repeat(rng.uniform(-1, 1, 4), 10), [env.physics.data.qpos.copy()]
        for force in forces:
            env.step(force)
            q.append(env.physics.data.qpos.copy())
        total = np.concatenate([[0.0], np.cumsum(forces)])
        for t in range(8, 41 - 16):
            places.append([q[t - 8], q[t], q[t + 16]])
            sums.append(np.diff(total[[t - 8, t, t + 8, t + 16]]))
    views, features = np.array(places), tensor(np.array(sums))

    def least(h):
        seen = np.stack([h(views[:, k]) for k in range(3)], axis=1)
        return float(Excitation(window=16, past=8, drift="explained")(tensor(seen), None, features)["r2_2"])

    cart, pole = (lambda q: q[:, :1]), (lambda q: q[:, 1:])
    assert least(lambda q: q) > 0.98
    assert least(lambda q: np.hstack([cart(q) - 2 * pole(q), pole(q)])) > 0.98
    for bent in (
        lambda q: np.hstack([cart(q), cart(q) ** 2]),
        lambda q: np.hstack([pole(q), pole(q) ** 2]),
        lambda q: q + 2 * q[:, ::-1] ** 2,
    ):
        assert least(bent) < 0.8


def test_a_latent_that_is_large_where_windows_begin_explains_nothing():
    """Its displacement follows from its place, which is taken out; what is left is not told by its motion."""
    before, start, end, force = cart_and_pole()
    stripes = [scale * np.sin(60 * x @ [[1.0, 0.2], [0.3, 1.0]]) for x, scale in ((before, 1), (start, 1), (end, 0.1))]
    terms = Excitation(past=1, window=2, drift="explained")(tensor(np.stack(stripes, axis=1)), None, tensor(force))
    place, moved = tensor(stripes[1]), tensor(stripes[2] - stripes[1])
    assert float(shares_of(moved, predicted(moved, place)).min()) > 0.9  # the place alone explains it
    assert float(terms["r2_1"]) < 0.2


def test_a_drift_is_explained_only_with_a_past():
    with pytest.raises(InvalidInput, match="--past 8"):
        Excitation(drift="explained")
    with pytest.raises(UnknownName, match="drift"):
        Excitation(past=2, drift="ignored")


def test_a_past_that_says_the_same_twice_is_no_error():
    """Before training both coordinates of a network may be one."""
    h = torch.randn(64, 3, 1, generator=torch.Generator().manual_seed(0)).repeat(1, 1, 2).requires_grad_()
    terms = Excitation(past=2)(h, None, torch.randn(64, 3, generator=torch.Generator().manual_seed(1)))
    terms["loss"].backward()
    assert torch.isfinite(h.grad).all()
    again = Excitation(past=2, drift="explained")(h, None, torch.zeros(64, 3))["loss"]
    assert torch.isfinite(torch.autograd.grad(again, h)[0]).all()
    still = torch.zeros(64, 3, 2, requires_grad=True)
    Excitation(past=2)(still, None, torch.randn(64, 3))["loss"].backward()
    assert torch.isfinite(still.grad).all()
    for wrong in (h[:, :2], h[:, :1]):
        with pytest.raises(InvalidInput, match=r"\(B, 3, n\)"):
            Excitation(past=2)(wrong, None, torch.randn(64, 3))


@pytest.mark.parametrize("law", ["uniform", "two lumps", "correlated"])
@pytest.mark.parametrize("seed", range(3))
def test_affine_maps_attain_the_bound_and_bent_ones_do_not(law, seed):
    """`J(h) <= tr(S^-1 B S_aa B')`, with equality iff the Jacobian is constant, whatever the law of the states."""
    q, a, moved, B = world(seed, law=law)
    bound = np.trace(np.linalg.solve(np.cov(moved.T), B @ np.cov(a.T) @ B.T))
    assert J(q, q + moved, a) == pytest.approx(bound, abs=0.02)  # the identity
    affine = np.array([[2.0, 1.0], [-0.5, 0.3]])
    assert J(q @ affine.T, (q + moved) @ affine.T, a) == pytest.approx(J(q, q + moved, a), abs=1e-5)
    shares = [J(bent(s)(q), bent(s)(q + moved), a) for s in (0.05, 0.2, 0.4)]
    assert all(low < high for low, high in zip([*shares[1:]], shares[:-1], strict=True))  # the more, the less
    assert shares[0] < J(q, q + moved, a)
    assert shares[-1] < J(q, q + moved, a) - 0.01


@checked
@given(seeds)
def test_the_inequality_of_the_proof(seed):
    """`E[D S D'] >= E[D] S E[D]'`, and `J <= tr((E[D] S E[D]')^-1 E[D] B S_aa B' E[D]')`, free of E[D]."""
    rng = np.random.default_rng(seed)
    D = rng.standard_normal((50, 2, 2)) + 2 * rng.standard_normal((2, 2))
    B, root = rng.standard_normal((2, 3)), rng.standard_normal((2, 2))
    part = B @ B.T  # S_aa = I
    S = part + root @ root.T
    mean = D.mean(axis=0)
    spread = np.einsum("kij,jl,kml->im", D, S, D) / len(D)
    assert np.linalg.eigvalsh(spread - mean @ S @ mean.T)[0] > -1e-9
    bound = np.trace(np.linalg.solve(S, part))
    assert np.trace(np.linalg.solve(spread, mean @ part @ mean.T)) <= bound + 1e-9
    assert np.trace(np.linalg.solve(mean @ S @ mean.T, mean @ part @ mean.T)) == pytest.approx(bound, rel=1e-6)


def test_on_a_circle_only_windings_of_degree_one_are_one_to_one_and_radians_come_for_free():
    """A closed curve's angle is h(q) = q + f(q); J is largest for f constant, and the slope is then an integer."""
    rng = np.random.default_rng(0)
    q, a = rng.uniform(-np.pi, np.pi, (COUNT, 1)), rng.standard_normal((COUNT, 2))
    moved = SMALL * (a @ [[1.0], [0.5]] + 0.3 * rng.standard_normal((COUNT, 1)))
    space, circle = ("circle",), LatentSpace("circle")

    def of(h):
        before, after = circle.wrap(h(q)), circle.wrap(h(q + moved))
        slope = np.mean(circle.difference(after, before) * moved) / np.mean(moved**2)
        return J(before, after, a, space), slope

    best, slope = of(lambda x: x + 1)
    mirrored, back = of(lambda x: 2 - x)
    warped, _ = of(lambda x: x + 0.5 * np.sin(x))
    assert slope == pytest.approx(1) and back == pytest.approx(-1)
    assert mirrored == pytest.approx(best, abs=1e-6)
    assert warped < best - 0.05
    doubled, twice = of(lambda x: 2 * x)  # as good by J: only one-to-one encoders have slope one
    assert doubled == pytest.approx(best, abs=1e-6) and twice == pytest.approx(2)


# --- what breaks it: each control must fail -------------------------------------------------------------------------


def test_shuffled_actions_explain_nothing():
    q, a, moved, _ = world(0)
    assert J(q, q + moved, a) > 1
    assert J(q, q + moved, np.random.default_rng(0).permutation(a)) < 0.01


def test_a_wrong_topology_has_a_lower_value():
    """A joint that turns all around, told by a line: the displacement jumps where the line is cut."""
    rng = np.random.default_rng(0)
    q, a = rng.uniform(-np.pi, np.pi, (COUNT, 1)), rng.standard_normal((COUNT, 2))
    moved = 0.1 * (a @ [[1.0], [0.5]])
    before, after = LatentSpace("circle").wrap(q), LatentSpace("circle").wrap(q + moved)
    assert J(before, after, a, ("circle",)) == pytest.approx(1, abs=1e-3)
    assert J(before, after, a) < 0.3


def test_two_lines_on_one_coordinate_count_once():
    q, a, moved, _ = world(0)
    copies = (np.stack([x[:, 0], 2 * x[:, 0] + 0.1 * x[:, 0] ** 2], axis=1) for x in (q, q + moved))
    assert J(*copies, a) < 1.2 < J(q, q + moved, a)


def test_a_policy_needs_exploration_noise_and_its_means_as_controls():
    """Where a = pi(q), a latent with the Jacobian 1 + 2 / pi(q) moves linearly in a too. Exploration noise tells.

    But the policy's drift depends on the state, which the claim forbids: noise alone still prefers the bent latent.
    """
    rng = np.random.default_rng(0)
    q = rng.uniform(-3, 3, (COUNT, 1))
    policy = 1 + 0.6 * np.sin(2 * q)
    bend = 1 + 2 / policy

    def values(moved, a, controls=None):
        still = np.zeros_like(moved)
        pairs = [tensor(np.stack([still, d * moved], axis=1)) for d in (np.ones_like(bend), bend)]  # to first order
        return [float(Excitation()(views, None, tensor(a), controls)["J"]) for views in pairs]

    truth, bent = values(SMALL * policy, policy)
    assert truth == pytest.approx(1, abs=1e-6) and bent == pytest.approx(1, abs=1e-6)
    noise, rest = rng.standard_normal((2, COUNT, 1))  # a - E[a | past], what the policy itself adds
    moved = SMALL * (policy + noise + 0.3 * rest)
    truth, bent = values(moved, noise)
    assert bent > truth
    truth, bent = values(moved, noise, tensor(policy))
    assert bent < truth - 0.05


@pytest.mark.parametrize("weight", [0.02, 0.2])
def test_sigreg_of_increments_is_small_for_the_truth_and_large_for_copies(weight):
    _, a, moved, _ = world(1)
    white = moved @ np.linalg.inv(np.linalg.cholesky(np.cov(moved.T))).T
    objective = Excitation(against="sigreg", weight=weight, slices=64)

    def terms(rows):
        views = tensor(np.stack([np.zeros_like(rows), rows], axis=1))
        return {k: float(v) for k, v in objective(views, torch.Generator().manual_seed(0), tensor(a)).items()}

    truth, copies = terms(white), terms(np.stack([white[:, 0], white[:, 0]], axis=1))
    assert truth["loss"] == pytest.approx(weight * truth["sigreg"] + (1 - weight) * truth["error"])
    assert truth["sigreg"] < 3 < 100 < copies["sigreg"]
    np.testing.assert_allclose(terms(100 * white)["loss"], truth["loss"], rtol=1e-5)  # in units of their own deviation
    both = [unexplained(torch.tensor([truth[name]]), a.shape[1] / len(a)) for name in ("r2_1", "r2_2")]
    assert truth["error"] == pytest.approx(float(sum(both)) / 2, abs=2e-3)


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_windows": -1},
        {"past": -1},
        {"patience": -1},
        {"window": 1},
        {"slices": 0},
        {"weight": 1.5},
        {"weight": float("nan")},
        {"space": ("torus",)},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidInput):
        Excitation(**wrong)


def test_unknown_terms_missing_actions_and_wrong_shapes_are_refused():
    with pytest.raises(UnknownName, match="sigreg, whitening"):
        Excitation(against="hope")
    views = torch.zeros(8, 2, 2)
    with pytest.raises(InvalidInput, match="needs the actions"):
        Excitation()(views)
    with pytest.raises(InvalidInput, match=r"\(B, 2, n\)"):
        Excitation()(torch.zeros(8, 3, 2), None, torch.zeros(8, 3))
    with pytest.raises(InvalidInput, match="set latent_dim to 3"):
        PretrainConfig(objective=Excitation(space=("circle", "line", "line")))


# --- a run on real frames -------------------------------------------------------------------------------------------

# A few seconds are too short to generalise to other episodes; docs/excitation.md has the runs that do.
CONFIG = PretrainConfig(
    objective=Excitation(space=("line",), least=-10.0),
    latent_dim=1,
    width=4,
    hidden=32,
    batch=64,
    epochs=10,
    lr=4e-3,
    validation=128,
    device="cpu",
    checkpoint_every=50,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("episodes") / "data"
    record_episodes(None, folder, EpisodeConfig(episodes=64, steps=40, test_share=0.1), seed=0)
    draw_frames(folder, "varied", nuisances=Nuisances(stock=0.0, hidden=1.0))
    return folder


@pytest.fixture(scope="module")
def data(folder):
    return Windows(EpisodeDataset(folder), 16)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return pretrain(data, tmp_path_factory.mktemp("run") / "a", CONFIG, command="worldplan pretrain")


def test_a_run_may_begin_with_the_weights_of_another(data, trained, tmp_path):
    first, short = load_encoder(trained), replace(CONFIG, epochs=0.1, lr=1e-9)
    again = load_encoder(pretrain(data, tmp_path / "again", short, begin=first))
    assert again.card["began_with"] == first.card["sha256"]
    anew = load_encoder(pretrain(data, tmp_path / "anew", short))
    assert "began_with" not in anew.card
    frames = data[np.arange(200)][:, 0]
    alike = [abs(np.corrcoef(first(frames)[:, 0], encoder(frames)[:, 0])[0, 1]) for encoder in (again, anew)]
    assert alike[0] > 0.95 > alike[1]
    for other in (replace(short, width=CONFIG.width + 1), replace(short, hidden=CONFIG.hidden + 1)):
        with pytest.raises(InvalidInput, match="another network or space"):
            pretrain(data, tmp_path / "other", other, begin=first)
    assert not (tmp_path / "other/encoder.json").exists()


@pytest.mark.parametrize(("patience", "stops"), [(1, True), (0, False)])
def test_a_run_that_gets_no_better_stops_only_once_all_windows_are_in(data, patience, stops):
    run = ExcitationRun(data, replace(CONFIG, objective=replace(CONFIG.objective, patience=patience, least=-9.0)))
    for part, settled in ((0.3, False), (0.9, True)):
        run.part_done = part
        run.validate()
        run.validate()
        assert run.stopped == (stops and settled)


def test_windows_hold_the_sums_of_the_actions_between_their_frames(data, folder):
    episodes = EpisodeDataset(folder).load("train", frames=True)
    rows = np.random.default_rng(0).choice(len(data), 40, replace=False)
    frames = data[rows]
    for row, pair, features in zip(rows, frames, data.features[rows], strict=True):
        shard, k, t = data._rows[row].tolist()
        order = [(i, int(k)) for i, s in enumerate(data._data.shards) for k in np.flatnonzero(~np.array(s["test"]))]
        k = order.index((shard, k))
        u = episodes.actions[k]
        wanted = [u[t - 8 : t].sum(axis=0), u[t : t + 8].sum(axis=0), u[t + 8 : t + 16].sum(axis=0)]
        np.testing.assert_allclose(features, np.concatenate(wanted), atol=1e-12)
        np.testing.assert_array_equal(pair, episodes.frames[k][[t, t + 16]])


def test_windows_with_a_past_show_the_frame_before(folder, data):
    longer = Windows(EpisodeDataset(folder), 16, past=12)
    assert longer.views == 3 and longer.manifest_sha256 != data.manifest_sha256
    assert len(longer) == len(data) * (40 - 16 + 1 - 12) // (40 - 16 + 1 - 8)  # the first have no past of 12 steps
    frames, shards = longer[np.arange(3)], EpisodeDataset(folder)
    for views, (shard, k, t) in zip(frames, longer.places, strict=False):
        np.testing.assert_array_equal(views, shards.frames(shards.shards[shard])[k, [t - 12, t, t + 16]])
    with pytest.raises(InvalidInput, match="at least 0"):
        Windows(EpisodeDataset(folder), 16, past=-1)


def test_held_out_windows_are_of_other_episodes(data):
    held_out, train = data.split(128, np.random.default_rng(0))
    episodes = [set(map(tuple, data._rows[part][:, :2].tolist())) for part in (held_out, train)]
    assert len(held_out) == 128 and not episodes[0] & episodes[1]
    assert len(episodes[0]) >= 2


def test_the_run_learns_from_the_actions_and_its_card_says_what(trained, data):
    encoder = load_encoder(trained)
    assert encoder.space == LatentSpace("line") == LatentSpace(*encoder.card["space"])
    assert encoder.card["data"]["window"] == 16
    rows = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert {"validation_J", "validation_training_J", "r2_1"} <= set(rows[-1])
    assert rows[-1]["J"] > 0.5  # of 1; noise explains .1
    part = ExcitationRun(data, CONFIG).train[:256]
    moved = CONFIG.objective.displacement(tensor(encoder(data[part].reshape(-1, 64, 64, 3)).reshape(-1, 2, 1)))
    features = tensor(data.features[part])
    order = torch.randperm(256, generator=torch.Generator().manual_seed(0))
    assert float(explained(*covariances(moved, features))) > 0.4
    assert float(explained(*covariances(moved, features[order]))) < 0.1


def test_the_same_seed_gives_the_same_bytes_also_after_an_interruption(trained, data, tmp_path):
    def stop(steps, start, total):
        yield from islice(steps, 70 - start)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(data, tmp_path / "b", CONFIG, progress=stop)
    again = pretrain(data, tmp_path / "b", CONFIG, command="worldplan pretrain", resume=True)
    for name in ("encoder.json", "encoder.safetensors"):
        assert (again / name).read_bytes() == (trained / name).read_bytes()


def test_a_run_ends_with_the_weights_that_were_best_on_held_out_episodes(data):
    run = ExcitationRun(data, CONFIG)
    scores = iter([0.5, 0.9, 0.4, 0.3])
    weights = []
    for score in scores:
        for parameter in run.network.parameters():
            parameter.data += 0.01
        weights.append({k: v.clone() for k, v in run.network.state_dict().items()})
        run._keep(score)
    assert run._since == 2
    assert all(torch.equal(run._best[k], weights[1][k]) for k in weights[1])


def test_a_run_begins_with_few_episodes_and_takes_in_the_others(data):
    config = PretrainConfig(objective=Excitation(16), width=2, hidden=16, batch=32, validation=64, device="cpu")
    run = ExcitationRun(data, config)
    batch = np.random.default_rng(0).permutation(run.train)[:200]
    few = 3 * len(run.train) // len(np.unique(data._rows[run.train, :2], axis=0))  # windows of three episodes
    run.objective = replace(run.objective, first_windows=few)
    episodes = [len(np.unique(data._rows[run.among(batch, share), :2], axis=0)) for share in (0.0, 0.5, 1.0)]
    assert episodes[0] == 3 < episodes[1] < episodes[2]
    np.testing.assert_array_equal(run.among(batch, 1.0), batch)
    for every in (0, 10**6):  # all there are
        run.objective = replace(run.objective, first_windows=every)
        np.testing.assert_array_equal(run.among(batch, 0.0), batch)


def test_shuffled_actions_and_little_data_end_in_an_error_that_says_what_to_do(data, tmp_path):
    shuffled = Windows(data._data, 16)
    shuffled.features = np.random.default_rng(0).permutation(shuffled.features)
    config = replace(CONFIG, objective=Excitation(space=("line",)))
    with pytest.raises(EncoderCollapsed, match=r"fewer than 1 coordinates.*(by heart|longer window)"):
        pretrain(shuffled, tmp_path / "run", config)
    with pytest.raises(EncoderCollapsed, match="knows the frames by heart: collect more episodes"):
        pretrain(data, tmp_path / "small", config)  # the actions are right, but there is one minute of motion
    assert not (tmp_path / "run" / "encoder.json").exists()


@pytest.mark.parametrize("space", [("circle", "line"), ("line", "line"), ("line", "circle", "line")])
def test_free_axes_are_chosen_so_that_actions_move_all_lines_alike(data, space):
    config = replace(CONFIG, objective=Excitation(space=space), latent_dim=len(space))
    run = ExcitationRun(data, config)
    before = run.validate()
    run._choose_axes()
    part = np.cov(predicted(*run._windows(run.train[:128])).numpy().T)
    around = LatentSpace(*space).circles
    size = part.diagonal()[around].mean() if around.any() else 1.0
    lines = np.ix_(~around, ~around)
    np.testing.assert_allclose(part[lines], size * np.eye((~around).sum()), atol=0.02 * size)
    np.testing.assert_allclose(part[np.ix_(around, ~around)], 0, atol=0.02 * size)
    assert run.validate()["training_J"] == pytest.approx(before["training_J"], abs=1e-3)  # J leaves them free


def test_axes_that_break_a_circle_are_refused(data):
    network = ConvEncoder(2, 2, 8, ("circle", "line"))
    for wrong in ([[2, 0], [0, 1]], [[1, 0], [0.1, 1]], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]):
        with pytest.raises(InvalidInput, match="do not keep the circles"):
            network.change_axes(np.array(wrong, dtype=float))


def test_a_window_is_needed(data, folder, tmp_path):
    with pytest.raises(InvalidInput, match="lower --window"):
        Windows(EpisodeDataset(folder), 64)
    with pytest.raises(InvalidInput, match="at least 2 steps"):
        Windows(EpisodeDataset(folder), 1)
    with pytest.raises(InvalidInput, match="needs windows"):
        pretrain(_Pairs(data), tmp_path / "run", CONFIG)


class _Pairs:
    """Pairs without actions."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda u: u * [1.0, 0.0], "action 1 never varies"),
        (lambda u: u[..., :1] @ [[1.0, -2.0]], "linear functions of each other"),
        (lambda u: np.where(u > 0.99, np.nan, u), "not finite"),
    ],
)
def test_actions_that_tell_nothing_are_refused(folder, monkeypatch, change, message):
    real = EpisodeDataset.actions
    monkeypatch.setattr(EpisodeDataset, "actions", lambda self, shard: change(np.array(real(self, shard))))
    with pytest.raises(InvalidInput, match=message):
        Windows(EpisodeDataset(folder), 16)
