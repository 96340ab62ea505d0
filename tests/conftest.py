"""The test room: one thread a process (tests run in several), reproducible examples, no screen."""

import os
import resource
from contextlib import contextmanager

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.pop("COLUMNS", None)  # a shell's own width would fold what commands print

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

# The same examples in every run, and no time limits: machines are shared and slow at times.
settings.register_profile(
    "house", derandomize=True, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")


@pytest.fixture(autouse=True)
def one_thread():
    """Commands set torch's threads, and stay in this process: the next test starts with one again."""
    yield
    torch.set_num_threads(1)


@pytest.fixture
def room():
    """`with room(size): ...`: files of this process end at `size` bytes, as on a disk with no more space."""

    @contextmanager
    def limited(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture
def full_disk():
    """`with full_disk(): ...`: what is written does not come to the disk, which tells so when asked."""

    def full(*_):
        raise OSError(28, "No space left on device")

    @contextmanager
    def disk():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("worldplan.data.files.os.fsync", full)
            yield

    return disk


@pytest.fixture
def hub(tmp_path_factory, monkeypatch):
    """A hub on loopback in the place of the Hugging Face hub: its cache is empty, and nobody has logged in."""
    import huggingface_hub
    from huggingface_hub import constants
    from loopback import loopback

    from worldplan import provenance
    from worldplan.data import hub

    home = tmp_path_factory.mktemp("hf")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(hub, "_FOLDERS", {})
    monkeypatch.setattr(provenance, "_COMMITS", {})
    with loopback() as (served, endpoint):
        settings = {
            "ENDPOINT": endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "AGENT_HARNESSES_PATH": str(home / "harnesses.json"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,  # which talks to other servers
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value, raising=name != "AGENT_HARNESSES_PATH")  # not in all versions
        huggingface_hub.close_session()
        yield served
        huggingface_hub.close_session()
