"""The options of `worldplan collect`. Imports no NumPy, because the command line reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from worldplan.checks import check_fields, positive_int
from worldplan.choices import Task, check_choice
from worldplan.errors import InvalidInput


@dataclass(frozen=True)
class Nuisances:
    """Differences between the views of a pair other than the arm, drawn independently for each view.

    Args:
        stock: probability of the `dmc` look, in place of `fast`.
        small: probability of the small target (radius .015 m), in place of .05 m.
        hidden: probability that the target is not drawn.
    """

    stock: float = 0.75
    small: float = 0.75
    hidden: float = 0.15

    def __post_init__(self) -> None:
        check_fields(self)
        if not all(0.0 <= p <= 1.0 for p in (self.stock, self.small, self.hidden)):
            raise InvalidInput(f"nuisance probabilities must lie in [0, 1], got {self}")


@dataclass(frozen=True)
class EpisodeOptions:
    """Which episodes are recorded, whoever acts.

    Args:
        episodes: number of episodes.
        steps: length of each episode; dm_control's own have 1000 steps.
        task: size of the target: `easy` (radius .05 m) or `hard` (.015 m).
        test_share: probability that an episode belongs to the test split.
    """

    episodes: int = 250
    steps: int = 200
    task: Task = "easy"
    test_share: float = 0.2

    def __post_init__(self) -> None:
        check_fields(self)
        positive_int("episodes", self.episodes), positive_int("steps", self.steps)
        check_choice("task", self.task, Task)
        if not 0.0 <= self.test_share < 1.0:
            raise InvalidInput(f"test_share must lie in [0, 1), got {self.test_share}")


@dataclass(frozen=True)
class EpisodeConfig(EpisodeOptions):
    """Which episodes are recorded, and who acts.

    Args:
        random_share: probability that an episode has uniformly random torques, in place of the policy's.
        deterministic: take the policy's mean action; otherwise draw one from it.
        noise: standard deviation of what is added to the policy's actions, of 1.
    """

    random_share: float = 0.0
    deterministic: bool = True
    noise: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.random_share <= 1.0:
            raise InvalidInput(f"random_share must lie in [0, 1], got {self.random_share}")
        if not 0.0 <= self.noise < math.inf:
            raise InvalidInput(f"noise must be at least 0 and finite, got {self.noise}")


@dataclass(frozen=True)
class Exploration:
    """How random actions are drawn.

    Args:
        hold: steps for which each action is held, from a start that is drawn too. Held torques move a slow plant
            further; white ones leave it where it is.
        memory: correlation of an action with that of the step before, in [0, 1): 0 draws each anew, uniformly within
            the limits; above, an Ornstein-Uhlenbeck process of a standard deviation of half the range, clipped.
        strength: share of the range that is used, in (0, 1], about its middle. A plant that its motors throw about
            moves alike in all poses only when it is pushed gently.
    """

    hold: int = 1
    memory: float = 0.0
    strength: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        positive_int("hold", self.hold)
        if not 0.0 <= self.memory < 1.0:
            raise InvalidInput(f"memory must lie in [0, 1), got {self.memory}")
        if not 0.0 < self.strength <= 1.0:
            raise InvalidInput(f"strength must lie in (0, 1], got {self.strength}")


@dataclass(frozen=True)
class WorldEpisodes(Exploration):
    """Which episodes of random actions are recorded in a world.

    Args:
        episodes: number of episodes.
        steps: length of each episode.
        test_share: probability that an episode belongs to the test split.
    """

    episodes: int = 250
    steps: int = 200
    test_share: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_int("episodes", self.episodes), positive_int("steps", self.steps)
        if not 0.0 <= self.test_share < 1.0:
            raise InvalidInput(f"test_share must lie in [0, 1), got {self.test_share}")


@dataclass(frozen=True)
class WorldOptions:
    """Options that all latent worlds have.

    Args:
        rho: correlation of two views, in (0, 1).
        scale: standard deviation of each joint, radians.
        views: frames in a set of views, at least 2.
    """

    rho: float = 0.9
    scale: tuple[float, float] = (1.0, 1.0)
    views: int = 2

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0.0 < self.rho < 1.0:
            raise InvalidInput(f"rho must lie in (0, 1), got {self.rho}")
        if len(self.scale) != 2 or not all(math.isfinite(s) and s > 0 for s in self.scale):
            raise InvalidInput(f"scale must be two positive angles, got {self.scale}")
        if self.views < 2:
            raise InvalidInput(f"a positive pair needs at least 2 views, got {self.views}")


@dataclass(frozen=True)
class OUOptions(WorldOptions):
    """Options of the Gaussian world.

    Args:
        truncate: redraw a set of views until all lie within the joints' range. No image is then ambiguous, but the law
            is Gaussian only up to the tails cut off.
    """

    truncate: bool = False


@dataclass(frozen=True)
class GeneralizedNormalOptions(WorldOptions):
    """Options of the generalised-normal world.

    Args:
        alpha: shape, in [1, 16]: 1 is Laplace's law, 2 Gauss's, large nearly uniform.
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1.0 <= self.alpha <= 16.0:  # below, the drift is infinite at 0; above, too steep for the step
            raise InvalidInput(f"alpha must lie in [1, 16], got {self.alpha}")
        if not 0.05 <= self.rho <= 0.999:
            raise InvalidInput(f"rho must lie in [.05, .999], got {self.rho}")
