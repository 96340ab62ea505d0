"""Open-loop control cost: an ideal latent reaches its floor, a bent one does not, and decoding is what it says."""

import json
from functools import partial

import numpy as np
import pytest

from worldplan.errors import EncoderCollapsed, InvalidInput
from worldplan.eval.control import open_loop
from worldplan.eval.control.open_loop import ORACLE, PLANS, OpenLoopTask, Query, decode_paths, largest, open_loop_rows
from worldplan.eval.control.paths import path_cost, straight_line
from worldplan.eval.statistics.estimate import estimate_ratio
from worldplan.planning.rotation import random_rotation

LINE_OVER_OPTIMUM = 3.0 / 1.618033  # of 8 points


def draw(pairs=60, library=500, seed=0):
    """Poses of pairs and library."""
    rng = np.random.default_rng(seed)
    return Query(*(rng.standard_normal((count, 2)).clip(-2.4, 2.4) for count in (pairs, pairs, library)))


def mapped(query, function):
    """What an encoder makes of the poses."""
    return Query(function(query.starts), function(query.goals), function(query.library))


def totals(latent, truth, **more):
    """Plan -> (ratio to the line, ratio to the optimum), with the whole library."""
    rows = open_loop_rows(latent, truth, "f", 8, [len(truth.library)], **more)
    return {row.plan: (row.to_line.total.value, row.to_optimum.total.value) for row in rows}


@pytest.fixture(scope="module")
def truth():
    """Poses with a library of usual size."""
    return draw()


# --- what it says of latents ----------------------------------------------------------------------------------------


def test_true_angles_with_a_huge_library_reach_the_floor():
    truth = draw(pairs=100, library=30_000)
    found = totals(truth, truth)
    assert found["line"] == pytest.approx((1.0, LINE_OVER_OPTIMUM), rel=2e-3)
    assert found["optimum"] == pytest.approx((1 / LINE_OVER_OPTIMUM, 1.0), rel=2e-3)
    few = totals(*(Query(truth.starts, truth.goals, truth.library[:100]),) * 2)
    assert few["optimum"][1] > 1.05  # what a library of 100 costs


def test_a_larger_library_decodes_better(truth):
    rows = open_loop_rows(truth, truth, "f", 8, [50, 200, 500])
    costs = [row.to_optimum.total.value for row in rows if row.plan == "optimum"]
    assert costs == sorted(costs, reverse=True) and costs[-1] > 1
    assert [row.library for row in rows] == [50, 50, 200, 200, 500, 500]
    alone = open_loop_rows(truth, Query(truth.starts, truth.goals, truth.library), "f", 8, [200])
    assert alone == rows[2:4]


def test_nothing_beats_the_cheapest_joint_path(truth):
    rng = np.random.default_rng(99)
    for latent in (truth, mapped(truth, np.tanh), mapped(truth, lambda z: rng.standard_normal((len(z), 3)))):
        for plan in PLANS:
            cost = path_cost(decode_paths(latent, truth, plan, 8))
            best = path_cost(PLANS["optimum"](truth.starts, truth.goals, 8))
            assert (cost >= best * (1 - 1e-12)).all()


def test_random_latents_are_bad(truth):
    rng = np.random.default_rng(99)  # not the seed of the poses
    floor, random = (totals(latent, truth) for latent in (truth, mapped(truth, lambda z: rng.standard_normal(z.shape))))
    for plan in PLANS:
        assert random[plan][1] > 2 * floor[plan][1]


def test_a_rotation_changes_nothing_and_a_shear_does(truth):
    Q, offset = random_rotation(2, 3), np.array([5.0, -2.0])
    wide = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 2)))[0].T  # into six dimensions, isometric
    floor = totals(truth, truth)
    for turned in (lambda z: 3 * z @ Q.T + offset, lambda z: z @ wide):
        for plan, value in totals(mapped(truth, turned), truth).items():
            assert value == pytest.approx(floor[plan], abs=1e-9)
    sheared = totals(mapped(truth, lambda z: z @ np.array([[1.0, 0.0], [2.0, 1.0]])), truth)
    assert abs(sheared["optimum"][1] - floor["optimum"][1]) > 1e-3


