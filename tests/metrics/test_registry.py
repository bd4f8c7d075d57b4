"""The list of metrics: complete, readable, and asked for by name."""

import dataclasses
import re

import pytest

from gtmar.data.outcomes import OutcomeColumns
from gtmar.errors import UsageError
from gtmar.metrics import Metric, all_metrics, expression
from gtmar.spec.model import Outcomes

TIERS = ("A", "B")
THIRTEEN = (
    "nrr_by_tier",
    "grr_by_tier",
    "logo_retention_by_tier",
    "expansion_rate_by_tier",
    "contraction_rate_by_tier",
    "quick_ratio_by_tier",
    "winback_rate_by_former_tier",
    "activation_rate_by_tier",
    "arpa_by_tier",
    "revenue_concentration_hhi",
    "revenue_capture_at_20",
    "auc_roc_retain",
    "auc_roc_churn",
    "tier_separation",
    "nrr_at_20",
)


@pytest.mark.parametrize("key", THIRTEEN)
def test_the_thirteen_are_there_by_their_journal_keys(key: str) -> None:
    assert all_metrics()[key].key == key


@pytest.mark.parametrize("key", list(all_metrics()))
def test_every_field_of_a_metric_says_something(key: str) -> None:
    metric = all_metrics()[key]
    assert metric.key == key
    assert re.fullmatch(r"[a-z0-9_]+", key)
    for field in dataclasses.fields(Metric):
        value = getattr(metric, field.name)
        if field.name == "null_when" and metric.count:
            assert value == ""
        elif isinstance(value, str):
            assert value.strip() == value != "", field.name
    assert metric.answers.endswith("?")
    assert metric.better in {"higher", "lower", "neither"}
    roles = {"label", *Outcomes.model_fields}
    assert set(metric.needs) <= roles
    assert metric.by_tier == ("_tier" in key)


def test_a_metric_is_found_by_name() -> None:
    metric, value = expression("tier_separation", TIERS)
    assert metric.key == "tier_separation"
    assert "ltv_accounts" in value.meta.root_names()
    metric, value = expression("nrr_by_tier.B", TIERS)
    assert metric.key == "nrr_by_tier"
    assert set(value.meta.root_names()) == {"start[B]", "end[B]"}


def test_a_tier_may_have_a_dot_in_its_name() -> None:
    _, value = expression("arpa_by_tier.v1.2", ("v1.2", "rest"))
    assert set(value.meta.root_names()) == {"start[v1.2]", "paying[v1.2]"}


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("nrr_by_teir.A", 'no metric "nrr_by_teir"', 'did you mean "nrr_by_tier"?'),
        ("auc_roc_retian", 'no metric "auc_roc_retian"', 'did you mean "auc_roc_retain"?'),
        ("AUC_ROC_CHURN", 'no metric "AUC_ROC_CHURN"', 'did you mean "auc_roc_churn"?'),
        (
            "nrr_by_tier",
            'metric "nrr_by_tier" is by tier and needs one; tiers are A, B',
            "for example nrr_by_tier.A",
        ),
        (
            "nrr_by_tier.C",
            'metric "nrr_by_tier" has no tier "C"; tiers are A, B',
            "for example nrr_by_tier.A",
        ),
        ("nrr_at_20.A", 'metric "nrr_at_20" has no tiers', "ask for nrr_at_20"),
    ],
)
def test_a_wrong_name_is_refused_with_the_likely_one(name: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError, match="^" + re.escape(message)) as caught:
        expression(name, TIERS)
    assert caught.value.hint == hint


def test_a_name_like_no_other_gets_a_list() -> None:
    with pytest.raises(UsageError, match="tier_separation") as caught:
        expression("zzzzzz", TIERS)
    assert caught.value.hint is None


@pytest.mark.parametrize(
    ("roles", "needs", "reason"),
    [
        (("retained",), ("label",), None),
        (("churned",), ("label",), None),
        (("mrr_end",), ("label",), None),
        (("mrr",), ("label",), "no retained_6mo, churned or mrr_end column"),
        (("mrr",), ("mrr", "mrr_end"), "no mrr_end column"),
        ((), (), None),
    ],
)
def test_what_a_metric_needs_is_looked_for(
    roles: tuple[str, ...], needs: tuple[str, ...], reason: str | None
) -> None:
    assert OutcomeColumns({role: role for role in roles}).missing_reason(needs) == reason
