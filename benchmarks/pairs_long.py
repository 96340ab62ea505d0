"""LeJEPA on pairs of frames of random motion, at the published amount of training: ten million pairs, strides 8 and 64.

Each stride takes 78,127 steps, of which a core makes some 8 a second. An interrupted run goes on from its checkpoint;
`--judge` looks at what is there.

    python benchmarks/pairs_long.py --strides 64
    python benchmarks/pairs_long.py --judge
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from safetensors.torch import load_file

from worldplan.arrays import Floats
from worldplan.data.episodes import EpisodeDataset
from worldplan.data.files import atomic_write
from worldplan.eval.show.table import Table
from worldplan.learning.encoder import PixelEncoder, load_encoder
from worldplan.learning.network import ConvEncoder

# Run in the folder of the runs: a dataset's hash covers the command that made it, and a checkpoint asks for that hash.
SCENE = (
    "worldplan collect random --episodes {episodes} --steps 200 --seed {seed} --stock 0 --hidden 1 --test-share 0 "
    "--out {out}"
)
DATA, HELD_OUT = "random500", "held-out"
RECIPE = (
    "worldplan pretrain {data} --stride {stride} --width 8 --hidden 64 --slices 64 --half --threads 1 "
    "--checkpoint-every 250 --epochs {epochs} --out {out}"
)
EPOCHS = {8: 105.01, 64: 148.53}  # 78,127 steps of 128 pairs each
BATCH = 128


@dataclass(frozen=True)
class Options:
    """What to train and judge."""

    strides: tuple[int, ...] = (8, 64)
    judge: bool = False
    """Train nothing."""
    runs: Path = Path("runs/pairs-long")
    out: Path = Path("benchmarks/results/pairs-long")


def main(options: Options) -> None:
    """Train, judge, print, write."""
    torch.set_num_threads(1)
    data, held = (options.runs / name for name in (DATA, HELD_OUT))
    options.runs.mkdir(parents=True, exist_ok=True)
    for folder, episodes, seed in ((data, 500, 2), (held, 40, 77)):
        if not (folder / "manifest.json").exists() and (folder == held or not options.judge):
            _run(SCENE.format(episodes=episodes, seed=seed, out=folder.name), options.runs)
    rows = []
    for stride in options.strides:
        folder = options.runs / str(stride)
        if not options.judge and not (folder / "encoder.json").exists():
            more = " --resume" if (folder / "checkpoint.json").exists() else ""
            _run(RECIPE.format(data=data, stride=stride, epochs=EPOCHS[stride], out=folder) + more)
        encoder, steps = _encoder(folder)
        rows += [[str(stride), f"{steps * BATCH / 1e6:.2f}", *shares] for shares in _judged(encoder, held)]
    heads = ["stride", "million pairs", "map", "cosine of the shoulder", "its sine", "wrist"]
    table = Table("R2 of angles from the latent, on episodes that were held out", heads, rows)
    text = f"# {table.title}\n\n{table.markdown()}"
    print(text)
    with atomic_write(options.out / "pairs-long.md") as stream:
        stream.write(text.encode())


def _encoder(folder: Path) -> tuple[PixelEncoder, int]:
    """The finished encoder, or that of the last checkpoint, and the steps that it has made."""
    steps = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["step"]
    if (folder / "encoder.json").exists():
        return load_encoder(folder), steps
    network = ConvEncoder(2, 8, 64)
    found = load_file(folder / "checkpoint.safetensors")
    head = "network."
    network.load_state_dict({k.removeprefix(head): v for k, v in found.items() if k.startswith(head)})
    return PixelEncoder(network, {}), int(json.loads((folder / "checkpoint.json").read_text())["step"])


def _judged(encoder: PixelEncoder, held: Path) -> list[list[str]]:
    """R2 of the shoulder's cosine and sine and of the wrist, by affine and cubic maps fitted to half of the frames."""
    data = EpisodeDataset(held).load("train", frames=True)
    q = np.concatenate(data.info["qpos"])
    pick = np.random.default_rng(0).permutation(len(q))[:4000]
    h, q = encoder(np.concatenate(data.frames)[pick]), q[pick]
    wanted = np.stack([np.cos(q[:, 0]), np.sin(q[:, 0]), q[:, 1]], axis=1)
    rows = []
    for name, degree in (("affine", 1), ("cubic", 3)):
        powers = [h[:, 0] ** i * h[:, 1] ** j for i in range(degree + 1) for j in range(degree + 1 - i)]
        rows.append([name, *(f"{share:.2f}" for share in _r2(np.stack(powers, axis=1), wanted))])
    return rows


def _r2(known: Floats, wanted: Floats) -> Any:
    half = len(known) // 2
    missed = wanted[half:] - known[half:] @ np.linalg.lstsq(known[:half], wanted[:half], rcond=None)[0]
    return 1.0 - missed.var(axis=0) / wanted[half:].var(axis=0)


def _run(command: str, folder: Path | None = None) -> None:
    print(command, flush=True)
    subprocess.run([sys.executable, "-m", *shlex.split(command)], check=True, cwd=folder)


if __name__ == "__main__":
    main(tyro.cli(Options))
