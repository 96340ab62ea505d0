"""Trajectories: T + 1 observations for T actions, episode by episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldplan.errors import InvalidInput

State = tuple[NDArray[Any], ...] | None  # what an agent's `predict` carries from step to step; None at the start
Starts = NDArray[np.bool_] | None  # which of the rows that `predict` gets begin an episode; None as it sees fit


@dataclass(frozen=True, eq=False)
class Trajectories:
    """E episodes of any lengths; every list has E entries.

    Args:
        frames: uint8 (T + 1, S, S, 3), or any observation array with T + 1 rows.
        actions: (T, m), as the environment applied them.
        rewards: (T,); empty list if there are none.
        info: named arrays of T + 1 rows (`qpos`, `tip_distance`, `is_success`), for evaluation; no fit reads them.

    Raises:
        InvalidInput: no episode, or lengths that do not match.
    """

    frames: Sequence[NDArray[Any]]
    actions: Sequence[NDArray[np.float64]]
    rewards: Sequence[NDArray[np.float64]] = ()
    info: dict[str, list[NDArray[Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.frames) or len(self.frames) != len(self.actions):
            raise InvalidInput(
                f"need one episode or more, and as many of frames as of actions, got {len(self.frames)} and "
                f"{len(self.actions)}"
            )
        lists = [("frames", self.frames, 1), *((f"info[{name!r}]", rows, 1) for name, rows in self.info.items())]
        if len(self.rewards):
            lists.append(("rewards", self.rewards, 0))
        for name, episodes, extra in lists:
            if len(episodes) != len(self.actions):
                raise InvalidInput(f"{name}: {len(episodes)} episodes for {len(self.actions)} of actions")
            for k, (rows, actions) in enumerate(zip(episodes, self.actions, strict=True)):
                if len(rows) != len(actions) + extra:
                    raise InvalidInput(
                        f"{name}: {len(rows)} rows for {len(actions)} actions in episode {k}; T actions need "
                        f"{'T + 1' if extra else 'T'} rows"
                    )

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.actions)

    @property
    def steps(self) -> int:
        """Number of actions over all episodes."""
        return sum(len(a) for a in self.actions)
