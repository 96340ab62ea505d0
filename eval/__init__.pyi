from .compare.config import CompareConfig as CompareConfig
from .compare.page import write_report as write_report
from .compare.run import compare_encoders as compare_encoders
from .control.baselines import StandStill as StandStill, TrueStateLQR as TrueStateLQR
from .control.bench import bench_planners as bench_planners
from .control.episodes import evaluate_control as evaluate_control, summarise as summarise
from .control.ledger import cost_ledger as cost_ledger
from .control.open_loop import open_loop_cost as open_loop_cost
from .identifiability.identify import identify as identify, identify_latents as identify_latents
from .laboratory.run import run_laboratory as run_laboratory
from .plan.config import PlanConfig as PlanConfig
from .plan.run import plan_to_goals as plan_to_goals, write_plan as write_plan
from .theorem4.certificate import certify as certify
from .theorem4.dose import dose_response as dose_response
from .theorem4.verify import verify_planning as verify_planning
