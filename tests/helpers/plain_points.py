"""A score with groups, shared weights and vetoes from its definition alone, in exact fractions.

It imports nothing of `gtmar`. A spec is the plain data that a YAML file holds, with encoders
`identity`, `bool` and `days_before` with `decay`, rules of one comparison, and stated edges.
"""

import math
from datetime import date
from decimal import ROUND_FLOOR, Decimal, localcontext
from fractions import Fraction
from typing import Any

Row = dict[str, Any]
UNITS = 10_000


def half_up(value: Fraction) -> int:
    """Round to a whole number, halves up."""
    return math.floor(value + Fraction(1, 2))


def faded(days: int, half_life: int) -> int:
    """Return ``2 ** (-days / half_life)`` in 1/10,000ths, from sixty digits."""
    with localcontext() as context:
        context.prec = 60
        power = Decimal(2) ** (Decimal(-max(0, days)) / Decimal(half_life))
        # Halves are met exactly, by powers of a half; sixty digits may miss them by the last.
        tenth = (power * UNITS).quantize(Decimal(10) ** -40)
        return int((tenth + Decimal("0.5")).to_integral_value(ROUND_FLOOR))


def value(feature: dict[str, Any], cell: Any, today: date) -> int:
    """Return a feature's value in 1/10,000ths; 0 for one whose weight is shared out."""
    if cell is None:
        missing: Any = feature["missing"]
        return 0 if missing == "redistribute" else half_up(Fraction(missing["value"]) * UNITS)
    encode = feature.get("encode", "identity")
    if isinstance(encode, dict):
        return faded((today - cell).days, encode["then"]["half_life"])
    return half_up(Fraction(cell) * UNITS)


def points_of_set(names: list[str], spec: dict[str, Any], row: Row, today: date) -> int:
    """Sum the points of features, the weights of unknown ones shared out over the known ones."""
    features = spec["features"]
    cells = {name: row[features[name].get("column", name)] for name in names}
    points: int = sum(features[n]["weight"] * value(features[n], cells[n], today) for n in names)
    open_ = [n for n in names if features[n].get("missing") == "redistribute"]
    if not open_:
        return points
    known = [n for n in names if n not in open_ or cells[n] is not None]
    whole, left = (sum(abs(features[n]["weight"]) for n in some) for some in (names, known))
    return half_up(Fraction(points * whole, left)) if left else 0


def score(spec: dict[str, Any], row: Row, today: date) -> int:
    """Return an account's score in hundredths of a point."""
    groups = spec.get("groups", {})
    grouped = {name for group in groups.values() for name in group["features"]}
    free = [name for name in spec["features"] if name not in grouped]
    raw = spec.get("base", 0) * UNITS + points_of_set(free, spec, row, today)
    for group in groups.values():
        points = points_of_set(group["features"], spec, row, today)
        if group.get("max") is not None:
            points = min(points, group["max"] * UNITS)
        if group.get("min") is not None:
            points = max(points, group["min"] * UNITS)
        raw += points
    rounded = half_up(Fraction(raw, 100))
    for veto in spec.get("veto", []):
        column, _, number = veto["rule"].split()
        if row[column] is not None and row[column] > int(number):
            tier = spec["tiers"][veto["tier"]]
            if spec.get("orientation") == "risk":
                rounded = max(rounded, round(tier["min"] * 100))
            else:
                rounded = min(rounded, round(tier["max"] * 100) - 1)
    top: int = spec["max_score"] * 100
    return min(max(rounded, 0), top)
