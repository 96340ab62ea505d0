"""A policy that explores, and says what it would do on average: the difference is excitation."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray
from scipy.stats import norm

from worldplan.agents.actor import ActorPolicy, load_policy
from worldplan.data.recipes import EpisodeConfig
from worldplan.data.trajectories import Starts, State
from worldplan.errors import InvalidInput

_NODES = 24  # of the Gauss-Hermite rule over the policy's own draws


class ExploringPolicy:
    """`a = clip(pi(o) + sigma xi, low, high)`, with `xi ~ N(0, I)` drawn anew at every step.

    After `predict`, `expected` is `E[a | o]`, (N, m). What remains of the action, `a - expected`, has mean 0 in every
    state, and excites (`worldplan.learning.excitation`). Squashing and clipping are part of the expectation.

    Args:
        policy: pi; it draws its actions if `predict` is not deterministic.
        sigma: standard deviation of the added noise, action units, at least 0.
        seed: seed of the noise.

    Raises:
        InvalidInput: sigma below 0 or not finite.
    """

    def __init__(self, policy: ActorPolicy, sigma: float, seed: int = 0) -> None:
        if not 0 <= sigma < math.inf:
            raise InvalidInput(f"the noise must be at least 0 and finite, got {sigma}")
        self.policy, self.sigma = policy, sigma
        self.rng = np.random.default_rng([seed, 1])
        self.expected: NDArray[np.float64] = np.zeros((0, 0))

    def predict(
        self, observation: Any, state: State = None, episode_start: Starts = None, deterministic: bool = True
    ) -> tuple[NDArray[np.float32], State]:
        """Actions (N, m) or (m,), float32, for observations as the policy takes them; and `state`.

        Raises InvalidInput as the policy does.
        """
        action, state = self.policy.predict(observation, state, episode_start, deterministic)
        space = self.policy.action_space
        noise = self.sigma * self.rng.standard_normal(np.shape(action))
        self.expected = expected_action(self.policy, observation, self.sigma, deterministic)
        return np.clip(action + noise, space.low, space.high).astype(np.float32), state


def explorer(name: str | Path, config: EpisodeConfig) -> tuple[Callable[[int], Any], dict[str, str]]:
    """A policy for any seed, as `config` says that it acts, and its provenance.

    Where it explores it also says what it does on average, so that its noise is known.
    """
    source = {"name": Path(name).name, "sha256": load_policy(name).card["sha256"]}
    still = config.deterministic and not config.noise
    return partial(load_policy, name) if still else partial(_explorer, name, config.noise), source


def _explorer(name: str | Path, noise: float, seed: int) -> ExploringPolicy:
    return ExploringPolicy(load_policy(name, seed), noise, seed)


def expected_action(
    policy: ActorPolicy, observation: Any, sigma: float = 0.0, deterministic: bool = True
) -> NDArray[np.float64]:
    """`E[clip(pi(o) + sigma xi, low, high)]`, (N, m) or (m,), for observations (N, d) or (d,).

    The clipped normal has a closed form; the policy's own draws are integrated by a Gauss-Hermite rule.
    """
    low, high = (np.asarray(x, dtype=np.float64) for x in (policy.action_space.low, policy.action_space.high))
    mean, deviation = policy.distribution(observation)
    nodes, weights = (np.zeros(1), np.ones(1)) if deterministic else hermegauss(_NODES)
    weights = weights / weights.sum()
    drawn = np.tanh(mean[..., None] + deviation[..., None] * nodes)  # (..., m, nodes)
    centre = low[:, None] + 0.5 * (drawn + 1.0) * (high - low)[:, None]
    if sigma > 0:
        a, b = ((limit[:, None] - centre) / sigma for limit in (low, high))
        inside = centre * (norm.cdf(b) - norm.cdf(a)) + sigma * (norm.pdf(a) - norm.pdf(b))
        centre = inside + low[:, None] * norm.cdf(a) + high[:, None] * norm.sf(b)
    return np.asarray(centre @ weights, dtype=np.float64)
