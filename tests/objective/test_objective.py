"""What decides: the objective's value, "better", guardrails and their wording."""

import random
from typing import Any

import polars as pl
import pytest
import tables

from gtmar.data.outcomes import OutcomeColumns
from gtmar.engine.local import LocalEvaluator
from gtmar.errors import UsageError
from gtmar.metrics import all_metrics
from gtmar.objective.objective import DEFAULT_OBJECTIVE, TIER_SHARE_FLOOR, Judge, better

WEIGHTS = (40, 25, -10)


def judged(name: str | None = None, **more: Any) -> Judge:
    return Judge.of(tables.make_spec(WEIGHTS, **more), name)


@pytest.fixture(scope="module")
def sums() -> pl.DataFrame:
    """Sums of three candidates; the last puts everybody in the lowest tier."""
    drawn = tables.draw_table(random.Random(3), 60, "everything")
    spec = tables.make_spec(WEIGHTS)
    matrix = tables.loaded(tables.frame_of(drawn, "everything"), spec).search
    return LocalEvaluator(matrix, spec).frame([WEIGHTS, (90, 60, 10), (0, 0, 0)])


# ---- better ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "than", "sign", "expected"),
    [
        (0.7, 0.6, 1, True),
        (0.6, 0.7, 1, False),
        (0.6, 0.6, 1, False),
        (0.6, 0.7, -1, True),
        (0.7, 0.6, -1, False),
        (0.6, 0.6, -1, False),
        # Differences up to 1e-12 are rounding.
        (0.5 + 0.9e-12, 0.5, 1, False),
        (0.5 + 1.1e-12, 0.5, 1, True),
        (0.5 - 0.9e-12, 0.5, -1, False),
        (0.5 - 1.1e-12, 0.5, -1, True),
        # Null never wins, and loses to any value.
        (None, 0.1, 1, False),
        (None, 0.1, -1, False),
        (None, None, 1, False),
        (0.0, None, 1, True),
        (0.0, None, -1, True),
    ],
)
def test_better_is_by_more_than_rounding_and_null_never_wins(
    value: float | None, than: float | None, sign: int, expected: bool
) -> None:
    assert better(value, than, sign=sign) is expected


def test_better_has_more_unless_told() -> None:
    assert better(0.7, 0.6)


# ---- which objective ------------------------------------------------------------------------


def test_the_objective_is_the_calls_then_the_specs_then_auc() -> None:
    assert judged().name == DEFAULT_OBJECTIVE == "auc_roc_retain"
    assert judged(objective="tier_separation").name == "tier_separation"
    assert judged("nrr_at_20", objective="tier_separation").name == "nrr_at_20"


def test_less_is_better_where_the_metric_says_so() -> None:
    judge = judged("contraction_rate_by_tier.A")
    assert judge.sign == -1
    assert judge.gain(0.1, 0.2)
    assert not judge.gain(0.2, 0.1)
    assert not judge.gain(None, 0.1)
    assert judged("nrr_by_tier.A").sign == 1


@pytest.mark.parametrize("name", ["no_such_metric", "nrr_by_tier", "nrr_by_tier.Z", "arpa.A"])
def test_an_unknown_objective_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        judged(name)


@pytest.mark.parametrize("name", ["score_mean", "scored", "share_by_tier.A", "paying_by_tier.B"])
def test_what_has_no_better_direction_is_no_objective(name: str) -> None:
    with pytest.raises(UsageError, match=f'^"{name.partition(".")[0]}" can\'t be the objective'):
        judged(name)


@pytest.mark.parametrize("name", [k for k, m in all_metrics().items() if m.better != "neither"])
def test_whatever_has_one_may_decide(name: str) -> None:
    metric = all_metrics()[name]
    judge = judged(f"{name}.B" if metric.by_tier else name)
    assert judge.metric is metric
    assert judge.sign == (1 if metric.better == "higher" else -1)


def test_what_a_table_lacks_for_it_is_said_by_name() -> None:
    guardrails = [
        {"metric": "tier_separation", "min": 1},
        {"metric": "share_by_tier.A", "min": 0.1},
    ]
    judge = judged("quick_ratio_by_tier.A", guardrails=guardrails)
    found = OutcomeColumns({"mrr": "mrr", "retained": "retained_6mo"})
    assert judge.lacking(found) == {
        "quick_ratio_by_tier.A": "no mrr_end column",
        "tier_separation": "no actual_ltv column",
    }
    full = OutcomeColumns({**found.columns, "mrr_end": "mrr_end", "ltv": "actual_ltv"})
    assert judge.lacking(full) == {}


