"""Time of one control step, beside the bare network's on the same frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worldplan.agents.planning_agent import PlanningAgent
from worldplan.checks import positive_int
from worldplan.errors import InvalidInput
from worldplan.learning.network import to_input

_WARM_UP = 10  # untimed steps


@dataclass(frozen=True)
class StepTime:
    """Median milliseconds over `steps` control steps.

    Attributes:
        predict_ms: `predict` on a rendered frame: encode, estimate, plan.
        forward_ms: the network alone, on its prepared input.
    """

    predict_ms: float
    forward_ms: float
    steps: int

    @property
    def ratio(self) -> float:
        """Control step over bare forward pass."""
        return self.predict_ms / self.forward_ms


def time_steps(agent: PlanningAgent, frames: NDArray[np.uint8], goal: NDArray[np.uint8], steps: int = 300) -> StepTime:
    """Time `predict` and the bare network in turn, on frames (T, 64, 64, 3) of an episode and a goal (64, 64, 3).

    Frames are rendered already, so that no renderer is timed. If the encoder has no `network`, its call is the forward
    pass.

    Raises:
        InvalidInput: no steps or no frames.
    """
    steps = positive_int("steps", steps)
    if not len(frames):
        raise InvalidInput("got no frames to time; pass those of an episode")
    network: Callable[[Any], Any] = getattr(agent.encoder, "network", agent.encoder)
    bare = network is not agent.encoder
    state, start = None, np.ones(1, dtype=bool)
    seconds = np.zeros((_WARM_UP + steps, 2))
    with torch.inference_mode():
        for k in range(len(seconds)):
            frame = frames[k % len(frames)]
            prepared = to_input(torch.from_numpy(frame[None])) if bare else frame[None]
            begin = perf_counter()
            _, state = agent.predict({"observation": frame, "desired_goal": goal}, state, start)
            middle = perf_counter()
            network(prepared)
            seconds[k] = middle - begin, perf_counter() - middle
            start = np.zeros(1, dtype=bool)
    predict, forward = 1000.0 * np.median(seconds[_WARM_UP:], axis=0)
    return StepTime(float(predict), float(forward), steps)
