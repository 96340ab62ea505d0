"""`worldplan verify`: exit statuses, table, JSON, file."""

import json

import pytest

from worldplan.__main__ import main
from worldplan.eval.theorem4 import mistakes as controls
from worldplan.eval.theorem4.problems import seen_through
from worldplan.planning.rotation import random_rotation

SMALL = ["--problems", "10", "--largest", "8", "--trials", "2", "--sizes", "1e-1", "1e-5", "1e-6", "--processes", "1"]


def test_passed_is_0_and_the_file_holds_what_json_prints(tmp_path, capsys):
    out = tmp_path / "new" / "verify.json"
    assert main(["verify", *SMALL, "--json", "--out", str(out)]) == 0
    printed, written = json.loads(capsys.readouterr().out), json.loads(out.read_text())
    assert printed["passed"] is True
    assert {key: written[key] for key in printed} == printed
    assert written["command"].startswith("worldplan verify") and "versions" in written


def test_rejected_is_1_and_the_table_says_what(monkeypatch, capsys):
    def honest(world, size, rng):
        return world, seen_through(world, random_rotation(world.latent_dim, rng))

    monkeypatch.setitem(controls.MISTAKES, "anisotropic cost", honest)
    assert main(["verify", *SMALL]) == 1
    text = capsys.readouterr().out
    assert "REJECTED (anisotropic cost" in text and "FAIL" in text and "pass" in text and "Resolution, LQR" in text


@pytest.mark.parametrize("wrong", [["--problems", "3"], ["--seed", "-1"], ["--encoder", "nonsense"]])
def test_could_not_run_is_2(wrong, capsys):
    assert main(["verify", *wrong]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_help(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["verify", "--help"])
    assert caught.value.code == 0
    assert {"--seed", "--out", "--json", "--encoder", "--largest"} <= set(capsys.readouterr().out.split())
