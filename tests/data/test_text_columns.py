"""Text columns by the spec that reads them, and what is said of cells that aren't as the others."""

from pathlib import Path

import polars as pl
import pytest
from factories import make_accounts

from gtmar.autospec.first_spec import first_spec
from gtmar.data.scan import scan
from gtmar.errors import AccountDataError, UsageError
from gtmar.journal.catalog import Journal
from gtmar.runs import Limits, run, score, write_table
from gtmar.spec.model import Reading

ACCOUNTS = make_accounts(300)


def written(path: Path, logins: pl.Expr) -> Path:
    ACCOUNTS.with_columns(logins=logins).write_csv(path)
    return path


def test_numbers_but_for_a_few_cells_are_named_with_the_option_that_reads_them(
    tmp_path: Path,
) -> None:
    text = pl.col("logins").cast(pl.String)
    odd = pl.when(pl.int_range(pl.len()) % 50 == 0).then(pl.lit("tbd")).otherwise(text)
    path = written(tmp_path / "a.csv", odd)
    found = first_spec(scan(path))
    assert "logins" not in found.spec.features
    reason = found.left_out["logins"]
    assert 'numbers but for 6 of 300 cells: "tbd"; --nulls "tbd" reads these as unknown' in reason
    assert any("logins" in note for note in found.notes)
    read = first_spec(scan(path), reading=Reading(nulls=("tbd",)))
    assert read.spec.read.nulls == ("tbd",)
    assert read.spec.features["logins"].encode.kind in ("range", "curve")
    assert score(path, read.spec).height == 300


@pytest.mark.parametrize(
    ("kind", "recorded", "cell"),
    [
        ("percent", "percent", pl.format("{}%", "logins")),
        ("money", "money", pl.format("$1,{}.50", 100 + pl.col("logins"))),
        ("money", "money-comma", pl.format("1.{},50 \u20ac", 100 + pl.col("logins"))),
    ],
)
def test_amounts_and_shares_are_read_on_request_and_the_spec_says_so(
    tmp_path: Path, kind: str, recorded: str, cell: pl.Expr
) -> None:
    path = written(tmp_path / "a.csv", cell)
    assert "numbers written as" in first_spec(scan(path)).left_out["logins"]
    found = first_spec(scan(path), reading=Reading.model_validate({"columns": {"logins": kind}}))
    assert found.spec.read.columns == {"logins": recorded}
    plain = {"percent": pl.col("logins") / 100}.get(kind, 1100.5 + pl.col("logins"))
    expected = score(ACCOUNTS.with_columns(logins=plain), found.spec)["score"]
    assert score(path, found.spec)["score"].to_list() == expected.to_list()


def test_a_way_of_writing_that_the_cells_are_not_in_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", pl.format("{}%", "logins"))
    for column, told in {
        "logins": "300 of 300 cells are not written as money",
        "lgins": "logins",
    }.items():
        reading = Reading.model_validate({"columns": {column: "money"}})
        with pytest.raises(AccountDataError, match=told):
            first_spec(scan(path), reading=reading)


def test_what_was_read_as_unknown_is_said_and_recorded(tmp_path: Path) -> None:
    odd = (
        pl.when(pl.col("logins") > 30)
        .then(pl.col("logins").cast(pl.String))
        .otherwise(pl.lit("N/A"))
    )
    path = written(tmp_path / "a.csv", odd)
    spec = first_spec(scan(path)).spec
    said: list[str] = []
    run(path, spec, limits=Limits(3), journal=tmp_path / "j", announce=said.append)
    count = ACCOUNTS.filter(pl.col("logins") <= 30).height
    assert said[0].startswith(f'Read as unknown: {count} "N/A" in logins')
    with Journal(tmp_path / "j") as journal:
        [parameters] = journal.query("select parameters from runs")["parameters"].to_list()
    assert dict(parameters)["reading"] == said[0]


def test_dates_as_text_are_read_as_in_csv(tmp_path: Path) -> None:
    frame = ACCOUNTS.with_columns(since=pl.lit("2026-01-31"))
    frame.write_parquet(tmp_path / "a.parquet")
    found = first_spec(scan(tmp_path / "a.parquet"))
    assert found.left_out["since"] == "a date; encode it with days_before and --as-of"


@pytest.mark.parametrize("place", ["s3://bucket/j", "gs://b/j", "~/j", "s3:/bucket/j"])
def test_a_journal_elsewhere_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = first_spec(scan(ACCOUNTS)).spec
    with pytest.raises(UsageError, match="a journal is a local folder"):
        run(ACCOUNTS, spec, limits=Limits(3), journal=place)
    with pytest.raises(UsageError, match="a journal is a local folder"):
        Journal(place)
    with pytest.raises(UsageError, match="got a URL"):
        write_table(ACCOUNTS, "s3://bucket/scores.parquet")
    assert list(tmp_path.iterdir()) == []
