"""Objects by name: `module:object`, of the user's own code."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any

from worldplan.errors import InvalidInput

_TRUST = "WORLDPLAN_TRUST_CODE"  # in the environment, which workers inherit


def trust_code() -> None:
    """From now on, folders may name code of the user's that is run to load them (`--trust-code`)."""
    os.environ[_TRUST] = "1"


def code_trusted() -> bool:
    """Whether folders may name code that is run to load them."""
    return os.environ.get(_TRUST) == "1"


def check_module(spec: str, form: str) -> None:
    """Raise InvalidInput unless `spec` is `module:object` of a module, or of a package, that is there; runs no code."""
    top = _parts(spec, form)[0].partition(".")[0]
    if top not in sys.modules and (not top or importlib.util.find_spec(top) is None):
        raise InvalidInput(f"cannot import {spec!r} (no module named {top!r}); the form is {form}")


def named_object(spec: str, form: str) -> Any:
    """Import `module:object`, from the current folder too.

    Args:
        spec: what the user wrote.
        form: what it should look like, for the error.

    Raises:
        InvalidInput: not of that form, or no such module or object.
    """
    module, path = _parts(spec, form)
    try:
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise InvalidInput(f"cannot import {spec!r} ({error}); the form is {form}") from error
    return found


def _parts(spec: str, form: str) -> tuple[str, str]:
    """Module and object of `module:object`; modules in the current folder are found from now on."""
    if not re.fullmatch(r"[\w.]+:[\w.]+", spec):
        raise InvalidInput(f"{spec!r} is not of the form {form}")
    module, _, path = spec.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return module, path
