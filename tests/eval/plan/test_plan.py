"""What `worldplan plan` measures, draws and writes, below the command line."""

import json
import sys
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from worldplan.agents import PlanningAgent
from worldplan.agents.config import FitConfig
from worldplan.agents.fitting import fit_agent, world_scale
from worldplan.commands.fit import torque_data
from worldplan.envs.goal_image import read_goal_image
from worldplan.envs.reacher import fingertip
from worldplan.envs.rendering import render_frames
from worldplan.envs.tasks import Tasks
from worldplan.errors import BadFile, FingerprintMismatch, InvalidInput, MissingExtra, UnknownName
from worldplan.eval.control.baselines import AGENT, RANDOM, REFERENCE, STILL, StandStill
from worldplan.eval.control.episodes import evaluate_control, summarise
from worldplan.eval.control.timing import StepTime, time_steps
from worldplan.eval.plan.config import PlanConfig
from worldplan.eval.plan.figure import draw_film, draw_plan
from worldplan.eval.plan.result import Episode, LatentSummary, PlanReport
from worldplan.eval.plan.run import plan_to_goals, tasks_of, write_plan
from worldplan.eval.show import film as films
from worldplan.eval.statistics.estimate import Estimate, estimate
from worldplan.learning.encoder import PixelEncoder
from worldplan.learning.network import ConvEncoder
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics
from worldplan.provenance import plain, provenance


def strict_json(value):
    """The value through JSON, with NaN and infinities forbidden as the standard has it."""
    return json.loads(json.dumps(value, allow_nan=False))


