"""Null searches: what is drawn, whether their p-values are true, and what they say."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from benchmarks.nulls import (
    OBJECTIVES,
    OTHER,
    START,
    STRENGTHS,
    Cell,
    accounts,
    first_spec_on_noise,
    p_values,
    spec_of,
)
from benchmarks.nulls import uniform as uniformity
from factories import make_accounts, make_spec
from scipy.stats import binomtest

from gtmar import runs
from gtmar.autospec.first_spec import first_spec
from gtmar.data.matrix import AccountMatrix, load_accounts
from gtmar.data.outcomes import Movement
from gtmar.data.scan import scan
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.processes import Processes
from gtmar.journal.catalog import Journal
from gtmar.journal.lookup import checkout
from gtmar.metrics import measure
from gtmar.objective.objective import Judge
from gtmar.optimize.search_loop import Limits
from gtmar.runs.plan import Plan, given_at_start
from gtmar.spec.encoders import RangeEncoder
from gtmar.validation.repeated_search import (
    NullAnswers,
    RepeatedSearch,
    gain_by_chance,
    searched_again,
    value_by_chance,
)
from gtmar.validation.resampling import in_order_of_content, shuffled

if TYPE_CHECKING:
    from pathlib import Path

    from gtmar.spec.model import ScoringSpec


def placed(n: int, seed: int) -> pl.DataFrame:
    """Accounts with a column that a spec may name as segments."""
    names = pl.Series([f"region {i * 7 % 5}" for i in range(n)])
    return make_accounts(n, seed=seed).with_columns(region=names)


def values(matrix: AccountMatrix, spec: ScoringSpec, weights: tuple[int, ...]) -> dict[str, float]:
    frame = LocalEvaluator(matrix, spec).frame([weights])
    measured = measure(frame, spec.tier_names, matrix.outcomes).values
    return {name: measured[name].item() for name in (*OBJECTIVES, "revenue_capture_ceiling")}


def search_of(spec: ScoringSpec, **more: Any) -> RepeatedSearch:
    judge, plan = Judge.of(spec), Plan(proposer="random")
    return RepeatedSearch(
        spec=spec,
        judge=judge,
        proposer=lambda: plan.make_proposer(spec, sign=judge.sign),
        limits=Limits(25),
        **more,
    )


# ---- whether searches go to other processes -----------------------------------------------------


@pytest.mark.parametrize(
    ("clock", "expected"), [("perf_counter", 0.0), ("monotonic", 0.0), ("process_time", 2_000.0)]
)
def test_a_search_is_long_by_its_processor_time_alone(
    clock: str, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand seconds pass by one clock in each search; the others stand still."""
    clocks = dict.fromkeys(("perf_counter", "monotonic", "process_time"), 0.0)
    for name in clocks:
        monkeypatch.setattr(time, name, lambda name=name: clocks[name])
    asked: list[float] = []

    class Asked(Processes):
        def worth(self, seconds: float) -> bool:
            asked.append(seconds)
            return False

    class Waited(RepeatedSearch):
        def over_drawn(self, draw: object, number: int) -> Any:
            clocks[clock] += 1_000.0
            return number

    search = search_of(spec_of())
    waited = Waited(search.spec, search.judge, search.proposer, search.limits)
    draw: Any = None
    done: list[Any] = [*waited.over_each(draw, 3, None, Asked(1))]
    assert done == [1, 2, 3]
    # The first is asked for nothing; two are left after it.
    assert asked[:2] == [0.0, expected]


# ---- what is drawn ---------------------------------------------------------------------------


