"""The SQL twins of `sql/metrics` equal the reference on any scored table."""

import itertools
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

Row = dict[str, Any]

FOLDER = Path(__file__).parents[2] / "sql" / "metrics"
FILES = sorted(FOLDER.glob("*.sql"))
TIERS = ["A", "B-plus", "it's", "D"]
ORIENTATIONS = ("health", "risk")
#: Few values, so that ties are the rule; both ends and neighbours at the last place among them.
SCORES = (0, 1, 2, 3350, 6667, 10000)
#: A quotient of exact integers: three roundings at most, and zero must be zero.
RELATIVE = 1e-15

BLANK: Row = {
    "score": 0,
    "tier": "A",
    "retained": None,
    "start": None,
    "end": None,
    "ltv": None,
    "activated": None,
    "days": None,
    "won_back": None,
}
#: Column of `scored`, its type, the row's key, and what one stored unit is worth.
COLUMNS = (
    ("score", "double", "score", 100),
    ("tier", "varchar", "tier", None),
    ("retained_6mo", "integer", "retained", None),
    ("mrr", "double", "start", 100),
    ("mrr_end", "double", "end", 100),
    ("actual_ltv", "double", "ltv", 100),
    ("activated", "integer", "activated", None),
    ("days_to_activate", "integer", "days", None),
    ("won_back", "integer", "won_back", None),
)


# ---- tables, in and out ---------------------------------------------------------------------


class Bench:
    """A DuckDB of its own with one table, `scored`, for the twins to read."""

    # Quoted, because hypothesis keeps this module alive to the very end, and DuckDB complains on
    # stderr when an annotation then still holds its class.
    def __init__(self, con: "duckdb.DuckDBPyConnection") -> None:
        self.con = con

    def load(
        self, rows: Sequence[Row], tiers: Sequence[str] = TIERS, orientation: str | None = None
    ) -> None:
        """Store the rows and set the variables; None leaves the orientation unset."""
        lists = []
        for _, _, key, unit in COLUMNS:
            values = [row[key] for row in rows]
            lists.append([v if unit is None or v is None else v / unit for v in values])
        selected = ", ".join(f"unnest(?::{kind}[]) as {name}" for name, kind, _, _ in COLUMNS)
        self.con.execute(f"create or replace table scored as select {selected}", lists)
        self.con.execute("set variable tiers = ?", [list(tiers)])
        if orientation is None:
            self.con.execute("reset variable orientation")
        else:
            self.con.execute("set variable orientation = ?", [orientation])

    def run(self, name: str) -> list[Row]:
        """Run one twin."""
        cursor = self.con.execute((FOLDER / f"{name}.sql").read_text(encoding="utf-8"))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]

    def run_all(self) -> dict[str, object]:
        """Run every twin and return its metrics, keyed and shaped as the reference does."""
        found: dict[str, object] = {}
        for file in FILES:
            rows = self.run(file.stem)
            for column in rows[0]:
                if column == "tier" or is_count(column):
                    continue
                assert column not in found, f"{column} comes from two files"
                if "tier" in rows[0]:
                    found[column] = {row["tier"]: row[column] for row in rows}
                else:
                    found[column] = rows[0][column]
        return found


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with duckdb.connect(config={"threads": 1}) as con:
        yield Bench(con)


def account(**values: object) -> Row:
    """Make a row that is blank but for what is given."""
    return {**BLANK, **values}


def paying(score: int, start: int, end: int, **values: object) -> Row:
    """Make a current account with revenue, retained unless it ends without any."""
    return account(score=score, start=start, end=end, **{"retained": int(end > 0), **values})


def is_count(column: str) -> bool:
    """Tell whether a result column counts accounts."""
    return column.startswith("accounts") or column.endswith("_accounts")


def agree(got: object, expected: object) -> bool:
    """Compare two values: null only equals null, numbers up to the last bits."""
    if got is None or expected is None:
        return got is expected
    assert isinstance(got, float)
    assert isinstance(expected, float)
    return math.isclose(got, expected, rel_tol=RELATIVE, abs_tol=0.0)


