"""A workbench measures as `try` does, to the digit, and leaves the holdout alone."""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from factories import binned, make_accounts, make_spec, weighted
from sklearn.metrics import roc_auc_score

import gtmar
from gtmar import Workbench, runs
from gtmar import spec as specs
from gtmar.data.scan import scan
from gtmar.errors import AccountDataError, SpecError, UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.files import RunFiles
from gtmar.journal.verify import verify
from gtmar.metrics.registry import DISTRIBUTION_KEYS, MAIN_KEYS, all_metrics

if TYPE_CHECKING:
    from gtmar.runs.weight_change import MeasuredWeights
    from gtmar.spec import ScoringSpec

ACCOUNTS = make_accounts(400)
NOTE = "NPS counts for more"
SHARES = {"A": {"share": 0.2}, "B": {"share": 0.3}, "C": {"share": 0.5}}
AT = "features_asof=2025-01-01..2025-12-31"
HOSTILE = '<script>alert("x")</script>'


def on_dates() -> pl.DataFrame:
    days = (pl.date(2025, 1, 1), pl.date(2025, 7, 1))
    parts = [make_accounts(200, seed) for seed in (1, 2)]
    return pl.concat(
        [part.with_columns(features_asof=day) for part, day in zip(parts, days, strict=True)]
    )


def combined() -> dict[str, Any]:
    """Groups, a shared-out weight, a rule, a veto and bins in order: every shape of a score."""
    scale = {"kind": "range", "from": 0, "to": 40}
    logins = binned("[-inf,10)", "[10,30)", "[30,inf)", weight=5, low=-10)
    logins["encode"]["monotone"] = "up"
    return {
        "features": {
            "alert_created": weighted(20, encode={"kind": "bool"}),
            "depth": weighted(25, low=1, high=50, missing="redistribute"),
            "logins": logins,
            "busy": weighted(30, low=-50, high=50, column="logins", encode=scale),
            "quiet": weighted(-8, rule="logins < 9 and plan in ('basic', 'team')"),
        },
        "groups": {"use": {"features": ["busy", "depth"], "max": 40}},
        "veto": [{"rule": "alert_created = 0 and logins < 5", "tier": "D"}],
    }


def hostile() -> tuple[pl.DataFrame, dict[str, Any]]:
    names = {"depth": HOSTILE, "logins": 'it\'s "odd" -- ä', "plan": "select"}
    table = ACCOUNTS.rename(names).with_columns(
        account_id=pl.concat_str(pl.lit(HOSTILE), "account_id"),
        select=pl.col("select").replace("team", HOSTILE),
    )
    values = {"basic": 1, HOSTILE: 0.25}
    return table, {
        "features": {
            HOSTILE: weighted(25),
            "b": weighted(column=names["logins"], encode={"kind": "range", "from": 0, "to": 40}),
            "c": weighted(
                -8, column="select", encode={"kind": "one_of", "values": values, "default": 0}
            ),
        },
        "tiers": {"<b>": {"min": 20, "max": 101}, "2 & more": {"min": 0, "max": 20}},
    }


def many() -> tuple[pl.DataFrame, dict[str, Any]]:
    draw = random.Random(5)
    columns = {f"x{n}": [draw.randrange(64) / 64 for _ in range(400)] for n in range(60)}
    features = {name: weighted(draw.randrange(-5, 6)) for name in columns}
    return ACCOUNTS.with_columns(**{n: pl.Series(v) for n, v in columns.items()}), {
        "features": features,
        "base": 50,
    }