def test_among_like_accounts_the_start_knows_what_it_knew_and_others_know_no_more() -> None:
    """Outcomes follow from another order, which is better; drawn anew, the start's is the best."""
    spec = spec_of()
    matrix = load_accounts(scan(accounts(6_000, 1.5, seed=1, other=0.6)), spec).search
    scores = LocalEvaluator(matrix, spec).scores(START)
    drawn = shuffled(matrix, seed=1, number=1, scores=scores)
    real, null = ({w: values(m, spec, w) for w in (START, OTHER)} for m in (matrix, drawn))
    for objective, most in zip(OBJECTIVES, (0.006, 0.03, 0.03), strict=True):
        assert null[START][objective] == pytest.approx(real[START][objective], abs=most)
        assert null[OTHER][objective] < null[START][objective]
    assert real[OTHER]["auc_roc_retain"] > real[START]["auc_roc_retain"] + 0.03
    assert null[START]["revenue_capture_ceiling"] == real[START]["revenue_capture_ceiling"]
    # Given the start's score, what another score says of who stays is what chance says.
    kept = np.arange(drawn.accounts) >= drawn.offsets[Movement.KEPT_REVENUE_LOST]
    for one, tells in ((matrix, True), (drawn, False)):
        own, other = (LocalEvaluator(one, spec).scores(w).astype(float) for w in (START, OTHER))
        left = [v - np.polyval(np.polyfit(own, v, 3), own) for v in (kept.astype(float), other)]
        assert (abs(np.corrcoef(left)[0, 1]) > 4 / np.sqrt(len(own))) == tells


@pytest.mark.parametrize("alike", [False, True])
def test_labelled_unlabelled_and_former_accounts_exchange_outcomes_among_themselves(
    *, alike: bool
) -> None:
    spec = make_spec(split={"holdout": 0}, segments=["region"])
    matrix = load_accounts(scan(placed(400, seed=3)), spec).search
    scores = LocalEvaluator(matrix, spec).scores((20, 25, 30, -8)) if alike else None
    drawn = shuffled(matrix, seed=2, number=3, scores=scores)
    for name in ("codes", "offsets", "start", "end", "ltv", "ltv_rows", "day_codes"):
        assert getattr(drawn, name) is getattr(matrix, name), name
    groups = [matrix.rows(Movement.LOST_NONPAYING, Movement.KEPT_NONPAYING)]
    groups += [matrix.rows(Movement.FORMER_LOST, Movement.FORMER_WON_BACK)]
    for rows in groups:
        assert rows.stop - rows.start > 20
        # A segment is what an account is: it goes where the account's features go.
        before, after = (
            np.stack([*(c[rows] for c in m.columns), m.segments[0].codes[rows]], axis=1)
            for m in (matrix, drawn)
        )
        assert (before != after).any()
        assert sorted(before.tolist()) == sorted(after.tolist())
    assert not drawn.columns[0].flags.writeable


def test_tied_scores_are_shuffled_among_all_that_are_tied() -> None:
    spec = spec_of()
    matrix = load_accounts(scan(accounts(1_000, 1.5, seed=2)), spec).search
    tied = np.zeros(matrix.accounts, dtype=np.int64)
    auc = [
        values(shuffled(matrix, seed=4, number=k, scores=tied), spec, START)["auc_roc_retain"]
        for k in range(1, 61)
    ]
    assert np.mean(auc) == pytest.approx(0.5, abs=0.008)


@pytest.mark.slow
def test_no_draw_depends_on_the_order_of_the_tables_rows() -> None:
    table = placed(300, seed=5)
    spec = make_spec(split={"holdout": 0}, segments=["region"])
    tables = (table, table.reverse(), table.sample(fraction=1, shuffle=True, seed=1))
    one, *others = (in_order_of_content(load_accounts(scan(t), spec).search) for t in tables)
    for other in others:
        pairs: list[Any] = [*zip(one.columns, other.columns, strict=True)]
        pairs += [(getattr(one, n), getattr(other, n)) for n in ("codes", "start", "end", "ltv")]
        pairs += [(one.ltv_rows, other.ltv_rows), (one.segments[0].codes, other.segments[0].codes)]
        assert all((a == b).all() for a, b in pairs)
    for by_chance in (value_by_chance, gain_by_chance):
        first, *more = (
            by_chance(
                search_of(spec), load_accounts(scan(each), spec).search, 0.1, searches=2, seed=0
            )
            for each in tables
        )
        assert more == [first, first]
        assert first.drawn[0] != first.drawn[1]
    resampled = [
        searched_again(search_of(spec), load_accounts(scan(t), spec).search, searches=2, seed=0)
        for t in tables
    ]
    assert all((each == resampled[0]).all() for each in resampled)


