"""The dose-response of the negative controls: what is measured, judged, fitted and drawn, and when it must fail."""

import json
import re
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

import worldplan as wp
from worldplan.__main__ import main
from worldplan.commands import Dose as DoseVerb
from worldplan.errors import InvalidInput
from worldplan.eval.theorem4 import figure as dose_figure, mistakes as controls
from worldplan.eval.theorem4.dose import SIZES, dose_response, mistake_tests
from worldplan.eval.theorem4.levels import Dose, MistakeLevel
from worldplan.eval.theorem4.mistakes import permuted_box
from worldplan.eval.theorem4.problems import seen_through
from worldplan.eval.theorem4.report import DoseReport, fit_slope
from worldplan.eval.theorem4.spaces import SPACE_HARMLESS, SPACE_MISTAKES
from worldplan.eval.theorem4.verify import verify_planning
from worldplan.planning.rotation import random_rotation

FEW = (1e-2, 1e-3, 1e-4, 1e-6)


@pytest.fixture(scope="module")
def report():
    """Of worldplan's own planners, at few sizes."""
    return dose_response(trials=2, sizes=FEW)


def honest(world, size, rng):
    """A control whose mistake is switched off."""
    return world, seen_through(world, random_rotation(world.latent_dim, rng))


def level(errors, sizes=(1e-2, 1e-3, 1e-4, 1e-5), *, rejected=2, expected="rejected"):
    """A control with the same error of value, action and plan at each size."""
    doses = [Dose(s, 2, rejected, e, e, e, 1.0) for s, e in zip(sizes, errors, strict=True)]
    return MistakeLevel("made up", "LQR", expected, 1e-5, 1e-9, tuple(doses))


# --- the truth ------------------------------------------------------------------------------------------------------


def test_the_truth_passes_and_every_control_is_there(report):
    assert report.passed and report.title.endswith("passed")
    mistakes = {(c.name, c.planner) for c in report.controls if c.expected == "rejected"}
    lines = {(n, p) for n in controls.MISTAKES for p in ("LQR", "MPC")} | {("latent box", "QP")}
    assert mistakes == lines | {(n, "LQR, circles") for n in SPACE_MISTAKES}
    fair = {"consistent offset", "box, axes permuted", *SPACE_HARMLESS}
    assert {c.name for c in report.controls if c.expected == "accepted"} == fair
    for control in report.controls:
        assert tuple(d.size for d in control.doses) == FEW
        wanted = 2 if control.expected == "rejected" else 0
        assert all((d.trials, d.rejected) == (2, wanted) for d in control.doses), control
    assert wp.eval.dose_response is dose_response
    with pytest.raises(FrozenInstanceError):
        report.seed = 1


def test_errors_are_of_first_order_but_the_value_of_a_box_that_is_just_touched(report):
    orders = {
        (c.name, c.planner, s.quantity): s.order
        for c in report.controls
        for s in report.slopes(c)
        if (c.name, s.quantity) != ("latent box", "value")
    }
    assert len(orders) == 13 * 3 - 1 and set(orders.values()) == {1}
    box = next(c for c in report.controls if c.name == "latent box")
    assert fit_slope(box, "value").order == 2
    # The oracle: what a tenth of the mistake does, without a fit.
    first, second = box.doses[0], box.doses[1]
    assert 80 < first.value / second.value < 120 and 8 < first.action / second.action < 12
    assert all(report.slopes(c) == () for c in report.controls if c.expected == "accepted")


def test_these_are_the_controls_of_the_verifier(report):
    tests = [test for test in mistake_tests() if test.planner == "LQR"]
    found = verify_planning(problems=10, largest=8, trials=2, sizes=FEW, families=(), tests=tests).controls
    wanted = {level.name: level for level in report.controls if level.planner == "LQR"}
    assert len(found) == 5 and {level.name: level for level in found} == wanted


def test_the_seed_decides_and_the_order_of_sizes_does_not(report):
    tests = [test for test in mistake_tests() if (test.name, test.planner) == ("goal not rotated", "LQR")]
    once = dose_response(trials=2, sizes=(1e-6, 1e-3, 1e-2, 1e-4, 1e-3), tests=tests)
    assert once.controls == tuple(c for c in report.controls if (c.name, c.planner) == ("goal not rotated", "LQR"))
    assert json.dumps(once.to_dict()) == json.dumps(dose_response(trials=2, sizes=FEW, tests=tests).to_dict())
    assert dose_response(seed=1, trials=2, sizes=FEW, tests=tests).controls != once.controls


def test_the_report_is_json_and_a_table(report):
    facts = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert facts["passed"] is True and facts["seed"] == 0
    mistake, fair = facts["controls"][0], facts["controls"][4]
    assert mistake["passed"] is True and mistake["resolution"] == 1e-6 and mistake["monotone"] is True
    assert mistake["slopes"].keys() == {"value", "action", "plan"} and mistake["slopes"]["action"]["order"] == 1
    assert fair["name"] == "consistent offset" and fair["slopes"] == {} and "resolution" not in fair
    table = report.table()
    assert len(table.rows) == sum(len(c.doses) for c in report.controls)
    assert all(len(row) == len(table.columns) for row in table.rows)
    first = table.rows[0]
    assert first[:3] == ("non-orthogonal map", "LQR", "1e-02") and first[-2:] == ("2 of 2", "1e-06")
    told = next(note for note in table.notes if "latent box, QP: value " in note)
    assert float(re.search(r"value ([\d.]+), action", told)[1]) == pytest.approx(2, abs=0.02)


# --- what must fail -------------------------------------------------------------------------------------------------


