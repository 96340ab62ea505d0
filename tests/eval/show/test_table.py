"""One list of columns, three writers."""

import pytest

from worldplan.eval.show.table import NONE, Cell, Column, Table, facts_table, number
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
    assert lines == [["a", "1.250\n[1.000,\n2.000]"], ["b", "–"]]


def test_markdown_holds_every_column_in_single_lines():
    assert TABLE.markdown().splitlines() == [
        "| Name | Cost | Rank |",
        "| --- | --- | --- |",
        "| a | 1.250 [1.000, 2.000] | 1 |",
        "| b | – | – |",
    ]


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
