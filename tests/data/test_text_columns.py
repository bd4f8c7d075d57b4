"""Text columns by the spec that reads them, and what is said of cells that aren't as the others."""

import re
import shlex
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from factories import make_accounts, make_spec

from gtmar.autospec.first_spec import first_spec
from gtmar.data.contract import check_contract
from gtmar.data.prepare import settled
from gtmar.data.scan import AccountTable, scan
from gtmar.data.text_columns import HEADER_AGAIN, ONE_CURRENCY
from gtmar.errors import AccountDataError, UsageError, ViolationsError
from gtmar.journal.catalog import Journal
from gtmar.runs import Limits, run, score, write_table
from gtmar.spec.model import Outcomes, Reading

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
    assert 'numbers but for 6 of 300 cells: "tbd"; --nulls tbd reads these as unknown' in reason
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


def test_currencies_of_a_column_beside_the_amounts_are_said() -> None:
    spec, codes = make_spec(), pl.Series(["USD", "EUR"] * (ACCOUNTS.height // 2))
    for name, kind in (("CurrencyIsoCode", pl.String), ("currency", pl.Categorical)):
        mixed = ACCOUNTS.with_columns(codes.cast(kind).alias(name))
        for notes in (check_contract(scan(mixed), spec).notes, first_spec(scan(mixed)).notes):
            assert any(f'"{name}" has 2 currencies, and amounts of mrr' in note for note in notes)
    # One, in two ways of writing it, and unknown for some.
    ways = pl.Series(["USD", " usd", "", None] * (ACCOUNTS.height // 4))
    # By parts, as shards count, each of which has that one.
    for count in (None, lambda table, query: [row(table.frame, query), row(table.frame, query)]):
        one = check_contract(scan(ACCOUNTS.with_columns(currency=ways)), spec, count=count)
        assert not any("currencies" in note for note in one.notes)
    first = first_spec(scan(ACCOUNTS.with_columns(currency=ways)))
    assert not any("currencies" in note for note in first.notes)


def row(frame: pl.LazyFrame, query: Any) -> dict[str, Any]:
    return query(frame).collect().row(0, named=True)  # type: ignore[no-any-return]


def test_amounts_of_several_currencies_are_not_added_up(tmp_path: Path) -> None:
    sign = pl.when(pl.int_range(pl.len()) < 100).then(pl.lit("\u20ac")).otherwise(pl.lit("$"))
    path = written(tmp_path / "a.csv", pl.format("{}{}", sign, "logins"))
    reading = Reading.model_validate({"columns": {"logins": "money"}})
    told = "amounts in 2 currencies: 200 of USD, 100 of EUR"
    with pytest.raises(AccountDataError, match=told) as caught:
        first_spec(scan(path), reading=reading)
    assert caught.value.hint == ONE_CURRENCY
    # A spec of an earlier table, of one currency, is no way round it.
    one = written(tmp_path / "one.csv", pl.format("{}{}", pl.lit("$"), "logins"))
    spec = first_spec(scan(one), reading=reading).spec
    with pytest.raises(ViolationsError) as refused:
        check_contract(scan(path), spec)
    assert [(v.column, v.problem) for v in refused.value.violations] == [("logins", told)]
    with pytest.raises(ViolationsError):
        score(path, spec)


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        (("SEK",), None),
        (("DKK",), None),
        # Whose crowns those without a code are, nothing says.
        (("SEK", "NOK"), "amounts in 3 currencies: 100 of SEK, 100 of kr, 100 of NOK"),
        (("EUR",), "amounts in 2 currencies: 150 of EUR, 150 of kr"),
    ],
)
def test_kr_is_the_crown_whose_code_stands_beside_it(
    tmp_path: Path, codes: tuple[str, ...], told: str | None
) -> None:
    """240 kr beside SEK 240 were two currencies."""
    forms = [*(f"{code} {{}}" for code in codes), "{} kr"]
    row = pl.int_range(pl.len()) % len(forms)
    amount = pl.coalesce(
        pl.when(row == n).then(pl.format(form, "logins")) for n, form in enumerate(forms)
    )
    path = written(tmp_path / "a.csv", amount)
    reading = Reading.model_validate({"columns": {"logins": "money"}})
    if told is None:
        assert "logins" in first_spec(scan(path), reading=reading).spec.features
        return
    with pytest.raises(AccountDataError) as caught:
        first_spec(scan(path), reading=reading)
    start, *counted = re.split(": |, ", told)
    assert start in str(caught.value)
    assert all(each in str(caught.value) for each in counted)


def test_a_sign_and_a_code_are_one_currency_and_unread_columns_may_be_of_several(
    tmp_path: Path,
) -> None:
    row = pl.int_range(pl.len())
    code = pl.when(row % 2 == 0).then(pl.format("$ {}", "logins"))
    path = written(tmp_path / "a.csv", code.otherwise(pl.format("{} USD", "logins")))
    reading = Reading.model_validate({"columns": {"logins": "money"}})
    spec = first_spec(scan(path), reading=reading).spec
    assert score(path, spec).height == 300
    mixed = pl.when(row % 2 == 0).then(pl.lit("$5")).otherwise(pl.lit("5 EUR"))
    amounts = ACCOUNTS.with_columns(mrr=mixed)
    read = spec.model_copy(update={"read": Reading.model_validate({"columns": {"mrr": "money"}})})
    # Scoring reads no outcome.
    assert score(amounts, read).height == 300
    with pytest.raises(ViolationsError, match="1 violation"):
        check_contract(scan(amounts), read)


def test_a_header_among_the_rows_is_named_as_one(tmp_path: Path) -> None:
    text = pl.col("logins").cast(pl.String)
    odd = pl.when(pl.int_range(pl.len()) == 100).then(pl.lit("logins")).otherwise(text)
    path = written(tmp_path / "a.csv", odd)
    spec = first_spec(scan(ACCOUNTS)).spec
    with pytest.raises(ViolationsError) as caught:
        check_contract(scan(path), spec)
    [violation] = caught.value.violations
    assert (violation.column, violation.hint) == ("logins", HEADER_AGAIN)


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


def read(path: Path, separator: str, **cells: list[str]) -> AccountTable:
    table = {name: [*values, *["1"] * (80 - len(values))] for name, values in cells.items()}
    pl.DataFrame({"account_id": range(80), **table}).write_csv(path, separator=separator)
    return scan(path)


@pytest.mark.parametrize(
    ("separator", "cells", "other", "value"),
    [
        (";", ["1.200", "600"], ["12,5"], 1200.0),
        (";", ["1.200", "600"], ["12.5"], 1.2),
        (",", ["1.200", "600"], ["1.234,50"] * 80, 1200.0),
        (";", ["1.200", "0.5"], ["2"], 1.2),
        (";", ["1.200", "1600"], ["2"], 1.2),
        (";", ["1,200", "600"], ["12.5"], 1200.0),
        (";", ["1,200", "600"], ["12,5"], 1.2),
        (";", ["1,200", "0,125"], ["2"], 1.2),
        (";", ["0.123", "0.456"], ["2"], 0.123),
        ("\t", ["1.200", "600"], ["2"], 1.2),
        (",", ["1.200", "600"], ["2"], 1.2),
        (",", ["12.345", "3.250"] * 40, ["2"], 12.345),
        (",", ["12.345", "3.250"] * 40, ["75.5"], 12.345),
    ],
)
def test_cells_of_a_column_and_a_file_settle_what_stands_before_three_digits(
    tmp_path: Path, separator: str, cells: list[str], other: list[str], value: float
) -> None:
    table = read(tmp_path / "a.csv", separator, x=cells, y=other)
    assert table.frame.select("x").head(1).collect().item() == value
    if value == 1200.0:
        assert table.texts is not None
        assert "Read with thousands" in table.texts.notes(["x"])[0]


@pytest.mark.parametrize(
    ("separator", "cells", "other", "options"),
    [
        (";", ["1.200", "600"], ["2"], ("money-comma", "number")),
        (";", ["1,200", "600"], ["2"], ("money", "decimal-comma")),
        (",", ["1.200"] * 60 + ["600"] * 20, ["2"], ("money-comma", "number")),
        (",", ["1.200"] * 60 + ["600"] * 20, ["75.5"], ("money-comma", "number")),
    ],
)
def test_what_may_be_a_thousand_is_asked_for_by_options_that_read_it(
    tmp_path: Path, separator: str, cells: list[str], other: list[str], options: tuple[str, str]
) -> None:
    table = read(tmp_path / "a.csv", separator, x=cells, y=other)
    for option in options:
        assert option in str(table.unlike("x"))
        reading = settled(table, Reading.model_validate({"columns": {"x": option}}))
        value = table.detected(reading).frame.select("x").head(1).collect().item()
        assert value == (1200.0 if "money" in option else 1.2)


def test_a_first_spec_records_the_thousands_that_other_columns_showed(tmp_path: Path) -> None:
    number = pl.col("logins") * 100 + 1_000
    text = number.cast(pl.String).str.replace(r"^(\d+)(\d{3})$", "$1.$2")
    money = pl.col(pl.Float64).cast(pl.String).str.replace(".", ",", literal=True)
    path = tmp_path / "a.csv"
    ACCOUNTS.with_columns(money, logins=text).write_csv(path, separator=";")
    spec = first_spec(scan(path)).spec
    assert spec.read.columns == {"logins": "money-comma"}
    expected = score(ACCOUNTS.with_columns(logins=number), spec)["score"]
    assert score(path, spec)["score"].to_list() == expected.to_list()


@pytest.mark.parametrize("form", ["units", "shares"])
def test_numbers_with_units_or_in_two_forms_are_called_so(tmp_path: Path, form: str) -> None:
    number = pl.int_range(pl.len())
    days = pl.format("{} days", number)
    shares = (
        pl.when(number % 2 == 0).then(pl.format("{}%", number)).otherwise(pl.format("0.{}", number))
    )
    path = written(tmp_path / "a.csv", days if form == "units" else shares)
    found = first_spec(scan(path))
    assert "numbers with units, or in several forms" in found.left_out["logins"]
    assert any("Store the numbers alone" in note for note in found.notes)


def test_codes_with_zeros_before_them_are_no_numbers_with_units(tmp_path: Path) -> None:
    codes = pl.int_range(pl.len()).cast(pl.String).str.zfill(6)
    found = first_spec(scan(written(tmp_path / "a.csv", codes)))
    assert found.left_out["logins"].startswith("free text or an identifier")
    assert not any("Store the numbers alone" in note for note in found.notes)


def test_amounts_with_units_are_shown(tmp_path: Path) -> None:
    ACCOUNTS.with_columns(mrr=pl.format("{}k", "mrr")).write_csv(tmp_path / "a.csv")
    with pytest.raises(
        AccountDataError, match=r'expects numbers, got String: "\d+\.\d+k"'
    ) as caught:
        first_spec(scan(tmp_path / "a.csv"))
    assert caught.value.hint == "store the amounts alone, as numbers"


def test_outcomes_that_are_no_numbers_are_all_named_and_options_fit_a_shell(tmp_path: Path) -> None:
    written_as = {"mrr": "MRR in US", "mrr_end": "MRR, end"}
    money = [pl.format("${}", name).alias(column) for name, column in written_as.items()]
    share = pl.format("{},5 %", pl.int_range(1, pl.len() + 1))
    table = ACCOUNTS.with_columns(*money, share=share).drop(*written_as)
    table.write_csv(tmp_path / "a.csv")
    roles = Outcomes(mrr="MRR in US", mrr_end="MRR, end")
    with pytest.raises(AccountDataError) as caught:
        first_spec(scan(tmp_path / "a.csv"), outcomes=roles)
    hint = str(caught.value.hint)
    for role, column in written_as.items():
        assert f'column "{column}": outcome {role} expects numbers' in str(caught.value)
        assert shlex.quote(f"{column}=money") in hint
    columns = dict.fromkeys(written_as.values(), "money")
    reading = Reading.model_validate({"columns": columns})
    found = first_spec(scan(tmp_path / "a.csv"), outcomes=roles, reading=reading)
    # What is read on request is not said to be left out; what nobody asked for is.
    [note] = [each for each in found.notes if "is left out" in each]
    assert note.startswith('Column "share" is left out: numbers written as percent-comma. ')
    columns["share"] = "percent-comma"
    reading = Reading.model_validate({"columns": columns})
    found = first_spec(scan(tmp_path / "a.csv"), outcomes=roles, reading=reading)
    assert not [each for each in found.notes if "is left out" in each]
    assert "share" in found.spec.features
