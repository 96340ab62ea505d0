"""docs/your-world.md goes from an environment of your own to a plan: its code and commands run as they stand."""

import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worldplan.__main__ import main
from worldplan.agents.planning_agent import load_agent
from worldplan.envs.world.registry import find_world
from worldplan.envs.world.world import Judge
from worldplan.eval.control.in_world import WorldPlanConfig, plan_in_world

PAGE = (Path(__file__).parents[2] / "docs" / "your-world.md").read_text()
OWN, TOLD, RECORDED, CALLS, NETWORK, JUDGED = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line.strip() for line in PAGE.splitlines() if line.startswith("    worldplan ")]
SMOKE = {
    "collect": ["--episodes", "12", "--steps", "40", "--hold", "4", "--processes", "1", "--test-share", "0"],
    "pretrain": shlex.split("--epochs 2 --width 2 --batch 32 --validation 32 --least -9 --threads 1"),
    "fit": [],
    "plan": ["--episodes", "2", "--steps", "10"],
}


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The folder of a stranger who has followed the page up to the plan, at smoke size."""
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "slide.py").write_text(OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        patch.delitem(sys.modules, "slide", raising=False)
        for command in COMMANDS:
            words = shlex.split(command)[1:]
            assert main([*words, *SMOKE[words[0]]]) == 0, command
        yield folder
        sys.modules.pop("slide", None)


def test_the_page_has_an_environment_and_four_commands():
    assert [command.split()[1] for command in COMMANDS] == ["collect", "pretrain", "fit", "plan"]
    assert len([line for line in OWN.splitlines() if line.strip()]) < 30


def test_the_commands_lead_to_a_plan(walked):
    report = json.loads((walked / "runs/slide-plan/plan.json").read_text())
    assert [row["name"] for row in report["controllers"]] == [
        "the agent, from pixels",
        "random actions",
        "standing still",
    ]
    assert report["world"]["name"] == "slide:Slide"
    assert (walked / "runs/slide-plan/plan.png").stat().st_size > 10_000
    with Image.open(walked / "runs/slide-plan/plan.gif") as film:
        assert film.size[0] % 16 == film.size[1] % 16 == 0
        shown = 0
        for k in range(film.n_frames):
            film.seek(k)
            shown += film.info["duration"]
    assert shown == 40 * (10 + 25)  # a step of 50 ms a picture, for ten steps, and the end held for a second


def test_the_python_of_the_page_runs(walked, capsys):
    space = {}
    exec(TOLD, space)
    for block in (RECORDED, CALLS, NETWORK, JUDGED):
        exec(block, space)
    told, fitted, shape, judged = capsys.readouterr().out.splitlines()
    assert fitted.startswith("1 coordinate, closed loop of radius 0.")
    assert shape == "(1, 2)"
    assert space["encoder"].card["validation"]["J"] > 0.9  # of 1
    assert re.fullmatch(r"from \[.*\] to \[.*\]", told)
    assert judged == "0.05 m"


def test_a_world_that_judges_tells_errors_and_goals_reached(walked):
    world, agent = find_world("slide:Slide"), load_agent("runs/slide")
    for tolerance, reached in ((9.0, 1.0), (0.0, 0.0)):
        judge = Judge(lambda state, goal: np.linalg.norm(state["place"] - goal["place"]), tolerance, "m")
        report = plan_in_world(agent, replace(world, judge=judge), WorldPlanConfig(episodes=2, steps=3))
        own, still = report.rows[0], report.rows[2]
        assert own.reached.value == reached
        assert report.title == f"slide:Slide from pixels: {round(2 * reached)} of 2 goals reached"
        assert own.error.value == pytest.approx(np.median([path[-1] for path in report.paths]))
        assert still.error.value == pytest.approx(np.median([path[0] for path in report.paths]))  # it stood still


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("plan --env point_mass --agent runs/slide", "this agent is for 'slide:Slide'"),
        ("plan --env slide:Slide --size 32 --agent runs/slide", "with size 64"),
        ("plan --env slide:Slide", "name an agent"),
        ("plan --env slide:Slide --agent runs/slide --target easy", "--target: only the Reacher"),
        ("plan --steps 50", "--steps: these are for other worlds"),
        ("collect random --env slide:Slide --look dmc --out data/other", "--look: only the Reacher"),
        ("collect random --hold 4 --out data/other", "--hold: these are for other worlds"),
        ("fit --encoder runs/slide-encoder --out runs/other", "--data"),
        ("fit --encoder reacher --data data/slide --out runs/other", "this encoder is for 'reacher'"),
        ("plan --agent runs/slide --episodes 1 --out runs/other", "and not for 'reacher'"),
        ("verify --encoder runs/slide-encoder --out runs/other", "and not for 'reacher'"),
        ("collect random --episodes 1 --steps 2 --no-frames --append --out data/slide", "and not for 'reacher'"),
        ("collect frames data/slide", "whose frames are taken as they happen"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_word_on_what_to_do(walked, capsys, words, says):
    assert main(words.split()) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (walked / "data/other").exists()
    assert not (walked / "runs/other").exists()


def test_a_table_of_encoders_tells_which_one_is_for_another_world(walked, capsys):
    assert main(shlex.split("identify runs/slide-encoder --out runs/identify")) == 1
    assert "is for 'slide:Slide', and not for 'reacher'" in " ".join(capsys.readouterr().out.split())


def test_diagnose_tells_whether_the_actions_excite(walked, capsys):
    assert main(shlex.split("diagnose data/slide --encoder runs/slide-encoder --out runs/diagnosis --json")) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["worlds"] == []  # the poses of a world that nobody knows
    assert facts["excitation"][0]["episodes"] == 12


JUDGING = """
from dataclasses import replace

