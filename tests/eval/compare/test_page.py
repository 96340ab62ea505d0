"""The HTML report of a comparison: complete, safe, self-contained, and at work in a real browser."""

import json
import os
import re
import shutil
from base64 import b64decode
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from worldplan.errors import InvalidInput
from worldplan.eval.compare import figure as compare_figures, page as report
from worldplan.eval.compare.config import CompareConfig
from worldplan.eval.compare.page import PLAN_COLUMNS, write_report
from worldplan.eval.compare.result import Comparison, ComparisonRow
from worldplan.eval.compare.table import COLUMNS
from worldplan.eval.control.baselines import REFERENCE
from worldplan.eval.control.episodes import ControlResult, summarise
from worldplan.eval.control.open_loop import OpenLoopRow
from worldplan.eval.statistics.correlation import Correlation
from worldplan.eval.statistics.estimate import Estimate, Ratios
from worldplan.eval.statistics.paired_test import NullTest

DAY = date(2026, 1, 2)
ATTACK = '<script>document.title="hacked"</script>"><img src=x onerror=document.title="hacked">'
REASON = "InvalidInput: the encoder's output has entries that are not finite <b> (nets/mine.py:12 in Eyes.__call__)"
EPISODES = 12


def summary(name, factor, missed=0):
    """A controller that costs `factor` times the reference, some episodes ten times as much."""
    costs = np.linspace(5, 15, EPISODES)
    ratio = factor * np.linspace(0.9, 1.1, EPISODES) * np.where(np.arange(EPISODES) < missed, 10, 1)
    tip = np.where(np.arange(EPISODES) < missed, 0.2, 0.004)
    steps = np.where(np.arange(EPISODES) < missed, np.nan, 40.0)
    done = ControlResult(costs * ratio, tip, tip < 0.025, steps, steps)
    return summarise(name, done, ControlResult(costs, tip, tip < 0.025, steps, steps))


def perfect():
    """The reference against itself."""
    still, good = np.zeros((3, EPISODES)), np.ones(EPISODES, bool)
    done = ControlResult(np.linspace(5, 15, EPISODES), still[0], good, still[1], still[2])
    return summarise(REFERENCE, done, done)


def plans(name, factor):
    """Open-loop rows of two libraries."""
    rows = []
    for plan, over in (("line", 1.85), ("optimum", 1.0)):
        for library in (1000, 50):
            value = Estimate(factor + 1 / library, factor, factor + 0.1)
            best = Estimate(over * value.value, over * value.low, over * value.high)
            rows.append(OpenLoopRow(name, plan, library, Ratios(value, value, value), Ratios(best, best, best)))
    return tuple(rows)


def made_up_comparison():
    """Five encoders that worked, from good to bad, one that failed, and the baselines."""
    rng = np.random.default_rng(0)
    angles, starts, goals = (
        0.7 * rng.standard_normal((200, 2)),
        rng.standard_normal((3, 2)),
        rng.standard_normal((3, 2)),
    )
    time = np.linspace(0, 1, 101)[:, None]

    def paths(bend):
        return tuple(
            s + (g - s) * (1 - np.exp(-5 * time)) + bend * np.sin(np.pi * time)
            for s, g in zip(starts, goals, strict=True)
        )

    def row(name, kind, factor, r2, latents, **more):
        facts = {
            "latent_dim": 2,
            "reduced_dim": 2,
            "dropped": None,
            "scale": 0.7,
            "charts": True,
            "step_ms": 0.8,
        } | more
        return ComparisonRow(
            name,
            kind,
            control=summary(name, factor, missed=int(factor)),
            latent_to_state=Estimate(r2, r2 - 0.01, min(1.0, r2 + 0.01)),
            state_to_latent=Estimate(r2 - 0.02, r2 - 0.03, r2 - 0.01),
            orthogonality_error=Estimate(0.03, 0.02, 0.05),
            theorem3_error=Estimate(0.02, 0.01, 0.03),
            theorem3_bound=Estimate(0.2, 0.1, 0.3),
            latents=latents,
            paths=paths(factor / 10),
            open_loop=plans(name, factor),
            null=NullTest(500, Estimate(0.04 + factor / 1000, 0.03, 0.06)),
            **facts,
        )

    rows = (
        row("oracle", "oracle", 1.0, 1.0, None),
        row("reacher", "zoo", 1.05, 0.98, np.tanh(angles), notes=("made with MuJoCo 0.1",), p_first=0.32),
        row(ATTACK, "module", 1.7, 0.9, angles**3, latent_dim=64, dropped=0.123, p_first=0.004),
        row("line of $x_1$", "object", 4.0, 0.3, None, latent_dim=1, reduced_dim=1, p_first=0.002),
        row("untrained", "untrained", 9.5, -0.1, None, p_first=0.001),
        ComparisonRow("broken", "folder", "failed", REASON),
    )
    return Comparison(
        config=CompareConfig(episodes=EPISODES),
        provenance={"command": "worldplan compare a & b --seed 7", "seed": 7, "versions": {"worldplan": "9.8.7"}},
        rows=rows,
        baselines=(perfect(), summary("random torques", 31.0, 12), summary("standing still", 12.0, 12)),
        floor=plans("true angles", 1.0),
        correlation=Correlation(5, Estimate(1.0, 0.9, 1.0), Estimate(0.8, 0.5, 0.9)),
        angles=angles,
        starts=starts,
        goals=goals,
        targets=np.tile([0.1, 0.1, 0.015], (3, 1)),
        reference_paths=paths(0.0),
    )


