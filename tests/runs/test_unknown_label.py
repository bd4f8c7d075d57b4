"""A label that is still unknown is decided by nothing else: in a check, a run, and what follows."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from factories import make_spec, weighted

from gtmar.autospec.first_spec import first_spec
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.errors import ViolationsError
from gtmar.runs import Limits, backtest, check, run

#: Accounts whose window is over, and all.
KNOWN, ALL = 300, 400
SPEC = make_spec(
    base=0,
    features={"logins": weighted(40, 0, 60, encode={"kind": "range", "from": 0, "to": 60})},
    tiers={"A": {"min": 20, "max": 101}, "B": {"min": 0, "max": 20}},
    split={"holdout": 0},
)


def accounts() -> pl.DataFrame:
    source = np.random.default_rng(1)
    logins = source.integers(0, 60, ALL)
    retained = (source.random(ALL) < 1 / (1 + np.exp(1.5 - 0.06 * logins))).astype(int)
    mrr = np.round(source.lognormal(5, 0.8, ALL), 2)
    grown = source.choice([0.8, 1, 1, 1.2], ALL)
    return pl.DataFrame(
        {
            "account_id": [f"A{i:05}" for i in range(ALL)],
            "logins": logins,
            "mrr": mrr,
            "mrr_end": np.where(retained == 1, np.round(mrr * grown, 2), 0.0),
            "retained_6mo": retained,
        }
    )


def late(label: str, end: pl.Expr) -> pl.DataFrame:
    """Return the accounts, the last hundred without a label and with some end MRR."""
    known = pl.int_range(pl.len()) < KNOWN
    value = pl.col("retained_6mo") if label == "retained_6mo" else 1 - pl.col("retained_6mo")
    return accounts().select(
        "account_id",
        "logins",
        "mrr",
        pl.when(known).then("mrr_end").otherwise(end).alias("mrr_end"),
        pl.when(known).then(value).alias(label),
    )


ENDS = {"none": pl.lit(0.0), "today": pl.col("mrr"), "unknown": pl.lit(None, dtype=pl.Float64)}


@pytest.mark.parametrize("label", ["retained_6mo", "churned"])
@pytest.mark.parametrize("end", list(ENDS))
def test_accounts_without_a_label_are_left_out_whatever_their_end_mrr(label: str, end: str) -> None:
    frame = late(label, ENDS[end])
    with pytest.raises(ViolationsError, match="100 of 400 accounts have no outcome of any kind"):
        check(frame, SPEC)
    found = check(frame, SPEC, drop_unlabelled=True)
    right = check(frame.head(KNOWN), SPEC)
    assert found.dropped == ALL - KNOWN
    assert found.cohorts == right.cohorts
    assert found.metrics == right.metrics


def test_message_says_that_end_mrr_decides_nothing() -> None:
    with pytest.raises(ViolationsError, match="100 have mrr_end, which doesn't decide"):
        check(late("retained_6mo", pl.col("mrr")), SPEC)


@pytest.mark.slow
def test_run_and_backtest_measure_who_is_labelled(tmp_path: Path) -> None:
    frame = late("retained_6mo", pl.col("mrr"))
    options: dict[str, Any] = {"limits": Limits(5), "cold": True}
    found = run(frame, SPEC, journal=tmp_path / "a", drop_unlabelled=True, **options)
    right = run(frame.head(KNOWN), SPEC, journal=tmp_path / "b", **options)
    assert (found.digest, found.best_value) == (right.digest, right.best_value)
    today = backtest(frame, score_column="logins", drop_unlabelled=True)
    assert today.metrics == backtest(frame.head(KNOWN), score_column="logins").metrics


def test_accounts_of_another_outcome_stay_and_are_said() -> None:
    frame = late("retained_6mo", pl.col("mrr")).with_columns(actual_ltv=pl.col("mrr") * 12)
    loaded = load_accounts(scan(frame), SPEC)
    assert loaded.search.accounts == ALL
    assert any("100 accounts have no retained_6mo" in note for note in loaded.checked.notes)
    found, right = check(frame, SPEC), check(frame.head(KNOWN), SPEC)
    for metric in ("nrr", "grr", "auc_roc_retain", "arpa", "revenue_capture_at_20"):
        assert found.metrics[metric] == right.metrics[metric]


def test_init_orients_by_labelled_accounts_alone() -> None:
    # Today's MRR says that the unlabelled stayed, and their logins are low.
    frame = late("retained_6mo", pl.col("mrr"))
    known = pl.int_range(pl.len()) < KNOWN
    turned = frame.with_columns(logins=pl.when(known).then("logins").otherwise(0))
    feature = first_spec(scan(turned)).spec.features["logins"]
    points = getattr(feature.encode, "points", None)
    rising = points[0][1] < points[-1][1] if points else not feature.encode.model_dump()["invert"]
    assert rising