def test_a_mistake_that_is_switched_off_is_not_rejected(monkeypatch, tmp_path, capsys):
    name = "non-orthogonal map"
    for other in ("goal without the offset", "anisotropic cost"):
        monkeypatch.delitem(controls.MISTAKES, other)
    monkeypatch.setitem(controls.MISTAKES, name, honest)
    line = ["dose", "--trials", "2", "--sizes", "1e-2", "1e-6", "--out", str(tmp_path)]
    assert main(line) == 1
    text = capsys.readouterr().out
    assert f"FAILED ({name}, LQR; {name}, MPC)" in text and "none: FAIL" in text and "0 of 2" in text
    facts = json.loads((tmp_path / "dose.json").read_text())
    assert facts["passed"] is False
    assert {row["name"] for row in facts["controls"] if not row["passed"]} == {name}
    passed = {row["name"] for row in facts["controls"] if row["passed"]}
    others = {"goal not rotated", "consistent offset", "latent box", "box, axes permuted"}
    assert passed == others | {*SPACE_MISTAKES, *SPACE_HARMLESS}
    switched_off = facts["controls"][0]
    assert switched_off["resolution"] is None and switched_off["slopes"] == {}


def test_a_box_without_effect_and_an_offset_that_is_a_mistake_fail():
    tests = mistake_tests({}, {"consistent offset": controls.forgotten_offset}, box=permuted_box)
    found = dose_response(trials=2, sizes=(1e-2,), tests=tests)
    assert not found.passed
    assert {c.name for c in found.controls if not c.passed} == {"latent box", "consistent offset"}
    assert ("no mistake: FAIL", "2 of 2") in {(row[-1], row[-2]) for row in found.table().rows}


def test_nothing_run_is_nothing_passed():
    assert not DoseReport(0, ()).passed and "nothing ran" in DoseReport(0, ()).title
    good = level([1e-2, 1e-3, 1e-4, 1e-5])
    assert DoseReport(0, (good,)).passed
    assert not DoseReport(0, (good, replace(good, expected="accepted"))).passed


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seed": -1}, "seed must be"),
        ({"seed": True}, "seed must be"),
        ({"trials": 0}, "trials must be"),
        ({"sizes": ()}, "at least one"),
        ({"sizes": (1.0, 0.0)}, "sizes must lie in"),
        ({"sizes": (3.0,)}, "sizes must lie in"),
        ({"sizes": (float("nan"), 1.0)}, "sizes must lie in"),
        ({"sizes": (1e-6, 1e-7)}, "to judge every control"),
    ],
)
def test_wrong_input_is_a_typed_error(wrong, said):
    with pytest.raises(InvalidInput, match=said):
        dose_response(**wrong)


# --- slopes ---------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(power=st.floats(0.5, 2.0), factor=st.floats(0.1, 10.0), tenths=st.integers(1, 9))
def test_the_slope_of_a_power_is_its_exponent(power, factor, tenths):
    sizes = np.array([1e-2, 3e-3, 1e-3, tenths * 1e-4])
    slope = fit_slope(level(factor * sizes**power, sizes), "plan")
    assert slope.slope == pytest.approx(power, abs=1e-9) and slope.points == 4 and slope.stderr < 1e-6
    away = abs(power - round(power))
    assert slope.order == (round(power) if away <= 0.1 else None) or away == pytest.approx(0.1)
    straight = np.polyfit(np.log10(sizes), np.log10(factor * sizes**power), 1)[0]
    assert slope.slope == pytest.approx(straight)


def test_large_mistakes_and_rounding_do_not_count():
    sizes = (1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5)
    slope = fit_slope(level([5.0, 0.9, 1e-2, 1e-3, 1e-4, 1e-16], sizes), "value")
    assert slope.slope == pytest.approx(1.0) and slope.points == 3
    assert fit_slope(level([1.0, 0.1, 1e-2, 1e-3, 1e-16, 0.0], sizes), "value") is None
    saturated = fit_slope(level([1e-3] * 4), "action")
    assert saturated.slope == pytest.approx(0.0, abs=1e-12) and saturated.order == 0


# --- figure and command ---------------------------------------------------------------------------------------------


def drawn(report, path):
    """Pixels of the figure."""
    dose_figure.figure(report, path)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_the_figure_shows_errors_limits_and_what_was_not_rejected(report, tmp_path):
    whole = drawn(report, tmp_path / "dose.png")
    assert min(whole.shape[:2]) > 500
    for colour in (*dose_figure.COLOURS.values(), dose_figure.RED):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(whole.astype(int) - rgb).max(axis=2) < 80).sum() > 200, colour
    errors = [1e-2, 1e-3, 1e-4, 0.0]  # an error of zero has its place too
    seen, missed = (DoseReport(0, (level(errors, rejected=rejected, expected="accepted"),)) for rejected in (2, 0))
    assert not seen.passed and missed.passed
    filled, hollow = (drawn(report, tmp_path / "a.png")[80:] for report in (seen, missed))  # below their titles
    assert (filled != hollow).any(axis=2).sum() > 50, "hollow markers"


def test_the_command_writes_what_it_prints(tmp_path, capsys, report, monkeypatch):
    monkeypatch.setattr("worldplan.eval.theorem4.dose.dose_response", lambda *a, **k: report)
    out = tmp_path / "new"
    assert main(["dose", "--json", "--out", str(out)]) == 0
    printed, written = json.loads(capsys.readouterr().out), json.loads((out / "dose.json").read_text())
    assert {key: written[key] for key in printed} == printed
    assert written["command"].startswith("worldplan dose") and "versions" in written
    assert sorted(path.name for path in out.iterdir()) == ["dose.json", "dose.png"]


def test_could_not_run_is_2_and_leaves_nothing(tmp_path, capsys):
    assert main(["dose", "--sizes", "1e-7", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_the_verb_has_the_sizes_of_the_library():
    assert DoseVerb().sizes == SIZES
