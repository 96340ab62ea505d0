"""Jobs on a real Ray cluster of two nodes on the loopback, one of which is killed on the way."""

import os
import re
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import ray
from ray import cloudpickle
from ray.cluster_utils import Cluster
from ray.core.generated import ray_client_pb2, ray_client_pb2_grpc

from worldplan.errors import ClusterUnavailable
from worldplan.stopping import Stopped, ending_on_sigterm
from worldplan.sweeps.engines import CONNECTIONS
from worldplan.sweeps.jobs import Job, ResultFolder
from worldplan.sweeps.run import run_jobs

JOBS = 40
MEMORY = 80_000_000  # bytes of an object store
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")


def slow_draw(seed, folder):
    time.sleep(0.1)  # so that the node dies with jobs under way
    return {"draws": np.random.default_rng(seed).standard_normal(4).tolist(), "folder": folder.name}


@pytest.fixture(scope="module")
def cluster():
    os.environ["RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"] = "300"  # a loaded machine takes more than Ray's 30
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the nodes cannot import a test
    options = {"num_cpus": 1, "object_store_memory": MEMORY}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = {**options, "include_dashboard": False, "ray_client_server_port": port}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield made, options, f"ray://127.0.0.1:{port}"
    ray.shutdown()
    made.shutdown()
    del os.environ["RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"]


def test_forty_jobs_and_a_node_that_dies(cluster, tmp_path, monkeypatch):
    made, options, _ = cluster
    node = made.add_node(**options)
    made.wait_for_nodes()
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    jobs = [Job(slow_draw, {"seed": seed}) for seed in range(JOBS)]

    def killed_on_the_way(ended, total):
        for k, one in enumerate(ended):
            if k == JOBS // 4:
                made.remove_node(node, allow_graceful=False)
            yield one

    far = run_jobs(jobs, tmp_path / "ray", on="ray", progress=killed_on_the_way)
    assert [outcome.reason for outcome in far if not outcome.done] == []
    near = run_jobs(jobs, tmp_path / "local")
    assert len(near) == JOBS
    for job in jobs:
        one, other = ((tmp_path / place / "results" / f"{job.key}.json").read_bytes() for place in ("ray", "local"))
        assert one == other


def fails(seed, folder):
    raise ValueError(f"no {seed}")


def test_errors_come_back(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster[0].address)
    outcomes = run_jobs([Job(fails, {"seed": 7}), Job(slow_draw, {"seed": 1})], tmp_path, on="ray")
    assert re.fullmatch(r"ValueError: no 7 \(.*test_ray\.py:\d+ in fails\)", outcomes[0].reason)
    assert outcomes[1].done


def hangs(folder):
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.touch()
    time.sleep(1000)


def test_sigterm_is_ours_and_what_was_done_is_kept(cluster, tmp_path, monkeypatch):
    """Ray takes the signal when it connects, and makes another exception of what is raised while it waits."""
    monkeypatch.setenv("RAY_ADDRESS", cluster[0].address)
    done, hanging = Job(slow_draw, {"seed": 1}), Job(hangs, {})
    begun, before = ResultFolder(tmp_path).work(hanging), signal.getsignal(signal.SIGTERM)

    def terminate():
        while not begun.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped), ending_on_sigterm():
        threading.Thread(target=terminate, daemon=True).start()
        run_jobs([done, hanging], tmp_path, on="ray")
    assert signal.getsignal(signal.SIGTERM) is before
    assert ResultFolder(tmp_path).missing([done, hanging]) == [hanging]
    assert run_jobs([done], tmp_path, on="ray")[0].done  # the folder is free, and so is the signal
    assert signal.getsignal(signal.SIGTERM) is before


def test_by_address(cluster, tmp_path):
    address = cluster[2]
    until = time.monotonic() + 120
    while time.monotonic() < until:  # the door for clients opens last
        with socket.socket() as door:
            if door.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0:
                break
        time.sleep(0.2)
    jobs = [Job(slow_draw, {"seed": seed}) for seed in range(2)]
    far, near = run_jobs(jobs, tmp_path / "far", on=address), run_jobs(jobs, tmp_path / "near")
    assert [outcome.result for outcome in far] == [outcome.result for outcome in near]
    assert all(outcome.done for outcome in far)


class WithoutServers(
    ray_client_pb2_grpc.RayletDriverServicer,
    ray_client_pb2_grpc.RayletDataStreamerServicer,
    ray_client_pb2_grpc.RayletLogStreamerServicer,
):
    """What a cluster answers where the server that it starts for a client dies at once: logs neither come nor end."""

    def __init__(self):
        self.asked, self.ended = 0, []

    def ClusterInfo(self, request, context):
        return ray_client_pb2.ClusterInfoResponse(json="{}")

    def Datapath(self, requests, context):
        self.asked += 1
        refusal = ray_client_pb2.InitResponse(ok=False, msg="Starting Ray client server failed.")
        yield ray_client_pb2.DataResponse(init=refusal, req_id=next(requests).req_id)

    def Logstream(self, requests, context):
        over = threading.Event()
        context.add_callback(over.set)
        self.ended.append(over.wait(100))
        yield from ()


@pytest.fixture
def without_servers():
    server, answers = grpc.server(ThreadPoolExecutor(20)), WithoutServers()
    for kind in ("Driver", "DataStreamer", "LogStreamer"):
        getattr(ray_client_pb2_grpc, f"add_Raylet{kind}Servicer_to_server")(answers, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield answers, f"ray://127.0.0.1:{port}"
    server.stop(None).wait()


def test_the_server_of_a_client_dies_at_once(without_servers, tmp_path):
    """Ray's client then waits for the end of its logs; ours ends that, tries again, and tells."""
    answers, address = without_servers
    with pytest.raises(ClusterUnavailable, match=r"no Ray cluster at .*(server failed|disconnected)"):
        run_jobs([Job(fails, {"seed": 7})], tmp_path, on=address)
    assert answers.asked == CONNECTIONS
    assert answers.ended == [True] * CONNECTIONS


@pytest.mark.parametrize("on", ["ray", "ray://127.0.0.1:1"])
def test_no_cluster(on, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ClusterUnavailable, match=r"no Ray cluster at .*127\.0\.0\.1:1 .*ray start --head"):
        run_jobs([Job(fails, {"seed": 7})], tmp_path, on=on)
    assert not list(tmp_path.rglob("*.json"))
