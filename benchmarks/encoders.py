"""Train the encoders that are compared: Gaussian, generalised-normal, SAC and random-policy data, other objectives.

All see the same easy scene, the look `fast` without a target: what differs is the law of the angles and the objective.
Every encoder is made by the command line alone; this file is the list of commands. What is there is not made again, so
an interrupted run goes on. Two cores take about an hour; `--scale smoke` takes minutes: a test that it runs.

    python benchmarks/encoders.py [--scale smoke] [--seeds 3] [--ship] [--longer 5]

`--ship` copies seed 0 of every condition into the zoo. It is seed 0 by rule: no measurement chooses it. `--longer 5`
also trains three that learn slowly, seed 0, five times as long: is what is missing a matter of time?
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

NET = "--width 8 --hidden 64 --batch 64 --bfloat16 True --half --threads 2"
SCENE = "--stock 0 --hidden 1"
SMALL = {"cpu": {"pairs": 10_000, "episodes": 240}, "smoke": {"pairs": 600, "episodes": 24}}
EPOCHS = {1: 1.4, 4: 1.4, 16: 1.5, 64: 2.0}  # some 840 steps each, as six epochs of 10,000 pairs are
CONTROLS = ("reacher-sac-16", "reacher-random-16", "reacher-vicreg")  # that `--longer` trains too


def datasets(pairs: int, episodes: int) -> dict[str, str]:
    """Folder -> arguments of `worldplan collect`."""
    ou = {f"ou-{r}": f"ou --pairs {pairs} --rho .{r} --seed {r}" for r in (50, 90, 99)}
    gennorm = {f"gennorm-{a}": f"gennorm --alpha {a} --pairs {pairs} --seed {a}" for a in (1, 4, 8)}
    ou["ou-90-labels"] = f"{ou['ou-90']} --with-labels"
    length = f"--episodes {episodes} --steps 200"
    return {**ou, **gennorm, "sac": f"sac {length} --seed 1", "random": f"random {length} --seed 2"}


def encoders() -> dict[str, str]:
    """Name -> arguments of `worldplan pretrain`, without seed."""
    ou, gennorm = [f"ou-{r}" for r in (90, 50, 99)], [f"gennorm-{a}" for a in (1, 4, 8)]
    episodes = {
        f"reacher-{policy}-{stride}": f"data/{policy} --stride {stride} --epochs {epochs}"
        for stride, epochs in EPOCHS.items()
        for policy in ("sac", "random")
    }
    others = {f"reacher-{o}": f"data/ou-90 --epochs 6 --objective {o}" for o in ("vicreg", "whitening", "infonce")}
    worlds = {f"reacher-{name}": f"data/{name} --epochs 6" for name in (*ou, *gennorm)}
    worlds = {name: f"{arguments} --slices 64" for name, arguments in worlds.items()}
    episodes = {name: f"{arguments} --slices 64" for name, arguments in episodes.items()}
    worlds["reacher-supervised"] = "data/ou-90-labels --epochs 6 --objective supervised"
    gaussian = {name: worlds.pop(name) for name in list(worlds) if "ou" in name}
    return {**gaussian, **episodes, **others, **worlds}


def seeds_of(name: str, seeds: int) -> range:
    """How often a condition is trained: the rows of the table of trajectories with `seeds` seeds, the others once."""
    return range(seeds if name == "reacher-ou-90" or "sac" in name or "random" in name else 1)


def longer(times: float) -> dict[str, str]:
    """Name -> arguments of `worldplan pretrain`, for so many times the epochs."""
    found = {}
    for name in CONTROLS:
        words = encoders()[name].split()
        at = words.index("--epochs") + 1
        words[at] = f"{times * float(words[at]):g}"
        found[f"{name}-x{times:g}"] = " ".join(words)
    return found


def run(command: str) -> None:
    print(f"$ {command}", flush=True)
    subprocess.run([sys.executable, "-m", *shlex.split(command)], check=True)


def train(name: str, arguments: str, seed: int) -> Path:
    """The folder of an encoder, which is trained unless it is there."""
    folder = Path("runs/encoders", f"{name}-s{seed}")
    if not (folder / "encoder.json").exists():
        resume = " --resume" if (folder / "checkpoint.json").exists() else ""
        run(f"worldplan pretrain {arguments} --seed {seed} --out {folder}{resume}")
    return folder


def ship(folder: Path, name: str) -> None:
    """Copy a trained encoder, with its card and its log, into the package."""
    target = Path("worldplan/zoo/encoders", name)
    target.mkdir(parents=True, exist_ok=True)
    for file in ("encoder.safetensors", "encoder.json", "log.jsonl"):
        shutil.copyfile(folder / file, target / file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SMALL, default="cpu")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ship", action="store_true")
    parser.add_argument("--longer", type=float, metavar="TIMES")
    options = parser.parse_args()
    more = "" if options.scale == "cpu" else " --validation 64"
    for name, arguments in datasets(**SMALL[options.scale]).items():
        folder = Path("data", name)
        if not (folder / "manifest.json").exists():
            resume = " --resume" if (folder / "unfinished.json").exists() else ""
            run(f"worldplan collect {arguments} {SCENE} --out {folder}{resume}")
    for seed in range(options.seeds):
        for name, arguments in encoders().items():
            if seed in seeds_of(name, options.seeds):
                folder = train(name, f"{arguments} {NET}{more}", seed)
                if seed == 0 and options.ship:
                    ship(folder, name)
    for name, arguments in longer(options.longer).items() if options.longer else ():
        train(name, f"{arguments} {NET}{more}", 0)


if __name__ == "__main__":
    main()
