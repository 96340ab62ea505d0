"""Jobs that are known by their content, and the folder that holds what they gave."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from worldplan.data.files import inside, read_json, sha256, to_json, write_json
from worldplan.data.shards import digest
from worldplan.errors import BadFile, InvalidInput
from worldplan.version import __version__

_SUM = "sha256"  # of the other entries of a result's file


@dataclass(frozen=True, eq=False)
class Job:
    """A function and its arguments: `function(**arguments, **context, folder=...)`, which returns JSON values.

    The folder is the job's own, for what it wants to keep; the function makes it. A job that was killed finds there
    what it left, and may go on.

    Args:
        function: one that a module holds under its name, and that can be imported where the job runs.
        arguments: JSON values; with the function's name and worldplan's version they are the job's address.
        context: arguments that do not change the result, such as where files lie.

    Raises:
        InvalidInput: another function, whose name does not tell what it computes, arguments that JSON does not hold, or
            one name for two of them.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    context: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """The address: 16 hexadecimal digits of a SHA-256."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the address is made of, as JSON holds it."""
        name = _name(self.function)
        try:
            names = [*self.arguments.keys(), *self.context.keys(), "folder"]
            arguments = json.loads(to_json(self.arguments, allow_nan=False))
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise InvalidInput(f"the arguments of {name} are no JSON values by name ({error})") from error
        if len(set(names)) < len(names) or not all(isinstance(one, str) for one in names):
            raise InvalidInput(f"{name}: arguments and context have names of their own, other than folder, got {names}")
        return {"function": name, "arguments": arguments, "worldplan": __version__}


def _name(function: Any) -> str:
    """`module:function`. Raises InvalidInput for closures, methods and others: several may have one name."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    found: Any = sys.modules.get(module) if isinstance(module, str) else None
    for part in str(name).split("."):
        found = getattr(found, part, None)
    if found is None or found is not function:
        raise InvalidInput(f"a job's function is one that a module holds under its name, got {function!r}")
    if module == "__main__":  # a script's name, whoever runs it
        module = Path(getattr(sys.modules["__main__"], "__file__", None) or module).stem
    return f"{module}:{name}"


class ResultFolder:
    """`results/KEY.json` of each job that is done, written whole or not at all; `work/KEY` is a job's own folder.

    A result has a SHA-256 over it and the job's address.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).absolute()

    def work(self, job: Job) -> Path:
        """The job's own folder."""
        return self.folder / "work" / job.key

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """Jobs without a result, each once."""
        return list({job.key: job for job in jobs if not self._path(job).exists()}.values())

    def write(self, job: Job, result: Any) -> None:
        """Keep a result. Raises InvalidInput if JSON does not hold it."""
        try:
            kept = json.loads(to_json(result))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(f"the result of {job.identity['function']} is no JSON value ({error})") from error
        entries = {**job.identity, "result": kept}
        write_json(self._path(job), {**entries, _SUM: digest(entries)})

    def read(self, job: Job) -> Any:
        """The result of a job.

        Raises:
            BadFile: there is none, or its file was altered, or holds another job's.
        """
        kept = read_json(self._path(job))
        if kept.pop(_SUM, None) != digest(kept):
            raise BadFile(self._path(job), "was altered since it was written; remove it, and run the sweep again")
        if {name: kept.get(name) for name in job.identity} != job.identity or "result" not in kept:
            raise BadFile(self._path(job), "holds the result of another job; remove it, and run the sweep again")
        return kept["result"]

    def _path(self, job: Job) -> Path:
        return inside(self.folder / "results", f"{job.key}.json")


def checksum(path: Path) -> str:
    """Checksum of a file, or of the JSON files of a folder, which hold those of the others; empty for neither."""
    try:
        if path.is_file():
            return sha256(path)
        return "".join(sha256(file)[:16] for file in sorted(path.glob("*.json"))) if path.is_dir() else ""
    except OSError:  # no path that could be one, such as a very long word
        return ""
