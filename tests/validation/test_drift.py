"""The population stability index: its formula, its bins, its chance, and what it says of tables."""

from __future__ import annotations

import json
import math
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from factories import make_accounts, make_spec, weighted
from scipy.stats import chi2
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.data import synthetic
from gtmar.errors import NotResumableError, RunNotFoundError, UsageError, ViolationsError
from gtmar.validation.psi import (
    Shift,
    ShiftReading,
    chance_bound,
    population_stability,
    shift_of_categories,
    shift_of_numbers,
)

if TYPE_CHECKING:
    from pathlib import Path

NAN = float("nan")


def plainly(reference: list[int], now: list[int]) -> float:
    """Compute the index as the formula has it."""
    total = 0.0
    for before, after in zip(reference, now, strict=True):
        if before or after:
            p, q = (max(b, 0.5) / sum(s) for b, s in ((before, reference), (after, now)))
            total += (q - p) * math.log(q / p)
    return total


# ---- the index -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "now", "expected"),
    [
        ([10, 20, 30], [100, 200, 300], 0.0),
        # (0.75 - 0.5) ln 1.5 + (0.25 - 0.5) ln 0.5
        ([50, 50], [75, 25], 0.25 * math.log(3)),
        ([60, 40, 0], [50, 30, 20], None),
        ([0, 5, 0], [0, 7, 0], 0.0),
    ],
)
def test_index_is_the_formula(reference: list[int], now: list[int], expected: float | None) -> None:
    parts = population_stability(np.array(reference), np.array(now))
    assert (parts >= 0).all()
    assert parts.sum() == pytest.approx(plainly(reference, now), abs=1e-12)
    if expected is not None:
        assert parts.sum() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bins", range(2, 60, 4))
def test_chance_is_the_quantile_of_chi_squared(bins: int) -> None:
    expected = (1 / 300 + 1 / 70) * chi2.ppf(0.95, bins - 1)
    assert chance_bound(300, 70, bins) == pytest.approx(expected, rel=0.03)
    assert chance_bound(300, 70, 1) == 0


def test_chance_holds_where_nothing_moved() -> None:
    draw = np.random.default_rng(2)
    beyond = 0
    for _ in range(400):
        found = shift_of_numbers("x", draw.normal(size=500), draw.normal(size=300))
        beyond += found.index > found.chance
    # 20 expected; beyond 40 or below 6 in one of some 10,000 such counts.
    assert 6 <= beyond <= 40


# ---- bins ------------------------------------------------------------------------------------


def test_ten_bins_of_equal_mass_fixed_on_the_reference() -> None:
    found = shift_of_numbers("x", np.arange(1000.0), np.full(50, 1e6))
    assert [before for _, before, _ in found.bins] == [100] * 10 + [0]
    assert [after for *_, after in found.bins] == [0] * 10 + [50]
    assert found.bins[0][0] == "0 to below 100"
    assert found.bins[1][0] == "100 to below 200"
    assert found.bins[9][0] == "900 to 999"
    assert found.bins[found.most][0] == "above 999"


def test_a_rest_too_small_for_a_bin_joins_the_last() -> None:
    found = shift_of_numbers("x", np.arange(22.0), np.arange(22.0))
    assert [before for _, before, _ in found.bins] == [3] * 6 + [4]


