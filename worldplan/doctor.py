"""What is right and wrong with this machine, and how to mend it: `worldplan doctor` prints what `examine` finds.

Importing this module loads neither MuJoCo nor torch, so that it still answers where those are broken.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ctypes.util import find_library
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

PYTHON_BOUNDS = ((3, 11), (3, 13))
# lower <= version < upper, as in pyproject.toml
BOUNDS = {"mujoco": ((3, 17), (4,)), "dm_control": ((1, 0, 50), (1, 1))}
BACKENDS = ("egl", "osmesa")  # in the order in which rendering tries them
LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

FRESH = "make a fresh environment: `make clean install`, or `python -m venv .venv` and `pip install -c constraints.txt`"
GL_PACKAGES = {"egl": "libegl1 libgl1 libgl1-mesa-dri", "osmesa": "libosmesa6 (Mesa 25.1 and later have none)"}
GL_REMEDY = "sudo apt-get update && sudo apt-get install -y libegl1 libgl1 libgl1-mesa-dri"

# Draws one red ball; prints the driver's name. A uniform picture means that the context lies.
_PROBE = """
import mujoco
scene = '<mujoco><worldbody><light pos="0 0 3"/><geom size=".5" rgba="1 0 0 1"/></worldbody></mujoco>'
model = mujoco.MjModel.from_xml_string(scene)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    frame = renderer.render()
    from OpenGL import GL
    driver = GL.glGetString(GL.GL_RENDERER).decode()
if frame.min() == frame.max():
    raise SystemExit("the frame came out in one colour")
print(driver)
"""


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Args:
        name: what was looked at.
        ok: whether it is as it should be.
        detail: what was seen.
        remedy: how to mend it; empty when there is nothing to mend.
        needed: False for what worldplan can do without.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    needed: bool = True


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def check_python() -> Finding:
    """Whether this Python is one that all dependencies have wheels for."""
    low, high = PYTHON_BOUNDS
    detail = ".".join(map(str, sys.version_info[:3])) + f" at {sys.executable}"
    remedy = (
        f"worldplan needs Python {low[0]}.{low[1]} or later and before {high[0]}.{high[1]}; with one of them, {FRESH}"
    )
    ok = low <= sys.version_info[:2] < high
    return Finding("python", ok, detail, "" if ok else remedy)


def check_simulators(lookup: Callable[[str], str | None] = installed_version) -> list[Finding]:
    """Whether mujoco and dm_control fit each other, and whether files of another mujoco lie in between.

    Args:
        lookup: distribution name -> version or None.
    """
    findings = []
    for name, (low, high) in BOUNDS.items():
        found = lookup(name)
        ok = found is not None and low <= _numbers(found) < high
        wanted = f"{name}>={_dotted(low)},<{_dotted(high)}"
        findings.append(Finding(name, ok, found or "not installed", "" if ok else f"{wanted} is needed; {FRESH}"))
    core, mujoco = lookup("mujoco-core"), lookup("mujoco")
    if core is not None and (mujoco is None or _numbers(mujoco) < (4,)):
        detail = f"mujoco-core {core} lies beside mujoco {mujoco}; both own the same files"
        remedy = f"reinstalling over it leaves a mixture; {FRESH}"
        findings.append(Finding("mujoco-core", False, detail, remedy))
    return findings


def probe_backend(backend: str, timeout: float = 60.0) -> Finding:
    """Whether MuJoCo renders with one OpenGL back end; tried in another process, for a bad driver may abort or hang.

    Args:
        backend: a value of MUJOCO_GL.
        timeout: seconds to wait for one frame.
    """
    environment = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
    remedy = f"Debian, Ubuntu: apt-get install {GL_PACKAGES.get(backend, backend)}"
    try:
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _PROBE],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return Finding(f"gl {backend}", False, f"no frame within {timeout:g} s", remedy, needed=False)
    if run.returncode == 0:
        return Finding(f"gl {backend}", True, run.stdout.strip(), needed=False)
    said = run.stderr.strip().splitlines()
    detail = said[-1] if said else f"the probe died with status {run.returncode}"
    library = LIBRARIES.get(backend)
    if library and find_library(library) is None:
        detail = f"lib{library} is not installed"
    return Finding(f"gl {backend}", False, detail, remedy, needed=False)


def check_rendering(probes: Iterable[Finding]) -> Finding:
    """Whether frames can be rendered at all: one back end is enough.

    Args:
        probes: what `probe_backend` found.
    """
    working = [probe.name.removeprefix("gl ") for probe in probes if probe.ok]
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    if chosen and chosen not in working:
        detail = f"MUJOCO_GL={chosen} is set, and {' and '.join(working) or 'no headless back end'} works here"
        remedy = f"unset MUJOCO_GL, or set it to {working[0]}" if working else f"unset MUJOCO_GL, then: {GL_REMEDY}"
        return Finding("rendering", False, detail, remedy)
    if not working:
        return Finding("rendering", False, "no headless OpenGL back end works", GL_REMEDY)
    return Finding("rendering", True, f"MUJOCO_GL={chosen or working[0]}")


def check_torch() -> Finding:
    """Whether torch loads, and on what it computes."""
    try:
        import torch

        gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    except Exception as error:  # a broken build raises OSError, ImportError, RuntimeError, ...
        return Finding("torch", False, f"{type(error).__name__}: {error}", FRESH)
    where = f"GPU {gpu}" if gpu else f"CPU, {torch.get_num_threads()} threads"
    return Finding("torch", True, f"{torch.__version__} on {where}")


def check_onnxruntime() -> Finding:
    """Whether ONNX Runtime loads, which computes the latents of encoders; torch does so more slowly."""
    try:
        import onnx
        import onnxruntime
    except Exception as error:  # a broken build raises OSError, ImportError, RuntimeError, ...
        told = f"{type(error).__name__}: {error}; torch computes latents, slower"
        return Finding("onnxruntime", False, told, FRESH, needed=False)
    return Finding("onnxruntime", True, f"{onnxruntime.__version__}, onnx {onnx.__version__}", needed=False)


def check_browser(names: Iterable[str] = BROWSERS) -> Finding:
    """Whether a Chromium is there, which only the tests of the HTML reports use.

    Args:
        names: commands to look for.
    """
    found = next(filter(None, map(shutil.which, names)), None)
    remedy = "" if found else "only for the tests of HTML reports: apt-get install chromium"
    return Finding("chromium", found is not None, found or "not found", remedy, needed=False)


def examine() -> list[Finding]:
    """Look at everything; takes some seconds, for each OpenGL back end draws a frame in a process of its own.

    Returns:
        All findings, in reading order. `healthy` says whether worldplan works with them.
    """
    with ThreadPoolExecutor(len(BACKENDS)) as pool:
        probes = list(pool.map(probe_backend, BACKENDS))
    programs = [check_torch(), check_onnxruntime(), check_browser()]
    return [check_python(), *check_simulators(), *probes, check_rendering(probes), *programs]


def healthy(findings: Iterable[Finding]) -> bool:
    """Whether everything that worldplan needs is in order."""
    return all(finding.ok for finding in findings if finding.needed)


def _numbers(text: str) -> tuple[int, ...]:
    """`3.17.0rc1` -> (3, 17, 0)."""
    parts = []
    for part in text.split("+")[0].split("."):
        digits = "".join(c for i, c in enumerate(part) if part[: i + 1].isdigit())
        if not digits:
            break
        parts.append(int(digits))
    return tuple(parts)


def _dotted(numbers: Iterable[int]) -> str:
    return ".".join(map(str, numbers))