FORMS: dict[str, tuple[pl.DataFrame, dict[str, Any]]] = {
    "edges": (ACCOUNTS, {}),
    "rule of tiers": (ACCOUNTS, {"tiers": SHARES}),
    "objective of a tier": (ACCOUNTS, {"tiers": SHARES, "objective": "nrr_by_tier.A"}),
    "guardrails": (
        ACCOUNTS.with_columns(half=pl.col("logins") % 2),
        {
            "segments": ["half"],
            "guardrails": [
                {"metric": "worst_segment_change", "min": -0.001},
                {"metric": "moved_share", "max": 0.3},
            ],
            "no_worse": ["nrr_at_20"],
        },
    ),
    "risk": (ACCOUNTS, {"orientation": "risk"}),
    "combined": (
        ACCOUNTS.with_columns(depth=pl.when(pl.col("logins") % 7 > 0).then("depth")),
        combined(),
    ),
    "no MRR": (ACCOUNTS.drop("mrr", "mrr_end", "actual_ltv"), {}),
    "no label": (
        ACCOUNTS.drop("retained_6mo", "churned", "mrr_end", "won_back").with_columns(
            activated=pl.col("activated").fill_null(0)
        ),
        {"objective": "revenue_capture_at_20"},
    ),
    "no end MRR": (ACCOUNTS.drop("mrr_end"), {}),
    "hostile names": hostile(),
    "60 features": many(),
    "several dates": (on_dates(), {}),
}


def moved(spec: ScoringSpec, draw: random.Random) -> dict[str, int]:
    """Draw new weights for some of a spec's terms, in order where they must be."""
    free = [term for term in spec.terms if term.feature != "logins" or term.bin is None]
    return {t.name: draw.randint(t.min, t.max) for t in draw.sample(free, min(3, len(free)))}