def test_values_that_many_accounts_share_are_not_torn_apart() -> None:
    values = np.repeat([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [500, *[10] * 11])
    found = shift_of_numbers("x", values, values)
    assert sum(before for _, before, _ in found.bins) == 610
    assert found.bins[0] == ("0", 500, 500)
    assert found.index == 0
    flags = shift_of_numbers("x", np.array([0.0, 0, 1]), np.array([1.0, 1, 1, 0]))
    assert flags.bins == (("0", 2, 1), ("1", 1, 3))


@pytest.mark.parametrize(
    ("reference", "now", "index"),
    [
        # Constant, and 40 % elsewhere: (.4 - .5/400) ln(.4 / (.5/400)) + (.6 - 1) ln .6
        ([0.0] * 400, [0.0] * 600 + [1.0] * 400, 2.504),
        ([7.0] * 400, [7.0] * 60 + [1.0] * 40, 2.504),
        ([NAN] * 400, [NAN] * 60 + [1.0] * 40, 2.504),
        ([1.0] * 400, [1.0] * 60 + [NAN] * 40, 2.504),
        ([math.inf] * 400, [math.inf] * 60 + [1.0] * 40, 2.504),
        ([-math.inf] * 400, [-math.inf] * 60 + [1.0] * 40, 2.504),
        # Between the values of a reference of few: as much by half of its accounts.
        ([0.0, 10.0] * 200, [0.0] * 30 + [10.0] * 30 + [5.0] * 40, 2.504),
        # A value that most share, in the midst of others, moves by a little.
        ([*range(200), *[50.5] * 400], [*range(200), *[50.6] * 400], None),
        ([*range(200), *[500.0] * 400], [*range(200), *[499.5] * 400], None),
        # Beyond the range of the lowest and the highest bin.
        (range(1000), [*range(900), *[10_000] * 100], None),
        (range(1000), [*range(100, 1000), *[-5] * 100], None),
    ],
)
def test_values_beside_those_of_the_reference_show(
    reference: list[float], now: list[float], index: float | None
) -> None:
    found = shift_of_numbers("x", np.array(reference, float), np.array(now, float))
    assert found.reading is ShiftReading.LARGE
    if index is not None:
        assert found.index == pytest.approx(index, abs=5e-4)
    assert sum(before for _, before, _ in found.bins) == len(reference)
    assert sum(after for *_, after in found.bins) == len(now)
    same = shift_of_numbers("x", np.array(reference, float), np.array(reference, float))
    assert (same.index, same.reading) == (0.0, ShiftReading.STABLE)


def test_a_category_beside_a_constant_one_shows_as_much() -> None:
    found = shift_of_categories("x", ["a"] * 400, ["a"] * 60 + ["b"] * 40)
    assert found.index == pytest.approx(2.504, abs=5e-4)


def test_a_reference_of_one_account_proves_nothing() -> None:
    now = np.random.default_rng(1).normal(size=200)
    assert shift_of_numbers("x", now[:1], now).reading is ShiftReading.UNCLEAR


@pytest.mark.parametrize("accounts", [5, 10, 30, 500])
@pytest.mark.parametrize("share", [0.0, 0.6], ids=["smooth", "zeros"])
def test_few_accounts_seldom_show_what_is_not_there(accounts: int, share: float) -> None:
    draw = np.random.default_rng(accounts)

    def values(n: int) -> np.ndarray:
        return np.where(draw.random(n) < share, 0.0, draw.exponential(size=n))

    found = [shift_of_numbers("x", values(accounts), values(300)) for _ in range(200)]
    # 10 expected at most; beyond 21 in one of some 2,000 such counts.
    assert sum(each.reading in {ShiftReading.MODERATE, ShiftReading.LARGE} for each in found) <= 21


def test_a_score_that_tied_all_accounts_and_ties_them_elsewhere_now_shows() -> None:
    features = {"x": {"weight": 10, "min": 0, "max": 50}}
    tiers = {"A": {"min": 50, "max": 101}, "B": {"min": 0, "max": 50}}
    spec = specs.ScoringSpec.model_validate({"model": "tied", "features": features, "tiers": tiers})
    table = pl.DataFrame({"account_id": [f"a{i}" for i in range(100)], "x": [1.0] * 100})
    found = by_name(runs.drift(table.with_columns(x=2.0), spec, against=table))
    assert {name: each.reading for name, each in found.items()} == {
        "x": ShiftReading.LARGE,
        "score": ShiftReading.LARGE,
    }


def test_the_unknown_is_a_bin_of_its_own() -> None:
    known = np.arange(100.0)
    found = shift_of_numbers("x", known, np.append(known, [NAN] * 100))
    assert found.bins[-1] == ("(unknown)", 0, 100)
    assert found.bins[found.most][0] == "(unknown)"
    texts = shift_of_categories("x", ["a", "b", None], ["a", None, None])
    assert texts.bins == (("a", 1, 1), ("b", 1, 0), ("(unknown)", 1, 2))


def test_categories_that_are_rare_or_new() -> None:
    before = [f"c{i:02}" for i in range(60) for _ in range(60 - i)]
    found = shift_of_categories("x", before, [*before, "new", "newer"])
    assert len(found.bins) == 52
    assert found.bins[0] == ("c00", 60, 60)
    assert found.bins[50] == ("(rarer ones)", sum(range(1, 11)), sum(range(1, 11)))
    assert found.bins[51] == ("(new ones)", 0, 2)


@pytest.mark.parametrize(
    ("moved", "accounts", "reading"),
    [
        (0.0, 5_000, ShiftReading.STABLE),
        (0.4, 5_000, ShiftReading.MODERATE),
        (0.8, 5_000, ShiftReading.LARGE),
        (0.4, 40, ShiftReading.UNCLEAR),
    ],
)
def test_readings(moved: float, accounts: int, reading: ShiftReading) -> None:
    draw = np.random.default_rng(4)
    found = shift_of_numbers("x", draw.normal(size=accounts), draw.normal(size=accounts) + moved)
    assert found.reading == reading
    plain = plainly([b for _, b, _ in found.bins], [a for *_, a in found.bins])
    assert found.index == pytest.approx(plain, abs=1e-12)


# ---- tables ----------------------------------------------------------------------------------

ACCOUNTS = make_accounts(800, seed=1)
LATER = make_accounts(700, seed=2)
SPEC = make_spec()


def by_name(found: runs.Drift) -> dict[str, Shift]:
    return {each.name: each for each in found.shifts}


def test_each_feature_and_the_score_of_two_tables() -> None:
    same = runs.drift(LATER, SPEC, against=ACCOUNTS)
    assert [each.name for each in same.shifts] == [*SPEC.features, "score"]
    assert (same.accounts_before, same.accounts, same.moved) == (800, 700, ())
    # One of the known plans is left: where no value is a category, the table is refused.
    trial = pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("basic")).otherwise(pl.lit("trial"))
    moved = LATER.with_columns(depth=pl.col("depth") ** 3, plan=trial)
    found = runs.drift(moved, SPEC, against=ACCOUNTS)
    assert {each.name for each in found.moved} == {"depth", "plan"}
    assert by_name(found)["score"].index > by_name(same)["score"].index
    assert by_name(found)["logins"] == by_name(same)["logins"]
    plan = by_name(found)["plan"]
    assert {label: (a, b) for label, a, b in plan.bins}["(new ones)"] == (0, 699)
    counted = [sum(side) for side in zip(*(b[1:] for b in plan.bins), strict=True)]
    assert counted == [800, 700]


