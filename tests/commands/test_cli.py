"""The command line, on real input at smoke scale: what it writes, prints, and says when input is wrong."""

import json
import os
import re
import subprocess
import sys
import time
import warnings
from contextlib import redirect_stdout
from dataclasses import fields
from functools import partial
from io import StringIO
from itertools import product

import numpy as np
import pytest
import torch
import tyro
from hypothesis import given, strategies as st
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from worldplan import commands
from worldplan.__main__ import main
from worldplan.agents import load_agent
from worldplan.agents.config import FitConfig, SACConfig
from worldplan.commands.base import Verb, bar, column_parts, config_of
from worldplan.commands.collect import CollectGennorm, CollectOU, CollectRandom
from worldplan.commands.plan import find_agent
from worldplan.data.pairs import PairDataset, load_labels
from worldplan.data.recipes import EpisodeOptions, Nuisances
from worldplan.doctor import Finding
from worldplan.envs.fingerprint import check_encoder, render_fingerprint
from worldplan.envs.worlds import GeneralizedNormalWorld, OUWorld
from worldplan.errors import FingerprintMismatch
from worldplan.eval.compare.config import CompareConfig
from worldplan.eval.plan.config import PlanConfig
from worldplan.eval.show.table import Table
from worldplan.learning.config import TrainingOptions
from worldplan.learning.encoder import load_encoder, save_encoder
from worldplan.learning.network import ConvEncoder
from worldplan.learning.objectives import LeJEPA
from worldplan.learning.training import PretrainConfig

VERBS = ["doctor", "collect", "pretrain", "fit", "plan", "train-sac", "verify"]
VERBS += ["convert", "diagnose", "compare", "reproduce", "lab", "dose", "bench", "export", "sweep", "push"]
KINDS = [f"collect {kind}" for kind in ("ou", "gennorm", "sac", "random", "mixture")]


