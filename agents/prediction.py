"""Whether linear dynamics predict what they were not fitted to: k steps ahead, against staying where one is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from worldplan.arrays import Floats
from worldplan.data.trajectories import Trajectories
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.estimation import build_estimator
from worldplan.planning.space import LatentSpace

AHEAD = 1, 5, 10, 25, 50  # steps
UNFIT = "does not fit"  # how the verdict on a bad model begins
SETTLED = 5  # steps after which the filter has forgotten its start
FITS = 0.5  # share of the movement over the longest horizon that a model must predict
SMALL = 2.0  # movement over a horizon below so many standard deviations of the encoder's noise is no movement


@dataclass(frozen=True)
class StepError:
    """Errors of predictions some steps ahead, root mean square, over the spread of the latents.

    Attributes:
        steps: k.
        error: of the model, from the filter's estimate and the actions that followed.
        persistence: of staying where one is.
    """

    steps: int
    error: float
    persistence: float

    @property
    def explained(self) -> float:
        """Share of the movement that is predicted, `1 - error^2 / persistence^2`."""
        return 1.0 - (self.error / self.persistence) ** 2 if self.persistence > 0.0 else 0.0


@dataclass(frozen=True)
class Prediction:
    """How far a model predicts held-out episodes, and what follows.

    Attributes:
        errors: by horizon, ascending.
        noise: standard deviation of the encoder's noise, over the spread of the latents.
    """

    errors: tuple[StepError, ...]
    noise: float

    @property
    def fits(self) -> bool:
        """Whether the model predicts most of the movement over the longest horizon."""
        return self.errors[-1].explained >= FITS

    @property
    def verdict(self) -> str:
        """What the numbers say, and what to do where they are bad."""
        last, first = self.errors[-1], self.errors[0]
        share = f"the model predicts {max(last.explained, 0.0):.0%} of what moves in {last.steps} steps"
        if self.fits:
            return f"fits: {share}"
        if last.persistence < SMALL * self.noise:
            return f"{UNFIT}: {share}, and what moves is noise; collect with more excitation (--hold, longer)"
        if first.explained >= FITS:
            return (
                f"{UNFIT}: {share}, but {first.explained:.0%} in one; fit whole predictions (--horizon 24); if that "
                "does not help, the plant is linear only near one place: fit it near the goal (--around)"
            )
        return (
            f"{UNFIT}: {share}; fit whole predictions (--horizon 24); if that does not help, these coordinates are "
            "noisy, or not linear in the actions: train longer or on more episodes, or another latent (--space)"
        )


def predict_held_out(
    dynamics: LinearDynamics, latents: list[Floats], data: Trajectories, space: LatentSpace
) -> Prediction | None:
    """Predict episodes that the dynamics were not fitted to, k steps ahead for each k in `AHEAD` that they are long.

    Args:
        dynamics: the model, on `[h; v]`.
        latents: E arrays (T + 1, n), the encoder's output on the frames of `data`.
        data: the episodes.
        space: space of the latents.

    Returns:
        None if no episode is long enough for one step.
    """
    n = space.dim
    estimator = build_estimator(dynamics, n, space)
    missed: dict[int, list[Floats]] = {k: [] for k in AHEAD}
    moved: dict[int, list[Floats]] = {k: [] for k in AHEAD}
    for h, actions in zip(latents, data.actions, strict=True):
        states = [estimator.start(h[:1])]
        for t, action in enumerate(actions):
            states.append(estimator.update(states[-1], action[None], h[t + 1 : t + 2]))
        now = np.concatenate(states)
        for k in AHEAD:
            starts = np.arange(SETTLED, len(actions) - k + 1)
            if not len(starts):
                continue
            ahead = now[starts]
            for j in range(k):
                ahead = dynamics.step(ahead, actions[starts + j])
            missed[k].append(space.difference(ahead[:, :n], h[starts + k]))
            moved[k].append(space.difference(h[starts], h[starts + k]))
    everywhere = np.concatenate(latents)
    others = np.random.default_rng(0).permutation(everywhere)
    spread = _size(space.difference(everywhere, others)) / math.sqrt(2.0)  # on circles too
    errors = tuple(
        StepError(k, _size(np.concatenate(missed[k])) / spread, _size(np.concatenate(moved[k])) / spread)
        for k in AHEAD
        if missed[k]
    )
    if not errors:
        return None
    noise = 0.0 if dynamics.observation_noise is None else float(np.sqrt(np.trace(dynamics.observation_noise) / n))
    return Prediction(errors, noise / spread)


def _size(rows: Floats) -> float:
    """Root mean square, per coordinate."""
    return float(np.sqrt(np.square(rows).mean()))
