"""Specs with rules on every way that a spec is used: contract, score, explain, list, drift."""

from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from factories import make_accounts, make_spec, weighted

from gtmar import runs
from gtmar import spec as specs
from gtmar.data.contract import check_contract
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.errors import ViolationsError
from gtmar.runs.check import shifts_between
from gtmar.runs.results import leaks_of
from gtmar.spec import ScoringSpec

RULE = "logins < 20 and depth >= 0.5 and plan != 'basic'"


@pytest.fixture(scope="module")
def accounts() -> pl.DataFrame:
    found = make_accounts(400, seed=3)
    gone = pl.int_range(pl.len()) % 7 == 0
    return found.with_columns(logins=pl.when(~gone).then("logins"))


def ruled(*rules: str, **more: Any) -> ScoringSpec:
    features = {f"r{i}": weighted(-12, rule=rule) for i, rule in enumerate(rules)}
    features["depth"] = weighted(40, low=-50, high=50)
    return make_spec(features=features, **more)


def held(accounts: pl.DataFrame) -> pl.DataFrame:
    """Ask DuckDB for the same rule: a comparison with null doesn't hold."""
    sql = f"select account_id, ({RULE}) is true as holds from accounts order by account_id"
    return duckdb.sql(sql).pl()  # type: ignore[no-any-return, union-attr] # a relation of frames


def test_points_are_the_weight_where_the_rule_holds(accounts: pl.DataFrame) -> None:
    scored = runs.score(accounts, ruled(RULE, "logins is missing")).sort("account_id")
    expected = held(accounts)["holds"]
    assert 20 < expected.sum() < 200
    assert scored["points.r0"].to_list() == [-12.0 * holds for holds in expected]
    unknown = accounts.sort("account_id")["logins"].is_null()
    assert (scored["points.r1"] == -12.0).to_list() == unknown.to_list()


@pytest.mark.slow
def test_a_line_of_explain_says_the_rule_and_lines_add_up(accounts: pl.DataFrame) -> None:
    spec = ruled(RULE)
    other = ruled("plan in ('team') and logins is missing")
    for row in held(accounts).head(12).to_dicts():
        found = runs.explain(row["account_id"], accounts, spec, other=other)
        points = sum(round(line.points * 10_000) for line in found.lines)
        assert points == round(found.score * 10_000)
        [line] = [line for line in found.lines if line.name == "r0"]
        word = "holds" if row["holds"] else "doesn't hold"
        assert line.value == f"{RULE}: {word}"
        assert line.points == (-12 if row["holds"] else 0)


def test_the_list_of_whom_to_call_names_a_rule_that_holds(accounts: pl.DataFrame) -> None:
    spec = runs.calibrate(accounts, ruled(RULE)).spec
    found = runs.account_list(accounts, spec, most=400).rows
    said = found.join(held(accounts), on="account_id")
    holds = said.filter("holds")["reasons"].to_list()
    assert holds
    assert all(f"{RULE} holds (-" in reasons for reasons in holds)
    assert not any(RULE in reasons for reasons in said.filter(~pl.col("holds"))["reasons"])


def test_drift_compares_the_shares_for_which_a_rule_holds(accounts: pl.DataFrame) -> None:
    spec = ruled(RULE)
    later = accounts.with_columns(logins=pl.lit(1))
    shifts, *_ = shifts_between(scan(accounts), scan(later), spec)
    [shift] = [shift for shift in shifts if shift.name == "r0"]
    now = held(later)["holds"].sum()
    assert [row[1:] for row in shift.bins] == [
        (accounts.height - held(accounts)["holds"].sum(), later.height - now),
        (held(accounts)["holds"].sum(), now),
    ]


def test_every_column_of_a_rule_is_looked_at_for_leaks(accounts: pl.DataFrame) -> None:
    leaking = accounts.with_columns(closed=pl.col("churned").fill_null(0))
    loaded = load_accounts(scan(leaking), ruled("logins < 20 and closed = 1"), drop_unlabelled=True)
    assert "closed" in {
        leak.column for leak in leaks_of(loaded, ruled("logins < 20 and closed = 1"))
    }


def test_all_that_a_table_lacks_is_said_at_once(accounts: pl.DataFrame) -> None:
    dated = accounts.with_columns(since=pl.lit("2026-01-01").str.to_date(), tags=pl.lit([1]))
    spec = ruled("logns < 3 and plan < 3", "since > 20 and tags in ('a')", "mrr_ends = 1")
    with pytest.raises(ViolationsError) as refused:
        check_contract(scan(dated), spec)
    said = str(refused.value)
    assert "5 violations" in said
    assert 'column "logns": no such column (feature "r0")' in said
    assert 'column "plan": rule "r0" compares it with a number, got String' in said
    assert "list categories by in" in said
    assert "a feature of its own counts it as days_before" in said
    assert 'did you mean "logins"?' in said
    assert 'did you mean "mrr_end"?' in said
    assert 'rule "r1" compares it with a number, got Date' in said
    assert 'rule "r1" lists categories, got List(' in said


def test_a_category_that_no_account_has_is_said(accounts: pl.DataFrame) -> None:
    checked = check_contract(scan(accounts), ruled("plan in ('basic', 'gold') and logins > 3"))
    [note] = [note for note in checked.notes if note.startswith("Rule")]
    assert note.startswith('Rule "r0": no value of "plan" is "gold"; it has ')
    assert note in checked.warnings


def test_text_files_give_what_typed_ones_give(accounts: pl.DataFrame, tmp_path: Path) -> None:
    table = accounts.with_columns(
        flag=(pl.col("alert_created") == 1), code=pl.format("0{}", pl.col("alert_created"))
    )
    table.write_csv(tmp_path / "accounts.csv", null_value="")
    spec = ruled(
        RULE, "flag = true and logins is not missing", "code = '01' and alert_created in (1)"
    )
    got = runs.score(tmp_path / "accounts.csv", spec)
    assert got.equals(runs.score(table, spec))
    assert {*got["points.r2"]} == {-12.0, 0.0}


def test_a_search_weighs_a_rule_as_it_does_a_feature(
    accounts: pl.DataFrame, tmp_path: Path
) -> None:
    accounts.write_parquet(tmp_path / "accounts.parquet")
    spec = ruled(RULE, "logins is missing", objective="auc_roc_retain")
    specs_path = tmp_path / "spec.yaml"
    specs_path.write_text(specs.to_yaml(spec), "utf-8")
    journal = tmp_path / "journal"
    table, limits = tmp_path / "accounts.parquet", runs.Limits(experiments=10)
    result = runs.run(table, specs_path, limits=limits, seed=1, journal=journal)
    assert result.spec.features["r0"].rule == RULE
    assert {"r0", "r1", "depth"} == set(result.weights)
    again = runs.run(table, specs_path, limits=limits, seed=1, journal=tmp_path / "again")
    assert again.digest == result.digest
