"""The learned level: rotations pass exactly, good encoders within tolerance, bad ones are rejected."""

import json
from dataclasses import replace

import numpy as np
import pytest

import worldplan as wp
from worldplan.envs.rendering import render_frames
from worldplan.errors import InvalidInput
from worldplan.eval.theorem4.learned import fit_side, learned_level
from worldplan.eval.theorem4.levels import LearnedLevel
from worldplan.eval.theorem4.orthogonality import orthogonality_error
from worldplan.eval.theorem4.pixels import MappedEncoder, PixelConfig, Units, radians_per_unit, torque_episodes
from worldplan.eval.theorem4.report import Theorem4Report
from worldplan.eval.theorem4.verify import verify_planning
from worldplan.planning.rotation import random_rotation

Q = random_rotation(2, 3)


# Few and short episodes: what is judged here are the verdicts.
SMALL = PixelConfig(16, 16, 2, 4, episodes=3, steps=30, pairs=120, paths=4, path_steps=12)
FAST = {"profile": "fast", "config": SMALL}


@pytest.fixture(scope="module")
def encoder():
    return wp.load_encoder("reacher")


@pytest.fixture(scope="module")
def report(encoder):
    return learned_level(encoder, **FAST)


def failed(report):
    return {level.name for level in report.levels if not level.passed}


def test_the_shipped_encoder_plans_like_the_true_state(report):
    gaps = {level.name: level.gap for level in report.levels}
    assert failed(report) <= {"torques"} and gaps["closed-loop cost"] < 0.15 and gaps["value"] < 0.2
    assert gaps["ledger"] < 1e-12 and report.certificate.holds
    assert report.reference == "the true state" and report.episodes == 3


def test_the_ledger_is_in_the_units_of_the_reward(report):
    assert report.reference_ledger.residual < 1e-12
    evidence = next(level.evidence for level in report.levels if level.name == "closed-loop cost")
    assert evidence.startswith(f"{report.encoder_ledger.cost:.4g} for {report.reference_ledger.cost:.4g} rad^2")
    assert report.encoder_ledger.policy > report.reference_ledger.policy > 0  # even the reference clips


def test_an_encoder_against_a_rotation_of_it_is_equal_and_against_a_shear_is_not(encoder):
    class Card(MappedEncoder):
        card = encoder.card

    same = learned_level(Card(encoder, Q), encoder, **FAST)
    gaps = {level.name: level.gap for level in same.levels}
    assert failed(same) == set() and same.reference == "the reference encoder"
    assert max(abs(gaps[name]) for name in ("value", "torques", "closed-loop cost")) < 1e-6
    assert same.grade == "a rotation" and any("a rotation" in note for note in same.notes)
    shear = learned_level(Card(encoder, np.array([[1.0, 1.5], [0.0, 1.0]])), encoder, **FAST)
    assert "value" in failed(shear) and shear.grade == "not equivalent"
    # A shear of .05 passes by its costs; the map itself tells it.
    small = learned_level(Card(encoder, Q @ np.array([[1.0, 0.05], [0.0, 1.0]])), encoder, **FAST)
    assert failed(small) == {"rotation"} and small.grade == "not equivalent"
    smaller = learned_level(Card(encoder, Q @ np.array([[1.0, 0.01], [0.0, 1.0]])), encoder, **FAST)
    assert failed(smaller) == set() and smaller.grade == "equivalent within tolerance"


def test_the_error_of_a_map_is_that_of_its_singular_values():
    rng = np.random.default_rng(0)
    paths = rng.standard_normal((6, 20, 3)).cumsum(axis=1)
    for M, wanted in ((random_rotation(3, 0), 0.0), (np.diag([1.1, 1.0, 1.0]), 0.21), (np.eye(3)[:, [1, 0, 2]], 0.0)):
        found = orthogonality_error(paths, paths @ M.T + rng.standard_normal((6, 1, 3)))
        assert found.value == pytest.approx(wanted, abs=1e-12) and found.low <= found.value <= found.high + 1e-12
    noisy = orthogonality_error(paths, paths + 0.3 * rng.standard_normal(paths.shape))
    assert noisy.high - noisy.low > 1e-3  # the interval tells what episodes leave open
    assert np.isnan(orthogonality_error(0 * paths, paths).value)


