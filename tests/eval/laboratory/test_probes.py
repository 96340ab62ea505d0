"""Bias and variance of probes, against their formulas."""

import numpy as np
import pytest

from worldplan.eval.laboratory.probes import (
    BANDWIDTH,
    Moments,
    kernel_bias,
    measure,
    predictions,
    ridge,
    small_bias,
    tasks,
)
from worldplan.eval.laboratory.transports import CONDITIONS, IDEAL, INFORMATION, LATENTS, LAWS, OURS, eigenvalues


def test_moments_are_unbiased():
    """The mean of few draws is off by chance, which is no bias."""
    rng, kept = np.random.default_rng(0), Moments()
    for _ in range(5):
        kept.add(0.3 + rng.standard_normal(20_000))
    assert kept.squared_bias(np.zeros(20_000)).mean() == pytest.approx(0.09, abs=0.01)
    assert kept.squared_bias(np.full(20_000, 0.3)).mean() == pytest.approx(0, abs=0.01)
    assert kept.variance.mean() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_ridge_has_the_bias_and_variance_of_its_formula(alpha):
    """For a fixed design: `-penalty (G + penalty)^-1 beta`, and `noise^2 (G + penalty)^-1 G (G + penalty)^-1`."""
    rng = np.random.default_rng(0)
    x = LAWS["condition 16"](rng.standard_normal((60, LATENTS)))
    x -= x.mean(axis=0)
    beta, gram, penalty = np.array([1.0, -1, 0.5, 2]), x.T @ x, alpha * len(x) * np.eye(LATENTS)
    labels = x @ beta[:, None] + 0.5 * rng.standard_normal((60, 20_000))
    found, inverse = ridge(x, labels, alpha), np.linalg.inv(gram + penalty)
    np.testing.assert_allclose(found.mean(axis=1), beta - penalty @ inverse @ beta, atol=0.02)
    np.testing.assert_allclose(np.cov(found), 0.25 * inverse @ gram @ inverse, atol=0.002)
    assert (np.abs(found.mean(axis=1) - beta).max() > 0.2) == (alpha > 0)


def test_anisotropy_costs_parameters_and_no_predictions():
    """Lemma 2 is about parameters: least squares predicts the same in any coordinates."""
    rng = np.random.default_rng(0)
    z, queries, labels = rng.standard_normal((50, 4)), rng.standard_normal((9, 4)), rng.standard_normal((50, 1))
    plain, bent = predictions(z, labels, queries), LAWS["condition 64"]
    other = predictions(bent(z), labels, bent(queries))
    np.testing.assert_allclose(other["ridge", 0.0], plain["ridge", 0.0])
    assert np.abs(other["ridge", 0.1] - plain["ridge", 0.1]).max() > 0.01
    assert np.abs(other["neighbours", 8.0] - plain["neighbours", 8.0]).max() > 0.01


def test_the_kernel_probe_with_many_samples():
    rng = np.random.default_rng(0)
    smooth = tasks("random", 3, rng)[1]
    x, queries = (LAWS["condition 4"](rng.standard_normal((count, LATENTS))) for count in (60_000, 20))
    variances = eigenvalues(4)
    shrunk = variances / (variances + BANDWIDTH**2)
    limit = smooth.seen(queries * shrunk, shrunk * BANDWIDTH**2)
    found = predictions(x, smooth(x), queries)["kernel", BANDWIDTH]
    assert np.square(found - limit).mean() < 0.01 * np.square(smooth(queries) - limit).mean()
    assert kernel_bias(smooth, queries, variances, BANDWIDTH) == np.square(smooth(queries) - limit).mean()


@pytest.mark.parametrize("law", [IDEAL, "condition 4"])
def test_theorem_8_holds_for_small_bandwidths_only(law):
    rng = np.random.default_rng(0)
    smooth = tasks("random", 400, rng)[1]
    queries, variances = LAWS[law](rng.standard_normal((400, LATENTS))), eigenvalues(CONDITIONS.get(law, 1))
    found = {width: kernel_bias(smooth, queries, variances, width) / width**4 for width in (0.02, 1.0)}
    assert found[0.02] == pytest.approx(small_bias(INFORMATION[law]), rel=0.06)
    assert found[1.0] < 0.6 * small_bias(INFORMATION[law])


def test_probes_learn_and_shuffled_labels_teach_nothing():
    size = {"samples": 200, "draws": 10, "queries": 100, "tasks": 4}
    found = measure(LAWS[IDEAL], "ours", size, [0, 0])["best"]
    assert found["linear"]["share"] < 0.02 and found["smooth"]["share"] < 0.5 and found["first"]["share"] < 0.5
    assert found["shuffled"]["share"] > 0.95
    spiral = measure(OURS["spiral, not undone"], "ours", size, [0, 0])["best"]
    assert spiral["linear"]["share"] > 0.5  # the law alone, N(0, I), does not serve a probe
