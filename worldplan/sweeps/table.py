"""The results of a sweep as one table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from worldplan.data.files import atomic_write
from worldplan.sweeps.run import Outcome


def rows_of(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    """A row for each job: its key, state (done, failed or waiting), reason, arguments and results by dotted names."""
    return [
        {
            "job": outcome.job.key,
            "state": "done" if outcome.done else "failed" if outcome.reason else "waiting",
            "reason": outcome.reason,
            **flat(outcome.job.identity["arguments"]),
            **flat(outcome.result, "" if isinstance(outcome.result, dict) else "result"),
        }
        for outcome in outcomes
    ]


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Numbers and words of nested JSON objects, by dotted names; lists of words as one, other lists not at all."""
    if isinstance(value, dict):
        parts = ((f"{name}.{key}" if name else str(key), item) for key, item in value.items())
        return {key: leaf for part, item in parts for key, leaf in flat(item, part).items()}
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return {name: " ".join(value)} if value else {}
    return {name: value} if isinstance(value, bool | int | float | str) else {}


def write_csv(rows: Sequence[dict[str, Any]], path: Path | str) -> None:
    """Write rows of a table as CSV, whole or not at all; a column for each name, in the order in which they come."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path) as stream:
        stream.write(text.getvalue().encode(errors="backslashreplace"))  # names of files need not be UTF-8
