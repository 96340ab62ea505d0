"""One list of columns, three writers."""

import numpy as np
import pytest

from worldplan.eval.show.table import NONE, Cell, Column, Table, facts_table, number, rate
from worldplan.eval.statistics.estimate import Estimate

TABLE = Table(
    "three columns",
    (Column("Name", "who", named=True), Column("Cost", short="co\nst"), Column("Rank", short="")),
    [[Cell("a", order="a"), number(Estimate(1.25, 1, 2)), Cell("1", order="1")], ["b", NONE, NONE]],
    ["a note"],
)


def test_a_terminal_leaves_out_what_has_no_short_head():
    heads, lines = TABLE.lines()
    assert heads == ["Name", "co\nst"]
    assert lines == [["a", "1.25\n[1.00,\n2.00]"], ["b", "–"]]


def test_markdown_holds_every_column_in_single_lines():
    assert TABLE.markdown().splitlines() == [
        "| Name | Cost | Rank |",
        "| --- | --- | --- |",
        "| a | 1.25 [1.00, 2.00] | 1 |",
        "| b | – | – |",
    ]


def test_a_bar_in_markdown_is_no_new_column():
    assert Table("t", ("|x|",), [["a|b"]]).markdown().splitlines() == ["| \\|x\\| |", "| --- |", "| a\\|b |"]


def test_more_notes_leave_the_table_alone():
    more = TABLE.also("another")
    assert list(more.notes) == ["a note", "another"] and list(TABLE.notes) == ["a note"]
    assert more.rows == TABLE.rows


def test_facts_have_no_heads():
    heads, lines = facts_table("facts", [("what", "much")]).lines()
    assert heads == ["", ""] and lines == [["what", "much"]]


@pytest.mark.parametrize(("scale", "unit", "text"), [(1.0, "", "0.125"), (100.0, "%", "12.5%")])
def test_numbers_in_other_units_are_sorted_as_they_were(scale, unit, text):
    cell = number(0.125, scale, unit)
    assert (cell.text, cell.order) == (text, "0.125")


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.04, "1.04"), (0.0301, "0.030"), (583.2, "583"), (2e-5, "2.0e-05"), (-3e-16, "0"), (0.0, "0")],
)
def test_numbers_and_their_intervals(value, text):
    cell = number(Estimate(value, value, np.nan))
    assert (cell.text, cell.interval, float(cell.order)) == (text, "", value)
    assert cell == number(value)
    assert number(Estimate(value, value, value)).interval == f"{text}, {text}"
    assert number(Estimate(np.nan, 0.0, 1.0)) == number(None) == NONE


def test_shares_are_per_cent_or_so_many_of_a_number():
    share = Estimate(11 / 12, 0.6461, 0.9851)
    assert rate(share) == Cell("91.7%", "64.6%, 98.5%", repr(11 / 12))
    assert rate(share, 12) == Cell("11 of 12", "64.6%, 98.5%", repr(11 / 12))
