"""The grid of Theorem 3: when the bound holds, and what predicts the error."""

import numpy as np
import pytest

from worldplan.eval.identifiability.theorem3 import ApproximateIdentifiability, distortion
from worldplan.eval.laboratory.bound import BOUND_EXPERIMENT, Bounded, prediction, told_apart, train_and_bound, verdict
from worldplan.eval.laboratory.ensemble import Training
from worldplan.eval.laboratory.mixings import MIXINGS_EXPERIMENT
from worldplan.eval.laboratory.setting import Member, Setting, measured, trained
from worldplan.eval.laboratory.worlds import gaussian_pairs
from worldplan.eval.statistics.estimate import Estimate


def bent(share, rho, told):
    """Theorem 3 of a white latent of which a share is the second harmonic."""
    pairs = gaussian_pairs(8000, 2, rho, np.random.default_rng(0))
    h = np.sqrt(1 - share) * pairs + np.sqrt(share / 2) * (pairs**2 - 1)
    return distortion(h, pairs, rho=told, resamples=50)[1]


def certain(error, delta, eps):
    exact = [Estimate(float(x), float(x), float(x)) for x in (eps, delta, delta, delta + eps**2, error)]
    return ApproximateIdentifiability(0.5, *exact, holds=True)


@pytest.mark.parametrize("rho", [0.3, 0.5, 0.9])
def test_the_bound_holds_for_pairs_of_the_channel(rho):
    shares = (0.02, 0.1, 0.5)
    found = [bent(share, rho, rho) for share in shares]
    assert verdict(found).holds == verdict(found).runs == 3
    # The error of the best rotation is 2 n (1 - sqrt(1 - share)); all its excess alignment is of degree 2.
    np.testing.assert_allclose([one.error.value for one in found], 4 * (1 - np.sqrt(1 - np.array(shares))), rtol=0.1)
    np.testing.assert_allclose([one.delta.value for one in found], 4 * rho * (1 - rho) * np.array(shares), rtol=0.2)


def test_it_breaks_where_the_correlation_is_misstated():
    found = [bent(share, 0.9, 0.5) for share in (0.02, 0.1)]
    assert verdict(found).holds == 0 and verdict(found).above == 2


def test_which_predicts_the_error():
    rng = np.random.default_rng(0)
    errors, noise = rng.exponential(size=(2, 40))
    by_delta = prediction([certain(e, e, x) for e, x in zip(errors, noise, strict=True)])
    assert by_delta.delta.value == pytest.approx(1) and by_delta.difference.low > 0
    assert "delta" in told_apart(by_delta)
    by_eps = prediction([certain(e, x, e) for e, x in zip(errors, noise, strict=True)])
    assert by_eps.difference.high < 0 and "eps" in told_apart(by_eps)
    neither = prediction([certain(e, x, x) for e, x in zip(errors, noise, strict=True)])
    assert "do not tell" in told_apart(neither)


def test_a_job_measures_at_both_correlations():
    members = tuple(Member((0, 0), {"name": "lejepa", "weight": 0.02, "slices": 4}, rho) for rho in (0.5, 0.8))
    job = Setting("sine", members, Training(2, 16), width=4, depth=1, judged=200).job(train_and_bound)
    results = [(job.arguments, train_and_bound(**job.arguments, folder=None))]
    half, other = (encoder for _, encoder in measured(results, Bounded))
    assert half.own == half.judged.theorem3  # at rho .5 both are the same measurement
    assert other.own.rho == 0.8 and other.own.delta != other.judged.theorem3.delta
    assert other.own.error.value == pytest.approx(other.judged.theorem3.error.value, rel=0.05)
    # Other readers see encoders like any others.
    assert [encoder.judged for _, encoder in trained(results)] == [half.judged, other.judged]


def test_encoders_of_other_experiments_are_read_too():
    jobs = BOUND_EXPERIMENT.jobs("smoke", 0)[:2]
    results = [(job.arguments, job.function(**job.arguments, folder=None)) for job in jobs]
    other = [(arguments, [{**row, "own": None} for row in rows]) for arguments, rows in results[:1]]
    alone, both = (BOUND_EXPERIMENT.read("smoke", found) for found in (results, [*results, *other]))
    counts = [{row[0]: int(row[1]) for row in found.table.rows[1:]} for found in (alone, both)]
    assert "all encoders of this call" not in counts[0]
    assert counts[1]["all encoders of this call"] == counts[1]["the grid"] + 6 == counts[0]["the grid"] + 6
    mixings = {job.key for job in MIXINGS_EXPERIMENT.jobs("smoke", 0)}
    assert mixings < {job.key for job in BOUND_EXPERIMENT.related("smoke", 0)} and mixings.isdisjoint(
        j.key for j in jobs
    )
