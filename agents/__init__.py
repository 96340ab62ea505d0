"""Agents with `predict`: planners in the loop, and policies that SAC learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worldplan.lazy import lazy_names

if TYPE_CHECKING:  # for type checkers and editors; a test holds this list and _HOMES together
    from worldplan.agents.actor import (
        ActorPolicy as ActorPolicy,
        known_policies as known_policies,
        load_policy as load_policy,
    )
    from worldplan.agents.config import FitConfig as FitConfig, SACConfig as SACConfig
    from worldplan.agents.fitting import FitReport as FitReport, fit_agent as fit_agent
    from worldplan.agents.latent_controller import LatentController as LatentController
    from worldplan.agents.planners import PLANNERS as PLANNERS
    from worldplan.agents.planning_agent import (
        AgentState as AgentState,
        PlanningAgent as PlanningAgent,
        known_agents as known_agents,
        load_agent as load_agent,
    )
    from worldplan.agents.sac import load_sb3_zip as load_sb3_zip, train_sac as train_sac

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

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
