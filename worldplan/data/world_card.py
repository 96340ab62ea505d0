"""What a dataset, an encoder and an agent record of the world that they are for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from worldplan.checks import positive_int
from worldplan.errors import InvalidInput

FRAME_SIZE = 64  # pixels a side, unless told otherwise
LARGEST_FRAME = 4096  # pixels a side: a slip of the keyboard must not take the memory


def check_frame_size(size: object) -> None:
    """Raise InvalidInput for a size that is no number of pixels, or more than `LARGEST_FRAME`."""
    if positive_int("the size of frames", size) > LARGEST_FRAME:
        raise InvalidInput(f"frames have {LARGEST_FRAME} pixels a side at most, got {size}")


@dataclass(frozen=True)
class WorldCard:
    """A world in numbers: which one it is, and what its frames and actions are.

    Args:
        name: what `--env` takes.
        size: pixels a side of its square frames.
        action_low: lowest action of each dimension, (m,).
        action_high: highest action, (m,).
        step_seconds: time from an action to the next.
        states: name and width of the true states that it tells, for judging only.
        fixed: the same for what stays as it is during an episode.

    Raises:
        InvalidInput: no name, a size or width below 1, limits that are not finite, of other lengths or in the wrong
            order, or a step of no time.
    """

    name: str
    size: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    step_seconds: float
    states: Mapping[str, int] = field(default_factory=dict)
    fixed: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidInput(f"a world needs a name, got {self.name!r}")
        check_frame_size(self.size)
        for name, width in {**self.states, **self.fixed}.items():
            positive_int(f"the width of {name}", width)
            if not name.isidentifier() or name in ("frames", "actions", "rewards", "expected"):
                raise InvalidInput(f"{name!r} is no name for a state of {self.name}")
        low, high = (tuple(float(x) for x in side) for side in (self.action_low, self.action_high))
        limits = [*zip(low, high, strict=False)]
        if not limits or len(low) != len(high) or not all(math.isfinite(a) and a < b < math.inf for a, b in limits):
            raise InvalidInput(
                f"{self.name}: limits of the actions must be finite, the lower below the higher, got {low} and {high}"
            )
        object.__setattr__(self, "action_low", low)
        object.__setattr__(self, "action_high", high)
        if not 0.0 < self.step_seconds < math.inf:
            raise InvalidInput(f"{self.name}: a step must take time, got {self.step_seconds} s")

    @property
    def action_dim(self) -> int:
        """M."""
        return len(self.action_low)

    @property
    def frame(self) -> tuple[int, int, int]:
        """Shape of a frame."""
        return self.size, self.size, 3

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "states": dict(self.states), "fixed": dict(self.fixed)}

    @classmethod
    def from_dict(cls, record: Any) -> WorldCard:
        """Undo `to_dict`. Raises InvalidInput for a record that is none."""
        try:
            return cls(**record)
        except (TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"this is no record of a world ({error})") from error


REACHER = WorldCard(
    name="reacher",
    size=FRAME_SIZE,
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    step_seconds=0.02,
    states={"qpos": 2, "qvel": 2},
    fixed={"target": 3},
)
"""dm_control's Reacher as `worldplan collect` draws it: the world of every record that names none."""


def world_of(card: Mapping[str, Any]) -> WorldCard | None:
    """The world whose frames an encoder was trained on, from its card; None if the card does not say.

    Raises InvalidInput for a record that is none.
    """
    data = card.get("data")
    if not isinstance(data, Mapping) or not data:
        return None
    record = data.get("world")
    named = isinstance(record, Mapping) and "name" in record  # of pairs, it holds the options of a latent world
    return WorldCard.from_dict(record) if named else REACHER


def for_reacher(encoder: Any) -> None:
    """Raise InvalidInput if an encoder's card says that it was trained in another world than the Reacher."""
    trained = world_of(getattr(encoder, "card", {}))
    if trained is not None:
        same_world("this encoder", trained, REACHER)


def same_world(what: str, recorded: WorldCard, world: WorldCard) -> None:
    """Raise InvalidInput if `what` was made for another world, other frames or other actions than those of `world`."""
    remedy = "name its own world with --env, or make one for this world"
    if recorded.name != world.name:
        raise InvalidInput(f"{what} is for {recorded.name!r}, and not for {world.name!r}; {remedy}")
    for name in ("size", "action_low", "action_high", "step_seconds"):
        ours, theirs = getattr(recorded, name), getattr(world, name)
        if ours != theirs:
            what = f"{what} is for {recorded.name!r} with {name.replace('_', ' ')} {ours}"
            raise InvalidInput(f"{what}, and not {theirs}; name its --size and --repeat, or make one for these")
