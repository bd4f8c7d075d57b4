"""Whether a search pays, asked in folds: what the answer rests on, and what a run does with it."""

from __future__ import annotations

import json
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from commands import printed
from factories import make_accounts, make_spec
from scipy.stats import sem
from sklearn.metrics import roc_auc_score

from gtmar import runs
from gtmar.autospec.first_spec import first_spec
from gtmar.data.matrix import load_accounts
from gtmar.data.outcomes import Movement
from gtmar.data.scan import scan
from gtmar.data.split import held_out
from gtmar.engine.local import LocalEvaluator
from gtmar.errors import UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.files import RunFiles
from gtmar.journal.lookup import checkout
from gtmar.objective.objective import Judge
from gtmar.optimize.search_loop import Limits
from gtmar.runs.folds import folds_and_start
from gtmar.runs.plan import Plan
from gtmar.runs.session import ended_run, repeated_search
from gtmar.spec.model import Guardrail, ScoringSpec
from gtmar.validation.repeated_search import RepeatedSearch
from gtmar.validation.resampling import folded, in_order_of_content
from gtmar.validation.search_pays import SearchPays, search_in_folds

if TYPE_CHECKING:
    from collections.abc import Callable


def noisy(n: int, *, seed: int, columns: int = 16) -> pl.DataFrame:
    """One column tells a little who stays, all others nothing."""
    draw = np.random.default_rng(seed)
    x = draw.random((n, columns))
    stays = draw.random(n) < 0.35 + 0.4 * x[:, 0]
    return pl.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(n)],
            **{f"x{i}": x[:, i] for i in range(columns)},
            "retained_6mo": stays.astype(int),
        }
    )


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory: pytest.TempPathFactory) -> runs.RunResult:
    folder = tmp_path_factory.mktemp("folds")
    noisy(300, seed=3).write_parquet(folder / "accounts.parquet")
    spec = first_spec(scan(folder / "accounts.parquet")).spec
    how: dict[str, Any] = {
        "limits": runs.Limits(300),
        "journal": folder / "journal",
        "start": "logistic",
    }
    runs.run(folder / "accounts.parquet", spec, **how)
    return runs.run(folder / "accounts.parquet", spec, **how, folds=5)


# ---- folds ---------------------------------------------------------------------------------------


def test_each_account_is_in_one_fold_and_outcomes_are_spread() -> None:
    spec = make_spec(split={"holdout": 0})
    matrix = in_order_of_content(load_accounts(scan(make_accounts(203, seed=4)), spec).search)
    pairs = [folded(matrix, folds=4, number=number) for number in range(1, 5)]
    assert [own.accounts + others.accounts for others, own in pairs] == [203] * 4
    together = sum((own.accounts for _, own in pairs), 0)
    assert together == 203
    kept = matrix.rows(Movement.KEPT_REVENUE_LOST, Movement.KEPT_NONPAYING)
    share = (kept.stop - kept.start) / 4
    for _, own in pairs:
        rows = own.rows(Movement.KEPT_REVENUE_LOST, Movement.KEPT_NONPAYING)
        assert abs(rows.stop - rows.start - share) < 1
    values = np.concatenate([own.columns[0] for _, own in pairs])
    assert np.array_equal(np.sort(values), np.sort(matrix.columns[0]))


def test_all_dates_of_an_account_are_in_one_fold() -> None:
    spec = make_spec(split={"holdout": 0})
    matrix = load_accounts(scan(make_accounts(60, seed=4)), spec).search
    whose = (np.arange(60) * 7 % 20).astype(np.int32)
    dated = replace(matrix, account_of=whose)
    seen = [set((folded(dated, folds=3, number=n)[1].account_of).tolist()) for n in (1, 2, 3)]  # type: ignore[union-attr] # given above
    assert sum(map(len, seen)) == 20
    assert set().union(*seen) == set(range(20))


# ---- the answer ----------------------------------------------------------------------------------


