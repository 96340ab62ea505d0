"""The verifier of Theorem 4: it passes the truth, sees each mistake, and fails when it is made to overlook one."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import worldplan as wp
from worldplan.agents.quarter_turns import encode_turned, fit_quarter_turns
from worldplan.errors import EncoderCollapsed, InvalidInput, NotStabilizable
from worldplan.eval.theorem4 import mistakes as controls, pixels as pixel_exact, problems, verify as theorem4
from worldplan.eval.theorem4.dose import mistake_tests
from worldplan.eval.theorem4.gaps import cem_gaps, lqr_gaps, mpc_gaps, mppi_gaps
from worldplan.eval.theorem4.levels import Dose, MistakeLevel
from worldplan.eval.theorem4.mistakes import permuted_box, rotated_box
from worldplan.eval.theorem4.pixels import PixelConfig
from worldplan.eval.theorem4.problems import draw_problem, seen_through
from worldplan.eval.theorem4.report import Theorem4Report
from worldplan.eval.theorem4.spaces import SPACE_HARMLESS, SPACE_MISTAKES
from worldplan.eval.theorem4.verify import FAMILIES, verify_planning
from worldplan.learning.encoder import encode
from worldplan.planning.rotation import random_rotation

from turned import rotate_cost, rotate_dynamics

SMALL = {"problems": 10, "largest": 8, "trials": 2, "sizes": (1e-2, 1e-5, 1e-6)}


@pytest.fixture(scope="module")
def truth():
    """The report on worldplan's own planners, at small size."""
    return verify_planning(problems=60, largest=32, trials=4)


def quick(solve=wp.solve_lqr, **mistaken):
    """A verifier with few sizes, for runs in which something is wrong: the LQR solver, or a mistake."""
    lqr = partial(lqr_gaps, solve=solve)
    families = [replace(f, gaps=lqr) if f.gaps is lqr_gaps else f for f in FAMILIES]
    return verify_planning(**SMALL, families=families, tests=mistake_tests(lqr=lqr, **mistaken))


def failed(report):
    """Names of the levels that did not pass."""
    assert report.passed == (not [level for level in report.levels if not level.passed])
    return {level.name for level in report.levels if not level.passed}


# --- the truth ------------------------------------------------------------------------------------------------------


def test_the_truth_passes(truth):
    assert truth.passed and failed(truth) == set() and truth.title == "Theorem 4: passed"
    assert sum(level.problems for level in truth.exact) >= 60
    assert all(0 <= level.worst < 1e-11 and level.by_condition == 0 for level in truth.exact)
    assert {"gain", "value matrix", "value", "action", "trajectory", "optimality"} <= set(truth.exact[0].gaps)
    assert wp.eval.verify_planning is verify_planning


def test_every_mistake_is_rejected_at_its_sizes(truth):
    mistakes = [level for level in truth.controls if level.expected == "rejected"]
    assert {level.name for level in mistakes} == {*controls.MISTAKES, "latent box", *SPACE_MISTAKES}
    for level in mistakes:
        assert all(dose.rejected == dose.trials for dose in level.doses), level
        assert level.resolution == pytest.approx(1e-6) and level.required <= 1.01e-5
        assert [dose.size for dose in level.doses] == sorted((dose.size for dose in level.doses), reverse=True)


def test_effects_grow_with_the_dose(truth):
    for level in truth.controls:
        if level.expected == "rejected":
            assert level.monotone, level
            # A mistake of first order: ten times the size, about ten times the plan error (the box is met all at once).
            plans = {round(np.log10(dose.size)): dose.plan for dose in level.doses}
            assert 3 < plans[-3] / plans[-4] < 30, level


def test_what_is_no_mistake_is_accepted_at_every_size(truth):
    fair = [level for level in truth.controls if level.expected == "accepted"]
    assert {level.name for level in fair} == {"consistent offset", "box, axes permuted", *SPACE_HARMLESS}
    assert all(dose.rejected == 0 and dose.plan < 1e-8 for level in fair for dose in level.doses)


def test_the_report_is_json_and_a_table(truth):
    facts = json.loads(json.dumps(truth.to_dict(), allow_nan=False))
    assert facts["passed"] is True and facts["seed"] == 0
    assert {row["passed"] for row in facts["exact"] + facts["controls"]} == {True}
    assert facts["controls"][0]["doses"][0].keys() >= {"size", "value", "action", "plan", "rejected"}
    table = truth.table()
    assert len(table.rows) == len(truth.levels)
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert any("Resolution, LQR" in note and "1e-06" in note for note in table.notes)