class Page(HTMLParser):
    """Elements with their attributes, and the text outside scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._open = [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._open = tag

    def handle_data(self, data):
        if self._open not in ("script", "style"):
            self.text += data

    def handle_endtag(self, tag):
        self._open = ""

    def count(self, tag):
        return sum(name == tag for name, _ in self.elements)

    @property
    def foreign(self):
        """Addresses that are not inside the page."""
        named = [a[key] for _, a in self.elements for key in ("src", "href", "srcset", "data", "action") if key in a]
        return [address for address in named if not address.startswith("data:")]


@pytest.fixture(scope="module")
def comparison():
    return made_up_comparison()


@pytest.fixture(scope="module")
def path(comparison, tmp_path_factory):
    """The report, without a film."""
    return write_report(comparison, tmp_path_factory.mktemp("report") / "sub" / "report.html", film=False, day=DAY)


@pytest.fixture(scope="module")
def page(path):
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def no_pictures(monkeypatch):
    """Figures take time that most tests need not spend."""
    for name in ("draw_cost_against_r2", "draw_encoder", "draw_film"):
        monkeypatch.setattr(report, name, lambda *arguments: b"picture")


@pytest.fixture
def figures(monkeypatch):
    """Figures that were made, kept as matplotlib's objects instead of being drawn."""
    made = []
    monkeypatch.setattr(compare_figures, "png", lambda figure: made.append(figure) or b"")
    return made


# --- the page -------------------------------------------------------------------------------------------------------


def test_it_says_where_it_comes_from(page):
    for said in (
        DAY.isoformat(),
        "worldplan compare a & b --seed 7",
        "worldplan 9.8.7",
        "Seed",
        "Episodes",
        "N(0, .7²)",
    ):
        assert said in page.text
    for column in COLUMNS:
        assert page.text.count(column.meaning) == 1  # once in the list; in the table's heads it is an attribute
        assert ("th", column.meaning) in [(tag, a.get("title")) for tag, a in page.elements]


def test_it_shows_every_row(page, comparison):
    open_loop = 1 + 4 * 6  # two plans, two libraries; five encoders that worked, and the floor
    assert page.count("tr") == 1 + len(comparison.rows) + len(comparison.baselines) + open_loop
    for row in comparison.rows:
        assert row.name in page.text
    for said in (
        "broken",
        REASON,
        "random torques",
        "standing still",
        "true-state clipped LQR",
        "made with MuJoCo 0.1",
    ):
        assert said in page.text
    assert "64 → 2 (12.3%)" in page.text
    assert "1 failed; the reasons" in page.text
    assert page.count("img") == 1 + 5  # the chart, and a card for each encoder that worked


def test_names_are_text(page, comparison, path, no_pictures):
    assert page.count("script") == 1 and page.count("b") == 0
    assert "<script>document" not in path.read_text() and not any("onerror" in a for _, a in page.elements)
    open_door = Page(report.render_report(comparison, film=False, day=DAY, autoescape=False))
    assert open_door.count("script") > 1 and any("onerror" in a for _, a in open_door.elements)


