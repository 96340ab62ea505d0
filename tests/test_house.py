"""The house: which room may import which, what a wheel holds, and what `import worldplan` loads."""

import ast
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import worldplan
from worldplan import doctor

REPO = Path(__file__).resolve().parent.parent
ROOMS = ("envs", "agents", "eval")
BASE = {"core", "data", "planning", "learning"}
LIBRARIES = ("statistics", "show", "identifiability", "control")
VERBS = ("plan", "compare", "theorem4", "reproduce", "diagnose", "laboratory")
MEASURES = BASE | {"envs", "agents"}
MAY_IMPORT = {
    "core": {"core"},
    "data": {"core", "data"},
    "planning": {"core", "data", "planning"},
    "learning": BASE,
    "sweeps": {"core", "data", "sweeps"},
    "envs": BASE | {"envs"},
    "agents": BASE | {"agents"},
    "statistics": {"core", "statistics"},
    "show": {"core", "statistics", "show"},
    "identifiability": MEASURES | {"statistics", "show", "identifiability"},
    "control": MEASURES | {"statistics", "show", "control"},
    **{verb: MEASURES | {"sweeps", *LIBRARIES, verb} for verb in VERBS},
    "eval": {"core", *LIBRARIES, *VERBS},  # the front, which only names what lies behind
    "root": MEASURES | {"sweeps", "eval", *LIBRARIES, *VERBS, "root"},
}
SIMULATORS = {"gymnasium", "mujoco", "dm_control", "dm_env", "stable_baselines3"}
NUMBERS_ONLY = {"numpy", "scipy", *sys.stdlib_module_names}  # what statistics may use


# --- arrows ---------------------------------------------------------------------------------------------------------


def module_files(repo):
    """Dotted name -> file of every module, not looking through links."""
    files = {}
    for folder, package in [("worldplan", "worldplan"), *((room, f"worldplan.{room}") for room in ROOMS)]:
        for path in sorted((repo / folder).rglob("*.py")):  # rglob does not follow links to folders
            parts = path.relative_to(repo / folder).with_suffix("").parts
            if folder == "worldplan" and parts[0] in ROOMS:
                continue
            files[".".join([package, *(p for p in parts if p != "__init__")])] = path
    return files


def room_of(module):
    """`worldplan.envs.x` -> envs, `worldplan.eval.show.x` -> show; the package and the command line are the root."""
    _, room, *rest = [*module.split("."), ""]
    if module in ("worldplan", "worldplan.__main__") or room == "commands":
        return "root"
    if room == "eval" and rest and rest[0]:
        return rest[0]
    return room if room in MAY_IMPORT else "core"


