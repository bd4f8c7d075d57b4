"""Combines the points of features into a score where the score is not their plain sum.

There are three such cases: groups whose points are clipped, weights of unknown values that are
redistributed to known ones, and vetoes that cap a score. All arithmetic is on integers, in
1/10,000ths of a point. It is written once, with operators that numpy arrays and Polars expressions
share; `integrations.sql` has the same in SQL.
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
    """Features whose points are summed first: those of one group, or those in no group."""

    #: The group's name; None for features in no group.
    name: str | None
    #: Indices of each feature's terms in the spec; a binned feature has several.
    features: Mapping[str, tuple[int, ...]]
    #: Column by feature, for features whose weight is redistributed where their value is unknown.
    shared: Mapping[str, str]
    #: Bounds of the sum in 1/10,000ths of a point; None without a bound.
    low: int | None = None
    high: int | None = None

    @property
    def terms(self) -> tuple[int, ...]:
        """Indices of all terms of the set."""
        return tuple(number for numbers in self.features.values() for number in numbers)

    @property
    def ends(self) -> str | None:
        """The bounds in points, as text; None without any."""
        low, high = (None if e is None else e // VALUE_UNITS for e in (self.low, self.high))
        if low is not None and high is not None:
            return f"{low} to {high}"
        if low is not None or high is not None:
            return f"at least {low}" if high is None else f"at most {high}"
        return None

    @property
    def lines(self) -> list[str]:
        """Names of the set's lines in a score's breakdown, beside its features' points."""
        behind = "" if self.name is None else f".{self.name}"
        lines = [f"redistributed{behind}"] if self.shared else []
        return lines if self.ends is None else [*lines, f"group{behind}"]

    def sizes(self, weights: Sequence[int]) -> dict[str, int]:
        """Return each feature's absolute weight; for a binned feature the largest of its bins."""
        return {n: max(abs(weights[i]) for i in own) for n, own in self.features.items()}


@dataclass(frozen=True)
class Combination:
    """The sets of a spec's features, and the flags that change their sums.

    A flag is 1 or 0 for each account: whether a column's value is unknown, or whether a veto's rule
    holds.
    """

    base: int
    sets: tuple[PointSet, ...]
    #: Each veto's flag, and its cap on the raw score in 1/10,000ths of a point: the highest score
    #: that it allows, or for a risk score the lowest.
    vetoes: tuple[tuple[str, int], ...] = ()
    #: Whether a high score is bad.
    risk: bool = False

    @classmethod
    def of(cls, spec: ScoringSpec) -> Combination | None:
        """Return a spec's combination; None where the score is the plain sum of points."""
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
        """Lines of a score's breakdown beside the features' points, each with its group's bounds.

        They are in the order in which they are computed. A line other than a group's has None.
        """
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
        """Return the points that are added to the sums, by line.

        Parameters
        ----------
        sums
            For each set the sum of its features' points, in 1/10,000ths of a point: int64 arrays of
            shape (N,), or Polars expressions. Unknown values that are redistributed count 0 in it.
        weights
            F weights.
        flags
            By name, 1 or 0, of the same type as `sums`.

        Returns
        -------
        dict
            By line, in 1/10,000ths of a point, of the same type as `sums`.

        Notes
        -----
        The redistributed points are ``floor(sum * all / known + 0.5) - sum``. Here `all` is the sum
        of the set's absolute weights, and `known` is the part whose value is known. They are 0 if
        `known` is 0.
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
        """Return the raw score, before rounding and clipping, in 1/10,000ths of a point.

        The parameters are those of `parts`.
        """
        return sum([*sums, *self.parts(sums, weights, flags).values()], self.base)
