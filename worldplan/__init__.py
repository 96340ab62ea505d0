"""worldplan: plan to goals from pixels in the latent space of a frozen encoder.

`import worldplan` loads nothing heavy. The public names below, and the rooms `worldplan.envs`, `worldplan.agents` and
`worldplan.eval`, load on first use, as `__init__.pyi` lists them.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)  # the names stand in __init__.pyi