def assert_twins_equal_reference(
    bench: Bench, rows: Sequence[Row], tiers: Sequence[str], orientation: str
) -> None:
    bench.load(rows, tiers, orientation)
    expected = reference.metrics(list(rows), list(tiers), orientation)
    for key, got in bench.run_all().items():
        wanted = expected[key]
        if isinstance(got, dict):
            assert isinstance(wanted, dict)
            assert list(got) == list(tiers), key
            different = {t: (got[t], wanted[t]) for t in tiers if not agree(got[t], wanted[t])}
            assert not different, f"{key}: {different}"
        else:
            assert agree(got, wanted), f"{key}: {got} is not {wanted}"


# ---- random tables --------------------------------------------------------------------------


def random_account(source: random.Random, tiers: Sequence[str]) -> Row:
    """Make up one account: current, former, or with neither outcome.

    A former one may carry outcomes of a current one. The data contract refuses that, but who counts
    where must not depend on it.
    """
    cents = (1, 2, 9900, 9900, 19900, source.randint(1, 10**9))
    start = source.choice((None, 0, *cents))
    row = account(
        score=source.choice(SCORES),
        tier=source.choice(tiers),
        start=start,
        ltv=source.choice((None, 0, *cents)),
        activated=source.choice((None, 0, 1)),
        days=source.choice((None, 0, 1, 2, 3, 30)),
    )
    kind = source.choice(("current",) * 8 + ("former", "neither"))
    if kind == "former":
        row["won_back"] = source.randint(0, 1)
    if kind == "current" or (kind == "former" and source.random() < 0.5):
        row["retained"] = source.choice((0, 1, 1))
        row["end"] = source.choice((None, 0, 0, start, *cents) if row["retained"] else (None, 0, 0))
    return row


def all_retained(row: Row) -> Row:
    return {**row, "retained": 1} if row["retained"] == 0 else row


def all_churned(row: Row) -> Row:
    return {**row, "retained": 0, "end": 0} if row["retained"] == 1 else row


def none_paying(row: Row) -> Row:
    return {**row, "start": row["start"] and 0}


def no_end(row: Row) -> Row:
    return {**row, "end": None}


def all_former(row: Row) -> Row:
    return {**row, "retained": None, "end": None, "won_back": row["score"] % 2}


def as_drawn(row: Row) -> Row:
    return row


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Row], list[str]]:
    """Draw a table and the spec's tiers, of which some may stay empty.

    Hypothesis chooses the shape. The accounts come from a seed, since drawn one by one they are so
    often alike that few tables have any account that grew.
    """
    tiers = TIERS[: draw(st.integers(1, len(TIERS)))]
    used = draw(st.lists(st.sampled_from(tiers), min_size=1, unique=True))
    size = draw(st.sampled_from((5, 10, 20)) | st.integers(0, 24))
    turns = (all_retained, all_churned, none_paying, no_end, all_former)
    turn: Callable[[Row], Row] = draw(st.sampled_from((as_drawn,) * 8 + turns))
    source = random.Random(draw(st.integers(0, 2**32)))
    return [turn(random_account(source, used)) for _ in range(size)], tiers


@pytest.mark.slow
@given(table=tables(), orientation=st.sampled_from(ORIENTATIONS))
@settings(max_examples=36, deadline=None)
def test_twins_equal_reference_on_random_tables(
    bench: Bench, table: tuple[list[Row], list[str]], orientation: str
) -> None:
    rows, tiers = table
    assert_twins_equal_reference(bench, rows, tiers, orientation)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("seed", range(3))
