"""Build the wheel from a clean copy of the sources: `build_wheel.py DIST` prints the wheel's path.

setuptools reuses `build/lib` in place, so files deleted long ago would still reach a wheel built in the checkout.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
FOLDERS = ("worldplan", "envs", "agents", "eval")
FILES = ("pyproject.toml", "README.md", "LICENSE")


def build(dist: Path, repo: Path = REPO) -> Path:
    """The wheel's path in `dist`, built without network access by the running interpreter."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        source.mkdir()
        for folder in FOLDERS:
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(repo / folder, source / folder, symlinks=True, ignore=ignore)
        for file in FILES:
            shutil.copy(repo / file, source / file)
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist.resolve())]
        done = subprocess.run([*command, str(source)], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"the wheel did not build:\n{done.stdout}\n{done.stderr}")
    (wheel,) = dist.glob("worldplan-*.whl")
    return wheel


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
