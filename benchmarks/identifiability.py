"""What encoders of trajectories learn: R2 by condition, direction and kind of label, in distribution and on N(0, I).

Reads what `benchmarks/encoders.py` made; writes `benchmarks/results/identifiability.json` and the tables as Markdown.

    python benchmarks/identifiability.py [--frames 4000]

A row is the mean over seeds, with the least and the greatest; `-x5` was trained five times as long.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from worldplan.data.episodes import EpisodeDataset
from worldplan.data.files import write_json
from worldplan.envs.rendering import render_frames
from worldplan.eval.identifiability.regression import LABEL_KINDS, label_fit
from worldplan.learning.encoder import load_encoder

CONDITIONS = ["ou-50", "ou-90", "ou-99"]
CONDITIONS += [f"{policy}-{stride}" for policy in ("random", "sac") for stride in (1, 4, 16, 64, "16-x5")]
CONDITIONS += ["vicreg", "vicreg-x5"]


class Gaussian:
    """Frames of angles N(0, I), in the look of the training data."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng([2026, 0])
        self.angles = rng.standard_normal((2 * count, 2))
        self.frames = render_frames(self.angles, None, "fast", processes=2)
        self.groups = np.arange(count)

    def halves(self):
        count = len(self.groups)
        return (self.frames[:count], self.angles[:count]), (self.frames[count:], self.angles[count:])


class Recorded:
    """Frames of the training and of the test episodes of a dataset."""

    def __init__(self, folder: Path, count: int) -> None:
        data, rng = EpisodeDataset(folder), np.random.default_rng([2026, 1])
        self._halves = []
        for split in ("train", "test"):
            runs = data.load(split, frames=True)
            per = -(-count // len(runs))
            steps = [rng.choice(len(q), per, replace=False) for q in runs.info["qpos"]]
            frames = np.concatenate([f[np.sort(s)] for f, s in zip(runs.frames, steps, strict=True)])
            angles = np.concatenate([q[np.sort(s)] for q, s in zip(runs.info["qpos"], steps, strict=True)])
            self._halves.append((frames, angles))
        self.groups = np.repeat(np.arange(len(runs)), per)

    def halves(self):
        return self._halves


def judge(encoder, world) -> dict[str, dict[str, object]]:
    (train, train_angles), (test, test_angles) = world.halves()
    h, k = encoder(train), encoder(test)
    fits = {kind: label_fit(h, train_angles, k, test_angles, kind, groups=world.groups) for kind in LABEL_KINDS}
    return {
        kind: {
            "latent_to_state": fit.latent_to_state.__dict__,
            "state_to_latent": fit.state_to_latent.__dict__,
            "per_joint": [joint.__dict__ for joint in fit.per_joint],
        }
        for kind, fit in fits.items()
    }


def cell(rows: list[dict], kind: str, direction: str) -> str:
    values = [row[kind][direction]["value"] for row in rows]
    text = f"{np.mean(values):.2f}"
    return text if len(values) == 1 else f"{text} [{min(values):.2f}, {max(values):.2f}]"


def joints(rows: list[dict], kind: str) -> str:
    """Shoulder / wrist, mean over seeds."""
    return " / ".join(f"{np.mean([row[kind]['per_joint'][k]['value'] for row in rows]):.2f}" for k in range(2))


def table(results: dict, where: str) -> str:
    head = ["trained on", "seeds", *(f"{kind}, {arrow}" for kind in LABEL_KINDS for arrow in ("h to z", "z to h"))]
    head.append("wrapped, h to z, shoulder / wrist")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, rows in results.items():
        chosen = [row[where] for row in rows if where in row]
        if chosen:
            cells = [cell(chosen, k, d) for k in LABEL_KINDS for d in ("latent_to_state", "state_to_latent")]
            lines.append("| " + " | ".join([name, str(len(chosen)), *cells, joints(chosen, "wrapped")]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=4000)
    parser.add_argument("--encoders", type=Path, default=Path("runs/encoders"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    worlds = {name: Recorded(options.data / name, options.frames) for name in ("random", "sac")}
    worlds["N(0, I)"] = Gaussian(options.frames)
    results: dict[str, list[dict]] = {}
    for name in tqdm(CONDITIONS):
        for folder in sorted(options.encoders.glob(f"reacher-{name}-s*")):
            if (folder / "encoder.json").exists():
                encoder = load_encoder(folder)
                policy = name.split("-")[0]
                own = (policy, "N(0, I)") if policy in worlds else worlds
                results.setdefault(name, []).append({w: judge(encoder, worlds[w]) for w in own})
    write_json(options.out / "identifiability.json", {"frames": options.frames, "results": results})
    text = "\n\n".join(f"### Judged on {where}\n\n{table(results, where)}" for where in worlds)
    (options.out / "identifiability.md").write_text(text + "\n")
    print(text)
    print(json.dumps({name: len(rows) for name, rows in results.items()}))


if __name__ == "__main__":
    main()
