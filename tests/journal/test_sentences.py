"""Sentences that a lead reads first: their numbers from the table alone, and their wording."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import polars as pl
import pytest
from factories import make_accounts, make_spec, weighted

from gtmar import api, runs
from gtmar import spec as specs
from gtmar.journal.catalog import Journal
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.review import Review, review
from gtmar.journal.sentences import Seen, lead, numbers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gtmar.runs import RunResult
    from gtmar.spec import ScoringSpec

LIMITS = runs.Limits(80)

# ---- numbers, from the table alone -------------------------------------------------------------

#: Accounts as `scored` has them, the start's and the best's scores beside what became of each.
#: Ranks of accounts that tie lie over a range, of which each takes its share.
_TABLE = """
    create table scored as
    select
        retained_6mo as kept,
        mrr,
        mrr_end,
        getvariable('sign') * start.score as "start",
        getvariable('sign') * best.score as best
    from accounts
    join one as start using (account_id)
    join two as best using (account_id)
"""
#: Of 100 pairs of a kept and a lost account, how many a score ranks right.
_PAIRS = """
    select 50 * avg((a.{side} > b.{side})::int + (a.{side} >= b.{side})::int)
    from scored as a, scored as b
    where a.kept = 1 and b.kept = 0
"""
#: Who of those that leave, and of their MRR, is among the `size` accounts at one end.
_AT_THE_END = """
    with placed as (
        select
            *,
            count(*) over (partition by {side}) as alike,
            rank() over (order by {side} {order}) - 1 as before
        from scored
    ),
    part as (
        select *, greatest(0, least(1, ({size} - before) / alike)) as share from placed
    )
    select
        100 * sum(share) filter (where kept = 0) / count(*) filter (where kept = 0) as leavers,
        100 * sum(share * mrr) filter (where mrr > 0 and mrr_end = 0)
            / sum(mrr) filter (where mrr > 0 and mrr_end = 0) as gone,
        100 * sum(share * kept) / sum(share) filter (where kept is not null) as kept,
        sum(share) filter (where kept is not null) as known
    from part
