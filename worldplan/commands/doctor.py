"""`worldplan doctor`."""

from __future__ import annotations

from dataclasses import dataclass

from worldplan.commands.base import File, Verb


@dataclass(frozen=True, kw_only=True)
class Doctor(Verb):
    """Look whether this machine can run worldplan, and say how to mend what is wrong.

    Exits 0 if everything needed is in order, 1 if not. Nothing here is random: --seed changes nothing.

    Args:
        out: folder for doctor.json; nothing is written without.
    """

    out: File = None

    def run(self, command: str) -> int:
        """Exit status 0 or 1."""
        from worldplan.data.files import write_json
        from worldplan.doctor import examine, healthy
        from worldplan.eval.show.table import Table

        findings = examine()
        sound = healthy(findings)
        facts = {"healthy": sound, "findings": [vars(f) for f in findings]}
        if self.out is not None:
            write_json(self.out / "doctor.json", facts)
        words = {(True, True): "ok", (True, False): "ok", (False, True): "BROKEN", (False, False): "missing"}
        rows = [[f.name, words[f.ok, f.needed], "\n".join(filter(None, (f.detail, f.remedy)))] for f in findings]
        note = (
            "Everything needed is in order." if sound else "Mend what is BROKEN; what is missing can be done without."
        )
        columns = ("what", "", "found, and how to mend it")
        self.show(facts, Table("What worldplan finds here", columns, rows, [note]))
        return 0 if sound else 1