def test_it_says_what_may_be_chance_and_what_open_loop_cannot_see(page, comparison, tmp_path, no_pictures):
    assert "the order may be chance, for reacher (p = 0.320)." in page.text and "worst: untrained" in page.text
    assert "What open loop cannot see" in page.text
    bare = replace(
        comparison, floor=(), rows=tuple(replace(r, open_loop=(), null=None, p_first=None) for r in comparison.rows)
    )
    text = Page(report.render_report(bare, film=False, day=DAY)).text
    assert "What open loop cannot see" not in text and "Paired test" not in text and "worst" not in text


def test_nothing_is_fetched(page, path):
    assert page.foreign == [] and page.count("link") == page.count("iframe") == 0
    policy = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policy) == 1 and policy[0].startswith("default-src 'none'; img-src data:;")
    assert not re.search(r"@import|url\(\s*['\"]?(?!data:|['\"]?data:)[a-z]+:", path.read_text())
    leaking = path.read_text().replace("<h1>", '<img src="https://example.org/x.png"><h1>')
    assert Page(leaking).foreign == ["https://example.org/x.png"]


def test_cells_carry_the_numbers_they_are_sorted_by(page):
    orders = [a["data-order"] for tag, a in page.elements if tag == "td"]
    table, plans = np.split(orders, [len(COLUMNS) * 9])
    table = table.reshape(9, -1).tolist()
    assert [line[1] for line in table] == ["1", "2", "3", "4", "5", "", "", "", ""]
    assert [line[0] for line in table][:3] == ["oracle", "reacher", ATTACK]
    means = [float(line[2]) for line in table[:5]]
    assert means == sorted(means)
    assert set(table[5][2:]) == {""} and float(table[6][2]) == 1 and float(table[7][2]) > 31
    p = [line[[c.head for c in COLUMNS].index("p against first")] for line in table]
    assert p == ["", "0.32", "0.004", "0.002", "0.001", *[""] * 4]
    plans = plans.reshape(-1, len(PLAN_COLUMNS)).tolist()
    assert plans[0] == ["oracle", "line", "1000", "1.001", "1.001", repr(1.85 * 1.001)]
    assert [line[0] for line in plans[::4]] == [
        "oracle",
        "reacher",
        ATTACK,
        "line of $x_1$",
        "untrained",
        "true angles",
    ]


def test_same_comparison_same_bytes(comparison, tmp_path, no_pictures):
    first, again, later = (
        write_report(comparison, tmp_path / f"{k}.html", day=day).read_bytes()
        for k, day in enumerate((DAY, DAY, date(2026, 1, 3)))
    )
    assert first == again != later
    assert date.today().isoformat() in write_report(comparison, tmp_path / "now.html").read_text()


