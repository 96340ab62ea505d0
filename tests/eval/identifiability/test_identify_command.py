"""`worldplan identify`: a row for every encoder, best first, with the numbers that the theory attaches to it."""

import json
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from worldplan.__main__ import main
from worldplan.commands.base import Verb
from worldplan.errors import InvalidInput
from worldplan.eval.identifiability.figure import draw_identifiability
from worldplan.eval.identifiability.identify import identify
from worldplan.eval.identifiability.table import COLUMNS, identifiability_table
from worldplan.learning.encoder import load_encoder

LINE = ["identify", "untrained", "reacher", "oracle", "--pairs", "220", "--resamples", "20"]


@pytest.fixture(scope="module")
def report():
    return identify(load_encoder("reacher"), count=220, profile="fast", matched=True, resamples=20)


def test_it_prints_a_row_each_and_writes_the_same_numbers(tmp_path, capsys):
    assert main([*LINE, "--json", "--out", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "identify.json").read_text())
    assert {name: written[name] for name in printed} == printed and written["seed"] == 0
    rows = printed["encoders"]
    r2 = {name: row["labels"]["unwrapped"]["latent_to_state"]["value"] for name, row in rows.items()}
    assert r2["oracle"] == pytest.approx(1) and 0.98 < r2["reacher"] < 1 and r2["untrained"] < 0.6
    assert rows["oracle"]["theorem3"]["bound"]["high"] == pytest.approx(0, abs=1e-9)
    assert all(row["theorem3"]["holds"] for row in rows.values())
    with Image.open(tmp_path / "identify.png") as image:
        assert image.width > 1000


def test_the_table_is_ranked_and_says_who_failed(tmp_path, capsys):
    assert main(["identify", "json:thing", *LINE[1:], "--out", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert text.index("oracle") < text.index("reacher") < text.index("untrained")
    assert "Identifiability of 3 of 4 encoders" in text and "json:thing failed: InvalidInput" in " ".join(text.split())
    assert "…" not in text and max(len(line) for line in text.splitlines() if "│" in line) <= 120


def test_errors_of_an_encoder_cost_its_row_and_name_its_line(tmp_path, capsys, monkeypatch):
    (tmp_path / "blinking.py").write_text("def eyes(frames):\n    return frames / None\n\neyes.latent_dim = 2\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["identify", "blinking:eyes", "oracle", *LINE[4:], "--out", "out"]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "Identifiability of 1 of 2 encoders" in text and "blinking:eyes failed: TypeError: " in text
    assert text.split("failed: ")[1].split(" Written")[0].endswith("(blinking.py:2 in eyes)")


def test_the_table_fits_and_tells_a_broken_measurement(report):
    table = identifiability_table({"a": report}, {})
    assert [len(row) for row in table.rows] == [len(COLUMNS)]
    assert not any("broken" in note for note in table.notes)
    object.__setattr__(report.theorem3, "holds", False)
    assert any("does not hold for a" in note for note in identifiability_table({"a": report}, {}).notes)
    object.__setattr__(report.theorem3, "holds", True)


def test_the_whole_table_fits_a_page(report, capsys):
    found = dict.fromkeys(("twelve-chars", "twelve-wide2"), report)
    Verb().show({}, identifiability_table(found, {}))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 120
    (heads,) = [line for line in lines if COLUMNS[-1].head in line]
    assert heads.rstrip().endswith("┃") and all("twelve-" not in line or line.endswith("│") for line in lines)
    assert [line.count("twelve-chars") for line in lines].count(1) == 1


def test_matched_units_are_no_distortion(report):
    own = identify(load_encoder("reacher"), count=220, profile="fast", resamples=20)
    assert report.linear.orthogonality.value < 0.15 < own.linear.orthogonality.value
    assert own.labels["unwrapped"].latent_to_state.value == pytest.approx(
        report.labels["unwrapped"].latent_to_state.value, rel=1e-9
    )


def test_the_figure_shows_every_encoder(report):
    with Image.open(BytesIO(draw_identifiability({"a": report, "b": report}))) as image:
        assert np.asarray(image.convert("L")).std() > 10
    with pytest.raises(InvalidInput, match="no encoder"):
        draw_identifiability({})
