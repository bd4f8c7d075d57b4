"""What a column's name gives away."""

import re
from pathlib import Path

import pytest

from gtmar.autospec import leakage as naming
from gtmar.autospec.leakage import HintKind, name_hint, words_of

AFTERWARDS = (
    "churn_date", "Churn Reason", "ChurnReason", "churned_at", "is_churned", "cancelled",
    "cancellation_date", "CancelationReasonCode", "termination_type", "exit_survey",
    "customer_left", "contract_termination_date", "lost_reason", "churn_reason_2",
)  # fmt: skip
RUNNING = (
    "tenure", "tenure_at_end", "months_active", "MonthsActive", "duration", "call_duration",
    "TotalCharges", "total_spend", "lifetime_orders", "last_invoice_date", "Last Payment",
    "Subscription  Length", "account_age", "contract_end_date", "cumulative_logins",
)  # fmt: skip
MENTIONS = (
    "churn_score",
    "predicted_ltv",
    "target_segment",
    "retained_3mo_peers",
    "churn_risk_flag",
)
#: Features that teams have, and that say nothing of the end.
HONEST = (
    "logins", "days_since_login", "recency_days", "orders_last_2mo", "cancel_page_views",
    "closed_tickets", "left_navigation_clicks", "lost_password_resets", "days_active_norm",
    "exit_page_views", "plan", "nps", "csat_score", "company_age_years", "support_tickets",
    "type", "reason", "date", "last_login", "invoice_count", "payment_failures", "Status", "",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *((name, HintKind.AFTERWARDS) for name in AFTERWARDS),
        *((name, HintKind.RUNNING) for name in RUNNING),
        *((name, HintKind.MENTIONS) for name in MENTIONS),
        *((name, None) for name in HONEST),
    ],
)
def test_names(name: str, told: HintKind | None) -> None:
    found = name_hint(name)
    assert (None if found is None else found.kind) == told


def test_words_are_parted_at_signs_and_capitals() -> None:
    assert words_of("lastInvoice-Date/EUR_2") == ["last", "invoice", "date", "eur", "2"]
    assert words_of("Kündigung") == ["kündigung"]


def test_the_page_has_every_word() -> None:
    page = (Path(__file__).parents[2] / "docs" / "leakage.md").read_text("utf-8")
    rows = re.findall(r"^\| (\w+) \| ([^|]+) \|$", page, re.MULTILINE)
    listed = {name: set(words.split(", ")) for name, words in rows}
    pairs = {" ".join(pair) for pair in naming.RUNNING_PAIRS}
    assert listed["ends"] == naming.EVENTS
    assert listed["details"] == naming.DETAILS
    assert listed["fillers"] == naming.FILLERS
    assert listed["mentions"] == naming.MENTIONS
    assert listed["running"] == {*naming.RUNNING, *pairs}
