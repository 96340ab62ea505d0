"""Theorem 1 in the plane: four nonlinear mixings, and what each objective undoes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worldplan.arrays import Floats
from worldplan.eval.laboratory.ensemble import Training
from worldplan.eval.laboratory.experiment import Experiment, Finding, Results, ScaleName, lacking, over_seeds
from worldplan.eval.laboratory.setting import MIXING, UNTRAINED, Member, Setting, Trained, picture, trained
from worldplan.eval.laboratory.worlds import find_mixing
from worldplan.eval.show.style import png
from worldplan.eval.show.table import Column, Table, number
from worldplan.sweeps.jobs import Job

MIXINGS = "spiral", "sine", "parabola", "couplings"
LEJEPA: dict[str, Any] = {"name": "lejepa", "weight": 0.004, "slices": 16}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "LeJEPA": LEJEPA,
    "VICReg": {"name": "vicreg", "weight": 0.5},
    "whitening": {"name": "whitening", "weight": 0.5},
    "InfoNCE": {"name": "infonce", "sigma": 1.0},
    "alignment alone": {**LEJEPA, "weight": 0.0},
    "Gaussianity alone": {**LEJEPA, "weight": 1.0},
}
RHO = 0.9


@dataclass(frozen=True)
class Size:
    """How many encoders, and how large; how LeJEPA trains them, and how the others do."""

    seeds: int
    width: int
    depth: int
    lejepa: Training
    training: Training
    judged: int = 4000


SIZES: dict[ScaleName, Size] = {
    "smoke": Size(1, 16, 2, Training(20, 64, growth=2), Training(20, 64), 400),
    "cpu": Size(3, 64, 3, Training(6000, 256, 1e-2, growth=16), Training(4000, 256, 1e-2)),
    "full": Size(10, 256, 4, Training(20_000, 512, 1e-2, growth=16), Training(20_000, 1024, 1e-2)),
}


def settings(scale: ScaleName, seed: int) -> list[Setting]:
    """An ensemble of seeds for each mixing and objective, and one without training."""
    size = SIZES[scale]
    found = []
    for mixing in MIXINGS:
        for name, objective in OBJECTIVES.items():
            members = tuple(Member((seed, k), objective, RHO) for k in range(size.seeds))
            # SIGReg counts samples: batches that grow begin where alignment can move, and end with little bias.
            training = size.lejepa if name == "LeJEPA" else size.training
            found.append(Setting(mixing, members, training, width=size.width, depth=size.depth, judged=size.judged))
        found.append(replace(found[-1], training=Training(0)))
    return found


def jobs(scale: ScaleName, seed: int) -> list[Job]:
    """One for each setting."""
    return [setting.job(method="muon") for setting in settings(scale, seed)]


def read(scale: ScaleName, results: Results) -> Finding:
    """R2 both ways by mixing and objective, means over seeds."""
    size = SIZES[scale]
    rows: dict[tuple[str, str], list[Trained]] = {}
    for setting, encoder in trained(results):
        rows.setdefault((setting.mixing, setting.trained_by(OBJECTIVES)), []).append(encoder)
    table = Table(
        f"Theorem 1 in the plane, scale {scale}",
        [
            Column("mixing", named=True),
            Column("objective", named=True),
            "R2(h → z)",
            Column("1 - R2", short="1 - R2"),
            "R2(z → h)",
            "orthogonality error",
            "control cost",
        ],
        [
            [
                mixing,
                objective,
                number(r2 := over_seeds(encoders, lambda e: e.judged.r2.value)),
                lacking(r2),
                number(over_seeds(encoders, lambda e: e.judged.back.value)),
                number(over_seeds(encoders, orthogonality)),
                number(over_seeds(encoders, lambda e: e.control)),
            ]
            for (mixing, objective), encoders in rows.items()
        ],
        [
            "Means over seeds with their 95% intervals. Orthogonality error: `||M'M - I||_F` of the linear map from "
            "the latents to the embedding. Control cost: LQR in the embedding over LQR on the true state. The spiral "
            "keeps the law of the latents: its observations are Gaussian already.",
        ],
    )
    extremes = {name: extreme(rows, name) for name in (*OBJECTIVES, UNTRAINED)}
    sentence = (
        f"The least R2 of LeJEPA over the four mixings is {extremes['LeJEPA'][0]:.4f}; the greatest of alignment alone "
        f"is {extremes['alignment alone'][1]:.2f}, of Gaussianity alone {extremes['Gaussianity alone'][1]:.2f}, and "
        f"without training {extremes[UNTRAINED][1]:.2f}."
    )
    return Finding(
        sentence,
        table,
        draw(rows),
        {
            "rows": [
                {"mixing": mixing, "objective": objective, "encoders": [replace(e, cloud=()) for e in encoders]}
                for (mixing, objective), encoders in rows.items()
            ],
            "extremes": extremes,
        },
        (
            f"Published: rho, weights and mixings in full are not given; ours are rho {RHO} and those of the code.",
            "Published: four layers of 256 units, by 10,000 steps of warm-up and 10,000 of cosine decay. Ours at scale "
            f"{scale}: {size.depth} of {size.width}, by Muon; LeJEPA by {size.lejepa.steps:,} steps whose batches grow "
            f"{size.lejepa.growth:g} times from {size.lejepa.batch}, the others by {size.training.steps:,} of "
            f"{size.training.batch:,}.",
        ),
    )


def orthogonality(encoder: Trained) -> float | None:
    """Deviation of the linear map from a rotation."""
    found = encoder.judged.orthogonality
    return None if found is None else found.value


def extreme(rows: dict[tuple[str, str], list[Trained]], objective: str) -> tuple[float, float]:
    """Least and greatest R2 of an objective over mixings and seeds."""
    own = [e.judged.r2.value for (_, name), encoders in rows.items() if name == objective for e in encoders]
    return min(own), max(own)


def draw(rows: dict[tuple[str, str], list[Trained]]) -> bytes:
    """Latents, observations and embeddings of the first seed; colour is the angle of the latent, size its radius."""
    z = picture()
    columns = ["latent", "observation", *OBJECTIVES]
    mixings = list(dict.fromkeys(mixing for mixing, _ in rows))
    figure = Figure(figsize=(1.7 * len(columns), 1.8 * len(mixings)), dpi=110, layout="constrained")
    grid = figure.subplots(len(mixings), len(columns), squeeze=False)
    for row, mixing in zip(grid, mixings, strict=True):
        for axes, column in zip(row, columns, strict=True):
            encoders = rows.get((mixing, column), [])
            points = (
                z if column == "latent" else observed(mixing, rows, z) if column == "observation" else cloud(encoders)
            )
            scatter(axes, z, points)
            axes.set_title("" if mixing != mixings[0] else column, fontsize=9)
            if encoders:
                axes.set_xlabel(f"R2 {encoders[0].judged.r2.value:.4f}", fontsize=8)
        row[0].set_ylabel(mixing, fontsize=9)
    return png(figure)


def observed(mixing: str, rows: dict[tuple[str, str], list[Trained]], z: Floats) -> Floats:
    """Observations of the first seed."""
    member = next(encoders[0].member for (name, _), encoders in rows.items() if name == mixing)
    seen = find_mixing(mixing, 2, [member.integer(MIXING)])(torch.from_numpy(z).float()[None])[0]
    return np.asarray(seen.double().numpy())


def cloud(encoders: list[Trained]) -> Floats:
    """Embeddings of the first seed."""
    return np.array(encoders[0].cloud) if encoders else np.zeros((0, 2))


def scatter(axes: Axes, z: Floats, points: Floats) -> None:
    """Points, coloured by the angle of their latent."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", "datalim")
    if len(points):
        axes.scatter(
            points[:, 0],
            points[:, 1],
            c=np.arctan2(z[:, 1], z[:, 0]),
            cmap="twilight",
            s=2 + 4 * np.hypot(z[:, 0], z[:, 1]),
        )


MIXINGS_EXPERIMENT = Experiment(
    "mixings",
    "Theorem 1: in a Gaussian world the minimisers of LeJEPA are rotations of the latents, whatever the mixing "
    "(Klindt, LeCun and Balestriero 2026, arXiv 2605.26379).",
    jobs,
    read,
)
