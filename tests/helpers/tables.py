"""Small account tables with everything odd in them, for tests of kernel, metrics, search and runs.

An account is drawn once, as a dict with the keys of `reference` and its features as whole units;
`frame_of` shows it as a table of some kind would, `canonical` as the reference should see it. The
scores of `scored` are computed here from the definition, in fractions, with nothing of gtmar.
"""

import math
import random
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gtmar import spec as specs
from gtmar.data.matrix import AccountMatrix, Accounts, load_accounts
from gtmar.data.scan import scan
from gtmar.engine.cohorts import RowBlock
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.numpy_kernel import Counts, count, count_tiers
from gtmar.metrics import Measured, measure

Row = dict[str, Any]

FEATURES = ("x0", "x1", "x2")
TIERS = {"A": 60.0, "B": 33.35, "C": 15.0, "D": 0.0}

#: Kinds of tables: the outcome columns that each one has.
KINDS: Mapping[str, frozenset[str]] = {
    kind: frozenset(columns.split())
    for kind, columns in {
        "everything": (
            "retained_6mo churned mrr mrr_end actual_ltv activated days_to_activate won_back"
        ),
        "retained": "retained_6mo mrr mrr_end actual_ltv activated days_to_activate won_back",
        "churned": "churned mrr mrr_end actual_ltv won_back",
        "end_only": "mrr mrr_end actual_ltv activated",
        "binary": "retained_6mo mrr actual_ltv activated won_back",
        "no_mrr": "retained_6mo actual_ltv activated days_to_activate won_back",
        "no_ltv": "retained_6mo mrr mrr_end activated won_back",
        "label_only": "retained_6mo",
        "ltv_only": "actual_ltv",
        "mrr_only": "mrr",
        "no_days": "retained_6mo mrr mrr_end activated",
    }.items()
}
#: Kinds where the retention of every account is known or can be told.
LABELLED = tuple(k for k, c in KINDS.items() if c & {"retained_6mo", "churned", "mrr_end"})


def draw_account(source: random.Random, kind: str) -> Row:
    """Draw one account that the data contract lets into a table of this kind."""
    columns = KINDS[kind]
    cents = (1, 2, 9900, 9900, 19900, source.randint(1, 10**9))
    units = (0, 0, 2500, 5000, 10000, source.randint(0, 10000))
    row: Row = {
        "units": tuple(source.choice(units) for _ in FEATURES),
        "retained": None,
        "start": source.choice((None, 0, *cents)),
        "end": None,
        "ltv": source.choice((None, 0, -500, *cents)),
        "activated": source.choice((None, None, 0, 1, 1)),
        "days": source.choice((None, 0, 1, 2, 3, 30)),
        "won_back": None,
    }
    status = source.choice(("current",) * 8 + ("former", "open"))
    if status == "former" and "won_back" in columns:
        row["won_back"] = source.randint(0, 1)
    elif status == "open" and "actual_ltv" in columns and "mrr_end" not in columns:
        # Neither label: it counts where its lifetime value or its activation counts.
        row["ltv"] = row["ltv"] or 700
    else:
        row["start"] = row["start"] or 0
        row["retained"] = source.choice((0, 1, 1))
        if row["retained"]:
            row["end"] = source.choice((0, row["start"], row["start"], *cents))
        else:
            row["end"] = source.choice((0, 0, None))
        if kind == "end_only":
            row["end"] = row["end"] or 0
        if kind == "ltv_only":
            row["ltv"] = row["ltv"] or 700
    return row


def draw_table(source: random.Random, size: int, kind: str) -> list[Row]:
    """Draw a table; ids say in which order."""
    return [{"id": f"a{i:05d}", **draw_account(source, kind)} for i in range(size)]


def frame_of(rows: Sequence[Row], kind: str) -> pl.DataFrame:
    """Show accounts as an account table of this kind."""

    def money(name: str) -> list[float | None]:
        return [None if row[name] is None else row[name] / 100 for row in rows]

    churned = [None if row["retained"] is None else 1 - row["retained"] for row in rows]
    outcomes = {
        "retained_6mo": pl.Series([row["retained"] for row in rows], dtype=pl.Int8),
        "churned": pl.Series(churned, dtype=pl.Int8),
        "mrr": pl.Series(money("start"), dtype=pl.Float64),
        "mrr_end": pl.Series(money("end"), dtype=pl.Float64),
        "actual_ltv": pl.Series(money("ltv"), dtype=pl.Float64),
        "activated": pl.Series([row["activated"] for row in rows], dtype=pl.Int8),
        "days_to_activate": pl.Series([row["days"] for row in rows], dtype=pl.Int16),
        "won_back": pl.Series([row["won_back"] for row in rows], dtype=pl.Int8),
    }
    features = {
        name: pl.Series([row["units"][i] / 10_000 for row in rows], dtype=pl.Float64)
        for i, name in enumerate(FEATURES)
    }
    identity = {"account_id": pl.Series([row["id"] for row in rows], dtype=pl.String)}
    kept = {name: values for name, values in outcomes.items() if name in KINDS[kind]}
    return pl.DataFrame({**identity, **features, **kept})


