"""How far joint-angle trajectories are from the Gaussian world: moments, wrapping, memory, tests of normality.

Rows of an episode depend on each other. Intervals are therefore bootstrapped over whole episodes. The tests need
independent rows, so they see one row of each episode, at a random time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from scipy.stats import lognorm

from worldplan.arrays import Floats
from worldplan.checks import positive_int
from worldplan.envs.worlds import JOINT_RANGE, OUWorld
from worldplan.errors import InvalidInput
from worldplan.eval.statistics.estimate import Estimate
from worldplan.learning.gaussianity import epps_pulley
from worldplan.provenance import Result

FEWEST = 8  # episodes: fewer say nothing about a law
STILL = 1e-9  # a standard deviation below is rounding: radians, or torque
_CHUNK = 2**17  # samples that the null distribution draws at once


@dataclass(frozen=True)
class JointDiagnostics:
    """One joint over all episodes.

    Attributes:
        mean: mean of the pooled angles, radians.
        sd: standard deviation, radians.
        skewness: 0 for a Gaussian.
        excess_kurtosis: 0 for a Gaussian, -1.2 for a uniform law, -2 for two points.
        beyond: share of angles with `|theta|` past `JOINT_RANGE`: pi for the shoulder, where images wrap; 160 degrees
            for the wrist, where its (soft) stop is.
        effective_size: number of independent rows that would give the mean the same variance, estimated from the
            scatter of the episodes' sums. At most the number of rows; E - 1 for E episodes of equal length that stand
            still.
        epps_pulley: statistic of the thinned and standardised angles.
        autocorrelation: at lags 1, 2, ... around the pooled mean. Near 1 wherever episodes stay near poses of their
            own.
        autocorrelation_within: the same around each episode's mean: memory of the motion alone. Estimated means bias it
            downwards, by about (1 + 2 sum of the autocorrelations) / steps.
        action_autocorrelation: autocorrelation of the actions around their pooled mean, if given.
    """

    mean: Estimate
    sd: Estimate
    skewness: Estimate
    excess_kurtosis: Estimate
    beyond: Estimate
    effective_size: float
    epps_pulley: float
    epps_pulley_p: float
    autocorrelation: tuple[float, ...]
    autocorrelation_within: tuple[float, ...]
    action_autocorrelation: tuple[float, ...] | None


@dataclass(frozen=True)
class TrajectoryDiagnostics(Result):
    """How non-Gaussian a set of trajectories is; intervals are 95% percentile bootstraps over episodes.

    The tests of normality see one of the `rows` in each episode. `henze_zirkler` and its p-value are for both joints
    together.
    """

    digits = 17  # all

    name: str
    episodes: int
    rows: int
    shoulder: JointDiagnostics
    wrist: JointDiagnostics
    henze_zirkler: float
    henze_zirkler_p: float


def diagnose(
    episodes: Sequence[ArrayLike],
    *,
    name: str,
    actions: Sequence[ArrayLike] | None = None,
    max_lag: int = 64,
    seed: int = 0,
    count: int = 2000,
) -> TrajectoryDiagnostics:
    """Measure how far trajectories are from a stationary Gaussian.

    Raises InvalidInput for fewer than `FEWEST` episodes, wrong shapes, or numbers that are not finite. It also does for
    episodes of `max_lag` rows or fewer, and for joints (or actions) that do not move.

    Args:
        episodes: joint angles (T + 1, 2) each, radians, unwrapped; T may differ.
        name: name of the data, for tables and figures.
        actions: (T, 2) each, or None.
        max_lag: longest lag of the autocorrelations, in steps.
        seed: seed for the bootstrap, the thinning and the null distribution, which draw from separate streams.
        count: bootstrap resamples, and samples of the null distribution: p-values are at least 1 / (count + 1).
    """
    positive_int("max_lag", max_lag), positive_int("count", count)
    angles = _checked("episodes", episodes, max_lag)
    torques = None if actions is None else _checked("actions", actions, max_lag)
    if torques is not None and [len(a) + 1 for a in torques] != [len(q) for q in angles]:
        raise InvalidInput(f"{name}: need T actions for each episode of T + 1 angles")
    resampling, thinning, null = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    moments, sizes = _moments(angles, resampling, count), _effective_sizes(angles)
    thinned = np.stack([rows[thinning.integers(len(rows))] for rows in angles])
    statistics, p = epps_pulley_test(thinned, count, null)
    joint = henze_zirkler(thinned)
    memory = autocorrelation(angles, max_lag)
    within = autocorrelation([rows - rows.mean(axis=0) for rows in angles], max_lag)
    acting = None if torques is None else autocorrelation(torques, max_lag)
    shoulder, wrist = (
        JointDiagnostics(
            **moments[i],
            effective_size=float(sizes[i]),
            epps_pulley=float(statistics[i]),
            epps_pulley_p=float(p[i]),
            autocorrelation=tuple(memory[i].tolist()),
            autocorrelation_within=tuple(within[i].tolist()),
            action_autocorrelation=None if acting is None else tuple(acting[i].tolist()),
        )
        for i in range(2)
    )
    return TrajectoryDiagnostics(name, len(angles), sum(map(len, angles)), shoulder, wrist, *joint)


def ou_episodes(
    episodes: int, steps: int, rho: float = 0.9, scale: tuple[float, float] = (1.0, 1.0), seed: int = 0
) -> list[Floats]:
    """Trajectories of the Ornstein-Uhlenbeck world: `z_{t+1} = rho z_t + sqrt(1 - rho^2) eta`, `theta = scale * z`.

    They are stationary from the first row, with correlation rho^k at lag k; neighbours are pairs of `OUWorld`. Returns
    joint angles (steps + 1, 2) of each episode, radians; episode k is the same however many there are. Raises
    InvalidInput without episodes or steps, for rho outside (0, 1), or for scales that are not two positive angles.
    """
    positive_int("episodes", episodes), positive_int("steps", steps)
    OUWorld(rho=rho, scale=scale)  # checks both
    z = np.random.default_rng(seed).standard_normal((episodes, steps + 1, 2))
    for t in range(steps):  # z[:, t] ~ N(0, I)
        z[:, t + 1] = rho * z[:, t] + math.sqrt(1.0 - rho**2) * z[:, t + 1]
    return list(z * np.asarray(scale))


def autocorrelation(series: Sequence[Floats], max_lag: int) -> Floats:
    """Pooled autocorrelation (d, max_lag) of sequences (T, d) at lags 1 ... max_lag, around the mean of all rows.

    `r(k) = sum x_t x_{t+k} / sqrt(sum x_t^2 sum x_{t+k}^2)`, each sum over all pairs k apart in a sequence. This is the
    correlation of the positive pairs at stride k. It lies in [-1, 1] even where sequences are not stationary. Raises
    InvalidInput if a column does not vary.
    """
    mean = np.concatenate(series).mean(axis=0)
    lengths = np.array([len(rows) for rows in series])
    x = np.zeros((len(series), lengths.max(), len(mean)))  # zeros behind the end: a pair needs a later row
    for padded, rows in zip(x, series, strict=True):
        padded[: len(rows)] = rows - mean
    there = (np.arange(x.shape[1]) < lengths[:, None])[..., None]
    r = np.empty((len(mean), max_lag))
    for k in range(1, max_lag + 1):
        early, late, pairs = x[:, :-k], x[:, k:], there[:, k:]
        power = np.stack([np.square(early * pairs).sum(axis=(0, 1)), np.square(late).sum(axis=(0, 1))])
        if not (power > pairs.sum() * STILL**2).all():
            raise InvalidInput(f"nothing moves at rows {k} apart: an autocorrelation is not defined; use more data")
        r[:, k - 1] = (early * late).sum(axis=(0, 1)) / np.sqrt(power.prod(axis=0))
    return r.clip(-1.0, 1.0)  # Cauchy-Schwarz, but for rounding


def epps_pulley_test(sample: Floats, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Test of normality with unknown mean and variance for each column of (N, S) independent rows.

    Columns are standardised, so the null distribution of the statistic (`gaussianity.epps_pulley`) depends on N alone.
    It is sampled from `count` Gaussian columns that are standardised alike. Returns statistics (S,) and p-values (S,),
    `(1 + #{null >= statistic}) / (1 + count)`.
    """
    statistics = _standard_epps_pulley(sample)
    null = np.empty(count)
    for block in np.array_split(null, math.ceil(count * len(sample) / _CHUNK)):
        block[:] = _standard_epps_pulley(rng.standard_normal((len(block), len(sample))).T)
    return statistics, (1 + (null >= statistics[:, None]).sum(axis=1)) / (1.0 + count)