def run(*arguments):
    """Exit status of a command."""
    return main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with an untrained encoder and an agent that was fitted to it by the command line."""
    folder = tmp_path_factory.mktemp("home")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ConvEncoder(2, width=2, hidden=8)
    save_encoder(network, folder / "encoder", {"data": {"world": {"scale": [0.5, 0.5]}}})
    small = ["--episodes", 12, "--steps", 12, "--profile", "fast"]
    assert run("fit", "--encoder", folder / "encoder", "--out", folder / "agent", *small) == 0
    return folder


# --- the interface --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [*(v for v in VERBS if v != "collect"), *KINDS])
def test_help(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*verb.split(), "--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert {"--seed", "--out", "--json"} <= set(text.split())
    assert "{None}" not in text


def test_help_lists_every_verb(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    text = capsys.readouterr().out
    assert all(f"• {verb} " in text for verb in VERBS)


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["collect", "nonsense"], ["plan", "--nonsense"], ["pretrain"]])
def test_wrong_usage_exits_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    assert "--help" in capsys.readouterr().err


LEAVES = {
    " ".join(["worldplan", verb, *name]): kind
    for verb, what in commands.VERBS.items()
    for name, kind in ([((), what)] if issubclass(what, Verb) else [((n,), k) for n, k in what.kinds.items()])
}


def help_pages(text):
    """The help pages that a message names."""
    return set(re.findall(r"worldplan[a-z -]* --help", " ".join(text.split())))


def message(parse, words, capsys):
    """What is said to wrong usage."""
    with pytest.raises(SystemExit) as caught:
        parse(words)
    assert caught.value.code == 2
    return capsys.readouterr().err


REQUIRED = {
    "convert": ["a", "--out", "b"],
    "export": ["a"],
    "frames": ["a"],
    "lab": ["all"],
    "pretrain": ["a"],
    "push": ["a", "b/c"],
}


@pytest.mark.parametrize("wrong", [["--bad"], ["--seed", "x"], ["--seed"]], ids=" ".join)
@pytest.mark.parametrize("line", LEAVES)
def test_an_error_names_the_help_page_of_its_verb(line, wrong, capsys):
    words = line.split()[1:]
    words += REQUIRED.get(words[-1], []) + wrong
    assert help_pages(message(main, words, capsys)) == {f"{line} --help"}


@pytest.mark.parametrize("line", LEAVES)
def test_parsed_all_at_once_they_name_another(line, capsys):
    words = line.split()[1:]
    words += REQUIRED.get(words[-1], []) + ["--bad"]
    whole = partial(tyro.cli, commands.Command, prog="worldplan", config=(tyro.conf.OmitArgPrefixes,))
    assert help_pages(message(lambda args: whole(args=args), words, capsys)) == {"worldplan --help"}


@pytest.mark.parametrize("line", ["worldplan", "worldplan collect"])
def test_without_a_verb_the_help_page_lists_them(line, capsys):
    for wrong in ([], ["nonsense"], ["--bad"]):
        assert help_pages(message(main, [*line.split()[1:], *wrong], capsys)) == {f"{line} --help"}


def test_verbs_are_found_with_underscores_too(capsys):
    assert help_pages(message(main, ["train_sac", "--bad"], capsys)) == {"worldplan train-sac --help"}


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("worldplan 0.")


CONFIGS = [
    (CollectOU, OUWorld),
    (CollectOU, Nuisances),
    (CollectGennorm, GeneralizedNormalWorld),
    (CollectRandom, EpisodeOptions),
    (commands.Pretrain, TrainingOptions),
    (commands.Fit, FitConfig),
    (commands.Plan, PlanConfig),
    (commands.Compare, CompareConfig),
    (commands.TrainSac, SACConfig),
]


@pytest.mark.parametrize(("verb", "config"), CONFIGS)
def test_options_are_those_of_the_library(verb, config):
    options = {field.name: field.default for field in fields(verb)}
    own = {name for kind in verb.__mro__ if kind.__module__.startswith("worldplan.commands") for name in vars(kind)}
    for field in fields(config):
        assert options[field.name] == field.default or field.name == "processes", (verb, field.name)
        assert field.name not in own - {"processes", "seed"}, f"{verb} has {field.name} a second time"


def test_the_objective_of_the_command_is_that_of_the_library():
    assert commands.Pretrain(data="somewhere").objective == PretrainConfig().objective.name


def test_config_of_takes_options_of_the_same_name():
    verb = commands.Pretrain(data="somewhere", width=7, seed=3)
    config = config_of(PretrainConfig, verb, objective=LeJEPA(0.5))
    assert (config.objective.weight, config.width, config.seed) == (0.5, 7, 3)


def test_the_command_line_is_light(tmp_path):
    code = (
        "import sys, worldplan.__main__;"
        "print(sorted({'numpy', 'torch', 'scipy', 'mujoco', 'gymnasium', 'matplotlib', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- doctor ---------------------------------------------------------------------------------------------------------


def test_doctor_in_its_own_process(tmp_path):
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    line = [sys.executable, "-m", "worldplan", "doctor", "--json", "--out", "found"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["healthy"] is True
    assert json.loads((tmp_path / "found" / "doctor.json").read_text()) == facts


@pytest.mark.parametrize(("needed", "status", "word"), [(True, 1, "BROKEN"), (False, 0, "missing")])
def test_doctor_says_what_is_broken(needed, status, word, monkeypatch, capsys):
    findings = [Finding("python", True, "3.11"), Finding("thing", False, "is bad", "do [this] well", needed=needed)]
    monkeypatch.setattr("worldplan.doctor.examine", lambda: findings)
    assert run("doctor") == status
    text = capsys.readouterr().out
    assert word in text
    assert "do [this] well" in text


# --- the way from nothing to a film ---------------------------------------------------------------------------------


def test_from_nothing_to_goals(tmp_path, capsys):
    data, encoder, agent, plan = (tmp_path / name for name in ("data", "encoder", "agent", "plan"))
    world = ["--pairs", 320, "--scale", 0.7, 0.7, "--stock", 0, "--hidden", 1]
    assert run("collect", "ou", *world, "--processes", 1, "--out", data) == 0
    dataset = PairDataset(data)
    assert (len(dataset), dataset.views) == (320, 2)
    assert dataset.provenance["command"].startswith("worldplan collect ou --pairs 320")
    assert dataset.provenance["world"]["scale"] == [0.7, 0.7]

    net = ["--width", 2, "--hidden", 16, "--batch", 64, "--epochs", 10, "--validation", 64, "--weight", 0.2]
    assert run("pretrain", data, *net, "--lr", 0.01, "--slices", 32, "--out", encoder) == 0
    card = load_encoder(encoder).card
    assert card["config"]["width"] == 2
    assert {"weight": 0.2, "slices": 32}.items() <= card["config"]["objective"].items()
    assert card["command"].startswith("worldplan pretrain ")
    assert [json.loads(line)["step"] for line in (encoder / "log.jsonl").read_text().splitlines()][-1] == 40
    told = EventAccumulator(str(encoder / "tb")).Reload()
    last = json.loads((encoder / "log.jsonl").read_text().splitlines()[-1])
    for name in ("loss", "sigreg"):
        (event,) = told.Scalars(name)
        assert (event.step, event.value) == (40, pytest.approx(last[name], rel=1e-6))
    assert told.Scalars("validation/loss")

    small = ["--episodes", 12, "--steps", 12, "--profile", "fast"]
    assert run("fit", "--encoder", encoder, *small, "--out", agent) == 0
    assert "0.700 (from the encoder's card)" in capsys.readouterr().out
    fitted = load_agent(agent)
    assert np.allclose(fitted.cost.R, 0.1 / 0.49 * np.eye(2))
    assert json.loads((agent / "fit.json").read_text())["encoder_sha256"] == card["sha256"]

    assert run("plan", "--agent", agent, "--profile", "fast", "--episodes", 2, "--out", plan) == 0
    text = capsys.readouterr().out
    for said in (
        "the agent, from pixels",
        "true-state clipped LQR",
        "random torques",
        "standing still",
        "n = 2 is small",
    ):
        assert said in text
    assert sorted(p.name for p in plan.iterdir()) == ["plan.gif", "plan.json", "plan.png"]
    facts = json.loads((plan / "plan.json").read_text(), parse_constant=pytest.fail)  # no NaN
    assert facts["agent"]["encoder_sha256"] == card["sha256"]
    assert facts["command"].startswith("worldplan plan --agent ")
    assert [row["name"] for row in facts["controls"]][1] == "true-state clipped LQR"
    assert facts["controls"][1]["reach"]["value"] == 1.0
    assert facts["time"]["ratio"] > 0
    with Image.open(plan / "plan.png") as image:
        image.verify()
    with Image.open(plan / "plan.gif") as image:
        assert image.n_frames > 10


def test_labels_are_kept_on_request_only(tmp_path):
    small = ["--pairs", 2, "--views", 3, "--processes", 1, "--stock", 0]
    assert run("collect", "ou", *small, "--with-labels", "--out", tmp_path / "with") == 0
    assert load_labels(tmp_path / "with").shape == (2, 3, 2)
    assert run("collect", "ou", *small, "--out", tmp_path / "without") == 0
    assert not list((tmp_path / "without").glob("labels*"))


def test_plan_to_given_angles_as_json(home, tmp_path, capsys):
    given = ["--start-qpos", 0.5, -1, "--goal-qpos", -0.5, 1.25, "--episodes", 1, "--video", "none"]
    assert run("plan", "--agent", home / "agent", "--profile", "fast", "--json", *given, "--out", tmp_path) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["episodes"][0]["start_qpos"] == [0.5, -1.0]
    assert facts["episodes"][0]["goal_qpos"] == [-0.5, 1.25]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plan.json", "plan.png"]
    written = json.loads((tmp_path / "plan.json").read_text())
    assert written["episodes"] == facts["episodes"]


def test_plan_to_a_picture(home, tmp_path, capsys):
    pose = ["--agent", home / "agent", "--profile", "fast", "--video", "none", "--episodes", 1]
    goal = tmp_path / "goal.png"
    agent = load_agent(home / "agent")
    Image.fromarray(np.full((64, 64, 3), 30, dtype=np.uint8)).save(goal)
    assert run("plan", *pose, "--goal-image", goal, "--out", tmp_path / "plan") == 0
    assert "angles are unknown" in capsys.readouterr().out
    facts = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert facts["controls"] == []
    assert facts["episodes"][0]["goal_qpos"] is None
    encoded = agent.encoder(np.full((64, 64, 3), 30, dtype=np.uint8))
    assert np.allclose(facts["episodes"][0]["goal_latent"], encoded, atol=1e-5)


def test_plan_with_an_encoder_fits_an_agent_first(home, tmp_path, capsys):
    small = ["--profile", "fast", "--episodes", 1, "--video", "none", "--json", "--target", "hidden"]
    assert run("plan", "--encoder", home / "encoder", *small, "--out", tmp_path / "fitted") == 0
    assert json.loads(capsys.readouterr().out)["agent"]["planner"] == "lqr"
    assert run("plan", "--encoder", home / "agent", *small, "--planner", "mpc", "--out", tmp_path / "found") == 0
    assert json.loads(capsys.readouterr().out)["agent"]["planner"] == "mpc"


@pytest.mark.parametrize(("encoder", "agent"), [("reacher", "reacher-lejepa"), ("reacher-excitation", "reacher")])
def test_a_shipped_encoder_has_the_agent_that_was_fitted_to_it(encoder, agent, monkeypatch):
    """By what the agent's card says, not by name: nothing is fitted."""
    monkeypatch.setattr("worldplan.commands.fit.fit_encoder", None)
    found = find_agent(None, encoder, "mpc", FitConfig())
    assert found.encoder.name == encoder and found.planner == "mpc"
    assert found.to_dict() == load_agent(agent, "mpc").to_dict()


