"""How the points of features become a score where they don't simply add up.

Three shapes of the tools that people come from: groups whose points are cut at both ends, weights
of unknown values that are shared out over the known ones, and vetoes that hold a score down. All of
it is integer arithmetic in 1/10,000ths of a point, written once with operators that numpy's arrays
and Polars' expressions both have; `integrations.sql` has its twin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gtmar.spec.model import SCORE_UNITS, VALUE_UNITS, ScoringSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


__all__ = ["Combination", "PointSet"]


@dataclass(frozen=True)
class PointSet:
    """Features whose points are summed first: those of a group, or all that are in none."""

    #: The group's name; None for the features that are in no group.
    name: str | None
    #: Numbers of each feature's weights in the spec's order; a binned feature has several.
    features: Mapping[str, tuple[int, ...]]
    #: Features whose weight is shared out where their value is unknown, each with its column.
    shared: Mapping[str, str]
    #: Ends of the sum in 1/10,000ths of a point; None where it has none.
    low: int | None = None
    high: int | None = None

    @property
    def terms(self) -> tuple[int, ...]:
        """Numbers of all the set's weights."""
        return tuple(number for numbers in self.features.values() for number in numbers)

    @property
    def ends(self) -> str | None:
        """The ends in points, in words; None where it has none."""
        low, high = (None if e is None else e // VALUE_UNITS for e in (self.low, self.high))
        if low is not None and high is not None:
            return f"{low} to {high}"
        if low is not None or high is not None:
            return f"at least {low}" if high is None else f"at most {high}"
        return None

    @property
    def lines(self) -> list[str]:
        """Names of the lines that the set adds to a score, beside its features' points."""
        behind = "" if self.name is None else f".{self.name}"
        lines = [f"redistributed{behind}"] if self.shared else []
        return lines if self.ends is None else [*lines, f"group{behind}"]

    def sizes(self, weights: Sequence[int]) -> dict[str, int]:
        """Return each feature's weight without its sign; of a binned one the largest."""
        return {n: max(abs(weights[i]) for i in own) for n, own in self.features.items()}


@dataclass(frozen=True)
class Combination:
    """The sets of a spec's features, and the flags that change what they add up to.

    A flag is 1 or 0 for each account: whether the value of a column is unknown, whether the rule of
    a veto holds.
    """

    base: int
    sets: tuple[PointSet, ...]
    #: Each veto's flag, and the best raw score that it leaves: the highest; of a risk the lowest.
    vetoes: tuple[tuple[str, int], ...] = ()
    risk: bool = False

    @classmethod
    def of(cls, spec: ScoringSpec) -> Combination | None:
        """Read it off a spec; None where points simply add up."""
        redistributes = any(f.missing == "redistribute" for f in spec.features.values())
        if not spec.groups and not redistributes and not spec.veto:
            return None
        numbers: dict[str, list[int]] = {}
        for number, term in enumerate(spec.terms):
            numbers.setdefault(term.feature, []).append(number)
        grouped = {feature for group in spec.groups.values() for feature in group.features}

        def points(name: str | None, features: Sequence[str], *ends: int | None) -> PointSet:
            shared = {
                feature: spec.features[feature].column or feature
                for feature in features
                if spec.features[feature].missing == "redistribute"
            }
            low, high = (None if end is None else end * VALUE_UNITS for end in ends)
            return PointSet(name, {n: tuple(numbers[n]) for n in features}, shared, low, high)

        free = [name for name in spec.features if name not in grouped]
        sets = [points(None, free, None, None)] if free else []
        sets += [points(n, g.features, g.min, g.max) for n, g in spec.groups.items()]
        vetoes = tuple(
            (f"veto.{rule.canonical}", end * VALUE_UNITS // SCORE_UNITS)
            for rule, end in spec.veto_ends
        )
        return cls(spec.base * VALUE_UNITS, tuple(sets), vetoes, spec.orientation == "risk")

    @property
    def lines(self) -> dict[str, str | None]:
        """Lines beside the points, in the order in which they come about, each with its ends."""
        named = {line: each.ends for each in self.sets for line in each.lines}
        lines = {line: ends if line.startswith("group") else None for line, ends in named.items()}
        return lines | ({"veto": None} if self.vetoes else {})

    @property
    def flags(self) -> list[str]:
        """Names of the flags."""
        unknown = (f"unknown.{column}" for s in self.sets for column in s.shared.values())
        return list(dict.fromkeys([*unknown, *(flag for flag, _ in self.vetoes)]))

    def parts(
        self, sums: Sequence[Any], weights: Sequence[int], flags: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what is added to the sums of points, by line.

        Parameters
        ----------
        sums
            For each set the sum of its features' points, in 1/10,000ths: int64 arrays of shape
            (N,), or expressions. An unknown value that is shared out has given 0.
        weights
            F weights.
        flags
            By name, each 1 or 0, of the same kind as the sums.

        Notes
        -----
        Redistributed is ``floor(sum * all / known + 0.5)`` less the sum, `all` being the weights of
        the set without their signs and `known` those whose value is known; nothing where there is
        none.
        """
        parts = {}
        for points, each in zip(sums, self.sets, strict=True):
            reached = points
            if each.shared:
                sizes = each.sizes(weights)
                whole = sum(sizes.values())
                known = whole - sum(
                    flags[f"unknown.{c}"] * sizes[n] for n, c in each.shared.items()
                )
                reached = (2 * points * whole + known) // (2 * known.clip(1))
                parts[each.lines[0]] = reached - points
            if each.ends is not None:
                parts[each.lines[-1]] = reached.clip(each.low, each.high) - reached
        if self.vetoes:
            raw = before = sum([*sums, *parts.values()], self.base)
            for flag, end in self.vetoes:
                beyond = (raw - end).clip(None, 0) if self.risk else (raw - end).clip(0)
                raw = raw - flags[flag] * beyond
            parts["veto"] = raw - before
        return parts

    def raw(self, sums: Sequence[Any], weights: Sequence[int], flags: Mapping[str, Any]) -> Any:
        """Return the score before rounding and clipping, in 1/10,000ths; see `parts`."""
        return sum([*sums, *self.parts(sums, weights, flags).values()], self.base)
