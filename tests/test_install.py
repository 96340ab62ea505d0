"""scripts/install.sh: which build of torch it asks for, and what it says where the index cannot be reached."""

import os
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
STUB = """#!/usr/bin/env bash
# Stands for an environment's Python: writes down what pip is asked to do.
case "$1" in
    -c) exit {has_torch} ;;
esac
echo "$*" >> "{log}"
case "$*" in
    *--index-url*) exit {index} ;;
    *) echo "Collecting numpy<3,>=2.0 (from worldplan)" ;;
esac
"""


def installed(folder, *, driver=False, index=0, has_torch=1):
    """What the script prints, and what pip was asked to do."""
    log, python = folder / "log", folder / "python"
    python.write_text(STUB.format(log=log, index=index, has_torch=has_torch))
    python.chmod(0o755)
    (folder / "driver").touch()
    known = {**os.environ, "NVIDIA_DRIVER": str(folder / ("driver" if driver else "nothing"))}
    done = subprocess.run(
        ["bash", "scripts/install.sh", str(python)], cwd=REPO, env=known, capture_output=True, text=True, check=True
    )
    return done.stdout, log.read_text().splitlines()


def test_without_a_driver_the_cpu_build_comes_first(tmp_path):
    said, asked = installed(tmp_path)
    torch = next(line for line in (REPO / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    assert len(asked) == 2
    assert asked[0].endswith(f"whl/cpu {torch}")
    assert asked[1].endswith("-c constraints.txt -e .[test]")
    assert "200 MB" in said
    assert "  numpy\n" in said  # progress


def test_without_its_index_the_usual_build_comes_with_a_word_about_its_size(tmp_path):
    said, asked = installed(tmp_path, index=1)
    assert len(asked) == 2
    assert "6 GB" in said


@pytest.mark.parametrize("known", [{"driver": True}, {"has_torch": 0}])
def test_with_a_driver_or_torch_nothing_special_is_done(known, tmp_path):
    said, asked = installed(tmp_path, **known)
    assert len(asked) == 1
    assert "NVIDIA" not in said
