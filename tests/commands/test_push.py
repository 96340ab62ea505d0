"""`worldplan push`, and `hf://` wherever a verb takes the name of an encoder or an agent."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from loopback import TOKEN, Repository

from worldplan.__main__ import main
from worldplan.agents.planning_agent import load_agent
from worldplan.commands import VERBS
from worldplan.data.cards import ZOO
from worldplan.data.files import read_json
from worldplan.data.recipes import EpisodeConfig
from worldplan.envs.datasets.episodes import record_episodes
from worldplan.envs.datasets.frames import draw_frames

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the client to its own library
ENCODER = ZOO / "encoders" / "reacher-ou-90"
PAGE = (Path(__file__).parents[2] / "docs" / "hub.md").read_text()
COMMANDS = [line.strip() for line in PAGE.splitlines() if line.startswith("    worldplan ")]
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


SMALL = ["--episodes", "3", "--fit-episodes", "5", "--frame-pairs", "220", "--libraries", "40"]


def run(*arguments):
    return main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Random episodes with frames."""
    folder = tmp_path_factory.mktemp("data") / "data"
    record_episodes(None, folder, EpisodeConfig(episodes=12, steps=30, test_share=0.25))
    draw_frames(folder, "fast")
    return folder


@pytest.fixture
def repository(hub):
    """me/enc, with an encoder."""
    made = hub.repositories["me/enc"] = Repository()
    made.commit({path.name: path.read_bytes() for path in ENCODER.iterdir()})
    return made


# --- push -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_processes_that_know_the_environment_alone(hub, tmp_path):
    known = {"HF_ENDPOINT": constants.ENDPOINT, "HF_HOME": str(tmp_path), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}

    def python(*words):
        command = [sys.executable, "-m", "worldplan", *words, "--json"]
        done = subprocess.run(command, env={**os.environ, **known}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    pushed = python("push", str(ENCODER), "me/enc", "--private")
    repository = hub.repositories["me/enc"]
    commit = repository.branches["main"]
    assert pushed == {"address": f"hf://me/enc@{commit}"}
    assert repository.private
    assert "log.jsonl" not in repository.commits[commit]
    hub.asked.clear()
    out = tmp_path / "out"
    python("compare", "hf://me/enc", "untrained", *SMALL, "--processes", "2", "--out", str(out))
    assert read_json(out / "compare.json")["provenance"]["hub"] == {"hf://me/enc": commit}
    assert hub.downloads() == ["encoder.json", "encoder.safetensors"]  # the other process finds them in the cache
    assert hub.asked.count("GET /api/models/me/enc/revision/main") == 1


def test_out_keeps_it_here(hub, tmp_path, capsys):
    assert run("push", ENCODER, "me/enc", "--license", "mit", "--out", tmp_path / "out", "--json") == 0
    names = ["README.md", "encoder.json", "encoder.safetensors"]
    assert json.loads(capsys.readouterr().out) == {"folder": str(tmp_path / "out"), "files": names}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert hub.asked == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([ENCODER, "me/enc"], "log in with `hf auth login`"),
        ([ENCODER, "enc"], "the form is"),
        ([ENCODER, "me/enc", "--license", "My licence"], "identifier such as mit"),
        (["nothing", "me/enc"], "holds no encoder.json and no agent.json"),
    ],
)
def test_what_cannot_go_up(hub, arguments, said, capsys):
    assert run("push", *arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert said in printed.err
    assert hub.repositories == {}


# --- names ----------------------------------------------------------------------------------------------------------

NOWHERE = "hf://me/none"
LINES = [
    "bench --agent {}",
    "compare oracle {}",
    "diagnose {data} --encoder {}",
    "export {}",
    "fit --encoder {}",
    "identify {}",
    "plan --agent {}",
    "plan --encoder {}",
    "plan --env arm2 --agent {}",
    "pretrain {data} --stride 1 --begin {}",
    "verify --encoder {}",
    "verify --encoder {encoder} --reference {}",
]


@pytest.mark.parametrize("line", LINES)
def test_every_name_may_be_an_address(hub, data, line, tmp_path, capsys):
    words = line.format(NOWHERE, data=data, encoder=ENCODER).split()
    assert run(*words, "--out", tmp_path / "out") == 2
    assert f"error: {NOWHERE}: no such repository" in capsys.readouterr().err
    assert "GET /api/models/me/none/revision/main" in hub.asked


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "collect"])
def test_the_help_of_these_verbs_and_no_others_names_addresses(verb, capsys):
    with pytest.raises(SystemExit):
        run(verb, "--help")
    assert ("hf://" in capsys.readouterr().out) == (verb in {"push", *(line.split()[0] for line in LINES)})


def test_from_the_hub_to_a_plan(hub, repository, data, tmp_path, capsys):
    commit = repository.branches["main"]
    assert run("fit", "--encoder", "hf://me/enc", "--data", data, "--out", tmp_path / "agent") == 0
    assert read_json(tmp_path / "agent" / "fit.json")["hub"] == {"hf://me/enc": commit}
    made = hub.repositories["me/agent"] = Repository()
    folder = tmp_path / "agent"
    made.commit({p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    plan = ["plan", "--agent", "hf://me/agent", "--episodes", 1, "--profile", "fast", "--video", "none"]
    assert run(*plan, "--out", tmp_path / "plan") == 0
    report = read_json(tmp_path / "plan" / "plan.json")
    assert report["hub"] == {"hf://me/enc": commit, "hf://me/agent": made.branches["main"]}
    assert load_agent("hf://me/agent").encoder.name == f"hf://me/agent@{made.branches['main']}/encoder"
    assert not [name for name in hub.downloads() if name not in {"agent.json", "fit.json"} and "encoder" not in name]


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_runs_as_it_stands(hub, tmp_path, monkeypatch, capsys):
    assert [command.split()[1] for command in COMMANDS] == ["push", "push", "push", "compare", "plan"]
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ENCODER, "runs/encoder")
    load_agent("reacher-lejepa").save("runs/agent")
    small = {"compare": [*SMALL, "--processes", "1"], "plan": ["--episodes", "1", "--video", "none"]}
    for command in COMMANDS[:3]:
        assert main(command.split()[1:]) == 0, command
    known = {"frames": np.zeros((2, 64, 64, 3), np.uint8)}
    for block in CODE:
        exec(compile(block, "docs/hub.md", "exec"), known)
    assert set(hub.repositories) == {"me/reacher", "me/reacher-agent"}
    for command in COMMANDS[3:]:
        words = command.split()[1:]
        assert main([*words, *small[words[0]]]) == 0, command