# --- bad input ------------------------------------------------------------------------------------------------------


def bad_picture(home, kind):
    """The path of a goal image with something wrong."""
    path = home / f"{kind}.png"
    if kind == "small":
        Image.new("RGB", (32, 32)).save(path)
    elif kind == "text":
        path.write_text("no picture")
    return path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "--agent", "nonsense"], "unknown agent (a shipped name, a folder, or hf://"),
        (["plan", "--encoder", "nonsense"], "unknown encoder (a shipped name, a folder, or hf://"),
        (["fit", "--encoder", "nonsense"], "unknown encoder (a shipped name, a folder, or hf://"),
        (["plan", "--agent", "AGENT", "--encoder", "reacher"], "name one"),
        (["plan", "--agent", "AGENT", "--planner", "nonsense"], "unknown planner 'nonsense'; known: cem, lqr, mpc"),
        (["plan", "--agent", "AGENT", "--episodes", "0"], "episodes must be an integer >= 1"),
        (["plan", "--agent", "AGENT", "--goal-qpos", "0", "3.1"], "the wrist stops at 2.793 rad"),
        (["plan", "--agent", "AGENT", "--start-qpos", "nan", "0"], "start_qpos must be 2 finite numbers or None"),
        (["plan", "--agent", "AGENT", "--goal-image", "absent.png"], "no such file; a goal image is a PNG"),
        (["plan", "--agent", "AGENT", "--goal-image", "SMALL"], "got 32 x 32 RGB; convert it"),
        (["plan", "--agent", "AGENT", "--goal-image", "TEXT"], "cannot be read as PNG"),
        (["plan", "--agent", "AGENT", "--goal-image", "TEXT", "--goal-qpos", "0", "0"], "one of the two"),
        (["plan", "--agent", "ENCODER"], "agent.json: no such file"),
        (["fit", "--encoder", "AGENT"], "encoder.json: no such file"),
        (["fit", "--encoder", "ENCODER", "--planner", "nonsense"], "known: cem, lqr, mpc, mppi"),
        (["fit", "--encoder", "ENCODER", "--steps", "3"], "episodes >= 1 of 5 to 100 steps"),
        (["fit", "--encoder", "ENCODER", "--scale", "-1"], "scale must be a positive angle"),
        (["fit", "--encoder", "ENCODER", "--control-weight", "0", "--episodes", "12", "--steps", "12"], "must be > 0"),
        (["collect", "ou", "--rho", "1"], "rho must lie in (0, 1)"),
        (["collect", "ou", "--pairs", "0"], "pairs must be at least 1"),
        (["collect", "ou", "--stock", "2"], "must lie in [0, 1]"),
        (["collect", "ou", "--processes", "0", "--pairs", "1"], "processes must be at least 1"),
        (["pretrain", "absent"], "manifest.json: no such file"),
    ],
)
def test_bad_input_exits_2_says_why_and_leaves_nothing(home, arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(home)
    places = {"AGENT": home / "agent", "ENCODER": home / "encoder"}
    places |= {"SMALL": bad_picture(home, "small"), "TEXT": bad_picture(home, "text")}
    out = tmp_path / "out"
    assert run(*(places.get(a, a) for a in arguments), "--out", out) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.startswith("error: ")
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert not out.exists()


def test_altered_weights_are_refused(home, tmp_path, capsys):
    network = ConvEncoder(2, width=2, hidden=8)
    save_encoder(network, tmp_path / "encoder", {})
    weights = tmp_path / "encoder" / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert run("fit", "--encoder", tmp_path / "encoder", "--out", tmp_path / "out") == 2
    assert "truncated or altered" in capsys.readouterr().err


def test_mp4_without_the_extra_is_refused_before_anything_runs(home, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)  # as if it were not installed
    assert run("plan", "--agent", home / "agent", "--video", "mp4", "--out", tmp_path / "out") == 2
    assert "pip install 'worldplan[video]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder(home, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    small = ["--episodes", 12, "--steps", 12, "--profile", "fast"]
    assert run("fit", "--encoder", home / "encoder", *small, "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_finished_encoder_is_not_overwritten(home, tmp_path, capsys):
    assert run("collect", "ou", "--pairs", 4, "--processes", 1, "--stock", 0, "--out", tmp_path / "data") == 0
    capsys.readouterr()
    assert run("pretrain", tmp_path / "data", "--out", home / "encoder") == 2
    assert "already holds a trained encoder" in capsys.readouterr().err
    assert run("pretrain", tmp_path / "data", "--out", tmp_path / "out") == 2
    assert "4 pairs are too few" in capsys.readouterr().err
    assert run("collect", "ou", "--pairs", 4, "--out", tmp_path / "data") == 2
    assert "already holds a dataset" in capsys.readouterr().err


# --- warnings ---------------------------------------------------------------------------------------------------------


def test_warnings_are_a_line_without_a_path(tmp_path, capsys):
    render = render_fingerprint() | {"dmc_blocks": "00" * 192}  # an encoder of other frames, and then a wrong number
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ConvEncoder(2, width=2, hidden=8)
    save_encoder(network, tmp_path / "encoder", {"data": {"render": render}})
    with pytest.warns(FingerprintMismatch) as caught:
        check_encoder(load_encoder(tmp_path / "encoder"))
    capsys.readouterr()
    options = ["--episodes", 12, "--steps", 12, "--scale", 0.5, "--control-weight", 0]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run("fit", "--encoder", tmp_path / "encoder", *options, "--out", tmp_path / "out") == 2
    warned, wrong = capsys.readouterr().err.splitlines()
    assert warned == f"warning: {caught[0].message}"
    assert wrong.startswith("error: ") and "must be > 0" in wrong


# --- numbers ----------------------------------------------------------------------------------------------------------

EVERY_DIGIT = re.compile(r"\d\.\d{5}")


def test_printed_numbers_are_rounded_and_those_in_json_are_not(home, tmp_path, capsys):
    few = ["--episodes", 12, "--steps", 12]
    lines = [
        ["collect", "random", *few, "--no-frames", "--out", tmp_path / "data"],
        ["diagnose", tmp_path / "data", "--out", tmp_path / "told"],
        ["fit", "--encoder", home / "encoder", *few, "--profile", "fast", "--out", tmp_path / "agent"],
        ["bench", "--agent", home / "agent", "--planners", "lqr", "--steps", 3, "--rounds", 2, "--out", tmp_path],
        ["dose", "--trials", 1, "--sizes", 0.1, "--out", tmp_path],
    ]
    for line in lines:
        again = ["--seed", 1, "--append"] if line[0] == "collect" else []
        assert run(*line) in (0, 1)
        assert not EVERY_DIGIT.search(capsys.readouterr().out), line
        assert run(*line, *again, "--json") in (0, 1)
        digits = EVERY_DIGIT if line[0] != "bench" else re.compile(r"\d\.\d{3}")  # times have four digits
        assert digits.search(capsys.readouterr().out), line


# --- tables in narrow terminals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 120, 300])
def test_no_number_is_cut_however_narrow_the_terminal(width, capsys, monkeypatch):
    heads = ["encoder", *(f"measure\nnumber {k}" for k in range(14))]
    rows = [[f"encoder-{r}", *(f"{r}{k:02}.12345\n[1.{k},\n2.{k}]" for k in range(14))] for r in range(3)]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    Verb().show({}, Table("A title", heads, rows))
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "…" not in text
    for r, k in product(range(3), range(14)):
        assert text.count(f"{r}{k:02}.12345") == 1
    assert max(map(len, text.splitlines())) <= width
    assert text.count("encoder-1") == text.count("encoder-2") >= (1 if width == 300 else 2)


WORDS = st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, max_size=5)
CELLS = st.builds(lambda words, between: between.join(words), WORDS, st.sampled_from([" ", "\n"]))


@given(st.integers(2, 7).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=2, max_size=4)))
def test_no_table_runs_over_the_edge(rows):
    """However uneven the columns: every word is there, and every line of the frame ends within the screen."""
    heads, *lines = rows
    for width in (40, 80):
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as text:
            patch.setenv("COLUMNS", str(width))
            Verb().show({}, Table("A title", heads, lines))
        drawn = text.getvalue().splitlines()[1:]
        assert max(map(len, drawn)) <= width and all(line.rstrip()[-1] in "┓┃┩│┘" for line in drawn)
        assert set(" ".join(" ".join(row) for row in rows).split()) <= set(re.findall("[abc]+", " ".join(drawn)))


@given(st.lists(st.integers(0, 30), min_size=2, max_size=12), st.integers(20, 200))
def test_every_column_stands_once_beside_the_first(widths, room):
    parts = column_parts(widths, room)
    assert [k for part in parts for k in part[1:]] == list(range(1, len(widths)))
    assert all(part[0] == 0 and len(part) > 1 for part in parts)
    for part in parts:
        assert len(part) == 2 or sum(widths[k] + 3 for k in part) + 1 <= room


# --- progress -------------------------------------------------------------------------------------------------------


def test_long_work_shows_a_sign_of_life_where_nobody_watches(capsys, monkeypatch):
    """And short work says nothing: standard error is for errors then."""
    assert list(bar("things")(iter(range(3)), 3)) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("worldplan.commands.base.HEARTBEAT", 0.05)
    for _ in bar("things")(iter(range(4)), 4):
        time.sleep(0.1)
    assert "things:  50%" in capsys.readouterr().err