def test_values_are_aucs_of_accounts_that_no_search_of_theirs_saw() -> None:
    spec = make_spec(split={"holdout": 0})
    matrix = load_accounts(scan(make_accounts(240, seed=4)), spec).search
    judge = Judge.of(spec, "auc_roc_retain")
    search = RepeatedSearch(spec, judge, lambda: Plan().make_proposer(spec, sign=1), Limits(60))
    answer = search_in_folds(search, matrix, 3)
    ordered = in_order_of_content(matrix)
    for number in (1, 2, 3):
        others, own = folded(ordered, folds=3, number=number)
        found = search.over(others)
        assert found.first == spec.vector
        assert found.weights != spec.vector
        rows = own.rows(Movement.LOST_NONPAYING, Movement.KEPT_NONPAYING)
        stayed = np.arange(rows.start, rows.stop) >= own.offsets[Movement.KEPT_REVENUE_LOST]
        for weights, value in (
            (found.first, answer.first[number - 1]),
            (found.weights, answer.searched[number - 1]),
        ):
            scores = LocalEvaluator(own, spec).scores(weights)[rows]
            assert value == pytest.approx(roc_auc_score(stayed, scores), abs=1e-12)


def test_row_order_changes_no_answer() -> None:
    spec = make_spec(split={"holdout": 0})
    table = make_accounts(160, seed=5)
    judge = Judge.of(spec, "auc_roc_retain")
    search = RepeatedSearch(spec, judge, lambda: Plan().make_proposer(spec, sign=1), Limits(30))
    one, other = (
        search_in_folds(search, load_accounts(scan(each), spec).search, 4)
        for each in (table, table.sample(fraction=1, shuffle=True, seed=3))
    )
    assert one == other


def test_the_mean_decides_and_its_sentence_says_so() -> None:
    pays = SearchPays("auc_roc_retain", True, 200, True, (0.7, 0.6, None), (0.702, 0.608, 0.9))
    assert pays.gain == pytest.approx(0.005)
    assert pays.error == pytest.approx(sem([0.002, 0.008]))
    assert pays.pays
    assert pays.sentence.startswith("A search pays here: in 2 of 3 folds, on")
    close = replace(pays, searched=(0.72, 0.59, 0.9))
    assert close.gain == pytest.approx(0.005)
    assert close.pays
    assert "is a close call, so it is done: in 2 of 3 folds" in close.sentence
    closely = replace(close, higher_is_better=False)
    assert not closely.pays
    assert "is a close call, so only the spec's weights and fitted ones were" in closely.sentence
    assert "is 0.6550 after it, and 0.6500 at the best of what is tried first" in pays.sentence
    less = replace(pays, higher_is_better=False)
    assert less.gain == pytest.approx(-0.005)
    assert not less.pays
    assert "doesn't pay here" in less.sentence
    assert SearchPays.of_json(json.dumps(less.as_json())) == less
    equal = replace(pays, searched=pays.first)
    assert equal.gain == 0
    assert not equal.pays
    assert equal.sentence.startswith("A search doesn't pay here")
    one = replace(pays, first=(0.7, None, None))
    assert one.error is None
    none = replace(pays, first=(None, None, None))
    assert none.gain is None
    assert none.pays
    assert "can't be told" in none.sentence


# ---- a run ---------------------------------------------------------------------------------------


def test_a_search_of_noise_stops_at_the_fitted_weights(overfitted: runs.RunResult) -> None:
    answer = overfitted.search_pays
    assert answer is not None
    assert not answer.pays
    rows = RunFiles(Path(overfitted.journal), overfitted.run_id).rows().to_pylist()
    assert {row["proposer"] for row in rows[1:]} == {"logistic"}
    # The run before it taught this one nothing: the best that it knew is what doesn't pay.
    start = RunFiles(Path(overfitted.journal), overfitted.run_id).record("start")
    assert start["memory"] is None
    assert (
        overfitted.experiments == len(rows) - 1 == len(dict(start["parameters"])["given"].split())
    )


def test_its_encoders_are_fitted_to_the_other_folds_alone(overfitted: runs.RunResult) -> None:
    """Weights fitted to encoders that know a fold's outcomes would rank it far too well."""
    answer = overfitted.search_pays
    assert answer is not None
    values = [value for value in answer.first if value is not None]
    assert np.mean(values) < (overfitted.best_value or 1) - 0.05


