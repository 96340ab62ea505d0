"""Encoders compared by control cost: the same episodes for all, and failures that cost their own row only."""

import json
import re
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import pearsonr, spearmanr

from worldplan.__main__ import main
from worldplan.agents.config import FitConfig
from worldplan.agents.fitting import fit_agent
from worldplan.commands.compare import Compare
from worldplan.commands.fit import torque_data
from worldplan.data.files import read_json, write_json
from worldplan.data.shards import digest
from worldplan.envs.fingerprint import render_fingerprint
from worldplan.envs.parallel import rollout_goals, target_spheres
from worldplan.envs.reacher import ReacherGoal, angle_error
from worldplan.envs.rendering import render_frames
from worldplan.envs.rollout import rollout
from worldplan.envs.tasks import Tasks, sample_tasks
from worldplan.envs.workers import worker_pool
from worldplan.errors import BadFile, InvalidInput, UnknownName
from worldplan.eval.compare import run as compare
from worldplan.eval.compare.config import CompareConfig
from worldplan.eval.compare.entrants import AngleReader, Entrant, angle_frames, find_entrants, source, untrained_encoder
from worldplan.eval.compare.result import ComparisonRow
from worldplan.eval.compare.run import compare_encoders
from worldplan.eval.compare.table import COLUMNS, markdown, significance, table
from worldplan.eval.compare.trial import fit_entrant, open_loop, open_loop_task, shared_frames
from worldplan.eval.control.baselines import TrueStateLQR
from worldplan.eval.control.episodes import ControlResult, evaluate_control, measure, summarise
from worldplan.eval.control.open_loop import largest
from worldplan.eval.statistics.correlation import correlate
from worldplan.eval.statistics.estimate import Estimate
from worldplan.eval.statistics.paired_test import paired_test
from worldplan.eval.theorem4.pixels import MappedEncoder
from worldplan.learning.encoder import CARDS as ENCODERS, load_encoder, save_encoder
from worldplan.learning.network import ConvEncoder
from worldplan.planning.rotation import random_rotation
from worldplan.provenance import plain

SMALL = CompareConfig(episodes=3, fit_episodes=5, frame_pairs=220, resamples=50, libraries=(40, 10))
OPTIONS = ["--episodes", "3", "--fit-episodes", "5", "--frame-pairs", "220", "--processes", "1", "--libraries", "40"]
MODULE = """
import numpy as np

class Glimpse:
    "Random linear map of a small picture."
    latent_dim = 8
    W = np.random.default_rng(0).standard_normal((192, 8)) * 0.5 ** np.arange(8)

    def __call__(self, frames):
        small = frames.reshape(-1, 8, 8, 8, 8, 3).mean(axis=(2, 4)).reshape(len(frames), -1)
        return small / 255 @ self.W

encoder = Glimpse()
"""


def glimpse():
    room = {}
    exec(MODULE, room)
    return room["encoder"]


# --- the same episodes, side by side --------------------------------------------------------------------------------


class Reflex:
    """Torques that depend on every pixel of frame and goal, for one observation or for N."""

    weights = np.random.default_rng(0).standard_normal((64 * 64 * 3, 2))

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        frames, goals = (np.asarray(observation[name]) for name in ("observation", "desired_goal"))
        seen = (frames.astype(float) - 0.5 * goals).reshape(*frames.shape[:-3], -1)
        return np.sin(seen @ self.weights / 300).astype(np.float32), None


def evaluate_batch(agent, tasks, seed, profile):
    """What `evaluate_control` gives, from episodes side by side."""
    spheres = target_spheres(len(tasks.starts), seed, "hard")
    draw = partial(render_frames, profiles=profile)
    return measure([rollout_goals(agent, tasks, spheres, draw)])


def test_episodes_side_by_side_are_those_of_the_environment():
    pairs = sample_tasks(2, seed=5)
    wanted = evaluate_control(Reflex(), pairs, seed=7, profile="fast")
    ours = evaluate_batch(Reflex(), pairs, seed=7, profile="fast")
    np.testing.assert_allclose(ours.cost, wanted.cost, rtol=1e-9)
    np.testing.assert_allclose(ours.tip_error, wanted.tip_error, atol=1e-9)
    assert np.array_equal(ours.success, wanted.success)
    np.testing.assert_array_equal(ours.steps_to_reach, wanted.steps_to_reach)
    first = Tasks(pairs.starts[:1], pairs.goals[:1])
    other = evaluate_batch(Reflex(), first, seed=8, profile="fast")  # the target stands elsewhere, and is seen
    assert other.cost[0] != pytest.approx(wanted.cost[0], rel=1e-6)


