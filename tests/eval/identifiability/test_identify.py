"""The report on an encoder: each number moves as theory says, whatever the width, with rendering and without."""

import json

import numpy as np
import pytest

from worldplan.errors import InvalidInput
from worldplan.eval.identifiability.ceiling import bayes_ceiling
from worldplan.eval.identifiability.identify import gaussian_views, identify, identify_latents
from worldplan.planning.rotation import random_rotation

COUNT, RHO = 1000, 0.5
Q = random_rotation(2, 1)


@pytest.fixture(scope="module")
def states():
    first, noise = np.random.default_rng(0).standard_normal((2, COUNT, 2))
    return first, RHO * first + np.sqrt(1 - RHO**2) * noise


@pytest.fixture(scope="module")
def judge(states):
    """Report on a map of states."""

    def report(encode, **options):
        return identify_latents(*(encode(z) for z in states), *states, **{"resamples": 20, **options})

    return report


def noise(z, columns):
    """Noise that differs between the views: it depends on the first state."""
    return np.random.default_rng(int(1e6 * abs(z[0, 0]))).standard_normal((len(z), columns))


def scores(report, kind="unwrapped"):
    fit = report.labels[kind]
    return fit.latent_to_state.value, fit.state_to_latent.value


# --- what each number says ------------------------------------------------------------------------------------------


def test_a_rotation(judge):
    report = judge(lambda z: z @ Q.T + 3.0)
    assert scores(report) == pytest.approx((1, 1))
    assert [joint.low for joint in report.labels["unwrapped"].per_joint] == pytest.approx([1, 1])
    assert np.allclose(report.rotation.Q, Q)
    assert np.allclose(report.rotation.offset, 3.0)
    assert (report.rotation.rotation.value, report.rotation.monotone.value) == pytest.approx((1, 1))
    assert report.linear.orthogonality.high == pytest.approx(0, abs=1e-9)
    assert report.linear.condition.high == pytest.approx(1)
    assert report.theorem3.bound.high == pytest.approx(0, abs=1e-9)
    assert report.theorem3.error.high == pytest.approx(0, abs=1e-9)
    assert report.theorem3.holds
    assert [share.value for share in report.hermite.by_degree] == pytest.approx([1, 0, 0], abs=1e-9)
    assert report.spectrum.effective_rank.value == pytest.approx(2, abs=0.01)
    assert (report.latent_dim, report.state_dim, report.pairs) == (2, 2, COUNT)


def test_a_shear_is_linear_but_no_rotation(judge):
    report = judge(lambda z: z @ np.array([[1.0, 0.0], [0.6, 1.0]]))
    assert scores(report) == pytest.approx((1, 1))
    assert report.hermite.by_degree[0].value == pytest.approx(1)
    assert report.linear.orthogonality.low > 0.8
    assert report.linear.condition.low > 1.7
    assert report.rotation.rotation.high < 0.95
    assert report.theorem3.delta.value == pytest.approx(0, abs=1e-9)
    assert report.theorem3.error.low > 0.1
    assert report.theorem3.holds


def test_a_shared_warp_is_undone_by_one_map(judge):
    report = judge(lambda z: np.tanh(1.5 * z) / 0.7 @ Q.T)
    assert report.labels["unwrapped"].latent_to_state.high < 0.97
    assert report.rotation.monotone.low > 0.98 > 0.97 > report.rotation.rotation.high
    assert report.hermite.by_degree[1].value == pytest.approx(0, abs=0.01)  # odd functions have no even part
    assert report.hermite.by_degree[2].low > 0.02
    assert report.theorem3.holds


def test_noise(judge):
    report = judge(lambda z: z @ Q.T + 0.3 * noise(z, 2))
    assert scores(report) == pytest.approx((1 / 1.09, 1 / 1.09), abs=0.015)
    assert report.linear.orthogonality.value < 0.05
    assert [share.value for share in report.hermite.by_degree] == pytest.approx([1 / 1.09, 0, 0], abs=0.015)
    assert report.theorem3.error.value == pytest.approx(2 * 0.09, rel=0.1)
    assert report.theorem3.D.value == pytest.approx(2 * 2 * 0.09, rel=0.1)  # no attenuated part: twice, at rho = .5
    assert report.theorem3.holds


