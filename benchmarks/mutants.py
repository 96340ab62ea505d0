"""Planted mistakes in planners and evaluator: does a test see each, and `worldplan verify` those of planners?

    make mutants                                  # all, some 13 minutes of two cores
    python benchmarks/mutants.py --only R W       # those whose name contains one of these

Each mistake is one replacement in one file (`mutants.toml`), made in a copy of the tracked files. A test must fail, and
for mistakes in planners `worldplan verify` must reject too. A mutant that nothing sees is a hole in the tests: exit
status 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copy2
from tempfile import TemporaryDirectory

import tyro
from tqdm import tqdm

from worldplan.data.files import atomic_write
from worldplan.eval.show.table import Table

ROOT = Path(__file__).resolve().parent.parent
VERIFY = ("--problems", "600", "--largest", "8", "--trials", "1", "--sizes", "1e-2", "--seed", "0")


@dataclass(frozen=True)
class Mutant:
    """A replacement, the tests that should see it, and whether `verify` has to see it too."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    verify: bool = False


MUTANTS = [Mutant(**row) for row in tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["mutant"]]


@dataclass(frozen=True)
class Options:
    """Which mutants, and how many at a time."""

    only: tuple[str, ...] = ()
    """Parts of names; none for all."""
    jobs: int = 2
    out: Path = Path("benchmarks/results")


def main(options: Options) -> None:
    """Run, print, write; exit status 1 if a mutant survives."""
    chosen = [m for m in MUTANTS if not options.only or any(part in m.name for part in options.only)]
    sound = {tests for m in chosen for tests in m.tests.split()}
    with copied() as copy:
        if not passes(copy, [*pytest(" ".join(sorted(sound)))]):
            sys.exit("the tests fail without any mistake; mend that first")
        if any(m.verify for m in chosen) and not passes(copy, [*verify()]):
            sys.exit("`worldplan verify` rejects the planners as they are; mend that first")
    with ThreadPoolExecutor(options.jobs) as pool:
        judged = list(tqdm(pool.map(judge, chosen), total=len(chosen), desc="mutants", mininterval=10))
    rows = [(m.name, _word(tests), _word(seen)) for m, (tests, seen) in zip(chosen, judged, strict=True)]
    survivors = sum(False in pair for pair in judged)
    title = f"{len(chosen)} planted mistakes: {survivors} survive"
    table = Table(title, ("mistake", "tests", "worldplan verify"), rows, [])
    print(f"{title}\n\n{table.markdown()}")
    if not options.only:
        with atomic_write(options.out / "mutants.md") as stream:
            stream.write((table.markdown() + "\n").encode())
    sys.exit(1 if survivors else 0)


def _word(caught: bool | None) -> str:
    return "" if caught is None else "caught" if caught else "SURVIVED"


def judge(mutant: Mutant) -> tuple[bool, bool | None]:
    """Whether the tests catch it, and whether `verify` does; None where that is not asked."""
    with copied() as copy:
        path = copy / mutant.file
        text = path.read_text()
        if text.count(mutant.old) != 1:
            raise ValueError(f"{mutant.name}: {mutant.file} holds {text.count(mutant.old)} times {mutant.old!r}")
        path.write_text(text.replace(mutant.old, mutant.new))
        return not passes(copy, [*pytest(mutant.tests)]), not passes(copy, [*verify()]) if mutant.verify else None


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the tracked files, links kept."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode()
    with TemporaryDirectory(prefix="worldplan-mutant-") as folder:
        for name in filter(None, names.split("\0")):
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            copy2(ROOT / name, target, follow_symlinks=False)
        yield Path(folder)


def pytest(tests: str) -> Iterator[str]:
    """The command of some test files."""
    yield from (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split())


def verify() -> Iterator[str]:
    """The command of the verifier, small."""
    yield from (sys.executable, "-m", "worldplan", "verify", *VERIFY)


def passes(copy: Path, command: list[str]) -> bool:
    """Whether a command in the copy ends with status 0."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS"), "1")
    environment = os.environ | threads | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True).returncode == 0


if __name__ == "__main__":
    main(tyro.cli(Options))