def test_neither_rows_nor_outcomes_matter() -> None:
    found = runs.drift(LATER, SPEC, against=ACCOUNTS)
    shuffled = LATER.sample(fraction=1, shuffle=True, seed=1).drop("retained_6mo", "mrr_end")
    assert runs.drift(shuffled, SPEC, against=ACCOUNTS.reverse()).shifts == found.shifts


def test_dates_are_days_before_each_table_s_own_day() -> None:
    def table(day: date) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "account_id": [f"a{i}" for i in range(300)],
                "seen": [day - timedelta(i % 90) for i in range(300)],
            }
        )

    encode = {"kind": "days_before", "then": {"kind": "range", "from": 0, "to": 90}}
    spec = make_spec(features={"seen": weighted(encode=encode)})
    old, new = table(date(2026, 1, 31)), table(date(2026, 7, 31))
    same = runs.drift(new, spec, against=old, as_of="2026-07-31", against_as_of="2026-01-31")
    assert by_name(same)["seen"].index == 0
    off = runs.drift(new, spec, against=old, as_of="2026-09-30", against_as_of="2026-01-31")
    assert {each.name for each in off.moved} == {"seen", "score"}


def test_what_is_wrong_with_either_table_is_said_at_once() -> None:
    with pytest.raises(ViolationsError) as caught:
        runs.drift(LATER.drop("depth"), SPEC, against=ACCOUNTS.drop("logins"))
    columns = [violation.column for violation in caught.value.violations]
    assert columns == ["logins", "depth"]


