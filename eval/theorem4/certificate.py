"""The certificate: an upper bound on the cost of planning behind an encoder, from Theorem 3, on a linear plant.

*Claim.* The plant is the fitted one around the goal, `x_{t+1} = A x_t + B u_t`, without clipping, noise or drift. Its x
is the true state less the goal, in the coordinates `Q z`. P and K solve its Riccati equation, and `M = R + B'PB`. The
agent acts by `u_t = -K (x_hat_t - [eta_goal; 0])`: its filter sees the positions of x with errors eta_t, and the goal
is encoded too. With h centred, `eta_s = h(z_s) - Q z_s` is the encoder's error at the pose z_s. This pose is step s of
a given path from a start to a goal, and does not depend on x. The optimum takes over after T steps. The loss is the
cost less that of the optimum, `V(x_0) = x_0' P x_0`. Its expectation is at most

    kappa^2 lambda_1 + delta max_{d >= 2} lambda_d / (2 (rho - rho^d)).

*Proof.* (1) By the ledger (`worldplan.eval.control.ledger`) without model error, the loss is exactly
`sum_t |K (x_hat_t - [eta_goal; 0] - x_t)|_M^2`. The errors may depend on each other.
(2) The terms are linear in the errors: `M^(1/2) K (...) = sum_s T_ts eta_s` with the matrices T of `error_response`.
(3) The poses are `z_s = cos(phi_s) z_start + sin(phi_s) z_goal`, with independent ends N(0, I). Each is N(0, I), as
Theorem 3 asks, and two are correlated by `c_su = cos(phi_s - phi_u)`. By Mehler's formula the parts of h of different
Hermite degree d are uncorrelated, and `E eta_s eta_u' = sum_d c_su^d C_d`, `C_d >= 0`. Let
`S_d = sum_su c_su^d sum_t T_ts' T_tu`, with largest eigenvalue lambda_d. Then
`E loss = sum_d tr(S_d C_d) <= sum_d lambda_d tr C_d`.
(4) Theorem 3 (Klindt, LeCun and Balestriero 2026, arXiv 2605.26379) limits the energies:
`delta = sum_{d >= 2} 2 (rho - rho^d) tr C_d`. So the degrees d >= 2 cost at most the second term.
(5) Let `h = F z + r` and `k = eps + D`. Then `|FF' - I|_F <= k`, hence `tr C_1 = |F - Q|_F^2 <= kappa^2`. Here kappa =
k for k >= 1. For k < 1, `kappa = k / (1 + sqrt(1 - k))`, since each singular value s of F has
`|s - 1| = |s^2 - 1| / (1 + s)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from worldplan.agents.latent_controller import LatentController
from worldplan.agents.planning_agent import PlanningAgent
from worldplan.arrays import Floats, Frames, finite_array
from worldplan.checks import positive_int
from worldplan.envs.rendering import render_frames
from worldplan.errors import InvalidInput
from worldplan.eval.control.ledger import cost_ledger
from worldplan.eval.identifiability.regression import fit_affine
from worldplan.eval.identifiability.theorem3 import ApproximateIdentifiability, distortion, isometry, theorem3_bound
from worldplan.eval.statistics.estimate import Estimate, estimate
from worldplan.learning.encoder import Encoder, encode, space_of
from worldplan.planning.estimation import StateEstimator
from worldplan.planning.lqr import LQRSolution
from worldplan.provenance import Result

RHO, SCALE = 0.5, 0.7  # the evaluator's world: at .7 rad an image leaves hardly a doubt about an angle
DEGREES, BLOCK = 20_000, 64
RESAMPLES = 500
ROUNDING = 1e-12  # loss over value that counts as none


@dataclass(frozen=True)
class Certificate(Result):
    """Upper bound on the loss beside the measured loss; costs are in the units of the agent's cost.

    Attributes:
        theorem3: eps, delta and D of the encoder, in units of `N(0, I)` at `rho`.
        bound: bound on the expected loss at the upper 95% limits of eps and delta, `linear + residual`.
        linear: part from errors that are linear in the state; `residual` is the part from all others.
        measured: mean loss over the paths, with its 95% interval.
        value: `E V(x_0)`, the optimum's cost from the same starts and goals.
        ledger: largest residual of the ledgers of the measured loss.
    """

    derived = ("holds", "looseness")

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
        """Whether the measured loss, at its lower limit, lies below the bound; both are measured on samples."""
        return self.measured.low <= self.bound + ROUNDING * self.value

    @property
    def looseness(self) -> float:
        """The bound over the mean loss; infinite where nothing was lost."""
        return self.bound / self.measured.value if self.measured.value > 0 else float("inf")


def error_response(lqr: LQRSolution, estimator: StateEstimator, steps: int) -> Floats:
    """Matrices T with `M^(1/2) (u_t + K x_t) = -sum_s T_ts eta_s`: how the encoder's errors reach the actions.

    The plant must move as the filter expects; for a filter of finite differences any plant will do. The estimate's
    error then obeys `f_0 = [eta_0; 0]`, `f_t = (I - L H) A f_{t-1} + L eta_t`. The goal's error enters every step by
    `-K [eta_goal; 0]`. `lqr` must have an infinite horizon. Returns (steps, steps + 1, m, n): for action t the frames
    s, then the goal.
    """
    n, d = estimator.latent_dim, lqr.dynamics.state_dim
    B, P = lqr.dynamics.B, lqr.value_matrix
    weighted = np.linalg.cholesky(lqr.cost.R + B.T @ P @ B).T @ lqr.gain  # |weighted x| = |K x|_M
    keep = (np.eye(d) - estimator.gain @ np.eye(n, d)) @ estimator.dynamics.A
    response = np.zeros((steps, steps + 1, len(weighted), n))
    error = np.zeros((steps, d, n))  # error of the estimate, by the step at which the encoder erred
    error[0] = np.eye(d, n)
    for t in range(steps):
        if t:
            error = keep @ error
            error[t] = estimator.gain
        response[t, :steps] = weighted @ error
        response[t, steps] = -weighted[:, :n]
    return response


def path_angles(steps: int) -> Floats:
    """`phi_s`, (T + 1,): in equal steps from 0 at the start to pi / 2 at the goal."""
    return np.linspace(0.0, np.pi / 2, positive_int("steps", steps) + 1)


def loss_bound(
    response: Floats, eps: float, delta: float, rho: float = RHO, *, most: int = DEGREES, block: int = BLOCK
) -> tuple[float, float]:
    """The claim's two terms, for errors along `path_angles`. Raises InvalidInput if a number is out of range.

    Here `response` is that of `error_response`, eps is `|Cov(h) - I|_F`, and delta is the excess alignment loss at rho
    (see `worldplan.eval.identifiability.theorem3`). Degrees up to `most` are computed one by one, `block` at once; the
    rest is bounded together.
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
        share = 2 * (rho - rho ** degrees.astype(np.float64))  # what a unit of energy adds to delta; it grows with d
        worst = max(worst, float((np.linalg.eigvalsh(S)[:, -1] / share).max()))
        rest = (own + float((powers[-1] * c * across).sum())) / float(share[-1])
        powers, degrees = powers * step, degrees + block
    return float(linear), max(delta, 0.0) * max(worst, rest)


