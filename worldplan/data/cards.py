"""Folders with a card: a JSON file that describes the folder and holds the SHA-256 of the weights beside it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldplan.data.files import atomic_write, inside, read_json, sha256, to_json, write_json
from worldplan.data.shards import digest
from worldplan.errors import BadFile, UnknownName

_OWN, _FILE = "card_sha256", "file"  # entries of a card: its own SHA-256, and weights under another name
ZOO = Path(__file__).parents[1] / "zoo"


@dataclass(frozen=True)
class Cards:
    """One kind of folder with a card, and the folder in the zoo that holds the shipped ones.

    Attributes:
        what: name of the kind, such as "encoder".
        shelf: folder of the shipped ones.
        card: name of the JSON file.
        weights: name of the safetensors file; empty if there is none.
        head: entries that every card of this kind has, such as its format.
        remedy: what to do about a damaged one.
    """

    what: str
    shelf: Path
    card: str
    weights: str
    head: Mapping[str, Any]
    remedy: str

    def known(self) -> list[str]:
        """Names of the ones that ship with worldplan."""
        return sorted(path.parent.name for path in self.shelf.glob(f"*/{self.card}"))

    def find(self, name: str | Path) -> Path:
        """The folder of a shipped name, or `name` itself if it is a folder. Raises UnknownName if it is neither.

        A `Path` is always a folder, also one that is called like something that ships.
        """
        folder = self.shelf / name if isinstance(name, str) and name in self.known() else Path(name)
        if not str(name) or not os.path.isdir(folder):  # unlike `Path.is_dir`, also for names that are too long
            raise UnknownName(f"{self.what} (a shipped name or a folder)", str(name), self.known())
        return folder

    def read(self, folder: Path) -> dict[str, Any]:
        """The card. Raises BadFile if it is missing, not JSON, of another format, or altered since it was written.

        Cards from before cards had a SHA-256 of their own are taken as they are.
        """
        card = read_json(folder / self.card)
        for name, value in self.head.items():
            if card.get(name) != value:
                raise BadFile(
                    folder / self.card,
                    f"is of {name} {card.get(name)!r}, this worldplan reads {value!r}; {self.remedy}",
                )
        recorded = card.pop(_OWN, None)
        if recorded is None:  # older than these hashes, or its name was damaged: then the hash is that of all others
            hashes = [(key, text) for key, text in card.items() if isinstance(text, str) and len(text) == 64]
            altered = any(text == digest({k: v for k, v in card.items() if k != key}) for key, text in hashes)
        else:
            altered = recorded != digest(card)
        if altered:
            raise BadFile(folder / self.card, f"was altered since it was written; {self.remedy}")
        return card

    def read_weights(self, folder: Path, card: Mapping[str, Any]) -> bytes:
        """The weights. Raises BadFile if they are missing or do not match the SHA-256 in the card."""
        path = inside(folder, card.get(_FILE, self.weights))
        if not path.is_file():
            raise BadFile(path, f"no such file; the folder of such a thing holds {self.card} and {self.weights}")
        if sha256(path) != card.get("sha256"):
            raise BadFile(path, f"does not match the SHA-256 in {self.card}: truncated or altered; {self.remedy}")
        return path.read_bytes()

    def write(self, folder: Path, weights: bytes, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Write the weights and the card with their SHA-256; returns the card.

        If the folder holds others, it has them or the new ones at every instant: the new weights are first written
        under another name, which the new card tells.
        """
        facts = {**facts, "sha256": hashlib.sha256(weights).hexdigest()}
        facts.pop(_FILE, None)
        beside = f"{facts['sha256'][:12]}-{self.weights}"
        replacing = (folder / self.card).exists()
        if replacing:
            self._write(folder / beside, weights)
            self.write_card(folder, {**facts, _FILE: beside})
        self._write(folder / self.weights, weights)
        card = self.write_card(folder, facts)
        if replacing:
            (folder / beside).unlink()
        return card

    def write_card(self, folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Write the card alone, with its own SHA-256; returns it without that."""
        card: dict[str, Any] = json.loads(to_json({**facts, **self.head}))
        write_json(folder / self.card, {**card, _OWN: digest(card)})
        return card

    @staticmethod
    def _write(path: Path, weights: bytes) -> None:
        with atomic_write(path) as stream:
            stream.write(weights)
