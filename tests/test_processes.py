"""Workers of a process that was killed, in each kind of pool that worldplan starts."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

POOLS = {
    "spawned": "with spawned_pool(2) as pool: list(pool.map(work, range(2)))",
    "spawned, with torch": "with worker_pool(2) as start: [end() for end in [start(work, k) for k in range(2)]]",
    "joblib": "run_jobs([Job(work, {'k': k}) for k in range(2)], 'sweep', processes=2)",
}
UNGUARDED = "with spawned_pool(2, int) as pool: list(pool.map(work, range(2)))"
SCRIPT = """
import os, signal, time
from pathlib import Path
from worldplan.envs.workers import spawned_pool, worker_pool
from worldplan.sweeps.jobs import Job
from worldplan.sweeps.run import run_jobs

def work(k, folder=None):
    Path(f"begun-{k}").touch()
    while not Path(f"begun-{1 - k}").exists():
        time.sleep(0.05)
    if k == 0:
        os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1000)

if __name__ == "__main__":
    """


def ends(folder, pool, seconds):
    """Exit status of a process that a worker kills. Raises TimeoutExpired unless all its workers end in `seconds`."""
    (folder / "script.py").write_text(SCRIPT + pool)
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=folder, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        process.wait(120)
        process.communicate(timeout=seconds)  # returns when all who hold the output's pipe have ended
        return process.returncode
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("kind", POOLS)
def test_workers_end_with_their_parent(kind, tmp_path):
    assert ends(tmp_path, POOLS[kind], 120) == -signal.SIGKILL


def test_workers_that_outlive_their_parent_are_seen(tmp_path):
    with pytest.raises(subprocess.TimeoutExpired):
        ends(tmp_path, UNGUARDED, 5)
