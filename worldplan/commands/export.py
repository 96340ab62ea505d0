"""`worldplan export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from worldplan.commands.base import NAMED, REACHER, Verb, WorldOptions


@dataclass(frozen=True, kw_only=True)
class Export(Verb, WorldOptions):
    """Write an agent as ONNX graphs, for programs without Python.

    goal.onnx encodes a goal image, step.onnx is one control step of the clipped LQR, contract.json tells names, types,
    shapes and units. They are compared with the agent on an episode of its world before they are written.

    Args:
        agent: a shipped name, or a folder that `worldplan fit` wrote.
        format: of the graphs.
        steps: control steps of the episode on which graphs and agent are compared.
        out: folder for the three files.
    """

    agent: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar=NAMED)]]
    format: Literal["onnx"] = "onnx"
    steps: int = 60
    out: Path = Path("runs/export")

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.agents.export import export_agent
        from worldplan.agents.planning_agent import load_agent
        from worldplan.checks import positive_int
        from worldplan.data.world_card import REACHER as CARD, same_world
        from worldplan.envs.reacher import ReacherGoal
        from worldplan.envs.rollout import rollout
        from worldplan.envs.world.goal_env import GoalEnv
        from worldplan.eval.show.table import facts_table

        agent = load_agent(self.agent, planner="lqr")
        world = None if self.env == REACHER else self.world()
        same_world("this agent", agent.world or CARD, CARD if world is None else world.card)
        env = ReacherGoal() if world is None else GoalEnv(world)
        run = rollout(env, agent, 1, self.seed, steps=1 + positive_int("--steps", self.steps))
        env.close()
        made = export_agent(agent, self.out, run.frames[0], command=command)
        errors = {"latent": made.latent_error, "action, same latents": made.action_error, "action": made.total_error}
        rows = [(f"largest difference: {name}", f"{value:.1g}") for name, value in errors.items()]
        facts = {"folder": str(made.folder), "steps": made.steps, "differences": errors}
        notes = ["Next: docs/deploy.md runs them in Python and in C++."]
        self.show(facts, facts_table(f"Agent {self.agent!r} as ONNX graphs in {made.folder}", rows, notes))
        return 0
