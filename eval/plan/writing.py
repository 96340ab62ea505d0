"""The files of a plan: numbers, pictures and film, of one run all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worldplan.data.files import atomic_write, write_json

FILMS = "plan.gif", "plan.mp4"


def write_pictures(folder: Path | str, pictures: Mapping[str, bytes], facts: Mapping[str, Any]) -> list[Path]:
    """Write pictures by name and `plan.json`, each whole or not at all; returns their paths.

    The folder is made if missing, and files of an earlier run are replaced.
    """
    for name, data in pictures.items():
        with atomic_write(Path(folder) / name) as stream:
            stream.write(data)
    for name in set(FILMS) - set(pictures):  # an earlier run's film would not match these numbers
        (Path(folder) / name).unlink(missing_ok=True)
    write_json(Path(folder) / "plan.json", facts)
    return [Path(folder) / name for name in ("plan.json", *pictures)]
