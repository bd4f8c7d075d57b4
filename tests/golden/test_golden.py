"""One run by each proposer that stays put: digest, weights and metrics, to the last bit.

``python tests/golden/test_golden.py --overwrite`` makes `health_score.json` anew. Whoever has to do
that because a number moved also raises `EVALUATOR_VERSION`, so that old journals aren't compared
with new ones.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from gtmar import spec as specs
from gtmar.data.synthetic import generate
from gtmar.engine.evaluator import EVALUATOR_VERSION
from gtmar.runs import PROPOSERS, Limits, run

GOLDEN = Path(__file__).with_name("health_score.json")
SPEC = Path(__file__).with_name("fixed_edges.yaml")
ADVICE = (
    "the golden run has moved. If a number was meant to move, raise EVALUATOR_VERSION in "
    "gtmar/evaluate/version.py and run `python tests/golden/test_golden.py --overwrite`"
)


def golden_run(proposer: str) -> dict[str, Any]:
    """Do the run: 200 experiments over a small table."""
    table = generate("health_score", accounts=400, seed=7)
    with tempfile.TemporaryDirectory() as folder:
        result = run(
            table,
            specs.load(SPEC),
            limits=Limits(200),
            seed=11,
            journal=folder,
            proposer=proposer,
        )
    assert result.holdout is not None
    return {
        "evaluator_version": EVALUATOR_VERSION,
        "digest": result.digest,
        "experiments": result.experiments,
        "wins": result.wins,
        "baseline_value": result.baseline_value,
        "best_value": result.best_value,
        "best_experiment": result.best_experiment,
        "weights": result.weights,
        "metrics": result.metrics,
        "holdout": result.holdout,
    }


@pytest.fixture(scope="module")
def golden() -> dict[str, dict[str, Any]]:
    """Read what the runs were, by proposer."""
    kept: dict[str, dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return kept


def test_every_proposer_has_a_golden_run_of_its_own(golden: dict[str, dict[str, Any]]) -> None:
    assert tuple(golden) == PROPOSERS
    assert len({kept["digest"] for kept in golden.values()}) == len(PROPOSERS)


@pytest.mark.parametrize("proposer", PROPOSERS)
def test_the_golden_run_has_not_moved(golden: dict[str, dict[str, Any]], proposer: str) -> None:
    # Through JSON, which keeps every double to its last bit.
    found, kept = json.loads(json.dumps(golden_run(proposer))), golden[proposer]
    moved = {name: (kept.get(name), found[name]) for name in found if found[name] != kept.get(name)}
    assert not moved, f"{ADVICE}; moved: {moved}"
    assert kept.keys() == found.keys(), ADVICE


if __name__ == "__main__":
    if sys.argv[1:] != ["--overwrite"]:
        raise SystemExit("usage: python tests/golden/test_golden.py --overwrite")
    made = {proposer: golden_run(proposer) for proposer in PROPOSERS}
    GOLDEN.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