def canonical(row: Row, kind: str) -> Row:
    """Say what a table of this kind tells of an account, in the words of `reference`."""
    columns = KINDS[kind]
    seen = dict(row)
    if not columns & {"retained_6mo", "churned"}:
        known = "mrr_end" in columns and row["end"] is not None
        seen["retained"] = int(row["end"] > 0) if known else None
    if "mrr" not in columns:
        seen["start"] = seen["end"] = None
    elif "mrr_end" not in columns:
        flat = None in (seen["start"], seen["retained"])
        seen["end"] = None if flat else seen["start"] * seen["retained"]
    elif seen["retained"] == 0:
        seen["end"] = 0
    for column, name in (
        ("actual_ltv", "ltv"),
        ("activated", "activated"),
        ("days_to_activate", "days"),
        ("won_back", "won_back"),
    ):
        if column not in columns:
            seen[name] = None
    return seen


def make_spec(
    weights: Sequence[int] = (40, 25, -10),
    *,
    bounds: tuple[int, int] = (-200, 200),
    tiers: Mapping[str, float] = TIERS,
    holdout: float = 0.0,
    max_score: int = 100,
    **more: object,
) -> specs.ScoringSpec:
    """Make a spec over `FEATURES`, the first tier the highest; `tiers` gives their lower edges."""
    tops = [max_score + 1.0, *tiers.values()]
    low, high = bounds
    return specs.ScoringSpec.model_validate(
        {
            "model": "test",
            "max_score": max_score,
            "split": {"holdout": holdout},
            "features": {
                name: {"weight": weight, "min": low, "max": high}
                for name, weight in zip(FEATURES, weights, strict=False)
            },
            "tiers": {
                name: {"min": low_edge, "max": top}
                for (name, low_edge), top in zip(tiers.items(), tops, strict=False)
            },
            **more,
        }
    )


def score_of(units: Sequence[int], weights: Sequence[int], base: int, max_score: int) -> int:
    """Score one account from the definition: in hundredths, half up, then clipped."""
    return min(max(unclipped(units, weights, base), 0), 100 * max_score)


def unclipped(units: Sequence[int], weights: Sequence[int], base: int) -> int:
    """Round an account's points half up to hundredths."""
    points = base + sum(Fraction(u, 10_000) * w for u, w in zip(units, weights, strict=True))
    return math.floor(points * 100 + Fraction(1, 2))


def tier_at(score: int, tiers: Mapping[str, float]) -> str:
    """Name the tier of a score in hundredths."""
    edges = {name: round(low * 100) for name, low in tiers.items()}
    return max((low, name) for name, low in edges.items() if low <= score)[1]


def scored(
    rows: Sequence[Row],
    kind: str,
    weights: Sequence[int],
    *,
    base: int = 0,
    max_score: int = 100,
    tiers: Mapping[str, float] = TIERS,
) -> list[Row]:
    """Return the rows that `reference.metrics` takes."""
    found = []
    for row in rows:
        score = score_of(row["units"], weights, base, max_score)
        found.append({**canonical(row, kind), "score": score, "tier": tier_at(score, tiers)})
    return found


def loaded(frame: pl.DataFrame, spec: specs.ScoringSpec) -> Accounts:
    """Load a frame the way a run does."""
    return load_accounts(scan(frame), spec)


@cache
def drawn_matrix(kind: str, size: int, seed: int) -> AccountMatrix:
    """Draw a table and load it with the spec of `make_spec`, once for all tests.

    The arrays are read-only, and don't depend on weights, tiers or orientation.
    """
    frame = frame_of(draw_table(random.Random(seed), size, kind), kind)
    return loaded(frame, make_spec()).search


def tallied(
    frame: pl.DataFrame, spec: specs.ScoringSpec, vectors: Sequence[Sequence[int]] = ()
) -> Measured:
    """Measure a spec on a whole table the way a run does; or other weights, a row for each."""
    accounts = loaded(frame, spec)
    asked = [*map(list, vectors)] or [[term.weight for term in spec.terms]]
    sums = LocalEvaluator(accounts.search, spec).frame(asked)
    return measure(sums, spec.tier_names, accounts.checked.outcomes)


def agree(got: object, expected: object, *, rel: float = 1e-12) -> bool:
    """Compare two values: null equals null alone, numbers up to their last bits."""
    if got is None or expected is None:
        return got is expected
    assert isinstance(got, int | float)
    assert isinstance(expected, int | float)
    return math.isclose(got, expected, rel_tol=rel, abs_tol=0.0)


def assert_same_metrics(
    got: Mapping[str, object], expected: Mapping[str, object], *, rel: float = 1e-12
) -> None:
    """Compare metrics by key; by-tier ones are mappings from tier to value."""
    assert got.keys() == expected.keys()
    flat = {}
    for name, source in (("got", got), ("expected", expected)):
        flat[name] = {
            (key, tier): each
            for key, value in source.items()
            for tier, each in (value.items() if isinstance(value, dict) else [(None, value)])
        }
    assert flat["got"].keys() == flat["expected"].keys()
    different = {
        place: (each, flat["expected"][place])
        for place, each in flat["got"].items()
        if not agree(each, flat["expected"][place], rel=rel)
    }
    assert not different


def count_all(
    bins: NDArray[Any],
    clipped: NDArray[np.int64],
    part: RowBlock,
    tier_lows: Sequence[int],
    window: range,
) -> Counts:
    """Count K candidates by score bin and by tier, all with the same edges."""
    lows = np.tile(np.array(tier_lows, dtype=np.int64), (len(bins), 1))
    by_code, by_days = count_tiers(bins, part, lows)
    counted = count(bins, clipped, part, len(tier_lows), window)
    return counted.with_tiers(Counts.of_tiers(by_code, by_days, lows, clipped))
