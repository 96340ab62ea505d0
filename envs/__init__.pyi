from .rollout import rollout as rollout
from .tasks import Tasks as Tasks, sample_tasks as sample_tasks
from .worlds import OUWorld as OUWorld
