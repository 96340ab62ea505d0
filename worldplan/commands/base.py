"""What all verbs share: seed, threads, output as tables or JSON, places to write to, progress bars."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar, Union

import tyro
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from tqdm import tqdm

from worldplan.checks import positive_int
from worldplan.errors import BadFile, InvalidInput
from worldplan.named import trust_code
from worldplan.rounding import rounded

if TYPE_CHECKING:
    from worldplan.envs.world.world import World
    from worldplan.eval.show.table import Table

Config = TypeVar("Config")
WORLD_OPTIONS = "steps", "ahead", "hold"  # of plans in other worlds than the Reacher
HEARTBEAT = 30.0  # seconds between lines of progress where standard error is no terminal
REACHER = "reacher"  # the world that ships, and that most verbs take unless told otherwise

NAMED = "NAME|FOLDER|hf://OWNER/NAME"  # what loads an encoder or an agent
Name = Annotated[str | None, tyro.conf.arg(metavar=NAMED)]
Planner = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]


@dataclass(frozen=True, kw_only=True)
class Verb:
    """Options of every verb.

    Args:
        seed: seed of everything random; the same seed gives the same result.
        json: print the result as JSON on standard output, in place of tables.
        trust_code: run the code that a folder names, of an encoder whose network is your own.
    """

    writes_file: ClassVar[bool] = False  # --out is a file, in place of a folder

    seed: int = 0
    json: bool = False
    trust_code: bool = False

    def __post_init__(self) -> None:
        """Nothing: a verb has the fields of a configuration, but is checked when that is made, after parsing."""

    def check(self) -> None:
        """Check the options that verbs share, after parsing, and set torch's threads on the CPU.

        Says so where --resume starts in a new folder: its name may be mistaken.

        (In `__post_init__`, tyro would report an error as a usage error.)

        Raises:
            InvalidInput: a seed that NumPy or torch does not take, or less than one thread.
            BadFile: nothing could be written to --out.
        """
        if not 0 <= self.seed < 2**63:
            raise InvalidInput(f"--seed must be an integer from 0 to 2^63 - 1, got {self.seed}")
        if self.trust_code:
            trust_code()
        out, threads = getattr(self, "out", None), getattr(self, "threads", None)
        if isinstance(out, Path):
            (writable_file if self.writes_file else writable_folder)(out)
            if getattr(self, "resume", False) and not (out.exists() and any(out.iterdir())):
                print(f"{out} holds nothing yet; --resume starts there", file=sys.stderr)
        if threads is not None and positive_int("--threads", threads) and self.uses_torch:
            set_threads(threads)

    @property
    def uses_torch(self) -> bool:
        """Whether torch is worth its seconds of import."""
        return True

    def run(self, command: str) -> int:
        """Do it; returns the exit status. `command` is the command line, for provenance."""
        raise NotImplementedError

    def advice(self, command: str) -> str:
        """What to do after an interruption."""
        return f"to start again: {without_resume(command)}"

    def keep(self, command: str, facts: dict[str, Any], table: Table, path: Path | None, *more: Path) -> None:
        """Write `facts` and where they came from to `path`, and show them; `more` was written already."""
        from worldplan.data.files import write_json
        from worldplan.provenance import provenance

        if path is not None:
            write_json(path, {**provenance(command, self.seed), **facts})
            table = table.also(f"Written: {', '.join(map(str, (path, *more)))}")
        self.show(facts, table)

    def show(self, facts: dict[str, Any], table: Table) -> None:
        """Print `facts` as JSON, or the same as a table for people."""
        if self.json:
            print(dumps(facts, indent=2))
            return
        known = sys.stdout.isatty() or "COLUMNS" in os.environ
        console = Console(width=None if known else 120, highlight=False, markup=False)
        console.print(table.title, style="bold")
        heads, lines = table.lines()
        columns = list(zip(heads, *lines, strict=True))
        least = [max(map(longest_word, column)) for column in columns]  # a name or a number cut short is none
        wanted = [max(len(line) for cell in column for line in cell.split("\n")) for column in columns]
        for part in column_parts(least, console.width) if lines else []:
            drawn = RichTable(*[heads[k] for k in part], show_header=any(heads))
            given = column_widths([(least[k], wanted[k]) for k in part], console.width - 3 * len(part) - 1)
            for column, width in zip(drawn.columns, given, strict=True):
                column.width = width
            for line in lines:
                drawn.add_row(*[Text(line[k]) for k in part])
            console.print(drawn)
        for note in table.notes:
            console.print(note)


def longest_word(cell: str) -> int:
    """Characters of the longest word in a cell."""
    return max(map(len, cell.split()), default=0)


def column_parts(widths: list[int], room: int) -> list[list[int]]:
    """Columns of the least `widths` in groups that fit into `room` characters, each with the first column."""
    parts, left = [[0]], room - widths[0] - 4
    for k, width in enumerate(widths[1:], 1):
        if len(parts[-1]) > 1 and width + 3 > left:
            parts.append([0])
            left = room - widths[0] - 4
        parts[-1].append(k)
        left -= width + 3
    return parts


def column_widths(columns: list[tuple[int, int]], room: int) -> list[int]:
    """Widths of columns of least and wanted widths: the least, and what is left of `room` to the narrowest in want."""
    widths = [least for least, _ in columns]
    for _ in range(room - sum(widths)):
        short = [k for k, (_, wanted) in enumerate(columns) if widths[k] < wanted]
        if not short:
            break
        widths[min(short, key=lambda k: widths[k])] += 1
    return widths


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Where jobs run.

    Args:
        on: processes of this machine; or a Ray cluster: ray, the one that this machine belongs to, or ray://HOST:PORT.
        shard: K/N: only every N-th job, from the K-th on, for N calls that share --out, such as those of a job array.
    """

    on: Annotated[str, tyro.conf.arg(metavar="processes|ray|ray://HOST:PORT")] = "processes"
    shard: Annotated[str, tyro.conf.arg(metavar="K/N")] = "1/1"

    def place(self) -> dict[str, Any]:
        """The options as arguments of `run_jobs`. Raises InvalidInput for a shard of another form."""
        if not re.fullmatch(r"\d+/\d+", self.shard):
            raise InvalidInput(f"--shard is K/N, such as 1/4, got {self.shard!r}")
        k, n = map(int, self.shard.split("/"))
        return {"on": self.on, "shard": (k, n)}


