"""Errors of worldplan: one root, and a child for each thing that a caller can act on.

Every message says what was wrong and what to do; the evidence rides along as attributes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any


class WorldplanError(Exception):
    """Root of all errors that worldplan raises on purpose."""


class InvalidInput(WorldplanError, ValueError):
    """An argument has the wrong shape, type, range or holds values that are not finite."""


class UnknownName(WorldplanError, LookupError):
    """A name that is not registered; `known` lists the names that are."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = sorted(known)
        self._arguments = (kind, name, self.known)
        super().__init__(f"unknown {kind} {name!r}; known: {', '.join(self.known) or 'none'}")

    def __reduce__(self) -> tuple[Any, ...]:  # exceptions pickle their message alone: worker processes would hang up
        return type(self), self._arguments


class BadFile(WorldplanError):
    """A file is missing, truncated, altered or of a kind that worldplan does not read."""

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path, self.reason = Path(path), reason
        self._arguments = (path, reason)
        super().__init__(f"{path}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments


class HubError(WorldplanError):
    """The Hugging Face hub does not have what an address names, does not let us at it, or cannot be reached."""

    def __init__(self, address: str, reason: str) -> None:
        self.address, self.reason = address, reason
        super().__init__(f"{address}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.address, self.reason)


class NotStabilizable(WorldplanError):
    """No linear feedback stabilises the system; `modes` are the eigenvalues of A out of reach of B."""

    def __init__(self, message: str, modes: Any = ()) -> None:
        self.modes = modes
        super().__init__(message)


class SolverFailed(WorldplanError):
    """A solver returned no certified solution; `problem` and `status` say which and why."""

    def __init__(self, message: str, problem: Any = None, status: str = "") -> None:
        self.problem = problem
        self.status = status
        super().__init__(message)


class EncoderCollapsed(WorldplanError):
    """Pretraining ended with an encoder that maps (nearly) everything to one point or line."""


class ProcessLost(WorldplanError):
    """Another process of a distributed run has ended, or cannot be reached."""


class RenderingUnavailable(WorldplanError):
    """No headless OpenGL back end works on this machine."""


class MissingExtra(WorldplanError):
    """An optional package is not installed; `extra` is worldplan's name for it."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        self._arguments = (what, extra)
        super().__init__(f"{what} needs an optional package; run: pip install 'worldplan[{extra}]'")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments


class PlannerFellBack(RuntimeWarning):
    """A planner failed at a step or gave no action, and clipped LQR acted; the agent's state counts such steps."""


class RuntimeFellBack(RuntimeWarning):
    """ONNX Runtime is missing, or differs from torch by more than rounding; torch computes the encoder, slower."""


class UnfamiliarGoal(UserWarning):
    """A goal image is unlike everything that the encoder was trained on."""


class FingerprintMismatch(UserWarning):
    """Frames were rendered by another renderer than the one that an encoder or dataset was made with."""


class ClusterUnavailable(WorldplanError):
    """No cluster answers at an address."""


class JobFailed(WorldplanError):
    """A job of a sweep was not done; `result` is what there is nevertheless, a JSON value."""

    def __init__(self, message: str, result: Any = None) -> None:
        self.result = result
        self._arguments = (message, result)
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments
