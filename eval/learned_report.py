"""What the learned level of the verifier says: gaps with tolerances, the ledgers, the certificate."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from worldplan.eval.certificate import Certificate
from worldplan.eval.ledger import CostLedger


@dataclass(frozen=True)
class LearnedLevel:
    """One number that an encoder is judged by.

    Attributes:
        name: of what.
        gap: measured.
        tolerance: what it may be.
        evidence: where it comes from, for a reader.
    """

    name: str
    gap: float
    tolerance: float
    evidence: str

    @property
    def passed(self) -> bool:
        """Whether the gap lies within the tolerance; a gap that is not a number does not."""
        return self.gap <= self.tolerance


@dataclass(frozen=True)
class LearnedReport:
    """An encoder against a reference: the true state, or another encoder.

    Attributes:
        reference: its name.
        episodes: closed loops in MuJoCo, the same starts and goals for both.
        steps: of each.
        levels: what is judged.
        encoder_ledger: of the encoder's closed loops, by the reference's Riccati solution, rad^2 over all episodes.
        reference_ledger: of the reference's own.
        certificate: for the linear plant that was fitted to the encoder.
    """

    reference: str
    episodes: int
    steps: int
    levels: tuple[LearnedLevel, ...]
    encoder_ledger: CostLedger
    reference_ledger: CostLedger
    certificate: Certificate

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with what follows from them."""
        facts = asdict(self)
        for level, row in zip(self.levels, facts["levels"], strict=True):
            row["passed"] = level.passed
        for name in ("encoder_ledger", "reference_ledger"):
            facts[name]["residual"] = getattr(self, name).residual
        facts["certificate"] |= {"holds": self.certificate.holds, "looseness": self.certificate.looseness}
        return facts

    @property
    def notes(self) -> list[str]:
        """Ledger and certificate for a reader."""
        ours, theirs, proof = self.encoder_ledger, self.reference_ledger, self.certificate
        return [
            f"Cost in MuJoCo over {self.episodes} episodes of {self.steps} steps, rad^2, by the Riccati solution of "
            f"{self.reference}: {_entries(ours)}. {self.reference[0].upper()}{self.reference[1:]} itself: "
            f"{_entries(theirs)}.",
            f"Certificate, fitted linear plant without clipping, {proof.steps} steps: the encoder costs at most "
            f"{proof.bound / proof.value:.2%} of the optimum's value more; measured "
            f"{proof.measured.value / proof.value:.2%} "
            f"(eps {proof.theorem3.eps}, delta {proof.theorem3.delta} at rho {proof.theorem3.rho:g}).",
        ]


def _entries(ledger: CostLedger) -> str:
    return (
        f"{ledger.cost:.4g} = initial {ledger.initial:.4g} - tail {ledger.tail:.3g} + policy {ledger.policy:.3g} "
        f"+ model {ledger.model:.3g}"
    )
