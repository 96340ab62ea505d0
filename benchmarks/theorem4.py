"""The numbers of the evaluator: Theorem 4 level by level, certificates over the zoo, encoders by control cost.

    python benchmarks/theorem4.py [--parts verify learned certificates compare]

What was measured before and is not asked for again stays in `benchmarks/results/theorem4.json`; the table beside it is
made anew from all of it. All parts take some 13 minutes of two idle cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import torch
import tyro
from tqdm import tqdm

from worldplan.data.files import atomic_write, read_json, write_json
from worldplan.data.world_card import REACHER
from worldplan.eval.compare.config import CompareConfig
from worldplan.eval.compare.entrants import find_entrants
from worldplan.eval.compare.trial import RHO, SCALE, fit_entrant, shared_frames
from worldplan.eval.identifiability.identify import identify_latents
from worldplan.eval.theorem4.certificate import certify
from worldplan.learning.encoder import known_encoders

Part = Literal["verify", "learned", "certificates", "compare"]
FACTS = "theorem4.json"
ARRAYS = ("ratios", "latents", "paths")


@dataclass(frozen=True)
class Options:
    """What to measure."""

    parts: tuple[Part, ...] = ("verify", "learned", "certificates", "compare")
    """Anew; the others are taken from the results that are there."""
    encoder: str = "reacher"
    """Of the pixel-exact and the learned level."""
    episodes: int = 300
    """Paired episodes of an encoder in the comparison."""
    out: Path = Path("benchmarks/results")


def main(options: Options) -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    path = options.out / FACTS
    facts: dict[str, Any] = read_json(path) if path.exists() else {}
    zoo = [*known_encoders(REACHER.name), "untrained", "oracle"]
    for part in options.parts:
        load, begin = os.getloadavg()[0], perf_counter()
        if part == "verify":
            found: Any = run("verify")
        elif part == "learned":
            found = run("verify", "--encoder", options.encoder)
        elif part == "certificates":
            found = certificates()
        else:
            run("compare", *zoo, "--episodes", str(options.episodes), "--out", "runs/compare")
            found = read_json(Path("runs/compare/compare.json"))
            write_json(options.out / "compare.json", without_arrays(found))
            found = {key: found[key] for key in ("config", "correlation")} | {
                "rows": [r["name"] for r in found["rows"]]
            }
        seconds = perf_counter() - begin
        facts[part] = {"seconds": round(seconds, 1), "load": [load, os.getloadavg()[0]], "found": found}
        write_json(path, facts)
    text = table(facts)
    print(text)
    with atomic_write(options.out / "theorem4.md") as stream:
        stream.write(text.encode())


def run(*arguments: str) -> dict[str, Any]:
    """What a verb of the command line says as JSON, whatever its verdict."""
    command = [sys.executable, "-m", "worldplan", *arguments, "--json"]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if said.returncode > 1:
        raise SystemExit(f"{' '.join(arguments)} ended with status {said.returncode}")
    return json.loads(said.stdout)


def without_arrays(found: dict[str, Any]) -> dict[str, Any]:
    """A comparison without what only its figures need: episodes one by one, latents and paths."""
    kept = {k: v for k, v in found.items() if k not in ("angles", "reference_paths")}
    return kept | {"rows": [{k: v for k, v in r.items() if k not in ARRAYS} for r in found["rows"]]}


def certificates() -> list[dict[str, Any]]:
    """Bound and measured loss for every encoder of the zoo, fitted as for the comparison."""
    shared, rows = shared_frames(CompareConfig()), []
    for entrant in tqdm(find_entrants(known_encoders(REACHER.name)), "certificates"):
        fitted = fit_entrant(entrant, entrant.load(), shared)
        views = [x[:, k] for x in (fitted.judged, shared.states) for k in range(2)]
        r2 = identify_latents(*views, scale=SCALE, rho=RHO, resamples=100).labels["unwrapped"].latent_to_state.value
        proof = certify(fitted.agent, scale=fitted.scale, profile="fast")
        rows.append(
            {
                "encoder": entrant.name,
                "r2": r2,
                "holds": proof.holds,
                "bound": proof.bound / proof.value,
                "loss": proof.measured.value / proof.value,
                "looseness": proof.looseness,
                "ledger": proof.ledger,
            }
        )
    return rows


def table(facts: dict[str, Any]) -> str:
    """Markdown of what is there."""
    rows: list[tuple[str, str, str, str]] = []
    if "verify" in facts:
        report = facts["verify"]["found"]
        exact, controls = report["exact"], report["controls"]
        worst = max(exact, key=lambda level: level["worst"])
        count = sum(level["problems"] for level in exact)
        beyond = sum(level["by_condition"] for level in exact)
        measured = f"{worst['worst']:.1e} of {count} ({worst['name']}); {beyond} judged by their condition"
        rows.append(("exact level, worst relative gap", "1e-9", "1e-11", measured))
        for planner, floor in (("LQR", "100% at 1e-3"), ("MPC", "100% at 10 x solver tolerance"), ("QP", "the same")):
            mistakes = [c for c in controls if c["planner"] == planner and c["expected"] == "rejected"]
            seen = sum(c["passed"] for c in mistakes)
            least = max(c["resolution"] or 9.0 for c in mistakes)
            aim = "100% at 1e-6" if planner == "LQR" else "the same"
            text = f"{seen} of {len(mistakes)} controls in all trials; resolution {least:.0e}"
            rows.append((f"controls rejected, {planner}", floor, aim, text))
        rows.append(("`worldplan verify`", "60 s", "15 s", timing(facts["verify"])))
    if "learned" in facts:
        report = facts["learned"]["found"]
        for pixel in report["pixels"]:
            if pixel["expected"] == "accepted":
                floors = ("1e-5", "1e-6") if "mpc" in pixel["name"].lower() else ("1e-6", "1e-9")
                rows.append((f"pixel-exact torque gap: {pixel['name']}", *floors, f"{pixel['torque_gap']:.1e}"))
        for level in report["learned"]["levels"]:
            limits = ("1e-9", "1e-12") if level["name"] == "ledger" else (f"{level['tolerance']:.3g}", "")
            rows.append((f"learned: {level['name']}", *limits, f"{level['gap']:.2g}"))
        rows.append(("`worldplan verify --encoder reacher`", "", "", timing(facts["learned"])))
    if "certificates" in facts:
        found = facts["certificates"]["found"]
        good = [row for row in found if row["r2"] > 0.9]
        loose = max(good, key=lambda row: row["looseness"])
        text = f"{sum(row['holds'] for row in found)} of {len(found)}; where R2 > .9, {len(good)} encoders, at most "
        text += f"{loose['looseness']:.1f} times the loss ({loose['encoder']})"
        rows.append(("certificate holds", "100%", "100%, within 10 x where R2 > .9", text))
    if "compare" in facts:
        found = facts["compare"]["found"]
        r, n = found["correlation"]["spearman"], found["correlation"]["n"]
        text = f"rank correlation {r['value']:.2f} [{r['low']:.2f}, {r['high']:.2f}] over {n} encoders"
        rows.append(("correlation of closed-loop cost with 1 - R2", "report", "", text))
        name = f"`worldplan compare`, {len(found['rows'])} encoders, {found['config']['episodes']} episodes each"
        rows.append((name, "30 min for 10", "10 min for 10", timing(facts["compare"])))
    lines = ["| measure | floor | aim | measured |", "|---|---|---|---|", *("| " + " | ".join(r) + " |" for r in rows)]
    if "certificates" in facts:
        lines += [
            "",
            "| encoder | R2 h to z | bound / value | loss / value | bound / loss | holds |",
            "|---|---|---|---|---|---|",
        ]
        for row in sorted(facts["certificates"]["found"], key=lambda row: -row["r2"]):
            numbers = f"{row['r2']:.3f} | {row['bound']:.3g} | {row['loss']:.3g} | {row['looseness']:.1f}"
            lines.append(f"| `{row['encoder']}` | {numbers} | {'yes' if row['holds'] else 'NO'} |")
    return "\n".join(lines) + "\n"


def timing(part: dict[str, Any]) -> str:
    """Seconds, and the machine's load beside them."""
    before, after = part["load"]
    return f"{part['seconds']:.0f} s, load {before:.1f} before, {after:.1f} after"


if __name__ == "__main__":
    main(tyro.cli(Options))
