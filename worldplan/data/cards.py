"""Folders with a card: a JSON file that describes the folder and holds the SHA-256 of the weights beside it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from worldplan.data.files import atomic_write, inside, read_json, sha256, to_json, write_json
from worldplan.data.hub import Source, fetch, is_address
from worldplan.data.shards import digest
from worldplan.errors import BadFile, HubError, InvalidInput, UnknownName

_OWN, _FILE = "card_sha256", "file"  # entries of a card: its own SHA-256, and weights under another name
_JSON, _WEIGHTS = 2**24, 2**32  # bytes of a file that is copied, at most
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
        beside: other JSON files that may lie in such a folder.
        parts: entries of the card that name a shipped thing of another kind, or its folder in this one.
    """

    what: str
    shelf: Path
    card: str
    weights: str
    head: Mapping[str, Any]
    remedy: str
    beside: tuple[str, ...] = ()
    parts: Mapping[str, Cards] = field(default_factory=dict)

    def known(self) -> list[str]:
        """Names of the ones that ship with worldplan."""
        return sorted(path.parent.name for path in self.shelf.glob(f"*/{self.card}"))

    def find(self, name: str | Path) -> Path:
        """The folder of a shipped name or of an address of the hub, or `name` itself if it is a folder.

        A `Path` is always a folder, also one that is called like something that ships.

        Raises:
            InvalidInput: it is neither text nor a path.
            UnknownName: it is none of these.
            BadFile, HubError, InvalidInput, MissingExtra: those of `worldplan.data.hub.fetch`.
        """
        if not isinstance(name, str | Path):
            raise InvalidInput(f"name the {self.what}, or give the path of its folder; got {name!r}")
        if is_address(name):
            return fetch(str(name), self.card, self.copy)
        folder = self.shelf / name if isinstance(name, str) and name in self.known() else Path(name)
        if not str(name) or not os.path.isdir(folder):  # unlike `Path.is_dir`, also for names that are too long
            kind = f"{self.what} (a shipped name, a folder, or hf://OWNER/NAME)"
            raise UnknownName(kind, str(name), self.known())
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

    def copy(self, source: Source, folder: Path) -> None:
        """Write the files that belong to such a folder, as `source` gives them, and no others.

        Raises BadFile for a file that is missing, too large or altered, or a name that leads out of the folder.
        """
        self._write(folder / self.card, _some(source, self.card, _JSON, folder))
        card = self.read(folder)
        if self.weights:
            name = inside(folder, card.get(_FILE, self.weights), ".safetensors").name
            self._write(folder / name, _some(source, name, _WEIGHTS, folder))
            self.read_weights(folder, card)
        for name in self.beside:
            with suppress(HubError):  # one can do without
                if (content := source(name, _JSON)) is not None:
                    self._write(folder / name, content)
        for entry, kind in self.parts.items():
            if (part := card.get(entry, "")) not in kind.known():
                kind.copy(partial(_below, source, part), inside(folder, part))

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
    def _write(path: Path, content: bytes) -> None:
        with atomic_write(path) as stream:
            stream.write(content)


def _below(source: Source, folder: str, name: str, limit: int) -> bytes | None:
    return source(f"{folder}/{name}", limit)


def _some(source: Source, name: str, limit: int, folder: Path) -> bytes:
    if (content := source(name, limit)) is None:
        raise BadFile(folder / name, "no such file")
    return content


def content_of(folder: Path, name: str, limit: int) -> bytes | None:
    """A `Source`: a file in a folder. Raises BadFile for a name or a link that leads out of it, or a larger file."""
    path = folder
    for part in name.split("/"):
        path = inside(path, part)
    if not path.is_file():
        return None
    if path.stat().st_size > limit:
        raise BadFile(path, f"is larger than {limit} bytes; it is none of ours")
    return path.read_bytes()