def test_an_earlier_page_survives_an_error(comparison, path, tmp_path):
    page = shutil.copy(path, tmp_path / "report.html")
    first, second, *others = comparison.rows
    cut = replace(comparison, rows=(first, replace(second, latents=second.latents[:-1]), *others))
    with pytest.raises(ValueError, match="size"):  # amid the pictures
        write_report(cut, page, film=False)
    assert page.read_bytes() == path.read_bytes() and [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_all_failed_and_none_at_all(comparison, tmp_path):
    failed = replace(comparison, rows=comparison.rows[-1:], correlation=Correlation(0, *[Estimate(*[np.nan] * 3)] * 2))
    text = Page(write_report(failed, tmp_path / "failed.html").read_text()).text
    assert "broken" in text and "Control cost and identifiability" not in text and "nan" not in text
    with pytest.raises(InvalidInput, match="at least one row"):
        write_report(replace(comparison, rows=()), tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


# --- figures and film -----------------------------------------------------------------------------------------------


def ink(png):
    """Share of pixels that are not white."""
    with Image.open(BytesIO(png)) as image:
        assert image.format == "PNG" and image.width > 300
        return float((np.asarray(image.convert("L")) < 250).mean())


def test_figures_are_drawn_and_drawn_alike(comparison, page):
    chart, *cards = [b64decode(a["src"].partition(",")[2]) for tag, a in page.elements if tag == "img"]
    assert ink(chart) > 0.005 and all(ink(card) > 0.01 for card in cards)
    assert compare_figures.draw_cost_against_r2(comparison) == chart
    blank = BytesIO()
    Image.new("RGB", (400, 300), "white").save(blank, format="PNG")
    assert ink(blank.getvalue()) == 0


def test_a_card_shows_what_a_row_has(comparison, figures):
    full, line = comparison.rows[1], comparison.rows[3]
    for row in (full, replace(full, paths=()), replace(full, latents=None), replace(line, latents=np.ones((200, 1)))):
        compare_figures.draw_encoder(comparison, row)
    titles = [[axes.get_title().split()[0] for axes in figure.axes if axes.get_title()] for figure in figures]
    assert titles == [["latent", "latent", "paths"], ["latent", "latent"], ["paths"], ["latent", "latent", "paths"]]
    with pytest.raises(InvalidInput, match="nothing to draw"):
        compare_figures.draw_encoder(comparison, comparison.rows[-1])


def test_latents_are_coloured_by_the_true_angles(comparison, figures):
    row = comparison.rows[1]
    compare_figures.draw_encoder(comparison, row)
    for joint, axes in enumerate(figures[0].axes[:2]):
        dots = axes.collections[0]
        assert np.array_equal(dots.get_offsets(), row.latents) and np.array_equal(
            dots.get_array(), comparison.angles[:, joint]
        )


def test_the_worse_encoder_stands_higher(comparison, figures):
    """Where the numbered dots stand: ranks along the cost axis, R2 along the other."""
    compare_figures.draw_cost_against_r2(comparison)
    places = {text.get_text(): text.xy for text in figures[0].axes[0].texts}
    assert list(places) == ["1", "2", "3", "4", "5"]
    ratios = [row.control.cost_ratio_mean.value for row in comparison.rows[:5]]
    assert [y for _, y in places.values()] == pytest.approx(ratios)
    assert [x for x, _ in places.values()] == pytest.approx([compare_figures.LEAST, 0.02, 0.1, 0.7, 1.1])


def test_goals_are_marked_where_the_arm_came_to(comparison, figures):
    around = tuple(path + np.array([2 * np.pi, 0.0]) for path in comparison.rows[0].paths)
    compare_figures.draw_encoder(comparison, replace(comparison.rows[0], paths=around, latents=None))
    stars = [line.get_xydata()[0] for line in figures[0].axes[0].lines if line.get_marker() == "*"]
    assert np.allclose(stars, comparison.goals + [2 * np.pi, 0.0])


def test_film(comparison, tmp_path, monkeypatch):
    drawn = []

    def paint(qpos, target, profile):
        drawn.append((len(qpos), tuple(target), profile))
        return np.tile((qpos[:, :1] * 40).astype(np.uint8)[:, :, None, None], (1, 64, 64, 3))

    monkeypatch.setattr(compare_figures, "render_frames", paint)
    page = Page(write_report(comparison, tmp_path / "film.html").read_text())
    films = [a["src"] for tag, a in page.elements if a.get("src", "").startswith("data:image/gif")]
    assert len(films) == 1
    assert drawn == [(count, (0.1, 0.1, 0.015), "fast") for _ in range(4 * 3) for count in (51, 1)]
    with Image.open(BytesIO(b64decode(films[0].partition(",")[2]))) as film:
        duration = 0
        for k in range(film.n_frames):
            film.seek(k)
            duration += film.info["duration"]
        assert duration == 1000 * (2 + 1)  # two seconds of motion, and one in which the end stays
        assert film.height > 4 * 2 * 64
    with pytest.raises(InvalidInput, match="paths"):
        compare_figures.draw_film(comparison, list(comparison.rows[-1:]))


# --- in a browser ---------------------------------------------------------------------------------------------------


def find_chromium():
    """Chromium and its driver; where they are absent tests are skipped, but not in continuous integration."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        message = "no chromium and chromedriver here; run: make browser"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return chromium, driver


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    chromium, driver = find_chromium()
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    quiet = "disable-gpu", "disable-dev-shm-usage", "disable-background-networking"
    for argument in ("headless=new", "no-sandbox", *quiet, "window-size=1300,900"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()


@pytest.fixture
def opened(browser, path):
    """The browser on the report, at desktop size, its tables ready to be sorted."""
    browser.get(path.as_uri())
    sortable(browser)
    return browser


def until(browser, found):
    """Wait for a condition, a function of nothing that gives something true in the end, and return that."""
    return WebDriverWait(browser, 30, poll_frequency=0.05).until(lambda _: found())


class Log:
    """A log of the browser: each look at it empties the browser's, so what was seen before is kept here."""

    def __init__(self, browser, name):
        self._browser, self._name, self._entries = browser, name, []
        browser.get_log(name)

    def messages(self):
        self._entries += [entry["message"] for entry in self._browser.get_log(self._name)]
        return self._entries

    def events(self, method):
        """What the network log says of one kind of event."""
        messages = [json.loads(message)["message"] for message in self.messages()]
        return [m["params"] for m in messages if m["method"] == method]

    def requests(self):
        """Addresses that were asked for."""
        return [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]


def sortable(browser):
    """Wait until the page's script has made every table of it sortable."""
    tables = "document.querySelectorAll('table.sortable').length"
    made = "document.querySelectorAll('table.sortable.dataTable').length"
    until(browser, lambda: browser.execute_script(f"return {tables} > 0 && {tables} === {made}"))


def click(browser, head, columns=COLUMNS, sorts=True):
    """Click a column's head; then the names of the rows, from above, and the column's numbers."""
    column = [c.head for c in columns].index(head)
    table = f"document.querySelectorAll('table.sortable')[{0 if columns is COLUMNS else 1}]"
    cell = f"{table}.querySelectorAll('thead th')[{column}]"
    before = browser.execute_script(f"return {cell}.getAttribute('aria-sort')")
    browser.execute_script(f"{cell}.click()")
    if sorts:  # the library says so in the head when it has sorted
        until(browser, lambda: browser.execute_script(f"return {cell}.getAttribute('aria-sort')") != before)
    rows = browser.execute_script(
        f"return [...{table}.tBodies[0].rows].map(r => [...r.cells].map(c => c.dataset.order))"
    )
    return [row[0] for row in rows], [row[column] for row in rows]


def test_it_opens_without_errors_or_requests(browser, path):
    said, network = Log(browser, "browser"), Log(browser, "performance")
    browser.get(path.as_uri())
    sortable(browser)
    drawn = "return [...document.images].every(i => i.complete && i.naturalWidth > 300)"
    until(browser, lambda: browser.execute_script(drawn))
    asked = until(browser, network.requests)
    assert said.messages() == []
    assert asked[0] == path.as_uri() and all(url.startswith("data:") for url in asked[1:])
    assert browser.title == "Encoders by control cost – worldplan"  # no name of an encoder ran as a script


def test_errors_and_requests_are_seen(browser, path, tmp_path):
    text = path.read_text()
    text = re.sub(r"<meta http-equiv[^>]*>", "", text).replace("new DataTable(", "new Nonsense(")
    (tmp_path / "bad.html").write_text(text.replace("<h1>", '<img src="http://127.0.0.1:9/x.png"><h1>'))
    said, network = Log(browser, "browser"), Log(browser, "performance")
    browser.get((tmp_path / "bad.html").as_uri())
    until(browser, lambda: "http://127.0.0.1:9/x.png" in network.requests())
    until(browser, lambda: all(any(word in m for m in said.messages()) for word in ("Nonsense", "x.png")))
    before = [row.name for row in made_up_comparison().rows]
    for _ in range(2):
        assert click(browser, "Cost, mean", sorts=False)[0][:6] == before


def test_a_request_is_forbidden(browser, path, tmp_path):
    """Even a page with a foreign picture in it sends nothing: the policy stands before."""
    (tmp_path / "bad.html").write_text(path.read_text().replace("<h1>", '<img src="http://127.0.0.1:9/x.png"><h1>'))
    said, network = Log(browser, "browser"), Log(browser, "performance")
    browser.get((tmp_path / "bad.html").as_uri())
    until(browser, lambda: any("Content Security Policy" in message for message in said.messages()))
    until(browser, lambda: [e.get("blockedReason") for e in network.events("Network.loadingFailed")] == ["csp"])


@pytest.mark.parametrize("head", ["Cost, mean", "R² h→z", "ms a step"])
def test_a_click_sorts_by_number_and_what_has_none_comes_last(opened, head):
    _, up = click(opened, head)
    _, down = click(opened, head)
    assert sorted(up) == sorted(down)
    for orders, sign in ((up, 1), (down, -1)):
        numbers = [sign * float(order) for order in orders if order]
        assert len(numbers) >= 5 and numbers == sorted(numbers)
        assert orders == [order for order in orders if order] + [""] * (len(orders) - len(numbers))


def test_costs_are_not_sorted_as_text(opened):
    names, orders = click(opened, "Cost, mean")
    assert [float(order) for order in orders if order] != sorted(map(float, filter(None, orders)), key=str)
    assert names[:3] == ["true-state clipped LQR", "oracle", "reacher"]
    assert names[-2:] == ["random torques", "broken"]


def test_the_open_loop_table_sorts_too(opened):
    names, orders = click(opened, "To optimum", PLAN_COLUMNS)
    numbers = [float(order) for order in orders]
    assert numbers == sorted(numbers) and {names[0], names[1]} == {"oracle", "true angles"}
    _, sizes = click(opened, "Library", PLAN_COLUMNS)
    assert sizes == ["50"] * 12 + ["1000"] * 12
    _, kinds = click(opened, "Plan", PLAN_COLUMNS)
    assert kinds == ["line"] * 12 + ["optimum"] * 12


def test_a_click_sorts_names(opened):
    names, _ = click(opened, "Encoder")
    assert names == sorted(names, key=str.lower)


def test_screenshot(opened, tmp_path):
    opened.save_screenshot(str(tmp_path / "report.png"))
    with Image.open(tmp_path / "report.png") as image:
        picture = np.asarray(image.convert("L"))
    assert picture.shape[1] == 1300 and 0.01 < (picture < 200).mean() < 0.5
    opened.get("about:blank")
    opened.save_screenshot(str(tmp_path / "blank.png"))
    with Image.open(tmp_path / "blank.png") as image:
        assert (np.asarray(image.convert("L")) < 200).mean() == 0


@pytest.fixture
def screen(browser):
    """Open a page on a screen of some width, in light or dark."""

    def open_page(path, width, scheme="light", media=""):
        phone = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 1000}
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": wanted})
        browser.get(path.as_uri())
        sortable(browser)
        here = f"return innerWidth >= {width} && matchMedia('(prefers-color-scheme: {scheme})').matches"
        until(browser, lambda: browser.execute_script(here))
        return browser

    yield open_page
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


WIDTHS, SCHEMES = (390, 820, 1440), ("light", "dark")
TEXTS = """
const texts = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (walker.currentNode.data.trim() && element.getClientRects().length) texts.push(element);
}
"""
FROZEN = """
return [...document.querySelectorAll(".scroll")].map(box => {
  box.scrollLeft = 1e6;
  const rows = [...box.querySelectorAll("tr")], edge = box.getBoundingClientRect();
  return { moved: box.scrollLeft, rows: rows.map(row => {
    row.scrollIntoView({ block: "center" });
    const [first, second] = [...row.cells].map(cell => cell.getBoundingClientRect());
    const seen = document.elementFromPoint(first.left + 4, (first.top + first.bottom) / 2);
    return { left: first.left - edge.left, under: second.left < first.right, seen: row.cells[0].contains(seen) };
  }) };
});
"""
CONTRASTS = """
const parse = colour => { const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
const over = ([r, g, b, a], [R, G, B]) => [a * r + (1 - a) * R, a * g + (1 - a) * G, a * b + (1 - a) * B];
const ground = e => { if (!e) return [255, 255, 255];
  const own = parse(getComputedStyle(e).backgroundColor);
  return own[3] === 1 ? own.slice(0, 3) : over(own, ground(e.parentElement)); };
const linear = x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4;
const light = rgb => { const [r, g, b] = rgb.map(x => linear(x / 255));
  return .2126 * r + .7152 * g + .0722 * b; };
return texts.map(e => { const below = ground(e), ink = over(parse(getComputedStyle(e).color), below);
  const [low, high] = [light(below), light(ink)].sort((a, b) => a - b);
  return [(high + .05) / (low + .05), e.textContent.trim().slice(0, 40)]; }).sort((a, b) => a[0] - b[0]);
"""


def frozen(browser):
    """Whether every first cell stays in its place, and in sight, where a table is scrolled to its end."""
    boxes = browser.execute_script(FROZEN)
    assert len(boxes) == 2 and all(len(box["rows"]) > 5 for box in boxes)
    wide = [box for box in boxes if box["moved"]]
    stays = [abs(row["left"]) < 1 and row["seen"] and row["under"] for box in wide for row in box["rows"]]
    return bool(wide) and all(stays)


def sideways(browser):
    """Pixels by which the page itself, not a table in it, is wider than the screen."""
    return browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")


def least_size(browser):
    """The least size of text, pixels."""
    return browser.execute_script(
        TEXTS + "return Math.min(...texts.map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )


def changed(path, old, new):
    """A page with another style beside it."""
    text = path.read_text()
    assert old in text
    other = path.with_name("changed.html")
    other.write_text(text.replace(old, new))
    return other


@pytest.mark.parametrize("width", WIDTHS)
def test_names_stay_in_sight_on_every_screen(screen, path, width):
    shown = screen(path, width)
    assert sideways(shown) == 0 and least_size(shown) >= 12
    assert frozen(shown)


def test_a_loose_column_and_a_wide_page_are_seen(screen, path):
    assert not frozen(screen(changed(path, "position: sticky", "position: static"), 390))
    assert not frozen(screen(changed(path, "z-index: 1;", "z-index: -1;"), 390))
    assert sideways(screen(changed(path, ".scroll { overflow-x: auto; }", ""), 390)) > 100
    assert least_size(screen(changed(path, "font-size: .75rem", "font-size: .7rem"), 390)) < 12


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_text_stands_out(screen, path, width, scheme):
    """Contrast of at least 4.5 : 1 (WCAG 2.2, success criterion 1.4.3), whatever the reader prefers."""
    shown = screen(path, width, scheme)
    found = shown.execute_script(TEXTS + CONTRASTS)
    assert len(found) > 300 and found[0][0] >= 4.5, found[:3]
    page = shown.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert page == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 28)"}[scheme]
    tables = "return getComputedStyle(document.querySelector('.dt-container')).backgroundColor"
    assert shown.execute_script(tables) == page  # the library's own colours do not shine through


@pytest.mark.parametrize(("scheme", "colour", "other"), [("light", "5c6670", "8c96a0"), ("dark", "ffa69e", "a3211b")])
def test_pale_text_is_seen(screen, path, scheme, colour, other):
    shown = screen(changed(path, f"#{colour}", f"#{other}"), 390, scheme)
    assert shown.execute_script(TEXTS + CONTRASTS)[0][0] < 4.5


def test_pictures_are_opaque_and_white_behind(page):
    for _, attributes in [element for element in page.elements if element[0] == "img"]:
        with Image.open(BytesIO(b64decode(attributes["src"].partition(",")[2]))) as image:
            picture = np.asarray(image.convert("RGBA"))
        assert (picture[[0, -1]] == 255).all() and (picture[..., 3] == 255).all()


def test_it_fits_a_sheet(screen, path):
    sheet = screen(path, 1030, "dark", "print")  # A4 across, less its margins
    ask = """const box = document.querySelector(".scroll"), style = getComputedStyle(box);
        const hint = getComputedStyle(document.querySelector(".hint")), page = getComputedStyle(document.body);
        return [box.scrollWidth, style.overflowX, hint.display, page.backgroundColor]"""
    table, *styles = sheet.execute_script(ask)
    assert styles == ["visible", "none", "rgb(255, 255, 255)"]  # no ink for a dark page
    assert table <= 1030 and sideways(sheet) == 0  # all columns are on the sheet
    table, *styles = screen(path, 1030).execute_script(ask)
    assert styles == ["auto", "inline", "rgb(255, 255, 255)"] and table > 1030


@pytest.mark.parametrize("ci", [True, False])
def test_without_chromium(monkeypatch, tmp_path, ci):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true" if ci else "")
    with pytest.raises(pytest.fail.Exception if ci else pytest.skip.Exception, match="make browser"):
        find_chromium()
