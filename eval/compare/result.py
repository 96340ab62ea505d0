"""What a comparison of encoders found: rows of numbers, and what is needed to draw them."""

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
from worldplan.provenance import plain


@dataclass(frozen=True, eq=False)
class ComparisonRow:
    """One encoder: how it controls, and how well it is identified. What does not apply or was not reached is None.

    Attributes:
        name: of the encoder: a zoo name, a folder, `module:object`, `oracle` or `untrained`.
        kind: `zoo`, `folder`, `module`, `object` (handed over in Python), `oracle` or `untrained`.
        status: `ok` or `failed`.
        reason: why it failed, a sentence; empty otherwise.
        latent_dim: m, width of the encoder's latent.
        reduced_dim: k <= m, principal components of the latent that were planned in.
        dropped: share of the latent's variance on the fitting frames that the other components held, 0 to 1.
        scale: radians per latent unit that the cost used: of the angles' spread over the latent's, angles N(0, .7^2).
        charts: whether the agent plans in quarter turns of the image.
        control: its episodes against the true-state clipped LQR's on the same pairs: `cost_ratio_mean`,
            `cost_ratio_median`, `cost_ratio_p95`, `reach` (an `Estimate` each: value and 95% interval). Rows are
            ranked by `control.cost_ratio_mean.value`.
        latent_to_state: R2(h -> z), out of sample, joint angles N(0, .7^2); h is what is planned in, here and below.
        state_to_latent: R2(z -> h), likewise.
        orthogonality_error: `||M'M - I||_F` of the linear map M from state to latent, in units in which both have the
            same spread; 0 for a rotation.
        theorem3_bound: upper bound of `E|h - Q z|^2` (Theorem 3).
        theorem3_error: the measured `E|h - Q z|^2` that it bounds.
        step_ms: median milliseconds of one control step: encode one frame, estimate, plan.
        ratios: (N,) cost of every episode over the reference's; NaN where the reference's is zero.
        latents: (S, k) latents of `Comparison.angles`, as planned in; the first two columns make a picture.
        paths: three (T + 1, 2) paths of joint angles, radians, one for each of `Comparison.starts`.
        open_loop: cost of plans that are made in the latent and decoded, without the arm: by library and plan.
        null: how often it is told from itself by disjoint halves of its episodes; None with fewer than 12.
        p_first: p-value of "it costs what the first of the ranking costs", by paired episodes; None for the first.
        notes: warnings that came up, such as of a renderer that differs from the one trained with.
    """

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

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return plain(self, digits=6)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Encoders ranked by mean closed-loop cost ratio.

    Attributes:
        config: what all were put through.
        provenance: command, seed and versions.
        rows: best first, failed ones last.
        baselines: the true-state clipped LQR, which is the reference, random torques and standing still: on the same
            episodes, against the same reference.
        floor: open-loop cost that the true angles get with the same libraries.
        correlation: of cost with `1 - R2`.
        angles: (S, 2) joint angles, radians, of the frames behind `ComparisonRow.latents`.
        starts: (3, 2) poses at which `ComparisonRow.paths` start.
        goals: (3, 2) where they should end.
        targets: (3, 3) target spheres of these episodes: `render_frames(path, targets[i], config.profile)` draws a path
            as the encoder saw it.
        reference_paths: the three paths of the true-state clipped LQR, (T + 1, 2) each.
    """

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

    def to_dict(self) -> dict[str, Any]:
        """JSON values: every number behind table and figures."""
        return plain(self, digits=6)  # type: ignore[no-any-return]
