"""Things with `predict`: planners in the loop."""

from worldplan.agents.planning import PLANNERS, PlanningAgent, known_agents, load_agent

__all__ = ["PLANNERS", "PlanningAgent", "known_agents", "load_agent"]