def test_worker_processes_change_nothing_and_load_no_torch(tmp_path):
    script = tmp_path / "both.py"  # spawned workers import the main module: it must be a file
    script.write_text(
        "import sys\n"
        "from worldplan.eval.theorem4.verify import verify_planning\n"
        "if __name__ == '__main__':\n"
        "    few = dict(problems=20, largest=8, trials=1, sizes=(1e-1, 1e-5))\n"
        "    alone, together = verify_planning(**few), verify_planning(**few, processes=2)\n"
        "    assert alone.to_dict() == together.to_dict()\n"
        "    assert not {'torch', 'mujoco'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, script], check=True)


def test_the_seed_decides():
    once, again = quick(), quick()
    assert once.to_dict() == again.to_dict()
    assert verify_planning(seed=1, **SMALL).exact != once.exact


def test_large_problems_and_every_family_are_drawn():
    sizes = {f.name: theorem4._latents(f, round(1000 * f.share), 256) for f in theorem4.FAMILIES}
    assert sizes["LQR, finite horizon"][:4] == [256, 128, 64, 32]
    assert sizes["LQR, infinite horizon"][:4] == [256, 128, 64, 32]
    assert all(min(drawn) == 2 for drawn in sizes.values())
    assert sum(map(len, sizes.values())) == 1000
    assert theorem4._latents(theorem4.FAMILIES[1], 350, 1024)[0] == 1024


# --- the pieces -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [1, 2])
def test_seen_through_a_rotation_is_the_rotation_of_everything(blocks):
    rng = np.random.default_rng(0)
    world = draw_problem(rng, 3, blocks=blocks, noise=0.1)
    Q, b = random_rotation(3, rng), rng.standard_normal(3)
    seen, turned = seen_through(world, Q), rotate_dynamics(world.dynamics, Q)
    for name in ("A", "B", "intercept"):
        np.testing.assert_allclose(getattr(seen.dynamics, name), getattr(turned, name), atol=1e-12)
    assert seen.cost is world.cost  # never carried along
    shifted = seen_through(world, Q, b)
    x, u = rng.standard_normal(3 * blocks), rng.standard_normal(world.dynamics.action_dim)
    bent, seen_bent = replace(world, bend=0.3), replace(shifted, bend=0.3)
    for plant, image in ((world, shifted), (bent, seen_bent)):
        ahead = image.to_world(image.step(image.basis @ x + image.shift, u, 2))
        np.testing.assert_allclose(ahead, plant.step(x, u, 2), atol=1e-12)
    assert np.abs(bent.step(x, u, 0) - world.step(x, u, 0)).max() > 1e-2
    np.testing.assert_allclose(shifted.goal, Q @ world.goal + b)


def test_the_size_of_the_map_is_that_of_its_gram_matrix():
    world = draw_problem(np.random.default_rng(0), 4)
    for size in (1.0, 1e-2, 1e-5):
        M = controls.non_orthogonal(world, size, np.random.default_rng(1))[1].basis
        assert np.linalg.norm(M.T @ M - np.eye(4), 2) == pytest.approx(size, rel=1e-6)
        seen = controls.goal_left_behind(world, size, np.random.default_rng(1))[1]
        assert np.linalg.norm(seen.basis @ world.goal - seen.goal) == pytest.approx(
            size * np.linalg.norm(world.goal), rel=1e-6
        )
        np.testing.assert_allclose(seen.basis.T @ seen.basis, np.eye(4), atol=1e-12)


@pytest.mark.parametrize("measure", [lqr_gaps, mpc_gaps, cem_gaps, mppi_gaps])
def test_each_planner_agrees_behind_a_rotation_and_not_behind_a_shear(measure):
    rng = np.random.default_rng(3)
    world = draw_problem(rng, 3, blocks=2)
    assert measure(world, seen_through(world, random_rotation(3, rng), rng.standard_normal(3))).worst[1] < 1e-10
    shear = np.eye(3) + 1e-3 * np.eye(3, k=1)
    assert measure(world, seen_through(world, shear)).worst[1] > 1e-6


def test_each_gap_is_measured():
    """That others see the same mistake is no reason to leave one out."""
    rng = np.random.default_rng(4)
    world = draw_problem(rng, 3, blocks=2)
    shear = np.eye(3) + 1e-3 * np.eye(3, k=1)
    for horizon in (None, 6):
        gaps = lqr_gaps(world, seen_through(world, shear), horizon).all
        assert {name for name, gap in gaps.items() if gap > 1e-7} == set(gaps) - {"optimality"}


def test_a_latent_box_is_seen_and_its_own_symmetries_are_not():
    for k in range(3):
        assert rotated_box(1e-2, np.random.default_rng(k), k).worst[1] > 1e-4
        assert permuted_box(1e-2, np.random.default_rng(k), k).worst[1] < 1e-9


# --- a verifier that overlooks something ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(controls.MISTAKES))
def test_a_control_that_does_nothing_fails_the_verifier(name):
    def honest(world, size, rng):
        return world, seen_through(world, random_rotation(world.latent_dim, rng))

    report = quick(mistakes={**controls.MISTAKES, name: honest})
    assert not report.passed and failed(report) == {name}
    assert name in report.title and "REJECTED" in report.title


def test_a_latent_box_without_effect_fails_the_verifier():
    assert failed(quick(box=permuted_box)) == {"latent box"}


def test_a_cost_that_is_carried_along_fails_the_verifier():
    def covariant(world, size, rng):
        tilted, seen = controls.anisotropic_cost(world, size, rng)
        return tilted, replace(seen, cost=rotate_cost(tilted.cost, seen.basis[: world.latent_dim, : world.latent_dim]))

    assert failed(quick()) == set()
    assert failed(quick(mistakes={**controls.MISTAKES, "anisotropic cost": covariant})) == {"anisotropic cost"}


def test_a_verifier_that_carries_every_cost_along_passes_no_control_of_maps_or_costs(monkeypatch):
    def covariant(problem, M, offset=None):
        seen = problems.seen_through(problem, M, offset)
        back = np.linalg.inv(seen.basis) @ problem.basis
        W = back.T @ problem.cost.W @ back
        return replace(seen, cost=wp.QuadraticCost((W + W.T) / 2, problem.cost.R, latent_dim=problem.latent_dim))

    monkeypatch.setattr(controls, "seen_through", covariant)
    assert failed(quick()) == {"non-orthogonal map", "anisotropic cost"}


@pytest.mark.parametrize("size", [1e-6, 1e-3])
def test_a_gain_that_is_wrong_alike_in_both_spaces_is_rejected(size):
    def wrong(dynamics, cost, horizon=None):
        solution = wp.solve_lqr(dynamics, cost, horizon)
        return replace(solution, gain=(1 + size) * solution.gain)

    report = quick(wrong)
    assert {"LQR, infinite horizon", "LQR, finite horizon", "consistent offset"} <= failed(report)
    assert report.exact[0].quantity == "optimality"


def test_a_solver_that_prefers_an_axis_is_rejected():
    def ridge(dynamics, cost, horizon=None):
        W = cost.W + 1e-6 * np.diag(np.arange(len(cost.W)))
        return wp.solve_lqr(dynamics, wp.QuadraticCost(W, cost.R, cost.latent_dim), horizon)

    assert "LQR, infinite horizon" in failed(quick(ridge))


def test_a_solver_that_fails_is_evidence_and_no_crash():
    def broken(dynamics, cost, horizon=None):
        raise NotStabilizable("no")

    level = theorem4._exact(replace(FAMILIES[0], gaps=partial(lqr_gaps, solve=broken)), 3, 8, 0)
    assert not level.passed and level.failed == 3 and level.worst == np.inf and level.quantity == "NotStabilizable"
    assert Theorem4Report(0, (level,), ()).to_dict()["exact"][0]["worst"] is None


def test_nothing_run_is_nothing_passed():
    assert not Theorem4Report(0, (), ()).passed
    assert not MistakeLevel("x", "LQR", "rejected", 1e-6, 1e-9, ()).passed
    dose = Dose(size=1e-3, trials=2, rejected=1, value=0.0, action=0.0, plan=0.0, least=0.0)
    half = MistakeLevel("x", "LQR", "rejected", 1e-6, 1e-9, (replace(dose, size=1.0, rejected=2), dose))
    assert not half.passed and half.resolution == 1.0 and not replace(half, expected="accepted").passed


def test_ill_conditioned_problems_are_judged_by_their_condition():
    rng = np.random.default_rng(0)
    world = draw_problem(rng, 3)
    measured = lqr_gaps(world, seen_through(world, random_rotation(3, rng)))
    assert measured.tolerance() == 1e-9 and 1 < measured.condition() < 1e6
    far = replace(measured, value=1e-6, condition=lambda: 1e12)
    assert far.tolerance() == pytest.approx(1e3 * np.finfo(float).eps * 1e12)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"seed": 1.5},
        {"problems": 5},
        {"problems": 0},
        {"trials": 0},
        {"largest": 1},
        {"reference": lambda frames: frames},
    ],
)
def test_wrong_input_is_a_typed_error(wrong):
    with pytest.raises(InvalidInput):
        verify_planning(**wrong)
    with pytest.raises(InvalidInput):
        seen_through(draw_problem(np.random.default_rng(0), 3), np.eye(2))
    with pytest.raises(InvalidInput):
        draw_problem(np.random.default_rng(0), 0)


