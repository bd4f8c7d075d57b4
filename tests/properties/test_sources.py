"""The same accounts from any source give one fingerprint, one holdout and one digest."""

import gzip
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from raw_tables import MORE

from gtmar import spec as specs
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.errors import GtmarError
from gtmar.runs import score

SPEC = specs.parse(
    """
model: sources
id: account_id
split: {holdout: 0.4}
features:
  code:
    weight: 10
    min: -20
    max: 20
    encode: {kind: one_of, values: {"10": 1, "20": 0.5, "30": 0.25}, default: 0}
    missing: {value: 0.1}
  zip:
    weight: 5
    min: -20
    max: 20
    encode: {kind: one_of, values: {"01": 1, "02": 0.4}, default: 0}
    missing: {value: 0.2}
  flag:
    weight: 5
    min: -20
    max: 20
    encode: {kind: one_of, values: {"true": 1, "false": 0.3}}
    missing: {value: 0.6}
  logins: {weight: 7, min: -9, max: 9, encode: {kind: range, from: 0, to: 60}, missing: {value: 0}}
  since:
    weight: 3
    min: -9
    max: 9
    encode: {kind: days_before, then: {kind: range, from: 0, to: 900}}
    missing: {value: 0}
  plan:
    encode:
      kind: bins
      bins:
        "1": {weight: 4, min: 0, max: 9}
        "2.5": {weight: 2, min: 0, max: 9}
        other: {weight: 1, min: 0, max: 9}
        missing: {weight: 0, min: 0, max: 9}
tiers:
  A: {min: 50, max: 101}
  B: {min: 0, max: 50}
"""
)
AS_OF = "2026-06-30"
CODES, ZIPS, PLANS = (10, 20, 30, 40), ("01", "02", "03"), (1.0, 2.5, 7.0)


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    """Draw an account table in which every category of the spec stands."""
    size = draw(st.integers(12, 40))

    def column(values: st.SearchStrategy[Any], *, first: tuple[Any, ...] = ()) -> list[Any]:
        rest = draw(
            st.lists(st.none() | values, min_size=size - len(first), max_size=size - len(first))
        )
        return [*first, *rest]

    days = st.integers(0, 900).map(lambda days: date(2026, 6, 29) - timedelta(days))
    labels = draw(st.lists(st.integers(0, 1), min_size=size - 2, max_size=size - 2))
    return pl.DataFrame(
        {
            "account_id": [f"{place:05}" for place in range(size)],
            "code": pl.Series(column(st.sampled_from(CODES), first=CODES), dtype=pl.Int64),
            "zip": pl.Series(column(st.sampled_from(ZIPS), first=ZIPS), dtype=pl.String),
            "flag": pl.Series(column(st.booleans(), first=(True, False)), dtype=pl.Boolean),
            "logins": pl.Series(column(st.integers(0, 99), first=(3, 4)), dtype=pl.Int64),
            "since": pl.Series(column(days, first=(date(2026, 1, 1),)), dtype=pl.Date),
            "plan": pl.Series(column(st.sampled_from(PLANS), first=PLANS), dtype=pl.Float64),
            "retained_6mo": [0, 1, *labels],
            "mrr": draw(
                st.lists(st.integers(0, 10**6).map(lambda c: c / 100), min_size=size, max_size=size)
            ),
        }
    )


@dataclass(frozen=True)
class Way:
    """A way in for a table: what is done to it, and what is then given to gtmar."""

    name: str
    give: Callable[[pl.DataFrame, Path], Any]


def csv(separator: str = ",", **more: Any) -> Callable[[pl.DataFrame, Path], Path]:
    def give(frame: pl.DataFrame, folder: Path) -> Path:
        path = folder / "a.csv"
        frame.write_csv(path, separator=separator, **more)
        return path

    return give


def text(change: Callable[[str], bytes], name: str = "a.csv") -> Callable[..., Path]:
    def give(frame: pl.DataFrame, folder: Path) -> Path:
        path = folder / name
        path.write_bytes(change(frame.write_csv()))
        return path

    return give


def european(frame: pl.DataFrame, folder: Path) -> Path:
    path = folder / "a.csv"
    frame.write_csv(path, separator=";", decimal_comma=True)
    return path


