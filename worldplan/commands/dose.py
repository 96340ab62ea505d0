"""`worldplan dose`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worldplan.commands.base import Verb, bar


@dataclass(frozen=True, kw_only=True)
class Dose(Verb):
    """How wrong plans are for each negative control of Theorem 4, by the size of its mistake; exit 0 passed, 1 failed.

    Random problems are planned behind encoders, goals and costs with a mistake of known size; prints value, action and
    plan error and the share rejected, and writes dose.json and dose.png. No OpenGL.

    Args:
        trials: number of trials of each mistake at each size.
        sizes: relative sizes of the mistakes.
        threads: threads of the linear algebra of torch.
        out: folder for what is written; an earlier run's files are replaced.
    """

    trials: int = 8
    sizes: tuple[float, ...] = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    threads: int = 1
    out: Path = Path("runs/dose")

    @property
    def uses_torch(self) -> bool:
        """NumPy does it all."""
        return False

    def run(self, command: str) -> int:
        """Exit status 0 if every mistake was seen and nothing else was rejected, else 1."""
        from worldplan.eval.theorem4.dose import dose_response
        from worldplan.eval.theorem4.figure import figure

        report = dose_response(self.seed, trials=self.trials, sizes=self.sizes, progress=bar("controls"))
        figure(report, self.out / "dose.png")
        self.keep(command, report.to_dict(), report.table(), self.out / "dose.json", self.out / "dose.png")
        return 0 if report.passed else 1
