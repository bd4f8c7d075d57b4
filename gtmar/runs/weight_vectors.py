"""Weights by name, as a person gives them, held against what a spec allows."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING

from gtmar import spec as specs
from gtmar.errors import SpecError, UsageError
from gtmar.runs.plan import constraints_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from gtmar.spec.model import ScoringSpec

__all__ = ["pinned", "refuse_unfit", "vector_of"]


def vector_of(spec: ScoringSpec, weights: Mapping[str, int]) -> tuple[int, ...]:
    """Return F weights: those that are named, the spec's own for the others.

    `SpecError` where they aren't whole numbers that the spec allows, as of `specs.reweighed`, whose
    look at the whole spec takes a millisecond.
    """
    refuse_unfit(spec, weights)
    vector = tuple(int(weights.get(term.name, term.weight)) for term in spec.terms)
    if not constraints_of(spec).hold(vector):
        specs.reweighed(spec, weights)
    return vector


def refuse_unfit(spec: ScoringSpec, weights: Mapping[str, int]) -> None:
    """Refuse names and numbers that a spec has not, all in one message.

    `UsageError` for what are no weights by name at all.
    """
    if not isinstance(weights, Mapping):
        raise UsageError(
            f"weights are numbers by name, got a {type(weights).__name__}", hint='{"nps": 12}'
        )
    terms = {term.name: term for term in spec.terms}
    wrong = [
        f'"{name}" is a whole number, got {weight!r}'
        for name, weight in weights.items()
        if name in terms and (isinstance(weight, bool) or not isinstance(weight, Integral))
    ]
    if wrong:
        raise SpecError(f'spec "{spec.model}": {"; ".join(wrong)}')
    outside = (n not in terms or not terms[n].min <= w <= terms[n].max for n, w in weights.items())
    if any(outside):
        # Which says it in words.
        specs.reweighed(spec, weights)


def pinned(spec: ScoringSpec, locked: Collection[str]) -> ScoringSpec:
    """Return a spec in which some weights have no other value within their bounds.

    `SpecError` where a name is no weight.
    """
    own = spec.weights
    refuse_unfit(spec, {name: own.get(name, 0) for name in locked})
    data = spec.model_dump(mode="json", by_alias=True)
    for term in spec.terms:
        if term.name in locked:
            feature = data["features"][term.feature]
            bounded = feature if term.bin is None else feature["encode"]["bins"][term.bin]
            bounded |= {"min": term.weight, "max": term.weight}
    return specs.ScoringSpec.model_validate(data)
