"""`worldplan plan`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from worldplan.agents.config import FitConfig
from worldplan.commands.base import (
    REACHER,
    WORLD_OPTIONS,
    Name,
    Planner,
    Verb,
    WorldOptions,
    bar,
    config_of,
    option,
    refuse_others,
)
from worldplan.eval.plan.config import PlanConfig

if TYPE_CHECKING:
    from worldplan.agents.planning_agent import PlanningAgent

ELSEWHERE = (*WORLD_OPTIONS, "size", "repeat")


@dataclass(frozen=True, kw_only=True)
class Plan(Verb, PlanConfig, WorldOptions):
    """Reach goals from pixels; writes plan.json, plan.png and a film, and prints a table.

    Start and goal poses are drawn, or given as angles (radians: shoulder, wrist) or, for the goal, as a picture. With
    --env ID the agent acts in another world than the Reacher, and takes --steps, --ahead, --hold and --goal-image only.

    Args:
        steps: other worlds: actions in each episode; by default 200.
        ahead: worlds that do not sample their states: steps of random actions from start to goal; by default 50.
        hold: steps for which each of these actions is held; by default 1.
        agent: a shipped name, or a folder that `worldplan fit` wrote; `reacher` by default.
        encoder: in place of --agent: a name or folder of an encoder; dynamics are fitted to it first, unless an agent
            that was fitted to it ships, or is in that folder.
        planner: lqr, mpc, cem or mppi; by default as the agent was saved.
        threads: threads of torch on the CPU; more than one slow single frames down.
        video: kind of film; mp4 needs the `video` extra.
        out: folder for what is written; an earlier run's files are replaced.
    """

    agent: Name = None
    encoder: Name = None
    planner: Planner = None
    steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    ahead: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    hold: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    threads: int = 1
    video: Literal["gif", "mp4", "none"] = "gif"
    out: Path = Path("runs/plan")

    def run(self, command: str) -> int:
        """Exit status 0, whether or not the goals were reached."""
        from worldplan.errors import InvalidInput
        from worldplan.eval.plan.run import plan_to_goals, write_plan
        from worldplan.eval.show.film import require_video

        require_video(self.video)
        if self.env != REACHER:
            return self._elsewhere(command)
        given = [option(name) for name in ELSEWHERE if getattr(self, name) is not None]
        if given:
            raise InvalidInput(f"{', '.join(given)}: these are for other worlds than the Reacher; leave them out")
        config = config_of(PlanConfig, self)
        fit = FitConfig(seed=self.seed, profile=self.profile, target=self.target)
        agent = find_agent(self.agent, self.encoder, self.planner, fit)
        name = self.encoder or self.agent or "reacher"
        report = plan_to_goals(agent, config, name=name, progress=bar("episodes"))
        written = write_plan(report, self.out, self.video, command)
        self.show(report.to_dict(), report.table().also(f"Written: {', '.join(map(str, written))}"))
        return 0

    def _elsewhere(self, command: str) -> int:
        """Reach goals in another world than the Reacher."""
        from worldplan.agents.planning_agent import CARDS, load_agent
        from worldplan.agents.prediction import UNFIT
        from worldplan.data.files import read_json
        from worldplan.envs.goal_image import read_goal_image
        from worldplan.errors import InvalidInput
        from worldplan.eval.control.in_world import WorldPlanConfig, plan_in_world
        from worldplan.eval.plan.world_run import write_world_plan

        refuse_others(self, PlanConfig, ("episodes", "seed", "goal_image"))
        if self.agent is None:
            raise InvalidInput(f"name an agent for {self.env} with --agent: a folder that `worldplan fit` wrote")
        world, agent = self.world(), load_agent(self.agent, self.planner)
        told = CARDS.find(self.agent) / "fit.json"
        verdict = str(read_json(told).get("verdict", "")) if told.is_file() else ""
        if verdict.startswith(UNFIT):
            warnings.warn(f"the model of {self.agent} {verdict}", stacklevel=1)
        options = {name: getattr(self, name) for name in WORLD_OPTIONS if getattr(self, name) is not None}
        config = WorldPlanConfig(episodes=self.episodes, seed=self.seed, **options)
        goal = None if self.goal_image is None else read_goal_image(self.goal_image, world.card.size)
        report = plan_in_world(agent, world, config, goal=goal, progress=bar("episodes"))
        written = write_world_plan(report, self.out, command, video=self.video)
        self.show(report.to_dict(), report.table().also(f"Written: {', '.join(map(str, written))}"))
        return 0


def find_agent(
    agent: str | Path | None, encoder: str | Path | None, planner: str | None, config: FitConfig
) -> PlanningAgent:
    """An agent by its own name, or for an encoder: one that was fitted to it, otherwise one fitted now.

    Without either name it is `reacher`. `planner` takes the place of the saved one, and `config` is that of the fit.
    Raises InvalidInput for both names.
    """
    from worldplan.agents.planning_agent import CARDS, PlanningAgent, known_agents, load_agent
    from worldplan.commands.fit import fit_encoder
    from worldplan.errors import InvalidInput

    if encoder is None:
        return load_agent("reacher" if agent is None else agent, planner)
    if agent is not None:
        raise InvalidInput(
            f"got both agent {str(agent)!r} and encoder {str(encoder)!r}; an agent has its own: name one"
        )
    shipped = [name for name in known_agents() if CARDS.read(CARDS.find(name))["encoder"] == str(encoder)]
    if shipped or (Path(encoder) / "agent.json").is_file():
        return load_agent(shipped[0] if shipped else encoder, planner)
    fitted = fit_encoder(encoder, config).agent
    if planner in (None, fitted.planner):
        return fitted
    return PlanningAgent(fitted.encoder, fitted.dynamics, fitted.cost, str(planner), charts=fitted.charts)
