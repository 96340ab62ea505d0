"""The error of the best affine map on circles and lines, against planted maps."""

import numpy as np
import pytest

from worldplan.errors import InvalidInput
from worldplan.eval.identifiability.circles import affine_error
from worldplan.planning.space import LatentSpace

TRUTH = LatentSpace("circle", "line")


@pytest.fixture(scope="module")
def poses():
    return np.random.default_rng(0).uniform([-np.pi, -2.7], [np.pi, 2.7], (2000, 2))


@pytest.mark.parametrize("order", [("circle", "line"), ("line", "circle")])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_planted_map_leaves_its_noise(poses, order, sign):
    rng, space = np.random.default_rng(1), LatentSpace(*order)
    noise = rng.standard_normal(poses.shape) * [0.03, 0.05]
    seen = poses + noise
    circle, line = sign * seen[:, 0] + 0.2 * seen[:, 1] + 2.0, -0.7 * seen[:, 1] + 1.0
    latents = space.wrap(np.stack([circle, line] if order[0] == "circle" else [line, circle], axis=1))
    error = affine_error(latents, poses, space, TRUTH)
    assert [round(e.value, 3) for e in error.joints] == pytest.approx([0.03, 0.05], rel=0.1)
    assert all(e.low < e.value < e.high for e in error.joints)


def test_a_bent_latent_has_an_error(poses):
    bent = np.stack([poses[:, 0] + 0.3 * np.sin(poses[:, 0]), poses[:, 1] + 0.2 * poses[:, 1] ** 2], axis=1)
    error = affine_error(TRUTH.wrap(bent), poses, TRUTH, TRUTH)
    assert error.joints[0].value == pytest.approx(0.3 / np.sqrt(2), rel=0.05)
    assert error.joints[1].value > 0.3


def test_lines_cannot_follow_a_circle(poses):
    """A chart of the circle is right but for its seam; the best map finds the right lift of the others."""
    lines = LatentSpace("line", "line")
    assert affine_error(poses, poses, lines, TRUTH).joints[0].value < 1e-9
    cut = np.stack([np.remainder(poses[:, 0] + 1.0, 2 * np.pi), poses[:, 1]], axis=1)
    assert affine_error(cut, poses, lines, TRUTH).joints[0].value < 1e-9
    for seam in np.linspace(-3, 3, 7):  # wherever the seam is, only the poses beside it err
        chart = np.remainder(poses[:, :1] - seam, 2 * np.pi)
        chart = np.where(chart > 2 * np.pi - 0.3, (2 * np.pi - chart) * (2 * np.pi - 0.3) / 0.3, chart)
        error = affine_error(np.hstack([chart, poses[:, 1:]]), poses, lines, TRUTH)
        assert error.joints[0].value < 0.7
    smooth = np.stack([np.sin(poses[:, 0]), poses[:, 1]], axis=1)
    assert affine_error(smooth, poses, lines, TRUTH).joints[0].value > 0.5


def test_a_doubled_circle_is_no_map_of_the_state(poses):
    doubled = TRUTH.wrap(poses * [2.0, 1.0])
    assert affine_error(doubled, poses, TRUTH, TRUTH).joints[0].value > 1


def test_bad_input(poses):
    with pytest.raises(InvalidInput, match="N >= 20"):
        affine_error(poses[:5], poses[:5], TRUTH, TRUTH)
    with pytest.raises(InvalidInput):
        affine_error(poses[:, :1], poses, TRUTH, TRUTH)