def opened(form: str, journal: Path, **options: Any) -> Workbench:
    table, changes = FORMS[form]
    data = scan(table, at=AT) if "features_asof" in table.columns else table
    return Workbench.open(data, make_spec(**changes), journal=journal, **options)


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a journal's row by name, without the score's own distribution."""
    values: dict[str, Any] = {}
    for key, metric in all_metrics().items():
        if key not in DISTRIBUTION_KEYS:
            own = {f"{key}.{t}": v for t, v in row[key]} if metric.by_tier else {key: row[key]}
            values |= own
    return values


def assert_as_tried(found: MeasuredWeights, rows: list[dict[str, Any]]) -> None:
    before, after = rows
    assert (found.baseline_value, found.value) == (before["value_after"], after["value_after"])
    assert found.outcome == after["outcome"]
    if found.outcome == "blocked":
        assert list(found.breaches) == after["breaches"]
    assert {each.name: each.before for each in found.metrics} == flat(before)
    assert {each.name: each.after for each in found.metrics} == flat(after)
    reasons = {n: r for n, r in dict(after["null_reasons"]).items() if n in flat(after)}
    known = {m.name: m.reason for m in found.metrics if m.after is None}
    assert known == {n: reasons.get(n, reasons.get(n.partition(".")[0])) for n in known}
    sizes = {tier.tier: tier.accounts_after for tier in found.tiers}
    assert sizes == dict(after["accounts_by_tier"])
    edges = dict(after.get("tier_edges") or ())
    assert {t.tier: t.low_after for t in found.tiers if t.rule} == edges


@pytest.mark.parametrize("draws", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", FORMS)
def test_numbers_are_those_of_try(form: str, draws: int, tmp_path: Path) -> None:
    bench, draw = opened(form, tmp_path), random.Random(f"{form}, {draws} draws")
    for _ in range(draws):
        weights = moved(bench.spec, draw)
        if all(bench.spec.weights[n] == w for n, w in weights.items()):
            continue
        found = bench.measure(weights)
        result = bench.record(weights, note=NOTE, author="CS")
        files = RunFiles(tmp_path, result.run_id)
        assert_as_tried(found, files.rows().to_pylist())
        # And what is on record is what the use case itself would have written.
        other = runs.try_weights(
            bench.accounts.table,
            bench.spec,
            weights,
            note=NOTE,
            author="CS",
            journal=tmp_path / "other",
        )
        assert other.digest == result.digest
        assert other.findings == result.findings
        assert found.sentence
        json.dumps(found.as_json())
    assert verify(tmp_path).sound


def test_the_sentences_of_a_change_that_is_kept_are_those_of_try(tmp_path: Path) -> None:
    bench = Workbench.open(ACCOUNTS, make_spec(), journal=tmp_path, holdout=0)
    weights = {"depth": 45, "logins": 10}
    found, more = bench.measure(weights), bench.details(weights)
    result = bench.record(weights, note=NOTE)
    assert more is not None
    assert found.kept
    assert more.sentences == result.sentences
    assert set(found.sentences[:1]) <= set(more.sentences)
    assert "Would be kept" in found.verdict
    sized = RunFiles(tmp_path, result.run_id).record("end")["equal_sizes"]
    searched = json.loads(sized)["searched"]
    by_name = {each.name: each for each in more.at_equal_sizes}
    for side, name in (("start", "before"), ("best", "after")):
        own = {n: v for n, v in searched[side].items() if n in by_name}
        assert own == {n: getattr(by_name[n], name) for n in own}
        assert len(own) == len(by_name)


@pytest.mark.parametrize("weights", [{"depth": 40}, {"logins": -20, "plan": 10}])
def test_the_auc_is_that_of_scikit_learn(tmp_path: Path, weights: dict[str, int]) -> None:
    bench = Workbench.open(ACCOUNTS, make_spec(), journal=tmp_path, holdout=0)
    known = ACCOUNTS["retained_6mo"].is_not_null()
    auc = next(m for m in bench.measure(weights).metrics if m.key == "auc_roc_retain")
    for spec, value in ((bench.spec, auc.before), (bench.spec_with(weights), auc.after)):
        scores = runs.score(ACCOUNTS, spec)["score"]
        expected = roc_auc_score(ACCOUNTS.filter(known)["retained_6mo"], scores.filter(known))
        assert value == pytest.approx(expected, abs=1e-12)


def test_outcomes_held_out_move_nothing(tmp_path: Path) -> None:
    bench = Workbench.open(ACCOUNTS, make_spec(), journal=tmp_path)
    assert bench.accounts.ids is not None
    assert bench.accounts.holdout is not None
    numbers = bench.accounts.holdout.numbers
    assert numbers is not None
    held = pl.col("account_id").is_in(bench.accounts.ids.gather(numbers).to_list())
    flipped = {n: 1 - pl.col(n) for n in ("retained_6mo", "churned", "activated", "won_back")}
    flipped |= {n: pl.col(n) * 3 for n in ("mrr", "actual_ltv")}
    other = ACCOUNTS.with_columns(
        **{n: pl.when(held).then(value).otherwise(n) for n, value in flipped.items()},
        mrr_end=pl.when(held).then(0.0).otherwise("mrr_end"),
    )
    assert not other.equals(ACCOUNTS)
    twin = Workbench.open(other, make_spec(), journal=tmp_path)
    for weights in ({}, {"depth": 40}, {"logins": 0, "plan": 3}):
        assert bench.measure(weights) == twin.measure(weights)
        assert bench.details(weights) == twin.details(weights)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", FORMS)
def test_moves_add_up_to_the_tiers_and_name_those_who_pay_most(form: str, tmp_path: Path) -> None:
    bench, draw = opened(form, tmp_path), random.Random(f"{form}, moves")
    weights = moved(bench.spec, draw)
    found, more = bench.measure(weights), bench.details(weights)
    assert more is not None
    for end in ("before", "after"):
        counted: Counter[str] = Counter()
        for move in more.moves:
            counted[getattr(move, end)] += move.accounts
        sizes = {t.tier: getattr(t, f"accounts_{end}") for t in found.tiers}
        assert sizes == {tier: counted[tier] for tier in sizes}
    assert more.moved == sum(m.accounts for m in more.moves if m.before != m.after)
    table = bench.accounts.table
    frame = table.frame.collect()
    scored = [runs.score(table, each) for each in (bench.spec, bench.spec_with(weights))]
    for each in more.largest:
        rows = (frame["account_id"] == each.account).arg_true().to_list()
        ends = {
            tuple(s.row(row, named=True)[k] for s in scored for k in ("score", "tier"))
            for row in rows
        }
        assert (each.score_before, each.tier_before, each.score_after, each.tier_after) in ends
    if more.largest and more.largest[0].mrr is not None:
        paid = [each.mrr or 0 for each in more.largest]
        assert paid == sorted(paid, reverse=True)
    if bench.accounts.search.segments:
        assert [s.accounts for s in more.segments or ()] == [
            len(column.rows(i))
            for column in bench.accounts.search.segments
            for i in range(len(column.values))
        ]
    json.dumps(more.as_json(), default=str)


def test_segments_are_those_that_guardrails_ask(tmp_path: Path) -> None:
    bench = opened("guardrails", tmp_path)
    weights = {"depth": -20}
    more = bench.details(weights)
    assert more is not None
    worst = min(each.change or 0 for each in more.segments or ())
    text = next(b for b in bench.measure(weights).breaches if "worst_segment" in b)
    assert text.startswith(f"worst_segment_change {worst:.4g} <")


def test_probabilities_are_fitted_to_either_score(tmp_path: Path) -> None:
    spec = runs.calibrate(ACCOUNTS, make_spec()).spec
    bench = Workbench.open(ACCOUNTS, spec, journal=tmp_path)
    more = bench.details({"depth": 40})
    assert more is not None
    assert more.calibration is not None
    for each, fitted in zip((spec, bench.spec_with({"depth": 40})), more.calibration, strict=True):
        again = runs.calibrate(ACCOUNTS, each).calibration
        assert fitted.model_dump(exclude={"fitted"}) == again.model_dump(exclude={"fitted"})
    assert opened("edges", tmp_path).details({"depth": 40}).calibration is None  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.parametrize(
    "form", ["edges", "rule of tiers", "combined", "hostile names", "several dates"]
)
def test_an_account_is_taken_apart_as_explain_does(form: str, tmp_path: Path) -> None:
    bench = opened(form, tmp_path)
    table = FORMS[form][0]
    weights = moved(bench.spec, random.Random(3))
    new = bench.spec_with(weights)
    for account in table["account_id"].sample(5, seed=1).to_list():
        found = bench.account(account, weights)
        wanted = runs.explain(account, table, new, other=bench.spec)
        assert found.lines == wanted.lines
        assert (found.score, found.tier, found.other_score) == (
            wanted.score,
            wanted.tier,
            wanted.other_score,
        )
        assert sum(line.points for line in found.lines) == pytest.approx(found.score)
    with pytest.raises(AccountDataError, match="no account"):
        bench.account("nobody", {})


@pytest.mark.slow
def test_a_look_is_counted_once_and_is_that_of_decide(tmp_path: Path) -> None:
    bench = Workbench.open(ACCOUNTS, make_spec(), journal=tmp_path / "journal")
    weights = {"depth": 45, "logins": 10}
    before = bench.looks(weights)
    assert (before.so_far, before.new) == (0, True)
    assert "0 comparisons so far" in before.sentence
    look = bench.look(weights, author="CS")
    assert (look.looks_before, look.looks, look.level) == (0, 1, 0.95)
    assert (bench.looks(weights).so_far, bench.looks(weights).new) == (1, False)
    assert bench.look(weights).looks == 1
    assert bench.look({"depth": 44}).looks == 2
    with Journal(tmp_path / "journal") as journal:
        looks = journal.sql("holdout_looks")
    assert looks["look"].to_list() == [1, 1, 2]
    assert looks["author"].to_list() == ["CS", None, None]
    # What `decide` says of the same change, on a journal of its own.
    candidate, other = bench.spec_with(weights), tmp_path / "other"
    decided = runs.decide_between(candidate, bench.spec, ACCOUNTS, journal=other)
    gain = decided.intervals.gain["auc_roc_retain"]
    found = next(each for each in look.metrics if each.key == "auc_roc_retain")
    assert found.interval == gain
    assert (look.before, look.after) == (found.before, found.after)
    with pytest.raises(UsageError, match="nothing to try"):
        bench.look({})
    none = Workbench.open(ACCOUNTS, make_spec(), journal=tmp_path, holdout=0)
    with pytest.raises(UsageError, match="no account is held out"):
        none.look(weights)


@pytest.mark.slow
def test_what_is_recorded_first_is_the_same_look(tmp_path: Path) -> None:
    bench = Workbench.open(ACCOUNTS, make_spec(), journal=tmp_path)
    weights = {"depth": 45, "logins": 10}
    assert bench.record(weights, note=NOTE).holdout is not None
    assert not bench.looks(weights).new
    assert bench.look(weights).looks == 1


@pytest.mark.slow
def test_what_is_recorded_after_a_look_is_the_same_look(tmp_path: Path) -> None:
    bench = Workbench.open(ACCOUNTS, make_spec(), journal=tmp_path)
    weights = {"depth": 45, "logins": 10}
    assert bench.look(weights).looks == 1
    assert bench.look({"depth": 44}).looks == 2
    result = bench.record(weights, note=NOTE)
    assert result.holdout is not None
    assert (bench.looks(weights).so_far, bench.looks(weights).new) == (2, False)
    assert bench.look(weights).looks == 2
    assert bench.look({"depth": 43}).looks == 3
    with Journal(tmp_path) as journal:
        looks = journal.sql("holdout_looks")
    # The look, another, the record of the first, and both looks after it.
    assert looks["look"].to_list() == [1, 2, 2, 2, 3]
    assert looks["comparison"].to_list().count(f"{result.run_id}/exp_00001") == 3
    # The decision on what was recorded is no further comparison either.
    assert decided_looks(tmp_path, result.run_id) == 3


def decided_looks(journal: Path, run_id: str) -> int:
    runs.decide(run_id, data=ACCOUNTS, journal=journal)
    with Journal(journal) as opened:
        seen: list[int] = opened.sql("holdout_looks")["look"].to_list()
    return max(seen)


@pytest.mark.slow
def test_a_record_is_found_again_and_goes_live(tmp_path: Path) -> None:
    bench = Workbench.open(ACCOUNTS, make_spec(), journal=tmp_path)
    promise = "auc_roc_retain >= 0.6"
    result = bench.record({"depth": 45}, note=NOTE, author="CS", expect=promise)
    lost = bench.record({"depth": -45, "plan": 9}, note="the other way", author="CS")
    assert (result.wins, lost.wins) == (1, 0)
    trials = bench.tried("depth")
    assert trials.counts == {"lose": 1, "win": 1}
    assert [(t.before, t.after, t.outcome, t.others, t.note) for t in trials.trials] == [
        (25, -45, "lose", 1, "the other way"),
        (25, 45, "win", 0, NOTE),
    ]
    assert all(trial.same_table and trial.author == "CS" for trial in trials.trials)
    assert bench.tried("logins").counts == {}
    live = bench.promote(result.run_id, note="agreed", author="CEO")
    assert (live.expect, live.spec_id) == (promise, specs.spec_id(result.spec))
    again = Workbench.open(ACCOUNTS, journal=tmp_path)
    assert again.spec.weights == {**bench.spec.weights, "depth": 45}
    assert verify(tmp_path).sound


@pytest.mark.slow
def test_a_search_keeps_what_is_locked_and_stops_when_told(tmp_path: Path) -> None:
    bench = Workbench.open(ACCOUNTS, make_spec(), journal=tmp_path, seed=3)
    seen: list[runs.Progress] = []
    start = {"depth": 30}
    found = bench.search(
        start, locked={"depth", "plan"}, limits=runs.Limits(150), on_progress=seen.append
    )
    with Journal(tmp_path) as journal:
        weights = journal.query("select map_entries(weights) as w from experiments")["w"].to_list()
    for row in weights:
        own = {each["key"]: each["value"] for each in row}
        assert (own["depth"], own["plan"]) == (30, bench.spec.weights["plan"])
    assert found.wins > 0
    assert [p.wins for p in seen] == sorted(p.wins for p in seen)
    assert {p.wins for p in seen} == set(range(min(p.wins for p in seen), found.wins + 1))
    assert seen[-1].weights == found.weights
    stopped = bench.search({}, limits=runs.Limits(10**6), stop=lambda: True, note="stop")
    assert stopped.state == "interrupted"
    assert verify(tmp_path).sound
    live = bench.promote(found.run_id, note="found from here")
    bounds = {t.name: (t.min, t.max) for t in Workbench.open(ACCOUNTS, journal=tmp_path).spec.terms}
    assert bounds == {term.name: (term.min, term.max) for term in bench.spec.terms}
    assert live.experiment == f"{found.run_id}/{found.best_experiment}"
    with pytest.raises(SpecError, match="no weight is left to move"):
        bench.search({}, locked=list(bench.spec.weights))


@pytest.mark.slow
def test_the_front_is_of_all_runs_of_the_table(tmp_path: Path) -> None:
    bench = Workbench.open(ACCOUNTS, make_spec(), journal=tmp_path)
    assert bench.front() is None
    run = bench.search({}, limits=runs.Limits(120))
    front = bench.front()
    assert front is not None
    wanted = gtmar.front(run.run_id, journal=tmp_path, whole_table=True)
    assert [p.experiment for p in front.points] == [p["experiment"] for p in wanted.points]
    for point in front.points:
        assert point.refusal is None
        found = bench.measure(point.weights)
        by_name = {each.name: each.after for each in found.metrics}
        assert (found.value, by_name[wanted.metric]) == (point.value, point.metric_value)
    json.dumps(front.as_json(), default=str)


def test_a_table_that_changes_is_said_and_nothing_is_put_on_record(tmp_path: Path) -> None:
    path, journal = tmp_path / "accounts.parquet", tmp_path / "journal"
    ACCOUNTS.write_parquet(path)
    bench = Workbench.open(path, make_spec(), journal=journal)
    assert not bench.measure({"depth": 40}).changed
    ACCOUNTS.head(300).write_parquet(path)
    os.utime(path, ns=(1, 1))
    for refused in (
        lambda: bench.record({"depth": 40}, note=NOTE),
        lambda: bench.look({"depth": 40}),
        lambda: bench.search({}),
        lambda: bench.account("acct-00001", {}),
    ):
        with pytest.raises(AccountDataError, match="isn't what it was when it was read"):
            refused()
    assert bench.measure({"depth": 40}).changed
    assert not journal.exists()


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"dpeth": 1}, 'no weight named "dpeth"\nhint: did you mean "depth"'),
        ({"depth": 51}, "depth"),
        ({"depth": 1.5}, 'spec "test": "depth" is a whole number, got 1.5'),
        ({"depth": np.float64(3)}, "is a whole number"),
        ({"depth": True}, "is a whole number, got True"),
    ],
)
def test_weights_that_cant_be_are_refused(
    tmp_path: Path, weights: dict[str, Any], words: str
) -> None:
    bench = opened("edges", tmp_path)
    for asked in (bench.measure, bench.details, bench.spec_with, bench.looks):
        with pytest.raises(SpecError, match=words):
            asked(weights)
    with pytest.raises(SpecError, match=words):
        bench.record(weights, note=NOTE)
    with pytest.raises(SpecError):
        bench.tried("dpeth")
    assert not list(tmp_path.iterdir())


def test_mrr_that_is_unknown_is_refused_as_by_try(tmp_path: Path) -> None:
    table = ACCOUNTS.with_columns(mrr=pl.when(pl.col("logins") % 5 > 0).then("mrr"))
    with pytest.raises(AccountDataError, match="values of mrr are unknown for current accounts"):
        Workbench.open(table, make_spec(), journal=tmp_path)


def test_without_a_spec_the_live_one_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing is live") as caught:
        Workbench.open(ACCOUNTS, journal=tmp_path)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("--spec")


def test_weights_that_hold_together_follow(tmp_path: Path) -> None:
    bench = opened("combined", tmp_path)
    bins = [line for line in bench.lines if line.feature == "logins"]
    assert [line.at_least for line in bins[1:]] == [line.name for line in bins[:-1]]
    with pytest.raises(SpecError):
        bench.measure({bins[0].name: 9})
    moved = bench.follow({}, {bins[0].name: 9})
    assert all(moved[a.name] <= moved[b.name] for a, b in pairwise(bins))
    assert moved[bins[0].name] == 9
    assert bench.measure(moved).weights == moved
    total = Workbench.open(ACCOUNTS, make_spec(constraints={"total": 67}), journal=tmp_path)
    shifted = total.follow({}, {"depth": 30})
    assert (sum(shifted.values()), shifted["depth"]) == (67, 30)


def test_lines_say_what_a_weight_is(tmp_path: Path) -> None:
    bench = opened("combined", tmp_path)
    by_name = {line.name: line for line in bench.lines}
    assert by_name["alert_created"].earned_by == "with alert_created"
    assert (by_name["depth"].group, by_name["quiet"].group) == ("use", None)
    assert (by_name["depth"].min, by_name["depth"].max, by_name["depth"].step) == (1, 50, 1)
    assert [line.weight for line in bench.lines] == list(bench.spec.weights.values())


def test_a_stale_question_gets_no_answer(tmp_path: Path) -> None:
    bench = opened("edges", tmp_path)
    asked: list[int] = []

    def second() -> bool:
        asked.append(1)
        return len(asked) > 1

    forty: Any = np.int8(40)
    assert bench.measure({"depth": forty}) == bench.measure({"depth": 40})
    assert bench.details({"depth": 40}, stale=second) is None
    assert len(asked) == 2


@pytest.mark.slow
def test_threads_get_the_answers_that_one_gets(tmp_path: Path) -> None:
    bench = opened("guardrails", tmp_path)
    asked = [{"depth": depth} for depth in range(-20, 20, 3)]
    alone = [(bench.measure(each), bench.details(each)) for each in asked]
    with ThreadPoolExecutor(8) as pool:
        measured = list(pool.map(bench.measure, asked * 3))
        details = list(pool.map(bench.details, asked))
    assert measured == [found for found, _ in alone] * 3
    assert details == [more for _, more in alone]


@pytest.mark.slow
def test_two_on_one_journal_and_a_search_beside(tmp_path: Path) -> None:
    benches = [Workbench.open(ACCOUNTS, make_spec(), journal=tmp_path) for _ in range(2)]
    with ThreadPoolExecutor(3) as pool:
        searched = pool.submit(benches[0].search, {}, limits=runs.Limits(80))
        tried = [
            pool.submit(bench.record, {"depth": 30 + n}, note=f"by {n}")
            for n, bench in enumerate(benches)
        ]
        own = benches[0].measure({"depth": 30}).value
        ended = [each.result() for each in (searched, *tried)]
    assert own == benches[1].measure({"depth": 30}).value == ended[1].best_value
    assert sorted(t.note or "" for t in benches[0].tried("depth").trials if t.kind == "human") == [
        "by 0",
        "by 1",
    ]
    assert verify(tmp_path).sound


def test_the_13_are_those_of_the_documents() -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| \[`(\w+)`\]", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 14))
    assert tuple(key for _, key in rows) == MAIN_KEYS
