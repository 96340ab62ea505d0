"""Folders with a card: found by name or place, and refused when something about them is not as the card says."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from worldplan.agents import actor, planning_agent
from worldplan.data.cards import Cards
from worldplan.errors import BadFile, UnknownName
from worldplan.learning import encoder

KINDS = {"encoder": encoder.CARDS, "policy": actor.CARDS, "agent": planning_agent.CARDS}


@pytest.fixture
def cards(tmp_path):
    """A kind of its own, one of which ships."""
    kind = Cards("thing", tmp_path / "shelf", "thing.json", "thing.safetensors", {"format": 3}, "make it again")
    kind.write(tmp_path / "shelf" / "mine", b"weights", {"made": "here"})
    return kind


def test_a_name_is_found_on_the_shelf_and_a_folder_where_it_is(cards, tmp_path):
    assert cards.known() == ["mine"]
    assert cards.find("mine") == tmp_path / "shelf" / "mine"
    assert cards.find(str(tmp_path)) == cards.find(tmp_path) == tmp_path
    with pytest.raises(UnknownName, match=r"unknown thing \(a shipped name or a folder\) 'yours'; known: mine"):
        cards.find("yours")
    for odd in ("a" * 5000, "a\0b", ""):
        with pytest.raises(UnknownName):
            cards.find(odd)
    with pytest.raises(UnknownName, match="known: none"):
        replace(cards, shelf=tmp_path / "empty").find("mine")


def test_a_path_is_a_folder_whatever_ships_under_its_name(cards, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert cards.find("mine") == tmp_path / "shelf" / "mine"
    assert cards.find(Path("./mine")) == Path("mine") and cards.find("./mine") == Path("mine")


def test_what_was_written_is_read(cards):
    folder = cards.find("mine")
    card = cards.read(folder)
    assert card["made"] == "here" and card["format"] == 3
    assert cards.read_weights(folder, card) == b"weights"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "thing.json").unlink(), "no such file"),
        (lambda f: (f / "thing.json").write_text(json.dumps({"format": 2})), "is of format 2.*reads 3; make it again"),
        (lambda f: (f / "thing.json").write_text("{}"), "is of format None"),
        (lambda f: (f / "thing.safetensors").unlink(), "no such file.*thing.json and thing.safetensors"),
        (lambda f: (f / "thing.safetensors").write_bytes(b"weight"), "SHA-256 in thing.json.*make it again"),
    ],
)
def test_damage_is_refused(cards, spoil, said):
    folder = cards.find("mine")
    spoil(folder)
    with pytest.raises(BadFile, match=said):
        cards.read_weights(folder, cards.read(folder))


@pytest.mark.parametrize("kind", KINDS)
def test_everything_that_ships_is_as_its_card_says(kind):
    cards = KINDS[kind]
    assert cards.what == kind and cards.known()
    for name in cards.known():
        folder = cards.find(name)
        card = cards.read(folder)
        assert not cards.weights or cards.read_weights(folder, card)
