"""Whom to call first: recomputed by DuckDB from the table and the spec's own steps alone."""

import re
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from factories import make_accounts, make_spec, weighted
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.errors import AccountDataError, SpecError, UsageError, ViolationsError
from gtmar.spec import ScoringSpec


@pytest.fixture(scope="module")
def accounts() -> pl.DataFrame:
    return make_accounts(800, seed=5)


@pytest.fixture(scope="module")
def spec(accounts: pl.DataFrame) -> ScoringSpec:
    return runs.calibrate(accounts, make_spec()).spec


def test_order_and_amounts_are_those_of_duckdb(accounts: pl.DataFrame, spec: ScoringSpec) -> None:
    found = runs.account_list(accounts, spec, tier="C", most=25)
    assert spec.calibration is not None
    steps = pl.DataFrame(
        [(s.from_, s.accounts, s.left) for s in spec.calibration.steps],
        schema=["low", "accounts", "gone"],
        orient="row",
    )
    scored = runs.score(accounts, make_spec()).select("account_id", "score", "tier")
    relation = duckdb.sql(
        """
        with one as (
            select account_id, score, mrr, round(gone / steps.accounts, 4) as probability
            from scored
            join accounts using (account_id)
            asof join steps on scored.score >= steps.low
            where tier = 'C' and won_back is null
        )
        select account_id, probability, mrr, probability * mrr as at_stake
        from one
        order by at_stake desc nulls last
        """
    )
    assert relation is not None
    expected = relation.pl()
    assert steps.height > 1
    assert scored.height == 800
    assert found.asked == expected.height
    listed = expected.head(25)
    assert found.rows["at_stake"].to_list() == pytest.approx(listed["at_stake"].to_list())
    same = found.rows.join(expected, on="account_id", suffix="_there")
    assert same.height == 25
    assert same["probability"].to_list() == pytest.approx(same["probability_there"].to_list())
    assert same["mrr"].to_list() == same["mrr_there"].to_list()
    assert found.at_stake == pytest.approx(expected["at_stake"].sum())
    assert found.listed_at_stake == pytest.approx(listed["at_stake"].sum())
    assert found.listed_at_stake
    assert found.at_stake
    share = found.listed_at_stake / found.at_stake
    assert found.sentence == (
        f"25 of {expected.height} accounts of tier C hold {found.listed_at_stake:,.0f} of "
        f"{found.at_stake:,.0f} MRR at stake ({share:.0%}): probability of leaving x MRR, the most "
        "first."
    )
    assert found.mrr_unknown == expected["mrr"].null_count()


def test_reasons_are_the_largest_gaps_to_the_mean(
    accounts: pl.DataFrame, spec: ScoringSpec
) -> None:
    found = runs.account_list(accounts, spec, most=5)
    scored = runs.score(accounts, spec)
    names = [term.name for term in spec.terms]
    pay = accounts.filter(pl.col("mrr") > 0)["account_id"].to_list()
    assert 0 < len(pay) < accounts.height
    paying = scored.filter(pl.col("account_id").is_in(pay))
    means = {name: paying[f"points.{name}"].mean() for name in names}
    for row in found.rows.iter_rows(named=True):
        own = scored.filter(account_id=row["account_id"]).row(0, named=True)
        cells = accounts.filter(account_id=row["account_id"]).row(0, named=True)
        gaps: dict[str, Any] = {n: own[f"points.{n}"] - means[n] for n in names}
        worst = sorted((n for n in names if gaps[n] <= -0.05), key=lambda n: gaps[n])[:3]
        told = row["reasons"].split("; ")
        assert len(told) == max(1, len(worst))
        for said, name in zip(told, worst, strict=False):
            cell = cells[name]
            worded = f"{cell:g}" if isinstance(cell, float) else str(cell)
            assert said == f"{name} is {worded} ({gaps[name]:+.1f})"


def test_former_accounts_are_no_measure_of_those_that_may_leave(spec: ScoringSpec) -> None:
    """Beside many that never log in and pay nothing, one that seldom does still has its reason."""
    now = make_accounts(300, seed=5).drop("won_back")
    now = now.with_columns(mrr=pl.lit(100.0), logins=pl.lit(30))
    now = now.with_columns(logins=pl.when(pl.int_range(300) == 7).then(9).otherwise("logins"))
    gone = now.with_columns(
        account_id="gone-" + pl.col("account_id"), mrr=pl.lit(0.0), logins=pl.lit(0)
    )
    both = pl.concat([now, gone, gone.with_columns(account_id="2-" + pl.col("account_id"))])
    alone, beside = (runs.account_list(table, spec, most=300).rows for table in (now, both))
    name = now["account_id"][7]
    [reasons] = beside.filter(account_id=name)["reasons"]
    assert "logins is 9 (-" in reasons
    assert reasons == alone.filter(account_id=name)["reasons"].item()


