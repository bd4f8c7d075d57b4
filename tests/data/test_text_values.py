"""Text cells as values: what each kind reads, and what a column is taken for."""

from datetime import date, datetime
from typing import Any

import polars as pl
import pytest

from gtmar.data.text_columns import NULL_MARKERS, Content, Kind, cleaned, contents, converted


def values(kind: Kind, *cells: str | None) -> list[Any]:
    frame = pl.DataFrame({"x": pl.Series(cells, dtype=pl.String)})
    return frame.select(converted(cleaned(pl.col("x")), kind).alias("x"))["x"].to_list()


def content(*cells: str | None, **more: Any) -> Content:
    frame = pl.DataFrame({"x": pl.Series(cells, dtype=pl.String)})
    return contents(frame.lazy(), ["x"], pl.LazyFrame.collect, **more)["x"]


@pytest.mark.parametrize("marker", [*NULL_MARKERS, "", " ", "\t"])
def test_a_marker_of_nothing_is_null_blanks_around_it_or_not(marker: str) -> None:
    assert values(Kind.INTEGER, "1", marker, f"  {marker} ") == [1, None, None]
    assert values(Kind.TEXT, "a", marker) == ["a", None]
    assert content("1", "2", marker).kind is Kind.INTEGER


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        (Kind.NUMBER, "1e3", 1000.0),
        (Kind.NUMBER, " -0.5", -0.5),
        (Kind.NUMBER, "1,5", None),
        (Kind.NUMBER, "1_000", None),
        (Kind.INTEGER, "9007199254740993", 9007199254740993),
        (Kind.INTEGER, "1.0", None),
        (Kind.BOOLEAN, "TRUE", True),
        (Kind.BOOLEAN, "False", False),
        (Kind.BOOLEAN, "1", None),
        (Kind.DATE, "2026-01-31", date(2026, 1, 31)),
        (Kind.DATE, "2026-02-30", None),
        (Kind.DATE, "31/01/2026", None),
        (Kind.DATETIME, "2026-01-31T23:30:00-05:00", datetime(2026, 1, 31, 23, 30)),
        (Kind.DATETIME, "2026-01-31 23:30", datetime(2026, 1, 31, 23, 30)),
        (Kind.PERCENT, "45%", 0.45),
        (Kind.PERCENT, "12.5 %", 0.125),
        # Which 94.7 / 100 in doubles is not.
        (Kind.PERCENT, "94.7%", 0.947),
        (Kind.PERCENT, "45", None),
        (Kind.PERCENT, "47,5 %", None),
        (Kind.PERCENT_COMMA, "47,5 %", 0.475),
        (Kind.PERCENT_COMMA, "-12%", -0.12),
        (Kind.PERCENT_COMMA, "47.5 %", None),
        (Kind.DECIMAL_COMMA, "1,5", 1.5),
        (Kind.DECIMAL_COMMA, "1.5", None),
        (Kind.MONEY, "$1,234.50", 1234.5),
        (Kind.MONEY, "-$1,234", -1234.0),
        (Kind.MONEY, "(1,234.5)", -1234.5),
        (Kind.MONEY, "USD 12", 12.0),
        (Kind.MONEY, "1.234,50", None),
        (Kind.MONEY, "1,23", None),
        (Kind.MONEY_COMMA, "1.234,50 \u20ac", 1234.5),
        (Kind.MONEY_COMMA, "1\u00a0234,5 EUR", 1234.5),
        (Kind.MONEY_COMMA, "$1,234.50", None),
    ],
)
def test_what_a_kind_reads(kind: Kind, cell: str, value: Any) -> None:
    assert values(kind, cell) == [value]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (("1", "2", "-3"), Kind.INTEGER),
        (("1", "2.5"), Kind.NUMBER),
        (("01", "2", "3"), Kind.TEXT),
        (("0", "0.5"), Kind.NUMBER),
        (("True", "false"), Kind.BOOLEAN),
        (("2026-01-31", "-"), Kind.DATE),
        (("2026-01-31", "2026-01-31 10:00"), Kind.DATETIME),
        (("31/01/2026", "01/02/2026"), Kind.TEXT),
        (("a", "1"), Kind.TEXT),
        ((None, "NULL"), Kind.TEXT),
    ],
)
def test_what_a_column_is_taken_for(cells: tuple[str | None, ...], kind: Kind) -> None:
    assert content(*cells).kind is kind


def test_all_rows_are_asked_and_not_the_first_ones() -> None:
    assert content(*["1"] * 12_000, "2.5").kind is Kind.NUMBER
    late = content(*["1"] * 12_000, "many", "none at all")
    assert (late.kind, late.nearly, late.other_cells) == (Kind.TEXT, Kind.INTEGER, 2)
    assert late.others == ("many", "none at all")


def test_a_comma_is_decimal_only_where_a_cell_shows_it() -> None:
    assert content("1,5", "2", comma=True).kind is Kind.DECIMAL_COMMA
    assert content("1,5", "2").kind is Kind.TEXT
    assert content("1,234", "2", comma=True).kind is Kind.TEXT


def test_markers_are_counted_and_other_ones_may_be_named() -> None:
    assert content("1", "NULL", "-", "-").markers == {"-": 2, "NULL": 1}
    assert content("1", "tbd", nulls=["tbd"]).kind is Kind.INTEGER
    assert content("1", "-", nulls=[]).kind is Kind.TEXT


@pytest.mark.parametrize("nulls", [NULL_MARKERS, (), ("-999",), ("inf",)])
def test_columns_of_plain_numbers_are_what_the_slow_way_finds(
    nulls: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Cells by column, a blank between them; an empty one is null.
    columns = ["1 2 ", "1 2.5 -3e2", "01 2 3", "1 NaN 2", "1 -999 2", "1.5 inf 2", "1 n/a 2", "  "]
    columns += ["\u00a01 2\t 3", f"{'9' * 30} 1 2", "+1 -0 0"]
    cells = [[cell or None for cell in column.split(" ")] for column in columns]
    lazy = pl.LazyFrame({f"x{i}": pl.Series(c, dtype=pl.String) for i, c in enumerate(cells)})
    names = lazy.collect_schema().names()
    got = contents(lazy, names, pl.LazyFrame.collect, nulls=nulls)
    monkeypatch.setattr("gtmar.data.text_columns._bare_numbers", lambda *_: {})
    assert got == contents(lazy, names, pl.LazyFrame.collect, nulls=nulls)
    for name, content in got.items():
        if content.bare:
            text = converted(pl.col(name), content.kind)
            same = text.eq_missing(converted(cleaned(pl.col(name), nulls), content.kind))
            assert lazy.select(same.all()).collect().item()
    assert any(content.bare for content in got.values()) or nulls in (("-999",), ("inf",))
