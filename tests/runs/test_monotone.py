"""Points in order through whole runs, whoever proposes them, and a change by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from gtmar import runs
from gtmar import spec as specs
from gtmar.data import synthetic
from gtmar.errors import SpecError
from gtmar.journal.catalog import Journal

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

SPEC = specs.parse("""
model: card
features:
  session_depth:
    encode:
      kind: bins
      monotone: up
      bins:
        "[-inf,0.2)": {weight: 0, min: 0, max: 25}
        "[0.2,0.4)": {weight: 2, min: 0, max: 25}
        "[0.4,0.6)": {weight: 5, min: 5, max: 5}
        "[0.6,inf)": {weight: 9, min: 0, max: 25}
        missing: {weight: 20, min: 0, max: 25}
  search_intensity:
    encode:
      kind: bins
      monotone: down
      bins:
        "[-inf,0.3)": {weight: 9, min: -25, max: 25}
        "[0.3,0.6)": {weight: 5, min: -25, max: 25}
        "[0.6,inf)": {weight: 5, min: -25, max: 25}
        missing: {weight: 0, min: 0, max: 25}
  has_saved: {weight: 10, min: 0, max: 25}
tiers: {A: {min: 30, max: 101}, B: {min: 0, max: 30}}
""")


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return synthetic.generate("health_score", accounts=400, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("proposer", runs.PROPOSERS)
@pytest.mark.parametrize("start", ["spec", "logistic"])
def test_every_candidate_of_a_run_is_in_order(
    table: pl.DataFrame, tmp_path: Path, proposer: str, start: str
) -> None:
    digests = set()
    for batch in (1, None):
        found = runs.run(
            table,
            SPEC,
            limits=runs.Limits(80),
            seed=3,
            journal=tmp_path / f"{batch}",
            proposer=proposer,
            start=start,
            batch=batch,
        )
        digests.add(found.digest)
    assert len(digests) == 1
    # And one that begins with what the first has taught.
    warm = runs.run(table, SPEC, limits=runs.Limits(30), seed=4, journal=tmp_path / "1")
    assert warm.experiments == 30
    with Journal(tmp_path / "1") as journal:
        rows = journal.query("select map_values(weights) as w from experiments")["w"].to_list()
    names = [term.name for term in SPEC.terms]
    assert len(rows) > 100
    for weights in rows:
        assert len(weights) == len(names)
        for group in SPEC.ordered_terms:
            assert all(weights[a] <= weights[b] for a, b in pairwise(group))
        assert weights[2] == 5, "a bin fixed by hand"
    assert found.spec.ordered_terms == SPEC.ordered_terms


def test_a_change_by_hand_keeps_the_order(table: pl.DataFrame, tmp_path: Path) -> None:
    journal, name = tmp_path / "journal", "session_depth[0.2,0.4)"
    with pytest.raises(SpecError, match="not in the order of monotone: up"):
        runs.try_weights(table, SPEC, {name: 6}, note="more", journal=journal)
    assert not journal.exists()
    found = runs.try_weights(table, SPEC, {name: 5}, note="more", journal=journal)
    assert found.experiments == 1