def test_who_left_before_the_window_is_not_called(
    accounts: pl.DataFrame, spec: ScoringSpec
) -> None:
    # As in a table that has the MRR of such accounts as it was when they left.
    former = accounts["won_back"].is_not_null()
    paid = accounts.with_columns(mrr=pl.when(former).then(9_000.0).otherwise("mrr"))
    said: list[str] = []
    found = runs.account_list(paid, spec, most=800, announce=said.append)
    assert not set(found.rows["account_id"]) & set(accounts.filter(former)["account_id"])
    assert found.asked == found.accounts == 800 - former.sum()
    assert found.at_stake == runs.account_list(accounts, spec).at_stake
    assert said[0].startswith(f"{former.sum()} accounts that left before the window")


def test_a_risk_score_names_what_raises_it() -> None:
    accounts = make_accounts(600, seed=2).with_columns(risk=pl.int_range(pl.len()) % 7)
    features = {"risk": weighted(9)}
    spec = make_spec(orientation="risk", features=features)
    spec = runs.calibrate(accounts, spec).spec
    found = runs.account_list(accounts, spec, most=1)
    # The likeliest are all those in the highest step, of which the most MRR comes first.
    assert found.rows["reasons"][0].startswith("risk is ")
    assert "(+" in found.rows["reasons"][0]


def test_without_mrr_the_likeliest_come_first(accounts: pl.DataFrame, spec: ScoringSpec) -> None:
    found = runs.account_list(accounts.drop("mrr", "mrr_end"), spec, most=40)
    assert found.at_stake is None
    assert {"mrr", "at_stake"}.isdisjoint(found.rows.columns)
    order = list(zip(found.rows["probability"], -found.rows["score"], strict=True))
    assert order == sorted(order, reverse=True)
    assert len(set(order)) > len({chance for chance, _ in order})
    assert found.sentence.endswith("The table has no MRR to weigh them by.")


def test_what_cannot_be_listed_is_refused(accounts: pl.DataFrame, spec: ScoringSpec) -> None:
    with pytest.raises(SpecError, match="no probabilities of leaving"):
        runs.account_list(accounts, make_spec())
    with pytest.raises(SpecError, match='no tier "E"'):
        runs.account_list(accounts, spec, tier="E")
    with pytest.raises(UsageError, match="1 or more"):
        runs.account_list(accounts, spec, most=0)
    worded = accounts.with_columns(mrr=pl.lit("a lot"))
    with pytest.raises(AccountDataError, match="must hold MRR as numbers"):
        runs.account_list(worded, spec)


def test_unknown_and_infinite_mrr_come_last(accounts: pl.DataFrame, spec: ScoringSpec) -> None:
    money = pl.when(pl.int_range(pl.len()) == 3).then(float("inf")).otherwise("mrr")
    odd = accounts.with_columns(mrr=money)
    found = runs.account_list(odd, spec, most=800)
    last = found.rows.tail(found.mrr_unknown or 0)
    assert last["at_stake"].null_count() == last.height > 0
    assert odd["account_id"][3] in last["account_id"].to_list()


def test_a_spreadsheet_runs_none_of_its_cells(tmp_path: Path, spec: ScoringSpec) -> None:
    accounts = make_accounts(60).with_columns(
        account_id="=cmd|' /C calc'!A" + pl.int_range(pl.len()).cast(pl.String)
    )
    accounts.write_parquet(tmp_path / "accounts.parquet")
    (tmp_path / "spec.yaml").write_text(specs.to_yaml(spec), "utf-8")
    words = f"list --data {tmp_path}/accounts.parquet --spec {tmp_path}/spec.yaml"
    done = CliRunner().invoke(app, [*words.split(), "-o", str(tmp_path / "list.csv")])
    assert done.exit_code == 0, done.output
    lines = (tmp_path / "list.csv").read_text("utf-8").splitlines()[1:]
    assert len(lines) == 50
    assert all(line.startswith("'=cmd") for line in lines)


