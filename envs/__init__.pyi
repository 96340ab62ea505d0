from .rollout import rollout as rollout
from .tasks import Tasks as Tasks, sample_tasks as sample_tasks
from .world.goal_env import GoalEnv as GoalEnv
from .world.registry import find_world as find_world
from .world.world import Judge as Judge, World as World
from .worlds import OUWorld as OUWorld
