"""What is measured: identifiability, control cost, and the reports about both."""

from worldplan.eval.control import (
    ControlResult,
    ControlSummary,
    Pairs,
    StandStill,
    TrueStateLQR,
    evaluate_control,
    sample_pairs,
    summarise,
    true_dynamics,
)
from worldplan.eval.fitting import FitConfig, FitReport, find_agent, fit_agent
from worldplan.eval.plan_report import PlanConfig, PlanReport
from worldplan.eval.planning import plan_to_goals, write_plan
from worldplan.eval.theorem4 import verify_planning
from worldplan.eval.verdicts import PlanningReport

__all__ = [
    "ControlResult",
    "ControlSummary",
    "FitConfig",
    "FitReport",
    "Pairs",
    "PlanConfig",
    "PlanReport",
    "PlanningReport",
    "StandStill",
    "TrueStateLQR",
    "evaluate_control",
    "find_agent",
    "fit_agent",
    "plan_to_goals",
    "sample_pairs",
    "summarise",
    "true_dynamics",
    "verify_planning",
    "write_plan",
]