# ---- whether the p-values are true -----------------------------------------------------------


def test_every_kind_of_table_and_start_has_both_answers() -> None:
    bare = make_accounts(250, seed=6).drop("mrr", "mrr_end", "actual_ltv", "won_back", "activated")
    bare = bare.drop("days_to_activate").drop_nulls("retained_6mo")
    by_share = {
        "A": {"share": 0.2, "min": 60, "max": 101},
        "B": {"share": 0.5, "min": 20, "max": 60},
        "C": {"share": 0.3, "min": 0, "max": 20},
    }
    for spec, table in (
        (make_spec(split={"holdout": 0}), make_accounts(250, seed=6)),
        (make_spec(split={"holdout": 0}, orientation="risk"), bare),
        (make_spec(split={"holdout": 0}, tiers=by_share), bare),
    ):
        given = lambda matrix, spec=spec: given_at_start("logistic", matrix, spec)  # noqa: E731
        matrix = load_accounts(scan(table), spec).search
        for by_chance in (value_by_chance, gain_by_chance):
            chance = by_chance(search_of(spec, given=given), matrix, 0.99, searches=2, seed=0)
            assert chance.p_value == 1 / 3
            assert len(set(chance.drawn)) == 2


def test_noise_climbs_less_from_a_good_start_than_from_chance() -> None:
    spec = spec_of()
    matrix = load_accounts(scan(accounts(800, STRENGTHS["much"], seed=3)), spec).search
    search = replace(search_of(spec), limits=Limits(80))
    # Shuffled among all, outcomes leave the start at a half, from where noise climbs further.
    assert max(gain_by_chance(search, matrix, 0.02, searches=3, seed=0).drawn) < 0.02
    assert 0.52 < max(value_by_chance(search, matrix, 0.76, searches=3, seed=0).drawn) < 0.6


@pytest.mark.slow
def test_p_is_uniform_where_the_start_knows_all_there_is() -> None:
    """At a good start, where gains from noise used to hide every gain: p was always 1."""
    every: list[float] = []
    for place, objective in enumerate(OBJECTIVES):
        cell = Cell(objective, STRENGTHS["much"], 0.0, 500, 20, 9)
        # Other tables for each objective: together they are as good as so many of one.
        p = [p_values(cell, seed)["better"] for seed in range(10 * place, 10 * (place + 1))]
        assert uniformity(p, 9) > 0.001, objective
        every += p
    assert uniformity(every, 9) > 0.001
    assert binomtest(sum(each <= 0.1 for each in every), 30, 0.1).pvalue > 0.001


@pytest.mark.slow
def test_p_is_uniform_where_no_score_knows_anything_and_a_planted_gain_is_found() -> None:
    cell = Cell(OBJECTIVES[0], 0.0, 0.0, 500, 20, 9)
    found = [p_values(cell, seed) for seed in range(16)]
    for question in ("knows", "better"):
        assert uniformity([p[question] for p in found], 9) > 0.001, question
    planted = replace(cell, strength=STRENGTHS["much"], other=0.7, experiments=40)
    real = [p_values(planted, seed) for seed in range(4)]
    for question in ("knows", "better"):
        # By chance three or more of four come four in 1,000 times.
        assert sum(p[question] <= 0.1 for p in real) >= 3, question


# ---- what they say ---------------------------------------------------------------------------

KNOWS = {"found": 0.83, "values": [0.5] * 18 + [0.55], "typical": 0.5, "high": 0.52}
KNOWS |= {"fitted": False, "unseen": 0.81}


