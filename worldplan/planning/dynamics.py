"""Linear latent dynamics `x' = A x + B u + c`, and their fit to noisy latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from worldplan.arrays import Floats, finite_array, semidefinite
from worldplan.checks import natural_int
from worldplan.errors import InvalidInput
from worldplan.planning.output_error import refine
from worldplan.planning.space import LatentSpace

# Smallest noise variance that a fit returns, over the latents' mean variance: without noise nothing could be smoothed.
NOISE_FLOOR = 1e-10


@dataclass(frozen=True, eq=False)
class LinearDynamics:
    """`x_{t+1} = A x_t + B u_t + c + w_t`, observed through `y_t = h_t + e_t`.

    Args:
        A: (d, d) transition. For order 2 `d = 2 n` and `x = [h; v]`, `v_t = h_t - h_{t-1}` (latent units per step).
        B: (d, m) input map.
        intercept: (d,) constant `c`; zero if left out.
        process_noise: (d, d) covariance of `w`; None if unknown.
        observation_noise: (n, n) covariance of `e`, n <= d; None if unknown.

    Raises:
        InvalidInput: shapes do not match, an entry is not finite, or a covariance is not positive semidefinite.
    """

    A: Floats
    B: Floats
    intercept: Floats = field(default_factory=lambda: np.zeros(0))
    process_noise: Floats | None = None
    observation_noise: Floats | None = None

    def __post_init__(self) -> None:
        A, B = finite_array("A", self.A), finite_array("B", self.B)
        if A.ndim != 2 or A.shape[0] != A.shape[1] or A.shape[0] == 0:
            raise InvalidInput(f"A must be square (d, d), got shape {A.shape}")
        if B.ndim != 2 or B.shape[0] != A.shape[0] or B.shape[1] == 0:
            raise InvalidInput(f"B must be (d, m) with d = {A.shape[0]}, got shape {B.shape}")
        d = A.shape[0]
        c = np.zeros(d) if np.size(self.intercept) == 0 else finite_array("intercept", self.intercept)
        if c.shape != (d,):
            raise InvalidInput(f"intercept must be ({d},), got shape {c.shape}")
        arrays: dict[str, Floats] = {"A": A, "B": B, "intercept": c}
        if self.process_noise is not None:
            arrays["process_noise"] = semidefinite("process_noise", self.process_noise)
            if arrays["process_noise"].shape != (d, d):
                raise InvalidInput(f"process_noise must be ({d}, {d}), got {arrays['process_noise'].shape}")
        if self.observation_noise is not None:
            arrays["observation_noise"] = semidefinite("observation_noise", self.observation_noise)
            if len(arrays["observation_noise"]) > d:
                raise InvalidInput(
                    f"observation_noise must be (n, n), n <= {d}, got {arrays['observation_noise'].shape}"
                )
        for name, value in arrays.items():
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    @property
    def state_dim(self) -> int:
        """d, the length of the control state."""
        return int(self.A.shape[0])

    @property
    def action_dim(self) -> int:
        """m, the length of an action."""
        return int(self.B.shape[1])

    def step(self, state: Floats, action: Floats) -> Floats:
        """Next state without noise, for states (..., d) and actions (..., m)."""
        # `dot` takes a third of the time of `@` for the few numbers of a control step, and gives the same.
        return np.asarray(state).dot(self.A.T) + np.asarray(action).dot(self.B.T) + self.intercept  # type: ignore[no-any-return]


def fit_dynamics(
    latents: Sequence[Floats],
    actions: Sequence[Floats],
    order: int = 2,
    *,
    iterations: int = 50,
    space: LatentSpace | None = None,
    horizon: int = 0,
) -> LinearDynamics:
    """Fit linear dynamics to episodes of noisy latents: coefficients by instruments, noise by maximum likelihood.

    Least squares on measured latents is biased by their noise (errors in variables). The coefficients are therefore
    fitted by two-stage least squares, with lagged latents and actions as instruments. Given these coefficients,
    expectation maximisation of the linear Gaussian model (Shumway and Stoffer 1982) identifies both covariances. It
    does not update the coefficients: that biases them on real frames, where an encoder's error is not white. Every step
    commutes with a rotation of the latents: no ridge, no diagonal noise, a fixed number of iterations.

    With a `horizon`, the coefficients are those whose predictions over so many steps miss the latents least
    (`worldplan.planning.output_error`), searched from the instruments' answer and from pure inertia.

    Args:
        latents: E arrays (T + 1, n), the encoder's output on the frames of an episode; T may differ.
        actions: E arrays (T, m).
        order: 2 for `x = [h; v]` (mechanics), 1 for `x = h`.
        iterations: steps of expectation maximisation; 0 leaves the noise unknown.
        space: space of the latents; None for lines. Circles are unwrapped along each episode, and nothing depends on
            the position on a circle: otherwise a full turn would change the model.
        horizon: steps over which predictions are fitted, at least 2; 0 takes the instruments' answer.

    Returns:
        Dynamics on (order * n) states with intercept and both noise covariances.

    Raises:
        InvalidInput: wrong shapes, short or few episodes, non-finite values, or too little variation.
    """
    iterations, horizon = natural_int("iterations", iterations), natural_int("horizon", horizon)
    if horizon == 1:
        raise InvalidInput(f"horizon must be 0 or at least 2 steps, got {horizon}")
    episodes = _checked(latents, actions, order)
    n, m = episodes[0][0].shape[1], episodes[0][1].shape[1]
    space = LatentSpace.lines(n) if space is None else space
    if not isinstance(space, LatentSpace):
        raise InvalidInput(f"space is a LatentSpace or None, got {space!r}")
    episodes = [(space.unwrap(h), u) for h, u in episodes]
    model = _Model(n, m, order, space.circles)
    theta, noise, error = _instrumental(episodes, model)
    if horizon:
        theta, _ = refine(episodes, model, [theta, model.inertia], horizon)
    try:
        with np.errstate(over="raise", invalid="raise"):
            for _ in range(iterations):
                noise, error = _maximisation(episodes, model, theta, noise, error)
    except (np.linalg.LinAlgError, FloatingPointError) as broken:
        raise InvalidInput(
            f"the fit diverged ({broken}): these episodes do not identify the dynamics; collect more, or larger actions"
        ) from broken
    A, B, c = model.assemble(theta)
    if iterations == 0:
        return LinearDynamics(A, B, c)
    return LinearDynamics(A, B, c, process_noise=model.E @ noise @ model.E.T, observation_noise=error)


@dataclass(frozen=True)
class _Model:
    """`x' = D x + E w'` with the regression `w' = theta [x; u; 1] + noise`.

    w is v for order 2; for order 1 it is h on lines and its change on circles.
    """

    n: int
    m: int
    order: int
    circles: NDArray[np.bool_]

    @property
    def E(self) -> Floats:
        return np.tile(np.eye(self.n), (self.order, 1))

    @property
    def D(self) -> Floats:
        return np.diag([1.0] * self.n + [0.0] * self.n) if self.order == 2 else np.diag(1.0 * self.circles)

    @property
    def known(self) -> NDArray[np.bool_]:
        """The regressors that count: nothing depends on the position on a circle."""
        others = np.ones((self.order - 1) * self.n + self.m + 1, dtype=bool)
        return np.concatenate([~self.circles, others])

    @property
    def inertia(self) -> Floats:
        """The theta of latents that move on as they do (order 2) or stay (order 1), whatever the actions."""
        theta = np.zeros((self.n, self.order * self.n + self.m + 1))
        theta[:, -self.n - self.m - 1 : -self.m - 1] = (
            np.eye(self.n) if self.order == 2 else np.diag(1.0 * ~self.circles)
        )
        return theta

    def assemble(self, theta: Floats) -> tuple[Floats, Floats, Floats]:
        d = self.order * self.n
        return self.D + self.E @ theta[:, :d], self.E @ theta[:, d:-1], self.E @ theta[:, -1]


def _checked(latents: Sequence[Floats], actions: Sequence[Floats], order: int) -> list[tuple[Floats, Floats]]:
    if natural_int("order", order) not in (1, 2):
        raise InvalidInput(f"order must be 1 or 2, got {order}")
    try:
        latents, actions = list(latents), list(actions)
    except TypeError as error:
        raise InvalidInput(f"latents and actions are a list of episodes each: {error}") from error
    if not len(latents) or len(latents) != len(actions):
        raise InvalidInput(f"need equally many episodes of latents and actions, got {len(latents)} and {len(actions)}")
    pairs: list[tuple[Floats, Floats]] = []
    for k, episode in enumerate(zip(latents, actions, strict=True)):
        names = f"latents of episode {k}", f"actions of episode {k}"
        h, u = (finite_array(name, rows) for name, rows in zip(names, episode, strict=True))
        for name, rows, shape in zip(names, (h, u), ("(T + 1, n)", "(T, m)"), strict=True):
            if rows.ndim != 2 or rows.shape[1] == 0:
                raise InvalidInput(f"{name} must be {shape}, got {rows.shape}; one number a step is a column")
        if len(h) != len(u) + 1:
            raise InvalidInput(f"{names[0]}: {len(h)} rows for {len(u)} actions; T actions need T + 1 latents")
        if pairs and (h.shape[1], u.shape[1]) != (pairs[0][0].shape[1], pairs[0][1].shape[1]):
            raise InvalidInput(f"episode {k} has rows of {h.shape[1]} and {u.shape[1]} numbers, unlike episode 0")
        if len(u) < order + 3:
            raise InvalidInput(
                f"the lagged instruments need {order + 3} actions an episode, got {len(u)} in episode {k}"
            )
        pairs.append((h, u))
    return pairs


def _instrumental(episodes: list[tuple[Floats, Floats]], model: _Model) -> tuple[Floats, Floats, Floats]:
    """Two-stage least squares: regressors from (y_t, y_{t-1}, u_t), instruments from older y, of independent noise."""
    targets, regressors, instruments = [], [], []
    for y, u in episodes:
        t = np.arange(model.order + 1, len(u))
        old = np.stack([y[t - model.order], y[t - model.order - 1]], axis=1)
        if model.circles.any():  # not the position on a circle: which of its representatives it is says nothing
            old = np.stack([old[:, 0] - old[:, 1], old[:, 0] * ~model.circles], axis=1)
        if model.order == 2:
            targets.append(y[t + 1] - y[t])
            state = np.concatenate([y[t], y[t] - y[t - 1]], axis=1)
        else:
            targets.append(y[t + 1] - y[t] * model.circles)
            state = y[t]
        ones = np.ones((len(t), 1))
        regressors.append(np.concatenate([state, u[t], ones], axis=1))
        lagged = [u[t - k] for k in range(model.order + 1)]
        instruments.append(np.concatenate([old.reshape(len(t), -1), *lagged, ones], axis=1))
    w, X, Z = (np.concatenate(rows) for rows in (targets, regressors, instruments))
    if len(w) < 4 * X.shape[1]:
        raise InvalidInput(f"{len(w)} usable steps are too few to fit {X.shape[1]} coefficients; collect more episodes")
    known = model.known
    fitted = Z @ np.linalg.lstsq(Z, X[:, known], rcond=None)[0]
    if np.linalg.matrix_rank(fitted) < fitted.shape[1]:
        raise InvalidInput("latents or actions vary too little to identify the dynamics; collect more varied episodes")
    theta = np.zeros((w.shape[1], X.shape[1]))
    theta[:, known] = np.linalg.lstsq(fitted, w, rcond=None)[0].T
    residual = w - X @ theta.T
    spread = residual.T @ residual / len(residual)
    floor = _noise_floor(episodes)
    return theta, _at_least(spread / 2, floor), _at_least(spread / 8, floor)  # a split that the maximisation corrects


def _noise_floor(episodes: list[tuple[Floats, Floats]]) -> float:
    return NOISE_FLOOR * float(np.concatenate([y for y, _ in episodes]).var(axis=0).mean())


def _at_least(covariance: Floats, floor: float) -> Floats:
    """The symmetric part with its eigenvalues raised to `floor`; this commutes with rotations."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.asarray((vectors * np.maximum(values, floor)) @ vectors.T)


