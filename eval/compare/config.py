"""The options of a comparison. Needs no NumPy: the command line reads them."""

from __future__ import annotations

from dataclasses import dataclass

from worldplan.checks import check_fields, checked_seed, positive_int
from worldplan.choices import Distribution, Profile, Target, check_choice
from worldplan.errors import InvalidInput

FEWEST_PAIRS = 100  # of frames; wide latents, reduced to more than two components, need more


@dataclass(frozen=True)
class CompareConfig:
    """The trial that all encoders of a comparison go through.

    Args:
        episodes: paired episodes of 100 steps each.
        seed: seed for poses, target places and torques.
        profile: look of the frames, `dmc` or `fast`.
        target: target sphere, `hard`, `easy` or `hidden`; a distractor, which most shipped encoders never saw.
        distribution: law of start and goal poses: `normal`, N(0, 1) clipped to +-2.4; or `reset`, dm_control's.
        fit_episodes: random-torque episodes of 60 steps that dynamics are fitted to.
        frame_pairs: pairs of frames from the Gaussian world in which R2 and Theorem 3 are measured.
        resamples: bootstrap samples behind the intervals of R2 and Theorem 3.
        planner: what plans in the latent: lqr, mpc, cem or mppi.
        libraries: numbers of frames that open-loop plans are decoded with.
        processes: encoders on trial at the same time; more than 1 needs an importable `__main__` (spawn).
    """

    episodes: int = 300
    seed: int = 0
    profile: Profile = "fast"
    target: Target = "hidden"
    distribution: Distribution = "normal"
    fit_episodes: int = 60
    frame_pairs: int = 2000
    resamples: int = 1000
    planner: str = "lqr"
    libraries: tuple[int, ...] = (250, 1000, 4000)
    processes: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("episodes", "fit_episodes", "frame_pairs", "resamples", "processes"):
            positive_int(name, getattr(self, name))
        if self.frame_pairs < FEWEST_PAIRS:
            raise InvalidInput(f"frame_pairs must be at least {FEWEST_PAIRS}, got {self.frame_pairs}")
        checked_seed(self.seed)
        check_choice("render profile", self.profile, Profile)
        check_choice("target", self.target, Target)
        check_choice("distribution of poses", self.distribution, Distribution)
        sizes = {positive_int("a library", size) for size in self.libraries}
        if not sizes:
            raise InvalidInput("need a library size")
        object.__setattr__(self, "libraries", tuple(sorted(sizes)))
