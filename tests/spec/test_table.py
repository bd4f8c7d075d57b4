"""Tables of two columns: what is read, what is refused, ids, and where a cell is told."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from jsonschema import Draft202012Validator

from gtmar import runs
from gtmar import spec as specs
from gtmar.data.encode import cell_of
from gtmar.spec.encoders import TableEncoder
from gtmar.spec.joined import joined

TABLE = {
    "kind": "table",
    "down": ["tenure < 3", "tenure < 12"],
    "across": ["plan in ('pro', 'max')"],
    "values": [[0.2, 0.5], [0, 1], [0.4, 0.3]],
}


def with_table(**changed: Any) -> dict[str, Any]:
    feature = {"weight": 10, "min": -25, "max": 25, "encode": {**TABLE, **changed}}
    return {
        "model": "m",
        "id": "id",
        "features": {"both": feature},
        "tiers": {"A": {"min": 5, "max": 101}, "B": {"min": 0, "max": 5}},
    }


def spec_of(**changed: Any) -> specs.ScoringSpec:
    return specs.ScoringSpec.model_validate(with_table(**changed))


@pytest.fixture
def accounts(tmp_path: Path) -> Path:
    frame = pl.DataFrame(
        {
            "id": ["new", "young", "old", "unknown", "neither"],
            "tenure": [1.0, 3.0, 12.0, None, float("nan")],
            "plan": ["pro", "free", " max", "pro", None],
        }
    )
    frame.write_parquet(path := tmp_path / "accounts.parquet")
    return path


def test_a_cell_is_found_by_the_first_condition_that_holds(accounts: Path) -> None:
    scored = runs.score(accounts, spec_of())
    assert scored.sort("id")["points.both"].to_list() == [3.0, 2.0, 4.0, 4.0, 10.0]


def test_the_cell_of_an_account_is_told(accounts: Path) -> None:
    frame = pl.read_parquet(accounts)
    encoder = spec_of().features["both"].encode
    assert isinstance(encoder, TableEncoder)
    assert frame.select(cell_of(encoder, frame.schema)).to_series().to_list() == [
        "tenure < 3, plan in ('max', 'pro')",
        "tenure < 12, any other plan",
        "any other tenure, plan in ('max', 'pro')",
        "any other tenure, plan in ('max', 'pro')",
        "any other tenure, any other plan",
    ]
    explained = runs.explain("young", accounts, spec_of())
    [line] = [each for each in explained.lines if each.name == "both"]
    assert (line.value, line.points) == ("3.0, free", 10.0)
    assert spec_of().earned_by == {"both": "tenure < 12, otherwise"}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"down": ["tenure < 3 and seats < 2"]}, "down lists one condition at a time"),
        (
            {"down": ["tenure < 3", "seats < 2"]},
            "down is about one column, got ['seats', 'tenure']",
        ),
        ({"across": ["tenure > 5"]}, "about two columns, got tenure twice"),
        ({"values": [[1, 0], [0, 1]]}, "values need 3 rows of 2"),
        ({"values": [[1, 0], [0, 1], [1]]}, "values need 3 rows of 2"),
        ({"down": []}, "at least 1 item"),
        ({"down": ["a < 1", "a < 2", "a < 3", "a < 4"]}, "at most 3 items"),
        ({"down": ["tenure <"]}, "character"),
        ({"values": [[0.2, 0.5], [0, float("inf")], [0, 0]]}, "finite"),
    ],
)
def test_what_is_no_table_is_refused(changed: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        spec_of(**changed)
    assert expected in str(refused.value)


@pytest.mark.parametrize("key", [{"column": "tenure"}, {"missing": {"value": 0}}])
def test_a_table_names_its_columns_and_knows_the_unknown(key: dict[str, Any]) -> None:
    data = with_table()
    data["features"]["both"] |= key
    with pytest.raises(ValueError, match="a table names its columns"):
        specs.ScoringSpec.model_validate(data)


def test_ids_are_of_what_it_means() -> None:
    spec = spec_of()
    same = spec_of(down=["3 > tenure", "tenure<12.0"], across=["plan in ('max','pro','max')"])
    assert specs.score_id(same) == specs.score_id(spec)
    for other in (
        {"values": [[0.2, 0.5], [0, 1], [0.4, 0]]},
        {"down": ["tenure < 3", "tenure < 9"]},
    ):
        assert specs.score_id(spec_of(**other)) != specs.score_id(spec)
    assert specs.parse(specs.to_yaml(spec), source="x") == spec
    schema = Draft202012Validator(specs.json_schema())
    assert schema.is_valid(with_table())
    assert not schema.is_valid(with_table(down=3))
    first, second = joined(spec, specs.reweighed(same, {"both": 3}))
    assert [term.columns for term in first.terms] == [("tenure", "plan")]
    assert (first.weights, second.weights) == ({"both": 10}, {"both": 3})
