"""Dates as days: from dates, moments and texts; which day first, in which zone, and without end."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest
from factories import make_spec, weighted
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gtmar.autospec.first_spec import first_spec
from gtmar.cli.app import app
from gtmar.data.matrix import load_accounts
from gtmar.data.prepare import with_days
from gtmar.data.scan import scan
from gtmar.errors import SpecError, UsageError, ViolationsError
from gtmar.integrations.sql import column_kinds, select
from gtmar.runs import (
    Limits,
    backtest,
    check,
    explain,
    refresh,
    replay,
    run,
    score,
    try_weights,
)
from gtmar.spec import load, parse, score_id, spec_id

AS_OF = "2026-06-30"
#: No day above 12: each could be day or month first.
DAYS = [date(2026, m, d) for m in range(1, 6) for d in range(1, 13)]


def spec_of(**more: Any) -> Any:
    return make_spec(
        features={"seen": weighted(1, encode={"kind": "days_before"})},
        max_score=1000,
        tiers={"all": {"min": 0, "max": 1001}},
        base=0,
        split={"holdout": 0},
        **more,
    )


def accounts(seen: Any = None) -> pl.DataFrame:
    n = len(DAYS)
    return pl.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(n)],
            "seen": DAYS if seen is None else seen,
            "retained_6mo": [i % 2 for i in range(n)],
        }
    )


def days(data: Any, spec: Any = None) -> list[float]:
    return score(data, spec or spec_of(), as_of=AS_OF)["score"].to_list()


RIGHT = [float((date(2026, 6, 30) - day).days) for day in DAYS]

WRITTEN = {
    "iso": "%Y-%m-%d",
    "slashes": "%Y/%m/%d",
    "moment": "%Y-%m-%d 23:59:59",
    "iso moment": "%Y-%m-%dT00:00:00",
    "with zone": "%Y-%m-%dT12:00:00Z",
    "with offset": "%Y-%m-%d 12:00:00.5+02:00",
}


@pytest.mark.parametrize("form", list(WRITTEN))
@pytest.mark.parametrize("source", ["csv", "parquet", "frame"])
def test_year_first_is_read_without_asking(form: str, source: str, tmp_path: Path) -> None:
    frame = accounts([day.strftime(WRITTEN[form]) for day in DAYS])
    data: Any = frame
    if source != "frame":
        data = tmp_path / f"a.{source}"
        getattr(frame, f"write_{source}")(data)
    assert days(data) == RIGHT


@pytest.mark.parametrize("form", ["%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%m-%d-%Y", "%m/%d/%y"])
@pytest.mark.parametrize("source", ["csv", "tsv", "parquet"])
def test_day_or_month_first_is_refused_until_it_is_said(
    form: str, source: str, tmp_path: Path
) -> None:
    frame = accounts([day.strftime(form) for day in DAYS])
    data = tmp_path / f"a.{source}"
    if source == "parquet":
        frame.write_parquet(data)
    else:
        frame.write_csv(data, separator="\t" if source == "tsv" else ",")
    with pytest.raises(ViolationsError, match="expected dates, got String") as caught:
        days(data)
    assert "--date-format" in caught.value.message
    assert days(data, spec_of(date_format=form)) == RIGHT


@pytest.mark.slow
@pytest.mark.parametrize("use", ["explain", "backtest", "try", "refresh"])
def test_every_use_of_a_table_takes_the_form_of_its_dates(use: str, tmp_path: Path) -> None:
    form = "%m/%d/%Y"
    texts = accounts([day.strftime(form) for day in DAYS])

    def used(frame: pl.DataFrame, **options: Any) -> Any:
        later = frame.with_columns(account_id="later " + pl.col("account_id"))
        journal: dict[str, Any] = {"journal": tmp_path / f"{len(options)}"}
        if use == "explain":
            return explain("a7", frame, spec_of(), other=spec_of(), as_of=AS_OF, **options)
        if use == "backtest":
            return backtest(frame, spec=spec_of(), as_of=AS_OF, **journal, **options).metrics
        if use == "try":
            changed = {"seen": 2}
            options |= journal
            return try_weights(frame, spec_of(), changed, note="n", as_of=AS_OF, **options).wins
        options |= {**journal, "limits": Limits(2)}
        return refresh(frame, later, spec_of(), as_of=AS_OF, **options).intervals

    with pytest.raises((UsageError, ViolationsError), match="seen"):
        used(texts)
    found, same = used(texts, date_format=form), used(accounts())
    if use == "explain":
        assert found.lines[0].value == same.lines[0].value == str(DAYS[7])
    assert found == same


@pytest.mark.parametrize("form", ["%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y"])
def test_order_that_follows_from_the_column_is_read_and_said(form: str) -> None:
    seen = [*DAYS[1:], date(2026, 5, 31)]
    frame = accounts([day.strftime(form) for day in seen])
    assert days(frame) == [float((date(2026, 6, 30) - day).days) for day in seen]
    told = check(frame, spec_of(), as_of=AS_OF)
    assert any(f'"seen": dates are read as {form}' in note for note in told.notes)


def test_column_of_both_orders_is_refused() -> None:
    seen = ["31/01/2026", "01/31/2026", *(day.strftime("%d/%m/%Y") for day in DAYS[2:])]
    for spec in (spec_of(), spec_of(date_format="%d/%m/%Y")):
        with pytest.raises(ViolationsError, match="expected dates, got String"):
            days(accounts(seen), spec)


def test_leaky_window_is_caught_however_dates_are_written(tmp_path: Path) -> None:
    """Features of May 3rd, outcomes from April 5th; day first, it would be March and May."""
    window = {"features_asof": "asof", "outcome_start": "begin"}
    frame = accounts().with_columns(asof=pl.lit("05/03/2026"), begin=pl.lit("04/05/2026"))
    frame.write_csv(tmp_path / "a.csv")
    with pytest.raises(ViolationsError, match="expects dates, got String") as caught:
        check(tmp_path / "a.csv", spec_of(window=window), as_of=AS_OF)
    assert "--date-format %d/%m/%Y or %m/%d/%Y" in caught.value.message
    with pytest.raises(ViolationsError, match="features_asof not before outcome_start"):
        check(tmp_path / "a.csv", spec_of(window=window), as_of=AS_OF, date_format="%m/%d/%Y")
    check(tmp_path / "a.csv", spec_of(window=window), as_of=AS_OF, date_format="%d/%m/%Y")


@pytest.mark.slow
def test_form_of_dates_is_part_of_a_run(tmp_path: Path) -> None:
    data = tmp_path / "a.csv"
    accounts([day.strftime("%m/%d/%Y") for day in DAYS]).write_csv(data)
    found = run(
        data,
        spec_of(),
        as_of=AS_OF,
        date_format="%m/%d/%Y",
        limits=Limits(3),
        journal=tmp_path / "j",
    )
    assert found.spec.date_format == "%m/%d/%Y"
    assert days(data, spec_of(date_format=found.spec.date_format)) == RIGHT
    assert replay(found.run_id, journal=tmp_path / "j").identical


@pytest.mark.slow
def test_init_writes_the_form_down_and_takes_no_date_for_a_category(tmp_path: Path) -> None:
    frame = accounts([f"0{1 + i % 3}/0{1 + i % 2}/2026" for i in range(len(DAYS))])
    frame = frame.with_columns(logins=pl.int_range(pl.len()))
    frame.write_csv(tmp_path / "a.csv")
    found = first_spec(scan(tmp_path / "a.csv"))
    assert "--date-format" in found.left_out["seen"]
    command = ["init", "--data", str(tmp_path / "a.csv"), "-o", str(tmp_path / "s.yaml")]
    done = CliRunner().invoke(app, [*command, "--date-format", "%m/%d/%Y"])
    assert done.exit_code == 0, done.output
    assert load(tmp_path / "s.yaml").date_format == "%m/%d/%Y"


def test_form_and_zone_are_checked_and_change_the_ids() -> None:
    with pytest.raises(UsageError, match="expected day, month and year"):
        check(accounts(), spec_of(), as_of=AS_OF, date_format="dd/mm")
    text = "model: m\nfeatures: {x: {weight: 1, min: 0, max: 2}}\ntiers: {A: {min: 0, max: 101}}\n"
    with pytest.raises(SpecError, match='no time zone "Mars/North"'):
        parse(f"time_zone: Mars/North\n{text}")
    plain, stated = parse(text), parse(f"date_format: '%m/%d/%Y'\n{text}")
    assert score_id(plain) != score_id(stated)
    assert spec_id(plain) == spec_id(parse(f"time_zone: UTC\n{text}"))


# Zones


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_day_is_taken_in_the_stated_zone_whatever_zone_a_column_has(zone: str, unit: Any) -> None:
    moments = [datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=5 * i) for i in range(len(DAYS))]
    right = [
        float((date(2026, 6, 30) - moment.astimezone(ZoneInfo(zone)).date()).days)
        for moment in moments
    ]
    for own in ("UTC", "Asia/Tokyo", "America/New_York"):
        column = pl.Series(moments, dtype=pl.Datetime(unit, "UTC")).dt.convert_time_zone(own)
        assert days(accounts(column), spec_of(time_zone=zone)) == right


def test_as_of_and_features_take_their_day_in_one_zone() -> None:
    moment = datetime(2026, 6, 30, 23, 30, tzinfo=UTC)
    same = pl.Series([moment] * len(DAYS), dtype=pl.Datetime("us", "UTC"))
    frame = accounts(same.dt.convert_time_zone("Asia/Tokyo")).with_columns(day=same)
    assert set(score(frame, spec_of(as_of="day"))["score"]) == {0.0}


# Without end

KINDS = ["date", "timestamp", "timestamptz", "timestamp_ns"]
THEN, MISSING = [None, {"kind": "range", "from": 0, "to": 365}], [None, {"value": 0}]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "end", "then", "missing"),
    [
        # Each value meets each value of every other parameter; all combinations say no more.
        (kind, end, THEN[(place + minus) % 2], MISSING[(place // 2 + minus) % 2])
        for place, kind in enumerate(KINDS)
        for minus, end in enumerate(["infinity", "-infinity"])
    ],
)
def test_infinite_dates_are_refused_by_number_and_account(
    kind: str, end: str, then: Any, missing: Any, tmp_path: Path
) -> None:
    with duckdb.connect(tmp_path / "a.db") as con:
        con.register("given", accounts())
        con.execute(f"create table a as select * replace (seen::{kind} as seen) from given")
        con.execute(f"update a set seen = '{end}'::{kind} where account_id in ('a3', 'a7')")
    encode = {"kind": "days_before", **({"then": then} if then else {})}
    feature = weighted(1, encode=encode, **({"missing": missing} if missing else {}))
    spec = make_spec(features={"seen": feature})
    with pytest.raises(ViolationsError) as caught:
        load_accounts(scan(f"duckdb:///{tmp_path / 'a.db'}?table=a"), spec, as_of=AS_OF)
    assert 'feature "seen" are infinite' in caught.value.message
    assert f"2 of {len(DAYS)} values" in caught.value.message
    assert '"a3", "a7"' in caught.value.message
    kinds = column_kinds(scan(f"duckdb:///{tmp_path / 'a.db'}?table=a").schema)
    with duckdb.connect(tmp_path / "a.db", read_only=True) as con:
        rows = con.execute(
            f"select account_id, score from ({select(spec, 'a', as_of=AS_OF, kinds=kinds)})"
        ).fetchall()
    assert {name for name, value in rows if value is None} == {"a3", "a7"}


@pytest.mark.parametrize("kind", [pl.Date, pl.Datetime("us"), pl.Datetime("ms")])
def test_dates_from_year_1_to_9999_count_and_none_beyond(kind: Any) -> None:
    ends = [date(1, 1, 1), date(9999, 12, 31), date(1969, 12, 31), *DAYS[3:]]
    encode = {"kind": "days_before", "then": {"kind": "range", "from": -1, "to": 1}}
    spec = make_spec(
        base=0, features={"seen": weighted(1, encode=encode)}, tiers={"A": {"min": 0, "max": 101}}
    )
    frame = accounts(pl.Series(ends)).with_columns(pl.col("seen").cast(kind))
    assert score(frame, spec, as_of=AS_OF)["score"].to_list()[:3] == [1.0, 0.0, 1.0]
    late = frame.with_columns(pl.col("seen").dt.offset_by("8000y"))
    with pytest.raises(ViolationsError, match="outside the years 1 to 9999"):
        score(late, spec, as_of=AS_OF)


def test_infinite_as_of_and_window_are_refused() -> None:
    far = pl.Series([2**31 - 1] * len(DAYS), dtype=pl.Int32).cast(pl.Date)
    frame = accounts().with_columns(day=far)
    with pytest.raises(ViolationsError, match="the spec's as_of are infinite"):
        score(frame, spec_of(as_of="day"))
    with pytest.raises(ViolationsError, match="window features_asof are infinite"):
        check(frame, spec_of(window={"features_asof": "day"}), as_of=AS_OF)


def test_infinite_dates_as_text_are_refused() -> None:
    seen = ["infinity", "-infinity", *(day.isoformat() for day in DAYS[2:])]
    with pytest.raises(ViolationsError, match=f"2 of {len(DAYS)} values of feature"):
        days(accounts(seen))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)), min_size=1, max_size=20))
def test_day_of_a_moment_is_the_calendar_s(moments: list[datetime]) -> None:
    table = scan(pl.DataFrame({"x": pl.Series(moments, dtype=pl.Datetime("us"))}))
    frame = with_days(table, ["x"], date_format=None, zone="UTC").frame
    assert frame.collect()["x"].to_list() == [moment.date() for moment in moments]
