"""Options of all verbs that draw frames into a dataset."""

from __future__ import annotations

import os
from dataclasses import dataclass

from worldplan.commands.base import Verb, without_resume


@dataclass(frozen=True, kw_only=True)
class Drawn(Verb):
    """What is common to all that draws.

    Args:
        stock: probability of the stock look (profile dmc), else fast.
        small: probability of the small target, else the large one.
        hidden: probability that the target is not drawn.
        processes: renderer processes.
        resume: go on after an interruption, with the same options.
    """

    stock: float = 0.75
    small: float = 0.75
    hidden: float = 0.15
    processes: int = os.cpu_count() or 1
    resume: bool = False

    def begun(self) -> bool:
        """Whether there is something that --resume goes on with."""
        raise NotImplementedError

    def advice(self, command: str) -> str:
        """What is done is kept, if anything is."""
        if not self.begun():
            return f"nothing was written yet; {super().advice(command)}"
        return f"to go on: {without_resume(command)} --resume"