import numpy as np

from slide import Slide
from worldplan.envs.world.world import Judge
from worldplan.envs.world.registry import find_world


def world():
    slide = find_world("slide:Slide")
    apart = lambda state, goal: np.linalg.norm(state["place"] - goal["place"])
    return replace(slide, judge=Judge(apart, 0.1, "m"))
"""


@pytest.fixture
def judging(walked):
    (walked / "judging.py").write_text(JUDGING)
    yield "judging:world"
    sys.modules.pop("judging", None)


def test_encoders_are_compared_in_a_world_that_judges(walked, judging, capsys):
    shared = "--data data/slide --episodes 3 --steps 12 --fit-episodes 8 --out runs/compared"
    assert (
        main(shlex.split(f"compare --env {judging} untrained reacher runs/slide-encoder {shared} --json")) == 1
    )  # one failed
    facts = json.loads(capsys.readouterr().out)
    names = [row["name"] for row in facts["rows"]]
    assert set(names[:2]) == {"runs/slide-encoder", "untrained"}  # the cheapest first, then what failed, then baselines
    assert names[2:] == ["reacher", "random actions", "standing still"]
    failed = {row["name"]: row["reason"] for row in facts["rows"] if row["status"] == "failed"}
    assert "is for 'reacher'" in failed["reacher"]
    own, other = facts["rows"][:2]
    assert own["cost"]["value"] == pytest.approx(np.mean(own["costs"]))
    assert own["cost"]["value"] <= other["cost"]["value"]
    assert own["p"] is None and other["p"] is None  # three episodes are too few for a test
    assert facts == {**json.loads((walked / "runs/compared/compare.json").read_text()), "rows": facts["rows"]}
    kept = {path: path.read_bytes() for path in (walked / "runs/compared/rows/results").iterdir()}
    assert len(kept) == 2  # the one that failed is tried again
    assert main(shlex.split(f"compare --env {judging} untrained reacher runs/slide-encoder {shared} --json")) == 1
    assert json.loads(capsys.readouterr().out)["rows"] == facts["rows"]
    assert kept == {path: path.read_bytes() for path in (walked / "runs/compared/rows/results").iterdir()}
    assert main(shlex.split(f"compare --env {judging} runs/slide-encoder runs/slide-encoder {shared} --markdown")) == 0
    assert "| runs/slide-encoder (2) |" in capsys.readouterr().out


def test_a_comparison_in_a_world_is_a_page_that_names_the_line_of_a_failure(walked, judging, capsys):
    (walked / "blinking.py").write_text("def eyes(frames):\n    return frames / None\n\neyes.latent_dim = 2\n")
    line = f"compare --env {judging} blinking:eyes runs/slide-encoder --data data/slide --episodes 2 --steps 6"
    assert main(shlex.split(f"{line} --fit-episodes 8 --out runs/page")) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "blinking:eyes failed: TypeError: " in text and "(blinking.py:2 in eyes)" in text
    assert "Written: runs/page/compare.json, runs/page/compare.html" in text
    page = (walked / "runs/page/compare.html").read_text()
    assert page.count("<tr") == 1 + 4 and page.count('<tr class="baseline">') == 2  # heads, two encoders, two baselines
    assert page.count("(blinking.py:2 in eyes)") == 1 and page.count('<tr class="failed">') == 1
    assert "Open loop" not in page and "<img" not in page and "2 encoders, 2 paired episodes" in page
    assert "the same pairs for all. Reached: an error of 0.1 m or less at the end." in page


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("compare --env slide:Slide runs/slide-encoder --data data/slide", "cannot judge"),
        ("compare --env judging:world runs/slide-encoder", "--data"),
        ("compare --env judging:world oracle --data data/slide", "leave it out"),
        (
            "compare --env judging:world runs/slide-encoder --data data/slide --target easy",
            "--target: only the Reacher",
        ),
        ("compare runs/slide-encoder --steps 5", "--steps: these are for other worlds"),
        ("verify --env slide:Slide", "pass `encoder`"),
        ("verify --env slide:Slide --encoder reacher", "this encoder is for 'reacher'"),
        ("verify --env slide:Slide --encoder runs/slide-encoder --reference reacher", "of the Reacher"),
        ("fit --encoder runs/slide-encoder --data data/slide --around runs/none.png", "no such file"),
        ("fit --encoder runs/slide-encoder --data data/slide --horizon 1", "horizon"),
    ],
)
def test_what_a_world_cannot_do_is_told(walked, judging, capsys, words, says):
    assert main([*words.split(), "--out", "runs/no"]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (walked / "runs/no").exists()


def test_the_theorem_is_verified_on_frames_of_another_world(walked, capsys):
    few = "--problems 10 --largest 4 --trials 1 --sizes 1 --processes 1 --json"
    main(shlex.split(f"verify --env slide:Slide --encoder runs/slide-encoder {few}"))
    levels = {row["name"]: row for row in json.loads(capsys.readouterr().out)["pixels"]}
    assert set(levels) == {f"{what}, {planner}" for what in ("Q f", "shear of f") for planner in ("LQR", "MPC")}
    assert all(row["passed"] for row in levels.values())


def test_a_model_around_a_goal_is_fitted_to_what_passes_by_it(walked, capsys):
    frame = find_world("slide:Slide").make().reset(seed=3)[0]
    Image.fromarray(frame).save(walked / "goal.png")
    fit = "fit --encoder runs/slide-encoder --data data/slide --horizon 8 --out runs/near"
    assert main(shlex.split(f"{fit} --around goal.png --json")) == 0
    near = json.loads(capsys.readouterr().out)
    assert near["config"]["horizon"] == 8 and 0 < near["environment_steps"] < 12 * 40
    assert main(shlex.split(f"{fit} --json")) == 0
    assert json.loads(capsys.readouterr().out)["environment_steps"] == 12 * 40
    assert main(shlex.split(f"{fit} --around goal.png --near 0.001")) == 2
    assert "a larger share of the frames" in " ".join(capsys.readouterr().err.split())