def test_twins_equal_reference_on_larger_tables(bench: Bench, seed: int, orientation: str) -> None:
    source = random.Random(seed)
    rows = []
    for _ in range(401 + seed):
        start = source.choice((0, 9900, 4999, source.randrange(10**7)))
        retained = source.choice((0, 1, 1))
        end = retained * source.choice((0, start, start // 2, 2 * start, source.randrange(10**7)))
        row = account(score=source.randrange(0, 10001, 250), tier=source.choice(TIERS[:3]))
        if source.random() < 0.9:
            ltv = source.choice((None, 0, source.randrange(10**9)))
            row |= {"start": start, "retained": retained, "end": end, "ltv": ltv}
        else:
            row |= {"won_back": source.randrange(2)}
        row |= {"activated": source.choice((None, 0, 1)), "days": source.randrange(90)}
        rows.append(row)
    assert_twins_equal_reference(bench, rows, TIERS, orientation)


@pytest.mark.slow
@given(table=tables())
@settings(max_examples=12, deadline=None)
def test_counts_beside_the_metrics_are_the_cohorts(
    bench: Bench, table: tuple[list[Row], list[str]]
) -> None:
    rows, tiers = table
    bench.load(rows, tiers)
    cohorts: dict[str, Callable[[Row], bool]] = dict.fromkeys(
        ("nrr", "grr", "expansion_rate", "contraction_rate", "quick_ratio", "arpa"),
        reference.is_paying,
    )
    cohorts["logo_retention"] = reference.is_current
    cohorts["activation_rate"] = lambda row: row["activated"] is not None
    for name, belongs in cohorts.items():
        counted = [row["accounts"] for row in bench.run(f"{name}_by_tier")]
        assert counted == [sum(belongs(r) and r["tier"] == t for r in rows) for t in tiers], name
    for name in ("expansion_rate", "contraction_rate"):
        counted = [row["retained_accounts"] for row in bench.run(f"{name}_by_tier")]
        kept = [r for r in rows if reference.is_paying(r) and r["retained"] == 1]
        assert counted == [sum(r["tier"] == t for r in kept) for t in tiers], name
    former = [row["accounts"] for row in bench.run("winback_rate_by_former_tier")]
    assert former == [sum(reference.is_former(r) and r["tier"] == t for r in rows) for t in tiers]
    for name in ("revenue_capture_at_20", "revenue_concentration_hhi", "nrr_at_20"):
        assert bench.run(name)[0]["accounts"] == sum(map(reference.is_paying, rows)), name
    current = [row for row in rows if reference.is_current(row)]
    valued = sum(map(reference.has_ltv, rows))
    [separation] = bench.run("tier_separation")
    assert separation["accounts"] == valued
    not_former = sum(not reference.is_former(row) for row in rows)
    assert separation["accounts_left_out"] == not_former - valued
    for name in ("auc_roc_retain", "auc_roc_churn"):
        [row] = bench.run(name)
        assert row["retained_accounts"] == sum(r["retained"] for r in current), name
        assert row["churned_accounts"] == sum(1 - r["retained"] for r in current), name


@pytest.mark.slow
@given(table=tables(), source=st.randoms(use_true_random=False))
@settings(max_examples=8, deadline=None)
def test_row_order_changes_nothing(
    bench: Bench,
    table: tuple[list[Row], list[str]],
    source: random.Random,
) -> None:
    rows, tiers = table
    bench.load(rows, tiers)
    before = bench.run_all()
    shuffled = source.sample(rows, len(rows))
    bench.load(shuffled, tiers)
    assert bench.run_all() == before


# ---- other oracles --------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("seed", range(4))
def test_auc_equals_scikit_learn_with_ties(bench: Bench, seed: int, orientation: str) -> None:
    source = random.Random(seed)
    rows = [
        account(score=source.randrange(0, 10001, 400), retained=int(source.random() < 0.7))
        for _ in range(300)
    ]
    bench.load(rows, orientation=orientation)
    sign = 1 if orientation == "health" else -1
    labels = [row["retained"] for row in rows]
    standings = [sign * row["score"] for row in rows]
    retain = roc_auc_score(labels, standings)
    churn = roc_auc_score([1 - label for label in labels], [-value for value in standings])
    assert bench.run("auc_roc_retain")[0]["auc_roc_retain"] == pytest.approx(retain, abs=1e-12)
    assert bench.run("auc_roc_churn")[0]["auc_roc_churn"] == pytest.approx(churn, abs=1e-12)


@pytest.mark.slow
@given(
    pairs=st.lists(
        st.tuples(st.sampled_from(SCORES[:3]), st.integers(0, 9)), min_size=1, max_size=6
    ),
    share=st.sampled_from((reference.TOP_SHARE, reference.QUARTER)),
)
@settings(max_examples=60, deadline=None)
def test_fractional_share_is_the_mean_over_all_orders(
    pairs: list[tuple[int, int]], share: Fraction
) -> None:
    places = share * len(pairs)
    sums = []
    for order in itertools.permutations(pairs):
        left, total = places, Fraction(0)
        for _, amount in sorted(order, key=lambda pair: -pair[0]):
            taken = min(left, Fraction(1))
            total += taken * amount
            left -= taken
        sums.append(total)
    assert reference.sum_of_first(pairs, places) == sum(sums) / len(sums)


@given(pairs=st.lists(st.tuples(st.sampled_from(SCORES), st.booleans()), max_size=12))
def test_reference_auc_is_the_chance_of_winning_a_pair(pairs: list[tuple[int, bool]]) -> None:
    positives = [value for value, positive in pairs if positive]
    negatives = [value for value, positive in pairs if not positive]
    won = [Fraction((p > n) - (p < n) + 1, 2) for p in positives for n in negatives]
    assert reference.auc(pairs) == (sum(won) / len(won) if won else None)


@given(table=tables())
@settings(max_examples=60, deadline=None)
def test_reference_holds_the_identities_of_retention(table: tuple[list[Row], list[str]]) -> None:
    rows, _ = table
    nrr, grr = reference.nrr(rows), reference.grr(rows)
    grown, shrunk = reference.expansion_rate(rows), reference.contraction_rate(rows)
    if nrr is None or grr is None or grown is None or shrunk is None:
        assert (nrr, grr, grown, shrunk) == (None,) * 4
        return
    cohort = [row for row in rows if reference.is_paying(row)]
    churned = Fraction(
        sum(row["start"] for row in cohort if reference.end_of(row) == 0),
        sum(row["start"] for row in cohort),
    )
    assert nrr == 1 + grown - shrunk - churned
    assert nrr - grr == grown
    assert 0 <= grr <= min(Fraction(1), nrr)


# ---- worked by hand -------------------------------------------------------------------------


def assert_tier(bench: Bench, key: str, tier: str, expected: object) -> None:
    values = {row["tier"]: row for row in find(bench, key)}
    assert agree(values[tier][key], expected), f"{key}.{tier}: {values[tier][key]}"


def find(bench: Bench, key: str) -> list[Row]:
    """Run the twin that has a column of this name."""
    files = {
        "expanded_share_by_tier": "expansion_rate_by_tier",
        "contracted_share_by_tier": "contraction_rate_by_tier",
        "median_days_to_activate_by_tier": "activation_rate_by_tier",
    }
    return bench.run(files.get(key, key))


def test_revenue_family_by_hand(bench: Bench) -> None:
    rows = [
        paying(0, 10000, 12000),
        paying(0, 10000, 5000),
        paying(0, 10000, 0),
        paying(0, 10000, 0, retained=1),
        paying(0, 30000, 30000, tier="B-plus"),
        # None of these counts for revenue: free, unknown end, former, without an outcome.
        paying(0, 0, 7700),
        account(start=99900, retained=1),
        account(start=99900, end=99900, won_back=1),
        account(start=99900, end=99900, won_back=0, retained=1),
        account(start=99900, end=99900),
    ]
    bench.load(rows)
    expected = {
        "nrr_by_tier": 170 / 400,
        "grr_by_tier": 150 / 400,
        "expansion_rate_by_tier": 20 / 400,
        "expanded_share_by_tier": 1 / 3,
        "contraction_rate_by_tier": 50 / 400,
        "contracted_share_by_tier": 1 / 3,
        "quick_ratio_by_tier": 20 / 250,
        "logo_retention_by_tier": 5 / 6,
        "winback_rate_by_former_tier": 1 / 2,
        "arpa_by_tier": 100.0,
    }
    for key, value in expected.items():
        assert_tier(bench, key, "A", value)
        assert_tier(bench, key, "D", None)
    assert_tier(bench, "quick_ratio_by_tier", "B-plus", None)
    assert_tier(bench, "nrr_by_tier", "B-plus", 1.0)
    assert_tier(bench, "expanded_share_by_tier", "B-plus", 0.0)


def test_share_is_null_when_no_paying_account_was_retained(bench: Bench) -> None:
    bench.load([paying(0, 10000, 0), paying(0, 0, 500)])
    for key in ("expanded_share_by_tier", "contracted_share_by_tier"):
        assert_tier(bench, key, "A", None)
    assert_tier(bench, "expansion_rate_by_tier", "A", 0.0)
    assert_tier(bench, "quick_ratio_by_tier", "A", 0.0)


def test_activation_by_hand(bench: Bench) -> None:
    days = (10, 3, 4, None)
    rows = [account(activated=1, days=value) for value in days]
    rows += [account(activated=1, days=21, won_back=0)]
    rows += [account(activated=0, days=1), account(activated=None, days=1)]
    rows += [account(activated=1, tier="D")]
    bench.load(rows)
    assert_tier(bench, "activation_rate_by_tier", "A", 5 / 6)
    assert_tier(bench, "median_days_to_activate_by_tier", "A", 7.0)
    assert_tier(bench, "activation_rate_by_tier", "D", 1.0)
    assert_tier(bench, "median_days_to_activate_by_tier", "D", None)


@pytest.mark.parametrize(("orientation", "captured"), [("health", 0.16), ("risk", 0.32)])
def test_capture_shares_the_tied_group(bench: Bench, orientation: str, captured: float) -> None:
    # Four accounts: the top fifth is 0.8 of one, of three that are tied at 2 units on average.
    rows = [paying(500, 100, 100), paying(500, 200, 0), paying(500, 300, 600)]
    rows += [paying(400, 400, 100)]
    bench.load(rows, orientation=orientation)
    [row] = bench.run("revenue_capture_at_20")
    assert agree(row["revenue_capture_at_20"], captured)
    assert agree(row["revenue_capture_ceiling"], 0.32)
    assert row["revenue_capture_random"] == 0.2
    assert agree(row["revenue_capture_lift"], 5 * captured)
    [row] = bench.run("nrr_at_20")
    assert agree(row["nrr_at_20"], {"health": 7 / 6, "risk": 0.25}[orientation])


def test_capture_of_whole_accounts(bench: Bench) -> None:
    # Ten accounts: exactly the two best, of which none is tied with the third.
    rows = [paying(100 * place, 100 * (place % 4 + 1), 300) for place in range(10)]
    bench.load(rows)
    [row] = bench.run("revenue_capture_at_20")
    assert agree(row["revenue_capture_at_20"], (1 + 2) / 23)
    assert agree(row["revenue_capture_ceiling"], (4 + 4) / 23)
    assert agree(bench.run("nrr_at_20")[0]["nrr_at_20"], 2.0)


@pytest.mark.parametrize(("orientation", "expected"), [("health", 0.875), ("risk", 0.125)])
def test_auc_by_hand(bench: Bench, orientation: str, expected: float) -> None:
    labels = ((1, 0), (2, 1), (2, 0), (3, 1))
    rows = [account(score=score, retained=label) for score, label in labels]
    rows += [account(score=9, retained=0, won_back=0), account(score=9)]
    bench.load(rows, orientation=orientation)
    assert bench.run("auc_roc_retain")[0]["auc_roc_retain"] == expected
    assert bench.run("auc_roc_churn")[0]["auc_roc_churn"] == expected


@pytest.mark.parametrize(("orientation", "expected"), [("health", 3.5), ("risk", 1 / 3.5)])
def test_separation_by_hand(bench: Bench, orientation: str, expected: float) -> None:
    # A quarter of six is one and a half: of (6, 7, 8) it takes 10.5, of (1, 3) it takes 3.
    pairs = ((30, 6), (30, 7), (30, 8), (20, 5), (10, 1), (10, 3))
    rows = [account(score=score, ltv=100 * ltv, retained=1) for score, ltv in pairs]
    rows += [account(score=99, ltv=0, retained=1), account(score=99, ltv=900, won_back=0)]
    bench.load(rows, orientation=orientation)
    [row] = bench.run("tier_separation")
    assert agree(row["tier_separation"], expected)
    assert (row["accounts"], row["accounts_left_out"]) == (6, 1)


@pytest.mark.parametrize(("number", "expected"), [(3, None), (4, 4.0)])
def test_separation_needs_four_accounts(bench: Bench, number: int, expected: float | None) -> None:
    bench.load([account(score=n, ltv=100 * n, retained=0) for n in range(1, number + 1)])
    assert bench.run("tier_separation")[0]["tier_separation"] == expected


def test_concentration_by_hand(bench: Bench) -> None:
    rows = [paying(0, 6000, 0), paying(0, 4000, 0, tier="D")]
    bench.load(rows)
    [row] = bench.run("revenue_concentration_hhi")
    assert agree(row["revenue_concentration_hhi"], 5200.0)
    assert agree(row["hhi_normalised"], 0.36)
    bench.load(rows[:1], ["A"])
    [row] = bench.run("revenue_concentration_hhi")
    assert (row["revenue_concentration_hhi"], row["hhi_normalised"]) == (10000.0, None)


@pytest.mark.parametrize("tiers", [TIERS, []])
def test_empty_table_is_null_everywhere(bench: Bench, tiers: list[str]) -> None:
    bench.load([], tiers)
    for file in FILES:
        rows = bench.run(file.stem)
        assert len(rows) == (len(tiers) if file.stem.endswith("_tier") else 1), file.stem
        for row in rows:
            for column, value in row.items():
                if is_count(column):
                    assert value == 0, column
                elif column not in {"tier", "revenue_capture_random"}:
                    assert value is None, column


def test_binary_basis_is_a_view_of_the_same_shape() -> None:
    with duckdb.connect() as con:
        bench = Bench(con)
        bench.load([paying(0, 6000, 9900), paying(0, 2000, 0), paying(0, 2000, 100)])
        bench.con.execute("alter table scored rename to observed")
        bench.con.execute(
            "create view scored as select * replace (mrr * retained_6mo as mrr_end) from observed"
        )
        assert_tier(bench, "nrr_by_tier", "A", 0.8)
        assert_tier(bench, "grr_by_tier", "A", 0.8)


@pytest.mark.parametrize(
    ("mrr", "cents"), [(0.125, 13), (0.005, 1), (0.135, 14), (1.005, 100), (2.5, 250)]
)
def test_money_is_rounded_half_up_to_cents(bench: Bench, mrr: float, cents: int) -> None:
    bench.load([paying(0, 1, 1)])
    bench.con.execute("update scored set mrr = ?", [mrr])
    assert_tier(bench, "arpa_by_tier", "A", cents / 100)


def test_less_than_half_a_cent_is_not_paying(bench: Bench) -> None:
    bench.load([paying(0, 1, 1)])
    bench.con.execute("update scored set mrr = 0.004")
    assert_tier(bench, "arpa_by_tier", "A", None)


def test_scores_tie_at_a_hundredth_of_a_point(bench: Bench) -> None:
    bench.load([account(retained=1), account(retained=0)])
    bench.con.execute(
        "update scored set score = case retained_6mo when 1 then 0.1 + 0.2 else 0.3 end"
    )
    assert bench.run("auc_roc_retain")[0]["auc_roc_retain"] == 0.5


def test_sums_beyond_bigint_neither_wrap_nor_lose_cents(bench: Bench) -> None:
    huge = 9 * 10**17
    rows = [paying(100 * place, huge, huge // 2) for place in range(20)]
    bench.load(rows)
    expected = reference.metrics(rows, TIERS)
    for key in ("nrr_by_tier", "grr_by_tier", "contraction_rate_by_tier", "arpa_by_tier"):
        by_tier = expected[key]
        assert isinstance(by_tier, dict)
        assert_tier(bench, key, "A", by_tier["A"])
    for key in ("revenue_capture_at_20", "nrr_at_20"):
        assert agree(bench.run(key)[0][key], expected[key])
    with pytest.raises(duckdb.OutOfRangeException, match="Overflow"):
        bench.run("revenue_concentration_hhi")


def test_orientation_is_health_when_unset(bench: Bench) -> None:
    rows = [account(score=score, retained=score // 2) for score in (0, 1, 2, 3)]
    bench.load(rows, orientation=None)
    assert bench.run("auc_roc_retain")[0]["auc_roc_retain"] == 1.0


@pytest.mark.parametrize(
    "name",
    ["auc_roc_retain", "auc_roc_churn", "nrr_at_20", "revenue_capture_at_20", "tier_separation"],
)
def test_unknown_orientation_is_refused(bench: Bench, name: str) -> None:
    bench.load([paying(0, 1, 1)], orientation="Risk")
    with pytest.raises(duckdb.InvalidInputException, match="must be health or risk"):
        bench.run(name)


# ---- the files ------------------------------------------------------------------------------

HEADER = re.compile(
    r"-- purpose: (?P<purpose>.+\.)\n"
    r"-- parameters:(?P<parameters> none\n|\n(?:--   \w+ \(.+?\): .+\n)+)"
    r"-- columns:\n(?P<columns>(?:--   \w+ \(.+?\): .+\n)+)"
    r"-- grain: (?P<grain>.+)\n"
    r"-- order: (?P<order>.+)\n\n"
)
ENTRY = re.compile(r"--   (\w+) \((.+?)\): ")


def test_every_metric_has_its_twin() -> None:
    keys = set(reference.metrics([], TIERS))
    own = {"scored", "score_mean", "score_deviation", "accounts_by_tier", "share_by_tier"}
    companions = {
        "expanded_share_by_tier",
        "contracted_share_by_tier",
        "median_days_to_activate_by_tier",
        "hhi_normalised",
        "revenue_capture_ceiling",
        "revenue_capture_random",
        "revenue_capture_lift",
    }
    assert {file.stem for file in FILES} == keys - own - companions


def test_twins_and_reference_have_the_same_metrics(bench: Bench) -> None:
    bench.load([])
    own = {"scored", "score_mean", "score_deviation", "accounts_by_tier", "share_by_tier"}
    assert set(bench.run_all()) == set(reference.metrics([], TIERS)) - own


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_header_says_what_the_file_does(bench: Bench, file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    header = HEADER.match(text)
    assert header, "the header does not have the agreed form"
    assert max(map(len, text.splitlines())) <= 100
    assert text.endswith(";\n")
    [statement] = duckdb.extract_statements(text)
    assert statement.type == duckdb.StatementType.SELECT
    declared = {name for name, _ in ENTRY.findall(header["parameters"])}
    assert declared == set(re.findall(r"getvariable\('(\w+)'\)", text))
    bench.load([])
    bench.con.execute("reset variable tiers")
    described = bench.con.execute(f"describe {text}").fetchall()
    columns = [(name, kind.lower()) for name, kind, *_ in described]
    assert columns == ENTRY.findall(header["columns"])
    assert next(name for name, _ in columns if name != "tier") == file.stem
