"""The certificate: what planning behind an encoder can cost at most, by Theorem 3's quantities, on a linear plant.

*Claim.* The plant is the fitted one around the goal, `x_{t+1} = A x_t + B u_t`, x in the coordinates `Q z` of the true
state less the goal, without clipping, noise or drift. P, K solve its Riccati equation, `M = R + B'PB`. The agent acts
by `u_t = -K (x_hat_t - [eta_goal; 0])`: its filter sees the positions of x with errors eta_t, and the goal is encoded
too. `eta_s = h(z_s) - Q z_s`, h centred, is the encoder's error at the pose z_s that stands at step s of a path from a
start to a goal: given from outside, not by where x is. Then, over T steps and with the optimum taking over after them,
the expected loss (cost over that of the optimum, `V(x_0) = x_0' P x_0`) is at most

    kappa^2 lambda_1 + delta max_{d >= 2} lambda_d / (2 (rho - rho^d)).

*Proof.* (1) The ledger (`worldplan.eval.control.ledger`) without model error: the loss is exactly
`sum_t |K (x_hat_t - [eta_goal; 0] - x_t)|_M^2`, whatever the errors are, dependent or not. (2) What stands in it is
linear in them, `M^(1/2) K (...) = sum_s T_ts eta_s` with the matrices T of `error_response`. (3) The poses
`z_s = cos(phi_s) z_start + sin(phi_s) z_goal` of two independent N(0, I) are each N(0, I), as Theorem 3 asks, and
correlated by `c_su = cos(phi_s - phi_u)`. By Mehler's formula the parts of h of different Hermite degree d are
uncorrelated and `E eta_s eta_u' = sum_d c_su^d C_d`, `C_d >= 0`. With `S_d = sum_su c_su^d sum_t T_ts' T_tu` and its
largest eigenvalue lambda_d, `E loss = sum_d tr(S_d C_d) <= sum_d lambda_d tr C_d`. (4) Theorem 3's quantities limit the
energies (Klindt, LeCun, Balestriero 2026, arXiv 2605.26379): `delta = sum_{d >= 2} 2 (rho - rho^d) tr C_d`, so that the
degrees d >= 2 cost at most the second term. (5) With `h = M z + r` and k = eps + D, `|MM' - I|_F <= k`, hence
`tr C_1 = |M - Q|_F^2 <= kappa^2`: for k < 1, `kappa = k / (1 + sqrt(1 - k))`, since each singular value s of M has
`|s - 1| = |s^2 - 1| / (1 + s)`; else kappa = k.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from worldplan.agents.latent_controller import LatentController
from worldplan.agents.planning_agent import PlanningAgent
from worldplan.arrays import Floats, Frames
from worldplan.checks import positive_int
from worldplan.envs.rendering import render_frames
from worldplan.errors import InvalidInput
from worldplan.eval.control.ledger import cost_ledger
from worldplan.eval.identifiability.regression import fit_affine
from worldplan.eval.identifiability.theorem3 import ApproximateIdentifiability, distortion, isometry, theorem3_bound
from worldplan.eval.statistics.estimate import Estimate, estimate
from worldplan.learning.encoder import Encoder, encode
from worldplan.planning.estimation import StateEstimator
from worldplan.planning.lqr import LQRSolution

RHO, SCALE = 0.5, 0.7  # of the evaluator's world; at .7 rad an image leaves hardly a doubt about an angle
DEGREES, BLOCK = 20_000, 64
RESAMPLES = 500
ROUNDING = 1e-12  # loss over value that counts as none


@dataclass(frozen=True)
class Certificate:
    """Upper bound on the value loss, beside the measured one; costs in the units of the agent's cost.

    Attributes:
        theorem3: eps, delta and D of the encoder, in units of `N(0, I)` at `rho`.
        bound: on the expected loss, at the upper 95% limits of eps and delta.
        linear: its part by errors that are linear in the state.
        residual: its part by all others.
        measured: mean loss over the paths, with its 95% interval.
        value: `E V(e_0)`, what the optimum costs from the same starts and goals.
        steps: T.
        ledger: largest residual of the ledgers of the measured loss.
    """

    theorem3: ApproximateIdentifiability
    bound: float
    linear: float
    residual: float
    measured: Estimate
    value: float
    steps: int
    ledger: float

    @property
    def holds(self) -> bool:
        """Whether the measured loss lies below the bound; its lower limit, since both are measured on samples."""
        return self.measured.low <= self.bound + ROUNDING * self.value

    @property
    def looseness(self) -> float:
        """The bound over the mean loss; infinite where nothing was lost."""
        return self.bound / self.measured.value if self.measured.value > 0 else float("inf")


def error_response(lqr: LQRSolution, estimator: StateEstimator, steps: int) -> Floats:
    """How the encoder's errors reach the actions: T with `M^(1/2) (u_t + K x_t) = -sum_s T_ts eta_s`.

    On a plant that moves as the filter expects (or for finite differences on any), the estimate's error obeys
    `f_0 = [eta_0; 0]`, `f_t = (I - L H) A f_{t-1} + L eta_t`; the goal's error enters every step by `-K [eta_goal; 0]`.

    Args:
        lqr: of an infinite horizon.
        estimator: of the same state.
        steps: T.

    Returns:
        (T, T + 1, m, n): action t, error s of frames 0 ... T - 1 and last of the goal.
    """
    n, d = estimator.latent_dim, lqr.dynamics.state_dim
    B, P = lqr.dynamics.B, lqr.value_matrix
    weighted = np.linalg.cholesky(lqr.cost.R + B.T @ P @ B).T @ lqr.gain  # |weighted x| = |K x|_M
    keep = (np.eye(d) - estimator.gain @ np.eye(n, d)) @ estimator.dynamics.A
    response = np.zeros((steps, steps + 1, len(weighted), n))
    error = np.zeros((steps, d, n))  # of the estimate, by the step at which the encoder erred
    error[0] = np.eye(d, n)
    for t in range(steps):
        if t:
            error = keep @ error
            error[t] = estimator.gain
        response[t, :steps] = weighted @ error
        response[t, steps] = -weighted[:, :n]
    return response


def path_angles(steps: int) -> Floats:
    """`phi_s`, (T + 1,): from the start, 0, in equal parts to the goal, pi / 2."""
    return np.linspace(0.0, np.pi / 2, positive_int("steps", steps) + 1)


def loss_bound(
    response: Floats, eps: float, delta: float, rho: float = RHO, *, most: int = DEGREES, block: int = BLOCK
) -> tuple[float, float]:
    """The claim's two terms, for errors along the path of `path_angles`.

    Args:
        response: (T, T + 1, m, n) of `error_response`.
        eps: `|Cov(h) - I|_F`.
        delta: excess alignment loss, see `worldplan.eval.identifiability.theorem3`.
        rho: of the pairs that delta was measured on.
        most: degrees that are followed one by one; the rest is bounded together.
        block: degrees followed at once.

    Raises:
        InvalidInput: a number is out of range.
    """
    if not (eps >= 0 and np.isfinite([eps, delta]).all() and 0 < rho < 1):
        raise InvalidInput(f"need eps >= 0, finite delta and 0 < rho < 1, got {eps}, {delta} and {rho}")
    phi = path_angles(response.shape[0])
    c = np.cos(phi[:, None] - phi).clip(0.0, 1.0)
    gram = np.einsum("tsai,tuaj->suij", response, response)
    k = eps + theorem3_bound(eps, delta, rho)[0]
    kappa = k / (1 + np.sqrt(1 - k)) if k < 1 else k
    linear = kappa**2 * _largest(np.einsum("su,suij->ij", c, gram))
    # For d -> infinity only s = u is left: |S_d - S_infinity| <= sum_{s != u} c_su^d |gram_su|, which falls with d.
    own = _largest(np.einsum("ssij->ij", gram))
    across = np.where(np.eye(len(phi), dtype=bool), 0.0, np.linalg.norm(gram, axis=(2, 3)))
    degrees = np.arange(2, 2 + block)
    powers, step = c ** degrees[:, None, None], c**block
    worst, rest = 0.0, np.inf
    while degrees[0] < most and rest > worst:
        S = np.tensordot(powers, gram, axes=2)
        share = 2 * (rho - rho ** degrees.astype(np.float64))  # of a unit of energy in delta; it grows with d
        worst = max(worst, float((np.linalg.eigvalsh(S)[:, -1] / share).max()))
        rest = (own + float((powers[-1] * c * across).sum())) / float(share[-1])
        powers, degrees = powers * step, degrees + block
    return float(linear), max(delta, 0.0) * max(worst, rest)


def _largest(S: Floats) -> float:
    return float(np.linalg.eigvalsh((S + S.T) / 2)[-1])


def path_losses(agent: PlanningAgent, errors: Floats, away: Floats) -> tuple[Floats, float]:
    """Simulate the claim's plant, with the agent's filter and gain and given errors of its encoder.

    Args:
        agent: of a planner's dynamics, cost and filter.
        errors: (E, T + 1, n) `eta`, the goal's last, latent units.
        away: (E, n) start less goal, latent units.

    Returns:
        Losses (E,), and the largest residual of their ledgers.
    """
    plant = replace(agent.dynamics, intercept=np.zeros(agent.dynamics.state_dim))
    n, steps = agent.encoder.latent_dim, errors.shape[1] - 1
    controller = LatentController(plant, agent.cost, n, low=-np.inf, high=np.inf)
    # The true goal is the origin, the encoded one lies beside it.
    states, actions = [controller.start(away)], list[Floats]()
    mean = controller.start(away + errors[:, 0])
    for t in range(steps):
        if t:
            mean = controller.observe(mean, actions[-1], states[t][:, :n] + errors[:, t])
        actions.append(controller.act(mean, errors[:, steps])[0])
        states.append(plant.step(states[t], actions[t]))
    episodes = zip(np.stack(states, axis=1), np.stack(actions, axis=1), strict=True)
    ledgers = [cost_ledger(controller.lqr, x, u, np.zeros(n)) for x, u in episodes]
    return np.array([ledger.policy for ledger in ledgers]), max(ledger.residual for ledger in ledgers)


def certify(
    agent: PlanningAgent,
    *,
    scale: float = 1.0,
    seed: int = 0,
    profile: str = "dmc",
    pairs: int = 600,
    paths: int = 24,
    steps: int = 30,
    draw: Callable[..., Frames] = render_frames,
) -> Certificate:
    """Measure eps and delta of an agent's encoder, bound its loss by them, and measure the loss.

    The scene has no target sphere, so that a frame is a function of the pose.

    Args:
        agent: encoder, dynamics, cost and filter; its planner, clipping and charts play no part.
        scale: radians per latent unit.
        seed: of poses and resampling.
        profile: look of the frames.
        pairs: of the evaluator's Gaussian world, for eps and delta.
        paths: from start to goal, for the measured loss.
        steps: T.
        draw: joint angles (N, 2), no target and the profile to frames.

    Raises:
        InvalidInput: a number is out of range, or latents that are wrong.
    """
    for name, count in (("pairs", pairs), ("paths", paths), ("steps", steps)):
        positive_int(name, count)
    if not 0 < scale < np.inf:
        raise InvalidInput(f"scale must be a positive angle, got {scale}")
    rng, unit = np.random.default_rng([seed, 3000]), SCALE / scale  # latent units per unit of z
    first, other = rng.standard_normal((2, pairs, 2))
    z = np.stack([first, RHO * first + np.sqrt(1 - RHO**2) * other], axis=1)
    h = _look(agent.encoder, z, profile, draw) / unit
    _, theorem3 = distortion(h, z, rho=RHO, resamples=RESAMPLES, seed=seed)
    linear, residual = loss_bound(
        unit * error_response(agent.controller.lqr, agent.controller.estimator, steps),
        theorem3.eps.high,
        theorem3.delta.high,
    )
    fitted = fit_affine(z.reshape(-1, 2), h.reshape(2 * pairs, -1))
    Q = isometry(fitted.M)
    ends, phi = rng.standard_normal((2, paths, 1, 2)), path_angles(steps)[:, None]
    poses = np.cos(phi) * ends[0] + np.sin(phi) * ends[1]
    errors = _look(agent.encoder, poses, profile, draw) - unit * (poses @ Q.T + fitted.b)
    losses, ledger = path_losses(agent, errors, unit * (poses[:, 0] - poses[:, -1]) @ Q.T)
    P = agent.controller.lqr.value_matrix[: len(Q), : len(Q)]
    return Certificate(
        theorem3=theorem3,
        bound=linear + residual,
        linear=linear,
        residual=residual,
        measured=estimate(losses),
        value=float(2 * unit**2 * np.trace(Q.T @ P @ Q)),
        steps=steps,
        ledger=ledger,
    )


def _look(encoder: Encoder, z: Floats, profile: str, draw: Callable[..., Frames]) -> Floats:
    """Latents (N, V, n) of states z (N, V, 2)."""
    frames = draw(SCALE * z.reshape(-1, 2), None, profile)
    return encode(encoder, frames).reshape(*z.shape[:2], -1)
