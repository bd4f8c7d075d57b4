"""Scores that are more than a sum of points, against a plain reading of what they are."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import plain_points
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtmar import runs
from gtmar.data.matrix import AccountMatrix, Accounts, load_accounts
from gtmar.data.prepare import prepared
from gtmar.data.scan import scan
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.sum_names import tier_sum
from gtmar.engine.tally import TierEdges
from gtmar.errors import SpecError
from gtmar.spec import ScoringSpec
from gtmar.spec.encoders import DecayEncoder
from gtmar.validation.resampling import in_order_of_content, shuffled

if TYPE_CHECKING:
    from collections.abc import Sequence

TODAY = date(2026, 3, 1)
NUMBERS = ("a", "b", "c", "d")
TIERS: dict[str, dict[str, float]] = {
    "A": {"min": 60, "max": 101},
    "B": {"min": 25.5, "max": 60},
    "C": {"min": 10, "max": 25.5},
    "D": {"min": 0, "max": 10},
}


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a spec of five features with any of the shapes."""
    weights = st.integers(-40, 60)
    missing = st.sampled_from(["redistribute", {"value": 0.25}])
    features: dict[str, Any] = {
        name: {"weight": draw(weights), "min": -90, "max": 90, "missing": draw(missing)}
        for name in NUMBERS
    }
    half_life = draw(st.sampled_from((1, 7, 30, 365)))
    fading = {"kind": "days_before", "then": {"kind": "decay", "half_life": half_life}}
    features["seen"] = {**features["d"], "weight": draw(weights), "encode": fading}
    names = draw(st.permutations(sorted(features)))
    cuts = sorted(draw(st.lists(st.integers(0, 5), min_size=2, max_size=2)))
    groups = {}
    for number, own in enumerate((names[: cuts[0]], names[cuts[0] : cuts[1]])):
        low, high = draw(st.none() | st.integers(-30, 5)), draw(st.integers(5, 50))
        if own:
            groups[f"g{number}"] = {"features": own, "min": low, "max": high}
    risk = draw(st.booleans())
    led = draw(st.lists(st.sampled_from("AB" if risk else "BCD"), max_size=2, unique=True))
    return {
        "model": "drawn",
        "id": "id",
        "as_of": "today",
        "max_score": 100,
        "base": draw(st.integers(-20, 40)),
        "orientation": "risk" if risk else "health",
        "features": features,
        "groups": groups,
        "veto": [{"rule": f"{c} > 1", "tier": t} for c, t in zip("ab", led, strict=False)],
        "tiers": TIERS,
        "split": {"holdout": 0},
    }


cells = st.none() | st.integers(-2, 3)
rows = st.lists(
    st.tuples(cells, cells, cells, cells, st.none() | st.integers(-3, 400)),
    min_size=1,
    max_size=30,
)


def table_of(drawn: Sequence[tuple[int | None, ...]]) -> pl.DataFrame:
    seen = [None if row[4] is None else TODAY - timedelta(days=row[4]) for row in drawn]
    return pl.DataFrame(
        {
            "id": [f"id-{i}" for i in range(len(drawn))],
            **{
                n: pl.Series([row[i] for row in drawn], dtype=pl.Int64)
                for i, n in enumerate(NUMBERS)
            },
            "seen": pl.Series(seen, dtype=pl.Date),
            "today": [TODAY] * len(drawn),
            "retained_6mo": [i % 2 for i in range(len(drawn))],
        }
    )


def loaded(table: pl.DataFrame, spec: ScoringSpec) -> Accounts:
    return load_accounts(prepared(scan(table), spec), spec)


@pytest.mark.slow
@settings(max_examples=36, deadline=None)
@given(specs(), rows)
def test_a_score_is_what_the_definition_gives(
    data: dict[str, Any], drawn: list[tuple[int | None, ...]]
) -> None:
    table, spec = table_of(drawn), ScoringSpec.model_validate(data)
    expected = [plain_points.score(data, row, TODAY) for row in table.to_dicts()]
    scored = runs.score(table, spec)
    assert (scored["score"] * 100).round().cast(pl.Int64).to_list() == expected
    parts = scored.drop("id", "score", "tier") * 10_000
    assert (parts.sum_horizontal().round() == (scored["score"] * 10_000).round()).all()
    bins = np.array(expected)
    names = np.array(spec.tier_names)[TierEdges.of(spec).tiers_of(bins)]
    assert scored["tier"].to_list() == names.tolist()