def imported(path, modules):
    """What a file imports at any depth, as (name, line): our modules in full, others by their top name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            names = [f"{source}.{a.name}" if f"{source}.{a.name}" in modules else source for a in node.names]
        else:
            continue
        yield from ((name, node.lineno) for name in names)


def arrow_faults(repo):
    """Every import against the rules, as a sentence."""
    modules = module_files(repo)
    faults, graph = [], {}
    for module, path in modules.items():
        room = room_of(module)
        for name, line in imported(path, modules):
            where, top = f"{path.relative_to(repo)}:{line}", name.split(".")[0]
            if name.startswith(".") or top in ROOMS:
                faults.append(f"{where} imports {name}: write worldplan.… in full")
            elif top == "worldplan" and module != "worldplan":
                graph.setdefault(module, set()).add(name)
                if room_of(name) not in MAY_IMPORT.get(room, ()):
                    faults.append(f"{where} {room} imports {name}")
            elif room in BASE and top in SIMULATORS:
                faults.append(f"{where} {room} imports {name}")
            elif room == "statistics" and top != "worldplan" and top not in NUMBERS_ONLY:
                faults.append(f"{where} {room} imports {name}")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        faults.append(f"cycle: {' <- '.join(error.args[1])}")
    return faults


def test_arrows():
    assert len(module_files(REPO)) > 5
    assert arrow_faults(REPO) == []


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("worldplan/core.py", "import worldplan.envs.reacher", "core imports worldplan.envs.reacher"),
        ("worldplan/core.py", "from worldplan import envs", "core imports worldplan.envs"),
        ("worldplan/core.py", "def f():\n    import mujoco", "core imports mujoco"),
        ("worldplan/core.py", "from gymnasium.spaces import Box", "core imports gymnasium.spaces"),
        ("worldplan/data/files.py", "from worldplan.planning import lqr", "data imports worldplan.planning.lqr"),
        ("worldplan/planning/lqr.py", "import worldplan.learning", "planning imports worldplan.learning"),
        ("worldplan/learning/net.py", "import worldplan.agents", "learning imports worldplan.agents"),
        ("worldplan/learning/net.py", "import gymnasium", "learning imports gymnasium"),
        ("worldplan/core.py", "import worldplan", "core imports worldplan"),
        ("worldplan/core.py", "from worldplan import load_encoder", "core imports worldplan"),
        ("worldplan/core.py", "from worldplan.other import x", "cycle: "),
        ("envs/reacher.py", "from worldplan.agents import sac", "envs imports worldplan.agents"),
        ("agents/sac.py", "from worldplan.envs.reacher import Reacher", "agents imports worldplan.envs.reacher"),
        ("agents/sac.py", "import worldplan.eval", "agents imports worldplan.eval"),
        ("eval/report.py", "import worldplan.envs", "report imports worldplan.envs"),  # nothing lies flat in eval
        ("eval/plan/run.py", "import worldplan.__main__", "plan imports worldplan.__main__"),
        ("eval/plan/run.py", "from envs import reacher", "imports envs: write worldplan"),
        ("eval/plan/run.py", "from .other import x", "imports .other: write worldplan"),
        ("eval/plan/run.py", "from worldplan.eval.compare import run", "plan imports worldplan.eval.compare.run"),
        ("eval/plan/run.py", "from worldplan.eval import plan_to_goals", "plan imports worldplan.eval"),
        ("eval/control/loop.py", "import worldplan.eval.plan.run", "control imports worldplan.eval.plan.run"),
        ("eval/show/table.py", "import worldplan.eval.control.loop", "show imports worldplan.eval.control.loop"),
        ("eval/statistics/mean.py", "import worldplan.planning.lqr", "statistics imports worldplan.planning.lqr"),
        ("eval/statistics/mean.py", "def f():\n    import torch", "statistics imports torch"),
        ("eval/new/run.py", "import worldplan.core", "new imports worldplan.core"),  # a room without rules
    ],
)
def test_arrow_faults_are_seen(tmp_path, file, line, fault):
    tree = {
        "worldplan/__init__.py": "from worldplan import agents, envs, eval",
        "worldplan/__main__.py": "from worldplan.eval.plan import run\nimport worldplan.envs.reacher, mujoco",
        "worldplan/core.py": "import numpy",
        "worldplan/other.py": "from worldplan import core",
        "worldplan/data/files.py": "from worldplan import core",
        "worldplan/planning/lqr.py": "from worldplan.data import files\nimport cvxpy",
        "worldplan/learning/net.py": "from worldplan.planning import lqr\nimport torch",
        "envs/__init__.py": "",
        "envs/reacher.py": "import mujoco\nfrom worldplan.core import x",
        "agents/__init__.py": "",
        "agents/sac.py": "from worldplan import core",
        "eval/__init__.py": "from worldplan.eval.plan.run import go",
        "eval/report.py": "",
        "eval/new/run.py": "",
        "eval/statistics/mean.py": "import numpy, scipy.stats, math\nfrom worldplan.core import x",
        "eval/show/table.py": "from worldplan.eval.statistics import mean\nimport jinja2",
        "eval/control/loop.py": "from worldplan.eval.show import table\nimport worldplan.envs.reacher",
        "eval/plan/run.py": "from worldplan.eval.control import loop\nfrom worldplan.agents.sac import train",
        "eval/compare/run.py": "from worldplan.eval.control import loop",
    }
    for name, text in tree.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert arrow_faults(tmp_path) == []
    (tmp_path / file).write_text(f"{tree[file]}\n{line}\n")
    faults = arrow_faults(tmp_path)
    assert any(fault in seen for seen in faults), faults


# --- no code in data ------------------------------------------------------------------------------------------------

PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
JOBLIB_RUNS = {"Parallel", "delayed", "TerminatedWorkerError"}  # processes of our own, no files


def pickle_faults(text):
    """Where a source text could run code out of a data file, by line."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            fault = PICKLES & {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module, names = node.module or "", {alias.name for alias in node.names}
            runs = names <= JOBLIB_RUNS and module.startswith("joblib")
            fault = (module == "torch" and "load" in names) or (module.split(".")[0] in PICKLES and not runs)
        elif isinstance(node, ast.Attribute):
            fault = ast.unparse(node) in ("torch.load", "torch.serialization.load")
        elif isinstance(node, ast.keyword):
            fault = node.arg == "allow_pickle" and ast.unparse(node.value) != "False"
        else:
            fault = False
        if fault:
            yield node.lineno


