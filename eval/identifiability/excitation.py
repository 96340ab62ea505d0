"""Do the actions of recorded episodes excite what the frames show? What an encoder from trajectories rests on.

The theory is in docs/excitation.md: the actions, or the noise that a policy adds to them, must not depend on the state,
must vary in every direction, and must move every coordinate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from worldplan.arrays import Floats
from worldplan.checks import positive_int
from worldplan.data.episodes import EpisodeDataset
from worldplan.data.trajectories import Trajectories
from worldplan.data.windows import Windows
from worldplan.errors import InvalidInput
from worldplan.eval.show.table import Table
from worldplan.eval.statistics.bootstrap import interval, resampled_counts
from worldplan.eval.statistics.estimate import Estimate
from worldplan.learning.encoder import Encoder, encode, space_of
from worldplan.planning.dynamics import fit_dynamics
from worldplan.provenance import Result
from worldplan.rounding import percent, rounded

FEWEST = 8  # episodes
MOST = 64  # episodes that are encoded
LEVEL = 0.01  # p-value below which the actions are said to depend on the frames
LEAST = 0.2  # share of a direction's displacement that actions must explain: `Excitation.least`
DEAD = 0.05  # effect of an action, over the largest, below which it moves nothing
POOL, COMPONENTS = 8, 8  # frames as 8 x 8 grey values, and these as their principal components
TESTED, ROWS = 200, 8  # episodes, and frames of each, of the test of independence
PERMUTATIONS, RESAMPLES, REFITS = 500, 200, 20
HEADS = ("actions depend\non frames, p", "exploration\nshare", "explained on\nother episodes", "moves,\nlatent units")


@dataclass(frozen=True)
class ActionEffect:
    """What one action does to the latent: norm of its column of B, latent units per step, over a unit of action."""

    deviation: float
    effect: Estimate | None


@dataclass(frozen=True)
class ExcitationReport(Result):
    """What the actions of a dataset tell, and what they do not.

    Attributes:
        window: steps of a window.
        independence_p: p-value of the test that exciting actions do not depend on the frames they follow; small where a
            policy acts and does not tell what it adds by itself.
        noise_share: variance of `action - expected` over that of the action: 1 for random torques.
        condition: of the covariance of a window's action features.
        actions: one each.
        shares: of the displacement of each direction of the latent, what the actions explain on other episodes,
            descending; None without an encoder.
        excited: standard deviation of the excited displacement along its principal axes, latent units, descending.
        gramian: eigenvalues of the controllability Gramian of the positions over a window, descending: squared latent
            units that unit noise in every action reaches.
        angles: principal angles, radians, between the directions that the latent shows most and those that the actions
            reach most.
    """

    derived = ("faults",)

    name: str
    episodes: int
    window: int
    independence_p: float
    noise_share: float
    condition: float
    actions: tuple[ActionEffect, ...]
    shares: tuple[Estimate, ...] | None = None
    excited: tuple[Estimate, ...] | None = None
    gramian: tuple[Estimate, ...] | None = None
    angles: tuple[float, ...] | None = None

    @property
    def faults(self) -> list[str]:
        """What keeps an encoder from being identified, a sentence each with its remedy; empty if nothing does."""
        found = []
        if self.independence_p < LEVEL:
            found.append(
                f"The actions depend on what the frames show (p = {self.independence_p:.2g}): a policy acted. Record "
                "random actions, or a policy's own noise (`worldplan collect sac --noise SIGMA`)."
            )
        effects = [action.effect.value for action in self.actions if action.effect is not None]
        for k, action in enumerate(self.actions):
            if action.deviation == 0:
                found.append(f"Action {k} never varies: nothing tells what it moves. Excite it, or leave it out.")
            elif action.effect is not None and action.effect.value < DEAD * max(effects):
                found.append(f"Action {k} moves nothing that the latent shows: look at its motor, or leave it out.")
        missing = [k for k, share in enumerate(self.shares or ()) if share.value < LEAST]
        if missing:
            found.append(
                f"The actions move {len(self.shares or ()) - len(missing)} of {len(self.shares or ())} directions of "
                "the latent: take longer windows, larger or longer held actions, or a smaller latent."
            )
        return found


def excitation_report(
    data: EpisodeDataset, name: str = "", encoder: Encoder | None = None, *, window: int = 16, seed: int = 0
) -> ExcitationReport:
    """Test whether the actions of episodes excite; with an encoder, also which directions of its latent they move.

    Raises:
        InvalidInput: fewer than 8 episodes, episodes shorter than the window, no frames, or no encoder.
    """
    positive_int("window", window)
    runs = data.load(frames=True)
    if len(runs) < FEWEST:
        raise InvalidInput(f"{len(runs)} episodes say little about excitation; collect {FEWEST} or more")
    actions, noise = list(runs.actions), _noise(data, runs)
    rows = np.concatenate(noise)
    deviations = rows.std(axis=0)
    varies = deviations > 1e-9 * (1 + np.abs(rows).max(axis=0))
    facts: dict[str, Any] = {
        "name": name,
        "episodes": len(runs),
        "window": window,
        "independence_p": independence_test(runs.frames[:TESTED], noise[:TESTED], seed=seed),
        "noise_share": float(rows.var(axis=0).sum() / max(np.concatenate(actions).var(axis=0).sum(), 1e-300)),
        "condition": float(np.linalg.cond(np.atleast_2d(np.cov(rows.T)))),
    }
    if encoder is None:
        effects = tuple(ActionEffect(float(d) * bool(v), None) for d, v in zip(deviations, varies, strict=True))
        return ExcitationReport(**facts, actions=effects)
    latents = [encode(encoder, frames) for frames in runs.frames[:MOST]]
    found = _moved(encoder, latents, actions, noise, window, seed)
    effects = tuple(
        ActionEffect(float(d) * bool(v), e) for d, v, e in zip(deviations, varies, found.pop("effects"), strict=True)
    )
    return ExcitationReport(**facts, actions=effects, **found)


def _noise(data: EpisodeDataset, runs: Trajectories) -> list[Floats]:
    """The part of each episode's actions (T, m) that no policy chose."""
    expected = [known for shard in data.shards for known in _rows(data, shard)]
    return [u if known is None else u - known for u, known in zip(runs.actions, expected, strict=True)]


