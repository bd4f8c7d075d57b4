"""A formula gives the same bits over Python's integers as it does as a Polars expression."""

import random
import struct
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import tables

from gtmar import spec as specs
from gtmar.data.matrix import AccountMatrix
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.tally import TierEdges
from gtmar.errors import UsageError
from gtmar.metrics import all_metrics
from gtmar.metrics.metric import Exact, Sums
from gtmar.objective.objective import Judge

VECTORS = [(40, 25, -10), (0, 0, 0), (-200, -200, -200), (200, 0, 1), (3, -2, 90)]


def names_of(spec: specs.ScoringSpec) -> list[str]:
    """Name every metric, those by tier once a tier."""
    return [
        name
        for key, metric in all_metrics().items()
        for name in ([f"{key}.{tier}" for tier in spec.tier_names] if metric.by_tier else [key])
    ]


def bits(values: Sequence[float | int | None]) -> list[bytes | None]:
    return [None if v is None else struct.pack("<d", float(v)) for v in values]


def both(
    matrix: AccountMatrix, spec: specs.ScoringSpec, sums: np.ndarray
) -> Mapping[str, tuple[list[bytes | None], list[bytes | None]]]:
    """Compute all metrics of the same sums in both ways."""
    evaluator = LocalEvaluator(matrix, spec)
    frame = evaluator.frame_of(sums)
    known = evaluator.known_of(sums, frame.columns)
    found = {}
    for name in names_of(spec):
        key, _, tier = name.partition(".")
        asked = Sums(spec.tier_names, tier or None)
        metric = all_metrics()[key]
        queried = frame.select(metric.expression(asked).alias("v"))["v"].to_list()
        exact = metric.formula_of(Sums(spec.tier_names, tier or None, known))
        assert isinstance(exact, Exact)
        if len(queried) == 1:
            queried *= len(sums)
        found[name] = bits(exact.values), bits(queried)
    return found


@pytest.mark.parametrize("orientation", ["health", "risk"])
@pytest.mark.parametrize("kind", tables.LABELLED)
@pytest.mark.parametrize("size", [1, 4, 60])
def test_both_give_the_same_bits(kind: str, orientation: str, size: int) -> None:
    drawn = tables.draw_table(random.Random(size), size, kind)
    spec = tables.make_spec(base=5, orientation=orientation)
    matrix = tables.loaded(tables.frame_of(drawn, kind), spec).search
    sums = LocalEvaluator(matrix, spec).sums(VECTORS)
    for name, (exact, queried) in both(matrix, spec, sums).items():
        assert exact == queried, name


@pytest.mark.parametrize("limbs", [1, 2])
def test_both_round_large_sums_the_same_way(limbs: int) -> None:
    drawn = tables.draw_table(random.Random(1), 60, "everything")
    spec = tables.make_spec(base=5)
    matrix = tables.loaded(tables.frame_of(drawn, "everything"), spec).search
    like = LocalEvaluator(matrix, spec).sums(VECTORS)
    source = np.random.default_rng(4)
    # Neighbours of powers of two, where the conversion to doubles rounds.
    sums = source.integers(1, 2**30, size=(40, limbs, like.shape[-1]))
    sums[::2, 0] += source.integers(0, 3, size=sums[::2, 0].shape)
    names = TierEdges.of(spec).names
    # A million accounts, and cents of any size.
    cents = ("start", "end", "expansion", "contraction", "churned", "ltv", "score_s")
    accounts = [i for i, name in enumerate(names) if not any(part in name for part in cents)]
    accounts += [i for i, name in enumerate(names) if name in ("best_tied", "worst_tied")]
    sums[:, 1:, accounts] = 0
    sums[:, 0, accounts] %= 2**20
    # A variance isn't negative.
    total, squares = names.index("score_sum"), names.index("score_squares")
    sums[:, 1:, [total, squares]] = 0
    sums[:, 0, squares] = sums[:, 0, total] ** 2
    for name, (exact, queried) in both(matrix, spec, sums).items():
        assert exact == queried, name


def test_a_judge_decides_what_a_query_says() -> None:
    drawn = tables.draw_table(random.Random(7), 60, "everything")
    spec = tables.make_spec(base=5)
    matrix = tables.loaded(tables.frame_of(drawn, "everything"), spec).search
    evaluator = LocalEvaluator(matrix, spec)
    sums = evaluator.sums(VECTORS)
    asked = 0
    for name in names_of(spec):
        try:
            judge = Judge.of(spec, name)
        except UsageError:
            continue
        decided = judge.decide(evaluator.known_of(sums, judge.reads))
        assert bits(decided) == bits(judge.values(evaluator.frame_of(sums))), name
        asked += 1
    assert asked > 25
