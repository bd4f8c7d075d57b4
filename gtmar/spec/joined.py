"""Joins two specs into one form, in which each is a vector of weights over the terms of both.

The code of a search can then compare any two scores on one scale. A term that a spec lacks has
weight 0 in it. If both specs have a feature of one name that differs in more than weights, the
candidate's gets another name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gtmar.errors import UsageError
from gtmar.spec.combination import Combination
from gtmar.spec.encoders import unordered
from gtmar.spec.ids import calibration_of, form_id, points_id, value_form_of
from gtmar.spec.model import ScoringSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["joined"]

#: Keys that two specs must share to be compared account by account.
_SHARED = (
    *("max_score", "orientation", "id", "outcomes", "labels"),
    *("as_of", "date_format", "time_zone", "read"),
)
_OWN = "{} (candidate)"


def joined(incumbent: ScoringSpec, candidate: ScoringSpec) -> tuple[ScoringSpec, ScoringSpec]:
    """Return two specs of one form that give the same scores as the incumbent and the candidate.

    The first has the incumbent's tiers, objective and guardrails, bounds that include both weights,
    and the candidate's split, so that the candidate is judged on accounts that its search didn't
    see. It has the incumbent's id if the two specs already share their form, and the incumbent's
    bounds include both weights.

    Raises
    ------
    UsageError
        If the specs differ in their scale, in how they read a table, or in the number of tiers; if
        their groups or vetoes can't be joined; or if they give every account the same score.
    """
    differing = [name for name in _SHARED if getattr(incumbent, name) != getattr(candidate, name)]
    sizes = len(incumbent.tiers), len(candidate.tiers)
    differences = [f"{n}: {getattr(incumbent, n)} and {getattr(candidate, n)}" for n in differing]
    differences += [f"tiers: {sizes[0]} and {sizes[1]}"] if sizes[0] != sizes[1] else []
    if differences:
        raise UsageError(
            "the two specs don't compare account by account, they differ in "
            f"{'; '.join(differences)}",
            hint="gtmar tiers CANDIDATE --data TABLE --like INCUMBENT -o NEW gives equally many "
            "tiers; else write both on one scale, over the same columns of outcomes",
        )
    if points_id(incumbent) == points_id(candidate):
        raise UsageError(
            "nothing to decide: the two specs give every account the same score",
            hint="gtmar diff says what else differs",
        )
    data, other = (each.model_dump(mode="json", by_alias=True) for each in (incumbent, candidate))
    old, new = data["features"], other["features"]
    grouped = _refuse_shapes(incumbent, candidate)

    def shared(name: str) -> bool:
        """Return whether a feature is the same in both specs, but for weights and bounds."""
        # With different groups a weight has a different effect, so no feature is shared.
        if grouped or name not in old or name not in new:
            return False
        one, two = (value_form_of(each.features[name], name) for each in (incumbent, candidate))
        return one == two

    features, now, called = {}, {}, {}
    for name, feature in old.items():
        features[name] = _reaching(feature, new[name] if shared(name) else None)
        now[name] = _weighing(feature, new[name] if shared(name) else None)
    for name, feature in new.items():
        if shared(name):
            continue
        own = called[name] = name if name not in old else _OWN.format(name)
        asks = feature["rule"] or feature["encode"]["kind"] == "table"
        column = None if asks else feature["column"] or name
        reaching = _reaching({**feature, "column": column}, None)
        features[own], now[own] = _weighing(reaching, None), reaching
    if incumbent.base != candidate.base:
        # The difference of the bases becomes a constant feature: every value is `other` or missing.
        step, column = candidate.base - incumbent.base, incumbent.terms[0].columns[0]
        name = _OWN.format("base")
        features[name], now[name] = _constant(column, 0, step), _constant(column, step, step)
        if grouped:
            # In a group of its own it takes no part in redistribution.
            ends = {"min": min(0, step), "max": max(0, step)}
            data["groups"] |= {name: {"features": [name], **ends}}
    for name, group in other["groups"].items() if grouped else ():
        own = name if name not in data["groups"] else _OWN.format(name)
        named = [called[each] for each in group["features"]]
        data["groups"] |= {own: {**group, "features": named}}
    one = {**data, "features": features, "split": other["split"], "calibration": None}
    one["window"] = data["window"] or other["window"]
    # Constraints apply to a search, and the candidate was not searched under the incumbent's.
    two = {**one, "features": now, "constraints": None}
    two |= {name: other[name] for name in ("model", "tiers", "veto", "lineage")}
    first, second = (ScoringSpec.model_validate(each) for each in (one, two))
    fitted = calibration_of(candidate)
    if fitted is not None:
        fitted = fitted.model_copy(update={"points_id": points_id(second)})
    return first, second.model_copy(update={"calibration": fitted})


def _refuse_shapes(incumbent: ScoringSpec, candidate: ScoringSpec) -> bool:
    """Refuse vetoes that differ and groups that weights of 0 can't remove.

    Returns whether groups or redistribution make points add up differently in the two specs.
    """
    sides = (incumbent, candidate)
    apart = any(map(Combination.of, sides)) and (
        form_id(incumbent, tiers=False) != form_id(candidate, tiers=False)
    )
    differences = []
    vetoes = [{rule.canonical: end for rule, end in each.veto_ends} for each in sides]
    if vetoes[0] != vetoes[1]:
        listed = (", ".join(each) or "none" for each in vetoes)
        differences.append(f"veto: {' and '.join(listed)}, or the scores that they leave")
    held = [
        name
        for each in sides
        for name, group in each.groups.items()
        if (group.min or 0) > 0 or (group.max or 0) < 0
    ]
    if apart and held:
        differences.append(f"groups: the points of {', '.join(held)} can't be 0")
    if differences:
        raise UsageError(
            "the two specs don't compare account by account, they differ in "
            f"{'; '.join(differences)}",
            hint="gtmar backtest --spec judges each by itself",
        )
    return apart


def _weights(feature: dict[str, Any]) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Yield the parts with a weight: the feature with key None, or each of its bins by key."""
    if feature["encode"]["kind"] == "bins":
        yield from feature["encode"]["bins"].items()
    else:
        yield None, feature


