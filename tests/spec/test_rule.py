"""Rules: what is read, what is refused and where, and the text that reads back to itself."""

import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from sqlglot import Tokenizer

from gtmar import spec as specs
from gtmar.errors import SpecError
from gtmar.spec.joined import joined
from gtmar.spec.rule import Condition, Rule

NAMES = st.text(min_size=1).filter(lambda s: not any("\ud800" <= c <= "\udfff" for c in s))
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
CONDITIONS = st.one_of(
    st.builds(Condition, NAMES, st.sampled_from(["<", "<=", ">", ">=", "=", "!="]), NUMBERS),
    st.builds(
        Condition,
        NAMES,
        st.sampled_from(["in", "not in"]),
        st.lists(NAMES | st.just(""), min_size=1, max_size=4).map(tuple),
    ),
    st.builds(Condition, NAMES, st.sampled_from(["is missing", "is not missing"])),
)


def with_rule(text: str, **more: Any) -> dict[str, Any]:
    return {
        "model": "m",
        "features": {"quiet": {"rule": text, "weight": -12, "min": -25, "max": 0, **more}},
        "tiers": {"A": {"min": 0, "max": 101}},
    }


def spec_of(text: str) -> specs.ScoringSpec:
    return specs.ScoringSpec.model_validate(with_rule(text))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("logins_30d < 3 and tenure_months < 6", "logins_30d < 3 and tenure_months < 6"),
        ("3>a AND (b<>-2.50)", "a < 3 and b != -2.5"),
        ("a==1e3 and\n b >= +.5", "a = 1000 and b >= 0.5"),
        ("plan IN ('b', 'a','b')", "plan in ('a', 'b')"),
        ("plan = 'it''s' and not plan in ('x')", "plan = 'it''s' and plan != 'x'"),
        ("s in (1, 2.0) and s not in (3,4)", "s in ('1', '2') and s not in ('3', '4')"),
        ("a is null and b is Not Missing", "a is missing and b is not missing"),
        ("has_x = TRUE and has_y != false", "has_x = 1 and has_y != 0"),
        ('"net ""mrr"" €">0 and "select" = 1', '"net ""mrr"" €" > 0 and "select" = 1'),
        ("-0.0 < a", "a > 0"),
        ("left < 3;", '"left" < 3'),
    ],
)  # fmt: skip
def test_a_text_is_read_to_its_canonical_form(text: str, canonical: str) -> None:
    rule = Rule.parse(text)
    assert str(rule) == canonical
    assert Rule.parse(canonical) == rule


@settings(max_examples=150, deadline=None)
@given(st.lists(CONDITIONS, min_size=1, max_size=3))
def test_every_rule_is_read_back_from_its_own_text(conditions: list[Condition]) -> None:
    rule = Rule(tuple(conditions))
    assert Rule.parse(str(rule)) == rule


def test_columns_may_be_called_as_words_of_sql_are() -> None:
    words = {word.lower() for word in Tokenizer.KEYWORDS if word.replace("_", "").isalpha()}
    for word in {*words, "missing", "any", "prior", "inf", "nan", "date", "n", "x", "b", "exists"}:
        conditions = Condition(word, "<", 1.0), Condition(word, "in", ("a", "b"))
        rule = Rule((*conditions, Condition(word, "is missing")))
        assert Rule.parse(str(rule)) == rule, word


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the rule is empty"),
        ("a < 3 or b = 2", 'character 7, a < 3 >>or<< b = 2: conditions are joined by "and" alone'),
        ("a => 3", 'character 3, a >>=><< 3: not understood; did you mean ">="?'),
        ("a ≥ 3", 'did you mean ">="?'),
        ("a < 3 adn b < 2", 'character 7, a < 3 >>adn<< b < 2: not understood; did you mean "and"'),
        ("a is missin", "character 6, a is >>missin<<: after is stands missing or not missing"),
        ("plan = gold", "character 8, plan = >>gold<<: two columns are not compared; is it a text? "
         "Then quote it, as 'gold'"),
        ("net mrr < 3", 'in double quotes, as "net mrr"'),
        ("a.b < 3", '>>a.b<< < 3: expected a column; a name with signs is quoted, as "a.b"'),
        ("a + 1 < 3", "character 1, >>a + 1<< < 3: expected a column, got a + 1"),
        ("lower(a) = 'x'", "expected a column, got"),
        ("has_x", "nothing is asked of it; a flag is compared, as has_x = 1"),
        ("a = null", "an unknown value is asked for by is missing"),
        ("a < 'gold'", "character 5, a < >>'gold'<<: < compares with a number, and"),
        ("a between 1 and 2", "write between as two conditions"),
        ("a < 1e999", "character 5, a < >>1e999<<: no finite number"),
        ("a=1 and b=2 and c=3 and d=4", "character 25, a=1 and b=2 and c=3 and >>d=4<<: a rule"),
        ("a in ()", "no condition of a rule"),
        ("a in (select b from c)", "no condition of a rule"),
        ("a < (select 1)", "expected a number"),
        ("not a < 3", "no condition of a rule"),
        ("a < 3; drop table b", "character 8, a < 3; >>drop<< table b: not understood"),
        ("a < 3 -- and b < 2", "a rule has no comments"),
        ("a < 3 /* b */", "a rule has no comments"),
        ("a = 'gold", "a quote or a comment without an end"),
        ("a = 'x' 'y'", "expected a number or a quoted text"),
        ("a < {{ b }}", "expected a number or a quoted text"),
        ("3 < 4", "expected a column, got 3"),
        ("a < " + "(" * 5_000 + "3" + ")" * 5_000, "characters, more than 10,000"),
        ("a < " + "(" * 3_000 + "3" + ")" * 3_000, "more than 100 brackets and signs"),
        ("not " * 90 + "a is missing", "no condition of a rule"),
        ("a in (" + ",".join(["1"] * 40_000) + ")", "characters, more than 10,000"),
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused_at_its_place(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=re.escape(fault)):
        Rule.parse(text)


