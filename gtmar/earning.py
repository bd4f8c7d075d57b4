"""What earns the points of a weight, in words.

A weight alone doesn't say in which direction its encoder goes: 3 points for `has_saved` may be for
accounts that have not saved. This module reads the direction off the plain form of a spec, as a
journal has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gtmar.plain_data import digits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Earning", "earned_in", "earnings"]

#: Most categories that are named.
_NAMED = 3
#: A curve counts as rising if all its falls together are at most this share of its rises; the same
#: the other way round for falling.
_STRAY = 0.2


@dataclass(frozen=True)
class Earning:
    """What earns a weight's points."""

    #: The weight's column.
    column: str
    #: The words before the column, ``lower`` or ``without``, and those behind it, ``near 14``.
    before: str = ""
    behind: str = ""
    #: The least and the greatest value of the encoder; None if the column's own numbers count.
    ends: tuple[float, float] | None = (0.0, 1.0)
    #: Whether accounts have one of the two ends, and nothing between.
    either: bool = False

    @property
    def what(self) -> str:
        """All words: ``lower open_tickets``, ``without has_saved``, ``seats near 14``."""
        return " ".join(filter(None, (self.before, self.column, self.behind)))

    def how(self, weight: int) -> str:
        """Return the words for a place next to the column's name: ``lower``, ``without it``.

        For a weight below 0 they say what costs points: ``higher costs``.
        """
        it = "it" if self.before in ("with", "without") else ""
        costs = "costs" if weight < 0 else ""
        return " ".join(filter(None, (self.before, it, self.behind, costs)))

    def points(self, weight: int) -> str:
        """Return in words how many points a weight gives, and for what.

        Examples
        --------
        >>> Earning("open_tickets", "lower").points(12)
        'lower open_tickets: up to 12 points'
        >>> Earning("has_saved", "without", either=True).points(-1)
        'without has_saved: -1 point'
        >>> Earning("renewal", "each day since", ends=None).points(2)
        'each day since renewal: 2 points'
        """
        if self.ends is None or self.either or weight == 0:
            return f"{self.what}: {_plural(weight)}"
        low, high = sorted(weight * end for end in self.ends)
        if low == 0:
            return f"{self.what}: up to {_plural(high)}"
        if high == 0:
            return f"{self.what}: costs up to {_plural(-low)}"
        return f"{self.what}: {low:g} to {_plural(high)}"


def _plural(points: float) -> str:
    return f"{points:g} point{'' if abs(points) == 1 else 's'}"


def earnings(spec: Mapping[str, Any]) -> dict[str, Earning]:
    """Return what earns each weight's points, by weight, given a spec's plain form.

    Weights that multiply a column's own numbers are left out, since more of them is more points;
    so are bins, whose names say it.
    """
    earned: dict[str, Earning] = {}
    for name, feature in (spec.get("features") or {}).items():
        column, encode = feature.get("column") or name, feature.get("encode") or {}
        if feature.get("rule"):
            earned[name] = Earning("", behind=feature["rule"], either=True)
            continue
        if encode.get("kind", "identity") in ("identity", "bins"):
            continue
        earned[name] = _of_encoder(column, encode)
    return earned


def earned_in(changes: str, earned: Mapping[str, Earning]) -> str:
    """Return in words what earns the points of the weights in a text of changes, in its order.

    Examples
    --------
    >>> earned = {"saved": Earning("saved", "without"), "nps": Earning("nps", "higher")}
    >>> earned_in("nps: 5 -> 9, saved: 3 -> -2", earned)
    'higher nps; without saved costs'
    """
    by_position = {}
    for name, each in earned.items():
        listed = f", {changes}"
        position = listed.find(f", {name}: ")
        if position >= 0:
            below = re.match(r"\S+ -> -", listed[position + len(f", {name}: ") :])
            by_position[position] = f"{each.what} costs" if below else each.what
    return "; ".join(what for _, what in sorted(by_position.items()))


def _of_encoder(column: str, encode: Mapping[str, Any]) -> Earning:
    kind = encode["kind"]
    if kind == "bool":
        return Earning(column, "without" if encode.get("invert") else "with", either=True)
    if kind == "one_of":
        return _of_categories(column, encode["values"], encode.get("default"))
    if kind == "table":
        return _of_cells(encode)
    dated = kind == "days_before"
    scale = (encode.get("then") or {"kind": "identity"}) if dated else encode
    if scale.get("kind", "identity") == "identity":
        return Earning(column, "each day since", ends=None)
    rising, ends = _shape(scale)
    if isinstance(rising, str):
        return Earning(column, behind=f"{rising} days ago" if dated else rising, ends=ends)
    words = ("longer since", "more recent") if dated else ("higher", "lower")
    return Earning(column, words[not rising], ends=ends)


def _shape(encode: Mapping[str, Any]) -> tuple[bool | str, tuple[float, float]]:
    """Return whether an encoder rises, or where it is highest in words; and its least and most."""
    if encode["kind"] != "curve":
        return encode["kind"] != "decay" and not encode.get("invert"), (0.0, 1.0)
    xs, ys = zip(*encode["points"], strict=True)
    ends = float(min(ys)), float(max(ys))
    if ends[0] == ends[1]:
        return "of any value", ends
    rises = [b - a for a, b in pairwise(ys)]
    up, down = sum(r for r in rises if r > 0), -sum(r for r in rises if r < 0)
    if min(up, down) <= _STRAY * max(up, down):
        return up > down, ends
    top = [x for x, y in zip(xs, ys, strict=True) if y == ends[1]]
    if top[-1] == xs[-1]:
        return f"of {digits(top[0])} and more", ends
    if top[0] == xs[0]:
        return f"of {digits(top[-1])} and less", ends
    if len(top) == 1:
        return f"near {digits(top[0])}", ends
    return f"from {digits(top[0])} to {digits(top[-1])}", ends


def _of_categories(column: str, values: Mapping[str, float], default: float | None) -> Earning:
    given = [*values.values(), *([] if default is None else [default])]
    low, high = min(given), max(given)
    best = [name for name, value in values.items() if value == high]
    words = [*best[:_NAMED]]
    if len(best) > _NAMED:
        words.append(f"{len(best) - _NAMED} more")
    if default == high:
        words.append("any other")
    one = len(set(given)) == 1
    return Earning(column, behind=_either(words), ends=(low, high), either=one)


def _of_cells(encode: Mapping[str, Any]) -> Earning:
    """Return what earns points in a table encoder: its first cell with the highest value."""
    down, across = ([*encode[side], "otherwise"] for side in ("down", "across"))
    cells = {
        f"{row}, {across_name}": value
        for row, values in zip(down, encode["values"], strict=True)
        for across_name, value in zip(across, values, strict=True)
    }
    low, high = min(cells.values()), max(cells.values())
    best = next(cell for cell, value in cells.items() if value == high)
    return Earning("", behind=best, ends=(low, high))


def _either(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
