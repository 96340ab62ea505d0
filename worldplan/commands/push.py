"""`worldplan push`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from worldplan.commands.base import Verb


@dataclass(frozen=True, kw_only=True)
class Push(Verb):
    """Put an encoder or an agent on the Hugging Face hub, where hf://OWNER/NAME finds it.

    Up go the weights, the cards, an agent's fit.json, and a model card: the folder's README.md, or one made from the
    card. Nothing else in the folder does. `hf auth login` or HF_TOKEN says who you are.

    Args:
        folder: of an encoder or an agent, as `worldplan pretrain` or `worldplan fit` wrote it.
        repository: its name on the hub; made if it is not there.
        revision: branch; made if it is not there.
        private: make the repository private.
        message: of the commit.
        license: for the model card, as the hub spells it, such as mit; you alone know it.
        out: new folder for the files, which then stay here: a look before they go up.
    """

    folder: tyro.conf.Positional[Path]
    repository: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="OWNER/NAME")]]
    revision: str = "main"
    private: bool = False
    message: str = ""
    license: str = ""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.agents.publishing import prepare, push_to_hub
        from worldplan.eval.show.table import facts_table

        if self.out is not None:
            made = prepare(self.folder, self.out, self.repository, revision=self.revision, license=self.license)
            names = sorted(path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
            facts = {"folder": str(made), "files": names}
            rows = [(name, f"{(made / name).stat().st_size:,} bytes") for name in names]
            self.show(facts, facts_table(f"For {self.repository}, in {made}", rows, ["Without --out, these go up."]))
            return 0
        address = push_to_hub(
            self.folder,
            self.repository,
            revision=self.revision,
            private=self.private,
            message=self.message,
            license=self.license,
        )
        note = "Next: that address wherever worldplan takes the name of an encoder or an agent."
        self.show({"address": address}, facts_table("On the hub", [("address", address)], [note]))
        return 0