def _largest(S: Floats) -> float:
    return float(np.linalg.eigvalsh((S + S.T) / 2)[-1])


def path_losses(agent: PlanningAgent, errors: Floats, away: Floats) -> tuple[Floats, float]:
    """Simulate the claim's plant: losses (E,), and the largest residual of their ledgers.

    In latent units, `errors` (E, T + 1, n) are `eta`, the goal's last, and `away` (E, n) is start less goal.
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
    scale: ArrayLike = 1.0,
    seed: int = 0,
    profile: str = "dmc",
    pairs: int = 600,
    paths: int = 24,
    steps: int = 30,
    draw: Callable[..., Frames] = render_frames,
) -> Certificate:
    """Measure eps and delta of an agent's encoder, bound its loss by them, and measure the loss.

    The agent's planner, clipping and charts are not used. `scale` is in radians per latent unit: one number, or (n,)
    where the coordinates show single joints in units of their own. Positions x are then in these units too.

    eps and delta come from `pairs` pairs of the evaluator's Gaussian world, the measured loss from `paths` paths of
    T = `steps` steps.
    `draw` maps joint angles (N, 2), None and the profile to frames. They show no target sphere, so a frame is a
    function of the pose. Raises InvalidInput if a number is out of range or the latents are wrong.
    """
    for name, count in (("pairs", pairs), ("paths", paths), ("steps", steps)):
        positive_int(name, count)
    scales = finite_array("scale", scale)
    if not (scales > 0).all():
        raise InvalidInput(f"scale must be positive angles, got {scales}")
    rng, unit = np.random.default_rng([seed, 3000]), SCALE / scales  # latent units per unit of z
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
        value=float(2 * np.trace(Q.T @ (np.diag(unit * np.ones(len(Q))) @ P * unit) @ Q)),
        steps=steps,
        ledger=ledger,
    )


def _look(encoder: Encoder, z: Floats, profile: str, draw: Callable[..., Frames]) -> Floats:
    """Latents (N, V, n) of states z (N, V, 2)."""
    frames = draw(SCALE * z.reshape(-1, 2), None, profile)
    return space_of(encoder).chart(encode(encoder, frames)).reshape(*z.shape[:2], -1)
