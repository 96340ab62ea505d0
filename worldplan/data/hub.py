"""Folders on the Hugging Face hub, by their address `hf://OWNER/NAME@REVISION`. huggingface_hub does the talking."""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from worldplan.data.files import atomic_write
from worldplan.errors import BadFile, HubError, InvalidInput, MissingExtra
from worldplan.provenance import pinned, record_commit
from worldplan.version import __version__

Source = Callable[[str, int], bytes | None]
"""The bytes of a file by its name, at most so many; None if there is no such file."""
_FORM = "hf://OWNER/NAME or hf://OWNER/NAME@REVISION"
_SCHEME, _MAIN = "hf://", "main"
_REPOSITORY, _REVISION, _COMMIT = r"\w[\w.-]*/\w[\w.-]*", r"\w[\w./-]*", "[0-9a-f]{40}"
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_FOLDERS: dict[tuple[str, str], Path] = {}


def is_address(name: object) -> bool:
    """Whether a name means the hub. A `Path` never does."""
    return isinstance(name, str) and name.startswith(_SCHEME)


def fetch(address: str, card: str, copy: Callable[[Source, Path], None]) -> Path:
    """A folder with the files behind an address; it lasts as long as this process.

    The client keeps what it downloads in its own cache (`HF_HOME`, `HF_HUB_CACHE`), of files under their hashes. A
    revision in this cache is the old one or the new one: it points to a commit only when all files are there and
    checked. A process sees one commit of an address, and `provenance` tells which.

    Args:
        address: `hf://OWNER/NAME`, or with `@` and a branch, a tag or a commit.
        card: name of the file that such a folder must have.
        copy: writes to a folder what a source gives, or raises BadFile.

    Raises:
        InvalidInput: it is no address.
        MissingExtra: huggingface_hub is not installed.
        HubError: no such repository or revision, none for you, or the hub cannot be reached and the cache lacks it.
        BadFile: a file is missing, too large, altered, or of another format.
    """
    if (address, card) not in _FOLDERS:
        folder = _fetch(address, card, copy)
        _FOLDERS[address, card] = _FOLDERS[pinned(address), card] = folder
    return _FOLDERS[address, card]


def _fetch(address: str, card: str, copy: Callable[[Source, Path], None]) -> Path:
    repository, revision = _parts(address)
    commit = _commit(address, repository, revision, card)
    home = Path(tempfile.mkdtemp(prefix="worldplan-"))
    folder = home / f"{repository.replace('/', '--')}@{commit}"  # as it stands in errors of whoever reads it
    try:
        copy(partial(_file, repository, commit), folder)
    except BaseException as error:
        shutil.rmtree(home, ignore_errors=True)
        if not isinstance(error, BadFile):
            raise
        name = error.path.relative_to(folder) if error.path.is_relative_to(folder) else error.path
        raise BadFile(
            f"{_SCHEME}{repository}@{commit}",
            f"{name}: {error.reason}. Name another revision; if the local cache is damaged, clear it: "
            f"hf cache rm model/{repository}",
        ) from error
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    _remember(repository, revision, commit, card)
    record_commit(address, commit)
    return folder


def _parts(address: str) -> tuple[str, str]:
    """Repository and revision of an address. Raises InvalidInput."""
    found = re.fullmatch(f"{_SCHEME}({_REPOSITORY})(?:@({_REVISION}))?", address, re.ASCII)
    if found is None or ".." in address:
        raise InvalidInput(f"{address[:200]!r} is no address on the hub; the form is {_FORM}")
    return found[1], found[2] or _MAIN


def address_of(repository: str, revision: str = _MAIN) -> str:
    """The address of OWNER/NAME, without the branch if that is `main`. Raises InvalidInput if it is no address."""
    address = f"{_SCHEME}{repository}" + ("" if revision == _MAIN else f"@{revision}")
    if _parts(address) != (repository, revision):
        raise InvalidInput(f"{repository[:200]!r} is no name on the hub; the form is OWNER/NAME")
    return address


