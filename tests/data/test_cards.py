"""Folders with a card: found by name or place, and refused when something about them is not as the card says."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from worldplan.agents import actor, load_agent, load_policy, planning_agent
from worldplan.data.cards import Cards
from worldplan.data.files import read_json, write_json
from worldplan.errors import BadFile, InvalidInput, UnknownName
from worldplan.learning import encoder
from worldplan.learning.encoder import find_encoder, load_encoder

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
    with pytest.raises(UnknownName, match=r"unknown thing \(.*, or hf://OWNER/NAME\) 'yours'; known: mine"):
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


# --- a card is covered, and replaced, as a whole ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_card_that_ships_is_covered_by_its_own_sum(kind):
    for name in KINDS[kind].known():
        assert "card_sha256" in read_json(KINDS[kind].find(name) / KINDS[kind].card)


def test_every_other_digit_in_a_card_is_noticed(tmp_path):
    """As a bit that flips in storage, or a hand that edits: 26 of 219 such agents loaded with other numbers."""
    folder = shutil.copytree(planning_agent.CARDS.find("reacher-lejepa"), tmp_path / "agent")
    text = (folder / "agent.json").read_text()
    places = [k for k, letter in enumerate(text) if letter.isdecimal()]
    rng = np.random.default_rng(0)
    for k in rng.choice(places, 60, replace=False):
        (folder / "agent.json").write_text(text[:k] + str((int(text[k]) + 1) % 10) + text[k + 1 :])
        if json.loads((folder / "agent.json").read_text()) != json.loads(text):  # a float may be the same without it
            with pytest.raises(BadFile):
                planning_agent.CARDS.read(folder)
    (folder / "agent.json").write_text(text)
    assert planning_agent.CARDS.read(folder)["format"] == 1


def test_a_flag_in_a_card_of_an_encoder_is_covered(tmp_path):
    folder = shutil.copytree(encoder.CARDS.find("reacher"), tmp_path / "encoder")
    text = (folder / "encoder.json").read_text()
    (folder / "encoder.json").write_text(text.replace('"mirror": true', '"mirror": false', 1))
    assert (folder / "encoder.json").read_text() != text
    with pytest.raises(BadFile, match="altered"):
        encoder.load_encoder(folder)


def test_cards_from_before_they_were_covered_are_read(cards):
    folder = cards.find("mine")
    card = read_json(folder / "thing.json")
    del card["card_sha256"]
    write_json(folder / "thing.json", card)
    assert cards.read(folder)["made"] == "here"


def test_a_damaged_name_of_the_hash_is_no_card_from_before(cards):
    folder = cards.find("mine")
    text = (folder / "thing.json").read_text()
    (folder / "thing.json").write_text(text.replace("card_sha256", "card_sha255"))
    with pytest.raises(BadFile, match="altered"):
        cards.read(folder)


def test_a_death_while_one_replaces_another_leaves_either(cards, monkeypatch):
    """Weights and card are two files; a reader finds a pair that fits at every instant."""
    folder = cards.find("mine")
    real, seen = os.replace, []

    def look(*args, **kwargs):
        seen.append(cards.read_weights(folder, cards.read(folder)))
        real(*args, **kwargs)
        seen.append(cards.read_weights(folder, cards.read(folder)))

    monkeypatch.setattr(os, "replace", look)
    cards.write(folder, b"others", {"made": "there"})
    assert set(seen) == {b"weights", b"others"} and len(seen) == 8
    assert cards.read_weights(folder, cards.read(folder)) == b"others"
    assert sorted(path.name for path in folder.iterdir()) == ["thing.json", "thing.safetensors"]
    card = cards.read(folder)
    cards.write(folder, b"third", card)  # with the facts of one that was read
    assert cards.read_weights(folder, cards.read(folder)) == b"third"


@pytest.mark.parametrize("name", [None, 5, b"reacher", ["reacher"], True])
@pytest.mark.parametrize("load", [load_agent, load_encoder, load_policy, find_encoder])
def test_what_is_no_name_and_no_path_is_refused(load, name):
    with pytest.raises(InvalidInput, match="path of its folder"):
        load(name)


@pytest.mark.parametrize("name", ["x" * 5000, "a:" + "b" * 5000, "a\0b"])
@pytest.mark.parametrize("load", [load_agent, load_encoder, load_policy, find_encoder])
def test_names_that_no_file_has_are_refused(load, name):
    with pytest.raises((InvalidInput, UnknownName)):
        load(name)