def test_it_is_replayed_and_rehearsed_as_it_was(overfitted: runs.RunResult) -> None:
    assert runs.replay(overfitted.run_id, journal=overfitted.journal).identical
    session = ended_run(overfitted.run_id, overfitted.journal, None)
    assert session.plan.search_pays == overfitted.search_pays
    search = repeated_search(session)
    assert search.only_first
    again = search.over(session.accounts.search)
    assert dict(zip(overfitted.weights, again.weights, strict=True)) == overfitted.weights
    assert again.weights == again.first


def test_a_search_that_pays_is_the_one_that_nobody_asked_about(tmp_path: Path) -> None:
    table = make_accounts(600, seed=4)
    spec = make_spec()
    how: dict[str, Any] = {"limits": runs.Limits(80), "metric": "auc_roc_retain"}
    plain = runs.run(table, spec, **how, journal=tmp_path / "plain")
    how |= {"start": "spec", "folds": 3}
    asked = runs.run(table, spec, **how, journal=tmp_path / "asked")
    assert asked.search_pays is not None
    assert asked.search_pays.pays
    assert not asked.search_pays.fitted
    assert asked.digest == plain.digest
    assert plain.search_pays is None


def test_all_that_is_wrong_is_said_before_anything_is_read(tmp_path: Path) -> None:
    wrong = r"seed must be in .* folds must be 0 for none, or 2 or more, got 1"
    with pytest.raises(UsageError, match=wrong):
        runs.run("absent.parquet", make_spec(), folds=1, seed=-1, journal=tmp_path)
    rows = runs.Engine("ray", own_rows=True)
    with pytest.raises(UsageError, match="folds are searched in this process"):
        runs.run("absent.parquet", make_spec(), folds=5, engine=rows)


# ---- when it is asked ----------------------------------------------------------------------------


def planned(accounts: int, spec_of: Callable[[ScoringSpec], ScoringSpec], **how: Any) -> Any:
    """Return folds and start of a run over some accounts, half of which leave."""
    table = noisy(accounts, seed=3, columns=3)
    spec = spec_of(first_spec(scan(table)).spec)
    judge = Judge.of(spec, how.pop("metric", None))
    how = {"folds": None, "start": None, "engine": runs.Engine(), "journal": "absent", **how}
    return folds_and_start(load_accounts(scan(table), spec), spec, judge, **how)


@pytest.mark.parametrize(
    ("accounts", "how", "expected"),
    [
        (400, {}, (5, "logistic")),
        (400, {"folds": 0}, (0, "spec")),
        (400, {"start": "spec"}, (0, "spec")),
        (400, {"start": "logistic"}, (0, "logistic")),
        (400, {"start": "spec", "folds": 3}, (3, "spec")),
        (400, {"metric": "tier_separation"}, (0, "spec")),
        (400, {"metric": "tier_separation", "folds": 4}, (4, "logistic")),
        (400, {"engine": runs.Engine("ray")}, (5, "logistic")),
        (400, {"engine": runs.Engine("ray", own_rows=True)}, (0, "spec")),
        (2_000, {}, (0, "spec")),
        (2_000, {"folds": 4}, (4, "logistic")),
    ],
)
def test_it_is_asked_where_few_leave_for_each_weight_of_a_first_spec(
    accounts: int, how: dict[str, Any], expected: tuple[int, str]
) -> None:
    *found, unasked = planned(accounts, lambda spec: spec, **how)
    assert tuple(found) == expected
    assert (unasked is not None) == getattr(how.get("engine"), "own_rows", False)


def test_it_is_not_asked_of_a_spec_of_ones_own() -> None:
    own = planned(400, lambda spec: spec.model_copy(update={"fitted": {}}))
    assert own == (0, "spec", None)


@pytest.mark.slow
def test_a_start_that_breaks_a_guardrail_is_searched_in_any_case(tmp_path: Path) -> None:
    def guarded(spec: ScoringSpec) -> ScoringSpec:
        never = Guardrail(metric="share_by_tier.A", max=0.01)
        return spec.model_copy(update={"guardrails": (never,)})

    assert planned(400, guarded, folds=5)[:2] == (0, "spec")
    said: list[str] = []
    table = noisy(200, seed=3, columns=3)
    spec = guarded(first_spec(scan(table)).spec)
    limits, journal = runs.Limits(3), tmp_path / "j"
    runs.run(table, spec, limits=limits, journal=journal, folds=5, announce=said.append)
    assert "The start breaks a guardrail, so it is searched, and no folds are asked." in said


