"""Result of a comparison of encoders: rows of numbers, and the data to draw them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from worldplan.arrays import Floats
from worldplan.eval.compare.config import CompareConfig
from worldplan.eval.control.episodes import ControlSummary
from worldplan.eval.control.open_loop import OpenLoopRow
from worldplan.eval.statistics.correlation import Correlation
from worldplan.eval.statistics.estimate import Estimate
from worldplan.eval.statistics.paired_test import NullTest
from worldplan.provenance import Result


@dataclass(frozen=True, eq=False)
class ComparisonRow(Result):
    """One encoder's control and identifiability; None marks what does not apply or was not reached.

    Attributes:
        kind: that of `Entrant`.
        status: `ok`, `failed`, or `waiting` for another shard; `reason` says why, in a sentence.
        latent_dim: m, width of the encoder's latent.
        reduced_dim: k <= m, principal components of the latent that were planned in.
        dropped: share of the latent's variance on the fitting frames in the other components, 0 to 1.
        scale: radians per latent unit in the cost: spread of the angles N(0, .7^2) over the latent's.
        charts: whether the agent plans in quarter turns of the image.
        control: its episodes; `control.cost_ratio_mean.value` ranks the rows.
        latent_to_state: R2(h -> z), out of sample, angles N(0, .7^2); h is what is planned in, here and below.
        state_to_latent: R2(z -> h), likewise.
        orthogonality_error: `||M'M - I||_F` of the linear map M from state to latent, in units in which both have the
            same spread; 0 for a rotation.
        theorem3_bound: upper bound of `E|h - Q z|^2` (Theorem 3); `theorem3_error` is the measured value.
        step_ms: median milliseconds of one control step: encode one frame, estimate, plan.
        ratios: (N,) cost of every episode over the reference's; NaN where the reference's is zero.
        latents: (S, k) latents of `Comparison.angles`, as planned in.
        paths: three (T + 1, 2) paths of joint angles, radians, one for each of `Comparison.starts`.
        open_loop: cost of plans made in the latent and decoded, without the arm: by library and plan.
        null: the paired test between halves of its own episodes; None with fewer than 12.
        p_first: p-value of "costs the same as the first of the ranking", by paired episodes; None for the first.
        notes: warnings, such as of a renderer that differs from the one trained with.
    """

    digits = 6

    name: str
    kind: str
    status: str = "ok"
    reason: str = ""
    latent_dim: int | None = None
    reduced_dim: int | None = None
    dropped: float | None = None
    scale: float | None = None
    charts: bool | None = None
    control: ControlSummary | None = None
    latent_to_state: Estimate | None = None
    state_to_latent: Estimate | None = None
    orthogonality_error: Estimate | None = None
    theorem3_bound: Estimate | None = None
    theorem3_error: Estimate | None = None
    step_ms: float | None = None
    ratios: Floats | None = None
    latents: Floats | None = None
    paths: tuple[Floats, ...] = ()
    open_loop: tuple[OpenLoopRow, ...] = ()
    null: NullTest | None = None
    p_first: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the trial ran to its end."""
        return self.status == "ok"


@dataclass(frozen=True, eq=False)
class Comparison(Result):
    """Encoders ranked by mean closed-loop cost ratio.

    Attributes:
        provenance: command, seed and versions.
        rows: best first, failed ones last.
        baselines: the true-state clipped LQR (the reference), random torques and standing still, on the same episodes.
        floor: open-loop cost of the true angles with the same libraries.
        correlation: correlation of cost with `1 - R2`.
        angles: (S, 2) joint angles, radians, of the frames behind `ComparisonRow.latents`.
        starts: (3, 2) poses at which `ComparisonRow.paths` start; `goals` (3, 2) is where they should end.
        targets: (3, 3) target spheres of these episodes: `render_frames(path, targets[i], config.profile)` draws a path
            as the encoder saw it.
        reference_paths: the three paths of the true-state clipped LQR, (T + 1, 2) each.
    """

    digits = 6

    config: CompareConfig
    provenance: dict[str, Any]
    rows: tuple[ComparisonRow, ...]
    baselines: tuple[ControlSummary, ...]
    floor: tuple[OpenLoopRow, ...]
    correlation: Correlation
    angles: Floats
    starts: Floats
    goals: Floats
    targets: Floats
    reference_paths: tuple[Floats, ...]
