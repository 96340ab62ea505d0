"""The site: it builds without a warning or a network, holds every public name, and a page that is lost is an error."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
FRONTS = ("worldplan", "worldplan.envs", "worldplan.agents", "worldplan.eval", "worldplan.errors")
pytestmark = pytest.mark.slow


def build(source: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Sphinx as `make docs` calls it."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", *options]
    command += ["-d", str(out / "doctrees"), ".", str(out / "site")]
    return subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    done = build(REPO, out)
    assert done.returncode == 0, done.stderr
    return out / "site"


# --- the reference is whole -----------------------------------------------------------------------------------------


def public_names() -> set[str]:
    """Every name of a front that is no module, and every error, in full."""
    names = set()
    for front in map(importlib.import_module, FRONTS):
        listed = getattr(front, "__all__", None) or [
            name for name, value in vars(front).items() if getattr(value, "__module__", "") == front.__name__
        ]
        names |= {f"{front.__name__}.{n}" for n in listed if not isinstance(getattr(front, n), types.ModuleType)}
    return names


def described(site: Path) -> set[str]:
    """Every name under which the reference describes something."""
    pages = (site / "docs" / "api").glob("*.html")
    return {found for page in pages for found in re.findall(r'<dt [^>]*\bid="([\w.]+)"', page.read_text("utf-8"))}


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    names = public_names()
    assert {"worldplan.solve_lqr", "worldplan.agents.train_sac", "worldplan.errors.BadFile"} <= names
    assert names - described(site) == set(), "give each a place on a page of docs/api"


def test_a_public_name_without_its_place_is_noticed(site: Path, tmp_path: Path) -> None:
    shutil.copytree(site / "docs" / "api", tmp_path / "docs" / "api")
    page = tmp_path / "docs" / "api" / "planning.html"
    page.write_text(page.read_text("utf-8").replace('id="worldplan.solve_lqr"', ""), "utf-8")
    assert public_names() - described(tmp_path) == {"worldplan.solve_lqr"}


# --- it needs nothing from elsewhere --------------------------------------------------------------------------------


def fetched(page: str) -> list[str]:
    """What a browser would fetch from another place to show a page."""
    tags = re.findall(r"<(?:script|img|link|iframe|source)\b[^>]*>", page)
    return [tag for tag in tags if re.search(r'\b(?:src|href)="(?:https?:)?//', tag)]


def test_the_pages_need_no_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert {page.name: fetched(page.read_text("utf-8")) for page in pages if fetched(page.read_text("utf-8"))} == {}
    assert len(fetched('<script src="https://elsewhere.org/x.js"></script><a href="https://elsewhere.org">x</a>')) == 1


def test_the_top_of_the_folder_leads_to_the_first_page(site: Path) -> None:
    (where,) = re.findall(r"url=([^\"]+)", (site / "index.html").read_text("utf-8"))
    assert "<h1>worldplan" in (site / where).read_text("utf-8")


# --- a fault is an error --------------------------------------------------------------------------------------------

FAULTS = {
    "[nowhere](nowhere.md)": "nowhere.md",
    "[nothing](#no-such-heading)": "no-such-heading",
    "![none](none.png)": "none.png",
    "{py:func}`worldplan.solve_nothing`": "worldplan.solve_nothing",
}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A site of two pages with the settings of ours."""
    for name in ("conf.py", "_static", "_templates"):
        copy = shutil.copytree if (REPO / "docs" / name).is_dir() else shutil.copy
        (tmp_path / "docs").mkdir(exist_ok=True)
        copy(REPO / "docs" / name, tmp_path / "docs" / name)
    (tmp_path / "docs" / "index.md").write_text("# Top\n\n```{toctree}\npage\n```\n")
    (tmp_path / "docs" / "page.md").write_text("# Page\n\n[top](index.md)\n")
    return tmp_path


def test_a_small_site_without_a_fault_builds(small: Path) -> None:
    done = build(small, small / "out", "-b", "dummy")
    assert (done.returncode, done.stderr) == (0, "")


def test_every_fault_is_an_error(small: Path) -> None:
    (small / "docs" / "lost.md").write_text("# In no table of contents\n")
    (small / "docs" / "page.md").write_text("# Page\n\n" + "\n\n".join(FAULTS))
    done = build(small, small / "out", "-b", "dummy")
    assert done.returncode != 0
    for fault in ("lost.md: WARNING: document isn't included in any toctree", *FAULTS.values()):
        assert fault in done.stderr
    assert done.stderr.count("WARNING") == 1 + len(FAULTS)
