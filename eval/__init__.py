"""What is measured. A room for each verb, over four libraries: statistics, show, identifiability, control."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worldplan.lazy import lazy_names

if TYPE_CHECKING:  # for type checkers and editors; a test holds this list and _HOMES together
    from worldplan.eval.compare.config import CompareConfig as CompareConfig
    from worldplan.eval.compare.page import write_report as write_report
    from worldplan.eval.compare.run import compare_encoders as compare_encoders
    from worldplan.eval.control.baselines import StandStill as StandStill, TrueStateLQR as TrueStateLQR
    from worldplan.eval.control.bench import bench_planners as bench_planners
    from worldplan.eval.control.episodes import evaluate_control as evaluate_control, summarise as summarise
    from worldplan.eval.control.ledger import cost_ledger as cost_ledger
    from worldplan.eval.control.open_loop import open_loop_cost as open_loop_cost
    from worldplan.eval.identifiability.identify import identify as identify, identify_latents as identify_latents
    from worldplan.eval.plan.config import PlanConfig as PlanConfig
    from worldplan.eval.plan.run import plan_to_goals as plan_to_goals, write_plan as write_plan
    from worldplan.eval.theorem4.certificate import certify as certify
    from worldplan.eval.theorem4.dose import dose_response as dose_response
    from worldplan.eval.theorem4.verify import verify_planning as verify_planning

_HOMES = {
    "CompareConfig": "worldplan.eval.compare.config",
    "PlanConfig": "worldplan.eval.plan.config",
    "StandStill": "worldplan.eval.control.baselines",
    "TrueStateLQR": "worldplan.eval.control.baselines",
    "bench_planners": "worldplan.eval.control.bench",
    "certify": "worldplan.eval.theorem4.certificate",
    "compare_encoders": "worldplan.eval.compare.run",
    "cost_ledger": "worldplan.eval.control.ledger",
    "dose_response": "worldplan.eval.theorem4.dose",
    "evaluate_control": "worldplan.eval.control.episodes",
    "identify": "worldplan.eval.identifiability.identify",
    "identify_latents": "worldplan.eval.identifiability.identify",
    "open_loop_cost": "worldplan.eval.control.open_loop",
    "plan_to_goals": "worldplan.eval.plan.run",
    "summarise": "worldplan.eval.control.episodes",
    "verify_planning": "worldplan.eval.theorem4.verify",
    "write_plan": "worldplan.eval.plan.run",
    "write_report": "worldplan.eval.compare.page",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