# --- pixels ---------------------------------------------------------------------------------------------------------


class Eye:
    """Any function of the frames as an encoder."""

    latent_dim = 2

    def __init__(self, look):
        self.look, self.calls = look, 0

    def __call__(self, frames):
        self.calls += 1
        return self.look(frames, self.calls)


def moments(frames, call=1):
    """Where the bright pixels lie: two numbers a frame."""
    light = frames.astype(np.float64).sum(axis=3)
    place = np.linspace(-1, 1, light.shape[1])
    return np.stack([(light * place).sum(axis=(1, 2)), (light * place[:, None]).sum(axis=(1, 2))], axis=1) / 1e5


@pytest.mark.parametrize(
    ("look", "message"),
    [
        (lambda frames, call: np.zeros((len(frames), 3)), "latents"),
        (lambda frames, call: np.zeros(2), "latents"),
        (lambda frames, call: np.full((len(frames), 2), np.nan), "finite"),
        (lambda frames, call: np.zeros((len(frames), 1 + call)), "deterministic"),
        (lambda frames, call: moments(frames) + call, "deterministic"),
        (lambda frames, call: "nonsense", "numbers"),
    ],
)
def test_what_is_no_encoder_is_a_typed_error(look, message):
    frames = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), dtype=np.uint8)
    assert encode(Eye(moments), frames, twice=True).shape == (4, 2)
    with pytest.raises(InvalidInput, match=message):
        encode(Eye(look), frames, twice=True)
    for thing in (moments, object(), None):
        with pytest.raises(InvalidInput, match="latent_dim"):
            encode(thing, frames, twice=True)