@pytest.mark.slow
@settings(max_examples=16, deadline=None)
@given(specs(), rows, st.lists(st.lists(st.integers(-90, 90), min_size=5, max_size=5), max_size=4))
def test_candidates_are_counted_by_their_own_scores(
    data: dict[str, Any], drawn: list[tuple[int | None, ...]], others: list[list[int]]
) -> None:
    """Whatever was the incumbent before, in however many parts the table is counted."""
    table, spec = table_of(drawn), ScoringSpec.model_validate(data)
    matrix = loaded(table, spec).search
    evaluator = LocalEvaluator(matrix, spec, threads=2, part_rows=7, compiled=False)
    vectors = [list(spec.weights.values()), *others]
    evaluator.move(vectors[-1])
    evaluator.move(vectors[len(vectors) // 2])
    counted = evaluator.frame(vectors)
    for number, vector in enumerate(vectors):
        named = dict(zip(spec.weights, vector, strict=True))
        weighed = {n: {**f, "weight": named[n]} for n, f in data["features"].items()}
        own = {**data, "features": weighed}
        scores = [plain_points.score(own, row, TODAY) for row in table.to_dicts()]
        assert sorted(evaluator.scores(vector).tolist()) == sorted(scores)
        for name, tier in TIERS.items():
            inside = sum(tier["min"] * 100 <= score < tier["max"] * 100 for score in scores)
            assert counted[tier_sum("accounts", name)][number] == inside


@pytest.mark.slow
@pytest.mark.parametrize("half_life", [1, 2, 7, 30, 45, 90, 365])
def test_fading_is_the_nearest_ten_thousandth_on_every_day(half_life: int) -> None:
    encoder = DecayEncoder(kind="decay", half_life=half_life)
    days = [*range(-2, encoder.end + 2)]
    encode = {"kind": "days_before", "then": {"kind": "decay", "half_life": half_life}}
    spec = ScoringSpec.model_validate(
        {
            "model": "fading",
            "as_of": "today",
            "features": {"seen": {"weight": 1, "min": 1, "max": 1, "encode": encode}},
            "tiers": {"A": {"min": 0, "max": 101}},
        }
    )
    table = pl.DataFrame({"seen": [TODAY - timedelta(days=n) for n in days], "today": TODAY})
    points = (runs.score(table, spec)["points.seen"] * 10_000).round().cast(pl.Int64)
    assert points.to_list() == [plain_points.faded(day, half_life) for day in days]
    assert encoder.near == {5 * half_life: 313}
    assert (points[-1], points[-3]) == (0, 1)


def test_points_beyond_what_is_shared_out_exactly_are_refused() -> None:
    feature = {"weight": 1_000, "min": 0, "max": 1_000_000, "missing": "redistribute"}
    spec = ScoringSpec.model_validate(
        {"model": "large", "features": {"a": feature}, "tiers": {"A": {"min": 0, "max": 101}}}
    )
    table = pl.DataFrame({"a": [10**6, None], "retained_6mo": [0, 1]})
    with pytest.raises(SpecError, match="more than is shared out exactly"):
        loaded(table, spec)


def test_what_is_drawn_anew_keeps_its_flags() -> None:
    """Shuffled, put in order, drawn: an account's features and flags go together."""
    features = {n: {"weight": 9, "min": 0, "max": 9, "missing": "redistribute"} for n in NUMBERS}
    spec = ScoringSpec.model_validate(
        {
            "model": "drawn",
            "features": features,
            "veto": {"rule": "a = 3 and b is missing", "tier": "D"},
            "tiers": TIERS,
            "split": {"holdout": 0},
        }
    )

    def hole(number: int) -> int | None:
        """Return unknowns and zeros, which give as many points."""
        return None if number == 1 else number

    drawn = [(hole(i % 5), hole(i % 7), hole(i % 3), i % 4, None) for i in range(200)]
    table = table_of(drawn)
    matrix = loaded(table, spec).search
    weights = list(spec.weights.values())

    def scores(one: AccountMatrix) -> list[int]:
        return sorted(LocalEvaluator(one, spec, threads=1).scores(weights).tolist())

    assert len(set(scores(matrix))) > 10
    assert scores(shuffled(matrix, seed=1, number=1)) == scores(matrix)
    assert scores(in_order_of_content(matrix)) == scores(matrix)
    turned = loaded(table.reverse(), spec).search
    one, two = (in_order_of_content(each) for each in (matrix, turned))
    assert {n: f.tolist() for n, f in one.flags.items()} == {
        n: f.tolist() for n, f in two.flags.items()
    }
    halves = [matrix.part(0, 90), matrix.take(np.arange(90, 200))]
    assert sorted(scores(halves[0]) + scores(halves[1])) == scores(matrix)


def test_machine_code_counts_the_same() -> None:
    pytest.importorskip("numba")
    features: dict[str, Any] = {
        n: {"weight": 9, "min": -9, "max": 20, "missing": "redistribute"} for n in NUMBERS
    }
    groups = {"g": {"features": ["a", "b"], "min": -3, "max": 12}}
    veto = {"rule": "a > 1", "tier": "C"}
    spec = ScoringSpec.model_validate(
        {
            "model": "counted",
            "base": 20,
            "features": features,
            "groups": groups,
            "veto": veto,
            "tiers": TIERS,
            "split": {"holdout": 0},
        }
    )
    drawn = [(i % 3 or None, i % 7, i % 5 or None, i % 4, None) for i in range(300)]
    matrix = loaded(table_of(drawn), spec).search
    candidates = [[9, 9, 9, 9], [20, -9, 3, 0], [0, 0, 0, 0], [1, 2, 3, 4]]
    known = []
    for compiled in (True, False):
        evaluator = LocalEvaluator(matrix, spec, compiled=compiled)
        assert evaluator.compiles == compiled
        evaluator.move(candidates[1])
        known.append(evaluator.frame(candidates))
    assert known[0].equals(known[1])