@example("{:}")
@given(st.text(alphabet="ab<>=!()'\",;-+*/ 123innotadmsg.:{}[]$@\\%|&~^", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_rule_or_refused_in_words(text: str) -> None:
    # Anything but a ValueError, of sqlglot's or Python's own, fails.
    with suppress(ValueError):
        rule = Rule.parse(text)
        assert Rule.parse(str(rule)) == rule


@pytest.mark.parametrize(
    "condition",
    [
        ("a", "like", 3.0),
        ("a", "<", float("nan")),
        ("a", "<", ("x",)),
        ("a", "in", ()),
        ("a", "in", 3.0),
        ("a", "is missing", 3.0),
        ("", "<", 3.0),
    ],
)
def test_a_condition_that_says_nothing_is_not_made(condition: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="no condition"):
        Condition(*condition)


def test_all_faults_of_a_spec_come_at_once_with_their_lines() -> None:
    text = """
model: m
features:
  a: {rule: "x < 3 or y < 2", weight: 1, min: 0, max: 2}
  b: {rule: "x < 3", column: y, encode: bool, missing: {value: 1}, weight: 1, min: 0, max: 2}
  c: {rule: "x < 3"}
tiers: {A: {min: 0, max: 101}}
"""
    with pytest.raises(SpecError) as refused:
        specs.parse(text, source="mine.yaml")
    said = str(refused.value)
    assert "mine.yaml:4: features.a.rule: character 7, x < 3 >>or<< y < 2: conditions are" in said
    assert "mine.yaml:5: features.b: a rule names its columns and is 1 or 0, unknown values" in said
    assert "drop ['column', 'encode', 'missing']" in said
    assert "mine.yaml:6: features.c: a feature needs weight, min and max" in said


def test_a_rule_sees_no_outcome_and_no_segment() -> None:
    text = """
model: m
segments: [plan]
features:
  a: {rule: "logins < 3 and churned = 1", weight: 1, min: 0, max: 2}
  b: {rule: "logins < 3 and plan = 'gold'", weight: 1, min: 0, max: 2}
tiers: {A: {min: 0, max: 101}}
"""
    with pytest.raises(SpecError) as refused:
        specs.parse(text)
    said = str(refused.value)
    assert 'reads column "churned", which is the outcome "churned"' in said
    assert 'segment column "plan" is what feature "b" reads' in said


def test_a_spec_keeps_what_was_written_and_is_told_by_what_it_means() -> None:
    spec = spec_of("3 > logins  and plan in ('b','a')")
    [term] = spec.terms
    assert (term.name, term.columns, term.bin) == ("quiet", ("logins", "plan"), None)
    for text in (specs.to_yaml(spec), specs.to_json(spec)):
        assert specs.parse(text) == spec
        assert "3 > logins  and plan in" in text
    same = spec_of("plan in ('a', 'b') and logins < 3")
    assert same != spec
    assert specs.spec_id(same) == specs.spec_id(spec)
    assert specs.score_id(same) == specs.score_id(spec)
    for other in ("plan in ('a', 'b') and logins <= 3", "plan in ('a') and logins < 3"):
        assert specs.score_id(spec_of(other)) != specs.score_id(spec)
    assert specs.reweighed(spec, {"quiet": -3}).weights == {"quiet": -3}
    schema = Draft202012Validator(specs.json_schema())
    assert schema.is_valid(with_rule("a < 3"))
    assert not schema.is_valid(with_rule("a < 3", rule=3))


def test_two_specs_join_over_one_rule_however_it_is_written() -> None:
    one = spec_of("a < 3 and b is missing")
    two = specs.ScoringSpec.model_validate(
        {
            **with_rule("b is missing and 3 > a", weight=-2),
            "features": {
                "quiet": {"rule": "b is missing and 3 > a", "weight": -2, "min": -9, "max": 0},
                "new": {"rule": "c = 'x'", "weight": 5, "min": 0, "max": 9},
            },
        }
    )
    first, second = joined(one, two)
    assert first.weights == {"quiet": -12, "new": 0}
    assert second.weights == {"quiet": -2, "new": 5}
    assert [term.columns for term in second.terms] == [("a", "b"), ("c",)]