def _maximisation(
    episodes: list[tuple[Floats, Floats]], model: _Model, theta: Floats, noise: Floats, error: Floats
) -> tuple[Floats, Floats]:
    """One step of expectation maximisation: smooth all episodes, then fit both covariances to the moments."""
    A, B, c = model.assemble(theta)
    Q = model.E @ noise @ model.E.T
    d, n, k = model.order * model.n, model.n, model.order * model.n + model.m + 1
    target = slice(d - n, d)  # w is the last block of x
    Szz, Swz, Sww, See = np.zeros((k, k)), np.zeros((n, k)), np.zeros((n, n)), np.zeros((n, n))
    steps = rows = 0
    for T in sorted({len(u) for _, u in episodes}):
        y = np.stack([h for h, u in episodes if len(u) == T])
        u = np.stack([v for _, v in episodes if len(v) == T])
        mean, cov, lag = _smooth(y, u, A, B, c, Q, error)
        z = np.concatenate([mean[:, :-1], u, np.ones((*u.shape[:2], 1))], axis=2)
        w = mean[:, 1:, target]
        Szz += np.einsum("eti,etj->ij", z, z)
        Szz[:d, :d] += len(y) * cov[:-1].sum(axis=0)
        Swz += np.einsum("eti,etj->ij", w, z)
        Swz[:, :d] += len(y) * lag[:, target].sum(axis=0)
        Sww += np.einsum("eti,etj->ij", w, w) + len(y) * cov[1:, target, target].sum(axis=0)
        gap = y - mean[:, :, :n]
        See += np.einsum("eti,etj->ij", gap, gap) + len(y) * cov[:, :n, :n].sum(axis=0)
        steps, rows = steps + len(y) * T, rows + len(y) * (T + 1)
    theta = np.hstack([model.D[target] + theta[:, :d], theta[:, d:]])  # of the last block itself
    noise = (Sww - theta @ Swz.T - Swz @ theta.T + theta @ Szz @ theta.T) / steps
    floor = _noise_floor(episodes)
    return _at_least(noise, floor), _at_least(See / rows, floor)