def test_the_command_shows_ten_and_says_where_the_rest_is(
    tmp_path: Path, accounts: pl.DataFrame, spec: ScoringSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    accounts.write_parquet("accounts.parquet")
    Path("spec.yaml").write_text(specs.to_yaml(spec), "utf-8")
    words = "list --data accounts.parquet --spec spec.yaml --tier C"
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 0, done.output
    assert sum(line.startswith("     ") for line in done.stdout.splitlines()) >= 10
    assert "and 40 more" in done.stdout
    following = done.stdout.splitlines()[-1]
    assert following == f"Next: gtmar {words.replace(' --tier', ' -o list.csv --tier')}"
    again = CliRunner().invoke(app, following.removeprefix("Next: gtmar ").split())
    assert again.exit_code == 0, again.output
    assert pl.read_csv("list.csv").height == 50
    explained = again.stdout.splitlines()[-1].removeprefix("Next: gtmar ").split()
    assert CliRunner().invoke(app, explained).exit_code == 0


def test_accounts_whose_end_is_known_are_said_to_be_past(
    accounts: pl.DataFrame, spec: ScoringSpec
) -> None:
    said: list[str] = []
    found = runs.account_list(accounts, spec, most=40, announce=said.append)
    retained = found.rows.select("account_id").join(accounts, on="account_id", how="left")
    known = retained["retained_6mo"].drop_nulls()
    left = int((known == 0).sum())
    assert 0 < left < len(known)
    assert (
        f"The table says already what became of {len(known)} of the 40 accounts listed: {left} "
        "left. That is past; whom to act on, a table of today's accounts says."
    ) in said
    # A notebook, which has no terminal's notes, says so too.
    assert f"{left} left. That is past" in found._repr_html_()
    # In words and in money, and not at all where the end isn't there.
    words = pl.when(pl.col("retained_6mo") == 1).then(pl.lit("stays")).otherwise(pl.lit("gone"))
    told = spec.model_copy(update={"labels": {"retained": {"stays": 1, "gone": 0}}})
    again: list[str] = []
    known_label = pl.col("retained_6mo").is_not_null()
    frame = accounts.with_columns(retained_6mo=pl.when(known_label).then(words))
    runs.account_list(frame, told, most=40, announce=again.append)
    assert again == said
    ends = ["retained_6mo", "churned", "mrr_end"]
    for last in ([], ["mrr_end"]):
        past: list[str] = []
        table = accounts.drop(column for column in ends if column not in last)
        runs.account_list(table, spec, most=40, announce=past.append)
        assert any("That is past" in each for each in past) is bool(last)


def test_large_numbers_are_written_in_digits(accounts: pl.DataFrame) -> None:
    grown = accounts.with_columns(pl.col("logins").cast(pl.Float64) * 1_000_003.0)
    top = float(grown["logins"].drop_nulls().drop_nans().max())  # type: ignore[arg-type] # a number
    logins = weighted(20, encode={"kind": "range", "from": 0, "to": top}, missing={"value": 0})
    spec = runs.calibrate(grown, make_spec(features={"logins": logins})).spec
    reasons = " ".join(runs.account_list(grown, spec, most=300).rows["reasons"])
    assert re.search(r"logins is \d{7,} ", reasons)
    assert "e+" not in reasons


def test_a_table_without_outcomes_is_scored_though_the_spec_says_how_they_are_written(
    accounts: pl.DataFrame, tmp_path: Path
) -> None:
    euros = pl.format("{} EUR", pl.col("mrr_end").round(2)).str.replace(".", ",", literal=True)
    accounts.with_columns(mrr_end=euros).write_csv(tmp_path / "then.csv")
    accounts.drop("mrr_end", "retained_6mo", "churned").write_csv(tmp_path / "today.csv")
    read = {"columns": {"mrr_end": "money-comma"}}
    told = runs.calibrate(tmp_path / "then.csv", make_spec(read=read)).spec
    then, today = (
        runs.account_list(tmp_path / name, told, most=30) for name in ("then.csv", "today.csv")
    )
    assert then.rows.equals(today.rows)
    with pytest.raises(ViolationsError, match='column "mrr_end": no such column'):
        runs.check(tmp_path / "today.csv", told)


def test_small_amounts_are_no_zeros(accounts: pl.DataFrame) -> None:
    """Where few leave, what is at stake with a handful of small accounts is less than 1."""
    rare = accounts.head(400).filter(pl.col("retained_6mo").is_not_null())
    rare = rare.drop("mrr_end", "churned").with_columns(
        retained_6mo=(pl.int_range(pl.len()) != 7).cast(pl.Int8), mrr=pl.lit(19.0)
    )
    spec = runs.calibrate(rare, make_spec()).spec
    found = runs.account_list(rare, spec, most=3)
    assert found.at_stake is not None
    assert 1 < found.at_stake < 100
    share = found.rows["probability"][0] * 19
    assert 0 < 3 * share < 1
    assert found.sentence.startswith(f"3 of {rare.height} accounts hold {3 * share:.1f} of ")
    alone = runs.account_list(rare.drop("mrr"), spec, most=3)
    assert f": {3 * share / 19:.1f} of these are expected to. " in alone.sentence or (
        ": <0.1 of these are expected to. " in alone.sentence
    )
    one = runs.account_list(rare.filter(pl.col("plan") == "team").head(1), spec)
    assert one.sentence.startswith("1 of 1 account holds ")


def test_no_money_is_no_sum(accounts: pl.DataFrame, spec: ScoringSpec) -> None:
    nothing = accounts.with_columns(mrr=pl.lit(0.0))
    assert "no MRR is at stake" in runs.account_list(nothing, spec).sentence
    unknown = accounts.with_columns(mrr=pl.lit(None, pl.Float64))
    found = runs.account_list(unknown, spec, most=40)
    assert (found.at_stake, found.listed_at_stake) == (None, None)
    assert found.mrr_unknown == found.asked
    assert found.sentence.endswith("No account has a known MRR to weigh them by.")
    scored = runs.score(accounts, spec)["tier"]
    rest = accounts.filter(scored != "A")
    assert runs.account_list(rest, spec, tier="A").sentence == "The table has no account of tier A."
