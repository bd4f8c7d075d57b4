"""Constraints through whole runs: every candidate keeps them, whoever proposed it."""

from __future__ import annotations

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

    from gtmar.spec import ScoringSpec

TOTAL, MOST = 40, 5
#: Which weights the spec starts with; all others are 0.
STARTED = {"alert_created": 10, "session_depth": 10, "has_saved": 10, "search_intensity": 10}


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return synthetic.generate("health_score", accounts=400, seed=2)


def spec_with(constraints: str) -> ScoringSpec:
    names = [
        "alert_created",
        "session_depth",
        "activation_speed",
        "has_exported",
        "has_saved",
        "search_intensity",
        "noise_feature_1",
    ]
    features = "".join(
        f"  {name}: {{weight: {STARTED.get(name, 0)}, min: -5, max: 25}}\n" for name in names
    )
    return specs.parse(
        f"model: points\n{constraints}features:\n{features}"
        "tiers:\n  A: {min: 50, max: 101}\n  B: {min: 0, max: 50}\n"
    )


CONSTRAINED = f"constraints: {{total: {TOTAL}, most_nonzero: {MOST}}}\n"


@pytest.mark.slow
@pytest.mark.parametrize("proposer", runs.PROPOSERS)
def test_every_candidate_of_a_run_keeps_them(
    table: pl.DataFrame, tmp_path: Path, proposer: str
) -> None:
    spec = spec_with(CONSTRAINED)
    digests = set()
    for batch in (1, 7, None):
        found = runs.run(
            table,
            spec,
            limits=runs.Limits(120),
            seed=3,
            journal=tmp_path / f"{batch}",
            proposer=proposer,
            batch=batch,
            cold=True,
        )
        digests.add(found.digest)
    assert len(digests) == 1
    assert found.wins > 2
    with Journal(tmp_path / "None") as journal:
        weights = journal.query("select map_values(weights) as w from experiments")["w"].to_list()
    assert len(weights) == 121
    assert {sum(each) for each in weights} == {TOTAL}
    assert max(sum(w != 0 for w in each) for each in weights) == MOST
    assert found.spec.constraints == spec.constraints
    assert sum(found.weights.values()) == TOTAL


@pytest.mark.slow
def test_a_memory_offers_only_what_keeps_them(table: pl.DataFrame, tmp_path: Path) -> None:
    runs.run(table, spec_with(""), limits=runs.Limits(60), journal=tmp_path)
    said: list[str] = []
    found = runs.run(
        table,
        spec_with(CONSTRAINED),
        limits=runs.Limits(60),
        seed=1,
        journal=tmp_path,
        announce=said.append,
    )
    assert said[0].startswith("The journal knows this table")
    with Journal(tmp_path) as journal:
        weights = journal.query(
            "select map_values(weights) as w from experiments where run_id = getvariable('run')",
            run=found.run_id,
        )["w"].to_list()
    assert {sum(each) for each in weights} == {TOTAL}


def test_a_spec_that_breaks_its_own_is_refused_with_both_and_their_lines() -> None:
    with pytest.raises(SpecError) as caught:
        spec_with("constraints:\n  total: 100\n  most_nonzero: 2\n")
    said = str(caught.value)
    assert "spec:3: constraints.total: the weights must add up to 100, they add up to 40" in said
    assert "spec:4: constraints.most_nonzero: at most 2 weights may differ from 0, 4 do" in said


@pytest.mark.parametrize(
    ("constraints", "said"),
    [
        ("constraints: {}\n", "constraints need a total or most_nonzero"),
        ("constraints: {most_nonzero: 0}\n", "greater than or equal to 1"),
        ("constraints: {totals: 40}\n", 'unknown key "totals"; did you mean "total"?'),
        ("constraints: {total: 40.5}\n", "constraints.total"),
    ],
)
def test_constraints_that_say_nothing_or_something_else_are_refused(
    constraints: str, said: str
) -> None:
    with pytest.raises(SpecError) as caught:
        spec_with(constraints)
    assert said in str(caught.value)


def test_a_persons_change_must_keep_them(table: pl.DataFrame, tmp_path: Path) -> None:
    spec = spec_with(CONSTRAINED)
    with pytest.raises(SpecError, match="must add up to 40, they add up to 45"):
        runs.try_weights(table, spec, {"alert_created": 15}, note="more", journal=tmp_path)
    assert not any(tmp_path.iterdir())
    both = {"alert_created": 15, "has_saved": 5}
    assert runs.try_weights(table, spec, both, note="more", journal=tmp_path).experiments == 1


def test_they_are_part_of_the_spec_id_and_not_of_the_score_id() -> None:
    free, bound = spec_with(""), spec_with(CONSTRAINED)
    other = spec_with("constraints: {total: 40}\n")
    assert len({specs.spec_id(each) for each in (free, bound, other)}) == 3
    assert len({specs.score_id(each) for each in (free, bound, other)}) == 1
    assert specs.parse(specs.to_yaml(bound)) == bound
    assert specs.parse(specs.to_json(bound)) == bound
