"""`worldplan compare`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from worldplan.commands.base import Verb, bar, config_of, set_threads
from worldplan.eval.compare.config import CompareConfig


@dataclass(frozen=True, kw_only=True)
class Compare(Verb, CompareConfig):
    """Rank encoders by what control from their latents costs, on the same paired episodes.

    Writes compare.json and the page compare.html; prints a table. An encoder that fails gets a row that says why.

    Args:
        encoders: any mix of shipped names, `oracle` (the true joint angles), `untrained` (random weights), folders, and
            `module:object` (your own: an object with latent_dim that maps uint8 (T, 64, 64, 3) to (T, m)).
        markdown: print the table as Markdown, as the README shows it.
        out: folder for what is written; an earlier run's files are replaced.
    """

    encoders: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="ENCODER...")]]
    processes: int = os.cpu_count() or 1
    markdown: bool = False
    out: Path = Path("runs/compare")

    def run(self, command: str) -> int:
        """Exit status 0, or 1 if every encoder failed."""
        from worldplan.data.files import write_json
        from worldplan.errors import InvalidInput
        from worldplan.eval.compare.page import write_report
        from worldplan.eval.compare.run import compare_encoders
        from worldplan.eval.compare.table import markdown, table

        if self.markdown and self.json:
            raise InvalidInput("the table is printed once: choose --json or --markdown")
        set_threads(1)
        config = config_of(CompareConfig, self)
        comparison = compare_encoders(self.encoders, config, command=command, progress=bar("encoders"))
        facts = comparison.to_dict()
        write_json(self.out / "compare.json", facts)
        page = write_report(comparison, self.out / "compare.html")
        if self.markdown:
            print(markdown(comparison))
        else:
            self.show(facts, table(comparison).also(f"Written: {self.out / 'compare.json'}, {page}"))
        return 0 if any(row.ok for row in comparison.rows) else 1
