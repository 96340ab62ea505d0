"""The Reacher, its frames, and latent worlds; importing this registers the Gymnasium environments."""

from lazy_loader import attach_stub

from worldplan.envs.registration import register_environments
from worldplan.envs.rollout import rollout as rollout  # at once: its module has the same name, and would take its place

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)  # the names stand in __init__.pyi

register_environments()
