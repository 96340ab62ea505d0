"""The Kalman filter that estimates (position, velocity) from encoded frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_are

from worldplan.arrays import Floats, some
from worldplan.errors import InvalidInput, SolverFailed
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.space import LatentSpace

RESIDUAL_TOLERANCE = 1e-6  # relative residual of the Riccati equation
# Mean squared innovation, in its standard deviations, beyond which a frame does not show the plant. In closed loops of
# the shipped agents the largest was 16 in 2,400 steps each; black, white and random frames had hundreds to thousands.
UNBELIEVABLE = 50.0


@dataclass(frozen=True, eq=False)
class StateEstimator:
    """`m_t = p + L (y_t (-) p_h)` with the prediction `p = A m_{t-1} + B u_{t-1} + c`; `m_0 = [y_0; 0]`.

    `gain` is L (d, n). The first n states are the latent, in `space`: on its circles, the estimate runs on without
    jumps, and the innovation `y (-) p_h` is the shorter way. `precision` (n, n) is the inverse of the innovation's
    covariance; None if the noise is unknown.
    """

    dynamics: LinearDynamics
    gain: Floats
    space: LatentSpace
    precision: Floats | None = None

    @property
    def latent_dim(self) -> int:
        """n, the length of a latent."""
        return self.space.dim

    def start(self, latent: Floats) -> Floats:
        """States (N, d) at rest at latents (N, n)."""
        state = np.zeros((len(latent), self.dynamics.state_dim))
        state[:, : self.latent_dim] = latent
        return state

    def update(self, state: Floats, action: Floats, latent: Floats) -> Floats:
        """Next states (N, d) from the last states, the actions (N, m) applied since, and the new latents (N, n).

        Raises InvalidInput for latents of another shape, and for a state or a latent that is not finite.
        """
        ahead, innovation = self._predicted(state, action, latent)
        return np.asarray(ahead + innovation @ self.gain.T)

    def watch(self, state: Floats, action: Floats, latent: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Like `update`, but a latent that cannot be one of the plant's is predicted through; which ones, (N,).

        The test is on the innovation: `nu' S^-1 nu > 50 n`, with S its stationary covariance (Mehra & Peschon 1971,
        Automatica 7(5)). A frame that is wrong but near what was expected passes, and does no harm.
        """
        ahead, innovation = self._predicted(state, action, latent)
        odd = np.zeros(len(ahead), dtype=bool)
        if self.precision is not None:
            odd = (innovation.dot(self.precision) * innovation).sum(axis=1) > UNBELIEVABLE * self.latent_dim
            if some(odd):
                innovation[odd] = 0.0
        return ahead + innovation.dot(self.gain.T), odd

    def _predicted(self, state: Floats, action: Floats, latent: Floats) -> tuple[Floats, Floats]:
        """The prediction (N, d) and the innovation (N, n)."""
        ahead = self.dynamics.step(state, action)
        shown = ahead[:, : self.latent_dim]
        if np.shape(latent) != shown.shape:
            raise InvalidInput(f"the states need latents {shown.shape}, got {np.shape(latent)}")
        return ahead, self.space.wrap(latent - shown)


def build_estimator(dynamics: LinearDynamics, latent_dim: int, space: LatentSpace | None = None) -> StateEstimator:
    """The steady-state Kalman filter of `dynamics`, or finite differences if its noise is unknown.

    The stationary covariance P before a measurement solves the dual Riccati equation (Kalman 1960). The gain is
    `L = P H' (H P H' + R)^-1`, `H = [I 0]`. Without noise covariances the state is taken as measured: `h = y_t`, and
    for order 2 `v = y_t - y_{t-1}`. The same recursion gives this if it predicts no movement and `L = [I; I]`.

    Args:
        dynamics: dynamics of order 1 or 2 on n-dimensional latents.
        latent_dim: n.
        space: space of the latents; None for lines.

    Raises:
        InvalidInput: the state is neither (n,) nor (2 n,), the observation noise is not (n, n), or the space has
            another dimension.
        SolverFailed: no filter forgets its start: the latent does not show some undamped mode, or no noise moves it.
    """
    A, n, d = dynamics.A, latent_dim, dynamics.state_dim
    space = LatentSpace.lines(n) if space is None else space
    if space.dim != n:
        raise InvalidInput(f"{space!r} has {space.dim} coordinates, the latents {n}")
    if d not in (n, 2 * n):
        raise InvalidInput(f"dynamics of {d} states fit no latent of {n}; they need {n} or {2 * n}")
    Q, R = dynamics.process_noise, dynamics.observation_noise
    if Q is None or R is None:
        still = LinearDynamics(A=np.diag([1.0] * n + [0.0] * (d - n)), B=np.zeros_like(dynamics.B))
        return StateEstimator(still, np.tile(np.eye(n), (d // n, 1)), space)
    if R.shape != (n, n):
        raise InvalidInput(f"observation_noise must be ({n}, {n}) for latents of {n}, got {R.shape}")
    H = np.eye(n, d)
    # The gain depends only on the ratio of the noises, but SciPy's accuracy also on their size: use noise of size 1.
    size = float(np.trace(R)) or 1.0
    Q, R = Q / size, R / size
    try:
        P = solve_discrete_are(A.T, H.T, Q, R)
        gain = np.linalg.solve(H @ P @ H.T + R, H @ P).T
    except (np.linalg.LinAlgError, ValueError) as error:
        raise SolverFailed(f"no stationary Kalman filter ({error}); fit the dynamics on more data", dynamics) from error
    # SciPy may return a wrong P without raising: look at the filter and at the equation.
    keep = np.eye(d) - gain @ H
    radius = float(np.abs(np.linalg.eigvals(keep @ A)).max())
    residual = float(np.linalg.norm(A @ keep @ P @ A.T + Q - P) / np.linalg.norm(P))
    if not (radius < 1.0 and residual < RESIDUAL_TOLERANCE):
        evidence = f"radius {radius:.6f}, residual {residual:.1g}"
        raise SolverFailed(f"no stationary Kalman filter ({evidence}); fit the dynamics on more data", dynamics)
    precision = np.linalg.inv(H @ P @ H.T + R) / size
    return StateEstimator(dynamics, np.asarray(gain, dtype=np.float64), space, np.asarray(precision, dtype=np.float64))