def test_a_shear_is_seen_through_the_library_only():
    """Both plans are kept by affine maps: with a dense library even a bad conditioning goes unseen. A bend does not."""
    truth = draw(pairs=60, library=30_000)
    assert totals(mapped(truth, lambda z: z @ np.diag([1.0, 5.0])), truth)["line"][0] == pytest.approx(1.0, abs=5e-3)
    bent = mapped(truth, lambda z: np.column_stack([z[:, 0], z[:, 1] + z[:, 0] ** 2]))
    assert totals(bent, truth)["line"][0] > 1.05


# --- decoding -------------------------------------------------------------------------------------------------------


def test_decoding_is_the_nearest_of_the_library(truth):
    latent = mapped(truth, lambda z: np.column_stack([np.sin(z), z[:, 0] * z[:, 1]]))
    paths = decode_paths(latent, truth, "line", 6)
    assert paths.shape == (60, 6, 2)
    for k in (0, 17, 59):
        planned = straight_line(latent.starts[k], latent.goals[k], 6)
        assert np.array_equal(paths[k, 0], truth.starts[k]) and np.array_equal(paths[k, -1], truth.goals[k])
        for t in range(1, 5):
            nearest = min(range(500), key=lambda i: float(((latent.library[i] - planned[t]) ** 2).sum()))
            assert np.array_equal(paths[k, t], truth.library[nearest])


def test_the_ratio_is_of_sums_and_of_pairs(truth):
    cost = path_cost(decode_paths(truth, truth, "line", 8))
    reference = 3.0 * np.square(truth.starts - truth.goals).sum(axis=1)
    row = open_loop_rows(truth, truth, "f", 8, [500])[0]
    assert row.to_line.total.value == pytest.approx(cost.sum() / reference.sum())
    assert row.to_line.median.value == pytest.approx(np.median(cost / reference))
    assert row.to_line.p95.value == pytest.approx(np.percentile(cost / reference, 95))
    for value in (row.to_line.total, row.to_line.median, row.to_line.p95):
        assert value.low < value.value < value.high


def test_the_interval_covers_the_ratio_of_more_pairs():
    library = draw(library=500).library
    pool = Query(*np.random.default_rng(5).standard_normal((2, 3000, 2)).clip(-2.4, 2.4), library)
    long_run = totals(pool, pool)["line"][0]
    inside = 0
    for k in range(30):
        some = Query(pool.starts[100 * k : 100 * (k + 1)], pool.goals[100 * k : 100 * (k + 1)], library)
        cost = path_cost(decode_paths(some, some, "line", 8))
        reference = path_cost(straight_line(some.starts, some.goals, 8))
        total = estimate_ratio(cost, reference, resamples=400)
        inside += total.low <= long_run <= total.high
    assert 24 <= inside <= 30
    assert total.high - total.low < 0.2


def test_a_pair_without_distance_has_no_ratio(truth):
    same = Query(np.vstack([truth.starts, [1.0, 1.0]]), np.vstack([truth.goals, [1.0, 1.0]]), truth.library)
    assert totals(same, same) == totals(truth, truth)
    nothing = Query(truth.starts, truth.starts, truth.library)
    with pytest.raises(InvalidInput, match="every start is its goal"):
        totals(nothing, nothing)
    one = Query(truth.starts[:1], truth.goals[:1], truth.library)
    assert open_loop_rows(one, one, "f", 8, [500])[0].to_line.total.low > 0


def test_latents_that_do_not_fit_are_refused(truth):
    for wrong in (
        {"starts": truth.starts[:, :1]},
        {"goals": truth.goals[:-1]},
        {"library": np.full((500, 2), np.nan)},
        {"library": np.zeros((0, 2))},
        {"starts": truth.starts[0]},
    ):
        with pytest.raises(InvalidInput):
            Query(**(vars(truth) | wrong))
    with pytest.raises(InvalidInput, match="same pairs and library"):
        decode_paths(truth, Query(truth.starts, truth.goals, truth.library[:-1]), "line", 8)
    for sizes in ([], [501], [0]):
        with pytest.raises(InvalidInput):
            open_loop_rows(truth, truth, "f", 8, sizes)


# --- from an encoder ------------------------------------------------------------------------------------------------