def _standard_epps_pulley(sample: Floats) -> Floats:
    sd = sample.std(axis=0)
    if not (sd > STILL).all():
        raise InvalidInput("a column does not vary: no test of normality applies")
    statistics: Floats = epps_pulley(torch.from_numpy((sample - sample.mean(axis=0)) / sd)).numpy()
    return statistics


def henze_zirkler(sample: Floats) -> tuple[float, float]:
    """Multivariate test of normality with unknown mean and covariance on (N, d) independent rows.

    `D_ij` is the squared Mahalanobis distance (covariance over N) of two rows, and `D_i` that of a row from the mean.
    With `b = beta^2 = (N (2 d + 1) / 4)^(2 / (d + 4)) / 2`, the statistic is

        HZ = sum_ij exp(-b D_ij / 2) / N - 2 (1 + b)^(-d/2) sum_i exp(-b D_i / (2 (1 + b))) + N (1 + 2 b)^(-d/2).

    Affine maps do not change it. Its p-value is that of a lognormal law with the moments of Henze and Zirkler 1990
    (Communications in Statistics 19, 3595-3617, theorem 3.2). Returns statistic and p-value. Raises InvalidInput if the
    covariance is singular.
    """
    n, d = sample.shape
    centred = sample - sample.mean(axis=0)
    sizes, axes = np.linalg.svd(centred, full_matrices=False)[1:]
    if n <= d or not sizes[-1] > STILL * sizes[0]:
        raise InvalidInput(f"{n} rows of {d} columns have a singular covariance: drop what does not vary by itself")
    y = centred @ axes.T / sizes * math.sqrt(n)
    b = (n * (2 * d + 1) / 4) ** (2 / (d + 4)) / 2  # beta^2
    blocks = np.array_split(y, math.ceil(n * n / 2**22))  # a large sample's distances need not all fit in memory
    pairs = sum(float(np.exp(-b / 2 * cdist(block, y, "sqeuclidean")).sum()) for block in blocks)
    single = float(np.exp(-b / (2 * (1 + b)) * np.square(y).sum(axis=1)).sum())
    statistic = pairs / n - 2 * (1 + b) ** (-d / 2) * single + n * (1 + 2 * b) ** (-d / 2)
    a, w = 1 + 2 * b, (1 + b) * (1 + 3 * b)
    mean = 1 - a ** (-d / 2) * (1 + d * b / a + d * (d + 2) * b**2 / (2 * a**2))
    variance = (
        2 * (1 + 4 * b) ** (-d / 2)
        + 2 * a ** (-d) * (1 + 2 * d * b**2 / a**2 + 3 * d * (d + 2) * b**4 / (4 * a**4))
        - 4 * w ** (-d / 2) * (1 + 3 * d * b**2 / (2 * w) + d * (d + 2) * b**4 / (2 * w**2))
    )
    spread = math.log1p(variance / mean**2)
    p = lognorm.sf(statistic, math.sqrt(spread), scale=mean * math.exp(-spread / 2))
    return statistic, float(p)


