"""worldplan: plan to goals from pixels in the latent space of a frozen encoder.

`import worldplan` loads nothing heavy. The public names below, and the rooms `worldplan.envs`, `worldplan.agents` and
`worldplan.eval`, load on first use, as `__init__.pyi` lists them. Gymnasium learns our environments as soon as it is
imported, before or after: `gymnasium.make("worldplan/ReacherGoal-v0")`.
"""

from lazy_loader import attach_stub
from wrapt import register_post_import_hook

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)  # the names stand in __init__.pyi

register_post_import_hook("worldplan.envs.registration:register_environments", "gymnasium")