class Blurred:
    """Sees where the light is, not where the arm is."""

    latent_dim = 2

    def __call__(self, frames):
        light = frames.astype(np.float64).sum(axis=3)
        place = np.linspace(-1, 1, light.shape[1])
        return np.stack([(light * place).sum(axis=(1, 2)), (light * place[:, None]).sum(axis=(1, 2))], axis=1) / 1e5


def test_an_encoder_that_does_not_see_the_joints_is_rejected_and_its_certificate_holds():
    report = learned_level(Blurred(), **FAST)
    assert {"value", "torques"} <= failed(report)
    assert report.certificate.holds


def test_both_sides_see_the_same_and_the_true_state_is_in_units_of_scale():
    data = torque_episodes(0, "fast", SMALL)
    assert data is torque_episodes(0, "fast", SMALL)
    assert radians_per_unit(MappedEncoder(wp.load_encoder("reacher"), 2 * Q), data) == pytest.approx(0.5, rel=0.2)
    one, half = (fit_side(None, data, scale, "", Units(np.arange(2), np.array(scale))) for scale in (1.0, 0.5))
    np.testing.assert_allclose(one.positions(data), 0.5 * half.positions(data))
    goals = np.zeros((len(data), 2))
    np.testing.assert_allclose(
        half.values(half.positions(data), goals), one.values(one.positions(data), goals), rtol=1e-3
    )


def test_a_level_judges_itself():
    level = LearnedLevel("x", 0.1, 0.2, "")
    assert level.passed and replace(level, gap=0.2).passed
    assert not replace(level, gap=0.21).passed and not replace(level, gap=float("nan")).passed


def test_it_is_part_of_the_verdict(encoder, report, monkeypatch):
    asked = []
    monkeypatch.setattr("worldplan.eval.theorem4.pixels.pixel_levels", lambda *a: ())
    monkeypatch.setattr("worldplan.eval.theorem4.learned.learned_level", lambda *a: asked.append(a) or report)
    small = {"problems": 10, "largest": 8, "trials": 2, "sizes": (1e-2, 1e-6)}
    whole = verify_planning(encoder, "another", 3, profile="fast", pixels=SMALL, **small)
    assert asked == [(encoder, "another", 3, "fast", SMALL)]
    table = whole.table()
    names = [row[0] for row in table.rows]
    assert {"learned, value", "learned, certificate"} <= set(names)
    facts = json.loads(json.dumps(whole.to_dict(), allow_nan=False))
    assert facts["learned"]["certificate"]["holds"] is True
    assert {row["name"] for row in facts["learned"]["levels"]} >= {"ledger", "torques"}
    assert all(row["passed"] for level in ("exact", "controls") for row in facts[level])
    ledgers = facts["learned"]["encoder_ledger"], facts["learned"]["reference_ledger"]
    assert all(0 <= ledger["residual"] < 1e-9 and "cost" in ledger for ledger in ledgers)
    assert any("Certificate" in note for note in table.notes) and any("policy" in note for note in table.notes)
    bad = replace(report, levels=(replace(report.levels[0], gap=1.0), *report.levels[1:]))
    assert not Theorem4Report(0, whole.exact, whole.controls, whole.pixels, bad).passed
    with pytest.raises(InvalidInput, match="reference"):
        verify_planning(reference=encoder)


def test_frames_of_the_certificate_show_no_target():
    pose = np.array([[0.4, -0.3]])
    np.testing.assert_array_equal(render_frames(pose, None, "fast"), render_frames(pose, np.zeros((1, 3)), "fast"))
