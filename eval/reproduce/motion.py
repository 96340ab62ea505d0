"""The rows of `worldplan reproduce --experiment trajectories`: who acts, for how long, and which objective learns."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from worldplan.checks import positive_int
from worldplan.errors import InvalidInput
from worldplan.learning.training import PretrainConfig

STEP_SECONDS = 0.02
OBJECTIVES = ("excitation", "lejepa")
FAULTS = ("shuffled", "unplugged", "lines")  # planted: what must be reported, beside a policy without noise


@dataclass(frozen=True)
class MotionScale:
    """Sizes of the experiment.

    Args:
        minutes: minutes of motion of the dose-response curve.
        amounts: minutes of random torques of the curve over amounts.
        noises: deviations of the noise on SAC's actions, of 1.
        length: control steps in an episode.
        seeds: encoders for each condition.
        steps: training steps of every encoder, at most: excitation stops when J falls.
        net: training options; objective, epochs and seed are set for each encoder.
        window: of excitation on random torques, steps.
        policy_window: of excitation where a policy acts, steps. Its drift grows with the window and its noise with the
            root of that: in long windows, noise explains little even of the true angles.
        stride: of LeJEPA's pairs, steps.
        poses: to judge encoders on.
        plans: pairs of start and goal.
        fit_episodes: training episodes that the dynamics are fitted to.
        least: share that ends a run of excitation with an error.
    """

    minutes: float
    amounts: tuple[float, ...]
    noises: tuple[float, ...]
    length: int
    seeds: int
    steps: int
    net: PretrainConfig
    window: int = 48
    policy_window: int = 16
    stride: int = 16
    poses: int = 2000
    plans: int = 300
    fit_episodes: int = 75
    least: float = 0.2

    def __post_init__(self) -> None:
        for name in ("length", "seeds", "steps", "poses", "plans", "fit_episodes"):
            positive_int(name, getattr(self, name))
        if not min(self.minutes, *self.amounts) > 0 or not self.noises:
            raise InvalidInput("minutes must be positive, and there must be a noise at least")

    def episodes(self, minutes: float) -> int:
        """Episodes in so many minutes of motion."""
        return max(1, round(minutes * 60 / (self.length * STEP_SECONDS)))

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "net": self.net.to_dict()}


SCALES = {
    "smoke": MotionScale(
        minutes=0.4,
        amounts=(0.2,),
        noises=(0.0, 0.4),
        length=60,
        seeds=1,
        steps=30,
        net=PretrainConfig(width=2, hidden=16, batch=32, lr=1e-2, validation=64, device="cpu"),
        window=16,
        poses=100,
        plans=10,
        fit_episodes=8,
        least=-100.0,
    ),
    "cpu": MotionScale(
        minutes=12.0,
        amounts=(1.5, 3.0, 6.0, 24.0),
        noises=(0.0, 0.05, 0.1, 0.2, 0.4, 1.0),
        length=200,
        seeds=3,
        steps=1500,
        net=PretrainConfig(width=8, hidden=64, batch=128, half=True),
    ),
}
SCALES["full"] = replace(SCALES["cpu"], steps=4000, net=PretrainConfig(width=32, batch=256), plans=1000)


@dataclass(frozen=True)
class Motion:
    """A source of training episodes, and the objective: SAC's policy with this `noise`, or random torques (None).

    `fault` is planted, for a negative control. `shuffled`: each window has the actions of another. `unplugged`: torques
    are recorded for the wrist, but never reach it. `lines`: the encoder may not use a circle.
    """

    objective: str
    noise: float | None
    minutes: float
    fault: str = ""

    @property
    def dataset(self) -> str:
        """Name of its episodes."""
        return f"{self.source}-{'unplugged-' * (self.fault == 'unplugged')}{self.minutes:g}min"

    def window(self, scale: MotionScale) -> int:
        """Steps of a window of excitation."""
        return scale.window if self.noise is None else scale.policy_window

    @property
    def source(self) -> str:
        """Who acts."""
        return "random" if self.noise is None else f"sac-{self.noise:g}"

    @property
    def name(self) -> str:
        """Name of the condition's folder."""
        return "-".join(filter(None, (self.objective, self.fault, self.source, f"{self.minutes:g}min")))


def motions(scale: MotionScale) -> list[Motion]:
    """The rows: for each objective the doses at equal data, random torques last; then the amounts, ascending."""
    doses = [Motion(o, noise, scale.minutes) for o in OBJECTIVES for noise in (*scale.noises, None)]
    return doses + [Motion("excitation", None, minutes) for minutes in sorted(scale.amounts)]


def controls(scale: MotionScale) -> list[Motion]:
    """The negative controls: a policy without noise, then the planted faults, on the longest motion of the doses."""
    return [Motion("excitation", 0.0, scale.minutes)] + [
        Motion("excitation", None, scale.minutes, fault) for fault in FAULTS
    ]