@pytest.mark.slow
def test_weights_that_these_accounts_gave_cant_be_asked_about(
    overfitted: runs.RunResult, tmp_path: Path
) -> None:
    table = Path(overfitted.journal).parent / "accounts.parquet"
    how: dict[str, Any] = {"limits": runs.Limits(5), "journal": overfitted.journal}
    again = runs.run(table, overfitted.spec, **how)
    assert again.search_pays is None
    with pytest.raises(UsageError, match="its weights come from the outcomes of these accounts"):
        runs.run(table, overfitted.spec, **how, folds=5)
    card = first_spec(scan(table), bins=True).spec
    with pytest.raises(UsageError, match="so no fold of them is unseen"):
        runs.run(table, card, **how, folds=5)
    # A run's start has the weights that it was given, which no run found.
    with Journal(overfitted.journal) as journal:
        start = checkout(journal, f"{overfitted.run_id}/start")
    assert start.lineage is not None
    assert (
        runs.run(table, start, **how, folds=5).search_pays
        == runs.run(table, **how, folds=5).search_pays
    )
    # Of other accounts it can be asked.
    noisy(300, seed=4).write_parquet(tmp_path / "later.parquet")
    assert runs.run(tmp_path / "later.parquet", overfitted.spec, **how).search_pays is not None


def test_nothing_is_asked_of_a_search_of_no_experiment(tmp_path: Path) -> None:
    none = runs.run(noisy(200, seed=5), limits=runs.Limits(0), journal=tmp_path)
    assert none.search_pays is None
    assert none.experiments == 0


@pytest.mark.slow
def test_a_search_that_doesnt_pay_from_the_specs_own_weights_tries_nothing(tmp_path: Path) -> None:
    noisy(200, seed=5).write_parquet(tmp_path / "t.parquet")
    spec = first_spec(scan(tmp_path / "t.parquet")).spec
    how: dict[str, Any] = {"start": "spec", "journal": tmp_path / "j"}
    fitted = runs.run(tmp_path / "t.parquet", spec, limits=runs.Limits(300), **how)
    best = fitted.spec.model_copy(update={"lineage": None, "fitted": {}})
    asked = runs.run(tmp_path / "t.parquet", best, limits=runs.Limits(200), folds=5, **how)
    # Its weights know all folds, but nothing in it says so any more.
    assert asked.search_pays is not None
    assert not asked.search_pays.pays
    assert asked.experiments == 0
    assert asked.weights == best.weights
    assert "only the spec's own weights were tried" in asked.search_pays.sentence
    assert runs.replay(asked.run_id, journal=tmp_path / "j").identical


def test_other_accounts_values_change_no_fold() -> None:
    """Codes rank the values of the whole table, those held out among them."""
    table = noisy(400, seed=3, columns=3)
    spec = first_spec(scan(table)).spec
    moved = table.with_columns(
        pl.when(held_out(pl.col("account_id"), spec.split))
        .then(pl.col("x0") * 0.01 + 0.3)
        .otherwise("x0")
        .alias("x0")
    )
    one, other = (
        in_order_of_content(load_accounts(scan(each), spec, coded=["x0"]).search)
        for each in (table, moved)
    )
    assert not np.array_equal(np.sort(one.columns[-1]), np.sort(other.columns[-1]))
    for mine, theirs in zip(one.columns[:-1], other.columns[:-1], strict=True):
        assert np.array_equal(mine, theirs)


@pytest.mark.slow
def test_run_review_and_page_say_why_so_little_was_tried(
    overfitted: runs.RunResult, tmp_path: Path
) -> None:
    answer = overfitted.search_pays
    assert answer is not None
    review = f"gtmar review {overfitted.run_id} --journal {overfitted.journal}"
    for line in (review, f"{review} --full"):
        assert answer.sentence in " ".join(printed(line, tmp_path).split())
    found = json.loads(printed(f"{review} --json", tmp_path))
    assert found["search_pays"] == answer.sentence
    page = f"gtmar report {overfitted.run_id} --journal {overfitted.journal} -o page.html"
    printed(page, tmp_path)
    assert answer.sentence in unescape((tmp_path / "page.html").read_text())
