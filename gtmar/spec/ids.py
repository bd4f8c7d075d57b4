"""The canonical form of a spec, and the ids that are hashes of it.

`score_id` covers everything that changes a score or a tier. `spec_id` also covers what changes a
search or a verdict. Neither depends on the order of keys, nor on descriptions, versions, comments
or lineage.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from gtmar.documents import with_leaves
from gtmar.spec.encoders import TableEncoder, unordered
from gtmar.spec.model import Feature, Reading, ScoringSpec

if TYPE_CHECKING:
    from gtmar.spec.calibration import Calibration

__all__ = [
    "calibration_of",
    "canonical",
    "encoder_id",
    "fitted_features",
    "form_id",
    "points_id",
    "score_id",
    "spec_id",
    "tiers_id",
    "value_form_of",
]

#: Hexadecimal digits of an id. With 64 bits a million specs are unlikely to collide.
_DIGITS = 16
_BOUNDS = ("min", "max")


def canonical(spec: ScoringSpec, *, bounds: bool = True) -> dict[str, Any]:
    """Return a spec as plain data, with defaults filled in and descriptive keys left out.

    Parameters
    ----------
    bounds
        True for everything that `spec_id` covers; False for what `score_id` covers.
    """
    data = spec.model_dump(mode="json", by_alias=True)
    form = {key: data[key] for key in ("max_score", "base", "as_of")}
    form["features"] = {
        name: _feature(spec.features[name], name, feature, bounds=bounds)
        for name, feature in data["features"].items()
    }
    form["tiers"] = _edges(spec) if spec.has_edges else _rules(spec)
    if spec.groups:
        form["groups"] = {
            name: [sorted(group.features), group.min, group.max]
            for name, group in spec.groups.items()
        }
    if spec.veto:
        form["veto"] = sorted([rule.canonical, end] for rule, end in spec.veto_ends)
    # Keys at their default are left out, so that the ids of older specs stay the same.
    if data["read"] != Reading().model_dump(mode="json"):
        form["read"] = data["read"]
    form |= {k: data[k] for k in ("date_format",) if data[k] is not None}
    form |= {k: data[k] for k in ("time_zone",) if data[k] != "UTC"}
    if bounds:
        if spec.has_rule:
            form["tier_rules"] = _rules(spec)
        always = ("orientation", "outcomes", "objective", "guardrails")
        form |= {key: data[key] for key in always}
        form |= {key: data[key] for key in ("labels", "constraints") if data[key]}
        form |= {key: sorted(data[key]) for key in ("no_worse", "segments") if data[key]}
    return form


def _edges(spec: ScoringSpec) -> dict[str, list[int]]:
    return {name: [tier.low, tier.high] for name, tier in spec.tiers.items()}


def _rules(spec: ScoringSpec) -> list[list[object]]:
    """Return the tiers from the highest down, each with its rule, if any."""
    return [[name, *(spec.tiers[name].rule or ())] for name in spec.tier_names]


def tiers_id(spec: ScoringSpec) -> str:
    """Return a hash of the tiers' rules, or of their edges where there is no rule.

    Runs are comparable by tier if their ids are equal.
    """
    content = _rules(spec) if spec.has_rule else _edges(spec)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_DIGITS]


def _identifier(prefix: str, form: dict[str, Any]) -> str:
    # Adding 0.0 turns -0.0 into 0.0, its equal.
    form = with_leaves(form, lambda each: each + 0.0 if isinstance(each, float) else each)
    text = json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return prefix + hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def score_id(spec: ScoringSpec) -> str:
    """Return the id shared by all specs that give every account the same score and tier."""
    return _identifier("c", canonical(spec, bounds=False))


def points_id(spec: ScoringSpec) -> str:
    """Return the id shared by all specs that give every account the same score."""
    form = canonical(spec, bounds=False)
    del form["tiers"]
    return _identifier("p", form)


def calibration_of(spec: ScoringSpec) -> Calibration | None:
    """Return a spec's calibration; None if there is none, or it was fitted to other scores."""
    own = spec.calibration
    return own if own is not None and own.points_id == points_id(spec) else None


def _feature(feature: Feature, name: str, data: dict[str, Any], *, bounds: bool) -> dict[str, Any]:
    """Return a feature in canonical form, from its plain data; without bounds unless `bounds`."""
    kept = {k: v for k, v in data.items() if k != "description"}
    if (rule := feature.parsed_rule) is not None:
        kept = {k: kept[k] for k in ("weight", "min", "max", "encode")}
        kept["rule"] = rule.canonical
    else:
        # Left out where there is none, so that the ids of older specs stay the same.
        del kept["rule"]
        kept["column"] = kept["column"] or name
    if isinstance(feature.encode, TableEncoder):
        kept["encode"] = feature.encode.canonical
        del kept["column"]
    scale = kept["encode"].get("then", kept["encode"])
    if scale.get("monotone") is None:
        kept["encode"] = unordered(kept["encode"])
    if not bounds:
        kept = {k: v for k, v in kept.items() if k not in _BOUNDS}
        kept["encode"] = unordered(kept["encode"])
        if kept["encode"]["kind"] == "bins":
            bins = kept["encode"]["bins"]
            kept["encode"]["bins"] = {k: bin_["weight"] for k, bin_ in bins.items()}
    return kept


def encoder_id(feature: Feature) -> str:
    """Return the id shared by all features whose encoder, or rule, gives the same values."""
    data = feature.model_dump(mode="json", by_alias=True)
    encode = unordered(data["encode"])
    if isinstance(feature.encode, TableEncoder):
        encode = feature.encode.canonical
    form = {"encode": encode, "missing": data["missing"]}
    if (rule := feature.parsed_rule) is not None:
        form["rule"] = rule.canonical
    return _identifier("e", form)


def fitted_features(spec: ScoringSpec) -> tuple[str, ...]:
    """Return the features whose encoder or rule was fitted to outcomes, and not edited since."""
    return tuple(n for n, f in spec.features.items() if spec.fitted.get(n) == encoder_id(f))


def spec_id(spec: ScoringSpec) -> str:
    """Return the id shared by all specs that give the same scores, searches and verdicts."""
    return _identifier("s", canonical(spec))


def form_id(spec: ScoringSpec, *, tiers: bool = True) -> str:
    """Return the id shared by all specs that give the same scores once their weights are equal.

    Their tiers are then the same too, by edges or by rule, unless `tiers` is False.
    """
    form = canonical(spec, bounds=False)
    if not tiers:
        del form["tiers"]
    elif spec.has_rule:
        form["tiers"] = _rules(spec)
    form["features"] = {name: value_form_of(each, name) for name, each in spec.features.items()}
    return _identifier("f", form)


def value_form_of(feature: Feature, name: str) -> dict[str, Any]:
    """Return the canonical form of a feature's value: everything but weights and bounds."""
    form = _feature(feature, name, feature.model_dump(mode="json", by_alias=True), bounds=False)
    form.pop("weight", None)
    if form["encode"]["kind"] == "bins":
        form["encode"]["bins"] = sorted(form["encode"]["bins"])
    return form
