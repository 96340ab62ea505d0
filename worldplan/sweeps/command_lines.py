"""Command lines with braces as jobs: `pretrain runs/pairs --seed {0,1,2}` is three of them."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from worldplan.data.files import held
from worldplan.errors import InvalidInput, JobFailed
from worldplan.sweeps.jobs import Job, checksum
from worldplan.sweeps.table import flat

_BRACES = re.compile(r"\{([^{}]*)\}")
WRONG_INPUT = 2  # exit status
LONGEST = 60  # characters of a word that goes into the table
MOST = 100_000  # command lines that a line stands for
LARGEST = 4_000_000  # bytes of a JSON file whose numbers go into the table


def expand(line: str) -> list[list[str]]:
    """The words of every command line that a line with braces stands for, the last braces turning fastest.

    `{a,b}` stands for each of its parts, `{0..4}` for each whole number; several give all combinations.

    Raises:
        InvalidInput: quotes or braces that do not close, braces with nothing to choose from, or too many command lines.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise InvalidInput(f"{line!r} is no command line ({error})") from error
    chosen = [_choices(part) for word in words for part in _BRACES.findall(word)]
    if any(set("{}") & set(_BRACES.sub("", word)) for word in words):
        raise InvalidInput(f"{line!r}: braces open and close once, such as --seed {{0,1,2}} or --seed {{0..4}}")
    if (count := math.prod(map(len, chosen))) > MOST:
        raise InvalidInput(f"{line!r} stands for {count:.3g} command lines; a sweep takes {MOST} at most")
    found = []
    for values in product(*chosen):
        left = iter(values)
        found.append([_BRACES.sub(lambda _, left=left: str(next(left)), word) for word in words])  # type: ignore[misc]
    return found


def _choices(inside: str) -> Sequence[Any]:
    values: Sequence[Any] = inside.split(",")
    if span := re.fullmatch(r"(-?\d{1,9})\.\.(-?\d{1,9})", inside):
        values = range(int(span[1]), int(span[2]) + 1)
    if len(values) < 2:
        raise InvalidInput(f"{{{inside}}} leaves no choice; write {{a,b}}, or {{0..4}}")
    return values


def command_job(words: Sequence[str], verb: type[Any], more: Sequence[str] = ()) -> Job:
    """A command line of worldplan, without `--out`, as a job: done when it ends with exit status 0.

    Files and folders that its words name are part of its address, by the checksums of what they hold.

    Args:
        words: verb and options.
        verb: the verb's class: whether it has `--out` (a folder, or a file) and `--resume`.
        more: options that do not change the result.

    Raises:
        InvalidInput: `--out` or `--resume` among the words, which the sweep chooses; or a verb without `--out`.
    """
    if not hasattr(verb, "out"):
        raise InvalidInput(f"{words[0]} has no --out: a sweep keeps what commands write")
    for taken in ("--out", "--resume"):
        if any(word == taken or word.startswith(f"{taken}=") for word in words):
            raise InvalidInput(f"leave {taken} out: a sweep gives every command a folder, and goes on with it itself")
    inputs = {word: found for word in words if (found := checksum(Path(word)))}
    file = "result.json" if verb.writes_file else ""
    how = {"cwd": Path.cwd(), "more": list(more), "resumable": hasattr(verb, "resume"), "file": file}
    return Job(run_command, {"words": list(words), "inputs": inputs}, how)


def _status(command: list[str], cwd: Path, log: Path) -> int:
    with log.open("ab") as stream:
        return subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream).returncode


def run_command(
    words: list[str], inputs: dict[str, str], cwd: Path, more: list[str], resumable: bool, file: str, folder: Path
) -> dict[str, Any]:
    """Run a command of worldplan in a process of its own; see `command_job`.

    Args:
        words: verb and options.
        inputs: checksums of what they name; not looked at.
        cwd: folder in which the words make sense.
        more: more options.
        resumable: whether the verb has `--resume`.
        file: name for a verb that writes a file in place of a folder.
        folder: where it writes; what it prints goes to `folder.log`.

    Returns:
        The numbers and words of the JSON files that it wrote, by file and dotted name.

    Raises:
        JobFailed: it did not; the last line that it printed is the message.
        BadFile: another process, left from a call that was killed, still writes to the folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    log, out = folder.with_suffix(".log"), str(folder / file)
    command = [sys.executable, "-m", "worldplan", *words, *more, "--out", out]
    # What a killed one left is gone on with. It is made anew if that cannot be, such as after its last step.
    status = _status([*command, "--resume"], cwd, log) if resumable and folder.exists() else WRONG_INPUT
    if status == WRONG_INPUT:
        if folder.exists():
            with held(folder):  # or its writer still lives
                shutil.rmtree(folder)
        if file:
            folder.mkdir()
        status = _status(command, cwd, log)
    if status:
        last = [text for text in log.read_text(errors="replace").splitlines() if text.strip()][-1:]
        raise JobFailed(f"exit status {status}: {' '.join(last)}; all that it printed is in {log.name}")
    found = dict[str, Any]()
    for path in sorted(folder.glob("*.json")):
        if path.stat().st_size <= LARGEST:
            found |= flat(json.loads(path.read_text()), path.stem)
    # The command line holds the folder, which is not part of a result; long words, such as checksums, are no column.
    return {
        name: value
        for name, value in found.items()
        if name.split(".")[-1] != "command" and not (isinstance(value, str) and len(value) > LONGEST)
    }
