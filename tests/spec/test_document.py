"""Specs as text: what is read, how a fault is worded, and that writing loses nothing."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from factories import binned, make_spec, weighted
from hypothesis import given, settings
from hypothesis import strategies as st

from gtmar.errors import SpecError
from gtmar.spec import (
    Lineage,
    ScoringSpec,
    load,
    parse,
    reweighed,
    score_id,
    spec_id,
    to_json,
    to_yaml,
)

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/spec.yaml"))

#: The shortest form that must load, as the design states it.
SEED = """\
model: health_score
max_score: 100
features:
  alert_created: {weight: 5, min: 0, max: 25}
tiers:
  A: {min: 60, max: 101}
  B: {min: 35, max: 60}
  C: {min: 15, max: 35}
  D: {min: 0, max: 15}
"""


def changed(old: str, new: str) -> str:
    assert old in SEED
    return SEED.replace(old, new)


def encoded(encode: str) -> str:
    return changed("max: 25}", f"max: 25, encode: {encode}}}")


def problem(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse(text, source="health.yaml")
    return caught.value.message


# Reading


def test_seed_form_loads_as_it_stands() -> None:
    spec = parse(SEED)
    assert spec.model == "health_score"
    assert spec.max_score == 100
    assert spec.weights == {"alert_created": 5}
    assert (spec.terms[0].min, spec.terms[0].max) == (0, 25)
    assert spec.tier_names == ("A", "B", "C", "D")
    assert spec.tier_lows == (6_000, 3_500, 1_500, 0)


def test_json_is_the_same_model() -> None:
    data = {
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
    for text in (json.dumps(data), json.dumps(data, indent=2), json.dumps(data, indent=4)):
        assert parse(text) == parse(SEED)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_examples_load_and_survive_both_formats(path: Path) -> None:
    spec = load(path)
    assert spec.model == path.parent.name
    assert parse(to_yaml(spec)) == spec
    assert parse(to_json(spec)) == spec


def test_there_are_four_examples() -> None:
    names = ["churn_risk", "from_history", "health_score", "icp_fit"]
    assert [path.parent.name for path in EXAMPLES] == names


def test_json_without_an_error_is_not_read_for_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    text, spec = to_json(parse(SEED)), parse(SEED)
    bad = text.replace('"max_score"', '"max_scor"')
    with pytest.raises(SpecError, match=r"spec:\d+: max_scor: ") as caught:
        parse(bad)
    line = int(str(caught.value).partition("spec:")[2].partition(":")[0])
    assert '"max_scor"' in bad.splitlines()[line - 1]
    monkeypatch.setattr("yaml.compose", None)
    assert parse(text) == spec


def test_load_takes_json_and_yaml_files(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(to_json(parse(SEED)), encoding="utf-8")
    (tmp_path / "a.yml").write_text(SEED.replace("health_score", "santé"), encoding="utf-8")
    assert load(tmp_path / "a.json") == parse(SEED)
    assert load(str(tmp_path / "a.yml")).model == "santé"


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_and_byte_order_marks_don_t_matter(mark: str, end: str) -> None:
    assert parse(mark + SEED.replace("\n", end)) == parse(SEED)


@pytest.mark.parametrize("word", ["no", "No", "yes", "on", "off", "y", "12:30", "1_000", "0x1f"])
def test_words_that_yaml_1_1_took_for_something_else(word: str) -> None:
    spec = parse(encoded(f"{{kind: one_of, values: {{{word}: 1, other: 0}}}}"))
    assert spec.features["alert_created"].encode.model_dump()["values"] == {word: 1.0, "other": 0.0}
    assert parse(changed("model: health_score", f"model: {word}")).model == word


@pytest.mark.parametrize("key", ["true", "null", "1", "1.5", "2026-01-31", "~"])
def test_keys_are_the_text_that_stands_there(key: str) -> None:
    spec = parse(encoded(f"{{kind: one_of, values: {{{key}: 1}}}}"))
    assert list(spec.features["alert_created"].encode.model_dump()["values"]) == [key]


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("5", 5),
        ("+5", 5),
        ("-0", 0),
        ("010", 10),
        ("08", 8),
    ],
)
def test_integers_are_decimal(written: str, number: int) -> None:
    assert parse(changed("weight: 5", f"weight: {written}")).weights == {"alert_created": number}


@pytest.mark.parametrize(
    ("written", "number"), [("1.", 1), (".5", 0.5), ("1e1", 10), ("1.5E+1", 15), ("-2.5e-1", -0.25)]
)
def test_floats_as_yaml_1_2_writes_them(written: str, number: float) -> None:
    spec = parse(changed("max: 25}", f"max: 25, missing: {{value: {written}}}}}"))
    assert spec.features["alert_created"].model_dump()["missing"] == {"value": number}


@pytest.mark.parametrize(
    ("written", "version"),
    [
        ("3", "3"),
        ('"3.10"', "3.10"),
        ("v1", "v1"),
        ("3.10", "3.10"),
    ],
)
def test_version_is_text(written: str, version: str) -> None:
    assert parse(SEED + f"version: {written}\n").version == version


def test_json_escapes_beyond_the_basic_plane() -> None:
    assert parse(json.dumps({**json.loads(to_json(parse(SEED))), "model": "🙂"})).model == "🙂"


def test_json_indented_by_tabs() -> None:
    assert parse(json.dumps(json.loads(to_json(parse(SEED))), indent="\t")) == parse(SEED)


# Faults


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "health.yaml: a spec is a mapping with model, features and tiers, got nothing"),
        ("# only this\n", "got nothing"),
        ("- a\n", "got list"),
        ("just words", "got str"),
        ("a: [1\nb: 2\n", "health.yaml:2: not readable as YAML or JSON: "),
        ("a: 'b\n", "not readable as YAML or JSON: found unexpected end of stream"),
        (SEED + "---\n" + SEED, "health.yaml:10: not readable as YAML or JSON: but found another"),
        ("a: !python/object:os.system {}\n", "health.yaml: a spec is a mapping"),
        ("a: *b\n", "health.yaml:1: not readable as YAML or JSON: found undefined alias 'b'"),
        ("a: \x00\n", "not readable as YAML or JSON"),
    ],
)
def test_what_is_no_spec_at_all(text: str, expected: str) -> None:
    if "python" in text:
        # Tags name no code here: the mapping is plain, and the spec is refused for its keys.
        assert problem(text).startswith("health.yaml: 4 problems")
    else:
        assert expected in problem(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("model: &a [*a]\n", id="alias of itself"),
        pytest.param("model: " + "[" * 5_000, id="nested without end"),
        pytest.param(changed("weight: 5", "weight: !!int abc"), id="no integer"),
        pytest.param(changed("weight: 5", "weight: !!bool abc"), id="no boolean"),
        pytest.param(changed("weight: 5", "weight: !!timestamp abc"), id="no time"),
        pytest.param(changed("weight: 5", "weight: " + "9" * 5_000), id="too many digits"),
    ],
)
def test_hostile_yaml_is_a_spec_error(text: str) -> None:
    assert problem(text)


def test_key_that_is_no_word() -> None:
    expected = "health.yaml:10: a key must be a word, got a list or mapping"
    assert problem(SEED + "? [a, b]\n: 1\n") == expected


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        (SEED + "model: again\n", 10, "model"),
        (changed("  D:", "  A:"), 9, "A"),
        (changed("{weight: 5,", "{weight: 5, weight: 6,"), 4, "weight"),
        ('{"model": "m",\n "max_score": 1,\n "model": "n"}', 3, "model"),
    ],
)
def test_key_given_twice(text: str, line: int, key: str) -> None:
    assert problem(text) == f'health.yaml:{line}: key "{key}" stands twice'


def test_key_given_twice_in_json_that_is_no_yaml() -> None:
    text = json.dumps(json.loads(to_json(parse(SEED))), indent="\t")
    assert 'key "model" stands twice' in problem(text.replace("{", '{"model": "first",', 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            SEED + "objectve: auc\n",
            'health.yaml:10: objectve: unknown key "objectve"; did you mean "objective"?',
        ),
        (
            changed("weight: 5", "wieght: 5"),
            'health.yaml:4: features.alert_created.wieght: unknown key "wieght"; '
            'did you mean "weight"?',
        ),
        (
            encoded("{kind: range, fro: 0, from: 0, to: 1}"),
            'health.yaml:4: features.alert_created.encode.fro: unknown key "fro"; '
            'did you mean "from"?',
        ),
        (SEED + "xyzzy: 1\n", 'health.yaml:10: xyzzy: unknown key "xyzzy"'),
        (SEED + "xyzzy:\n\n  - 1\n", 'health.yaml:10: xyzzy: unknown key "xyzzy"'),
        (
            SEED + "split:\n  holdout: 0.2\n  sale: x\n",
            'health.yaml:12: split.sale: unknown key "sale"; did you mean "salt"?',
        ),
        (changed("model: health_score\n", ""), 'health.yaml:1: model: "model" is required'),
        (
            changed("A: {min: 60, max: 101}", "A: {min: 60}"),
            "health.yaml:6: tiers.A: min and max stand together, or neither does",
        ),
        (
            changed("weight: 5", "weight: 26"),
            "health.yaml:4: features.alert_created: weight 26 is outside its bounds [0, 25]; "
            "change the weight or widen the bounds",
        ),
        (
            changed("weight: 5", "weight: five"),
            'health.yaml:4: features.alert_created.weight: Input should be a valid integer, got "'
            'five"',
        ),
        (
            changed("weight: 5", "weight: 5.0"),
            "health.yaml:4: features.alert_created.weight: Input should be a valid integer, got 5",
        ),
        (
            encoded("{kind: rnge, from: 0, to: 1}"),
            "health.yaml:4: features.alert_created.encode: no such encoder kind; "
            "expected one of 'identity', 'range', 'curve', 'quantile', 'bool', 'one_of', "
            "'days_before', 'table', 'bins'",
        ),
        (encoded("rnge"), "no such encoder kind"),
        (
            encoded("range"),
            'health.yaml:4: features.alert_created.encode: "from" is required',
        ),
        (
            encoded("{kind: curve, points: [[0, 0], [1, x]]}"),
            "health.yaml:4: features.alert_created.encode.points.1.1: ",
        ),
        (
            "model: m\nfeatures:\n  x:\n    encode:\n      kind: bins\n      bins:\n"
            '        "[0,3)": {weight: 9, min: 0, max: 3}\ntiers: {all: {min: 0, max: 101}}\n',
            "health.yaml:7: features.x.encode.bins.[0,3): weight 9 is outside its bounds [0, 3]",
        ),
        (
            changed("{weight: 5, min: 0, max: 25}", ""),
            "health.yaml:4: features.alert_created: ",
        ),
        (
            changed("B: {min: 35, max: 60}", "B: {min: 35, max: 61}"),
            'health.yaml:7: tiers.B: "B" and "A" overlap between 61 and 60',
        ),
        (
            changed("B: {min: 35, max: 60}", "B: {min: 35, max: 59}"),
            'health.yaml:7: tiers.B: "B" and "A" leave a gap between 59 and 60',
        ),
        (
            changed("max: 101", "max: 100"),
            'health.yaml:6: tiers.A: the highest tier, "A", ends at 100, short of the maximum',
        ),
        (
            changed("D: {min: 0,", "D: {min: 1,"),
            'health.yaml:9: tiers.D: the lowest tier, "D", must begin at 0, got 1',
        ),
        (changed("C: {min: 15", "C: {min: 15.005"), "health.yaml:8: tiers.C: min must be a"),
        (
            changed("alert_created:", "mrr:"),
            'health.yaml:4: features.mrr: reads column "mrr", which is the outcome "mrr"; '
            "a score must not see its own outcome",
        ),
    ],
)
def test_fault_with_line_place_and_likely_name(text: str, expected: str) -> None:
    assert expected in problem(text)


def test_all_problems_at_once_in_the_order_of_their_lines() -> None:
    text = """\