def test_no_pickle_is_loaded():
    faults = {str(path): list(pickle_faults(path.read_text())) for path in module_files(REPO).values()}
    assert {path: lines for path, lines in faults.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import joblib.memory",
        "from joblib import Parallel, load",
        "from pickle import loads",
        "from torch import load",
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=trusted)",
    ],
)
def test_pickle_faults_are_seen(line):
    assert list(pickle_faults(line)) == [1]
    assert list(pickle_faults("import torch, numpy as np\nnp.load(p, allow_pickle=False)\ntorch.tensor(1)")) == []


# --- links, wheel, imports ------------------------------------------------------------------------------------------


def test_links_are_relative_and_point_at_the_rooms():
    for room in ROOMS:
        assert os.readlink(REPO / "worldplan" / room) == f"../{room}"
        assert (REPO / room).is_dir()
        assert not (REPO / room).is_symlink()


def shipped_files(repo):
    """The names that a wheel of this tree must hold, and no others."""
    names = set()
    for folder, package in [("worldplan", "worldplan"), *((room, f"worldplan/{room}") for room in ROOMS)]:
        for path in (repo / folder).rglob("*"):
            relative = path.relative_to(repo / folder)
            behind_link = folder == "worldplan" and relative.parts[0] in ROOMS
            if path.is_file() and not behind_link and "__pycache__" not in relative.parts:
                names.add(f"{package}/{relative.as_posix()}")
    return names


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of this checkout."""
    spec = importlib.util.spec_from_file_location("build_wheel", REPO / "scripts" / "build_wheel.py")
    build_wheel = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build_wheel)
    return build_wheel.build(tmp_path_factory.mktemp("dist"))


def wheel_files(wheel):
    """The names in a wheel without its metadata, each as often as it is there."""
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if ".dist-info/" not in name]


def test_wheel_holds_each_file_of_the_folders_once(wheel):
    names = wheel_files(wheel)
    assert len(names) == len(set(names))
    assert set(names) == shipped_files(REPO)
    assert "worldplan/py.typed" in names
    assert "worldplan/doctor.py" in names
    assert "worldplan/eval/compare/page.html" in names


def test_a_file_that_the_wheel_lacks_is_seen(wheel, tmp_path):
    for folder in ("worldplan", *ROOMS):
        shutil.copytree(REPO / folder, tmp_path / folder, symlinks=True)
    assert shipped_files(tmp_path) == set(wheel_files(wheel))
    (tmp_path / "envs" / "forgotten.json").write_text("{}")
    assert shipped_files(tmp_path) - set(wheel_files(wheel)) == {"worldplan/envs/forgotten.json"}


def run_python(code, cwd, path=""):
    """What `python -c code` prints in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    run = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


