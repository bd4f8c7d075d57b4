"""Guardrails that compare a candidate with the start, against scikit-learn and scored tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from gtmar import runs
from gtmar import spec as specs
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.engine.local import LocalEvaluator
from gtmar.objective import guardrails as guard
from gtmar.objective.guardrails import SMALLEST_SEGMENT, Guard, gap_of
from gtmar.objective.objective import Judge

if TYPE_CHECKING:
    from gtmar.data.matrix import AccountMatrix

START, OTHER = (30, 10, 10), (5, 40, 25)


def drawn(n: int = 700) -> pl.DataFrame:
    """Accounts of four regions, one of them too small and one in which all stay."""
    draw = np.random.default_rng(4)
    region = np.array(["amer", "apac", "emea", "tiny"])[
        np.minimum(np.arange(n) % 11, 3) if n < 40 else np.arange(n) % 3
    ]
    region = np.where(np.arange(n) < 30, "tiny", region)
    region = np.where((np.arange(n) >= 30) & (np.arange(n) < 100), "loyal", region)
    features = {f"x{i}": draw.random(n) for i in range(3)}
    stays = draw.random(n) < 0.2 + 0.6 * features["x0"]
    return pl.DataFrame(
        {
            "account_id": [f"a{i:04}" for i in range(n)],
            "region": region,
            "half": pl.Series(np.where(np.arange(n) % 2, "odd", "even")),
            **features,
            "retained_6mo": (stays | (region == "loyal")).astype(int),
            "mrr": draw.integers(1, 900, n),
        }
    )


TABLE = drawn()


def make(orientation: str = "health", **more: Any) -> specs.ScoringSpec:
    return specs.ScoringSpec.model_validate(
        {
            "model": "guarded",
            "id": "account_id",
            "orientation": orientation,
            "split": {"holdout": 0},
            "segments": ["region", "half"],
            "features": {
                f"x{i}": {"weight": START[i], "min": -50, "max": 50} for i in range(3)
            },
            "tiers": {
                "A": {"min": 30, "max": 101},
                "B": {"min": 20, "max": 30},
                "C": {"min": 0, "max": 20},
            },
            **more,
        }
    )  # fmt: skip


def loaded(spec: specs.ScoringSpec) -> AccountMatrix:
    return load_accounts(scan(TABLE), spec).search


def asked(
    spec: specs.ScoringSpec, weights: tuple[int, ...] = OTHER, *, objective: str | None = None
) -> tuple[str, ...]:
    matrix, judge = loaded(spec), Judge.of(spec, objective)
    frame = LocalEvaluator(matrix, spec).frame([START, weights])
    than, value = judge.values(frame)
    return Guard(matrix, spec, judge, START).breaches(frame[1], weights, value, than)


def auc(weights: tuple[int, ...], column: str, value: str) -> float:
    """The AUC inside one segment, of scores that `gtmar score` gives, by scikit-learn."""
    scores = runs.score(
        TABLE, make().with_weights(dict(zip(("x0", "x1", "x2"), weights, strict=True)))
    )
    inside = (TABLE[column] == value).to_numpy()
    labels, points = TABLE["retained_6mo"].to_numpy(), scores["score"].to_numpy()
    return float(roc_auc_score(labels[inside], points[inside]))


NAMES = [
    *(("region", value) for value in ("amer", "apac", "emea")),
    *(("half", value) for value in ("even", "odd")),
]


def test_values_by_segment_are_scikit_learns_and_small_or_one_sided_ones_are_unknown() -> None:
    spec = make()
    found = Guard(loaded(spec), spec, Judge.of(spec), START).segment_values(OTHER)
    assert list(found) == [
        *(f"region={v}" for v in ("amer", "apac", "emea", "loyal", "tiny")),
        "half=even",
        "half=odd",
    ]
    assert found.pop("region=tiny") is None
    assert found.pop("region=loyal") is None
    for (column, value), got in zip(NAMES, found.values(), strict=True):
        assert got == pytest.approx(auc(OTHER, column, value), abs=1e-12)


def test_the_worst_segment_is_named_with_its_change() -> None:
    changes = {f"{c}={v}": auc(OTHER, c, v) - auc(START, c, v) for c, v in NAMES}
    worst = min(changes, key=lambda name: changes[name])
    limit = {"metric": "worst_segment_change", "min": changes[worst] + 1e-6}
    [said] = asked(make(guardrails=[limit]))
    assert said == (
        f"worst_segment_change {changes[worst]:.4g} < min {changes[worst] + 1e-6:g} in {worst}"
    )
    assert asked(make(guardrails=[{**limit, "min": changes[worst] - 1e-6}])) == ()


def test_a_change_is_an_improvement_where_less_is_better() -> None:
    spec = make(guardrails=[{"metric": "worst_segment_change", "min": 0.0}])
    kept = (pl.col("retained_6mo") == 1).cast(pl.Int64)
    table = TABLE.with_columns(mrr_end=pl.col("mrr") * (pl.col("x0") * 100).floor() / 100 * kept)
    matrix = load_accounts(scan(table), spec).search
    judge = Judge.of(spec, "contraction_rate_by_tier.A")
    assert judge.sign == -1
    whole = Guard(matrix, spec, judge, START)
    then, now = whole.segment_values(START), whole.segment_values(OTHER)
    rises = {n: (now[n] or 0) - (then[n] or 0) for n in then if then[n] is not None}
    highest = max(rises, key=lambda n: rises[n])
    assert rises[highest] > 0
    frame = LocalEvaluator(matrix, spec).frame([OTHER])
    said = whole.breaches(frame, OTHER, 0.0, 0.0)
    assert f"worst_segment_change {-rises[highest]:.4g} < min 0 in {highest}" in said


def test_the_gap_lies_between_the_best_and_the_worst_segment() -> None:
    values = [auc(OTHER, c, v) for c, v in NAMES]
    gap = max(values) - min(values)
    assert gap_of(values) == gap
    assert asked(make(guardrails=[{"metric": "segment_gap", "max": gap - 1e-6}])) == (
        f"segment_gap {gap:.4g} > max {gap - 1e-6:g}",
    )
    assert asked(make(guardrails=[{"metric": "segment_gap", "max": gap + 1e-6}])) == ()
    assert gap_of([0.5]) is None


def test_the_share_that_moves_is_that_of_two_scored_tables() -> None:
    spec = make()
    scored = [
        runs.score(TABLE, spec.with_weights(dict(zip(("x0", "x1", "x2"), w, strict=True))))["tier"]
        for w in (START, OTHER)
    ]
    share = (scored[0] != scored[1]).mean()
    assert isinstance(share, float)
    assert 0.1 < share < 0.9
    assert Guard(loaded(spec), spec, Judge.of(spec), START).moved_share(OTHER) == share
    [said] = asked(make(guardrails=[{"metric": "moved_share", "max": 0.1}]))
    assert said == f"moved_share {share:.4g} > max 0.1"
    assert asked(make(guardrails=[{"metric": "moved_share", "max": share}])) == ()


def test_the_gain_is_over_the_incumbent_and_not_the_start() -> None:
    spec = make(guardrails=[{"metric": "gain", "min": 0.01}])
    whole = Guard(loaded(spec), spec, Judge.of(spec), START)
    frame = LocalEvaluator(loaded(spec), spec).frame([OTHER])
    assert whole.breaches(frame, OTHER, 0.72, 0.70) == ()
    assert whole.breaches(frame, OTHER, 0.72, 0.715) == ("gain 0.005 < min 0.01",)


def test_a_segment_whose_value_is_gone_breaks_what_asks_of_it() -> None:
    """Else a candidate could keep a limit by emptying the tier that it is asked in."""
    limits = [
        {"metric": "worst_segment_change", "min": -1.0},
        {"metric": "segment_gap", "max": 100.0},
    ]
    spec = make(guardrails=limits)
    judge = Judge.of(spec, "logo_retention_by_tier.A")
    matrix = loaded(spec)
    frame = LocalEvaluator(matrix, spec).frame([(0, 0, 0)])
    said = Guard(matrix, spec, judge, START).breaches(frame, (0, 0, 0), None, None)
    assert said[1:] == (
        "worst_segment_change is null: no value in region=amer",
        "segment_gap is null: no value in region=amer",
    )


def test_breaches_of_metrics_and_comparisons_stand_together() -> None:
    limits = [
        {"metric": "moved_share", "max": 0.0},
        {"metric": "auc_roc_retain", "min": 0.99},
        {"metric": "gain", "min": 0.9},
    ]
    said = asked(make(guardrails=limits))
    assert [text.split()[0] for text in said] == ["auc_roc_retain", "moved_share", "gain"]


def test_two_limits_of_a_kind_are_both_asked() -> None:
    """The laxer one of two must not hide that the stricter one is broken."""
    changes = [auc(OTHER, c, v) - auc(START, c, v) for c, v in NAMES]
    for metric, end, strict, lax in (
        ("worst_segment_change", "min", 0.5, min(changes) - 1),
        ("segment_gap", "max", 0.0, 1.0),
        ("moved_share", "max", 0.0, 1.0),
        ("gain", "min", 0.9, -1.0),
    ):
        for order in ((strict, lax), (lax, strict)):
            limits = [{"metric": metric, end: limit} for limit in order]
            [said] = asked(make(guardrails=limits))
            assert said.startswith(metric)


def test_of_one_segment_alone_there_is_no_gap_to_break() -> None:
    """A rehearsal may draw accounts so that one is left: nothing is known, nothing broken."""
    spec = make(segments=["region"], guardrails=[{"metric": "segment_gap", "max": 0.0}])
    matrix = load_accounts(scan(TABLE.with_columns(region=pl.lit("one"))), spec).search
    frame = LocalEvaluator(matrix, spec).frame([OTHER])
    assert Guard(matrix, spec, Judge.of(spec), START).breaches(frame, OTHER, 0.9, 0.8) == ()


@pytest.mark.parametrize("rows", [37, 350, 700])
def test_a_table_in_slices_gives_the_same(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    spec = make()
    whole = Guard(loaded(spec), spec, Judge.of(spec), START)
    expected = whole.segment_values(OTHER), whole.moved_share(OTHER)
    monkeypatch.setattr(guard, "_SLICE", rows)
    sliced = Guard(loaded(spec), spec, Judge.of(spec), START)
    assert (sliced.segment_values(OTHER), sliced.moved_share(OTHER)) == expected


def test_what_no_segment_can_answer_is_said_beforehand() -> None:
    spec = make(segments=["size"], guardrails=[{"metric": "segment_gap", "max": 0.1}])

    def lacking(small: int) -> dict[str, str]:
        size = pl.when(pl.int_range(pl.len()) < small).then(pl.lit("s")).otherwise(pl.lit("m"))
        # Both classes in either segment.
        table = TABLE.with_columns(size=size, retained_6mo=pl.int_range(pl.len()) % 2)
        matrix = load_accounts(scan(table), spec).search
        return Guard(matrix, spec, Judge.of(spec), START).lacking()

    assert lacking(SMALLEST_SEGMENT) == {}
    assert lacking(SMALLEST_SEGMENT - 1) == {
        "segment_gap": "1 of 2 segments have 50 accounts and a value of auc_roc_retain, 2 needed"
    }
