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

from worldplan.data.files import inside, read_json, to_json, write_json
from worldplan.errors import BadFile, InvalidInput
from worldplan.version import __version__


@dataclass(frozen=True, eq=False)
class Job:
    """A function and its arguments: `function(**arguments, **context, folder=...)`, which returns JSON values.

    The folder is the job's own, for what it wants to keep; the function makes it. A job that was killed finds there
    what it left, and may go on.

    Args:
        function: importable where the job runs, or picklable by Ray and joblib.
        arguments: JSON values; with the function's name and worldplan's version they are the job's address.
        context: arguments that do not change the result, such as where files lie.

    Raises:
        InvalidInput: arguments that JSON does not hold.
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
        module = self.function.__module__
        if module == "__main__":  # a script's name, whoever runs it
            module = Path(getattr(sys.modules["__main__"], "__file__", None) or module).stem
        name = f"{module}:{self.function.__qualname__}"
        try:
            arguments = json.loads(to_json(self.arguments, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"the arguments of {name} are no JSON values ({error})") from error
        return {"function": name, "arguments": arguments, "worldplan": __version__}


class ResultFolder:
    """`results/KEY.json` of each job that is done, written whole or not at all; `work/KEY` is a job's own folder."""

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
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"the result of {job.identity['function']} is no JSON value ({error})") from error
        write_json(self._path(job), {**job.identity, "result": kept})

    def read(self, job: Job) -> Any:
        """The result of a job.

        Raises:
            BadFile: there is none, or its file holds another job's.
        """
        kept = read_json(self._path(job))
        if {name: kept.get(name) for name in job.identity} != job.identity or "result" not in kept:
            raise BadFile(self._path(job), "holds the result of another job; remove it, and run the sweep again")
        return kept["result"]

    def _path(self, job: Job) -> Path:
        return inside(self.folder / "results", f"{job.key}.json")