WHERE = "import worldplan.envs, worldplan.agents, worldplan.eval as e; print(worldplan.__file__); print(e.__file__)"


def test_imports_from_the_wheel(wheel, tmp_path):
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    found = run_python(WHERE, empty, path=site).splitlines()
    assert found == [str(site / "worldplan" / "__init__.py"), str(site / "worldplan" / "eval" / "__init__.py")]


def test_imports_from_a_bare_checkout(tmp_path):
    for folder in ("worldplan", *ROOMS):
        shutil.copytree(REPO / folder, tmp_path / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    found = run_python(WHERE, tmp_path).splitlines()
    assert found == [str(tmp_path / "worldplan" / "__init__.py"), str(tmp_path / "worldplan" / "eval" / "__init__.py")]


def test_imports_where_worldplan_is_installed(tmp_path):
    top = Path(run_python(WHERE, tmp_path).splitlines()[0]).parent
    assert (top / "errors.py").is_file()


HEAVY = {"numpy", "scipy", "torch", "cvxpy", "mujoco", "dm_control", "gymnasium", "stable_baselines3", "matplotlib"}


def loaded(code, cwd):
    """Names of the modules that are there after some lines of code."""
    return set(json.loads(run_python(f"{code}; import sys, json; print(json.dumps(list(sys.modules)))", cwd)))


@pytest.mark.parametrize("code", ["import worldplan; dir(worldplan)", "import worldplan.eval, worldplan.agents"])
def test_import_is_light(code, tmp_path):
    assert HEAVY & loaded(code, tmp_path) == set()


def test_statistics_load_little(tmp_path):
    seen = loaded("import worldplan.eval.statistics", tmp_path)
    assert len([name for name in seen if name.split(".")[0] == "worldplan"]) <= 6
    seen = loaded("import worldplan.eval.statistics.estimate as e, worldplan.eval.statistics.correlation", tmp_path)
    assert len([name for name in seen if name.split(".")[0] == "worldplan"]) <= 12
    assert HEAVY & seen == {"numpy", "scipy"}


def test_nothing_lies_flat_in_eval_and_tests_mirror_the_folders():
    assert [path.name for path in (REPO / "eval").glob("*.py")] == ["__init__.py"]
    folders = {path.parent.relative_to(REPO / "tests") for path in (REPO / "tests").rglob("test_*.py")}
    for folder in folders:
        assert (REPO / folder).is_dir() or (REPO / "worldplan" / folder).is_dir(), folder


# --- names ----------------------------------------------------------------------------------------------------------


FRONTS = {"worldplan": "worldplan", **{f"worldplan.{room}": room for room in ROOMS}}


@pytest.mark.parametrize("package", FRONTS)
def test_public_names_resolve(package):
    front = importlib.import_module(package)
    for name in front.__all__:
        assert getattr(front, name) is not None
        assert name in dir(front)


@pytest.mark.parametrize("package", FRONTS)
def test_an_unknown_name_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match="nonsense"):
        importlib.import_module(package).nonsense


def test_a_function_is_not_shadowed_by_the_module_of_its_name():
    importlib.import_module("worldplan.envs.rollout")
    assert callable(worldplan.envs.rollout)


# --- versions -------------------------------------------------------------------------------------------------------


def requirements():
    """Distribution name (normalised) -> specifier, over all dependencies and extras."""
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    split = [re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?(.*)", line).groups() for line in lines]
    return {re.sub(r"[-_.]+", "-", name).lower(): specifier for name, specifier in split}


def test_every_requirement_has_an_exact_version():
    lines = (REPO / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pins)
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in pins}
    assert set(requirements()) - pinned == set()


def test_doctor_and_pyproject_name_the_same_bounds():
    for name, (low, high) in doctor.BOUNDS.items():
        specifier = f">={'.'.join(map(str, low))},<{'.'.join(map(str, high))}"
        assert requirements()[name.replace("_", "-")] == specifier
