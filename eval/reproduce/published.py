"""Published results for encoders of the Reacher, and how our protocol differs from theirs."""

from __future__ import annotations

from dataclasses import dataclass

from worldplan.eval.reproduce.stages import Scale
from worldplan.learning.objectives import objective_to_dict

SOURCE = "Klindt, LeCun, Balestriero 2026, arXiv 2605.26379"


@dataclass(frozen=True)
class Published:
    """One published condition.

    Attributes:
        r2: R2 of linear regression whose direction we could not make out; None where directions are named.
        state_to_latent: R2(z -> h).
        per_joint: R2(h -> z), shoulder and wrist.
    """

    r2: float | None = None
    state_to_latent: float | None = None
    per_joint: tuple[float, float] | None = None
    source: str = f"{SOURCE}, Reacher pixels: R2 by condition"

    def __str__(self) -> str:
        if self.per_joint is None or self.state_to_latent is None:
            return "–" if self.r2 is None else f"{self.r2:.2f}"
        return f"z → h {self.state_to_latent:.2f},\nh → z {self.per_joint[0]:.2f} / {self.per_joint[1]:.2f}"


# 100 epochs of 100,000 pairs, lambda chosen on the test R2. For rho .9 and .99 one value is known.
OU_ROWS = {
    0.3: Published(0.67),
    0.5: Published(0.86),
    0.7: Published(0.93),
    0.8: Published(0.94),
    0.9: Published(0.95),
    0.99: Published(0.95),
}

# Called trajectories of SAC; autocorrelations and angles past pi say that the torques were random.
TRAJECTORY_ROWS = {
    1: Published(None, -0.39, (0.71, -0.03)),
    8: Published(None, 0.50, (0.80, 0.78)),
    64: Published(None, 0.44, (0.55, 0.77)),
}

COST_RATIO = {"gaussian": 1.0, "trajectory": 1.15}  # about: medians for the straight line in the latent, decoded
WORST_RATIO = 10.0  # about: the worst pair of start and goal in a trajectory encoder
LIBRARY = 10_000  # frames that a plan was decoded with
POINTS = 8  # points of a plan


def published_row(process: str, value: float) -> Published | None:
    """The published row for a condition; None where there is none.

    `value` is rho for the process `ou`, the stride for `sac` and `random`. The published trajectories stand beside
    both: the paper calls them SAC's, but they look like random torques.
    """
    return OU_ROWS.get(value) if process == "ou" else TRAJECTORY_ROWS.get(int(value))


@dataclass(frozen=True)
class Difference:
    """One difference between the published protocol and ours."""

    what: str
    published: str
    ours: str


def differences(scale: Scale) -> list[Difference]:
    """Every known difference of protocol between the published numbers and a reproduction of this scale."""
    objective = objective_to_dict(scale.net.objective)
    weights = ", ".join(f"{name} {value}" for name, value in objective.items() if name != "name")
    sizes = ", ".join(f"{size:,}" for size in scale.libraries)
    rows = [
        (
            "direction of R2",
            "Gaussian rows: not made out; trajectory rows: z → h, and h → z for each joint",
            "both directions for each row, fitted on training frames and judged on others",
        ),
        (
            "labels",
            "angles as recorded (unwrapped); 13% of the shoulder's lie past pi, where an image shows another angle",
            "unwrapped, wrapped into [-pi, pi), and (sin, cos)",
        ),
        ("ceiling", "not given", "of the Gaussian world: the best R2 that any function of an image can reach"),
        (
            "judged on",
            "the data that it was trained on, as far as known",
            "frames like those trained on, and for all encoders on N(0, I)",
        ),
        ("held-out split", "not made out", "trajectories: by whole episode; Gaussian: frames drawn anew"),
        (
            "weight of SIGReg",
            "chosen on the test R2",
            f"the same for every row, chosen on no label: {objective['name']}, {weights}",
        ),
        (
            "trajectories",
            "called SAC's; autocorrelations and angles past pi are those of random torques",
            "a SAC policy that solves reacher-easy, and random torques beside it",
        ),
        (
            "network and training",
            "width 32, 100 epochs of 100,000 pairs",
            f"width {scale.net.width}; {scale.steps:,} steps of {scale.net.batch} pairs for every row: "
            f"{scale.epochs:.3g} epochs of a Gaussian row's {scale.pairs:,} pairs",
        ),
        ("frames", "dm_control's, as far as known", _scene(scale)),
        (
            "reference of the control cost",
            "a straight line, called optimum: 3.00 d^2 at 8 points",
            "the straight line, and the true finite-horizon optimum of the same cost: 1.618 d^2",
        ),
        ("ends of a decoded path", "not made out", "the true start and the true goal"),
        (
            "decoding",
            f"nearest of one library, of {LIBRARY:,} frames",
            f"nearest of libraries of {sizes} frames, with what the true angles get from the same library (the floor)",
        ),
        (
            "statistic of the control cost",
            "median over pairs, outliers in a figure",
            "median, 95th percentile, and ratio of summed costs, which outliers enter",
        ),
    ]
    return [Difference(*row) for row in rows]


def _scene(scale: Scale) -> str:
    """What a frame shows beside the arm."""
    n = scale.nuisances
    look = {0.0: "`fast`", 1.0: "`dmc`"}.get(n.stock, "drawn anew for each frame")
    target = "not drawn" if n.hidden == 1 else "place and size drawn anew for each frame"
    return f"look {look}, target {target}"
