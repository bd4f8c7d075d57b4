"""Days and moments stored as ISO text make the same table as the columns that they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pytest
from histories import DAY, random_history, recipe_text
from snapshot_tables import snapshot_table

from gtmar.errors import RecipeError
from gtmar.snapshots.raw_columns import with_dates
from gtmar.snapshots.recipe import parse

if TYPE_CHECKING:
    from pathlib import Path


def as_text(path: Path, kind: pl.DataType) -> int:
    """Store a file's days and moments as text; return how many columns that were."""
    frame = pl.read_parquet(path)
    dated = [n for n, t in frame.schema.items() if t == pl.Date or isinstance(t, pl.Datetime)]
    texts = [
        pl.col(n).cast(pl.String) if frame.schema[n] == pl.Date else pl.col(n).dt.to_string("iso")
        for n in dated
    ]
    frame.with_columns(text.cast(kind) for text in texts).write_parquet(path)
    return len(dated)


@pytest.mark.parametrize("kind", [pl.String(), pl.Categorical()], ids=str)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_history_with_days_as_text_makes_the_same_table(
    tmp_path: Path, seed: int, kind: pl.DataType
) -> None:
    random_history(seed).write(tmp_path)
    recipe = parse(recipe_text(tmp_path))
    before = snapshot_table(recipe, DAY)
    assert sum(as_text(path, kind) for path in tmp_path.glob("*.parquet")) > 3
    assert snapshot_table(recipe, DAY).equals(before)


def test_text_that_is_no_iso_day_is_refused_as_text(tmp_path: Path) -> None:
    random_history(1).write(tmp_path)
    wrong = 0
    for path in tmp_path.glob("*.parquet"):
        if as_text(path, pl.String()):
            frame = pl.read_parquet(path)
            texts = [n for n, t in frame.schema.items() if t == pl.String]
            last = pl.int_range(pl.len()) == pl.len() - 1
            frame.with_columns(
                pl.when(last & pl.col(n).str.contains(r"^\d{4}-"))
                .then(pl.lit("01/02/2024"))
                .otherwise(pl.col(n))
                .alias(n)
                for n in texts
            ).write_parquet(path)
            wrong += 1
    assert wrong
    with pytest.raises(RecipeError, match="must hold dates, got VARCHAR"):
        snapshot_table(parse(recipe_text(tmp_path)), DAY)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["2024-01-31", " 2024-2-1 ", ""], "DATE"),
        (["2024-01-31T10:00", "2024-01-31 10:00:00.5"], "TIMESTAMP"),
        (["2024-01-31T10:00:00Z", "2024-01-31 12:00+02:00"], "TIMESTAMP WITH TIME ZONE"),
        (["2024-13-01"], "VARCHAR"),
        (["2024-01-31", "soon"], "VARCHAR"),
        (["", " "], "VARCHAR"),
    ],
)
def test_what_texts_are_read_as(texts: list[str], kind: str) -> None:
    with duckdb.connect() as connection:
        listed = ", ".join(f"('{text}')" for text in texts)
        rows = with_dates(
            connection, f"select * from (values {listed}) t(d)", ("d", None, "absent")
        )
        assert connection.execute(f"describe {rows}").fetchall()[0][1] == kind
        if kind.endswith("ZONE"):
            moments = connection.execute(f"select distinct epoch(d) from ({rows})").fetchall()
            assert moments == [(1706695200.0,)]
