"""Is the latent the true state up to a rotation? R2 both ways, and every number that the theory attaches to it.

However it was trained, an encoder is judged in the evaluator's own Gaussian world. Joint angles are `theta = scale * z`
with `z ~ N(0, I)`, in pairs of the Ornstein-Uhlenbeck channel (Klindt, LeCun and Balestriero 2026, arXiv 2605.26379).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldplan.arrays import Floats, Frames, finite_array, varies
from worldplan.data.world_card import for_reacher
from worldplan.envs.rendering import render_frames, sample_targets
from worldplan.envs.worlds import OUWorld
from worldplan.errors import InvalidInput
from worldplan.eval.identifiability.ceiling import bayes_ceiling
from worldplan.eval.identifiability.hermite import HermiteEnergy, hermite_energy
from worldplan.eval.identifiability.regression import LABEL_KINDS, LabelFit, label_fit
from worldplan.eval.identifiability.rotation_fit import RotationFit, rotation_fit
from worldplan.eval.identifiability.spectrum import Spectrum, spectrum
from worldplan.eval.identifiability.theorem3 import ApproximateIdentifiability, LinearDistortion, distortion
from worldplan.learning.encoder import Encoder, encode, space_of
from worldplan.provenance import Result

Draw = Callable[..., Frames]


@dataclass(frozen=True, eq=False)
class IdentifiabilityReport(Result):
    """An encoder in the evaluator's Gaussian world; all numbers out of sample, intervals by bootstrap over pairs.

    Attributes:
        scale: standard deviation of each joint angle, radians; `z = theta / scale`.
        labels: R2 both ways, total and per joint, by kind of label.
        ceiling: best R2(h -> labels) of any function of an image, by kind of label.
        rotation: best rotation and offset, and R2 up to them, without and with a shared monotone map.
    """

    pairs: int
    latent_dim: int
    state_dim: int
    scale: float
    labels: dict[str, LabelFit]
    ceiling: dict[str, float]
    rotation: RotationFit
    linear: LinearDistortion
    theorem3: ApproximateIdentifiability
    hermite: HermiteEnergy
    spectrum: Spectrum


def identify(
    encoder: Encoder,
    *,
    count: int = 4000,
    scale: float = 0.7,
    seed: int = 0,
    profile: str = "dmc",
    rho: float = 0.5,
    resamples: int = 1000,
    matched: bool = False,
    draw: Draw = render_frames,
) -> IdentifiabilityReport:
    """Judge an encoder on rendered pairs of poses; every view has its own place of the target.

    Raises InvalidInput as `identify_latents` does, or if the encoder is for another world than the Reacher, or does not
    give one latent a frame.

    Args:
        encoder: maps frames (T, 64, 64, 3) uint8 to latents (T, m); m need not be the number of joints.
        count: number of pairs; twice as many frames are drawn.
        scale: standard deviation of the joint angles, radians. At .7 an image leaves hardly a doubt about an angle. An
            encoder trained at another scale s is at best `h = (scale / s) Q z`. Its orthogonality error, eps, error and
            bound then include this change of units; R2 and Hermite shares do not.
        seed: seed for poses, targets and resampling.
        profile: look of the frames.
        rho: correlation of the pairs. At .99 the bound is vacuous, see `ApproximateIdentifiability`.
        resamples: bootstrap samples.
        matched: scale the latent to the spread of the state first, so that units are no distortion.
        draw: maps joint angles (N, 2), targets (N, 3) or None, and the profile to frames.
    """
    for_reacher(encoder)
    z, frames = gaussian_views(count, scale=scale, rho=rho, seed=seed, profile=profile, draw=draw)
    h = encode(encoder, frames.reshape(-1, *frames.shape[2:]))
    h = space_of(encoder).chart(h).reshape(count, 2, -1)  # circles are cut opposite to the mean, where hardly a pose is
    if matched and varies(h).any():
        h = h * np.sqrt(z.var(axis=(0, 1)).sum() / h.var(axis=(0, 1)).sum())
    return identify_latents(h[:, 0], h[:, 1], z[:, 0], z[:, 1], scale=scale, rho=rho, resamples=resamples, seed=seed)


def gaussian_views(
    count: int,
    *,
    scale: float = 0.7,
    rho: float = 0.5,
    seed: int = 0,
    profile: str = "dmc",
    target: str = "hard",
    draw: Draw = render_frames,
) -> tuple[NDArray[np.float64], Frames]:
    """Pairs of the evaluator's world: states z (count, 2, 2) and their frames (count, 2, 64, 64, 3).

    The target sphere, `hard` or `easy`, has another place in every frame, or is `hidden`. To judge several encoders on
    the same frames, encode them and call `identify_latents`.
    """
    rng = np.random.default_rng(seed)
    angles = OUWorld(rho=rho, scale=(scale, scale)).sample(count, rng)
    targets = None if target == "hidden" else sample_targets(2 * count, rng, target)
    frames = draw(angles.reshape(-1, 2), targets, profile)
    return angles / scale, frames.reshape(count, 2, *frames.shape[1:])


def identify_latents(
    h: ArrayLike,
    h_pair: ArrayLike,
    z: ArrayLike,
    z_pair: ArrayLike,
    *,
    scale: float = 0.7,
    rho: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
) -> IdentifiabilityReport:
    """Judge latents h, h_pair (N, m) of pairs of states z, z_pair (N, n), each `N(0, I)` and correlated by rho.

    One unit of z is `scale` radians, for labels that wrap. Raises InvalidInput for shapes that do not fit, too few
    pairs, latents that do not vary, or states that are clearly no such pairs.
    """
    latents, states = _views("h", h, h_pair), _views("z", z, z_pair)
    count, _, n = states.shape
    if len(latents) != count:
        raise InvalidInput(f"got {len(latents)} pairs of latents for {count} pairs of states")
    if not varies(latents).any():
        raise InvalidInput("the latents do not vary: the encoder gives the same for every frame")
    if count < 20 * (latents.shape[2] + n + 1):
        raise InvalidInput(f"{count} pairs are too few for {latents.shape[2]} latents of {n} states")
    _check_world(states, rho)
    cut = count // 2
    train_h, test_h = (part.reshape(-1, latents.shape[2]) for part in (latents[:cut], latents[cut:]))
    train_z, test_z = (part.reshape(-1, n) for part in (states[:cut], states[cut:]))
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    judged = {**options, "groups": np.repeat(np.arange(count - cut), 2)}  # both views of a pair stay together
    linear, theorem3 = distortion(latents, states, rho=rho, **options)
    return IdentifiabilityReport(
        pairs=count,
        latent_dim=latents.shape[2],
        state_dim=n,
        scale=scale,
        labels={k: label_fit(train_h, scale * train_z, test_h, scale * test_z, k, **judged) for k in LABEL_KINDS},
        ceiling={kind: bayes_ceiling(scale, kind) for kind in LABEL_KINDS},
        rotation=rotation_fit(train_h, train_z, test_h, test_z, **judged),
        linear=linear,
        theorem3=theorem3,
        hermite=hermite_energy(latents, states, **options),
        spectrum=spectrum(latents, **options),
    )


def _views(name: str, first: ArrayLike, second: ArrayLike) -> Floats:
    views = [finite_array(name, first), finite_array(f"{name}_pair", second)]
    if views[0].ndim != 2 or 0 in views[0].shape or views[0].shape != views[1].shape:
        raise InvalidInput(f"{name} and {name}_pair must both be (N, k), got {views[0].shape} and {views[1].shape}")
    return np.stack(views, axis=1)


def _check_world(z: Floats, rho: float) -> None:
    """Refuse states (N, 2, n) that are no pairs of the channel: Theorem 3 would then say nothing."""
    if not 0 < rho < 1:
        raise InvalidInput(f"rho must lie in (0, 1), got {rho}")
    count, _, n = z.shape
    both = z.reshape(count, -1)
    expected = np.kron([[1, rho], [rho, 1]], np.eye(n))
    gap = max(float(np.abs(both.mean(axis=0)).max()), float(np.abs(both.T @ both / count - expected).max()))
    allowed = 7 * np.sqrt(2 / count)  # seven standard errors of a variance
    if gap > allowed:
        raise InvalidInput(
            f"z and z_pair are no pairs of N(0, I) correlated by {rho}: a first or second moment is off by {gap:.3g} "
            f"(allowed {allowed:.3g}); divide angles by their standard deviation, and pass the rho of the pairs"
        )