@dataclass(frozen=True, kw_only=True)
class WorldOptions:
    """Which world.

    Args:
        env: world: reacher; dm_control/DOMAIN-TASK; the id of a Gymnasium environment; or module:factory, a function
            of your own that gives an environment or a World.
        size: pixels a side of the frames; by default 64, or the world's own.
        repeat: steps of the environment for which an action is repeated; by default 1, or the world's own.
    """

    env: Annotated[str, tyro.conf.arg(metavar="ID")] = REACHER
    size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    repeat: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None

    def world(self) -> World:
        """The world of these options. Raises UnknownName or InvalidInput if there is none."""
        from worldplan.envs.world.registry import find_world

        return find_world(self.env, self.size, self.repeat)


def one_of(verbs: Mapping[str, type[Any]]) -> Any:
    """A type of which tyro makes these subcommands."""
    named = (Annotated[verb, tyro.conf.subcommand(name)] for name, verb in verbs.items())
    return Union[tuple(named)]  # noqa: UP007 - `|` joins two, not a list


def option(name: str) -> str:
    """The option of a field."""
    return f"--{name.replace('_', '-')}"


def refuse_others(verb: WorldOptions, config: type[Any], names: Iterable[str]) -> None:
    """Raise InvalidInput if fields of a configuration were set that only the Reacher has, all but these `names`."""
    allowed, fixed = set(names), {field.name: field.default for field in fields(config)}
    given = [option(name) for name in fixed if name not in allowed and getattr(verb, name) != fixed[name]]
    if given:
        raise InvalidInput(f"{', '.join(given)}: only the Reacher has these; leave them out for {verb.env}")


def config_of(kind: Callable[..., Config], verb: Verb, **more: Any) -> Config:
    """A library's configuration with the options of the same names."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: getattr(verb, name) for name in names - set(more) if hasattr(verb, name)}, **more)


def set_threads(threads: int) -> None:
    """Set the threads of torch on the CPU."""
    import torch

    torch.set_num_threads(threads)


def writable_folder(path: Path) -> None:
    """Raise BadFile, before any work, if it or the nearest of its parents that exists takes no files.

    Nothing is made: wrong input leaves no trace.
    """
    there = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
    if not there.is_dir():
        raise BadFile(there, "is no folder; choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadFile(there, "must not be written to; choose another --out, or change its permissions")


def writable_file(path: Path) -> None:
    """Raise BadFile, before any work, if it is a folder, or lies in a place that must not be written to."""
    if path.is_dir():
        raise BadFile(path, "is a folder; name a file with --out")
    writable_folder(path.parent)


def without_resume(command: str) -> str:
    """The command line that started what --resume goes on with."""
    return shlex.join(word for word in shlex.split(command) if word != "--resume")


def bar(what: str) -> Callable[[Iterator[Any], int], Iterator[Any]]:
    """A progress bar on standard error; where nobody watches, a line every half minute, after the first."""

    def watched(items: Iterator[Any], total: int) -> Iterator[Any]:
        pause = 0.0 if sys.stderr.isatty() else HEARTBEAT
        return iter(tqdm(items, desc=what, total=total, delay=pause, mininterval=pause or 0.1, leave=False))

    return watched


class TrainingBar:
    """Progress of training, with its last row; a line every half minute where nobody watches."""

    def __init__(self) -> None:
        self._bar: Any = None

    def _new(self, steps: Any, **options: Any) -> Any:
        pause = 0.1 if sys.stderr.isatty() else HEARTBEAT
        self._bar = tqdm(steps, desc="training steps", mininterval=pause, **options)
        return self._bar

    def start(self, steps: Iterator[int], start: int, total: int) -> Iterator[int]:
        """Wrap the iterator of steps."""
        return iter(self._new(steps, initial=start, total=total))

    def move(self, done: int, total: int) -> None:
        """`done` of `total` steps were made; nothing is drawn before the first."""
        shown = self._bar or self._new(None, total=total)
        shown.update(done - shown.n)

    def show(self, row: dict[str, float]) -> None:
        """Show a logged row: the terms of the loss, or the return of an evaluation."""
        terms = {k: rounded(v) for k, v in row.items() if k not in ("step", "gradient") and "validation" not in k}
        self._bar.set_postfix(terms, refresh=False)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
