"""The doctor: sees what is wrong, says how to mend it."""

import subprocess
import sys

import pytest

from worldplan import doctor
from worldplan.doctor import Finding


def simulators(**versions):
    """Findings by name, for made-up installed versions."""
    found = {name.replace("_core", "-core"): value for name, value in versions.items()}
    return {finding.name: finding for finding in doctor.check_simulators(found.get)}


def test_this_machine_is_healthy():
    findings = doctor.examine()
    assert doctor.healthy(findings), [f for f in findings if not f.ok]
    names = [finding.name for finding in findings]
    assert len(names) == len(set(names))
    assert {
        "python",
        "mujoco",
        "dm_control",
        "gl egl",
        "gl osmesa",
        "rendering",
        "torch",
        "onnxruntime",
        "chromium",
    } <= set(names)
    assert all(finding.ok or finding.remedy for finding in findings)
    assert all(finding.detail for finding in findings)


def test_matching_simulators_are_fine():
    found = simulators(mujoco="3.17.0", dm_control="1.0.50")
    assert set(found) == {"mujoco", "dm_control"}
    assert all(finding.ok for finding in found.values())


@pytest.mark.parametrize(("mujoco", "ok"), [("3.16.9", False), ("3.17", True), ("3.99.1", True), ("4.0.0", False)])
def test_mujoco_bounds(mujoco, ok):
    assert simulators(mujoco=mujoco, dm_control="1.0.50")["mujoco"].ok is ok


@pytest.mark.parametrize(
    ("version", "ok"), [("1.0.49", False), ("1.0.50", True), ("1.0.51.dev1", True), ("1.1", False)]
)
def test_dm_control_bounds(version, ok):
    assert simulators(mujoco="3.17.0", dm_control=version)["dm_control"].ok is ok


def test_mujoco_4_is_named_with_a_remedy():
    finding = simulators(mujoco="4.0.0", dm_control="1.0.50")["mujoco"]
    assert finding.detail == "4.0.0"
    assert "mujoco>=3.17,<4" in finding.remedy
    assert "fresh environment" in finding.remedy
    assert not doctor.healthy([finding])


def test_missing_simulator():
    finding = simulators(dm_control="1.0.50")["mujoco"]
    assert not finding.ok
    assert finding.detail == "not installed"


def test_leftover_mujoco_core():
    finding = simulators(mujoco="3.17.0", mujoco_core="4.0.0", dm_control="1.0.50")["mujoco-core"]
    assert not finding.ok
    assert "fresh environment" in finding.remedy
    # beside mujoco 4 it belongs there: only the version itself is wrong
    assert "mujoco-core" not in simulators(mujoco="4.0.0", mujoco_core="4.0.0", dm_control="1.0.50")


def test_a_backend_that_does_not_exist():
    finding = doctor.probe_backend("nonsense")
    assert not finding.ok
    assert "nonsense" in finding.detail
    assert finding.remedy


def test_a_backend_that_hangs():
    finding = doctor.probe_backend("egl", timeout=0.01)
    assert not finding.ok
    assert "no frame within 0.01 s" in finding.detail


def test_one_working_backend_is_enough(monkeypatch):
    egl, osmesa = (
        Finding("gl egl", True, "llvmpipe"),
        Finding("gl osmesa", False, "no library", "install it", needed=False),
    )
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    assert doctor.check_rendering([egl, osmesa]).ok
    assert doctor.healthy([egl, osmesa, doctor.check_rendering([egl, osmesa])])
    none = doctor.check_rendering([osmesa])
    assert not none.ok
    assert "libegl1 libgl1 libgl1-mesa-dri" in none.remedy


def test_a_mujoco_gl_that_does_not_work_here(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    finding = doctor.check_rendering([Finding("gl egl", True, "llvmpipe")])
    assert not finding.ok
    assert finding.remedy == "unset MUJOCO_GL, or set it to egl"


def test_no_browser_is_no_illness():
    finding = doctor.check_browser(["no-such-browser"])
    assert not finding.ok
    assert doctor.healthy([finding])


def test_no_onnx_runtime_is_no_illness(monkeypatch):
    assert doctor.check_onnxruntime().ok
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    finding = doctor.check_onnxruntime()
    assert not finding.ok and "torch computes latents" in finding.detail and finding.remedy
    assert doctor.healthy([finding])


def test_the_doctor_loads_where_simulators_and_torch_are_broken():
    code = (
        "import sys; import worldplan.doctor;"
        "print(sorted({'mujoco', 'dm_control', 'torch', 'OpenGL'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
