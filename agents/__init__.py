"""Agents with `predict`: planners in the loop, and policies that SAC learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worldplan.lazy import lazy_names

if TYPE_CHECKING:  # for type checkers and editors; a test holds this list and _HOMES together
    from worldplan.agents.actor import ActorPolicy, known_policies, load_policy
    from worldplan.agents.config import FitConfig, SACConfig
    from worldplan.agents.fitting import FitReport, fit_agent
    from worldplan.agents.latent_controller import LatentController
    from worldplan.agents.planners import PLANNERS
    from worldplan.agents.planning_agent import AgentState, PlanningAgent, known_agents, load_agent
    from worldplan.agents.sac import load_sb3_zip, train_sac

_HOMES = {
    "ActorPolicy": "worldplan.agents.actor",
    "AgentState": "worldplan.agents.planning_agent",
    "FitConfig": "worldplan.agents.config",
    "FitReport": "worldplan.agents.fitting",
    "LatentController": "worldplan.agents.latent_controller",
    "PLANNERS": "worldplan.agents.planners",
    "PlanningAgent": "worldplan.agents.planning_agent",
    "SACConfig": "worldplan.agents.config",
    "fit_agent": "worldplan.agents.fitting",
    "known_agents": "worldplan.agents.planning_agent",
    "known_policies": "worldplan.agents.actor",
    "load_agent": "worldplan.agents.planning_agent",
    "load_policy": "worldplan.agents.actor",
    "load_sb3_zip": "worldplan.agents.sac",
    "train_sac": "worldplan.agents.sac",
}

__all__ = [
    "PLANNERS",
    "ActorPolicy",
    "AgentState",
    "FitConfig",
    "FitReport",
    "LatentController",
    "PlanningAgent",
    "SACConfig",
    "fit_agent",
    "known_agents",
    "known_policies",
    "load_agent",
    "load_policy",
    "load_sb3_zip",
    "train_sac",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
