"""What encoders of trajectories learn: R2 by condition, direction and kind of label, in distribution and on N(0, I).

Reads what `benchmarks/encoders.py` made; writes `benchmarks/results/identifiability.json` and the tables as Markdown.

    python benchmarks/identifiability.py [--frames 4000]

A row is the mean over seeds, with the least and the greatest; `-x5` was trained five times as long.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from worldplan.data.files import write_json
from worldplan.eval.identifiability.regression import LABEL_KINDS, LabelFit
from worldplan.eval.reproduce.run import normal_views, recorded_views
from worldplan.eval.reproduce.stages import SCALES
from worldplan.eval.show.table import Table
from worldplan.learning.encoder import load_encoder
from worldplan.provenance import plain

CONDITIONS = ["ou-50", "ou-90", "ou-99"]
CONDITIONS += [f"{policy}-{stride}" for policy in ("random", "sac") for stride in (1, 4, 16, 64, "16-x5")]
CONDITIONS += ["vicreg", "vicreg-x5"]
DIRECTIONS = {"h to z": "latent_to_state", "z to h": "state_to_latent"}
SEED = 2026


def row(name: str, fits: list[dict[str, LabelFit]]) -> list[str]:
    cells = []
    for kind in LABEL_KINDS:
        for direction in DIRECTIONS.values():
            values = [getattr(fit[kind], direction).value for fit in fits]
            spread = "" if len(values) == 1 else f" [{min(values):.2f}, {max(values):.2f}]"
            cells.append(f"{np.mean(values):.2f}{spread}")
    joints = (np.mean([fit["wrapped"].per_joint[k].value for fit in fits]) for k in range(2))
    return [name, str(len(fits)), *cells, " / ".join(f"{joint:.2f}" for joint in joints)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=4000)
    parser.add_argument("--encoders", type=Path, default=Path("runs/encoders"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    scale = replace(SCALES["cpu"], frames=options.frames)  # its frames are fast, the target hidden, as in training
    worlds = {name: recorded_views(options.data / name, scale, SEED) for name in ("random", "sac")}
    worlds["N(0, I)"] = normal_views(scale, SEED, processes=2)
    results: dict[str, list[dict[str, dict[str, LabelFit]]]] = {}
    for name in tqdm(CONDITIONS):
        policy = name.split("-")[0]
        own = (policy, "N(0, I)") if policy in worlds else worlds
        for card in sorted(options.encoders.glob(f"reacher-{name}-s*/encoder.json")):
            judged = {where: worlds[where].judge(load_encoder(card.parent), SEED) for where in own}
            results.setdefault(name, []).append({w: dict(zip(LABEL_KINDS, f, strict=True)) for w, f in judged.items()})
    write_json(options.out / "identifiability.json", plain({"frames": options.frames, "results": results}))
    heads = ["trained on", "seeds", *(f"{kind}, {arrow}" for kind in LABEL_KINDS for arrow in DIRECTIONS)]
    heads.append("wrapped, h to z, shoulder / wrist")
    parts = []
    for where in worlds:
        judged = {name: [fit[where] for fit in fits if where in fit] for name, fits in results.items()}
        table = Table(where, heads, [row(name, fits) for name, fits in judged.items() if fits])
        parts.append(f"### Judged on {where}\n\n{table.markdown()}")
    text = "\n\n".join(parts)
    (options.out / "identifiability.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
