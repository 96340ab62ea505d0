"""What is measured: identifiability, control cost, and the reports about both."""

from worldplan.eval.bench import BenchReport, bench_planners
from worldplan.eval.ceiling import bayes_ceiling
from worldplan.eval.certificate import Certificate, certify
from worldplan.eval.compare import compare_encoders
from worldplan.eval.comparison import Comparison, ComparisonRow
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
from worldplan.eval.dose import dose_response
from worldplan.eval.dose_report import DoseReport
from worldplan.eval.fitting import FitConfig, FitReport, find_agent, fit_agent
from worldplan.eval.identifiability import IdentifiabilityReport, identify, identify_latents
from worldplan.eval.ledger import CostLedger, cost_ledger
from worldplan.eval.open_loop import OpenLoopReport, open_loop_cost
from worldplan.eval.plan_report import PlanConfig, PlanReport
from worldplan.eval.planning import plan_to_goals, write_plan
from worldplan.eval.regression import LabelFit, label_fit
from worldplan.eval.report import write_report
from worldplan.eval.theorem4 import verify_planning
from worldplan.eval.trial import CompareConfig
from worldplan.eval.verdicts import PlanningReport

__all__ = [
    "BenchReport",
    "Certificate",
    "CompareConfig",
    "Comparison",
    "ComparisonRow",
    "ControlResult",
    "ControlSummary",
    "CostLedger",
    "DoseReport",
    "FitConfig",
    "FitReport",
    "IdentifiabilityReport",
    "LabelFit",
    "OpenLoopReport",
    "Pairs",
    "PlanConfig",
    "PlanReport",
    "PlanningReport",
    "StandStill",
    "TrueStateLQR",
    "bayes_ceiling",
    "bench_planners",
    "certify",
    "compare_encoders",
    "cost_ledger",
    "dose_response",
    "evaluate_control",
    "find_agent",
    "fit_agent",
    "identify",
    "identify_latents",
    "label_fit",
    "open_loop_cost",
    "plan_to_goals",
    "sample_pairs",
    "summarise",
    "true_dynamics",
    "verify_planning",
    "write_plan",
    "write_report",
]
