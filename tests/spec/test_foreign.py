"""Specs of other tools: their best_spec.json in all its forms, and weights as CSV."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gtmar import runs
from gtmar import spec as specs
from gtmar.errors import SpecError, SpecWarning, ViolationsError
from gtmar.spec.import_specs import PASSED_OVER

TIERS = {
    "A": {"min": 60, "max": 101},
    "B": {"min": 35, "max": 60},
    "C": {"min": 15, "max": 35},
    "D": {"min": 0, "max": 15},
}
#: As an earlier tool writes it, with a weight that its search found.
BEST = {
    "model": "health_score",
    "version": "auto_v1",
    "max_score": 100,
    "features": {
        "alert_created": {"weight": 12, "min": -5, "max": 25},
        "noise": {"weight": 0, "min": -5, "max": 25},
    },
    "tiers": TIERS,
}
TALK = {
    "_meta": {"tool": "scoring engine", "seed": 42},
    "metadata": None,
    "baseline_value": 0.6312,
    "best_value": 0.75,
    "improvement": "+0.1188",
    "metrics": {"auc_roc_retain": 0.75},
    "experiment_id": "exp_01992",
    "experiments": 2000,
    "n_experiments": 2000,
    "wins": 37,
    "seed": 42,
    "evaluation_version": 2,
    "generated_at": "2026-01-05T09:00:00+00:00",
    "timestamp": "2026-01-05T09:00:00+00:00",
}


def parse(data: object, *, indent: int | None = 2) -> specs.ScoringSpec:
    return specs.parse(json.dumps(data, indent=indent), source="best_spec.json")


def problem(data: object) -> str:
    with pytest.raises(SpecError) as caught:
        parse(data)
    return caught.value.message


# JSON of earlier tools


def test_best_spec_loads_as_the_spec_that_it_is(tmp_path: Path) -> None:
    path = tmp_path / "best_spec.json"
    path.write_text(json.dumps(BEST, indent=2), encoding="utf-8")
    spec = specs.load(path)
    assert spec == specs.ScoringSpec.model_validate(BEST)
    assert spec.weights == {"alert_created": 12, "noise": 0}
    assert spec.version == "auto_v1"


@pytest.mark.parametrize("key", PASSED_OVER)
@pytest.mark.parametrize("indent", [None, 2])
def test_talk_of_the_run_is_passed_over(key: str, indent: int | None) -> None:
    assert parse({key: TALK[key], **BEST}, indent=indent) == parse(BEST)


@pytest.mark.parametrize("key", ["spec", "best_spec"])
def test_the_spec_may_stand_below_with_talk_beside_it(key: str) -> None:
    assert parse({**TALK, key: BEST}) == parse(BEST)
    named = {k: v for k, v in BEST.items() if k != "model"}
    assert parse({"model": "health_score", key: named}) == parse(BEST)


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    path = tmp_path / "best_spec.json"
    talk = {**TALK, "metric": "auc_roc_churn", "retain_column": "renewed", "version": "auto_v0"}
    own = {"objective": "tier_separation", "outcomes": {"retained": "kept"}}
    path.write_text(json.dumps({**talk, "spec": {**BEST, **own}}), encoding="utf-8")
    with pytest.warns(SpecWarning) as caught:
        spec = specs.load(path)
    [said] = [str(each.message) for each in caught]
    assert said.startswith(f'spec "{path}": passed over')
    # `metadata` is null there: nothing is lost with it.
    lost = {*talk, "version"} - {"metadata"}
    assert {key for key in talk if f'"{key}"' in said} == lost
    assert (spec.objective, spec.outcomes.retained) == ("tier_separation", "kept")
    same = {"metric": "tier_separation", "retain_column": "kept", "required_columns": None}
    path.write_text(json.dumps({**same, **BEST, **own}), encoding="utf-8")
    assert specs.load(path) == spec


@pytest.mark.parametrize("key", ["spec", "best_spec"])
def test_required_columns_are_kept(key: str) -> None:
    required = ("account_id", "region")
    for data in (
        {"required_columns": ["account_id", "region"], **BEST},
        {"required_columns": ["account_id", "region"], key: BEST},
        {key: {"required_columns": ["account_id", "region"], **BEST}},
        {"required_columns": ["account_id"], key: {"required_columns": ["region"], **BEST}},
        {"required_columns": ["account_id", "region"], "weights": {"nps": 5}},
    ):
        spec = parse(data)
        assert spec.required_columns == required
        assert specs.parse(specs.to_yaml(spec)) == spec
        assert specs.parse(specs.to_json(spec)) == spec
    assert specs.spec_id(parse({"required_columns": ["region"], **BEST})) == specs.spec_id(
        parse(BEST)
    )
    for wrong in ("account_id", [5], {"account_id": "text"}, [""]):
        assert "required_columns" in problem({"required_columns": wrong, **BEST})


def test_a_table_without_a_required_column_is_refused() -> None:
    spec = parse({"required_columns": ["account_id", "regoin", "retained_6mo"], **BEST})
    frame = pl.DataFrame({"account_id": ["a", "b"], "alert_created": [0.5, 1.0]}).with_columns(
        noise=pl.lit(0.0), region=pl.lit("eu")
    )
    labelled = frame.with_columns(retained_6mo=pl.Series([0, 1]))
    with pytest.raises(ViolationsError) as caught:
        runs.check(labelled, spec)
    assert [(v.column, v.hint) for v in caught.value.violations] == [
        ("regoin", 'did you mean "region"?')
    ]
    assert "the spec's required_columns" in caught.value.message
    # Outcomes are not asked for where a table is only scored; other columns are.
    with pytest.raises(ViolationsError, match="regoin"):
        runs.score(frame, spec)
    fine = parse({"required_columns": ["account_id", "region", "retained_6mo"], **BEST})
    assert runs.score(frame, fine).height == 2


def test_the_metric_of_its_run_is_the_objective() -> None:
    assert parse({"metric": "tier_separation", **BEST}).objective == "tier_separation"
    assert parse({"metric": "tier_separation", "spec": BEST}).objective == "tier_separation"
    both = {"metric": "tier_separation", "objective": "auc_roc_churn", **BEST}
    assert parse(both).objective == "auc_roc_churn"


def test_its_names_of_outcome_columns_are_taken_over() -> None:
    columns = {
        "retain_column": "renewed",
        "churn_column": "left",
        "mrr_column": "normalized_mrr",
        "ltv_column": "ltv",
    }
    found = parse({**columns, **BEST}).outcomes.model_dump(exclude_defaults=True)
    assert found == {
        "retained": "renewed",
        "churned": "left",
        "mrr": "normalized_mrr",
        "ltv": "ltv",
    }


@pytest.mark.parametrize("key", ["weights", "weights_snapshot"])
def test_bare_weights_get_bounds_tiers_and_a_name(key: str) -> None:
    spec = parse({key: {"nps": 5, "logins": 40, "tickets": -4, "calls": -30.0}, "best_value": 0.7})
    assert spec.model == "best_spec"
    assert {t.name: (t.weight, t.min, t.max) for t in spec.terms} == {
        "nps": (5, 0, 25),
        "logins": (40, 0, 80),
        "tickets": (-4, -25, 0),
        "calls": (-30, -60, 0),
    }
    assert {n: t.model_dump(exclude_none=True) for n, t in spec.tiers.items()} == TIERS
    assert all(feature.encode.kind == "identity" for feature in spec.features.values())


def test_bare_weights_keep_what_stands_beside_them() -> None:
    two = {"A": {"min": 50, "max": 101}, "B": {"min": 0, "max": 50}}
    spec = parse({"model": "icp", "max_score": 80, "tiers": two, "weights": {"nps": 5}})
    assert (spec.model, spec.max_score, spec.tier_names) == ("icp", 80, ("A", "B"))


@pytest.mark.parametrize("weight", [12.5, "12", None, True])
def test_a_bare_weight_is_a_whole_number(weight: object) -> None:
    said = problem({"weights": {"nps": 5, "logins": weight}})
    assert said.startswith("best_spec.json:4: features.logins")
    assert "weight" in said


def test_unknown_keys_are_refused_all_the_same() -> None:
    assert problem({"objectiv": "x", **BEST}) == (
        'best_spec.json:2: objectiv: unknown key "objectiv"; did you mean "objective"?'
    )
    assert 'unknown key "outcome"; did you mean "outcomes"?' in problem({"outcome": {}, **BEST})
    assert 'unknown key "notes"' in problem({"notes": "", "spec": BEST})
    assert 'unknown key "weights"' in problem({"weights": {"nps": 1}, **BEST})


def test_lines_are_those_of_the_file_also_below_a_wrapper() -> None:
    broken: dict[str, Any] = json.loads(json.dumps(BEST))
    broken["features"]["noise"]["weight"] = 99
    text = json.dumps({"best_value": 1, "spec": broken}, indent=2)
    line = 1 + text.splitlines().index('      "noise": {')
    with pytest.raises(SpecError, match=rf"^best_spec\.json:{line}: features\.noise: .*99"):
        specs.parse(text, source="best_spec.json")
    text = json.dumps({"metric": 5, **BEST}, indent=2)
    with pytest.raises(SpecError, match=r"^best_spec\.json:2: objective: "):
        specs.parse(text, source="best_spec.json")


def test_yaml_is_ours_alone() -> None:
    text = specs.to_yaml(parse(BEST)) + "experiments: 2000\n"
    with pytest.raises(SpecError, match='unknown key "experiments"'):
        specs.parse(text)


def test_what_is_loaded_can_be_written_and_read_again() -> None:
    spec = parse({"weights": {"nps": 5, "tickets": -4}, "metric": "auc_roc_churn", **TALK})
    assert specs.parse(specs.to_yaml(spec)) == spec
    assert specs.parse(specs.to_json(spec)) == spec


# Weights as CSV


def csv(tmp_path: Path, text: str, name: str = "cs_tool.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8"))
    return path


def refused(tmp_path: Path, text: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        specs.load(csv(tmp_path, text))
    return caught.value


def test_csv_weights_load_as_a_spec(tmp_path: Path) -> None:
    spec = specs.load(csv(tmp_path, "feature,weight\nnps,5\nlogins,40\ntickets,-4\nnoise,0\n"))
    assert spec.model == "cs_tool"
    assert spec.max_score == 100
    assert {t.name: (t.weight, t.min, t.max) for t in spec.terms} == {
        "nps": (5, 0, 25),
        "logins": (40, 0, 80),
        "tickets": (-4, -25, 0),
        "noise": (0, 0, 25),
    }
    assert {n: t.model_dump(exclude_none=True) for n, t in spec.tiers.items()} == TIERS
    assert all(feature.encode.kind == "identity" for feature in spec.features.values())


def test_csv_bounds_hold_where_a_row_has_them(tmp_path: Path) -> None:
    spec = specs.load(
        csv(tmp_path, "feature,weight,min,max\nnps,5,-5,10\nlogins,5,,7\ncalls,5,-3,\n")
    )
    assert [(t.min, t.max) for t in spec.terms] == [(-5, 10), (0, 7), (-3, 25)]


@pytest.mark.parametrize(
    "text",
    [
        "feature;weight\nnps;5\nlogins;7\n",
        "feature\tweight\nnps\t5\nlogins\t7\n",
        "\ufeffFeature, Weight\r\nnps, 5\r\n\r\nlogins,+7.0\r\n",
        'weight,"feature"\n5,"nps"\n7,logins',
        "feature,weight\n\n,\nnps,5\nlogins,7\n\n",
    ],
    ids=["semicolons", "tabs", "spreadsheet", "other order", "empty rows"],
)
def test_csv_as_spreadsheets_write_it(tmp_path: Path, text: str) -> None:
    assert specs.load(csv(tmp_path, text, "w.CSV")).weights == {"nps": 5, "logins": 7}


def test_a_csv_name_may_hold_the_delimiter(tmp_path: Path) -> None:
    path = csv(tmp_path, 'feature,weight\n"calls, per week",5\n')
    assert specs.load(path).weights == {"calls, per week": 5}


def test_all_that_is_wrong_with_a_csv_is_said_at_once(tmp_path: Path) -> None:
    text = (
        "feature,weight,min,max\n"
        "nps,5,0,25\n"
        "logins,12.5,0,25\n"
        "nps,7,0,25\n"
        ",3,0,25\n"
        "calls,,0,25\n"
        "visits,9,10,25\n"
        "churned,9,0,25\n"
        "depth,9,0,x,1\n"
    )
    error = refused(tmp_path, text)
    said = [line.partition("cs_tool.csv:")[2] for line in error.message.splitlines()[1:]]
    assert said == [
        '3: weight of "logins" must be a whole number, got "12.5"',
        '4: feature "nps" stands on line 2 already',
        "5: no name of a feature",
        '6: "calls" has no weight',
        '7: weight 9 of "visits" is outside its bounds [10, 25]',
        '8: features.churned: reads column "churned", which is the outcome "churned"; '
        "a score must not see its own outcome",
        "9: 5 cells under a head of 4",
        '9: max of "depth" must be a whole number, got "x"',
    ]
    assert error.message.startswith(f"{tmp_path / 'cs_tool.csv'}: 8 problems\n")
    assert error.hint is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty; expected a head feature,weight"),
        ("\n , \n", "the file is empty; expected a head feature,weight"),
        ("feature,weight\n", "1: no feature below the head"),
        ("nps,5\n", '1: the head lacks "feature", "weight"; expected feature,weight'),
        ("feature,points\nnps,5\n", '1: the head lacks "weight"; expected feature,weight'),
        ("feature,wieght\nnps,5\n", '1: unknown column "wieght"; did you mean "weight"?'),
        ("feature,weight,weight\nnps,5,5\n", '1: column "weight" stands twice'),
        ('feature,weight\n"nps,5\n', "2: not readable as CSV: unexpected end of data"),
    ],
)
def test_a_csv_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text).message


def test_one_bad_row_is_enough(tmp_path: Path) -> None:
    error = refused(tmp_path, "feature,weight\nnps,5\nlogins,many\n")
    assert error.message.endswith(':3: weight of "logins" must be a whole number, got "many"')


def test_shares_are_no_points_and_the_hint_says_so(tmp_path: Path) -> None:
    error = refused(tmp_path, "feature,weight\nnps,0.4\nlogins,0.6\n")
    assert error.hint == "weights are points: write 25 for 0.25"
    assert refused(tmp_path, "feature,weight\nnps,0.4\nlogins,much\n").hint is None


def test_a_csv_that_can_t_be_read(tmp_path: Path) -> None:
    path = tmp_path / "w.csv"
    path.write_bytes(b"feature,weight\nn\xe4,5\n")
    with pytest.raises(SpecError, match="not UTF-8 text"):
        specs.load(path)
    with pytest.raises(SpecError, match="No such file"):
        specs.load(tmp_path / "none.csv")