def test_the_table_of_the_spec_s_run_is_the_reference(tmp_path: Path) -> None:
    path, journal = tmp_path / "a.parquet", tmp_path / "journal"
    ACCOUNTS.write_parquet(path)
    found = runs.run(path, SPEC, limits=runs.Limits(5), journal=journal)
    drifted = runs.drift(LATER, found.spec, journal=journal)
    assert drifted.against == str(path)
    again = runs.drift(LATER, found.spec, against=ACCOUNTS)
    assert drifted.shifts == again.shifts
    with pytest.raises(UsageError, match="has no lineage"):
        runs.drift(LATER, SPEC, journal=journal)
    with pytest.raises(RunNotFoundError):
        runs.drift(LATER, found.spec, journal=tmp_path / "other")
    LATER.write_parquet(path)
    with pytest.raises(NotResumableError, match="what differs is table"):
        runs.drift(LATER, found.spec, journal=journal)


def test_check_says_whether_the_holdout_is_spread_as_the_search_part_is() -> None:
    plain = runs.check(ACCOUNTS, SPEC)
    assert [each.name for each in plain.drift] == [*SPEC.features, "score"]
    assert {each.reading for each in plain.drift} <= {ShiftReading.STABLE, ShiftReading.UNCLEAR}
    sides = zip(*(bin_[1:] for bin_ in plain.drift[0].bins), strict=True)
    assert [sum(side) for side in sides] == [plain.search_accounts, plain.holdout_accounts]
    assert runs.check(ACCOUNTS, make_spec(split={"holdout": 0})).drift == ()


# ---- the command -----------------------------------------------------------------------------


def command(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.slow
def test_the_command_exits_with_10_where_something_moved(tmp_path: Path) -> None:
    old, new, spec = (tmp_path / name for name in ("old.parquet", "new.csv", "spec.yaml"))
    generated = synthetic.generate("health_score", accounts=900)
    generated.write_parquet(old)
    generated.head(500).with_columns(session_depth=pl.col("session_depth") / 4).write_csv(new)
    assert command("init", "--data", old, "-o", spec).exit_code == 0
    words = ("drift", "--data", old, "--spec", spec, "--against", old)
    same = command(*words)
    assert (same.exit_code, same.stderr) == (0, "")
    assert "Nothing moved by as much as 0.25." in same.stdout
    moved = command("drift", "--data", new, "--spec", spec, "--against", old)
    assert (moved.exit_code, moved.stderr) == (10, "")
    assert "Moved: session_depth" in " ".join(moved.stdout.split())
    found = json.loads(command(*words[:2], new, *words[3:], "--json").stdout)
    assert "session_depth" in found["moved"]
    assert found["accounts"] == 500
    lacking = command("drift", "--data", old, "--spec", spec)
    assert lacking.exit_code == 2
    assert "--against OLD_TABLE" in lacking.stderr
    assert specs.load(spec).lineage is None


def test_chance_is_that_of_accounts_where_they_have_several_rows() -> None:
    draw = np.random.default_rng(3)
    # Eight equal rows of each account.
    before, now = (np.repeat(draw.normal(size=60), 8) for _ in range(2))
    rows, accounts = (
        shift_of_numbers("x", before, now, accounts=sizes) for sizes in (None, (60, 60))
    )
    assert accounts.index == rows.index
    assert accounts.chance == pytest.approx(8 * rows.chance)
    assert accounts.reading == "unclear"
    texts = [[str(value > 0) for value in side] for side in (before, now)]
    of_texts = [
        shift_of_categories("x", *texts, accounts=sizes).chance for sizes in (None, (60, 60))
    ]
    assert of_texts[1] == pytest.approx(8 * of_texts[0])