"""


def asked(con: duckdb.DuckDBPyConnection, sql: str, **values: Any) -> list[float]:
    row = con.execute(sql.format(**values)).fetchone()
    assert row is not None
    return [float(value) for value in row]


def searched(
    folder: Path, spec: ScoringSpec, *, rows: int = 900
) -> tuple[RunResult, Review, pl.DataFrame]:
    """Search one table with another, of other accounts, as the holdout."""
    table = make_accounts(rows, 11)
    later = make_accounts(rows, 12).with_columns(account_id="later-" + pl.col("account_id"))
    result = runs.run(table, spec, limits=LIMITS, journal=folder, holdout_file=later)
    with Journal(folder) as journal:
        return result, review(journal, result.run_id), later


@pytest.mark.slow
@pytest.mark.parametrize("orientation", ["health", "risk"])
def test_every_number_of_a_sentence_is_the_tables(orientation: str, tmp_path: Path) -> None:
    spec = make_spec()
    if orientation == "risk":
        logins = {"kind": "range", "from": 0, "to": 40}
        features = {
            "depth": weighted(-15, low=-80, high=80),
            "logins": weighted(60, low=-80, high=80, encode=logins),
        }
        spec = make_spec(orientation="risk", base=20, features=features)
    result, found, later = searched(tmp_path / "journal", spec)
    assert result.wins
    with Journal(result.journal) as journal:
        start = journal.query(
            "select weights from experiments where number = 0", run=result.run_id
        )["weights"].item()
    con = duckdb.connect()
    for name, weights in (("one", dict(start)), ("two", result.weights)):
        con.register(name, runs.score(later, specs.reweighed(spec, weights)).to_arrow())
    con.register("accounts", later.to_arrow())
    sign = -1 if orientation == "risk" else 1
    con.execute(f"set variable sign = {sign}")
    con.execute(_TABLE)
    one, two = (asked(con, _PAIRS, side=side)[0] for side in ("start", "best"))
    pairs, tier, top, *_ = found.sentences
    assert found.as_json()["sentence"].startswith(pairs)
    assert pairs == (
        f"Of 100 pairs of a kept and a lost account the score ranks {two:.0f} right; it was "
        f"{one:.0f} (on {later.height:,} accounts never seen by the search)."
    )
    names = spec.tier_names
    sizes = runs.score(later, spec)["tier"].value_counts()
    by_name = dict(sizes.rows())
    worst, best = (names[0], names[-1]) if sign < 0 else (names[-1], names[0])
    low, high = ({"size": by_name[n], "order": o} for n, o in ((worst, "asc"), (best, "desc")))
    (left, gone, *_), (left_now, gone_now, *_) = (
        asked(con, _AT_THE_END, side=side, **low) for side in ("start", "best")
    )
    them = (
        f"the {by_name[worst]:,} accounts of highest risk"
        if sign < 0
        else f"the lowest {by_name[worst]:,} accounts"
    )
    assert tier == (
        f"At equal sizes tier {worst}, {them}, holds {left_now:.0f}% (was {left:.0f}%) of the "
        f"accounts that leave and {gone_now:.0f}% (was {gone:.0f}%) of the MRR that leaves."
    )
    (*_, kept, known), (*_, kept_now, known_now) = (
        asked(con, _AT_THE_END, side=side, **high) for side in ("start", "best")
    )
    which = f"The tier of lowest risk, {best}," if sign < 0 else f"The top tier, {best},"
    said = f"{kept_now:.0f}% (was {kept:.0f}%) of its accounts"
    if min(known, known_now) < 50:
        now, was = (
            f"{count * share / 100:.0f} of {count:.0f}"
            for share, count in ((kept_now, known_now), (kept, known))
        )
        said = f"{now} of its accounts whose outcome is known (was {was}), too few to tell"
    assert top == f"{which} keeps {said}."


@pytest.mark.slow
def test_a_run_its_review_and_a_notebook_say_the_same(tmp_path: Path) -> None:
    result, found, _ = searched(tmp_path / "held", make_spec())
    assert list(result.sentences) == found.sentences
    assert result.as_json()["sentence"] == found.as_json()["sentence"] == " ".join(found.sentences)
    html = api.Run(result)._repr_html_()
    assert html.startswith(f"<p>{found.sentences[0]}</p>")
    assert numbers(result.row).replace("->", "-&gt;") in html
    assert result.sentences[0] in repr(api.Run(result))
    table = make_accounts(500, 3)
    blocked = make_spec(guardrails=[{"metric": "share_by_tier.A", "min": 0.99}])
    for name, spec, share in (("in-sample", make_spec(), 0.0), ("nothing", blocked, 0.3)):
        done = runs.run(table, spec, limits=LIMITS, journal=tmp_path / name, holdout=share)
        with Journal(done.journal) as journal:
            assert review(journal, done.run_id).sentences == list(done.sentences)
            assert review(journal, done.run_id, brief=True).sentences == list(done.sentences)


@pytest.mark.slow
def test_what_got_worse_is_as_decided_where_the_best_was_decided_on(tmp_path: Path) -> None:
    done = runs.run(make_accounts(500, 3), make_spec(), limits=LIMITS, journal=tmp_path / "j")
    worse = "Worse beyond chance: the NRR of the best-scored fifth, 90.0% -> 80.0%."

    def said() -> list[str]:
        with Journal(done.journal) as journal:
            return review(journal, done.run_id).sentences

    def decide(experiment: str, **details: Any) -> None:
        about = {"run_id": done.run_id, "experiment_id": experiment}
        write_event(
            tmp_path / "j", EventKind.DECISION, details={"verdict": "KEEP", **details}, **about
        )

    undecided = said()
    assert undecided == list(done.sentences)
    assert any(text.startswith("Worse as measured") for text in undecided)
    plain = [text for text in undecided if not text.startswith("Worse")]
    # One that names no costs, and one on another experiment, say nothing of them.
    decide(done.best_experiment)
    assert said() == list(done.sentences)
    decide("exp_00001" if done.best_experiment != "exp_00001" else "exp_00002", costs=[worse])
    assert said() == list(done.sentences)
    decide(done.best_experiment, costs=[worse])
    assert said() == [*plain, worse]
    decide(done.best_experiment, costs=[])
    assert said() == plain


# ---- words -------------------------------------------------------------------------------------

ROW: dict[str, Any] = {
    "objective": "auc_roc_retain",
    "experiments": 400,
    "wins": 9,
    "baseline_value": 0.79,
    "best_value": 0.83,
    "holdout_accounts": 1500,
    "holdout_baseline_value": 0.78,
    "holdout_best_value": 0.82,
    "state": "finished",
}
TIERS = ["A", "B", "C"]


def side(kept: tuple[float | None, ...], **more: float) -> dict[str, Any]:
    return {**{f"logo_retention_by_tier.{t}": k for t, k in zip(TIERS, kept, strict=True)}, **more}


SIZED: dict[str, Any] = {
    "tiers": TIERS,
    "sizes": [100, 200, 300],
    "start": side((0.9, 0.8, 0.7), hhi_normalised=0.1),
    "best": side((0.95, 0.85, 0.65), hhi_normalised=0.1),
    "labelled_start": [100.0, 200.0, 300.0],
    "labelled_best": [100.0, 200.0, 300.0],
    "churned_mrr_start": [10.0, 40.0, 50.0],
    "churned_mrr_best": [10.0, 30.0, 60.0],
}
SEEN = Seen(
    unseen=True,
    accounts=1500,
    start={"auc_roc_retain": 0.79, "revenue_capture_at_20": 0.25, "nrr_at_20": 0.9},
    best={"auc_roc_retain": 0.83, "revenue_capture_at_20": 0.21, "nrr_at_20": 0.95},
    sized=SIZED,
    risk=False,
)


def told(
    seen: Seen | None = SEEN,
    *,
    improved: bool = True,
    held: bool | None = True,
    row: Mapping[str, Any] = ROW,
) -> list[str]:
    return lead(row, seen, improved=improved, held=held)


def test_what_a_gain_is_who_it_finds_and_what_it_costs() -> None:
    assert told() == [
        "Of 100 pairs of a kept and a lost account the score ranks 83 right; it was 79 (on 1,500 "
        "accounts never seen by the search).",
        # (1 - .65) * 300 of 140 who leave, (1 - .7) * 300 of 140 before.
        "At equal sizes tier C, the lowest 300 accounts, holds 75% (was 64%) of the accounts that "
        "leave and 60% (was 50%) of the MRR that leaves.",
        "The top tier, A, keeps 95% (was 90%) of its accounts.",
        "Worse as measured, chance not excluded: MRR held by the best-scored fifth 25.0% -> 21.0%.",
    ]


def test_for_a_risk_score_the_tiers_are_read_from_the_other_end() -> None:
    _, tier, top, *_ = told(replace(SEEN, risk=True))
    assert tier.startswith(
        "At equal sizes tier A, the 100 accounts of highest risk, holds 4% (was 7%)"
    )
    assert top == "The tier of lowest risk, C, keeps 65% (was 70%) of its accounts."


def test_in_sample_every_sentence_says_so_and_none_claims_proof() -> None:
    row = (
        ROW
        | dict.fromkeys(("holdout_baseline_value", "holdout_best_value"))
        | {"holdout_accounts": 0}
    )
    said = told(replace(SEEN, unseen=False, accounts=5000), held=None, row=row)
    assert said[0].endswith("it was 79 (in-sample, on the 5,000 accounts searched: no proof).")
    assert len(said) == 4
    assert all("n-sample" in sentence for sentence in said)


def test_a_gain_that_does_not_hold_is_said_first_and_its_costs_are_none() -> None:
    first, *rest = told(held=False)
    assert first == (
        "The gain did not hold on the 1,500 accounts that the search never saw: keep the spec."
    )
    assert not any("Worse" in sentence for sentence in rest)


def test_why_nothing_was_kept_comes_first() -> None:
    row = ROW | {"wins": 0, "blocked": 93, "broken": {"churn max 0.2": 93}}
    same = replace(SEEN, best=SEEN.start, sized=SIZED | {"best": SIZED["start"]})
    first, *rest = told(same, improved=False, held=False, row=row)
    assert first == (
        "No experiment of 400 was kept: 93 were better than the baseline's auc_roc_retain of "
        "0.7900 and broke a guardrail: churn max 0.2 (93)."
    )
    assert "keep the spec" not in " ".join([first, *rest])
    assert rest[0].endswith(
        "the score ranks 79 right (on 1,500 accounts never seen by the search)."
    )
    assert rest[1].startswith(
        "Tier C, the lowest 300 accounts, holds 64% of the accounts that leave"
    )
    assert not any("was" in sentence for sentence in rest)


def test_what_is_as_before_is_said_to_be_and_small_differences_are_seen() -> None:
    def pairs(before: float, after: float) -> str:
        start, best = {"auc_roc_retain": before}, {"auc_roc_retain": after}
        return told(replace(SEEN, sized=None, start=start, best=best))[0]

    assert "ranks 79 right, as before (" in pairs(0.79, 0.79001)
    assert "ranks 79.3 right; it was 79.0 (" in pairs(0.79, 0.793)
    assert "ranks 75 right, fewer than the 79 before (" in pairs(0.79, 0.75)
    assert "ranks 33 right, fewer than a coin would, fewer than the 40 before (" in pairs(0.4, 0.33)
    assert "ranks 49.7 right, fewer than a coin would; it was 40 (" in pairs(0.4, 0.4971)
    assert "ranks 99.7 right; it was 98 (" in pairs(0.98, 0.9968)
    assert "ranks 100 right; it was 99.7 (" in pairs(0.9968, 1.0)


def test_a_tier_that_lost_one_account_of_many_does_not_keep_100_percent() -> None:
    sized = SIZED | {
        side: SIZED[side] | {"logo_retention_by_tier.A": kept}
        for side, kept in (("start", 0.9), ("best", 399 / 400))
    }
    said = told(replace(SEEN, sized=sized))
    assert "The top tier, A, keeps 99.8% (was 90%) of its accounts." in said


def top_tier(size: float, before: float, after: float, others: float = 0.8) -> list[str]:
    """Say what is said of tiers where A has so many accounts and keeps such shares of them."""
    labelled = [size, 200.0, 300.0]
    ends = {"start": side((before, others, others)), "best": side((after, others, others))}
    sized = SIZED | ends | {"labelled_start": labelled, "labelled_best": labelled}
    sized |= {"sizes": [round(size), 200, 300], "churned_mrr_best": None}
    return told(replace(SEEN, sized=sized))


def test_a_tier_that_keeps_all_or_has_few_accounts_says_so_in_numbers() -> None:
    assert "The top tier, A, keeps all 100 of its accounts (was 90%)." in top_tier(100, 0.9, 1.0)
    few = "The top tier, A, keeps all 3 of its accounts (was 2 of 3), too few to tell."
    assert few in top_tier(3, 2 / 3, 1.0)
    half = "The top tier, A, keeps 2.5 of 4 of its accounts (as before), too few to tell."
    assert half in top_tier(4, 0.625, 0.625)
    assert "The top tier, A, keeps 98% (was 90%) of its accounts." in top_tier(50, 0.9, 0.98)


def test_where_nobody_left_a_tier_that_keeps_all_tells_nothing() -> None:
    said = top_tier(100, 1.0, 1.0, others=1.0)
    nobody = "None of the 600 accounts held out left, so what a tier keeps tells nothing."
    assert nobody in said
    assert not any("top tier" in sentence for sentence in said)
    # A share that is summed from parts may fall short of 1 by a rounding.
    assert nobody in top_tier(100, 1 - 2**-53, 1 - 2**-53, others=1.0)


def test_few_leavers_are_counted() -> None:
    [tier] = [x for x in top_tier(100, 1.0, 1.0, others=0.99) if "lowest" in x]
    assert tier.endswith("holds 3 (as before) of the 5 accounts that leave.")
    one = SIZED | {"start": side((1.0, 1.0, 1 - 1 / 300)), "best": side((1.0, 1.0, 1 - 1 / 300))}
    said = told(replace(SEEN, sized=one | {"churned_mrr_best": None}))
    assert any("holds 1 (as before) of the 1 account that leaves." in sentence for sentence in said)


def test_the_only_account_of_a_tier_is_called_so() -> None:
    only = "The top tier, A, keeps its only account (was 0 of 1), too few to tell."
    assert only in top_tier(1, 0.0, 1.0)


@pytest.mark.parametrize(("lost", "few"), [(3, True), (9, True), (10, False), (591, True)])
def test_pairs_of_a_handful_that_left_or_stayed_tell_nothing(lost: int, few: bool) -> None:
    share = 1 - lost / 600
    ends = {name: side((share, share, share)) for name in ("start", "best")}
    seen = replace(SEEN, sized=SIZED | ends)
    assert ("too few to tell" in told(seen)[0]) is few
    # In-sample it is no proof anyway.
    assert "too few" not in told(replace(seen, unseen=False))[0]


def test_what_has_no_value_is_left_out() -> None:
    nothing: dict[str, Any] = {"auc_roc_retain": None}
    without = replace(SEEN, start=nothing, best=nothing, sized=None)
    # Where nothing can be said of the accounts, the objective is.
    assert told(without)[0].startswith("auc_roc_retain rose from 0.7900 to 0.8300")
    assert told(None)[0].startswith("auc_roc_retain rose from 0.7900 to 0.8300")
    nobody = SIZED | {"start": side((1.0, 1.0, 1.0)), "best": side((1.0, 1.0, None))}
    nobody |= {"churned_mrr_start": [0.0] * 3, "churned_mrr_best": None}
    said = told(replace(SEEN, sized=nobody))
    assert not any("leave" in sentence for sentence in said)
    empty = SIZED | {"sizes": [100, 200, 0]}
    assert not any("leave" in sentence for sentence in told(replace(SEEN, sized=empty)))
    no_money = SIZED | {"churned_mrr_start": None, "churned_mrr_best": None}
    [tier] = [x for x in told(replace(SEEN, sized=no_money)) if "leave" in x]
    assert tier.endswith("holds 75% (was 64%) of the accounts that leave.")
    one = {**SIZED, "tiers": ["A"], "sizes": [600]}
    assert not any("tier" in sentence for sentence in told(replace(SEEN, sized=one)))


def test_costs_are_headline_metrics_beside_the_objective() -> None:
    start = {"tier_separation": 3.0, "nrr_at_20": 0.9, "revenue_capture_at_20": 0.25}
    best = {"tier_separation": 2.5, "nrr_at_20": 0.8, "revenue_capture_at_20": 0.2499}
    sized = SIZED | {"best": SIZED["best"] | {"hhi_normalised": 0.2}}
    found = replace(SEEN, start=start, best=best, sized=sized)
    assert found.costs("auc_roc_retain") == {
        "nrr_at_20": "NRR of the best-scored fifth 90.0% -> 80.0%",
        "tier_separation": "LTV of the best-scored quarter against the worst 3.00 -> 2.50",
        "hhi_normalised": "MRR concentration at equal sizes 0.100 -> 0.200",
    }
    assert "nrr_at_20" not in found.costs("nrr_at_20")
    assert "hhi_normalised" not in found.costs("revenue_concentration_hhi")


def test_a_run_that_was_cut_off_says_that_nothing_was_looked_at() -> None:
    row = ROW | {"state": "running or cut off"}
    row |= dict.fromkeys(("holdout_baseline_value", "holdout_best_value"))
    said = told(replace(SEEN, unseen=False, accounts=3500, sized=None), held=None, row=row)
    assert said[0] == "The run has not ended, so the holdout has not been looked at."
    assert "no proof" in said[1]


# ---- weights -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_weight_at_its_bound_says_so_and_a_bin_which_feature_it_is_of(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    depth = draw.random(600)
    table = pl.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(600)],
            "depth": depth,
            "age": draw.integers(0, 10, 600),
            "retained_6mo": (draw.random(600) < depth).astype(int),
        }
    )
    ages = {key: {"weight": 1, "min": 1, "max": 1} for key in ("[0,3)", "[3,10)")}
    features = {
        "depth": weighted(5, low=0, high=7),
        "age": {"encode": {"kind": "bins", "bins": ages}},
    }
    tiers = {"A": {"min": 5, "max": 101}, "B": {"min": 0, "max": 5}}
    spec = make_spec(features=features, tiers=tiers, base=0)
    best = runs.run(table, spec, limits=runs.Limits(200), journal=tmp_path / "j", holdout=0.0)
    with Journal(best.journal) as journal:
        rows = {row["feature"]: row for row in review(journal, best.run_id).weights}
    assert {name: row["of"] for name, row in rows.items()} == {
        "depth": "depth",
        "age[0,3)": "age",
        "age[3,10)": "age",
    }
    # Bins that can't move are at no bound.
    assert [rows[f"age{key}"]["at_bound"] for key in ages] == [None, None]
    assert rows["depth"]["at_bound"] == {0: "min", 7: "max"}.get(rows["depth"]["best"])


@pytest.mark.slow
def test_the_three_largest_changes_come_first(tmp_path: Path) -> None:
    table = make_accounts(400, 5)
    done = runs.run(table, make_spec(), limits=LIMITS, journal=tmp_path / "j")
    with Journal(done.journal) as journal:
        wins = review(journal, done.run_id).wins
    many = [row for row in wins if row["changed"] > 3]
    assert many
    for row in wins:
        every = re.findall(r"(\w+): (-?\d+) -> (-?\d+)", row["changes"])
        assert len(every) == row["changed"]
        sizes = [
            abs(int(b) - int(a))
            for _, a, b in re.findall(r"(\w+): (-?\d+) -> (-?\d+)", row["largest"])
        ]
        assert sizes == sorted((abs(int(b) - int(a)) for _, a, b in every), reverse=True)[:3]
        more = row["changed"] - 3
        assert row["largest"].endswith(f" and {more} more") == (more > 0)
