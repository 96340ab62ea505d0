"""Files that are either whole or absent (temporary name, sync, rename), JSON, and SHA-256."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from worldplan.errors import BadFile


@contextmanager
def atomic_write(path: Path | str) -> Iterator[IO[bytes]]:
    """Open a binary file that appears under `path` only if the block ends without an error.

    Raises OSError if it cannot be written, with `path` and, if it may be the cause, the free disk space in the message.
    """
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
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        # An error of a stream does not name the file, and NumPy's error after half an array has not even a number.
        if isinstance(error, OSError) and error.filename is None:
            raise _unwritten(path, error) from error
        raise


def _unwritten(path: Path, error: OSError) -> OSError:
    reason = f"{path} was not written: {error}"
    if error.errno in (None, errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(path.parent).free
        reason += f"; the disk may be full ({free / 1e6:.1f} MB are free): make room, or choose another"
    told = OSError(reason)
    told.errno = error.errno
    return told


@contextmanager
def held(folder: Path | str) -> Iterator[Path]:
    """Make a folder, and keep other writers out of it until the block ends, however it ends.

    The lock is the kernel's (`flock` of the folder): it leaves no file, and a process that dies lets go of it. File
    systems without such locks get none. Raises BadFile if another writer has it, in this process or in another.
    """
    folder = Path(folder)
    handle, made = _locked(folder)
    try:
        yield folder
    finally:
        if made:
            with suppress(OSError):  # another may write into it by now; the system removes only what is empty
                folder.rmdir()
        os.close(handle)


def _locked(folder: Path) -> tuple[int, bool]:
    """A folder, open and locked, and whether this call made it.

    One that its last holder removes meanwhile is made anew: a lock of what is gone keeps nobody out.
    """
    while True:
        made = _made(folder)
        with suppress(FileNotFoundError), ExitStack() as stack:
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                reason = f"is being written by {_holder(handle)}; wait for that, or choose another"
                raise BadFile(folder, reason) from error
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EBADF, errno.EINVAL):
                    raise
            if os.path.samestat(os.fstat(handle), os.stat(folder)):
                stack.pop_all()
                return handle, made


def _made(folder: Path) -> bool:
    """Make a folder; whether it was not there."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return False
    return True


def _holder(handle: int) -> str:
    """Who holds the lock of an open file, as far as the system tells."""
    inode = f":{os.fstat(handle).st_ino}"
    try:
        rows = (line.split() for line in Path("/proc/locks").read_text().splitlines())
        pids = [row[4] for row in rows if row[1] == "FLOCK" and row[5].endswith(inode)]
    except (OSError, IndexError):
        pids = []
    return f"process {pids[0]}" if pids else "another process"


def inside(folder: Path | str, name: object, suffix: str = "") -> Path:
    """The path of a plain name in a folder: the one way from a name in a file that we read to a path.

    Raises:
        BadFile: the name is no text, is empty, hidden, or has parts; it does not end with `suffix`; or it is a link
            that leads out of the folder.
    """
    folder = Path(folder)
    plain = isinstance(name, str) and 0 < len(name) <= 255 and not name.startswith(".") and not set(name) & set("/\\\0")
    if not plain or not str(name).endswith(suffix):
        what = f"a plain name of a file *{suffix} in it" if suffix else "a plain name in it"
        raise BadFile(folder, f"names {str(name)[:100]!r}, which is not {what}; use it only if you know who made it")
    path = folder / str(name)
    if path.is_symlink() and path.resolve().parent != folder.resolve():
        raise BadFile(path, "is a link out of its folder; put the file itself there")
    return path


def sha256(path: Path | str) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def to_json(value: Any, **options: Any) -> str:
    """A value as JSON text; NumPy's numbers and arrays as numbers and lists, paths as text.

    `options` are those of `json.dumps`. Raises TypeError for what JSON does not hold.
    """
    return json.dumps(value, default=_known_to_json, **options)


def _known_to_json(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} ({type(value).__name__}) has no JSON form")


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically, keys in their given order; values as in `to_json`."""
    text = to_json(value, indent=2) + "\n"
    with atomic_write(path) as stream:
        stream.write(text.encode())


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON object. Raises BadFile if the file is missing, is not JSON, or holds no object."""
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFile(path, "no such file") from error
    except (ValueError, OSError, RecursionError) as error:
        raise BadFile(path, f"cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise BadFile(path, "holds no JSON object")
    return value