def test_a_quadratic_contamination(judge):
    a = 0.1
    report = judge(lambda z: np.sqrt(1 - a) * z @ Q.T + np.sqrt(a / 2) * (z**2 - 1))
    assert [share.value for share in report.hermite.by_degree] == pytest.approx([1 - a, a, 0], abs=0.02)
    assert report.hermite.rest.value == pytest.approx(0, abs=1e-9)
    assert report.theorem3.D.value == pytest.approx(2 * a, rel=0.25)  # no slack: degree 2 at rho = .5
    assert report.theorem3.eps.value < 0.15
    assert report.theorem3.holds


def test_a_collapsed_coordinate(judge):
    report = judge(lambda z: np.column_stack([z[:, 0], 0.01 * z[:, 1]]))
    assert scores(report) == pytest.approx((1, 1))  # scale does not count for R2
    assert report.linear.condition.value == pytest.approx(100)
    assert report.spectrum.effective_rank.high < 1.01
    assert report.spectrum.directions == 1
    constant = judge(lambda z: np.column_stack([z[:, 0], np.full(COUNT, 4.0)]))
    assert scores(constant) == pytest.approx((0.5, 1), abs=0.05)
    assert constant.labels["unwrapped"].per_joint[1].value < 0.01
    assert constant.linear.condition.value == np.inf
    assert constant.theorem3.error.value == pytest.approx(1, abs=0.1)
    assert constant.theorem3.holds


def test_a_latent_wider_than_the_world(judge):
    wide = random_rotation(6, 2)
    report = judge(lambda z: np.column_stack([z, 0.05 * noise(z, 4)]) @ wide.T)
    assert scores(report)[0] == pytest.approx(1)
    assert report.linear.orthogonality.value < 0.02
    assert report.rotation.Q.shape == (6, 2)
    assert report.rotation.rotation.value == pytest.approx(1, abs=1e-3)
    assert report.spectrum.directions == 2
    assert report.spectrum.effective_rank.value == pytest.approx(2.1, abs=0.1)
    assert report.theorem3.eps.value == pytest.approx(2, abs=0.1)  # four directions without unit variance
    assert report.theorem3.error.value == pytest.approx(4 * 0.0025, rel=0.1)
    assert report.theorem3.holds


def test_a_latent_narrower_than_the_world(judge):
    report = judge(lambda z: z @ Q.T[:, :1])
    assert scores(report) == pytest.approx((0.5, 1), abs=0.05)
    assert report.linear.condition.value == np.inf
    assert report.theorem3.holds


def test_labels_that_wrap(judge):
    """An image knows the angle on the circle: the ceiling, and not 1, is what unwrapped labels allow."""
    wide = 1.2
    report = judge(lambda z: (wide * z + np.pi) % (2 * np.pi) - np.pi, scale=wide)
    assert scores(report, "wrapped") == pytest.approx((1, 1))
    unwrapped = report.labels["unwrapped"].latent_to_state
    assert unwrapped.low < bayes_ceiling(wide) < 0.9
    assert unwrapped.high < 0.9
    assert report.ceiling == {"unwrapped": bayes_ceiling(wide), "wrapped": 1.0, "sincos": 1.0}
    assert report.theorem3.holds
    circle = judge(lambda z: np.column_stack([np.sin(wide * z), np.cos(wide * z)]), scale=wide)
    assert scores(circle, "sincos") == pytest.approx((1, 1))
    assert scores(circle, "wrapped")[0] < 0.95


def test_same_seed_same_report_and_json(judge):
    reports = [judge(lambda z: z + 0.1 * noise(z, 2), seed=s).to_dict() for s in (1, 1, 2)]
    assert reports[0] == reports[1] != reports[2]
    text = json.dumps(judge(lambda z: z * [1, 0]).to_dict(), allow_nan=False)
    assert json.loads(text)["linear"]["condition"]["value"] is None


# --- bad input ------------------------------------------------------------------------------------------------------


def test_bad_latents(judge, states):
    for encode, message in [
        (lambda z: z[:, 0], "must both be"),
        (lambda z: z[:-1], "pairs of latents"),
        (lambda z: np.where(z > 2, np.nan, z), "not finite"),
        (lambda z: np.ones_like(z), "do not vary"),
        (lambda z: 0.1 + 1e-11 * z, "do not vary"),
        (lambda z: np.tile(z, 25), "too few"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            judge(encode)
    with pytest.raises(InvalidInput, match="must both be"):
        identify_latents(states[0], states[0][:, :1], *states)


@pytest.mark.parametrize(
    ("spoil", "rho"),
    [
        (lambda z, w: (z, w), 0.8),
        (lambda z, w: (z, z), 0.5),
        (lambda z, w: (0.7 * z, 0.7 * w), 0.5),  # angles, not states
        (lambda z, w: (z + 1, w + 1), 0.5),
        (lambda z, w: (z, w[:, ::-1]), 0.5),
        (lambda z, w: (z, w), 1.0),
    ],
)
def test_states_that_are_no_pairs_of_the_channel(states, spoil, rho):
    with pytest.raises(InvalidInput, match=r"correlated by|rho must"):
        identify_latents(*states, *spoil(*states), rho=rho, resamples=2)


# --- encoders -------------------------------------------------------------------------------------------------------


def written(qpos, targets, profile):
    """Frames whose first bytes are the joint angles: an image that an exact encoder can read."""
    assert len(np.unique(targets, axis=0)) == len(qpos)  # anew for each view
    frames = np.zeros((len(qpos), 64, 64, 3), dtype=np.uint8)
    frames.reshape(len(qpos), -1)[:, :16] = np.ascontiguousarray(qpos).view(np.uint8)
    return frames


def read(frames):
    assert frames.shape == (400, 64, 64, 3)
    return np.ascontiguousarray(frames.reshape(len(frames), -1)[:, :16]).view(np.float64)


class Look:
    """An encoder by what it makes of frames."""

    def __init__(self, look, latent_dim=2):
        self.look, self.latent_dim = look, latent_dim

    def __call__(self, frames):
        return self.look(frames)


def test_an_exact_encoder_of_frames():
    options = {"count": 200, "scale": 0.6, "resamples": 5, "draw": written}
    report = identify(Look(lambda frames: read(frames) / 0.6 @ Q.T), **options)
    assert report.scale == 0.6
    assert report.theorem3.bound.high == pytest.approx(0, abs=1e-9)
    assert scores(report) == pytest.approx((1, 1))
    in_radians = identify(Look(read), **options)  # not in the units of the theory
    assert in_radians.linear.orthogonality.value == pytest.approx(np.sqrt(2) * (1 - 0.36))
    assert scores(in_radians) == pytest.approx((1, 1))
    with pytest.raises(InvalidInput, match="must give latents"):
        identify(Look(lambda frames: read(frames)[:-1]), **options)


def test_pixels_of_the_real_scene():
    frames = gaussian_views(20, profile="fast", seed=3)[1]
    assert frames.shape == (20, 2, 64, 64, 3)
    assert np.array_equal(frames, gaussian_views(20, profile="fast", seed=3)[1])

    def coarse(x):
        return x.reshape(len(x), 8, 8, 8, 8, 3).mean(axis=(2, 4, 5)).reshape(len(x), -1)

    directions = np.linalg.svd(coarse(frames[:, 0]) - coarse(frames[:, 0]).mean(axis=0), full_matrices=False)[2][:3]
    report = identify(Look(lambda x: coarse(x) @ directions.T, 3), count=120, profile="fast", resamples=5)
    assert report.latent_dim == 3
    assert report.theorem3.holds
    assert 0.1 < scores(report)[0] < 0.95
