"""What went wrong in a user's code, in one line: the error, and the line of that code where it arose."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from traceback import walk_tb
from types import CodeType

_STANDARD = sysconfig.get_path("stdlib")


def failure(error: BaseException) -> str:
    """`ValueError: what it says (encoder.py:12 in Encoder.__call__)`.

    The place is that of the last call within the user's own code: neither worldplan's, nor the standard library's, nor
    installed. Its file is relative to the current folder, or only a name. Errors that arose elsewhere have none.
    """
    place = next(_places(error), "")
    return f"{type(error).__name__}: {error}" + (f" ({place})" if place else "")


def _places(error: BaseException | None) -> Iterator[str]:
    """Lines of the user's code, the last call first: those of an error, then those of what caused it."""
    while error is not None:
        if isinstance(error, SyntaxError) and error.filename:  # the code did not run: no call stands for it
            yield f"{_short(error.filename)}:{error.lineno}"
        for frame, line in reversed(list(walk_tb(error.__traceback__))):
            if not f"{frame.f_globals.get('__name__')}.".startswith("worldplan.") and _own(frame.f_code):
                yield f"{_short(frame.f_code.co_filename)}:{line} in {frame.f_code.co_qualname}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _own(code: CodeType) -> bool:
    path = Path(code.co_filename)
    installed = {"site-packages", "dist-packages"} & set(path.parts) or path.is_relative_to(_STANDARD)
    return not installed and not code.co_filename.startswith("<frozen")


def _short(file: str) -> str:
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else path.name