@pytest.mark.parametrize("target", ["hard", "easy", "hidden"])
def test_targets_stand_where_the_environment_puts_them(target):
    env = ReacherGoal(pixels=False, target=target)
    places = target_spheres(3, 4, target)
    for k, place in enumerate(places):
        rollout(env, None, 1, seed=4 + k, steps=1)
        assert np.array_equal(place, env._target)
    assert len(np.unique(places[:, 0])) == 3 and (places[:, 2] > 0).all() == (target != "hidden")


def see(qpos, targets):
    return angle_frames(qpos)


def test_agents_that_give_no_torques_are_refused():
    class Broken:
        def __init__(self, action):
            self.action = action

        def predict(self, *observation, **more):
            return self.action, None

    pairs, places = sample_tasks(2), target_spheres(2, 0, "hard")
    for action in (np.zeros(2), np.full((2, 2), np.nan)):
        with pytest.raises(InvalidInput, match="finite actions"):
            rollout_goals(Broken(action), pairs, places, see)
    with pytest.raises(InvalidInput, match="wrist stops"):
        rollout_goals(Broken(np.zeros((1, 2))), Tasks(np.full((1, 2), 3.0), np.zeros((1, 2))), places[:1], see)


# --- who takes part -------------------------------------------------------------------------------------------------


def test_specifications(tmp_path):
    save_encoder(ConvEncoder(2, 2, 4), tmp_path / "mine", {})
    specs = ["reacher", "oracle", "untrained", tmp_path / "mine", "json:encoder", glimpse(), "oracle"]
    found = find_entrants(specs)
    kinds = ["zoo", "oracle", "untrained", "folder", "module", "object", "oracle"]
    assert [c.kind for c in found] == kinds
    assert found[0].name == "reacher" and found[5].name == "Glimpse" and found[6].name == "oracle (2)"
    assert found[0].load().name == "reacher" and found[3].load().latent_dim == 2 and found[5].load().latent_dim == 8


def test_specifications_that_name_nothing():
    with pytest.raises(UnknownName, match=r"'nonsense'; known: .*reacher"):
        find_entrants(["reacher", "nonsense"])
    with pytest.raises(InvalidInput, match="at least one"):
        find_entrants([])
    with pytest.raises(InvalidInput, match="module:object"):
        find_entrants([3])


@pytest.mark.parametrize(
    "spec", ["no_such_module:encoder", "json:nothing", "json:", ":encoder", "a:b:c", "os:path:", "json:JSONDecoder"]
)
def test_modules_that_hold_no_encoder(spec):
    with pytest.raises(InvalidInput, match=r"form.* module:object"):
        find_entrants([spec])[0].load()


def test_a_slip_of_the_pen_is_told_before_anything_is_drawn(monkeypatch):
    monkeypatch.setattr(compare, "sample_tasks", lambda *_: pytest.fail("too late"))
    with pytest.raises(InvalidInput, match="cannot import"):
        compare_encoders(["reacher", "no_such_module:encoder"])
    with pytest.raises(UnknownName, match="planner"):
        compare_encoders(["reacher"], CompareConfig(planner="nonsense"))