def _rows(data: EpisodeDataset, shard: dict[str, Any]) -> list[Floats | None]:
    known = data.expected(shard)
    return [None] * shard["episodes"] if known is None else list(known)


def independence_test(frames: Any, noise: list[Floats], *, seed: int = 0) -> float:
    """p-value of the hypothesis that actions do not depend on the frame that they follow.

    The statistic is the distance covariance (Szekely, Rizzo and Bakirov 2007) of actions and principal components of
    small grey frames: it is 0 only for independence, of any form. Under the hypothesis, episodes may exchange their
    actions: a permutation test. Episodes are cut to the shortest, and thinned to 8 rows each.
    """
    length = min(len(u) for u in noise)
    times = np.unique(np.linspace(0, length - 1, ROWS).astype(int))
    grey = np.concatenate([_small(rows[times]) for rows in frames])
    left, sizes, _ = np.linalg.svd(grey - grey.mean(axis=0), full_matrices=False)
    shown, done = _distances((left * sizes)[:, :COMPONENTS]), _distances(np.concatenate([u[times] for u in noise]))
    rng, rows = np.random.default_rng([seed, 7]), np.arange(len(done)).reshape(len(noise), -1)

    def statistic(order: Any) -> float:
        chosen = rows[order].ravel()
        return float((shown * done[np.ix_(chosen, chosen)]).mean())

    seen = statistic(slice(None))
    drawn = [statistic(rng.permutation(len(noise))) for _ in range(PERMUTATIONS)]
    return (1 + sum(value >= seen for value in drawn)) / (1 + PERMUTATIONS)


def _distances(rows: Floats) -> Floats:
    """Distances (N, N) of rows (N, k), with the means of rows and columns taken off."""
    far = cdist(rows, rows)
    return np.asarray(far - far.mean(axis=0) - far.mean(axis=1)[:, None] + far.mean())


def _small(frames: Any) -> Floats:
    """Frames (K, 64, 64, 3) as grey values (K, 64) of 8 x 8 blocks."""
    side = frames.shape[1] // POOL
    grey = np.asarray(frames, dtype=np.float64).mean(axis=3)
    return np.asarray(grey.reshape(len(grey), POOL, side, POOL, side).mean(axis=(2, 4)).reshape(len(grey), -1))


def _moved(
    encoder: Encoder, latents: list[Floats], actions: list[Floats], noise: list[Floats], window: int, seed: int
) -> dict[str, Any]:
    """What the actions move in the latent, with intervals over episodes."""
    space = space_of(encoder)
    paths = [space.unwrap(h) for h in latents]
    n = space.dim
    moments = np.stack([_moments(h, u, window) for h, u in zip(paths, noise[: len(paths)], strict=True)])
    half = len(moments) // 2
    draws = list(_resampled(moments, half, seed))
    shares = np.array([_shares(*pair, n) for pair in draws])
    excited = np.array([np.sqrt(_part(pair[0] + pair[1], n).clip(min=0)) for pair in draws])
    refits = list(_refits(latents, actions[: len(latents)], space, seed))
    spread = np.concatenate([h - h.mean(axis=0) for h in paths])
    shown = np.linalg.eigh(np.cov(spread.T).reshape(n, n))[1][:, ::-1]
    reach = [_gramian(A, B, n, window) for A, B in refits]
    values = np.array([np.linalg.eigvalsh(G)[::-1] for G in reach])
    reached = np.linalg.eigh(reach[0])[1][:, ::-1]
    kept = int((values[0] > DEAD**2 * values[0, 0]).sum())
    angles = np.arccos(np.linalg.svd(shown[:, :kept].T @ reached[:, :kept], compute_uv=False).clip(-1, 1))
    return {
        "shares": _estimates(shares),
        "excited": _estimates(excited),
        "gramian": _estimates(values),
        "angles": tuple(float(a) for a in angles),
        "effects": _estimates(np.array([np.linalg.norm(B[n:], axis=0) for _, B in refits])),
    }


