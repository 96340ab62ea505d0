"""The site: the pages that GitHub shows, where they lie, and a reference from the docstrings. `make docs` builds it."""

from __future__ import annotations

import re
import types
from collections import defaultdict
from typing import Any, Generic, TypeVar

import numpy.typing
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

import worldplan

# NumPy's aliases print as what they stand for, half a page of it: here they are classes, which print as their names.
for alias in ("ArrayLike", "NDArray"):
    named = types.new_class(alias, (Generic[TypeVar("T")],))
    named.__module__ = "numpy.typing"
    setattr(numpy.typing, alias, named)

FRONTS = (worldplan, worldplan.envs, worldplan.agents, worldplan.eval)
PUBLIC = {name: f"{front.__name__}.{name}" for front in FRONTS for name in front.__all__}

project = "worldplan"
copyright = "worldplan contributors"
version = release = worldplan.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]

# The source folder is the repository, so that a link from page to page is the same here and on GitHub.
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "benchmarks/README.md",
    "benchmarks/results/pairs-long/pairs-long.md",
    "benchmarks/results/worlds/README.md",
    "worldplan/zoo/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
]
exclude_patterns = [".*", "build", "dist", "runs", "data", "tests", "agents", "envs", "eval", "worldplan/[!z]*"]
myst_heading_anchors = 4
highlight_language = "bash"  # indented blocks are commands

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
autosummary_generate = False

# A reference that leads nowhere is an error, but for the names of other packages: the build asks no network for theirs.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(collections|datetime|gymnasium|np|numpy|pathlib|stable_baselines3|torch|typing)\..*|NDArray")
]

html_theme = "furo"
html_title = "worldplan"
html_static_path = ["_static"]
html_css_files = ["site.css"]
templates_path = ["_templates"]
html_additional_pages = {"index": "redirect.html"}  # from the top of the folder to docs/index.html
html_copy_source = html_show_sourcelink = False
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True


HIDDEN_COLON = "\N{RATIO}"


def as_restructured_text(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings have code in single backquotes; a public name becomes a link."""
    text = re.sub(r"(?<!`)`([^`]+)`(?!`)", _code, "\n".join(lines))
    lines[:] = text.split("\n")
    if what == "property":  # Napoleon takes what comes before a colon in the first line for a type
        lines[0] = lines[0].replace(":", HIDDEN_COLON)


def show_colons(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """What `as_restructured_text` hid from Napoleon."""
    lines[:] = [line.replace(HIDDEN_COLON, ":") for line in lines]


def _code(found: re.Match[str]) -> str:
    name = found[1].removeprefix("wp.")
    return f":py:obj:`{name} <{PUBLIC[name]}>`" if name in PUBLIC else f"``{found[1]}``"


def without_hints(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Types without what they tell the command line, and `...` for a default that is made anew each time."""
    if signature is not None:
        signature = re.sub(r"~?\w+\.Annotated\[(.*?), ~?tyro\.[^()]*\([^()]*\)\]", r"\1", signature)
        signature = signature.replace("<factory>", "...")
    return signature, returns


def find_by_last_name(app: Sphinx, env: Any, node: Any, contnode: Any) -> Any:
    """The one thing in the reference that is called so: errors and types are named as the source imports them."""
    domain = env.get_domain("py")
    found = defaultdict(set)
    for full, entry in domain.objects.items():
        found[full.rsplit(".", 1)[-1]].add((entry.docname, entry.node_id))
    places = found[node["reftarget"]] if node.get("refdomain") == "py" else set()
    if len(places) != 1:
        return None
    return make_refnode(app.builder, node["refdoc"], *places.pop(), contnode)


def setup(app: Sphinx) -> None:
    """Sphinx calls this. Napoleon reads docstrings at priority 500."""
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)
    app.connect("autodoc-process-docstring", show_colons, priority=600)
    app.connect("autodoc-process-signature", without_hints)
    app.connect("missing-reference", find_by_last_name)