def test_an_unknown_guardrail_is_refused() -> None:
    with pytest.raises(UsageError, match="no_such_metric"):
        judged(guardrails=[{"metric": "no_such_metric", "min": 0.5}])


def test_one_that_is_nearly_a_comparison_is_met_with_its_name() -> None:
    with pytest.raises(UsageError) as caught:
        judged(guardrails=[{"metric": "moved_shares", "max": 0.5}])
    assert caught.value.hint == 'did you mean "moved_share"?'
    with pytest.raises(UsageError) as caught:
        judged(guardrails=[{"metric": "auc_roc_retained", "min": 0.5}])
    assert caught.value.hint == 'did you mean "auc_roc_retain"?'


def test_comparisons_are_no_metrics_and_stand_apart() -> None:
    own = [{"metric": "moved_share", "max": 0.5}, {"metric": "share_by_tier.A", "min": 0.1}]
    judge = judged(guardrails=own)
    assert [g.metric for g in judge.comparisons] == ["moved_share"]
    assert limits_of(judge) == {"share_by_tier.A": (0.1, None)}


def test_values_are_one_a_candidate_and_null_where_there_is_none(sums: pl.DataFrame) -> None:
    values = judged("nrr_by_tier.A").values(sums)
    assert len(values) == 3
    assert values[1] is not None
    assert values[2] is None
    expected = sums["end[A]"][1] / sums["start[A]"][1]
    assert values[1] == pytest.approx(expected, rel=1e-12)


# ---- guardrails -----------------------------------------------------------------------------


def limits_of(judge: Judge) -> dict[str, tuple[float | None, float | None]]:
    return {guardrail.metric: (guardrail.min, guardrail.max) for guardrail, *_ in judge.limits}


def test_an_objective_of_one_tier_guards_the_tiers_size() -> None:
    assert TIER_SHARE_FLOOR == 0.05
    assert limits_of(judged("nrr_by_tier.A")) == {"share_by_tier.A": (0.05, None)}
    assert limits_of(judged()) == {}


def test_the_specs_own_limit_on_the_size_takes_the_place_of_the_implied_one() -> None:
    own = [{"metric": "share_by_tier.A", "min": 0.2}]
    assert limits_of(judged("nrr_by_tier.A", guardrails=own)) == {"share_by_tier.A": (0.2, None)}


def test_a_limit_on_another_tier_or_from_above_does_not(sums: pl.DataFrame) -> None:
    other = [{"metric": "share_by_tier.B", "min": 0.2}]
    judge = judged("nrr_by_tier.A", guardrails=other)
    assert limits_of(judge) == {"share_by_tier.B": (0.2, None), "share_by_tier.A": (0.05, None)}
    above = [{"metric": "share_by_tier.A", "max": 0.9}]
    judge = judged("nrr_by_tier.A", guardrails=above)
    assert [g.min for g, *_ in judge.limits] == [None, 0.05]
    assert judge.breaches(sums[2]) == ("share_by_tier.A 0 < min 0.05",)


def test_breaches_are_worded_in_the_specs_order(sums: pl.DataFrame) -> None:
    share = sums["accounts[A]"][1] / sums["scored"][1]
    auc = judged().values(sums)[1]
    assert auc is not None
    guardrails = [
        {"metric": "auc_roc_retain", "min": 0.99},
        {"metric": "share_by_tier.A", "max": 0.01},
        {"metric": "auc_roc_churn", "min": 0.0, "max": 1.0},
        {"metric": "scored", "min": 61},
    ]
    assert judged(guardrails=guardrails).breaches(sums[1]) == (
        f"auc_roc_retain {auc:.4g} < min 0.99",
        f"share_by_tier.A {share:.4g} > max 0.01",
        "scored 60 < min 61",
    )


def test_a_guardrail_without_a_value_is_broken(sums: pl.DataFrame) -> None:
    judge = judged(guardrails=[{"metric": "grr_by_tier.A", "min": 0.1}])
    assert judge.breaches(sums[2]) == ("grr_by_tier.A is null",)
    assert judge.breaches(sums[1]) == ()


def test_a_limit_is_kept_by_who_just_reaches_it(sums: pl.DataFrame) -> None:
    share = sums["accounts[A]"][1] / sums["scored"][1]
    both = [{"metric": "share_by_tier.A", "min": share, "max": share}]
    assert judged(guardrails=both).breaches(sums[1]) == ()


def test_without_guardrails_nothing_is_broken(sums: pl.DataFrame) -> None:
    assert judged().breaches(sums[0]) == ()
