"""The JSON Schema that editors check specs by says the same as the model."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from factories import binned, make_spec, weighted
from jsonschema import Draft202012Validator

from gtmar.spec import ScoringSpec, json_schema, to_yaml

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/spec.yaml"))
SEED: dict[str, Any] = {
    "model": "health_score",
    "max_score": 100,
    "features": {"alert_created": {"weight": 5, "min": 0, "max": 25}},
    "tiers": {
        "A": {"min": 60, "max": 101},
        "B": {"min": 35, "max": 60},
        "C": {"min": 15, "max": 35},
        "D": {"min": 0, "max": 15},
    },
}


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    stated = json_schema()
    Draft202012Validator.check_schema(stated)
    return Draft202012Validator(stated)


def faults(schema: Draft202012Validator, data: object) -> list[str]:
    return [fault.message for fault in schema.iter_errors(data)]


def encoded(encode: object) -> dict[str, Any]:
    return {**SEED, "features": {"x": weighted(encode=encode)}}


def test_schema_says_what_it_is() -> None:
    stated = json_schema()
    assert stated["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert stated["title"] == "gtmar scoring spec"
    assert set(stated["required"]) == {"model", "features", "tiers"}
    assert "from" in stated["$defs"]["RangeEncoder"]["properties"]


def test_seed_form_is_accepted(schema: Draft202012Validator) -> None:
    assert faults(schema, SEED) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_examples_are_accepted(schema: Draft202012Validator, path: Path) -> None:
    assert faults(schema, yaml.safe_load(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "encode",
    [
        "identity",
        "bool",
        "days_before",
        {"kind": "range", "from": 0, "to": 1.5, "invert": True},
        {"kind": "curve", "points": [[0, 0], [1, 0.5]]},
        {"kind": "quantile", "cuts": [1, 2]},
        {"kind": "one_of", "values": {"a": 1}, "default": 0},
        {"kind": "days_before", "then": {"kind": "range", "from": 0, "to": 30}},
    ],
    ids=str,
)
def test_encoders_are_accepted(schema: Draft202012Validator, encode: object) -> None:
    assert faults(schema, encoded(encode)) == []


def test_what_the_tool_writes_is_accepted(schema: Draft202012Validator) -> None:
    spec = make_spec(
        version="3",
        as_of="day",
        orientation="risk",
        objective="auc_roc_churn",
        outcomes={"retained": "stayed"},
        split={"holdout": 0.2, "salt": "x"},
        guardrails=[{"metric": "share_by_tier.A", "min": 0.05}],
        no_worse=["nrr_at_20"],
        lineage={"run": "r1", "experiment": "exp_00001"},
        features={
            "a": weighted(missing={"value": 0.5}, description="A"),
            "b": binned("[0,3)", "other"),
        },
    )
    assert faults(schema, yaml.safe_load(to_yaml(spec))) == []


@pytest.mark.parametrize(
    ("data", "culprit"),
    [
        ({**SEED, "objectve": "auc"}, "objectve"),
        ({**SEED, "split": {"share": 0.3}}, "share"),
        ({**SEED, "features": {"x": weighted(wieght=5)}}, "wieght"),
        ({**SEED, "tiers": {"all": {"min": 0, "max": 101, "name": "A"}}}, "name"),
        (encoded({"kind": "range", "fro": 0, "from": 0, "to": 1}), "fro"),
    ],
    ids=["spec", "split", "feature", "tier", "encoder"],
)
def test_unknown_key_is_refused(
    schema: Draft202012Validator, data: dict[str, Any], culprit: str
) -> None:
    assert any(f"'{culprit}'" in message for message in faults(schema, data))


@pytest.mark.parametrize(
    "data",
    [
        {key: value for key, value in SEED.items() if key != "tiers"},
        {**SEED, "max_score": 0},
        {**SEED, "max_score": 1_001},
        {**SEED, "features": {}},
        {**SEED, "features": {"x": weighted() | {"weight": "5"}}},
        {**SEED, "features": {"x": weighted(high=1_000_001)}},
        {**SEED, "orientation": "riskk"},
        {**SEED, "split": {"holdout": 1}},
        encoded("rnge"),
        encoded({"kind": "rnge"}),
        encoded({"kind": "range", "from": 0}),
    ],
)
def test_what_the_model_refuses_by_type_the_schema_refuses(
    schema: Draft202012Validator, data: dict[str, Any]
) -> None:
    assert faults(schema, data)
    with pytest.raises(ValueError, match="validation error"):
        ScoringSpec.model_validate(data)
