"""Encoders and agents to the Hugging Face hub: the files that our loaders read, a model card, and nothing else."""

from __future__ import annotations

import re
import tempfile
from functools import partial
from pathlib import Path

from worldplan.agents.model_card import model_card
from worldplan.agents.planning_agent import CARDS as AGENTS, PlanningAgent, load_agent
from worldplan.data.cards import content_of
from worldplan.data.files import atomic_write, read_json
from worldplan.data.hub import address_of, upload
from worldplan.errors import BadFile, InvalidInput
from worldplan.learning.encoder import CARDS as ENCODERS, PixelEncoder, load_encoder

_README, _LONGEST = "README.md", 2**20


def push_to_hub(
    folder: Path | str,
    repository: str,
    *,
    revision: str = "main",
    private: bool = False,
    message: str = "",
    license: str = "",
    trust_code: bool = False,
) -> str:
    """Put an encoder or an agent on the hub, as one commit; returns its address with that commit, for `load_encoder`.

    Args:
        folder: what `save`, `worldplan pretrain` or `worldplan fit` wrote.
        repository: OWNER/NAME; made if it is not there.
        revision: a branch; made if it is not there.
        private: make a private repository.
        message: of the commit; empty for a usual one.
        license: see `prepare`.
        trust_code: see `load_encoder`.

    Raises:
        BadFile, InvalidInput, UnknownName: those of `prepare`.
        HubError, MissingExtra: those of `worldplan.data.hub.upload`.
    """
    with tempfile.TemporaryDirectory(prefix="worldplan-") as home:
        made = prepare(
            folder, Path(home) / "files", repository, revision=revision, license=license, trust_code=trust_code
        )
        message = message or f"Upload {'agent' if (made / AGENTS.card).is_file() else 'encoder'} with worldplan"
        return upload(made, repository, revision=revision, private=private, message=message)


def prepare(
    folder: Path | str,
    out: Path | str,
    repository: str,
    *,
    revision: str = "main",
    license: str = "",
    trust_code: bool = False,
) -> Path:
    """Write what goes to the hub to a new folder `out`, if it can be loaded; returns `out`.

    A README.md in the folder is the model card as it stands; otherwise one is made.

    Args:
        folder: of an encoder or an agent.
        out: where there is nothing yet, or an empty folder.
        repository: OWNER/NAME, for the model card.
        revision: branch, for the model card.
        license: its identifier, such as `mit`, for the model card.
        trust_code: see `load_encoder`.

    Raises:
        InvalidInput: there can be no such repository, branch or licence.
        BadFile: the folder holds no encoder or agent, or a damaged one; or `out` holds something.
    """
    folder, out, address = Path(folder), Path(out), address_of(repository, revision)
    if license and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", license):
        raise InvalidInput(f"a licence has an identifier such as mit or apache-2.0, got {license!r}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadFile(out, "is there already; choose a new folder")
    is_agent = (folder / AGENTS.card).is_file()
    if not is_agent and not (folder / ENCODERS.card).is_file():
        raise BadFile(folder, f"holds no {ENCODERS.card} and no {AGENTS.card}; name a folder of an encoder or an agent")
    found: PlanningAgent | PixelEncoder = (load_agent if is_agent else load_encoder)(folder, trust_code=trust_code)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as beside:
        made, source = Path(beside) / "new", partial(content_of, folder)
        (AGENTS if is_agent else ENCODERS).copy(source, made)
        text = source(_README, _LONGEST)
        if text is None:
            fit = made / "fit.json"
            text = model_card(found, address, license, read_json(fit) if fit.is_file() else None).encode()
        with atomic_write(made / _README) as stream:
            stream.write(text)
        made.rename(out)
    return out
