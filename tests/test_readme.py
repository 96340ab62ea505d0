"""The README's own lines run and do what it says; its numbers are those of benchmarks/results; no page names a file
that is not there."""

from __future__ import annotations

import json
import math
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

from worldplan.commands import VERBS
from worldplan.eval.compare.result import Comparison
from worldplan.eval.compare.table import markdown
from worldplan.provenance import restored

REPO = Path(__file__).parents[1]
README = (REPO / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md", "worldplan/zoo/README.md"]
PAGES += [str(page.relative_to(REPO)) for page in sorted((REPO / "docs").glob("*.md"))]


# --- what it says runs ----------------------------------------------------------------------------------------------


def test_the_first_example_reaches_its_goal(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(BLOCKS[0], names)
    assert names["info"]["is_success"]
    assert "mm from the goal" in capsys.readouterr().out


def test_the_first_example_is_short_and_stands_on_the_first_screen() -> None:
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 11
    assert README.index("make plan") < README.index("make test") < README.index(BLOCKS[0]) < 3500


@pytest.mark.parametrize("block", BLOCKS[1:])
def test_every_other_example_runs(block: str) -> None:
    exec(block, {})


def test_every_picture_is_there() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert pictures, "the first screen shows what the package does"
    for picture in pictures:
        assert (REPO / picture).stat().st_size > 10_000


def test_the_table_of_commands_names_every_verb_once() -> None:
    rows = re.findall(r"^\| `worldplan ([\w-]+)", README, flags=re.MULTILINE)
    assert set(rows) == set(VERBS)
    assert {verb for verb in VERBS if rows.count(verb) > 1} <= {"collect"}  # pairs, and episodes


# --- its numbers are those that were measured -----------------------------------------------------------------------


def results(name: str) -> dict[str, Any]:
    """A file of benchmarks/results."""
    read: dict[str, Any] = json.loads((REPO / "benchmarks" / "results" / f"{name}.json").read_text())
    return read


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """The shipped comparison; its angles and paths, which only pictures need, are not kept in the repository."""
    found: Comparison = restored(Comparison, {"angles": [], "reference_paths": [], **results("compare")})
    return found


def table_of(readme: str) -> str:
    """The README's table of encoders."""
    (found,) = re.findall(r"(?:^\|.*\n)*^\| Encoder \|.*\n(?:^\|.*\n)+", readme, flags=re.MULTILINE)
    return str(found).strip()


def test_the_table_of_encoders_is_what_compare_prints(comparison: Comparison) -> None:
    printed = markdown(comparison)
    assert table_of(README) == printed
    assert len(printed.splitlines()) == 2 + len(comparison.rows) + len(comparison.baselines)


def test_every_other_digit_in_the_table_of_encoders_is_seen(comparison: Comparison) -> None:
    printed, start = markdown(comparison), README.index(table_of(README))
    for changed in other_digits(README, start, start + len(printed)):
        assert table_of(changed) != printed


def other_digits(text: str, start: int, end: int) -> list[str]:
    """The text with one digit of a passage changed, for each of its digits."""
    places = [k for k in range(start, end) if text[k].isdecimal()]
    return [f"{text[:k]}{(int(text[k]) + 1) % 10}{text[k + 1 :]}" for k in places]


def short(value: float) -> str:
    """Two decimals below ten, three digits from there on."""
    return f"{value:.2f}" if value < 10 else f"{value:.3g}"


def bare(value: float, digits: int = 2) -> str:
    """A share without its zero: .91."""
    return f"{value:.{digits}f}".removeprefix("0")


def percent(value: float) -> str:
    """One decimal, if it is not zero."""
    return f"{round(100 * value, 1):g}%"


def at_most(value: float) -> str:
    """One digit, rounded up: 3.1e-13 is at most 4e-13."""
    power = math.floor(math.log10(value))
    return f"{math.ceil(value / 10.0**power)}e{power}"


def reached(label: str, name: str) -> str:
    """A row of the table of what the shipped agent reaches."""
    (row,) = (row for row in results("loop")["control"] if row["name"] == name)
    reach, mean, error = row["reach"], row["cost_ratio_mean"], 1000 * row["tip_error_median"]["value"]
    cells = (
        f"{percent(reach['value'])} [{percent(reach['low'])}, {percent(reach['high'])}]",
        f"{error:.1f} mm" if error < 100 else f"{error:.0f} mm",
        short(row["cost_ratio_median"]["value"]),
        f"{short(mean['value'])} [{short(mean['low'])}, {short(mean['high'])}]",
    )
    return f"| {label} | {' | '.join(cells)} |"


def quotes() -> list[str]:
    """Passages that the README must hold, written from the results."""
    loop, compare, theorem4 = results("loop"), results("compare"), results("theorem4")
    r2, rank = loop["r2_normal_0.7"]["reacher-lejepa"], compare["correlation"]["spearman"]
    nulls = [row["null"] for row in compare["rows"] if row.get("null")]
    null = max(nulls, key=lambda test: test["rate"]["value"])
    rate = null["rate"]
    p = max(row["p_first"] for row in compare["rows"] if row["p_first"] is not None)
    verified, learned = theorem4["verify"]["found"], theorem4["learned"]["found"]
    mistakes = [level for level in verified["controls"] if level["expected"] == "rejected"]
    pixels = [level["torque_gap"] for level in learned["pixels"] if level["expected"] == "accepted"]
    proof = learned["learned"]["certificate"]
    fitted = json.loads((REPO / "worldplan/zoo/agents/reacher-lejepa/fit.json").read_text())
    count = {5: "five"}[len({level["name"] for level in mistakes})]
    return [
        f"Each row holds {loop['options']['pairs']} pairs of start and goal",
        reached("`reacher`, dm_control's reset distribution", "reset: reacher, lqr"),
        reached("`reacher`, angles N(0, 1)", "normal: reacher, lqr"),
        reached("`reacher` with MPC, angles N(0, 1)", "normal: reacher, mpc"),
        reached("`reacher-lejepa`, dm_control's reset distribution", "reset: reacher-lejepa, lqr"),
        reached("`reacher-lejepa`, angles N(0, 1)", "normal: reacher-lejepa, lqr"),
        reached("random torques, dm_control's reset distribution", "reset: random torques"),
        reached("standing still, dm_control's reset distribution", "reset: standing still"),
        f"the joint angles from the latent with R2 = {bare(r2['latent_to_state']['value'], 3)}, "
        f"and the latent from the angles with R2 = {bare(r2['state_to_latent']['value'], 3)}.",
        f"Every encoder ran the same {compare['config']['episodes']} episodes",
        f"rank correlation is {bare(rank['value'])} [{bare(rank['low'])}, {bare(rank['high'])}] over "
        f"{compare['correlation']['n']} encoders",
        f"separates every encoder from the best one (p = {bare(p, 3)})",
        f"in at most {rate['value']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}] of {null['resamples']} tries",
        f"We solve {sum(level['problems'] for level in verified['exact']):,} random problems twice",
        f"agree to a relative {at_most(max(level['worst'] for level in verified['exact']))}.",
        f"We then introduce {count} deliberate mistakes.",
        f"even at a relative size of {max(level['resolution'] for level in mistakes):.0e}.".replace("e-0", "e-"),
        f"They differ by at most {at_most(max(pixels))},",
        f"its plans cost at most {proof['bound'] / proof['value']:.1%} more",
        f"The measured loss is {bare(100 * proof['measured']['value'] / proof['value'], 1)}%.",
        f"from {fitted['environment_steps']:,} steps of random torques",
    ]


def missing(readme: str, passages: list[str]) -> list[str]:
    """The passages that a README lacks, wherever its lines are broken."""
    flat = " ".join(readme.split())
    return [passage for passage in passages if passage not in flat]


def test_the_numbers_in_the_text_are_those_of_the_results() -> None:
    assert missing(README, quotes()) == []


def test_every_other_digit_in_the_text_is_seen() -> None:
    flat, passages = " ".join(README.split()), quotes()
    for passage in passages:
        start = flat.index(passage)
        for changed in other_digits(flat, start, start + len(passage)):
            assert missing(changed, passages) == [passage]


# --- pages name what is there ---------------------------------------------------------------------------------------


def absent(page: Path, text: str, root: Path = REPO) -> list[str]:
    """What a page links to, or names in backquotes as a module or folder of the package, and is not there."""
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    named = re.findall(r"`((?:worldplan|envs|agents|eval|tests|scripts|benchmarks|docs)/[\w./-]*)`", text)
    dotted = re.findall(r"`(worldplan(?:\.[a-z_0-9]+)+)(?:\.[A-Z]\w*)?`", text)
    faults = [link for link in links if link and not (page.parent / link).exists()]
    faults += [name for name in named if not (root / name).exists() and not re.search(r"-v\d$", name)]  # an environment
    for name in dotted:
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            faults.append(name)
    return faults


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_what_is_there(page: str) -> None:
    assert absent(REPO / page, (REPO / page).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    ["[a page](docs/nowhere.md)", "`eval/report_page.py`", "`worldplan/planners/`", "`worldplan.planners.lqr`"],
)
def test_what_is_not_there_is_seen(line: str) -> None:
    fine = "[benchmarks](benchmarks/README.md#top) `eval/plan/` `worldplan.envs` `worldplan.agents.load_policy` `a/b`"
    assert absent(REPO / "README.md", fine) == []
    assert len(absent(REPO / "README.md", f"{fine} {line}")) == 1