def typed(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[..., Path]:
    def give(frame: pl.DataFrame, folder: Path) -> Path:
        path = folder / "a.parquet"
        change(frame).write_parquet(path)
        return path

    return give


def parts(frame: pl.DataFrame, folder: Path) -> Path:
    """Write parts of which one has doubles for integers, and another integers of half the size."""
    floats = frame.slice(0, 5).with_columns(pl.col("code", "logins").cast(pl.Float64))
    floats.write_parquet(folder / "a.parquet")
    small = frame.slice(5, 4).with_columns(pl.col("code", "logins").cast(pl.Int32))
    small.write_parquet(folder / "b.parquet")
    frame.slice(9).write_parquet(folder / "c.parquet")
    return folder


def table_of_duckdb(frame: pl.DataFrame, folder: Path) -> str:
    with duckdb.connect(folder / "crm.db") as connection:
        connection.register("frame", frame)
        connection.execute("create schema marts; create table marts.accounts as from frame")
        connection.execute("create table accounts as select * replace (0 as logins) from frame")
        connection.execute("alter table marts.accounts add column age interval")
    return f"duckdb:///{folder}/crm.db?table=marts.accounts"


def arrow(frame: pl.DataFrame, folder: Path) -> Path:
    path = folder / "a.arrow"
    frame.with_columns(pl.col("zip").cast(pl.Categorical)).write_ipc(path)
    return path


def hive(frame: pl.DataFrame, folder: Path) -> Path:
    for (code,), part in frame.partition_by("zip", as_dict=True).items():
        inside = folder / f"zip={'__HIVE_DEFAULT_PARTITION__' if code is None else code}"
        inside.mkdir()
        part.drop("zip").write_csv(inside / "part.csv")
    return folder


def pandas_objects(frame: pl.DataFrame, _: Path) -> Any:
    whole = frame.to_pandas()
    whole["since"] = whole["since"].astype("datetime64[ns]")
    whole["mixed"] = [1, "x"] * (len(whole) // 2) + [2.5] * (len(whole) % 2)
    return whole


def pandas_typed(frame: pl.DataFrame, _: Path) -> Any:
    whole = frame.to_pandas().convert_dtypes()
    return whole.assign(zip=whole["zip"].astype("category"))


def written_by_pandas(frame: pl.DataFrame, folder: Path) -> Path:
    path = folder / "a.csv"
    frame.to_pandas().to_csv(path, index=False)
    return path


def as_text(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.all().cast(pl.String))


def as_decimals(frame: pl.DataFrame) -> pl.DataFrame:
    exact = pl.Decimal(20, 2)
    code = frame["code"].cast(pl.Float64)
    return frame.with_columns(pl.col("plan", "mrr").cast(exact), code=code.cast(exact))


WAYS = [
    Way("csv", csv()),
    Way("semicolons", csv(";")),
    Way("tabs", csv("\t")),
    Way("semicolons and decimal commas", european),
    Way("quoted", csv(quote_style="always")),
    Way("byte order mark", csv(include_bom=True)),
    Way("CRLF", csv(line_terminator="\r\n")),
    Way("NULL", csv(null_value="NULL")),
    Way("n/a", csv(null_value=" n/a ")),
    Way("sep=", text(lambda t: f"sep=,\n{t}".encode())),
    Way("gz", text(lambda t: gzip.compress(t.encode()), "a.csv.gz")),
    Way("txt", text(lambda t: t.replace(",", "\t").encode(), "a.txt")),
    Way("blanks in the header", text(lambda t: t.replace(",", " ,", 3).encode())),
    Way("capitals", text(lambda t: t.replace("mrr", "MRR").replace("ret", "Ret").encode())),
    Way("written by pandas", written_by_pandas),
    Way("parquet", typed(lambda frame: frame)),
    Way("parquet of text", typed(as_text)),
    Way("parquet of decimals", typed(as_decimals)),
    Way("parquet of unlike parts", parts),
    Way("arrow", arrow),
    Way("hive", hive),
    Way("pandas objects", pandas_objects),
    Way("pandas types", pandas_typed),
    Way("arrow table", lambda frame, _: frame.to_arrow()),
    Way("duckdb", table_of_duckdb),
]


def read_from(data: Any) -> tuple[str, str, list[Any]]:
    accounts = load_accounts(scan(data), SPEC, as_of=AS_OF)
    scored = score(data, SPEC, as_of=AS_OF)
    rows = scored.with_columns(pl.col("account_id").cast(pl.String)).sort("account_id").rows()
    return accounts.outcomes_fingerprint, accounts.features_fingerprint, rows


def all_ways_agree(frame: pl.DataFrame, ways: list[Way]) -> None:
    expected = read_from(frame)
    for way in ways:
        with tempfile.TemporaryDirectory() as folder:
            try:
                got = read_from(way.give(frame, Path(folder)))
            except GtmarError as err:
                raise AssertionError(f"{way.name}: {err}") from err
            assert got == expected, way.name


#: To shrink a table that fails takes minutes; its ways are named as it is.
QUICKLY = settings(deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))


@pytest.mark.slow
def test_the_same_accounts_however_they_come() -> None:
    """Each way in has a table of its own; `GTMAR_HISTORIES=20` gives each as many."""
    parts, tried = 3, list[set[str]]()

    @settings(QUICKLY, max_examples=parts * MORE)
    @given(tables())
    def each(frame: pl.DataFrame) -> None:
        ways = WAYS[len(tried) % parts :: parts]
        all_ways_agree(frame, ways)
        tried.append({way.name for way in ways})

    each()
    assert set().union(*tried) == {way.name for way in WAYS}


SPELLINGS: dict[str, list[Any]] = {
    "integers": [10, 20, 30, 40],
    "doubles": [10.0, 20.0, 30.0, 40.0],
    "decimals": [Decimal("10.00"), Decimal("20.00"), Decimal("30.00"), Decimal("40.00")],
    "text": ["10", "20", "30", "40"],
    "text of doubles": ["10.0", "20.0", "30.0", "40.00"],
}


@pytest.mark.slow
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_code_is_the_same_category_however_it_is_written(spelling: str) -> None:
    frame = pl.DataFrame(
        {
            "account_id": list("abcd"),
            "code": pl.Series(SPELLINGS[spelling]),
            "zip": ["01", "02", "03", None],
            "flag": [True, False, None, True],
            "logins": [1, 2, 3, 4],
            "since": [date(2026, 1, 1)] * 4,
            "plan": [1.0, 2.5, 7.0, None],
        }
    )
    got = score(frame, SPEC, as_of=AS_OF)
    assert got["points.code"].to_list() == [10, 5, 2.5, 0]
    assert got["points.zip"].to_list() == [5, 2, 0, 1]
    assert got["points.flag"].to_list() == [5, 1.5, 3, 5]
    assert got["points.plan[1]"].to_list() == [4, 0, 0, 0]
    assert got["points.plan[2.5]"].to_list() == [0, 2, 0, 0]
