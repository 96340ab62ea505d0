"""Cards with other entries and the right sum, as somebody could make them who knows how."""

from pathlib import Path
from typing import Any

from worldplan.data.files import read_json, write_json
from worldplan.data.shards import digest


def forge(path: Path, card: dict[str, Any] | None = None, **changes: Any) -> None:
    """Write `card`, or what stands there, with these changes; an entry that becomes ... is left out."""
    entries = {**(read_json(path) if card is None else card), **changes}
    entries = {name: value for name, value in entries.items() if name != "card_sha256" and value is not ...}
    write_json(path, {**entries, "card_sha256": digest(entries)})
