"""The Dirichlet energy of maps, and alignment over its noise: of fixed maps with exact numbers, and of encoders."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import i1e
from torch import Tensor

from worldplan.eval.laboratory.judge import Encode, judge
from worldplan.eval.laboratory.networks import Parameters, stacked
from worldplan.eval.laboratory.setting import JUDGE, MIXING, Setting
from worldplan.eval.laboratory.worlds import ParabolicShear, SineShear, Spiral, find_mixing
from worldplan.provenance import restored

Map = Callable[[Tensor], Tensor]  # latents (..., n) -> embeddings (..., m)
RHOS = 0.5, 0.9, 0.99, 0.999


# --- measures -------------------------------------------------------------------------------------------------------


def jacobians(h: Map, z: Tensor) -> Tensor:
    """Jacobians (..., m, n) of a map at latents (..., n), which it takes each by itself."""
    outputs, pull = torch.func.vjp(h, z)[:2]
    basis = torch.eye(outputs.shape[-1], dtype=z.dtype)
    return torch.stack([pull(row.expand_as(outputs).contiguous())[0] for row in basis], dim=-2)


def energy(jacobian: Tensor) -> Tensor:
    """Dirichlet energies `||J||_F^2 / n` (...) of Jacobians (..., m, n)."""
    return jacobian.square().sum(dim=(-2, -1)) / jacobian.shape[-1]


def shape(jacobian: Tensor) -> dict[str, Any]:
    """Dirichlet energy by coordinate, its floor, and singular values, over the states of Jacobians (N, n, n).

    A map that keeps the law `N(0, I)` has `E log |det J| = 0`; AM-GM and Jensen then give `E ||J||_F^2 / n >= 1`, and
    otherwise `>= exp(2 E log |det J| / n)`. Equality: all singular values are one number. `spread` is their standard
    deviation on a scale of logarithms.
    """
    values = torch.linalg.svdvals(jacobian).clamp_min(1e-12)
    logs = values.log()
    return {
        "energy": float(energy(jacobian).mean()),
        "floor": float((2 * logs.mean()).exp()),
        "singular": [float(value) for value in np.quantile(values.numpy(), [0.05, 0.5, 0.95])],
        "spread": float(logs.std(correction=0)),
    }


def alignment_rate(h: Map, z: Tensor, eta: Tensor, rho: float) -> Tensor:
    """`|h(z) - h(z')|^2 / (2 n (1 - rho))` of each state (..., n), whose mean is `L / (2 n (1 - rho))`."""
    after = rho * z + math.sqrt(1 - rho**2) * eta
    return (h(after) - h(z)).square().sum(dim=-1) / (2 * z.shape[-1] * (1 - rho))


# --- fixed maps -----------------------------------------------------------------------------------------------------


def _rotation(z: Tensor) -> Tensor:
    cos, sin = math.cos(0.7), math.sin(0.7)
    return torch.stack([cos * z[..., 0] - sin * z[..., 1], sin * z[..., 0] + cos * z[..., 1]], dim=-1)


CUBIC, TWIST = 0.1, 1.0


def _cubic(z: Tensor) -> Tensor:
    return z + CUBIC * (z**3 - 3 * z)


def spiral_rate(twist: float, rho: float, knots: int = 200) -> float:
    """`L / (4 (1 - rho))` of a spiral, by quadrature over both radii; the angle between the states has a Bessel law."""
    rest = 1 - rho**2
    nodes, weights = np.polynomial.legendre.leggauss(knots)
    r, by_r = 4.5 * (nodes + 1), 4.5 * weights  # radii up to 9
    t, by_t = 9 * nodes, 9 * weights  # the next radius is rho r + sqrt(rest) t
    s = rho * r[:, None] + math.sqrt(rest) * t
    density = np.where(s > 0, r[:, None] ** 2 * s**2 / rest * math.sqrt(rest), 0)
    kept = np.exp(-((r[:, None] - s) ** 2 + 2 * (1 - rho) * r[:, None] * s) / (2 * rest))
    s = s.clip(0)
    angle = i1e(rho * r[:, None] * s / rest)
    overlap = by_r @ (density * kept * angle * np.cos(twist * (r[:, None] - s))) @ by_t
    return float((2 - overlap) / (2 * (1 - rho)))


def _sine_rate(map_: SineShear, rho: float) -> float:
    square = map_.frequency**2
    gap = math.exp(-square) * (math.sinh(square) - math.sinh(rho * square))
    return 1 + map_.height**2 * gap / (2 * (1 - rho))


SINE, PARABOLA = SineShear(), ParabolicShear()


@dataclass(frozen=True)
class Fixed:
    """A map, its Dirichlet energy by coordinate, and `L / (2 n (1 - rho))` at a rho, both exact."""

    map: Map
    energy: float
    rate: Callable[[float], float]


FIXED: dict[str, Fixed] = {
    "rotation": Fixed(_rotation, 1.0, lambda rho: 1.0),
    "parabola": Fixed(PARABOLA, 1 + 2 * PARABOLA.bend**2, lambda rho: 1 + (1 + rho) * PARABOLA.bend**2),
    "sine": Fixed(
        SINE,
        1 + (SINE.height * SINE.frequency) ** 2 * (1 + math.exp(-2 * SINE.frequency**2)) / 4,
        lambda rho: _sine_rate(SINE, rho),
    ),
    "cubic": Fixed(_cubic, 1 + 18 * CUBIC**2, lambda rho: 1 + 6 * CUBIC**2 * (1 + rho + rho**2)),
    "spiral": Fixed(Spiral(TWIST), 1 + TWIST**2, lambda rho: spiral_rate(TWIST, rho)),
}
"""Maps of the plane with known Jacobians. Degree d of Hermite has energy `d` and rate `(1 - rho^d) / (1 - rho)`."""


def measure_fixed(name: str, count: int, seed: Sequence[int], folder: Path) -> dict[str, Any]:
    """The job: Jacobians and alignment of a fixed map, by simulation."""
    rng = np.random.default_rng([*seed, 5])
    z, eta = torch.from_numpy(rng.standard_normal((2, count, 2)))
    return measures(FIXED[name].map, z, eta)


def whitened(x: Tensor) -> Tensor:
    """Rows (N, k) with mean 0 and covariance I, by the least linear change that makes them so."""
    x = x - x.mean(dim=0)
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    white: Tensor = x @ (vectors / values.sqrt()) @ vectors.T
    return white


def measures(h: Map, z: Tensor, eta: Tensor) -> dict[str, Any]:
    """`shape`, and `L / (2 n (1 - rho))` at each of `RHOS`, with the same states (N, n) and noise throughout.

    Both are whitened first: linear maps then have their exact numbers, and others much less chance.
    """
    z, eta = whitened(torch.cat([z, eta], dim=1)).chunk(2, dim=1)
    with torch.no_grad():
        found = shape(jacobians(h, z))
        return {**found, "rates": [float(alignment_rate(h, z, eta, rho).mean()) for rho in RHOS]}


# --- encoders -------------------------------------------------------------------------------------------------------


def learn(setting: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The job: train an ensemble; measure its maps `h = f o g` as they are trained, and where they end."""
    own: Setting = restored(Setting, setting)
    members, training = own.members, own.training
    mixing = find_mixing(own.mixing, own.n, [member.integer(MIXING) for member in members])
    states = [torch.randn(3, own.judged, own.n, generator=member.generator(JUDGE)).double() for member in members]
    marks = sorted({round(training.steps * share) for share in (0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7)})
    curves: list[list[dict[str, Any]]] = [[] for _ in members]

    def map_of(parameters: Parameters, k: int) -> Map:
        weights = {name: value[k : k + 1].double() for name, value in parameters.items()}
        return lambda z: forward(weights, mixing(z)[None])[0]

    def watch(step: int, parameters: Parameters) -> None:
        if step in marks:
            for k in range(len(members)):
                found = shape(jacobians(map_of(parameters, k), states[k][0]).detach())
                curves[k].append({"step": step, **found})

    forward, _ = stacked(own.networks())
    ensemble = own.train(watch=watch)
    found = []
    for k, (z, eta, test) in enumerate(states):
        h = map_of(ensemble.parameters, k)
        last = measures(h, z, eta)
        r2 = judge(_on_arrays(h), z.numpy(), test.numpy(), resamples=2)
        curve = [*curves[k], {"step": training.steps, **{name: last[name] for name in last if name != "rates"}}]
        found.append({**last, "r2": r2.r2.value, "curve": curve})
    return found


def _on_arrays(h: Map) -> Encode:
    return lambda states: np.asarray(h(torch.from_numpy(states)).detach().numpy())