SHORT = {"profile": "fast", "config": PixelConfig(fit_episodes=16, fit_steps=14, test_episodes=2, test_steps=6)}


def test_the_pipeline_of_the_shipped_encoder_turns_with_it_and_is_sheared_with_it(monkeypatch):
    encoder = wp.load_encoder("reacher")
    levels = {level.name: level for level in pixel_exact.pixel_levels(encoder, **SHORT)}
    assert all(level.passed for level in levels.values()), levels
    assert levels["Q f, LQR"].torque_gap < 1e-8 and levels["Q f, LQR"].cost_gap < 1e-6
    assert levels["Q f, MPC"].torque_gap < 1e-6
    assert levels["shear of f, LQR"].torque_gap > 1e-3
    assert not replace(levels["shear of f, LQR"], torque_gap=0.0).passed
    assert not replace(levels["Q f, LQR"], cost_gap=1e-3).passed
    assert levels["Q f, charts"].torque_gap < 1e-8

    def by_coordinate(encode, frames):  # the median of each coordinate does not turn along
        charts = fit_quarter_turns(encode, frames)
        latents = encode_turned(encode, frames)
        return replace(charts, centre=np.median(latents.reshape(-1, latents.shape[-1]), axis=0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixel_exact, "find_charts", by_coordinate)
        found = {level.name for level in pixel_exact.pixel_levels(encoder, **SHORT) if not level.passed}
        assert "Q f, charts" in found

    def ridge(latents, actions, space):  # a filter that trusts one coordinate more than the other does not turn along
        fitted = wp.fit_dynamics(latents, actions)
        return replace(fitted, observation_noise=np.diag(np.diag(fitted.observation_noise) * [1.0, 3.0]))

    monkeypatch.setattr(pixel_exact, "fit_dynamics", ridge)
    assert {level.name for level in pixel_exact.pixel_levels(encoder, **SHORT) if not level.passed} >= {
        "Q f, LQR",
        "Q f, MPC",
    }


def test_where_zero_lies_on_a_circle_changes_no_torque(monkeypatch):
    encoder = wp.load_encoder("reacher-excitation")
    levels = {level.name: level for level in pixel_exact.pixel_levels(encoder, **SHORT)}
    assert all(level.passed for level in levels.values()), levels
    # A fit that takes the circle for a line sees a jump where the latent is cut, and that has moved.
    monkeypatch.setattr(pixel_exact, "fit_dynamics", lambda latents, actions, space: wp.fit_dynamics(latents, actions))
    assert not {level.name: level for level in pixel_exact.pixel_levels(encoder, **SHORT)}["Q f, LQR"].passed


def test_the_units_of_a_latent_do_not_hide_a_shear():
    encoder = wp.load_encoder("reacher")
    gaps = []
    for unit in (1.0, 1e-3):
        levels = pixel_exact.pixel_levels(pixel_exact.MappedEncoder(encoder, unit * np.eye(2)), **SHORT)
        assert all(level.passed for level in levels), levels
        gaps.append(next(level.torque_gap for level in levels if level.name == "shear of f, LQR"))
    assert gaps[1] == pytest.approx(gaps[0], rel=1e-3)


def test_a_constant_encoder_has_collapsed():
    with pytest.raises(EncoderCollapsed, match="constant"):
        pixel_exact.pixel_levels(Eye(lambda frames, call: np.ones((len(frames), 2))), **SHORT)
