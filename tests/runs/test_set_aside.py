"""Rows that break the data contract, set aside: counted, written, recorded, and the same again."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from factories import make_spec, weighted
from typer.testing import CliRunner

from gtmar.autospec.first_spec import first_spec
from gtmar.cli.app import app
from gtmar.data.matrix import load_accounts
from gtmar.data.rules import RowRule, leave_out
from gtmar.data.scan import scan
from gtmar.errors import AccountDataError, NotResumableError, UsageError, ViolationsError
from gtmar.journal.files import RunFiles
from gtmar.runs import (
    Limits,
    backtest,
    check,
    decide,
    drift,
    record,
    refresh,
    replay,
    run,
    score,
    try_weights,
)

N = 400
SPEC = make_spec(features={"logins": weighted(20)})


def accounts(*, total: bool = False) -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(N)],
            "logins": [i * 7919 % 50 for i in range(N)],
            "retained_6mo": [int(i * 7919 % 50 > 15 or i % 9 == 0) for i in range(N)],
            "mrr": [100.0 + i for i in range(N)],
        }
    )
    if total:
        last = {"account_id": "Total", "logins": None, "retained_6mo": 1, "mrr": frame["mrr"].sum()}
        frame = pl.concat([frame, pl.DataFrame([last], schema=frame.schema)])
    return frame


def broken() -> pl.DataFrame:
    """Return accounts of which three break the contract, one of them twice."""
    place = pl.int_range(pl.len())
    return accounts().with_columns(
        mrr=pl.when(place == 7).then(-5.0).when(place == 9).then(None).otherwise("mrr"),
        logins=pl.when(place.is_in([7, 11])).then(None).otherwise("logins"),
    )


def right() -> pl.DataFrame:
    return accounts().filter(~pl.int_range(pl.len()).is_in([7, 9, 11]))


RULES = {
    'values of feature "logins" are null': 2,
    "values of mrr are negative": 1,
    "values of mrr are unknown for current accounts": 1,
}


def invoked(*args: str) -> Any:
    return CliRunner().invoke(app, list(args))


def test_rows_that_break_the_contract_are_refused_unless_asked() -> None:
    with pytest.raises(ViolationsError) as caught:
        load_accounts(scan(broken()), SPEC)
    assert caught.value.set_aside == (3, N)
    loaded = load_accounts(scan(broken()), SPEC, set_aside=0.01)
    assert loaded.checked.set_aside.counts == RULES
    assert loaded.checked.set_aside.rows == 3
    same = load_accounts(scan(right()), SPEC)
    assert loaded.outcomes_fingerprint == same.outcomes_fingerprint
    assert loaded.features_fingerprint == same.features_fingerprint


def test_more_than_the_stated_share_is_refused() -> None:
    with pytest.raises(
        AccountDataError, match=r"3 of 400 rows break the data contract, 0\.75%"
    ) as e:
        load_accounts(scan(broken()), SPEC, set_aside=0.005)
    assert "--set-aside 0.008" in str(e.value.hint)
    load_accounts(scan(broken()), SPEC, set_aside=0.008)
    with pytest.raises(UsageError, match=r"must be in \[0, 1\)"):
        load_accounts(scan(broken()), SPEC, set_aside=1.5)


def test_later_readings_ask_only_the_rules_that_rows_were_left_out_for() -> None:
    rules = [
        RowRule("mrr", pl.col("mrr") < 0, "negative"),
        RowRule("logins", pl.col("logins") > 54_321, "large"),
        RowRule("logins", pl.col("logins").is_null(), "null"),
    ]
    left, aside = leave_out(scan(broken()), rules, 0.1)
    assert aside.counts == {"negative": 1, "null": 2}
    assert "54321" not in left.frame.explain()
    gone = pl.int_range(pl.len()).is_in([7, 11])
    assert left.frame.collect().equals(broken().filter(~gone))
    assert aside.written()["set_aside_for"].to_list() == ["negative; null", "null"]


def test_what_no_row_is_to_blame_for_is_still_refused() -> None:
    with pytest.raises(ViolationsError, match="no such column") as caught:
        load_accounts(scan(broken().drop("logins")), SPEC, set_aside=0.01)
    with pytest.raises(ViolationsError, match="no such column") as caught:
        load_accounts(scan(broken().drop("logins")), SPEC)
    assert caught.value.set_aside is None


def test_ids_that_stand_twice_and_nulls_are_set_aside_together() -> None:
    frame = accounts().with_columns(
        account_id=pl.when(pl.col("account_id") == "a3").then(pl.lit("a4")).otherwise("account_id")
    )
    loaded = load_accounts(scan(frame), SPEC, set_aside=0.01)
    assert loaded.checked.set_aside.counts == {"rows share their account id with another": 2}
    assert loaded.checked.accounts == N - 2


@pytest.mark.slow
def test_run_records_what_it_set_aside_and_does_it_again(tmp_path: Path) -> None:
    data, journal = tmp_path / "a.parquet", tmp_path / "j"
    broken().write_parquet(data)
    aside = tmp_path / "aside.csv"
    found = run(data, SPEC, limits=Limits(20), journal=journal, set_aside=0.01, set_aside_to=aside)
    plain = run(right(), SPEC, limits=Limits(20), journal=tmp_path / "other")
    assert found.digest == plain.digest
    kept = dict(RunFiles(journal, found.run_id).record("start")["parameters"])
    assert float(kept["set_aside"]) == 0.01
    assert {k[10:]: int(v) for k, v in kept.items() if k.startswith("set_aside.")} == RULES
    rows = pl.read_csv(aside)
    assert rows["account_id"].to_list() == ["a7", "a9", "a11"]
    assert "are negative; " in rows["set_aside_for"][0] or "are null; " in rows["set_aside_for"][0]
    assert replay(found.run_id, journal=journal).identical
    assert decide(found.run_id, journal=journal).verdict
    broken().with_columns(
        mrr=pl.when(pl.col("account_id") == "a20").then(-1.0).otherwise("mrr")
    ).write_parquet(data)
    with pytest.raises(NotResumableError, match="ids, outcomes or split"):
        replay(found.run_id, journal=journal)


@pytest.mark.slow
def test_a_file_that_is_there_is_kept_and_the_rows_get_another_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("x\n1\n")
    for _ in range(2):
        found = check(broken(), SPEC, set_aside=0.01, set_aside_to=path)
        assert any("mine-2.csv" in note for note in found.notes)
    assert path.read_text() == "x\n1\n"
    assert {file.name for file in tmp_path.iterdir()} == {"mine.csv", "mine-2.csv"}


@pytest.mark.slow
def test_check_prints_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    broken().write_parquet("a.parquet")
    Path("s.json").write_text(SPEC.model_dump_json(by_alias=True, exclude_defaults=True))
    refused = invoked("check", "--data", "a.parquet", "--spec", "s.json")
    assert refused.exit_code == 3
    command = "gtmar check --data a.parquet --spec s.json --set-aside 0.01"
    assert command in refused.output
    assert "3 of 400 rows (0.75%)" in refused.output
    done = invoked(*command.split()[1:])
    assert done.exit_code == 0, done.output
    assert "3 rows that break the data contract are set aside" in done.output
    assert pl.read_csv("set-aside.csv").height == 3
    bare = invoked("check", "--data", "a.parquet", "--set-aside", "--spec", "s.json", "--json")
    assert bare.exit_code == 0, bare.output
    assert json.loads(bare.stdout)["set_aside"] == RULES


@pytest.mark.slow
def test_init_and_score_set_rows_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    broken().write_csv("a.csv")
    found = first_spec(scan(broken()), set_aside=0.01)
    assert found.set_aside.rows == 2  # a feature's null is no fault before there is a spec
    done = invoked("init", "--data", "a.csv", "-o", "s.yaml", "--set-aside")
    assert done.exit_code == 0, done.output
    assert "2 rows that break the data contract are set aside" in done.output
    Path("s.json").write_text(SPEC.model_dump_json(by_alias=True, exclude_defaults=True))
    options = ["--data", "a.csv", "--spec", "s.json", "-o", "out.parquet"]
    assert invoked("score", *options).exit_code == 3
    scored = invoked("score", *options, "--set-aside", "--set-aside-to", "unscored.parquet")
    assert scored.exit_code == 0, scored.output
    assert "2 rows that break the data contract are set aside" in scored.output
    # Negative and unknown MRR doesn't keep an account from its score.
    assert pl.read_parquet("out.parquet").height == N - 2
    assert pl.read_parquet("unscored.parquet")["account_id"].to_list() == ["a7", "a11"]
    assert score(broken(), SPEC, set_aside=0.01).height == N - 2


def later(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(account_id="later " + pl.col("account_id"))


@pytest.mark.slow
def test_backtest_sets_rows_aside(tmp_path: Path) -> None:
    options: dict[str, Any] = {"score_column": "logins", "spec": SPEC, "journal": tmp_path / "j"}
    with pytest.raises(ViolationsError):
        backtest(broken().with_columns(pl.col("logins").fill_null(0)), **options)
    found = backtest(
        broken(),
        **options,
        drop_unscored=True,
        set_aside=0.01,
        set_aside_to=tmp_path / "aside.csv",
    )
    same = backtest(right(), **options)
    assert (found.metrics, found.curve) == (same.metrics, same.curve)
    assert any("aside.csv" in note for note in found.notes)
    assert pl.read_csv(tmp_path / "aside.csv")["account_id"].to_list() == ["a9"]


def test_drift_sets_rows_of_both_tables_aside(tmp_path: Path) -> None:
    with pytest.raises(ViolationsError):
        drift(broken(), SPEC, against=later(broken()))
    notes: list[str] = []
    aside = tmp_path / "aside.parquet"
    found = drift(
        broken(),
        SPEC,
        against=later(broken()),
        set_aside=0.01,
        set_aside_to=aside,
        announce=notes.append,
    )
    # Without outcomes a table breaks the contract by its features alone.
    assert (found.accounts_before, found.accounts) == (N - 2, N - 2)
    assert len(notes) == 3
    ids = ["later a7", "later a11", "a7", "a11"]
    assert pl.read_parquet(aside)["account_id"].to_list() == ids


@pytest.mark.slow
def test_refresh_sets_rows_of_both_tables_aside(tmp_path: Path) -> None:
    notes: list[str] = []
    aside = tmp_path / "aside.csv"
    options: dict[str, Any] = {"limits": Limits(5)}
    found = refresh(
        broken(),
        later(broken()),
        SPEC,
        journal=tmp_path / "j",
        set_aside=0.01,
        set_aside_to=aside,
        announce=notes.append,
        **options,
    )
    same = refresh(right(), later(right()), SPEC, journal=tmp_path / "other", **options)
    assert found.fingerprints == same.fingerprints
    assert found.accounts == N - 3
    assert pl.read_csv(aside).height == 6
    assert any("aside.csv" in note for note in notes)


@pytest.mark.slow
def test_changes_by_hand_set_rows_aside(tmp_path: Path) -> None:
    options: dict[str, Any] = {"note": "as agreed", "author": "RevOps", "journal": tmp_path / "j"}
    aside: dict[str, Any] = {"set_aside": 0.01, "set_aside_to": tmp_path / "aside.csv"}
    tried = try_weights(broken(), SPEC, {"logins": 21}, **options, **aside)
    same = try_weights(right(), SPEC, {"logins": 21}, **{**options, "journal": tmp_path / "o"})
    assert tried.digest == same.digest
    assert pl.read_csv(tmp_path / "aside.csv")["account_id"].to_list() == ["a7", "a9", "a11"]
    put = record(SPEC, since="2026-01-05", data=broken(), **options, **aside)
    assert put.measured is not None
    kept = dict(RunFiles(tmp_path / "j", put.measured.run_id).record("start")["parameters"])
    assert float(kept["set_aside"]) == 0.01


# A row that is the total of the others


@pytest.mark.parametrize(
    "name",
    [
        *("Total", "GRAND TOTAL", "Summe", "totals:", " Gesamt ", "Total (400)", "Total EMEA"),
        *("All accounts", "400 accounts", "** Subtotal **", "Overall", "sub-total 1"),
    ],
)
def test_total_of_an_export_is_no_account(name: str) -> None:
    frame = accounts(total=True).with_columns(
        account_id=pl.col("account_id").replace("Total", name), logins=pl.col("logins").fill_null(0)
    )
    with pytest.raises(ViolationsError, match="1 of 401 rows is a total of others") as caught:
        load_accounts(scan(frame), SPEC)
    assert caught.value.set_aside == (1, N + 1)
    loaded = load_accounts(scan(frame), SPEC, set_aside=0.01)
    same = load_accounts(scan(accounts()), SPEC)
    assert loaded.outcomes_fingerprint == same.outcomes_fingerprint
    words = "1 row that breaks the data contract is set aside: rows are a total"
    assert loaded.checked.set_aside.sentence.startswith(words)


def with_rows(*rows: tuple[int, str, float]) -> pl.DataFrame:
    """Return accounts with rows of sums, each behind so many of them."""
    frame, parts, start = accounts(), [], 0
    for behind, name, amount in rows:
        row = {"account_id": name, "logins": 0, "retained_6mo": 1, "mrr": amount}
        parts += [frame[start:behind], pl.DataFrame([row], schema=frame.schema)]
        start = behind
    return pl.concat([*parts, frame[start:]])


@pytest.mark.parametrize(
    "rows",
    [
        [(150, "Subtotal", 26175.0), (N, "Subtotal 2", 93625.0), (N, "Total", 119800.0)],
        [(150, "Total north", 26175.0)],
        [(N, "Total", 120000.0)],
        [(0, "Total", 119800.0), (N, "All", 119800.0)],
    ],
)
def test_totals_beside_subtotals_or_rounded_are_found(rows: list[tuple[int, str, float]]) -> None:
    frame = with_rows(*rows)
    verb = "is" if len(rows) == 1 else "are"
    told = f"{len(rows)} of {N + len(rows)} rows {verb} a total"
    with pytest.raises(ViolationsError, match=told):
        load_accounts(scan(frame), SPEC)
    loaded = load_accounts(scan(frame), SPEC, set_aside=0.01)
    same = load_accounts(scan(accounts()), SPEC)
    assert loaded.outcomes_fingerprint == same.outcomes_fingerprint


@pytest.mark.parametrize(
    ("name", "amount"),
    [
        *(("Total Energies", 119000.0), ("Allianz", 119800.0), ("Summit", 119800.0)),
        *(("All Saints", 249.0), ("Subtotal", 120400.5)),
    ],
)
def test_accounts_that_sound_like_totals_are_accounts(name: str, amount: float) -> None:
    frame = with_rows((150, name, amount))
    assert load_accounts(scan(frame), SPEC).checked.accounts == N + 1


def test_account_that_is_called_total_and_is_none() -> None:
    frame = accounts().with_columns(account_id=pl.col("account_id").replace("a5", "Total"))
    assert load_accounts(scan(frame), SPEC).checked.accounts == N


def test_account_as_large_as_all_others_is_one() -> None:
    frame = accounts(total=True).with_columns(
        account_id=pl.col("account_id").replace("Total", "a400"),
        logins=pl.col("logins").fill_null(0),
    )
    assert load_accounts(scan(frame), SPEC).checked.accounts == N + 1


def test_total_is_found_in_a_table_without_ids() -> None:
    frame = accounts(total=True).rename({"account_id": "company"})
    frame = frame.with_columns(logins=pl.col("logins").fill_null(0))
    with pytest.raises(ViolationsError, match="1 of 401 rows is a total of others"):
        load_accounts(scan(frame), SPEC.model_copy(update={"id": None}))