model: health_score
max_score: 0
objectve: auc
features:
  a: {wieght: 5, min: 0, max: 25}
  b: {weight: 50, min: 0, max: 25}
  c: {weight: 1, min: 0, max: 2, encode: {kind: quantile, cuts: [2, 1]}}
tiers:
  A: {min: 60, max: 50}
  B: {min: 0, max: 60.001}
"""
    with pytest.raises(SpecError) as caught:
        parse(text, source="s.yaml")
    first, *listed = caught.value.message.splitlines()
    assert first == "s.yaml: 7 problems"
    assert [line.removeprefix("  - ").split(" ")[0] for line in listed] == [
        f"s.yaml:{line}:" for line in (2, 3, 5, 6, 7, 9, 10)
    ]
    assert [f"  - {problem}" for problem in caught.value.facts["problems"]] == listed  # type: ignore[attr-defined]
    assert caught.value.exit_code == 3


def test_tiers_are_looked_at_though_a_field_is_wrong() -> None:
    message = problem(changed("max: 101", "max: 100").replace("weight: 5", "weight: 26"))
    assert "short of the maximum" in message
    assert "outside its bounds" in message


def test_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "nope.yaml"
    with pytest.raises(SpecError, match=re.escape(f'spec "{path}": No such file')) as caught:
        load(path)
    assert caught.value.hint == "gtmar init --data TABLE -o spec.yaml makes a spec"


def test_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"model: caf\xe9\n")
    with pytest.raises(SpecError, match="not UTF-8 text"):
        load(path)
    with pytest.raises(SpecError, match="Is a directory"):
        load(tmp_path)


def test_fault_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(SEED + "x: 1\n", encoding="utf-8")
    with pytest.raises(SpecError, match=re.escape(f'{path}:10: x: unknown key "x"')):
        load(path)


# Other weights


def test_reweighed() -> None:
    spec = make_spec(features={"depth": weighted(3), "plan": binned("basic", "other")})
    assert reweighed(spec, {"plan[other]": 9}).weights == {
        "depth": 3,
        "plan[basic]": 5,
        "plan[other]": 9,
    }


def test_reweighed_knows_the_likely_name() -> None:
    message = 'spec "test" has no weight named "dept", "xyzzy"'
    with pytest.raises(SpecError, match=message) as caught:
        reweighed(make_spec(), {"dept": 1, "depth": 2, "xyzzy": 3})
    assert caught.value.hint == 'did you mean "depth"?'


def test_reweighed_keeps_to_the_bounds() -> None:
    message = r'spec "test": features\.depth: weight 51 is outside its bounds \[-50, 50\]'
    with pytest.raises(SpecError, match=message):
        reweighed(make_spec(), {"depth": 51})


# Writing


def test_defaults_are_not_written() -> None:
    assert json.loads(to_json(parse(SEED))) == {
        "model": "health_score",
        "max_score": 100,
        "features": {"alert_created": {"weight": 5, "min": 0, "max": 25}},
        "tiers": {
            "A": {"min": 60.0, "max": 101.0},
            "B": {"min": 35.0, "max": 60.0},
            "C": {"min": 15.0, "max": 35.0},
            "D": {"min": 0.0, "max": 15.0},
        },
    }


def test_heading_stands_above_as_comment() -> None:
    text = to_yaml(parse(SEED), heading="Found by run r1.\n\nKeep it.")
    assert text.startswith("# Found by run r1.\n#\n# Keep it.\nmodel: health_score\n")
    assert parse(text) == parse(SEED)


@pytest.mark.parametrize("name", ["tiers", "groups", "guardrails", "veto", "calibration"])
def test_a_feature_may_have_the_name_of_a_part_of_the_spec(name: str) -> None:
    spec = make_spec(features={name: weighted(3, encode="identity")})
    assert parse(to_yaml(spec)) == spec


@pytest.mark.parametrize("write", [to_yaml, to_json])
@pytest.mark.parametrize(
    "text",
    [
        *("no", "null", "~", "12:30", "2026-01-31", "1_000", "0x1f", "=", "<<", "a: b", "# a"),
        *("- a", "*a", "&a", "!a", "%a", "@a", "a\nb", " a ", "\t", '"', "'", "{}", "[", "\\"),
        *("é", "🙂", "", ".inf", ".nan", "\x07", "a" * 300),
    ],
)
def test_awkward_text_comes_back(write: Any, text: str) -> None:
    for spec in (with_value(text), with_key(text)):
        assert parse(write(spec)) == spec


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (to_yaml, "1e5"),
        (to_yaml, "1E+5"),
        (to_yaml, "08"),
        (to_yaml, "\x85"),
        (to_yaml, "\u2028"),
        (to_yaml, "\x7f"),
        (to_json, "\x85"),
        (to_json, "\u2028"),
        (to_json, "\x7f"),
        (to_json, "\ufffe"),
    ],
    ids=lambda given: ascii(getattr(given, "__name__", given)),
)
def test_rare_text_comes_back_as_a_value(write: Any, text: str) -> None:
    assert parse(write(with_value(text))) == with_value(text)


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (to_yaml, "1e5"),
        (to_yaml, "08"),
        (to_yaml, "\x85"),
        (to_yaml, "\u2028"),
        (to_yaml, "\x7f"),
        (to_json, "\x85"),
        (to_json, "\u2028"),
        (to_json, "\x7f"),
    ],
    ids=lambda given: ascii(getattr(given, "__name__", given)),
)
def test_rare_text_comes_back_as_a_category(write: Any, text: str) -> None:
    assert parse(write(with_key(text))) == with_key(text)


def with_value(text: str) -> ScoringSpec:
    feature = weighted(description=text, column="z")
    return make_spec(model=text or "m", id=text, version=text, features={"x": feature})


def with_key(text: str) -> ScoringSpec:
    feature = weighted(encode={"kind": "one_of", "values": {text: 1, "z": 0}})
    return make_spec(features={"x": feature}, tiers={text: {"min": 0, "max": 101}})


#: Text without control characters and line separators, and nothing that looks like a number: those
#: have their own tests above.
words = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Cn", "Co", "Zl", "Zp")), min_size=1, max_size=12
).filter(lambda text: not re.fullmatch(r"\s*[-+]?[\d.]+([eE][-+]?\d+)?\s*", text))
#: Without a negative zero, which is equal to zero and yet another text: see the tests of ids.
numbers = st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0)
weights = st.lists(st.integers(-1_000_000, 1_000_000), min_size=3, max_size=3).map(sorted)


@st.composite
def encoders(draw: st.DrawFn, *, scale: bool = False) -> dict[str, Any]:
    kinds = ["identity", "range", "curve", "quantile"]
    kind = draw(st.sampled_from(kinds if scale else [*kinds, "bool", "one_of", "days_before"]))
    more: dict[str, Any] = {}
    if kind in ("range", "quantile", "bool"):
        more["invert"] = draw(st.booleans())
    if kind == "range":
        more["from"], more["to"] = sorted(draw(st.sets(numbers, min_size=2, max_size=2)))
    elif kind == "curve":
        xs = sorted(draw(st.sets(numbers, min_size=2, max_size=5)))
        more["points"] = [[x, draw(numbers)] for x in xs]
    elif kind == "quantile":
        more["cuts"] = sorted(draw(st.sets(numbers, min_size=1, max_size=5)))
    elif kind == "one_of":
        more["values"] = draw(st.dictionaries(words, numbers, min_size=1, max_size=4))
        more["default"] = draw(st.none() | numbers)
    elif kind == "days_before":
        more["then"] = draw(encoders(scale=True))
    return {"kind": kind, **more}


@st.composite
def features(draw: st.DrawFn) -> dict[str, Any]:
    def weight() -> dict[str, int]:
        low, middle, high = draw(weights)
        return {"weight": middle, "min": low, "max": high}

    about = {"column": draw(st.none() | words), "description": draw(st.none() | words)}
    if draw(st.booleans()):
        # A key with a bracket and a comma would be read as an interval.
        keys = draw(st.sets(words.map("k_".__add__), min_size=1, max_size=4))
        return about | {"encode": {"kind": "bins", "bins": {key: weight() for key in keys}}}
    missing = draw(st.just("error") | st.builds(lambda value: {"value": value}, numbers))
    return about | weight() | {"encode": draw(encoders()), "missing": missing}


@st.composite
def specs(draw: st.DrawFn) -> ScoringSpec:
    max_score = draw(st.integers(1, 1_000))
    edges = sorted(draw(st.sets(st.integers(1, 100 * max_score), max_size=4)))
    ends = [0, *edges, 100 * max_score + draw(st.integers(1, 500))]
    tiers = [{"min": a / 100, "max": b / 100} for a, b in pairwise(ends)]
    names = draw(st.lists(words, min_size=len(tiers), max_size=len(tiers), unique=True))
    # A prefix keeps them from being an outcome's name by accident.
    stated = draw(st.dictionaries(words.map("f_".__add__), features(), min_size=1, max_size=4))
    guardrail = st.fixed_dictionaries({"metric": words, "min": numbers}, optional={"max": numbers})
    return ScoringSpec.model_validate(
        {
            "model": draw(words),
            "version": draw(st.none() | words),
            "max_score": max_score,
            "id": draw(st.none() | words),
            "orientation": draw(st.sampled_from(["health", "risk"])),
            "base": draw(st.integers(-1_000_000, 1_000_000)),
            "as_of": draw(st.none() | words),
            "outcomes": {"retained": "\x00", "ltv": draw(words.map("o_".__add__))},
            "split": {"holdout": draw(st.floats(0, 1, exclude_max=True)), "salt": draw(words)},
            "objective": draw(st.none() | words),
            "guardrails": draw(st.lists(guardrail, max_size=2)),
            "no_worse": draw(st.lists(words, max_size=2, unique=True)),
            "features": {
                name: feature | {"column": feature["column"] and f"f_{feature['column']}"}
                for name, feature in stated.items()
            },
            "tiers": dict(zip(names, tiers, strict=True)),
        }
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=80)
@given(spec=specs())
def test_writing_and_reading_again_loses_nothing(spec: ScoringSpec) -> None:
    for text in (to_yaml(spec, heading="line one\nline two"), to_json(spec)):
        again = parse(text)
        assert again == spec
        assert (score_id(again), spec_id(again)) == (score_id(spec), spec_id(spec))
        assert list(again.features) == list(spec.features)


def test_lineage_comes_back() -> None:
    spec = make_spec(lineage={"run": "r1", "experiment": "exp_00004", "parent_spec_id": "s0"})
    assert parse(to_yaml(spec)).lineage == Lineage(
        run="r1", experiment="exp_00004", parent_spec_id="s0"
    )