def _checked(what: str, series: Sequence[ArrayLike], max_lag: int) -> list[Floats]:
    try:
        arrays = [np.asarray(rows, dtype=np.float64) for rows in series]
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{what} must be numbers (T, 2) each ({error})") from error
    if len(arrays) < FEWEST:
        raise InvalidInput(f"need at least {FEWEST} {what}, got {len(arrays)}: collect more episodes")
    for k, rows in enumerate(arrays):
        if rows.ndim != 2 or rows.shape[1] != 2 or not np.isfinite(rows).all():
            raise InvalidInput(f"{what}[{k}]: need finite numbers (T, 2), got shape {rows.shape}")
        if len(rows) <= max_lag:
            fitting = f"take a max_lag (--max-lag) below {len(rows)}"
            raise InvalidInput(f"{what}[{k}]: {len(rows)} rows are too few for lag {max_lag}; {fitting}")
    return arrays


def _moments(angles: list[Floats], rng: np.random.Generator, count: int) -> list[dict[str, Estimate]]:
    """The fields of `JointDiagnostics` that are moments, by name, for each joint."""
    pooled = np.concatenate(angles)
    centre, scale = pooled.mean(axis=0), pooled.std(axis=0)
    if not (scale > STILL).all():
        raise InvalidInput(f"a joint does not move (standard deviations {scale.tolist()} rad): nothing to diagnose")
    # Sums over each episode, (E, 6, 2): those of a resample of episodes are weighted sums of them.
    powers = np.arange(5)[:, None, None]
    sums = np.stack([np.stack([*((q - centre) / scale) ** powers, np.abs(q) > JOINT_RANGE]).sum(1) for q in angles])
    n = len(angles)
    weights = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=count)])  # first the sample itself
    total = np.tensordot(weights, sums, axes=1)  # (1 + count, 6, 2)
    m1, m2, m3, m4, beyond = (total[:, 1:] / total[:, :1]).swapaxes(0, 1)
    variance = m2 - m1**2
    if not (variance > STILL).all():
        raise InvalidInput("too few episodes differ: some resamples of them do not vary; collect more episodes")
    numbers = {
        "mean": centre + scale * m1,
        "sd": scale * np.sqrt(variance),
        "skewness": (m3 - 3 * m1 * m2 + 2 * m1**3) / variance**1.5,
        "excess_kurtosis": (m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4) / variance**2 - 3,
        "beyond": beyond,
    }
    estimates = {key: np.vstack([x[:1], np.percentile(x[1:], (2.5, 97.5), axis=0)]) for key, x in numbers.items()}
    return [{key: Estimate(*x[:, i].tolist()) for key, x in estimates.items()} for i in range(2)]


def _effective_sizes(angles: list[Floats]) -> Floats:
    """Pooled variance over the variance of the pooled mean, for each joint."""
    pooled, n = np.concatenate(angles), len(angles)
    scatter = np.sum([np.square((q - pooled.mean(axis=0)).sum(axis=0)) for q in angles], axis=0)
    of_mean = n / (n - 1) * scatter / len(pooled) ** 2
    sizes: Floats = pooled.var(axis=0) / np.maximum(of_mean, pooled.var(axis=0) / len(pooled))
    return sizes