@pytest.mark.parametrize(
    ("found", "gains", "p_knows", "said"),
    [
        (
            0.038,
            [0.004] * 18 + [0.011],
            0.05,
            [
                "The score knows something: on shuffled outcomes the same search reaches 0.5000 "
                "typically, and the run's 0.8300 or better never in 19 tries (p = 0.05).",
                "It is better than the start: where nothing is left to find, the same search gains "
                "+0.0040 typically, +0.0110 at the most of 19 tries, as much as the run in none of "
                "them (p = 0.05); this run gained +0.0380.",
            ],
        ),
        (
            0.004,
            [0.001] * 10 + [0.004] * 9,
            0.35,
            [
                "Nothing here shows that the score knows anything: on shuffled outcomes the same "
                "search reaches 0.5000 typically, and the run's 0.8300 or better in 6 of 19 tries "
                "(p = 0.35). These accounts can't tell its order from a random one.",
                "Nothing here shows that it is better than the start: where nothing is left to "
                "find, the same search gains +0.0010 typically, +0.0040 at the most of 19 tries, "
                "as much as the run in 9 of them (p = 0.5); this run gained +0.0040. That doesn't "
                "say that it is no better: these accounts can't tell, those that the search never "
                "saw may (gtmar decide).",
            ],
        ),
    ],
)
def test_both_answers_are_sentences(
    found: float, gains: list[float], p_knows: float, said: list[str]
) -> None:
    p = (1 + sum(gain >= found for gain in gains)) / 20
    answers = NullAnswers(
        objective="auc_roc_retain",
        found=found,
        gains=tuple(gains),
        p_value=p,
        typical=float(np.median(gains)),
        high=0.01,
        experiments=100,
        knows={**KNOWS, "p_value": p_knows},
    )
    assert answers.sentences == said
    fitted = replace(answers, knows={**KNOWS, "p_value": 0.05, "fitted": True})
    assert fitted.sentences[0] == (
        "Whether the score knows anything, these accounts can't say: its start may know them "
        "beforehand, as the best of an earlier run, an edited first spec, a scorecard, one with "
        "rules or one of a wide table does, and would on noise too. On shuffled outcomes "
        "the same search reaches 0.5000 typically, the run 0.8300; on those that it never saw, "
        "which can say it, it reaches 0.8100."
    )
    few = replace(answers, found=0.5, gains=(0.0,) * 5, p_value=1 / 6)
    assert few.reading == "few"
    assert "So few searches can't prove anything" in few.sentences[1]
    none = replace(answers, found=0.0, gains=(0.0,) * 5, p_value=1.0)
    assert "nothing better than the start" in none.sentences[1]
    # An earlier version asked another question.
    [old] = replace(answers, knows=None).sentences
    assert "doesn't say whether the run is better than its start" in old