def test_untrained_weights_come_from_the_seed():
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    first, again, other = (untrained_encoder(seed)(frames) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.allclose(first, other)


@settings(max_examples=20)
@given(arrays(np.float64, (3, 2), elements=st.floats(allow_nan=False, width=64)))
def test_the_oracle_reads_the_angles_to_the_last_bit(qpos):
    frames = angle_frames(qpos)
    assert frames.shape == (3, 64, 64, 3) and frames.dtype == np.uint8
    assert np.array_equal(AngleReader()(frames), qpos)
    assert np.array_equal(AngleReader()(frames[1:2]), qpos[1:2])


@settings(max_examples=20)
@given(arrays(np.float64, (2, 4, 2), elements=st.floats(-2.7, 2.7)))
def test_the_oracle_is_sent_the_shorter_way_round(poses):
    starts, goals = poses
    oracle, reacher = find_entrants(["oracle", "reacher"])
    tasks = oracle.tasks(Tasks(starts, goals))
    assert np.abs(tasks.goals - starts)[:, 0].max() <= np.pi + 1e-9
    assert np.abs(angle_error(tasks.goals, goals)).max() < 1e-9
    assert np.array_equal(reacher.tasks(Tasks(starts, goals)).goals, goals)


# --- the comparison -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    (folder / "mynets.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        specs = ["mynets:encoder", "reacher", "oracle"]
        return compare_encoders(specs, SMALL, command="worldplan compare")


def rows_of(comparison):
    return {row.name: row for row in comparison.rows}


def test_rows_are_ranked_by_mean_cost(comparison):
    assert [row.reason for row in comparison.rows] == [""] * 3
    means = [row.control.cost_ratio_mean.value for row in comparison.rows]
    assert means == sorted(means) and len(set(means)) == 3
    ranks = [row.name for row in comparison.rows]
    assert set(ranks[:2]) == {"oracle", "reacher"} and ranks[2] == "mynets:encoder"
    assert means[1] < 1.2 and means[2] > 2


def test_the_reference_is_a_baseline_of_ratio_one(comparison):
    reference, *others = comparison.baselines
    assert [line.name for line in others] == ["random torques", "standing still"]
    assert reference.name == "true-state clipped LQR" and reference.episodes == 3
    for ratio in (reference.cost_ratio_mean, reference.cost_ratio_median, reference.cost_ratio_p95):
        assert (ratio.value, ratio.low, ratio.high) == (1, 1, 1)
    assert reference.reach.value == 1 and 0 < reference.reach.low < 1
    assert min(line.cost_ratio_mean.value for line in others) > 2


def test_the_oracle_marks_the_floor(comparison):
    oracle = rows_of(comparison)["oracle"]
    assert oracle.control.cost_ratio_mean.value == pytest.approx(1, abs=0.02) and oracle.control.reach.value == 1
    assert oracle.latent_to_state.value == pytest.approx(1) and oracle.orthogonality_error.value < 1e-9
    assert oracle.scale == pytest.approx(1) and oracle.charts is False and oracle.notes == ()
    assert np.allclose(oracle.latents, comparison.angles)


def test_what_a_row_tells(comparison):
    reacher, wide = rows_of(comparison)["reacher"], rows_of(comparison)["mynets:encoder"]
    assert (reacher.kind, reacher.latent_dim, reacher.reduced_dim, reacher.dropped) == ("zoo", 2, 2, None)
    assert reacher.charts is True and 0.9 < reacher.scale < 1.15 and reacher.step_ms > 0
    assert 0.95 < reacher.latent_to_state.low <= reacher.latent_to_state.value < 1
    assert reacher.orthogonality_error.value < 0.3
    assert reacher.theorem3_error.low < reacher.theorem3_bound.high and reacher.theorem3_error.value < 0.1
    assert (wide.kind, wide.latent_dim) == ("module", 8) and 2 <= wide.reduced_dim < 8 and 0 < wide.dropped < 0.5
    assert wide.latents.shape == (len(comparison.angles), wide.reduced_dim)
    for row in comparison.rows:
        assert row.latents.shape[0] == len(comparison.angles) > 100
        assert [path.shape for path in row.paths] == [(101, 2)] * 3
        assert np.allclose([path[0] for path in row.paths], comparison.starts)
        assert row.ratios.mean() == pytest.approx(row.control.cost_ratio_mean.value)
    error = angle_error(np.array([path[-1] for path in comparison.reference_paths]), comparison.goals)
    assert np.abs(error).max() < 0.05
    assert np.array_equal(comparison.targets, target_spheres(3, 0, "hidden"))


def test_the_row_of_an_encoder_is_what_fit_and_evaluate_say_one_by_one(comparison):
    row = rows_of(comparison)["reacher"]
    config = FitConfig(episodes=SMALL.fit_episodes, profile="fast", target="hidden", scale=row.scale)
    agent = fit_agent(load_encoder("reacher"), torque_data(config), config).agent
    pairs = sample_tasks(3)
    ours = evaluate_control(agent, Tasks(pairs.starts[:1], pairs.goals[:1]), profile="fast", target="hidden").cost
    reference = evaluate_control(TrueStateLQR(), pairs, true_state=True).cost
    assert row.ratios[0] == pytest.approx(ours[0] / reference[0], rel=1e-4)
    assert not np.isclose(row.ratios[1], ours[0] / reference[0], rtol=1e-4)


def test_json_holds_it_all(comparison):
    facts = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert facts["provenance"]["command"] == "worldplan compare" and facts["config"]["episodes"] == 3
    assert [row["name"] for row in facts["rows"]] == [row.name for row in comparison.rows]
    first = facts["rows"][0]
    assert set(first) == set(vars(comparison.rows[0])) and len(first["paths"]) == 3
    assert first["control"]["cost_ratio_mean"]["value"] == pytest.approx(
        comparison.rows[0].control.cost_ratio_mean.value, rel=1e-5
    )
    assert facts["correlation"]["n"] == 3


def test_the_table_holds_every_encoder_and_says_what_was_dropped(comparison):
    shown = table(comparison)
    assert all(len(row) == len(COLUMNS) for row in shown.rows)
    baselines = ["true-state clipped LQR", "random torques", "standing still"]
    assert [row[0].text for row in shown.rows] == [*(r.name for r in comparison.rows), *baselines]
    heads, lines = shown.lines()
    oracle = dict(zip(heads, next(line for line in lines if line[0] == "oracle"), strict=True))
    assert oracle["orth.\nerror"] == oracle["Thm 3\nerror"] == "0\n[0,\n0]"  # rounding
    told = "\n".join(shown.notes)
    assert "components of 8" in told and "rank correlation" in told
    assert comparison.rows[0].name in shown.title


def test_markdown_holds_every_encoder(comparison):
    lines = markdown(comparison).splitlines()
    assert len(lines) == 2 + len(comparison.rows) + 3
    assert {line.count("|") for line in lines} == {13}
    assert "ms a step" not in lines[0] and "Cost, total" in lines[0]


# --- failures -------------------------------------------------------------------------------------------------------


class Breaking(AngleReader):
    """The oracle's eyes, with a defect of a kind."""

    def __init__(self, kind):
        self.name, self.calls, self.rng = kind, 0, np.random.default_rng(0)
        self.latent_dim = 1 if kind == "narrow" else 2

    def __call__(self, frames):
        self.calls += 1
        h = frames[:, ::16, ::16, 0].reshape(len(frames), -1)[:, [3, 6]] / 50.0 + frames.mean(axis=(1, 2))[:, :2]
        match self.name:
            case "shape":
                return h.T
            case "narrow":
                return h[:, :1]
            case "nan":
                return np.where(np.arange(len(h))[:, None] == 3, np.nan, h)
            case "constant":
                return np.zeros_like(h)
            case "width":
                return h if self.calls == 1 else np.hstack([h, h])
            case "random":
                return h + self.rng.normal(size=h.shape)
            case "batch":
                return h - h.mean(axis=0)
            case "late":
                return h if self.calls < 60 else h[:, :1]
            case "raises":
                raise ZeroDivisionError("one over nothing")
            case "patchy":  # of one frame in a dozen
                return np.where(frames.sum(axis=(1, 2, 3))[:, None] % 12 == 0, np.nan, h)
            case "nan later":
                return h if self.calls < 75 else h * np.nan
            case "exits":
                raise SystemExit(3)
        return h


REASONS = {
    "shape": r"must give latents \(24, 2\)",
    "narrow": "narrower than the world",
    "nan": "must be finite|finite",
    "constant": "is constant",
    "width": "not deterministic|must give latents",
    "random": "not deterministic",
    "batch": "in the batch",
    "late": "must give latents",
    "raises": "ZeroDivisionError: one over nothing",
    "patchy": "finite",
    "nan later": "finite",
    "exits": "SystemExit: 3",
}


@pytest.fixture(scope="module")
def broken():
    nameless = lambda frames: frames  # noqa: E731
    return compare_encoders([*(Breaking(kind) for kind in REASONS), nameless, "oracle"], SMALL)


def test_failures_come_last_with_their_reasons(broken):
    assert [row.ok for row in broken.rows] == [True] + [False] * 13
    rows = rows_of(broken)
    for kind, reason in REASONS.items():
        assert rows[kind].status == "failed" and rows[kind].control is None
        assert re.search(reason, rows[kind].reason), rows[kind].reason
    assert "latent_dim" in rows["function"].reason
    where = r"over nothing \(.*test_compare\.py:\d+ in Breaking\.__call__\)$"
    assert re.search(where, rows["raises"].reason) and not re.search(where, rows["late"].reason)  # worldplan refused it
    assert broken.correlation.n == 1 and np.isnan(broken.correlation.spearman.value)
    told = "\n".join(table(broken).notes)
    assert all(f"{kind} failed: " in told for kind in REASONS) and "rank correlation" not in told
    assert [row[1].text for row in table(broken).rows[1:14]] == ["failed"] * 13


def test_failures_do_not_change_the_others(comparison, broken):
    untimed = [replace(rows_of(c)["oracle"], step_ms=None).to_dict() for c in (comparison, broken)]
    assert untimed[0] == untimed[1]


class Masking(Breaking):
    """Blacks out the middle of its own input, as a careless preprocessing step does."""

    def __call__(self, frames):
        frames[:, 20:44, 20:44] = 0
        return super().__call__(frames)


def test_an_encoder_that_writes_on_its_frames_spoils_no_others():
    stage = shared_frames(SMALL)
    shared = [*stage.torques.frames, stage.frames, *stage.plans.frames]
    before = [frames.copy() for frames in shared]
    (entrant,) = find_entrants([Masking("masking")])
    compare._attempt(entrant, SMALL)
    assert all(np.array_equal(a, b) for a, b in zip(shared, before, strict=True))
    frames = stage.torques.frames[0].copy()
    Masking("masking")(frames)
    assert not np.array_equal(frames, before[0])


def test_an_interrupt_is_no_encoders_failure():
    def interrupt(frames):
        raise KeyboardInterrupt

    interrupt.latent_dim = 2
    with pytest.raises(KeyboardInterrupt):
        compare_encoders([interrupt], SMALL)


def test_frames_that_look_otherwise_are_named_with_both_versions():
    here, old, new = render_fingerprint(), glimpse(), glimpse()
    old.name, old.card = "old", {"data": {"render": {**here, "mujoco": "3.1.0", "fast_blocks": "00" * 192}}}
    new.name, new.card = "new", {"data": {"render": here}}
    compared = compare_encoders([old, new], SMALL)
    (note,), none = rows_of(compared)["old"].notes, rows_of(compared)["new"].notes
    assert "'old' was made with MuJoCo 3.1.0" in note and f"draws with MuJoCo {here['mujoco']}" in note
    assert none == () and any(note in told for told in table(compared).notes)


def test_all_failed():
    lost = compare_encoders([Breaking("constant")], SMALL)
    assert table(lost).title == "All 1 encoders failed"
    json.dumps(lost.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    "wrong",
    [{"episodes": 0}, {"fit_episodes": 0}, {"frame_pairs": 99}, {"processes": 0}, {"seed": -1}, {"episodes": 2.5}],
)
def test_numbers_out_of_range(wrong):
    with pytest.raises(InvalidInput):
        CompareConfig(**wrong)


@pytest.mark.parametrize("wrong", [{"profile": "nice"}, {"target": "huge"}, {"distribution": "even"}])
def test_unknown_names(wrong):
    with pytest.raises(UnknownName):
        CompareConfig(**wrong)


# --- null test: a rotation of the latent changes nothing ------------------------------------------------------------


def test_a_rotated_encoder_controls_alike_and_a_sheared_one_does_not(comparison):
    """Of the true angles, behind eight latents of which two carry them."""
    rotation, stage = random_rotation(8, np.random.default_rng(1))[:, :2], shared_frames(SMALL)
    ratios = []
    for M in (rotation, rotation @ [[1, 0.5], [0, 1]]):
        entrant = Entrant("lifted", "oracle", partial(MappedEncoder, AngleReader(), M))
        fitted = fit_entrant(entrant, entrant.load(), stage)
        assert fitted.agent.encoder.latent_dim == 2 and fitted.reduction.dropped < 1e-12
        draw = partial(entrant.draw, profile="fast")
        run = rollout_goals(fitted.agent, entrant.tasks(stage.pairs), stage.targets, draw)
        ratios.append(measure([run]).cost / evaluate_control(TrueStateLQR(), stage.pairs, true_state=True).cost)
    wanted = rows_of(comparison)["oracle"].ratios
    assert ratios[0] == pytest.approx(wanted, rel=1e-6)
    assert not np.allclose(ratios[1], wanted, rtol=1e-3)


# --- open loop ------------------------------------------------------------------------------------------------------


def test_every_row_has_its_open_loop_cost_and_the_oracle_gets_the_floor(comparison):
    for row in comparison.rows:
        assert {plan.latent for plan in row.open_loop} == {row.name}
        assert [(p.plan, p.library) for p in row.open_loop] == [(p.plan, p.library) for p in comparison.floor]
    assert [plan.library for plan in comparison.floor] == [10, 10, 40, 40]
    oracle = rows_of(comparison)["oracle"].open_loop
    assert tuple(replace(plan, latent="true angles") for plan in oracle) == comparison.floor
    plan = largest(rows_of(comparison)["reacher"].open_loop, "line").to_optimum.total
    shown = table(comparison)
    line = shown.rows[[row.name for row in comparison.rows].index("reacher")]
    assert line[[c.head for c in COLUMNS].index("Open loop")].text == f"{plan.value:.2f}"
    assert any("decoded with 40 frames" in told and "true angles" in told for told in shown.notes)


def test_wide_latents_are_planned_in_their_components():
    """True angles behind eight latents cost what the true angles cost; a bent latent costs more."""
    stage, rotation = shared_frames(SMALL), random_rotation(8, np.random.default_rng(1))[:, :2]
    entrant = Entrant("lifted", "oracle", partial(MappedEncoder, AngleReader(), rotation))
    reduced = fit_entrant(entrant, entrant.load(), stage).agent.encoder
    assert reduced.latent_dim == 2
    plans, floor = open_loop(entrant, reduced, stage), open_loop_task(SMALL).floor()
    assert [p.to_line.total.value for p in plans] == pytest.approx([p.to_line.total.value for p in floor], rel=1e-9)
    bent = MappedEncoder(lambda frames: AngleReader()(frames) ** 3, np.eye(2))
    plans = open_loop(entrant, bent, stage)
    assert plans[-2].to_line.total.value > 1.01 * floor[-2].to_line.total.value


# --- what may be chance ---------------------------------------------------------------------------------------------


def result(cost):
    return ControlResult(cost, np.zeros(len(cost)), np.ones(len(cost), dtype=bool), *np.zeros((2, len(cost))))


def judged(episodes=40):
    """The first; one as good, one worse, one failed."""
    rng = np.random.default_rng(0)
    means = {"worse": 11.0, "good": 9.9, "also": 9.9}
    tried = [(ComparisonRow(name, "zoo"), result(mean + rng.random(episodes))) for name, mean in means.items()]
    return compare._judged([(ComparisonRow("lost", "zoo", "failed"), None), *tried], result(np.full(episodes, 10.0)), 3)


def test_rows_are_held_against_the_first():
    rows = judged()
    first, second, third, lost = rows
    assert {first.name, second.name} == {"good", "also"} and (third.name, lost.name) == ("worse", "lost")
    assert first.p_first is None and second.p_first > 0.05 > third.p_first == 0.001
    assert second.p_first == paired_test(second.ratios, first.ratios, 3)
    told = significance(SimpleNamespace(rows=rows))
    assert second.name in told[0] and "worse" not in told[0] and "may be chance" in told[0]
    told = significance(SimpleNamespace(rows=[first, third]))
    assert "p ≤ 0.05 for all" in told[0] and "chance" not in told[0]


def test_rows_are_told_from_themselves_in_5_percent():
    rows = judged()
    assert all(row.null.passed and row.null.resamples == 500 for row in rows[:3]) and rows[3].null is None
    worst = max(rows[:3], key=lambda row: row.null.rate.value)
    told = significance(SimpleNamespace(rows=rows))
    assert f"{100 * worst.null.rate.value:.3g}% [" in told[1] and f"worst: {worst.name}" in told[1]
    few = judged(11)  # too few to be halved
    assert [row.null for row in few] == [None] * 4 and len(significance(SimpleNamespace(rows=few))) == 1


def test_the_table_fits_a_terminal(capsys):
    """Nothing is cut off, however wide the numbers, with a name as long as the longest shipped."""
    wide, bound = Estimate(0.0743, 0.0381, 0.1032), Estimate(*[0.0041] * 3)
    row = replace(judged()[0], name="reacher-supervised", step_ms=30.73, latent_to_state=wide, state_to_latent=wide)
    row = replace(row, orthogonality_error=wide, theorem3_error=bound, theorem3_bound=bound)
    alone = SimpleNamespace(rows=[row, row], baselines=(), floor=(), correlation=SimpleNamespace(n=2), config=SMALL)
    Compare(encoders=("oracle",)).show({}, table(alone))
    lines = capsys.readouterr().out.splitlines()
    assert any(re.search(r"reacher-supervised .* 30\.7 +│$", line) for line in lines)
    assert max(len(line) for line in lines if "│" in line) <= 120


def test_an_episode_without_way_to_go_has_no_ratio():
    reference = np.array([10.0, 0.0, 12.0])
    first, second = compare._judged(
        [(ComparisonRow(name, "zoo"), result(reference + k)) for k, name in enumerate("ab")], result(reference), 0
    )
    assert np.isnan(second.ratios[1]) and 0 < second.p_first <= 1 and first.control.cost_ratio_mean.value == 1


def test_summed_costs_do_not_hang_on_an_episode_that_starts_near_its_goal():
    reference = np.array([10.0, 12.0, 1e-3])
    summary = summarise("a", result(reference + 5), result(reference))
    assert summary.cost_ratio_mean.value > 1000
    total = summary.cost_ratio_total
    assert total.value == pytest.approx(37.001 / 22.001) and 1 < total.low <= total.value <= total.high
    assert summarise("a", result(reference), result(reference)).cost_ratio_total == Estimate(1.0, 1.0, 1.0)
    failed = ComparisonRow("b", "zoo", "failed")
    alone = SimpleNamespace(
        rows=[failed], baselines=[summary], floor=(), correlation=SimpleNamespace(n=0), config=SMALL
    )
    assert any("a 1.68" in note for note in table(alone).notes)


# --- correlation ----------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(3, 12))
def test_correlations_are_scipys(seed, n):
    x, y = np.random.default_rng(seed).standard_normal((2, n)).round(1)
    found = correlate(x, y, seed)
    assert found.n == n
    if np.ptp(x) and np.ptp(y):
        assert found.pearson.value == pytest.approx(pearsonr(x, y).statistic, abs=1e-9)
        assert found.spearman.value == pytest.approx(spearmanr(x, y).statistic, abs=1e-9)
        for estimate in (found.pearson, found.spearman):
            assert -1 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert correlate(x, y, seed) == found


def test_correlations_that_are_plain():
    x = np.linspace(1, 2, 30)
    exact = correlate(x, np.exp(3 * x))
    assert exact.spearman.low == pytest.approx(1) and exact.pearson.value < 0.99
    assert correlate(x, -x).pearson.high == pytest.approx(-1)
    rng = np.random.default_rng(0)
    chance = correlate(rng.normal(size=30), rng.normal(size=30))
    assert chance.pearson.low < 0 < chance.pearson.high and chance.spearman.high - chance.spearman.low > 0.3
    assert correlate(np.array([1, 2, 3, np.nan]), np.array([1, 2, 4, 9])).n == 3


@pytest.mark.parametrize("x", [[], [1.0], [1.0, 2.0], [3.0, 3.0, 3.0]])
def test_correlations_that_do_not_exist(x):
    assert np.isnan(correlate(np.array(x), np.arange(len(x))).spearman.value)
    with pytest.raises(InvalidInput):
        correlate(np.zeros(3), np.zeros(4))


# --- processes, and the command line --------------------------------------------------------------------------------


def test_work_in_this_process_is_done_when_asked_for():
    done = []
    with worker_pool(1) as start:
        result = start(done.append, 3)
        assert done == []
        result()
    assert done == [3]
    with pytest.raises(InvalidInput), worker_pool(0):
        pass


@pytest.mark.slow
def test_processes_change_nothing(comparison):
    twice = compare_encoders(["reacher", "oracle", Breaking("constant")], replace(SMALL, processes=2))
    for name in ("reacher", "oracle"):
        one, two = (rows_of(c)[name] for c in (comparison, twice))
        assert two.ratios == pytest.approx(one.ratios, rel=1e-6) and np.allclose(two.latents, one.latents)
    assert not rows_of(twice)["constant"].ok
    assert np.array_equal(twice.angles, comparison.angles)


@pytest.mark.slow
def test_a_process_that_dies_fails_its_row(tmp_path, monkeypatch):
    (tmp_path / "short_lived.py").write_text("import os\nos._exit(1)\n")
    monkeypatch.syspath_prepend(tmp_path)  # spawned processes have the path of this one
    row = compare_encoders(["short_lived:encoder"], replace(SMALL, processes=2)).rows[0]
    assert not row.ok and "its process died" in row.reason


def test_the_command_writes_what_it_prints(tmp_path, capsys):
    out = tmp_path / "new"
    assert main(["compare", "oracle", *OPTIONS, "--json", "--out", str(out)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "compare.json").read_text())
    assert printed["provenance"]["command"].startswith("worldplan compare oracle")
    assert printed["config"]["episodes"] == 3 and printed["rows"][0]["status"] == "ok"


def test_the_command_prints_a_table_and_tells_when_all_failed(tmp_path, capsys):
    assert main(["compare", "json:dumps", *OPTIONS, "--out", str(tmp_path)]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "All 1 encoders failed" in text and "no function without arguments" in text and "torques" in text
    assert {path.name for path in tmp_path.iterdir()} == {"compare.json", "compare.html", "rows"}


TWICE = ["oracle", "--json", "--markdown"]


@pytest.mark.parametrize("wrong", [["nonsense"], ["oracle", "--episodes", "0"], ["oracle", "--seed", "-1"], [], TWICE])
def test_could_not_run_is_2(wrong, capsys):
    assert main(["compare", *wrong]) == 2
    assert capsys.readouterr().err.startswith("error: ")


# --- rows that are kept ---------------------------------------------------------------------------------------------


@pytest.fixture
def tried(monkeypatch):
    """Names of the encoders that were really tried."""
    names, attempt = [], compare._attempt

    def counted(entrant, config, trial=None):
        names.append(entrant.name)
        return attempt(entrant, config)

    monkeypatch.setattr(compare, "_attempt", counted)
    return names


def test_rows_are_kept_to_the_last_digit(tmp_path, tried):
    first = compare_encoders(["oracle", "reacher"], SMALL, folder=tmp_path)
    assert tried == ["oracle", "reacher"]
    again = compare_encoders(["oracle", "reacher", "untrained"], SMALL, folder=tmp_path)
    assert tried == ["oracle", "reacher", "untrained"]  # only the new one
    for name in ("oracle", "reacher"):
        one, two = (replace(rows_of(c)[name], p_first=None) for c in (first, again))
        assert plain(one, 17) == plain(two, 17)
    compare_encoders(["oracle"], replace(SMALL, seed=SMALL.seed + 1), folder=tmp_path)
    assert tried[3:] == ["oracle"]  # another trial


def test_shards_of_a_comparison_merge(tmp_path, tried):
    specs = ["oracle", "untrained"]
    half = compare_encoders(specs, SMALL, folder=tmp_path, shard=(1, 2))
    assert [row.status for row in half.rows] == ["ok", "waiting"]
    assert "untrained waiting: another shard" in "\n".join(table(half).notes)
    whole = compare_encoders(specs, SMALL, folder=tmp_path, shard=(2, 2))
    assert tried == specs and {row.status for row in whole.rows} == {"ok"}


def test_a_failed_row_is_tried_again_once_it_is_mended(tmp_path, monkeypatch, tried):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "mended_encoder.py"
    module.write_text("def make():\n    raise ValueError('not yet')\n")
    for _ in range(2):
        (row,) = compare_encoders(["mended_encoder:make"], SMALL, folder=tmp_path / "rows").rows
        assert not row.ok and "not yet" in row.reason
    module.write_text("from worldplan.eval.compare.entrants import untrained_encoder as make\n")
    monkeypatch.delitem(sys.modules, "mended_encoder")
    (row,) = compare_encoders(["mended_encoder:make"], SMALL, folder=tmp_path / "rows").rows
    assert row.ok and len(tried) == 3


def test_a_changed_file_of_a_package_is_another_encoder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "changed_package"
    package.mkdir()
    for name in ("__init__.py", "nets.py"):
        (package / name).write_text("")
    (entrant,) = find_entrants(["changed_package.nets:make"])
    before = source(entrant)
    assert before == source(entrant)
    (package / "nets.py").write_text("make = None\n")
    assert source(entrant) != before
    assert "changed_package" not in sys.modules  # nothing ran


def test_what_ships_is_known_by_its_files(tmp_path):
    (shipped,) = find_entrants(["reacher"])
    assert source(shipped)
    shutil.copytree(ENCODERS.find("reacher"), tmp_path / "copy")
    (copied,) = find_entrants([tmp_path / "copy"])
    assert source(copied) == source(shipped)


def test_a_path_is_a_folder_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("reacher", "oracle"):
        shutil.copytree(ENCODERS.find("reacher"), name)
        (entrant,), (shipped,) = find_entrants([Path(name)]), find_entrants([name])
        assert entrant.kind == "folder" != shipped.kind
    with pytest.raises(UnknownName):
        find_entrants(["x" * 5000])


def test_a_kept_row_of_a_stranger_is_refused(tmp_path, tried):
    compare_encoders(["oracle"], SMALL, folder=tmp_path)
    (path,) = (tmp_path / "results").iterdir()
    kept = read_json(path)
    for result in (5, "x", [], [5], [{}, 1], {"a": 1}):
        entries = {name: value for name, value in kept.items() if name != "sha256"} | {"result": result}
        write_json(path, {**entries, "sha256": digest(entries)})
        with pytest.raises(BadFile, match="remove it"):
            compare_encoders(["oracle"], SMALL, folder=tmp_path)
