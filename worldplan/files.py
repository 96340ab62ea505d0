"""Files that are either whole or absent: temporary name, sync, rename; JSON and SHA-256 beside them."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from worldplan.errors import BadFile


@contextmanager
def atomic_write(path: Path | str) -> Iterator[IO[bytes]]:
    """Open a binary file that appears under `path` only when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)  # mkstemp makes private files; these are results to share
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sha256(path: Path | str) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically, keys in their given order."""
    with atomic_write(path) as stream:
        stream.write((json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BadFile: the file is missing, is no JSON or holds no object.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFile(path, "no such file") from error
    except (ValueError, OSError) as error:
        raise BadFile(path, f"cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise BadFile(path, "holds no JSON object")
    return value