def _changed(feature: dict[str, Any], by: dict[str | None, dict[str, Any]]) -> dict[str, Any]:
    """Return a feature with its weights or bounds, or those of each bin, replaced."""
    if feature["encode"]["kind"] != "bins":
        return {**feature, **by[None]}
    bins = {key: {**bin_, **by[key]} for key, bin_ in feature["encode"]["bins"].items()}
    return {**feature, "encode": {**feature["encode"], "bins": bins}}


def _reaching(feature: dict[str, Any], other: dict[str, Any] | None) -> dict[str, Any]:
    """Return a feature with bounds that also include another's weights, or 0 without another."""
    weights = {} if other is None else {key: each["weight"] for key, each in _weights(other)}
    if any(not each["min"] <= weights.get(k, 0) <= each["max"] for k, each in _weights(feature)):
        # Weights outside the bounds need not keep the order of `monotone`, so it is dropped.
        feature = {**feature, "encode": unordered(feature["encode"])}
    return _changed(
        feature,
        {
            key: {
                "min": min(each["min"], weights.get(key, 0)),
                "max": max(each["max"], weights.get(key, 0)),
            }
            for key, each in _weights(feature)
        },
    )


def _weighing(feature: dict[str, Any], other: dict[str, Any] | None) -> dict[str, Any]:
    """Return a feature with another's weights, or 0 without another, and bounds for both."""
    weights = {} if other is None else {key: each["weight"] for key, each in _weights(other)}
    reaching = _reaching(feature, other)
    reaching |= {"encode": unordered(reaching["encode"])}
    return _changed(reaching, {k: {"weight": weights.get(k, 0)} for k, _ in _weights(reaching)})


def _constant(column: str, weight: int, reach: int) -> dict[str, Any]:
    bounds = {"weight": weight, "min": min(0, reach), "max": max(0, reach)}
    bins = {"other": bounds, "missing": bounds}
    return {"column": column, "encode": {"kind": "bins", "bins": bins}}
