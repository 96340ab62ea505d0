"""What all verbs share: seed, output as tables or JSON, progress bars."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

Config = TypeVar("Config")

Profile = Literal["dmc", "fast"]
Target = Literal["hard", "easy", "hidden"]
Angles = Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="SHOULDER WRIST")]
Name = Annotated[str | None, tyro.conf.arg(metavar="NAME|FOLDER")]
Planner = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]


@dataclass(frozen=True, kw_only=True)
class Verb:
    """Options of every verb.

    Args:
        seed: seed of everything random; the same seed gives the same result.
        json: print the result as JSON on standard output, in place of tables.
    """

    seed: int = 0
    json: bool = False

    def run(self, command: str) -> int:
        """Do it; returns the exit status. `command` is the command line, for provenance."""
        raise NotImplementedError

    def advice(self, command: str) -> str:
        """What to do after an interruption."""
        return f"to start again: {command}"

    def show(
        self,
        facts: dict[str, Any],
        title: str,
        columns: Sequence[str] = (),
        rows: Iterable[Sequence[str]] = (),
        notes: Iterable[str] = (),
    ) -> None:
        """Print `facts` as JSON, or the same as a table for people."""
        if self.json:
            print(dumps(facts, indent=2))
            return
        console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False)
        console.print(title, style="bold")
        if columns:
            table, lines = Table(*columns, show_header=any(columns)), [list(row) for row in rows]
            words = [word for line in lines for word in line[0].split()]
            table.columns[0].min_width = max(map(len, words), default=0)  # a name cut short is no name
            for line in lines:
                table.add_row(*map(Text, line))
            console.print(table)
        for note in notes:
            console.print(note)


def config_of(kind: Callable[..., Config], verb: Verb, **more: Any) -> Config:
    """A library's configuration with the options of the same names."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: getattr(verb, name) for name in names - set(more) if hasattr(verb, name)}, **more)


def bar(what: str) -> Callable[[Iterator[Any], int], Iterator[Any]]:
    """A progress bar on standard error, for whoever watches."""
    return lambda items, total: iter(tqdm(items, desc=what, total=total, disable=None, leave=False))