def tiny_encoder(latent_dim=2, **data):
    """An untrained encoder: a smooth map of the image, good enough to run everything."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ConvEncoder(latent_dim, width=2, hidden=8)
    return PixelEncoder(network, {"sha256": "0" * 64, "data": data}, "tiny")


def double_integrator(n=2):
    """Dynamics on [h; v] that any planner can handle."""
    eye, zero = np.eye(n), np.zeros((n, n))
    return LinearDynamics(A=np.block([[eye, eye], [zero, eye]]), B=0.01 * np.vstack([eye, eye])[:, :2])


@pytest.fixture(scope="module")
def agent():
    """An agent that sees and acts, badly."""
    return PlanningAgent(tiny_encoder(), double_integrator(), QuadraticCost.goal_reaching(2))


def made_up(number, latent_dim=2, known=True, success=True, steps=100):
    """An episode that nobody ran: both joints glide to the goal."""
    rng = np.random.default_rng(number)
    start, goal = rng.uniform(-1, 1, (2, 2))
    fade = np.exp(-np.arange(steps + 1) / 15)[:, None]
    qpos = goal + (start - goal) * fade
    mix = rng.standard_normal((2, latent_dim))
    frames = np.repeat(np.arange(steps + 1, dtype=np.uint8), 64 * 64 * 3).reshape(-1, 64, 64, 3)
    return Episode(
        start_qpos=start,
        goal_qpos=goal if known else None,
        qpos=qpos,
        actions=rng.uniform(-1, 1, (steps, 2)),
        latents=qpos @ mix,
        goal_latent=goal @ mix,
        tip_distance=np.linalg.norm(fingertip(qpos) - fingertip(goal), axis=1) if known else None,
        success=success if known else None,
        cost_ratio=1.1 if known else None,
        fallbacks=number,
        goal_image=np.full((64, 64, 3), 200, dtype=np.uint8),
        frames=frames if number < 6 else None,
    )


def made_up_report(count=3, known=True, **options):
    """A report about made-up episodes."""
    e, nothing = Estimate(0.005, 0.002, 0.009), Estimate(np.nan, np.nan, np.nan)
    rows = [
        summarise(name, result, reference)
        for reference in [_result(1.0, count)]
        for name, result in ((AGENT, _result(1.1, count)), (STILL, _result(9.0, count, reached=False)))
    ]
    return PlanReport(
        config=PlanConfig(episodes=count),
        agent={"name": "tiny", "encoder_sha256": "0" * 64, "planner": "lqr", "options": {}},
        controllers=tuple(rows) if known else (),
        distances=() if known else (LatentSummary(AGENT, count, e), LatentSummary(STILL, count, nothing)),
        time=StepTime(2.0, 1.0, 300),
        episodes=tuple(made_up(k, known=known, **options) for k in range(count)),
    )


def _result(cost, count, reached=True):
    options = {"pixels": False}
    poses = np.linspace(-1, 1, 2 * count).reshape(count, 2)
    result = evaluate_control(StandStill(), Tasks(poses, poses if reached else -poses), **options)
    return replace(result, cost=np.full(count, cost))


# --- the report -----------------------------------------------------------------------------------------------------


def test_table_has_one_cell_per_column():
    for report in (made_up_report(), made_up_report(known=False)):
        columns, rows = report.table().lines()
        assert [len(row) for row in rows] == [len(columns)] * 2
        assert all(isinstance(cell, str) for row in rows for cell in row)
        assert "nan" not in str(rows)
        assert "2.00 x network" in rows[0][-1]


def test_table_says_what_was_measured():
    _, (agent, still) = made_up_report(count=4).table().lines()
    assert agent[:2] == [AGENT, "4 of 4\n[51%,\n100%]"]
    assert agent[4].startswith("1.10\n")
    assert still[1].startswith("0 of 4")
    assert still[3] == "never"
    assert "\n[" in still[2]


def test_title_and_notes():
    report = made_up_report(count=3)
    assert report.title == "Reaching goal images from pixels: 3 of 3 goals reached"
    notes = " ".join(report.notes)
    assert "n = 3 is small" in notes
    assert "failed at 3 of 300 steps" in notes  # 0 + 1 + 2 fallbacks
    assert "fingertip within 0.025 m" in notes
    joints = replace(report, config=PlanConfig(success="qpos"))
    assert "joints within 0.05 rad" in " ".join(joints.notes)
    many = replace(report, episodes=tuple(made_up(0) for _ in range(100)))
    assert "small" not in " ".join(many.notes)
    assert "fallback" not in " ".join(many.notes)


def test_report_as_json_is_strict_and_complete():
    for known in (True, False):
        facts = strict_json(made_up_report(known=known).to_dict())
        assert len(facts["episodes"]) == 3
        episode = facts["episodes"][0]
        assert "frames" not in episode
        assert len(episode["actions"]) == 100
        assert len(episode["latents"]) == len(episode["latent_distance"]) == len(episode["qpos"]) == 101
        assert (episode["tip_distance"] is None) is not known
        assert facts["time"] == {"predict_ms": 2.0, "forward_ms": 1.0, "steps": 300, "ratio": 2.0}
    assert facts["distances"][1]["end"]["value"] is None


def test_plain_values():
    value = {1: np.float32(0.5), "a": [np.int64(3), np.nan, np.inf], "b": np.array([[1.0, np.pi]]), "c": True}
    assert plain(value, digits=3) == {"1": 0.5, "a": [3, None, None], "b": [[1.0, 3.14]], "c": True}
    assert plain(Estimate(1.0, 0.0, np.nan)) == {"value": 1.0, "low": 0.0, "high": None}


def test_provenance_names_versions():
    facts = provenance("worldplan plan", 3)
    assert (facts["command"], facts["seed"]) == ("worldplan plan", 3)
    assert {"worldplan", "python", "torch", "mujoco", "dm_control"} <= set(facts["versions"])


def test_no_samples_have_no_estimate():
    assert np.isnan([estimate(np.zeros(0)).value, estimate(np.zeros(0), np.median).low]).all()


# --- pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"count": 1}, {"count": 8}, {"latent_dim": 1}, {"latent_dim": 5}, {"known": False}]
)
def test_figure_is_a_png(options):
    report = made_up_report(**options)
    with Image.open(BytesIO(draw_plan(report))) as image:
        assert image.format == "PNG"
        assert image.width > 1000
        assert np.asarray(image.convert("L")).std() > 10  # something was drawn


def test_film_runs_in_real_time_and_holds_the_end():
    report = made_up_report(count=2)
    pictures = draw_film(report)
    assert pictures.shape[0] == 50 + films.HOLD  # every second step of 20 ms, then the last one
    assert pictures.shape[1] % 16 == pictures.shape[2] % 16 == 0
    assert (pictures[50:] == pictures[50]).all()
    with Image.open(BytesIO(films.encode_video(pictures))) as image:
        total = 0
        for k in range(image.n_frames):  # equal pictures may be joined into a longer one
            image.seek(k)
            total += image.info["duration"]
        assert total == 40 * len(pictures)
        assert image.info["loop"] == 0


def test_mp4(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    pictures = draw_film(made_up_report(count=1))
    (tmp_path / "film.mp4").write_bytes(films.encode_video(pictures, "mp4"))
    frames, seconds = ffmpeg.count_frames_and_secs(str(tmp_path / "film.mp4"))
    assert frames == len(pictures)
    assert seconds == pytest.approx(len(pictures) / 25)


def test_goal_shines_through():
    frames, goal = np.zeros((2, 64, 64, 3), np.uint8), np.full((64, 64, 3), 200, np.uint8)
    assert (films.blend_goal(frames, goal) == 70).all()


@pytest.mark.parametrize("absent", ["imageio", "imageio_ffmpeg"])
def test_mp4_without_the_extra_names_it(absent, monkeypatch):
    monkeypatch.setitem(sys.modules, absent, None)  # as if it were not installed
    with pytest.raises(MissingExtra, match=r"pip install 'worldplan\[video\]'") as caught:
        films.require_video("mp4")
    assert caught.value.extra == "video"
    films.require_video("gif")
    with pytest.raises(UnknownName, match="gif, mp4, none"):
        films.require_video("avi")


def test_a_report_without_frames_cannot_be_drawn():
    report = made_up_report(count=1)
    blind = replace(report, episodes=(replace(report.episodes[0], frames=None),))
    for draw in (draw_film, draw_plan):
        with pytest.raises(InvalidInput, match="kept"):
            draw(blind)


# --- running --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(agent):
    """Two episodes on real frames."""
    return plan_to_goals(agent, PlanConfig(episodes=2, profile="fast"))


def test_every_controller_runs_the_same_pairs(report, agent):
    assert [row.name for row in report.controllers] == [AGENT, REFERENCE, RANDOM, STILL]
    alone = evaluate_control(agent, tasks_of(report.config), profile="fast")
    assert [row.episodes for row in report.controllers] == [2] * 4
    assert report.controllers[0].tip_error_mean.value == pytest.approx(alone.tip_error.mean())
    assert report.controllers[1].cost_ratio_mean.value == 1.0
    assert report.controllers[1].reach.value == 1.0
    still = evaluate_control(StandStill(), tasks_of(report.config), pixels=False)
    ratios = [e.cost_ratio for e in report.episodes]
    assert report.controllers[0].cost_ratio_mean.value == pytest.approx(np.mean(ratios))
    assert report.controllers[3].tip_error_mean.value == pytest.approx(still.tip_error.mean())


def test_episodes_are_what_happened(report, agent):
    pairs = tasks_of(report.config)
    for k, episode in enumerate(report.episodes):
        assert np.array_equal(episode.start_qpos, pairs.starts[k])
        assert np.array_equal(episode.goal_qpos, pairs.goals[k])
        assert episode.film.shape == (101, 64, 64, 3)
        assert np.allclose(agent.encoder(episode.film), episode.latents)
        assert np.allclose(
            np.linalg.norm(fingertip(episode.qpos) - fingertip(pairs.goals[k]), axis=1), episode.tip_distance
        )
        assert episode.success == (episode.tip_distance[-1] <= 0.025)
        assert episode.fallbacks == 0


def test_the_same_seed_gives_the_same_numbers(report, agent):
    again = plan_to_goals(agent, report.config)
    assert plain(again.to_dict()["episodes"]) == plain(report.to_dict()["episodes"])
    other = plan_to_goals(agent, replace(report.config, seed=1))
    assert other.to_dict()["episodes"] != report.to_dict()["episodes"]


def test_a_picture_of_the_goal_serves_as_well_as_its_angles(agent, tmp_path):
    start, goal = (0.3, -0.5), (-0.8, 1.1)
    Image.fromarray(render_frames(np.array([goal]), profiles="fast")[0]).save(tmp_path / "goal.png")
    common = {"episodes": 1, "start_qpos": start, "profile": "fast", "target": "hidden"}
    by_angles = plan_to_goals(agent, PlanConfig(**common, goal_qpos=goal))
    by_image = plan_to_goals(agent, PlanConfig(**common, goal_image=tmp_path / "goal.png"))
    assert np.array_equal(by_image.episodes[0].actions, by_angles.episodes[0].actions)
    assert np.array_equal(by_image.episodes[0].goal_image, by_angles.episodes[0].goal_image)
    assert by_image.episodes[0].goal_qpos is None
    assert by_image.episodes[0].success is None
    assert by_image.controllers == ()
    ends = {row.name: row.end.value for row in by_image.distances}
    assert set(ends) == {AGENT, RANDOM, STILL}
    assert ends[STILL] == pytest.approx(
        np.linalg.norm(by_image.episodes[0].latents[0] - by_image.episodes[0].goal_latent)
    )
    assert "latent distance" in by_image.title


def test_an_episode_that_starts_at_its_goal_has_no_ratio(agent):
    report = plan_to_goals(agent, PlanConfig(episodes=1, start_qpos=(0.5, 0.5), goal_qpos=(0.5, 0.5), profile="fast"))
    assert report.episodes[0].cost_ratio is None
    assert "nan" not in str(report.table().lines())
    strict_json(report.to_dict())


def test_write_plan(report, tmp_path):
    (tmp_path / "plan.mp4").write_bytes(b"a film of an earlier run")
    written = write_plan(report, tmp_path, "gif", "worldplan plan --seed 0")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plan.gif", "plan.json", "plan.png"]
    assert sorted(p.name for p in written) == ["plan.gif", "plan.json", "plan.png"]
    facts = json.loads((tmp_path / "plan.json").read_text())
    assert facts["command"] == "worldplan plan --seed 0"
    assert facts["agent"]["encoder_sha256"] == "0" * 64
    write_plan(report, tmp_path, "none")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plan.json", "plan.png"]


def test_another_renderer_is_named():
    encoder = tiny_encoder(render={"mujoco": "0.1", "dmc": "a", "fast": "b"})
    other = PlanningAgent(encoder, double_integrator(), QuadraticCost.goal_reaching(2))
    with pytest.warns(FingerprintMismatch, match="encoder 'tiny' was made with MuJoCo 0.1"):
        plan_to_goals(other, PlanConfig(episodes=1, profile="fast"))


def test_fallbacks_are_counted(agent):
    class Failing(PlanningAgent):
        def predict(self, *arguments, **more):
            action, state = super().predict(*arguments, **more)
            return action, state._replace(fallbacks=state.fallbacks + 1)

    failing = Failing(agent.encoder, agent.dynamics, agent.cost)
    report = plan_to_goals(failing, PlanConfig(episodes=2, profile="fast"))
    assert [e.fallbacks for e in report.episodes] == [100, 100]


def test_step_time(agent, report):
    time = time_steps(agent, report.episodes[0].film, report.episodes[0].goal_image, steps=20)
    assert time.forward_ms > 0 and time.predict_ms > 0  # either may be the shorter one: their runtimes differ
    assert time.ratio == time.predict_ms / time.forward_ms
    assert time.steps == 20


def test_goal_options_exclude_each_other(tmp_path):
    with pytest.raises(InvalidInput, match="image or a pair of angles"):
        PlanConfig(goal_qpos=(0, 0), goal_image=tmp_path / "goal.png")


# --- goal images ----------------------------------------------------------------------------------------------------


def test_goal_image_is_read_as_it_is(tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(frame).save(tmp_path / "goal.png")
    assert np.array_equal(read_goal_image(tmp_path / "goal.png"), frame)


@pytest.mark.parametrize(
    ("size", "mode", "said"),
    [((32, 32), "RGB", "32 x 32 RGB"), ((64, 64), "L", "64 x 64 L"), ((64, 64), "RGBA", "RGBA")],
)
def test_goal_image_of_another_kind(tmp_path, size, mode, said):
    Image.new(mode, size).save(tmp_path / "goal.png")
    with pytest.raises(InvalidInput, match=rf"got .*{said}; convert it: PIL"):
        read_goal_image(tmp_path / "goal.png")


def test_goal_image_that_is_no_png(tmp_path):
    path = tmp_path / "goal.png"
    with pytest.raises(BadFile, match="no such file"):
        read_goal_image(path)
    Image.new("RGB", (64, 64)).save(path, format="JPEG")
    with pytest.raises(BadFile, match="cannot be read as PNG"):
        read_goal_image(path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BadFile, match="cannot be read as PNG"):
        read_goal_image(path)


# --- fit ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "value", "said"),
    [((0.9, 0.9), 0.9, "card"), ((0.9, 1.3), 1.0, "0.9 and 1.3"), (None, 1.0, "names no scale")],
)
def test_scale_comes_from_the_card(scale, value, said):
    encoder = tiny_encoder() if scale is None else tiny_encoder(world={"scale": list(scale)})
    found, source = world_scale(encoder, [])
    assert found == value
    assert said in source


@pytest.fixture(scope="module")
def fit():
    """A fit on few short episodes."""
    encoder = tiny_encoder(world={"scale": [0.5, 0.5]})
    config = FitConfig(episodes=12, steps=12, profile="fast", control_weight=0.2)
    return fit_agent(encoder, torque_data(config), config)


def test_fit_reports_what_it_used(fit, tmp_path):
    assert fit.environment_steps == 144
    assert fit.scale == 0.5
    assert np.allclose(fit.agent.cost.R, 0.2 / 0.25 * np.eye(2))
    assert fit.gain.shape == (2, 4)
    assert fit.radius < 1
    assert np.allclose(sorted(fit.moduli), sorted(np.abs(np.linalg.eigvals(fit.agent.dynamics.A))))
    assert set(fit.noise) == {"process", "encoder"}
    assert all(isinstance(text, str) for row in fit.rows() for text in row)
    fit.save(tmp_path / "agent", "worldplan fit")
    facts = json.loads((tmp_path / "agent" / "fit.json").read_text())
    assert facts["command"] == "worldplan fit"
    assert facts["environment_steps"] == 144
    assert np.allclose(facts["gain"], fit.gain)


def test_fit_depends_on_the_seed_alone(fit):
    again = fit_agent(fit.agent.encoder, torque_data(fit.config), fit.config)
    assert np.array_equal(again.agent.dynamics.A, fit.agent.dynamics.A)
    config = replace(fit.config, seed=1)
    other = fit_agent(fit.agent.encoder, torque_data(config), config)
    assert not np.array_equal(other.agent.dynamics.A, fit.agent.dynamics.A)


@pytest.mark.parametrize(
    "wrong", [{"episodes": 0}, {"steps": 4}, {"steps": 101}, {"scale": 0.0}, {"scale": float("nan")}]
)
def test_fit_refuses(wrong):
    with pytest.raises(InvalidInput):
        FitConfig(**wrong)
    with pytest.raises(UnknownName, match="lqr"):
        FitConfig(planner="nonsense")
