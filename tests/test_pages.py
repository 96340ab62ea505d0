"""The Python of the pages: every block runs, in order, as it stands, and prints what the page says."""

from __future__ import annotations

import contextlib
import io
import json
import re
import runpy
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

REPO = Path(__file__).parents[1]
DOCS = REPO / "docs"
PROMISE = "Tests run every Python block of this page, in order."
PAGES = sorted(page for page in DOCS.rglob("*.md") if "```python" in page.read_text(encoding="utf-8"))
RUN = [page for page in PAGES if PROMISE in " ".join(page.read_text(encoding="utf-8").split())]
BLOCK = re.compile(r"```python\n(.*?)```(?:\n+```text\n(.*?)```)?", re.DOTALL)
HOLDS = {
    "gymnasium.md": [
        "info['is_success']",
        "-2.0 < reward < 0.0",  # the expert's, a step, over two episodes
        "set(observations) == {'observation', 'achieved_goal', 'desired_goal'}",
    ],
}


def run(text: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """What the blocks of a page define, and for each one followed by a block of text: what it prints, and the text."""
    page, printed = types.ModuleType("page"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "page", page)  # as a script is, where jobs look for their function
        for code, said in BLOCK.findall(text):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(code, "page", "exec"), vars(page))
            printed += [(out.getvalue(), said)] if said else []
    return vars(page), printed


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_code_of_a_page_does_what_the_page_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SB3 and Gymnasium, about small buffers and old folders of films
        names, printed = run(page.read_text(encoding="utf-8"))
    for got, said in printed:
        assert got == said
    for claim in HOLDS.get(page.name, []):
        assert eval(claim, names), claim


def test_a_page_that_is_wrong_is_noticed() -> None:
    assert run("```python\nprint(4 // 2)\n```\n\n```text\n2\n```\n")[1] == [("2\n", "2\n")]
    ((got, said),) = run("```python\nprint(4 // 2)\n```\n\n```text\n3\n```\n")[1]
    assert got != said
    with pytest.raises(NameError):
        run("```python\nx = 1\n```\n```python\ny\n```\n")


def held_by_nothing(pages: list[Path], tests: str) -> list[str]:
    """Pages with Python whose blocks run neither here nor in a test that names the page."""
    return [page.name for page in pages if page not in RUN and f'"{page.name}"' not in tests]


def test_every_page_with_python_is_held_by_a_test() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (REPO / "tests").rglob("test_*.py"))
    assert {page.name for page in RUN} >= {"plan.md", "compare.md", "gymnasium.md", "extend.md"}
    assert held_by_nothing(PAGES, tests) == []
    assert held_by_nothing(PAGES, "") == [page.name for page in PAGES if page not in RUN] != []


@pytest.mark.parametrize(
    "name", re.findall(r"^\| `(worldplan/[^`]*)`", (DOCS / "gymnasium.md").read_text(), re.MULTILINE)
)
def test_every_environment_of_the_table_can_be_made(name: str) -> None:
    env = gym.make(name)
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space
    env.close()


# --- the theory names what is there ---------------------------------------------------------------------------------

TESTS = set(
    re.findall(r"^def (test_\w+)", "".join(p.read_text() for p in (REPO / "tests").rglob("*.py")), re.MULTILINE)
)


def unheld(text: str) -> list[str]:
    """Tests that a page names and nobody has written."""
    return [name for name in re.findall(r"`(test_\w+)`", text) if name not in TESTS]


def test_the_tests_behind_the_theory_are_there() -> None:
    theory = (DOCS / "theory.md").read_text(encoding="utf-8")
    assert theory.count("`test_") > 40
    assert unheld(theory) == []
    assert unheld(theory + "`test_nothing`") == ["test_nothing"]


def test_every_theorem_has_a_module_a_test_and_a_control() -> None:
    for part in (DOCS / "theory.md").read_text(encoding="utf-8").split("\n## Theorem ")[1:]:
        for word in ("*Module", "*Test", "*Control", "*Command"):
            assert word in part.split("\n## ")[0], part[:40]


# --- the gallery is whole -------------------------------------------------------------------------------------------


def not_shown(pictures: list[str], gallery: str) -> list[str]:
    """Pictures without a place in the gallery, or without a command below it."""
    return [name for name in pictures if not re.search(rf"\]\({re.escape(name)}\)\n\n    (worldplan|python) ", gallery)]


def test_every_figure_has_its_command_in_the_gallery() -> None:
    gallery = (DOCS / "gallery.md").read_text(encoding="utf-8")
    pictures = [path.name for path in DOCS.glob("*.png")]
    assert len(pictures) >= 9
    assert not_shown(pictures, gallery) == []
    assert not_shown(["new.png"], gallery) == ["new.png"]
    assert not_shown(["dose.png"], gallery.replace("    worldplan dose", "")) == ["dose.png"]


# --- the laboratory -------------------------------------------------------------------------------------------------


def test_the_page_of_the_laboratory_has_the_results_as_they_were_written() -> None:
    script = runpy.run_path(str(REPO / "benchmarks" / "laboratory_page.py"))
    text, results = script["PAGE"].read_text(encoding="utf-8"), script["RESULTS"]
    assert script["page"](text, results) == text
    for name in script["done"](results):
        facts = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
        assert f"**{facts['finding']}**" in text
        assert f"/{name}.png)" in text and (results / f"{name}.png").is_file()
    changed = text.replace("### bound", "### Bound")
    assert script["page"](changed, results) == text != changed
