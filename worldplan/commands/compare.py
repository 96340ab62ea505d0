"""`worldplan compare`."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from worldplan.commands.base import (
    REACHER,
    WORLD_OPTIONS,
    SweepOptions,
    Verb,
    WorldOptions,
    bar,
    config_of,
    option,
    refuse_others,
    set_threads,
)
from worldplan.eval.compare.config import CompareConfig

ELSEWHERE = (*WORLD_OPTIONS, "size", "repeat", "data", "control_weight", "around")


@dataclass(frozen=True, kw_only=True)
class Compare(Verb, CompareConfig, WorldOptions, SweepOptions):
    """Rank encoders by what control from their latents costs, on the same paired episodes.

    Writes compare.json and the page compare.html; prints a table. An encoder that fails gets a row that says why. Each
    row is kept as it ends: the same command goes on where it was interrupted, with more encoders too. With
    --env ID, another world than the Reacher, models are fitted to --data, and the world's own error on the way to its
    goals is the cost; the page has no pictures.

    Args:
        encoders: any mix of shipped names, `oracle` (the true joint angles), `untrained` (random weights), folders,
            addresses hf://OWNER/NAME, and `module:object` (your own: an object with latent_dim that maps uint8
            (T, 64, 64, 3) to (T, m)).
        data: other worlds: folder of recorded episodes with frames, to fit to --fit-episodes of them.
        control_weight: other worlds: cost of a squared action, relative to the latents'; by default .1.
        around: other worlds: PNG of a goal, for plants that are linear only near it (`worldplan fit --around`).
        steps: other worlds: actions in each episode; by default 200.
        ahead: worlds that do not sample their states: steps of random actions from start to goal; by default 50.
        hold: steps for which each of these actions is held; by default 1.
        markdown: print the table as Markdown, as the README shows it.
        out: folder for what is written; an earlier run's files are replaced, its rows are kept.
    """

    encoders: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="ENCODER...")]]
    processes: int = os.cpu_count() or 1
    data: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    control_weight: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    around: Annotated[Path | None, tyro.conf.arg(metavar="PNG")] = None
    steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    ahead: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    hold: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    markdown: bool = False
    out: Path = Path("runs/compare")

    def run(self, command: str) -> int:
        """Exit status 0, or 1 if an encoder failed."""
        from worldplan.data.files import write_json
        from worldplan.errors import InvalidInput
        from worldplan.eval.compare.page import write_report
        from worldplan.eval.compare.run import compare_encoders
        from worldplan.eval.compare.table import markdown, table

        if self.markdown and self.json:
            raise InvalidInput("the table is printed once: choose --json or --markdown")
        if self.env != REACHER:
            return self._elsewhere(command)
        given = [option(name) for name in ELSEWHERE if getattr(self, name) is not None]
        if given:
            raise InvalidInput(f"{', '.join(given)}: these are for other worlds than the Reacher; leave them out")
        set_threads(1)
        config = config_of(CompareConfig, self)
        how: dict[str, Any] = {"command": command, "progress": bar("encoders"), "folder": self.out / "rows"}
        comparison = compare_encoders(self.encoders, config, **how, **self.place())
        facts = comparison.to_dict()
        write_json(self.out / "compare.json", facts)
        page = write_report(comparison, self.out / "compare.html")
        if self.markdown:
            print(markdown(comparison))
        else:
            self.show(facts, table(comparison).also(f"Written: {self.out / 'compare.json'}, {page}"))
        return 1 if any(row.status == "failed" for row in comparison.rows) else 0

    def advice(self, command: str) -> str:
        """Rows that are done are kept."""
        return f"to go on: {command}"

    def _elsewhere(self, command: str) -> int:
        """Rank encoders in another world than the Reacher."""
        from worldplan.agents.config import FitConfig
        from worldplan.agents.fitting import recorded
        from worldplan.data.files import write_json
        from worldplan.envs.goal_image import read_goal_image
        from worldplan.errors import InvalidInput
        from worldplan.eval.compare.in_world import compare_in_world
        from worldplan.eval.compare.page import write_report
        from worldplan.eval.control.in_world import WorldPlanConfig

        refuse_others(self, CompareConfig, ("episodes", "seed", "fit_episodes", "processes", "planner"))
        if self.data is None:
            raise InvalidInput(f"name recorded episodes of {self.env} with --data (`worldplan collect random --env`)")
        world, episodes = self.world(), recorded(self.data, self.fit_episodes)
        fit = FitConfig(episodes=self.fit_episodes, seed=self.seed, planner=self.planner)
        if self.control_weight is not None:
            fit = replace(fit, control_weight=self.control_weight)
        options = {name: getattr(self, name) for name in WORLD_OPTIONS if getattr(self, name) is not None}
        config = WorldPlanConfig(episodes=self.episodes, seed=self.seed, **options)
        goal = None if self.around is None else read_goal_image(self.around, world.card.size)
        how: dict[str, Any] = {"command": command, "progress": bar("encoders")}
        found = compare_in_world(
            self.encoders, world, episodes, config, fit, around=goal, folder=self.out / "rows", **self.place(), **how
        )
        write_json(self.out / "compare.json", found.to_dict())
        page = write_report(found, self.out / "compare.html")
        if self.markdown:
            print(found.table().markdown())
        else:
            self.show(found.to_dict(), found.table().also(f"Written: {self.out / 'compare.json'}, {page}"))
        return 1 if any(row.status == "failed" for row in found.rows) else 0
