"""Four tables of real customers: what `init` makes of each, and that its spec then fits it.

They belong to others and stay where they are: where the folder is absent, all of this is skipped.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gtmar.autospec.first_spec import FirstSpec, first_spec
from gtmar.autospec.leakage import Grade
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.data.split import holdout_mask
from gtmar.runs.check import Checkup, check
from gtmar.runs.score import score
from gtmar.spec import parse

FOLDER = Path(
    os.environ.get("GTMAR_REAL_TABLES", Path(__file__).parents[2].parent / "shared" / "data")
)


@dataclass(frozen=True)
class RealTable:
    """What a table is known to hold, and what is made of it, once for all tests."""

    name: str
    accounts: int
    outcomes: frozenset[str]
    retained: float
    features: int
    #: The least that equal weights reach of the objective.
    least: float
    leaking: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.parquet"

    @cached_property
    def checked(self) -> tuple[Checkup, FirstSpec]:
        """What `check` says of the table, and the spec that it detected for that."""
        detected: list[FirstSpec] = []

        def kept(*given: Any, **named: Any) -> FirstSpec:
            detected.append(first_spec(*given, **named))
            return detected[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules[check.__module__], "first_spec", kept)
            checkup = check(self.path)
        [found] = detected
        return checkup, found

    @property
    def checkup(self) -> Checkup:
        return self.checked[0]

    @property
    def detected(self) -> FirstSpec:
        return self.checked[1]


SAAS = RealTable(
    "saas_churn",
    accounts=2_000,
    outcomes=frozenset({"retained_6mo", "churned"}),
    retained=0.534,
    features=12,
    least=0.80,
    leaking=("months_active",),
)
IRANIAN = RealTable(
    "iranian_churn",
    accounts=3_150,
    outcomes=frozenset({"retained_6mo", "churned"}),
    retained=0.843,
    features=13,
    least=0.80,
)
BANK = RealTable(
    "bank_marketing",
    accounts=45_211,
    outcomes=frozenset({"retained_6mo"}),
    retained=0.117,
    features=15,
    least=0.70,
    leaking=("duration",),
)
CDNOW = RealTable(
    "cdnow",
    accounts=23_570,
    outcomes=frozenset({"retained_6mo", "churned", "mrr", "mrr_end", "actual_ltv"}),
    retained=0.272,
    features=12,
    least=0.70,
)
TABLES = (SAAS, IRANIAN, BANK, CDNOW)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(table.path.is_file() for table in TABLES),
        reason="the real tables are not here; GTMAR_REAL_TABLES names their folder",
    ),
]


def each(*tables: RealTable) -> pytest.MarkDecorator:
    """Ask the same of each table; all that is asked of one comes together, whoever runs it."""
    return pytest.mark.parametrize("table", tables, ids=lambda table: table.name, scope="module")


@each(*TABLES)
def test_detected_spec_fits_its_table(table: RealTable) -> None:
    found, checkup, rows = table.detected, table.checkup, pl.read_parquet(table.path)
    outcomes = {column for column, why in found.left_out.items() if why == "an outcome"}
    assert outcomes == table.outcomes
    assert set(found.spec.features) | set(found.left_out) == set(rows.columns)
    assert parse(found.text) == found.spec
    assert checkup.detected
    assert checkup.accounts == table.accounts == rows.height
    held_out = holdout_mask(rows["account_id"], share=0.3, salt="gtmar")
    assert checkup.holdout_accounts == held_out.sum()
    assert checkup.search_accounts == table.accounts - checkup.holdout_accounts
    assert checkup.cohorts["retained"] == rows["retained_6mo"].sum()
    share = checkup.cohorts["retained"] / table.accounts
    assert share == pytest.approx(table.retained, abs=0.000_5)


@each(*TABLES)
def test_every_column_known_before_becomes_a_feature(table: RealTable) -> None:
    assert len(table.detected.spec.features) == table.features


@each(*TABLES)
def test_known_leaks_are_left_out_and_strong_honest_columns_stay(table: RealTable) -> None:
    found = table.detected
    assert [leak.column for leak in found.leaks if leak.grade is Grade.ERROR] == [*table.leaking]
    assert {c for c, why in found.left_out.items() if "--keep" in why} == {*table.leaking}
    assert not {*table.leaking} & {*found.spec.features}


@each(SAAS, BANK)
def test_a_leak_that_somebody_keeps_is_a_feature(table: RealTable) -> None:
    # Columns are known for what they are by some of the accounts, too.
    rows = pl.read_parquet(table.path)
    some = rows.sample(min(3_000, rows.height), seed=1)
    again = first_spec(scan(some), keep=table.leaking)
    assert set(again.spec.features) == {*table.detected.spec.features, *table.leaking}


@each(*TABLES)
def test_equal_weights_already_rank_better_than_chance(table: RealTable) -> None:
    value = table.checkup.objective_value
    assert value is not None
    assert table.least < value < 1


@each(*TABLES)
def test_score_is_the_sum_of_its_parts(table: RealTable) -> None:
    spec = table.detected.spec
    scored = score(table.path, spec)
    parts = ["base", "rounding", "clipping", *(f"points.{term.name}" for term in spec.terms)]
    units = scored.select((pl.col("score", *parts) * 10_000).round().cast(pl.Int64))
    assert (units.select(pl.sum_horizontal(parts)).to_series() == units["score"]).all()
    assert scored["account_id"].equals(pl.read_parquet(table.path)["account_id"])


@each(SAAS, IRANIAN)
def test_another_format_is_the_same_table(table: RealTable, tmp_path: Path) -> None:
    spec, rows = table.detected.spec, pl.read_parquet(table.path)
    rows.write_csv(tmp_path / "a.csv")
    rows.sample(fraction=1, shuffle=True, seed=1).write_ipc(tmp_path / "a.arrow")
    original = load_accounts(scan(table.path), spec)
    for copy in ("a.csv", "a.arrow"):
        accounts = load_accounts(scan(tmp_path / copy), spec)
        assert accounts.outcomes_fingerprint == original.outcomes_fingerprint
        assert accounts.features_fingerprint == original.features_fingerprint


def test_kinds_of_encoders() -> None:
    found = [feature.encode.kind for feature in SAAS.detected.spec.features.values()]
    assert {kind: found.count(kind) for kind in set(found)} == {"range": 6, "curve": 1, "one_of": 5}


def test_observed_revenue_of_cdnow() -> None:
    """Net and gross retention as summed from the table, whose end revenue is known."""
    table = pl.read_parquet(CDNOW.path)
    held_out = pl.Series(holdout_mask(table["account_id"], share=0.3, salt="gtmar"))
    cents = (pl.col("mrr", "mrr_end") * 100 + 0.5).floor().cast(pl.Int64)
    rows = table.filter(~held_out).select(cents).filter(pl.col("mrr") > 0).rows()
    start = sum(mrr for mrr, _ in rows)
    checkup = CDNOW.checkup
    assert checkup.basis == "observed"
    assert checkup.metrics["nrr"] == sum(end for _, end in rows) / start
    assert checkup.metrics["grr"] == sum(min(mrr, end) for mrr, end in rows) / start
    whole = table.select(cents).filter(pl.col("mrr") > 0)
    assert sum(whole["mrr_end"]) / sum(whole["mrr"]) == pytest.approx(0.414, abs=0.001)
    assert checkup.cohorts["paying"] == whole.height


def test_unknowns_of_cdnow_are_stated() -> None:
    feature = CDNOW.detected.spec.features["median_gap_days"]
    assert feature.missing != "error"


def test_names_with_double_spaces_survive() -> None:
    spec = IRANIAN.detected.spec
    assert {"Call  Failure", "Subscription  Length", "Charge  Amount"} <= set(spec.features)


def test_never_contacted_is_no_number_of_days() -> None:
    """`pdays` is -1 for never, which is not one day less than 0: the line bends right after."""
    encode = BANK.detected.spec.features["pdays"].encode.model_dump()
    assert encode["kind"] == "curve"
    (first, at_first), (_, at_second), (_, at_third) = encode["points"][:3]
    assert first == -1.0
    assert at_second != pytest.approx((at_first + at_third) / 2, abs=0.02)
