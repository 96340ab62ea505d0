"""Identifiability of several encoders as one table."""

from __future__ import annotations

from collections.abc import Mapping

from worldplan.eval.identifiability.identify import IdentifiabilityReport
from worldplan.eval.show.table import Cell, Column, Table, number
from worldplan.eval.statistics.estimate import Estimate

COLUMNS = (
    Column("encoder", "Its name, and the width of its latent.", named=True),
    Column("R2 h→z", "Joint angles, unwrapped, from the latent: is the state there, linearly?"),
    Column(
        "wrapped / sincos",
        "The same for angles wrapped to [-pi, pi), and for their sine and cosine.",
        "wrapped /\nsincos",
    ),
    Column("R2 z→h", "The latent from the unwrapped angles: is there nothing else?"),
    Column(
        "rotation / warp",
        "R2 for z of the best rotation, without a scale; with one shared monotone map on top.",
        "rotation /\nwarp",
    ),
    Column("orth. error", "|M'M - I| of the linear map M from state to latent; 0 for a rotation.", "orth.\nerror"),
    Column("degree 1 2 3 rest", "Shares of the latent's variance by Hermite degree, per cent.", "degree\n1 2 3\nrest"),
    Column("Thm 3 error", "Measured E|h - Qz|^2.", "Thm 3\nerror"),
    Column("Thm 3 bound", "Its upper bound by Theorem 3.", "Thm 3\nbound"),
    Column("rank", "Effective rank of the latent's covariance."),
)


def identifiability_table(reports: Mapping[str, IdentifiabilityReport], failed: Mapping[str, str]) -> Table:
    """One row for each encoder, by R2 of the unwrapped angles, best first.

    `reports` maps names to what `identify` found, `failed` maps names to why an encoder could not be judged.
    """
    ranked = sorted(reports.items(), key=lambda pair: -pair[1].labels["unwrapped"].latent_to_state.value)
    notes = []
    if ranked:
        first = ranked[0][1]
        notes = [
            f"{first.pairs:,} pairs of frames, joint angles N(0, {first.scale:g}^2), views correlated by "
            f"{first.theorem3.rho:g}; out of sample; brackets: 95% intervals.",
            f"With unwrapped labels no function of an image gets above {first.ceiling['unwrapped']:.4f}.",
        ]
        broken = [name for name, report in ranked if not report.theorem3.holds]
        notes += [f"Theorem 3 does not hold for {', '.join(broken)}: the measurement is broken."] if broken else []
    notes += [f"{name} failed: {reason}" for name, reason in failed.items()]
    title = f"Identifiability of {len(ranked)} of {len(ranked) + len(failed)} encoders"
    return Table(title, COLUMNS, [_row(name, report) for name, report in ranked], notes)


def _row(name: str, report: IdentifiabilityReport) -> list[Cell]:
    labels, energy = report.labels, report.hermite
    shares = [*(share.value for share in energy.by_degree), energy.rest.value]
    return [
        Cell(f"{name} ({report.latent_dim})", order=name),
        number(labels["unwrapped"].latent_to_state),
        _both(labels["wrapped"].latent_to_state, labels["sincos"].latent_to_state),
        number(labels["unwrapped"].state_to_latent),
        _both(report.rotation.rotation, report.rotation.monotone),
        number(report.linear.orthogonality),
        Cell(" ".join(str(round(100 * share)) for share in shares)),
        number(report.theorem3.error),
        number(report.theorem3.bound),
        number(report.spectrum.effective_rank.value),
    ]


def _both(first: Estimate, second: Estimate) -> Cell:
    return Cell(f"{number(first.value)} /\n{number(second.value)}")