def _client(what: str) -> Any:
    """A client of the hub. Raises MissingExtra."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtra(what, "hub") from error
    return huggingface_hub.HfApi(library_name="worldplan", library_version=__version__)


def _commit(address: str, repository: str, revision: str, card: str) -> str:
    """The commit of a revision; of the local cache, with a warning, if the hub cannot be reached."""
    api = _client(address)
    from huggingface_hub import constants, errors, try_to_load_from_cache

    if re.fullmatch(_COMMIT, revision):
        return revision
    with _told(address):
        try:
            commit = str(api.model_info(repository, revision=revision, timeout=constants.DEFAULT_ETAG_TIMEOUT).sha)
        except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
            cached = try_to_load_from_cache(repository, card, revision=revision)
            if (_status(error) or 500) < 500 or not isinstance(cached, str):
                raise
            commit = Path(cached).parent.name
            if not constants.HF_HUB_OFFLINE:
                warnings.warn(f"{address}: the hub cannot be reached; taken from the cache: {commit}", stacklevel=2)
    if not re.fullmatch(_COMMIT, commit):
        raise HubError(address, f"the hub names no commit, but {commit[:100]!r}; look at HF_ENDPOINT")
    return commit


def _file(repository: str, commit: str, name: str, limit: int) -> bytes | None:
    """Content of a file of a commit, from the cache or from the hub; None if the commit has no such file."""
    from huggingface_hub import _CACHED_NO_EXIST, errors, hf_hub_download, try_to_load_from_cache

    with _told(f"{_SCHEME}{repository}@{commit}"):
        cached = try_to_load_from_cache(repository, name, revision=commit)
        if cached is _CACHED_NO_EXIST:
            return None
        try:
            path = hf_hub_download(repository, name, revision=commit, tqdm_class=_bounded(name, limit))
        except errors.RemoteEntryNotFoundError:
            return None
        _check_size(name, Path(path).stat().st_size, limit)
        return Path(path).read_bytes()


def _bounded(name: str, limit: int) -> type[Any]:
    """A progress bar that ends a download of more than `limit` bytes, told or come; the client compares the two."""

    class Bounded(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, total: float | None = None, **options: Any) -> None:
            _check_size(name, total or 0, limit)
            self.come = 0.0
            options.setdefault("disable", None)  # a bar for people only
            super().__init__(*args, total=total, **options)  # type: ignore[call-overload]

        def update(self, n: float | None = 1) -> bool | None:
            self.come += n or 0
            _check_size(name, self.come, limit)
            return super().update(n)

    return Bounded


def _check_size(name: str, size: float, limit: int) -> None:
    if size > limit:
        raise BadFile(name, f"is larger than the {limit / 2**20:.0f} MiB that such a file may have")


def _remember(repository: str, revision: str, commit: str, card: str) -> None:
    """Point the cache's revision to a commit, as the client does for single files; for when the hub is out of reach."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(repository, card, revision=commit)
    if isinstance(cached, str) and revision != commit:
        with suppress(OSError), atomic_write(Path(cached).parents[2] / "refs" / revision) as stream:
            stream.write(commit.encode())


def upload(folder: Path, repository: str, *, revision: str, private: bool, message: str) -> str:
    """Put the files of a folder into a repository as one commit; returns its address.

    Args:
        folder: its files go up, all of them.
        repository: OWNER/NAME; made if it is not there.
        revision: a branch; made if it is not there.
        private: make a private repository.
        message: of the commit.

    Raises:
        InvalidInput: no such name.
        MissingExtra: huggingface_hub is not installed.
        HubError: you may not write there, the hub cannot be reached, or a public repository stands there in place of a
            private one.
    """
    address = address_of(repository, revision)
    api = _client("pushing to the hub")
    from huggingface_hub import CommitOperationAdd

    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    operations = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files]
    with _told(address):
        api.create_repo(repository, private=private or None, exist_ok=True)
        if private and not api.model_info(repository).private:
            raise HubError(address, "is there already, and public; change that in its settings, or take another name")
        if revision != _MAIN:
            api.create_branch(repository, branch=revision, exist_ok=True)
        commit = api.create_commit(repository, operations, commit_message=message, revision=revision).oid
    for known in [key for key in _FOLDERS if _parts(key[0])[0] == repository]:
        del _FOLDERS[known]  # its branches may be others now
    return f"{_SCHEME}{repository}@{commit}"


def _status(error: BaseException) -> int | None:
    """The status of the hub's answer; None if there was none."""
    return getattr(getattr(error, "response", None), "status_code", None)


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Raise HubError, which says what to do, for what the client raises."""
    from huggingface_hub import constants, errors

    faults = errors.HTTPError, OSError  # type: ignore[attr-defined]
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(address, f"is gated: ask for access on its page, then {_LOG_IN}") from error
    except errors.RevisionNotFoundError as error:
        raise HubError(address, "the repository has no such revision; name a branch, tag or commit of it") from error
    except (*faults, ValueError, KeyError, TypeError, RuntimeError) as raised:
        cause = (raised.__cause__ or raised) if isinstance(raised, RuntimeError) else raised
        status, said = _status(cause), str(cause).strip().partition("\n")[0]
        if isinstance(cause, errors.RepositoryNotFoundError) or status in (401, 403):
            reason = f"no such repository, or not for you: look at its name; if it is private or yours, {_LOG_IN}"
        elif constants.HF_HUB_OFFLINE and isinstance(cause, OSError):
            reason = "needs the hub, and HF_HUB_OFFLINE is set; unset it: what came once is then in the local cache"
        elif status is None and isinstance(cause, faults):
            reason = f"the hub cannot be reached, or broke off ({said}); look at the network and HF_ENDPOINT, try again"
        else:
            reason = f"so the hub answered, or its client refuses: {said}; look at the name and HF_ENDPOINT"
        raise HubError(address, reason) from raised