def _smooth(
    y: Floats, u: Floats, A: Floats, B: Floats, c: Floats, Q: Floats, R: Floats
) -> tuple[Floats, Floats, Floats]:
    """Rauch-Tung-Striebel smoother over E episodes of one length, which share their covariances.

    Returns means (E, T + 1, d), covariances (T + 1, d, d) and lag-one covariances Cov(x_{t+1}, x_t) (T, d, d).
    """
    E, rows, n = y.shape
    d = len(A)
    wide = 100.0 * float(np.trace(np.cov(y.reshape(-1, n).T).reshape(n, n))) / n
    mean, cov = np.zeros((E, rows, d)), np.zeros((rows, d, d))
    ahead_mean, ahead_cov = np.zeros((E, rows, d)), np.zeros((rows, d, d))
    ahead_mean[:, 0, :n] = y[:, 0]  # a wide isotropic prior: where an episode starts is not part of the model
    ahead_cov[0] = wide * np.eye(d)
    for t in range(rows):  # invariant: mean[:, s], cov[s] condition on y_0 ... y_s for every s < t
        gain = np.linalg.solve(ahead_cov[t, :n, :n] + R, ahead_cov[t, :n, :]).T
        mean[:, t] = ahead_mean[:, t] + (y[:, t] - ahead_mean[:, t, :n]) @ gain.T
        left = np.eye(d)
        left[:, :n] -= gain
        cov[t] = left @ ahead_cov[t] @ left.T + gain @ R @ gain.T
        if t + 1 < rows:
            ahead_mean[:, t + 1] = mean[:, t] @ A.T + u[:, t] @ B.T + c
            ahead_cov[t + 1] = A @ cov[t] @ A.T + Q
    lag = np.zeros((rows - 1, d, d))
    for t in reversed(range(rows - 1)):  # invariant: mean[:, s], cov[s] condition on all of y for every s > t
        back = np.linalg.solve(ahead_cov[t + 1], A @ cov[t]).T
        mean[:, t] += (mean[:, t + 1] - ahead_mean[:, t + 1]) @ back.T
        lag[t] = cov[t + 1] @ back.T
        cov[t] += back @ (cov[t + 1] - ahead_cov[t + 1]) @ back.T
    return mean, cov, lag
