"""The loop that benchmarks compare with does the same work: its metrics are this package's."""

import io
import json
from pathlib import Path

import pytest
import tables
from benchmarks.reference_loop import ReferenceLoop

from gtmar import spec as specs
from gtmar.data.synthetic import generate

SPEC = specs.load(Path(__file__).parents[1] / "golden" / "fixed_edges.yaml")


@pytest.mark.slow
def test_the_reference_loop_measures_what_the_engine_measures() -> None:
    table = generate("health_score", accounts=3_000, seed=3)
    loop = ReferenceLoop(
        table.to_pandas(),
        {term.name: term.weight for term in SPEC.terms},
        {term.name: (term.min, term.max) for term in SPEC.terms},
        base=SPEC.base,
        top=SPEC.max_score,
        tiers={name: SPEC.tiers[name].low / 100 for name in SPEC.tier_names},
    )
    whole = SPEC.split.model_copy(update={"holdout": 0.0})
    expected = tables.tallied(table, SPEC.model_copy(update={"split": whole})).row(0)
    assert len(loop.best) == 13
    # It rounds binary fractions, so that a few scores differ by a hundredth of a point.
    for key, value in loop.best.items():
        assert value == pytest.approx(expected[key], rel=0.01), key
    assert loop.best["auc_roc_retain"] == pytest.approx(expected["auc_roc_retain"], abs=1e-4)

    log = io.StringIO()
    loop.run(30, log)
    rows = [json.loads(line) for line in log.getvalue().splitlines()]
    assert len(rows) == 30
    assert any(row["won"] for row in rows)
    assert loop.best["auc_roc_retain"] == max(r["auc_roc_retain"] for r in rows)
