"""What a job of a sweep costs beside its work: on processes of this machine, and on two Ray nodes on the loopback.

    python benchmarks/sweeps.py

Jobs that sleep, so that two of them run at the same time on any machine. Writes benchmarks/results/sweeps.json.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from worldplan.provenance import processor
from worldplan.sweeps.jobs import Job
from worldplan.sweeps.run import run_jobs

JOBS, SECONDS, SLOTS = 100, 0.2, 2
HERE = Path(__file__).parent


def nap(seed: int, folder: Path) -> dict[str, int]:
    time.sleep(SECONDS)
    return {"seed": seed}


def timed(on: str, count: int, folder: str) -> float:
    start = time.perf_counter()
    ended = run_jobs([Job(nap, {"seed": seed}) for seed in range(count)], folder, on=on, processes=SLOTS)
    assert all(outcome.done for outcome in ended)
    return time.perf_counter() - start


def measure(on: str) -> dict[str, float]:
    """Seconds until the first jobs are done, seconds a job beside its work, and seconds a job that is done already."""
    with TemporaryDirectory() as one, TemporaryDirectory() as many:
        first = timed(on, SLOTS, one) - SECONDS
        whole = timed(on, JOBS, many)
        again = timed(on, JOBS, many)
    work = JOBS * SECONDS / SLOTS
    return {"start": first, "wall_over_work": whole / work, "again": again / JOBS}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    from ray.cluster_utils import Cluster

    rows = {"processes": measure("processes")}
    node = {"num_cpus": SLOTS // 2, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    cluster.wait_for_nodes()
    os.environ["RAY_ADDRESS"] = cluster.address
    rows["ray"] = measure("ray")
    cluster.shutdown()
    facts = {"jobs": JOBS, "seconds": SECONDS, "slots": SLOTS, "load": os.getloadavg()[0], "cpu": processor()}
    (HERE / "results" / "sweeps.json").write_text(json.dumps({**facts, **rows}, indent=2) + "\n")
    print(f"{'':10}{'start, s':>10}{'wall over work':>16}{'done already, ms':>18}")
    for name, row in rows.items():
        print(f"{name:10}{row['start']:10.2f}{row['wall_over_work']:16.2f}{1000 * row['again']:18.2f}")


if __name__ == "__main__":
    sys.exit(main())