def test_the_event_has_both_and_the_command_says_them(tmp_path: Path) -> None:
    table = make_accounts(250, seed=7)
    table.write_parquet(tmp_path / "a.parquet")
    spec = make_spec()
    found = runs.run(tmp_path / "a.parquet", spec, limits=runs.Limits(20), journal=tmp_path / "j")
    told: list[tuple[int, int]] = []
    null = runs.null_search(
        found.run_id, journal=tmp_path / "j", searches=2, watch=lambda *n: told.append(n)
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    written = null.as_json()
    assert {"found", "gains", "p_value", "typical", "high", "experiments", "seed"} <= set(written)
    facts = {"found", "values", "p_value", "typical", "high", "fitted", "unseen"}
    assert set(written["knows"]) == facts
    assert not written["knows"]["fitted"]
    assert written["knows"]["unseen"] == (found.holdout or {})["best_value"]
    assert len(null.gains) == len(written["knows"]["values"]) == 2
    assert written["knows"]["found"] == found.best_value
    assert null.found == (found.best_value or 0) - (found.baseline_value or 0)
    assert null.held_out > 0


@pytest.mark.slow
def test_a_start_that_knows_the_outcomes_cant_be_told_from_noise(tmp_path: Path) -> None:
    """What init fitted is fitted anew; what a run found, or a person edited since, is not."""
    tables = {
        name: accounts(300, 0.0, seed).drop([f"x{i}" for i in range(4, 10)])
        for name, seed in (("a", 1), ("b", 2))
    }
    limits, journal = runs.Limits(10), tmp_path / "j"
    for name, table in tables.items():
        table.write_parquet(tmp_path / f"{name}.parquet")
    first = runs.run(tmp_path / "a.parquet", limits=limits, journal=journal)
    card = first_spec(scan(tmp_path / "a.parquet"), bins=True).spec
    own = first_spec(scan(tmp_path / "a.parquet")).spec
    edited = own.model_copy(
        update={
            "features": own.features
            | {"x1": own.features["x1"].model_copy(update={"encode": RANGE})},
            "model": "another name",
        }
    )
    with Journal(journal) as opened:
        best = checkout(opened, first.run_id)
    said = []
    for name, spec in (("a", None), ("a", best), ("b", best), ("a", card), ("a", edited)):
        found = runs.run(tmp_path / f"{name}.parquet", spec, limits=limits, journal=journal)
        null = runs.null_search(found.run_id, journal=journal, searches=1)
        assert null.knows is not None
        said.append(null.knows["fitted"])
    assert said == [False, True, False, True, True]


RANGE = RangeEncoder.model_validate({"kind": "range", "from": 0.1, "to": 0.9})


@pytest.mark.slow
def test_on_noise_first_specs_have_uniform_p_and_few_weights_that_hold() -> None:
    """p reached its least on each table, by chance once in 100,000 times; 29 of 64 weights held."""
    # Three tables have weights enough; where all five p are the least, that is beyond chance.
    found = [
        first_spec_on_noise(400, seed, experiments=20, searches=20 * (seed < 3), nulls=5)
        for seed in range(5)
    ]
    assert uniformity([each.p_value for each in found], 5) > 0.001
    held = [one for each in found for one in each.holds]
    curved = [one for each in found for one in each.curves]
    for many in (held, curved):
        assert binomtest(sum(many), len(many), 0.05, "greater").pvalue > 0.01


@pytest.mark.slow
def test_a_weight_that_is_real_holds_though_its_curve_is_fitted_anew() -> None:
    each = first_spec_on_noise(800, 1, experiments=4, searches=20, nulls=5, signal=1.0)
    assert each.p_value == 1 / 6
    assert dict(zip(each.names, each.holds, strict=True))["x0"]
    assert dict(zip(each.names, each.holds, strict=True))["g0"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["table", "rule"])
def test_a_table_or_a_rule_that_chance_made_doesnt_hold(kind: str) -> None:
    """Each held on 24 of 24 tables where cells and conditions stayed, on none found anew."""
    stayed, anew = (
        first_spec_on_noise(
            300, 3, experiments=10, searches=20, forced=kind, anew=each, columns=("x0", "x1", "g0")
        )
        for each in (False, True)
    )
    assert stayed.names[-1] == anew.names[-1] == "forced"
    assert (stayed.holds[-1], anew.holds[-1]) == (True, False)


@pytest.mark.slow
def test_a_rule_that_is_real_holds_and_null_says_that_its_columns_were_chosen(
    tmp_path: Path,
) -> None:
    draw = np.random.default_rng(5)
    visits, tenure = draw.poisson(6, 1_500), draw.gamma(1, 12, 1_500).round(1)
    worse = 3.0 * ((visits < 5) & (tenure < 10))
    kept = draw.random(1_500) < 1 / (1 + np.exp(worse - 1))
    table = pl.DataFrame({"account_id": np.arange(1_500), "visits": visits, "tenure": tenure})
    table = table.with_columns(retained_6mo=pl.Series(kept).cast(pl.Int8))
    table.write_parquet(tmp_path / "a.parquet")
    spec = first_spec(scan(tmp_path / "a.parquet"), rules=1).spec
    [name] = [name for name, each in spec.features.items() if each.rule is not None]
    journal = tmp_path / "j"
    found = runs.run(tmp_path / "a.parquet", spec, limits=runs.Limits(10), journal=journal)
    # One half in forty finds another rule; seed 0 draws it first of all.
    held = runs.stability(found.run_id, journal=journal, searches=10, seed=1)
    assert {each.name: each.reading for each in held.weights}[name] == "holds"
    null = runs.null_search(found.run_id, journal=journal, searches=1)
    assert null.knows is not None
    assert null.knows["fitted"]
    # Stated by a person, the rule isn't of these outcomes.
    own = {each: id_ for each, id_ in spec.fitted.items() if each != name}
    stated = spec.model_copy(update={"fitted": own})
    found = runs.run(tmp_path / "a.parquet", stated, limits=runs.Limits(10), journal=journal)
    null = runs.null_search(found.run_id, journal=journal, searches=1)
    assert null.knows is not None
    assert not null.knows["fitted"]
