"""Points in order: what the key asks for, what contradicts it, and which ids see it."""

from __future__ import annotations

from typing import Any

import pytest
from factories import make_spec, weighted

from gtmar.errors import SpecError
from gtmar.spec import ScoringSpec, parse, reweighed, score_id, spec_id, to_json, to_yaml
from gtmar.spec.ids import form_id
from gtmar.spec.joined import joined

ABOVE, BELOW, EITHER = (0, 25), (-25, 0), (-25, 25)


def bins(*points: int, monotone: str | None = "up", **others: int) -> dict[str, Any]:
    """Return a feature of intervals of 10 each, the highest first, as nothing says their order."""
    keys = [f"[{10 * i},{10 * i + 10})" for i in range(len(points))]
    keyed = dict(reversed(list(zip(keys, points, strict=True)))) | others
    held = {key: {"weight": weight, "min": -25, "max": 25} for key, weight in keyed.items()}
    own = {} if monotone is None else {"monotone": monotone}
    return {"encode": {"kind": "bins", "bins": held, **own}}


def text_of(feature: str) -> str:
    return f"model: m\nfeatures:\n  x: {feature}\ntiers: {{A: {{min: 0, max: 101}}}}\n"


def refusal(feature: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse(text_of(feature))
    return str(caught.value)


@pytest.mark.parametrize(
    ("encode", "direction", "bounds"),
    [
        ("{kind: curve, points: [[0, 0], [5, 0], [9, 1]]", "up", ABOVE),
        ("{kind: curve, points: [[0, 0], [5, 0.2], [9, 1]]", "down", BELOW),
        ("{kind: curve, points: [[0, 1], [9, 0]]", "down", ABOVE),
        ("{kind: curve, points: [[0, 1], [9, 0]]", "up", BELOW),
        ("{kind: curve, points: [[0, 1], [9, 1]]", "up", EITHER),
        ("{kind: range, from: 0, to: 9", "up", ABOVE),
        ("{kind: range, from: 0, to: 9, invert: true", "down", ABOVE),
        ("{kind: quantile, cuts: [1, 3]", "down", BELOW),
        ("{kind: days_before, then: {kind: range, from: 0, to: 30", "down", BELOW),
    ],
)
def test_bounds_hold_a_direction_or_are_refused(
    encode: str, direction: str, bounds: tuple[int, int]
) -> None:
    close = "}}" if "then" in encode else "}"
    for low, high in (ABOVE, BELOW, EITHER):
        stated = f"{encode}, monotone: {direction}{close}"
        feature = f"{{weight: 0, min: {low}, max: {high}, encode: {stated}}}"
        if bounds in ((low, high), EITHER):
            spec = parse(text_of(feature))
            assert parse(to_yaml(spec)) == parse(to_json(spec)) == spec
        else:
            assert f"monotone: {direction} with an encoder that" in refusal(feature)


def test_a_refusal_says_what_bounds_are_needed() -> None:
    said = refusal(
        "{weight: 5, min: -25, max: 25, encode: {kind: range, from: 0, to: 9, monotone: up}}"
    )
    assert said.endswith(
        "features.x: monotone: up with an encoder that rises needs a min of 0 or more, got -25"
    )
    said = refusal(
        "{weight: 0, min: -5, max: 25, encode: {kind: range, from: 0, to: 9, monotone: down}}"
    )
    assert said.endswith("down with an encoder that rises needs a max of 0 or less, got 25")


def test_a_curve_that_goes_up_and_down_is_refused() -> None:
    curve = "{kind: curve, points: [[0, 0.2], [5, 0.9], [9, 0.3]], monotone: up}"
    said = refusal(f"{{weight: 5, min: 0, max: 25, encode: {curve}}}")
    assert "monotone: up asks for points that all rise or all fall, got [0.2, 0.9, 0.3]" in said


def test_all_bins_out_of_order_are_named_and_others_are_outside_it() -> None:
    assert make_spec(features={"x": bins(1, 1, 9, missing=-9, other=20)})
    assert make_spec(features={"x": bins(9, 1, 1, monotone="down")})
    with pytest.raises(ValueError, match=r"not in the order of monotone: up: .*") as caught:
        make_spec(features={"x": bins(5, 2, 9, 7)})
    assert '"[0,10)" has 5 and "[10,20)" 2; "[20,30)" has 9 and "[30,40)" 7' in str(caught.value)
    with pytest.raises(ValueError, match="not in the order of monotone: down"):
        make_spec(features={"x": bins(1, 2, monotone="down")})


def test_categories_have_no_order() -> None:
    held = {"a": {"weight": 1, "min": 0, "max": 2}}
    with pytest.raises(ValueError, match="monotone: up is for intervals"):
        make_spec(features={"x": {"encode": {"kind": "bins", "bins": held, "monotone": "up"}}})


def test_other_weights_are_refused_out_of_order() -> None:
    spec = make_spec(features={"x": bins(1, 4, 9)})
    assert reweighed(spec, {"x[0,10)": 4}).weights["x[0,10)"] == 4
    with pytest.raises(
        SpecError, match=r'features\.x\.encode.*: not in the order .* has 5 and "\[10'
    ):
        reweighed(spec, {"x[0,10)": 5})


def test_terms_in_order_run_along_rising_points() -> None:
    spec = make_spec(features={"a": weighted(), "x": bins(1, 4), "y": bins(4, 1, monotone="down")})
    names = [[spec.terms[i].name for i in group] for group in spec.ordered_terms]
    assert names == [["x[0,10)", "x[10,20)"], ["y[10,20)", "y[0,10)"]]
    assert make_spec(features={"x": bins(1, 4, monotone=None)}).ordered_terms == ()


def test_the_key_changes_what_a_search_may_do_and_no_score() -> None:
    free, up = (make_spec(features={"x": bins(1, 4, monotone=m)}) for m in (None, "up"))
    assert score_id(free) == score_id(up)
    assert form_id(free) == form_id(up)
    assert spec_id(free) != spec_id(up)
    nothing = {**bins(1, 4, monotone=None)}
    nothing["encode"] = {**nothing["encode"], "monotone": None}
    assert spec_id(make_spec(features={"x": nothing})) == spec_id(free)


def test_two_specs_are_joined_whatever_order_one_of_them_keeps() -> None:
    up = make_spec(features={"x": bins(1, 4, 9), "y": line(5, 0)})
    other = make_spec(features={"x": bins(9, 4, 1, monotone=None), "y": line(-5, None)})
    for one, two in ((up, other), (other, up)):
        first, second = joined(one, two)
        assert first.weights == one.weights
        assert second.weights == two.weights
    again = make_spec(features={"x": bins(1, 5, 9), "y": line(6, 0)})
    assert spec_id(joined(up, again)[0]) == spec_id(up)


def line(weight: int, low: int | None) -> dict[str, Any]:
    own = {} if low is None else {"monotone": "up"}
    encode = {"kind": "range", "from": 0, "to": 1, **own}
    return {**weighted(weight, encode=encode), "min": -25 if low is None else low}


def test_a_spec_of_another_key_for_it_is_refused() -> None:
    assert "Input should be 'up' or 'down'" in refusal(
        "{weight: 5, min: 0, max: 25, encode: {kind: range, from: 0, to: 9, monotone: rising}}"
    )
    assert ScoringSpec.model_validate(make_spec().model_dump(by_alias=True)) == make_spec()
