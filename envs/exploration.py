"""Random actions that excite a plant: white, held, or with memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from worldplan.arrays import Floats
from worldplan.data.recipes import Exploration


def random_actions(
    how: Exploration, low: NDArray[np.floating], high: NDArray[np.floating], rng: np.random.Generator
) -> Iterator[Floats]:
    """Actions (m,) without end, within the limits (m,).

    Held actions change first after 1 to `hold` steps, so that the changes of different episodes fall on all steps.
    """
    middle, half = (np.asarray(high) + low) / 2.0, how.strength * (np.asarray(high) - low) / 2.0
    left = int(rng.integers(how.hold)) + 1 if how.hold > 1 else 1
    z = rng.standard_normal(np.shape(low)) if how.memory else np.zeros(np.shape(low))
    while True:
        if how.memory:
            action = middle + half * z.clip(-1.0, 1.0)
            z = how.memory * z + np.sqrt(1.0 - how.memory**2) * rng.standard_normal(z.shape)
        else:
            action = rng.uniform(middle - half, middle + half)
        for _ in range(left):
            yield action
        left = how.hold