def _moments(path: Floats, noise: Floats, window: int) -> Floats:
    """Sum of the products of (1, displacement, features) over the windows of an episode."""
    edge = Windows.edge(window)
    total = np.concatenate([np.zeros((1, noise.shape[1])), np.cumsum(noise, axis=0)])
    t = np.arange(edge, len(noise) - window + 1)
    if not len(t):
        raise InvalidInput(f"an episode of {len(noise)} steps has no window of {window}; lower --window")
    marks = [total[t + shift] for shift in (-edge, 0, window - edge, window)]
    rows = np.concatenate([np.ones((len(t), 1)), path[t + window] - path[t], *np.diff(marks, axis=0)], axis=1)
    return np.asarray(rows.T @ rows)


def _resampled(moments: Floats, half: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """Sums over the first and the second half of the episodes: of the sample first, then of bootstrap samples."""
    halves = moments[:half], moments[half:]
    yield halves[0].sum(axis=0), halves[1].sum(axis=0)
    parts = (
        [row for counts in resampled_counts(len(m), RESAMPLES, (seed, k)) for row in np.tensordot(counts, m, axes=1)]
        for k, m in enumerate(halves)
    )
    yield from zip(*parts, strict=True)


def _centred(moments: Floats) -> Floats:
    mean = moments[0, 1:] / moments[0, 0]
    return np.asarray(moments[1:, 1:] / moments[0, 0] - np.outer(mean, mean))


def _shares(first: Floats, second: Floats, n: int) -> Floats:
    """Shares of the displacement that actions explain, descending: each half predicted from the other, averaged."""
    found = []
    for known, new in ((first, second), (second, first)):
        before, after = _centred(known), _centred(new)
        map_ = np.linalg.lstsq(before[n:, n:], before[n:, :n], rcond=None)[0].T
        rest = np.hstack([np.eye(n), -map_])
        spread = after[:n, :n] + 1e-12 * np.trace(after[:n, :n]) * np.eye(n)
        left = np.linalg.solve(spread, rest @ after @ rest.T)
        found.append(1 - np.sort(np.linalg.eigvals(left).real))
    return np.asarray(np.mean(found, axis=0))


def _part(moments: Floats, n: int) -> Floats:
    """Eigenvalues, descending, of the covariance of the displacement that actions explain."""
    both = _centred(moments)
    part = both[:n, n:] @ np.linalg.lstsq(both[n:, n:], both[n:, :n], rcond=None)[0]
    return np.asarray(np.linalg.eigvalsh(part)[::-1])


def _refits(latents: list[Floats], actions: list[Floats], space: Any, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """A and B of the dynamics fitted to the episodes, then to bootstrap samples of them."""
    rng = np.random.default_rng([seed, 8])
    samples = [np.arange(len(latents)), *rng.integers(len(latents), size=(REFITS, len(latents)))]
    for chosen in samples:
        fitted = fit_dynamics([latents[k] for k in chosen], [actions[k] for k in chosen], iterations=0, space=space)
        yield fitted.A, fitted.B


def _gramian(A: Floats, B: Floats, n: int, steps: int) -> Floats:
    """`sum_{k < steps} A^k B B' A'^k`, its block (n, n) of positions (Kalman 1960)."""
    total, impulse = np.zeros((n, n)), B
    for _ in range(steps):
        total += impulse[:n] @ impulse[:n].T
        impulse = A @ impulse
    return total


def _estimates(draws: Floats) -> tuple[Estimate, ...]:
    """One for each column of draws (B, k), the sample's own first."""
    return tuple(interval(float(column[0]), column[1:]) for column in draws.T)


def excitation_table(found: list[ExcitationReport]) -> Table:
    """One row for each dataset; the notes say what is wrong with it."""
    columns = ["", *HEADS]
    rows = [
        [
            report.name,
            rounded(report.independence_p),
            percent(report.noise_share),
            "\n".join(map(str, report.shares or ())) or "name an --encoder",
            "\n".join(map(str, report.excited or ())),
        ]
        for report in found
    ]
    notes = [f"{report.name}: {fault}" for report in found for fault in report.faults]
    title = "Do the actions excite what the frames show?"
    return Table(title, columns, rows, notes or ["Nothing against it was found."])