class Painted:
    """Frames that carry their joint angles, and an encoder that reads them: no renderer, no network."""

    latent_dim = 2
    name = "painted"

    def __init__(self, function=lambda z: z):
        self.function = function

    def __call__(self, frames):
        return self.function(frames.reshape(len(frames), -1)[:, :16].copy().view(np.float64))


def paint(qpos, targets, profile):
    """In place of the renderer."""
    frames = np.zeros((len(qpos), 64, 64, 3), dtype=np.uint8)
    frames.reshape(len(qpos), -1)[:, :16] = np.ascontiguousarray(qpos).view(np.uint8)
    assert targets.shape == (len(qpos), 3) and profile == "fast"
    return frames


open_loop_cost = partial(open_loop.open_loop_cost, render=paint)


def test_an_oracle_encoder_gets_the_floor():
    Q = random_rotation(2, 0)
    report = open_loop_cost(Painted(lambda z: z @ Q.T), pairs=40, libraries=(300, 100))
    assert [(row.latent, row.plan, row.library) for row in report.rows] == [
        (latent, plan, size) for size in (100, 300) for plan in ("line", "optimum") for latent in ("painted", ORACLE)
    ]
    for encoder, floor in zip(report.rows[::2], report.rows[1::2], strict=True):
        assert encoder.to_line.total.value == pytest.approx(floor.to_line.total.value, abs=1e-9)
    bent = open_loop_cost(Painted(lambda z: z * (1 + z[:, ::-1])), pairs=40, libraries=(300, 100))
    assert all(row.to_line.total.value > 1.05 for row in bent.rows[::2])
    assert bent.rows[1::2] == report.rows[1::2]
    facts = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert facts["pairs"] == 40 and facts["rows"][0]["to_optimum"]["p95"]["value"] > 1


def test_the_seed_decides():
    first, again, other = (open_loop_cost(Painted(), pairs=20, libraries=(50,), seed=s).to_dict() for s in (1, 1, 2))
    assert first == again and first["rows"] != other["rows"]


def test_frames_are_drawn_once_for_all_encoders():
    task = OpenLoopTask(pairs=20, libraries=[80, 20, 80], seed=3)
    assert task.libraries == (20, 80)
    scene = task.draw(paint)
    encoders = [Painted(lambda z: z @ random_rotation(2, 1).T), Painted(np.tanh)]
    wanted = [open_loop_cost(encoder, pairs=20, libraries=(20, 80), seed=3).to_dict() for encoder in encoders]
    assert [scene.report(encoder).to_dict() for encoder in encoders] == wanted
    assert wanted[0] != wanted[1]
    assert task.rows(scene.truth, ORACLE) == task.floor() == list(scene.report(encoders[0]).rows[1::2])
    assert largest(task.floor(), "line").library == 80 and largest(task.floor(), "line").plan == "line"


@pytest.mark.parametrize("target", ["hard", "easy", "hidden"])
def test_the_target_of_a_task(target):
    seen = []
    OpenLoopTask(5, libraries=(7,), target=target).draw(lambda qpos, places, profile: seen.append(places))
    if target == "hidden":
        assert seen == [None] * 3
    else:
        assert seen[0] is seen[1] and [len(places) for places in seen] == [5, 5, 7]
        assert set(np.concatenate(seen)[:, 2]) == {{"hard": 0.015, "easy": 0.05}[target]}


def test_bad_encoders_and_numbers():
    with pytest.raises(EncoderCollapsed, match="same latent"):
        open_loop_cost(Painted(np.zeros_like), pairs=5, libraries=(20,))
    for function in (lambda z: z[:, :1], lambda z: z * np.nan, lambda z: z + np.random.default_rng().normal()):
        with pytest.raises(InvalidInput):
            open_loop_cost(Painted(function), pairs=5, libraries=(20,))
    for wrong in ({"pairs": 0}, {"points": 2}, {"libraries": ()}, {"libraries": (0,)}):
        with pytest.raises(InvalidInput):
            open_loop_cost(Painted(), **({"pairs": 5, "libraries": (20,)} | wrong))


def test_real_frames_go_through():
    class Mean:
        latent_dim = 3

        def __call__(self, frames):
            return frames.mean(axis=(1, 2))

    report = open_loop_cost(Mean(), pairs=3, libraries=(20,))
    assert len(report.rows) == 4 and report.rows[0].latent == "encoder"
