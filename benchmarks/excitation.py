"""What an encoder from trajectories sees all the way round: a picture of the latent, and the error of the best map.

python benchmarks/excitation.py --encoders reacher-excitation reacher --picture docs/circle.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure

from worldplan.arrays import Floats
from worldplan.data.files import atomic_write, write_json
from worldplan.envs.reacher import WRIST_LIMIT
from worldplan.envs.rendering import render_frames, sample_targets
from worldplan.eval.identifiability.circles import AffineError, affine_error
from worldplan.eval.show.style import JOINT_COLOURS, JOINTS, png, tidy
from worldplan.learning.encoder import encode, load_encoder, space_of
from worldplan.planning.space import LatentSpace
from worldplan.provenance import provenance

ARM = LatentSpace("circle", "line")
SHOWN = 700  # poses of a picture


@dataclass(frozen=True)
class Options:
    """What to measure."""

    encoders: tuple[str, ...] = ("reacher-excitation", "reacher")
    """Shipped names or folders."""
    poses: int = 3000
    """Uniform over the shoulder's circle and the wrist's range."""
    seed: int = 3000
    """Of poses and targets; apart from every seed that training, fitting and development used."""
    profile: str = "dmc"
    out: Path = Path("benchmarks/results/excitation.json")
    picture: Path = Path("docs/circle.png")


def main(options: Options) -> None:
    """Measure, draw, print, write."""
    rng = np.random.default_rng(options.seed)
    limits = np.array([np.pi, WRIST_LIMIT])
    angles = rng.uniform(-limits, limits, (options.poses, 2))
    frames = render_frames(angles, sample_targets(options.poses, rng, "hard"), options.profile)
    seen: dict[str, tuple[Floats, AffineError]] = {}
    for name in options.encoders:
        encoder = load_encoder(name)
        latents = encode(encoder, frames)
        seen[name] = latents, affine_error(latents, angles, space_of(encoder), ARM)
        errors = ", ".join(f"{j} {e}" for j, e in zip(JOINTS, seen[name][1].joints, strict=True))
        print(f"{name}: error of the best affine map over uniform poses, rad r.m.s.: {errors}")
    facts = {"poses": options.poses, "profile": options.profile}
    rows = {name: error.to_dict() for name, (_, error) in seen.items()}
    write_json(options.out, {**provenance("", options.seed), **facts, "encoders": rows})
    with atomic_write(options.picture) as stream:
        stream.write(draw(angles, {name: latents for name, (latents, _) in seen.items()}))


def draw(angles: Floats, latents: dict[str, Floats]) -> bytes:
    """A PNG: for each encoder, each coordinate against the angle of the joint that it shows most."""
    figure = Figure(figsize=(9.6, 2.5 * len(latents)), dpi=110, layout="constrained")
    grid = figure.subplots(len(latents), 2, squeeze=False)
    for axes, (name, h) in zip(grid, latents.items(), strict=True):
        for j, (ax, joint, colour) in enumerate(zip(axes, JOINTS, JOINT_COLOURS, strict=True)):
            rows = slice(SHOWN)
            ax.plot(angles[rows, j], h[rows, j], ".", color=colour, ms=3, alpha=0.7)
            tidy(ax, title=f"{name}, coordinate {j + 1}", xlabel=f"{joint}, rad", ylabel="latent")
    return png(figure)


if __name__ == "__main__":
    main(tyro.cli(Options))
