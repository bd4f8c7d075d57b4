"""Encoders as a spec states them: how a column's value becomes a number from 0 to 1, or a bin."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictBool,
    model_validator,
)

from gtmar.plain_data import some
from gtmar.spec.rule import Condition, Rule

__all__ = [
    "TABLE_SIDE",
    "VALUE_UNITS",
    "WEIGHT_LIMIT",
    "BinInterval",
    "Bins",
    "BoolEncoder",
    "CurveEncoder",
    "DaysBeforeEncoder",
    "DecayEncoder",
    "Encoder",
    "IdentityEncoder",
    "MissingValue",
    "OneOfEncoder",
    "QuantileEncoder",
    "RangeEncoder",
    "ScaleEncoder",
    "SpecModel",
    "TableEncoder",
    "Weight",
    "slope",
    "unordered",
]


#: Encoded values enter the score as integer counts of 1/10,000ths.
VALUE_UNITS = 10_000
#: Largest number of rows, and of columns, of a table of two columns.
TABLE_SIDE = 4
#: Largest absolute weight. With 10,000 units per value, scores stay far below Int64's limit.
WEIGHT_LIMIT = 1_000_000


class SpecModel(BaseModel):
    """Base of all parts of a spec: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


#: Whether points must never fall (up) or never rise (down) as the column rises; None for neither.
Monotone = Literal["up", "down"] | None


class IdentityEncoder(SpecModel):
    """The column's own number, as it stands. The default."""

    kind: Literal["identity"]


class RangeEncoder(SpecModel):
    """A straight line from one stated end to the other, flat outside: 0 at `from`, 1 at `to`.

    ``(clip(v, from, to) - from) / (to - from)``; inverted, ``(to - clip(v, from, to)) / (to -
    from)``, so that the low end counts 1.
    """

    kind: Literal["range"]
    from_: FiniteFloat = Field(alias="from")
    to: FiniteFloat
    invert: StrictBool = False
    monotone: Monotone = None

    @model_validator(mode="after")
    def _ends_in_order(self) -> RangeEncoder:
        if not self.from_ < self.to:
            raise ValueError(
                f"`from` must be below `to`, got from {self.from_:g} to {self.to:g}; "
                "write `invert: true` where low is good"
            )
        return self


class CurveEncoder(SpecModel):
    """Straight lines between stated points, flat outside: any saturating or log-like shape.

    Between two points: ``y0 + (y1 - y0) * ((v - x0) / (x1 - x0))``.
    """

    kind: Literal["curve"]
    points: tuple[tuple[FiniteFloat, FiniteFloat], ...] = Field(min_length=2)
    monotone: Monotone = None

    @model_validator(mode="after")
    def _ascending(self) -> CurveEncoder:
        xs, ys = zip(*self.points, strict=True)
        if any(a >= b for a, b in pairwise(xs)):
            raise ValueError(f"the points' first numbers must ascend, got {list(xs)}")
        if self.monotone and len({a < b for a, b in pairwise(ys) if a != b}) > 1:
            raise ValueError(
                f"monotone: {self.monotone} asks for points that all rise or all fall, "
                f"got {list(ys)}"
            )
        return self


class QuantileEncoder(SpecModel):
    """Steps at stated cut points: the number of cuts that the value reaches, over all cuts."""

    kind: Literal["quantile"]
    cuts: tuple[FiniteFloat, ...] = Field(min_length=1)
    invert: StrictBool = False
    monotone: Monotone = None

    @model_validator(mode="after")
    def _ascending(self) -> QuantileEncoder:
        if any(a >= b for a, b in pairwise(self.cuts)):
            raise ValueError(f"the cuts must ascend, got {list(self.cuts)}")
        return self


class BoolEncoder(SpecModel):
    """1 for true, 0 for false; inverted, the other way round. Takes booleans and 0/1 numbers."""

    kind: Literal["bool"]
    invert: StrictBool = False


class OneOfEncoder(SpecModel):
    """A category's stated value; without `default`, a category that isn't listed is an error."""

    kind: Literal["one_of"]
    values: dict[str, FiniteFloat] = Field(min_length=1)
    default: FiniteFloat | None = None


ScaleEncoder = Annotated[
    IdentityEncoder | RangeEncoder | CurveEncoder | QuantileEncoder, Field(discriminator="kind")
]


class DecayEncoder(SpecModel):
    """Fades with age: 1 on the day itself, a half after `half_life` days, a quarter after two.

    ``2 ** (-days / half_life)`` of whole days; a day that is still to come counts as today.
    """

    kind: Literal["decay"]
    half_life: int = Field(strict=True, ge=1, le=3_650)

    @property
    def near(self) -> dict[int, int]:
        """Values by day, in 1/10,000ths, for days where the power is close to a rounding boundary.

        Engines compute powers with different last digits, so these values are tabulated. On other
        days the difference can't change the rounded value.
        """
        return _decay(self.half_life)[0]

    @property
    def end(self) -> int:
        """The first day whose rounded value is 0."""
        return _decay(self.half_life)[1]


#: Distance to a rounding boundary, in 1/10,000ths, far above the difference between two engines.
_NEAR = 1e-7


@lru_cache(maxsize=256)
def _decay(half_life: int) -> tuple[dict[int, int], int]:
    near, day = {}, 0
    while (units := 2.0 ** (-day / half_life) * VALUE_UNITS + 0.5) >= 1:
        if abs(units - round(units)) < _NEAR:
            near[day] = int(units)
        day += 1
    return near, day


class DaysBeforeEncoder(SpecModel):
    """A date, as whole days before the table's `as_of`, then scaled by `then`."""

    kind: Literal["days_before"]
    then: Annotated[
        IdentityEncoder | RangeEncoder | CurveEncoder | QuantileEncoder | DecayEncoder,
        Field(discriminator="kind"),
    ] = IdentityEncoder(kind="identity")


class Weight(SpecModel):
    """An integer weight and the bounds that a search keeps it in, ends included."""

    weight: int = Field(strict=True, ge=-WEIGHT_LIMIT, le=WEIGHT_LIMIT)
    min: int = Field(strict=True, ge=-WEIGHT_LIMIT, le=WEIGHT_LIMIT)
    max: int = Field(strict=True, ge=-WEIGHT_LIMIT, le=WEIGHT_LIMIT)

    @model_validator(mode="after")
    def _within_bounds(self) -> Weight:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        if not self.min <= self.weight <= self.max:
            raise ValueError(
                f"weight {self.weight} is outside its bounds [{self.min}, {self.max}]; "
                "change the weight or widen the bounds"
            )
        return self


#: ``[0,3)``, ``[12,inf)``, ``[-inf,0)``: low end included, high end excluded, as in tiers.
_INTERVAL = re.compile(r"^\[\s*(?P<low>[^,\s]+)\s*,\s*(?P<high>[^,\s]+)\s*\)$")


class BinInterval(SpecModel):
    """The numbers from `low`, included, to `high`, excluded."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> BinInterval | None:
        """Parse ``[low,high)``; None if the text has another form, or `low` isn't below `high`.

        Examples
        --------
        >>> BinInterval.parse("[0,3)")
        BinInterval(low=0.0, high=3.0)
        >>> BinInterval.parse("software") is None
        True
        """
        match = _INTERVAL.match(text)
        if match is None:
            return None
        try:
            low, high = float(match["low"]), float(match["high"])
        except ValueError:
            return None
        return cls(low=low, high=high) if low < high else None


class Bins(SpecModel):
    """One feature per bin or category, each with its own weight and bounds, as a scorecard has.

    Keys are intervals (``"[0,3)"``), or categories; ``other`` takes what no key names and
    ``missing`` the unknown. Without those two, such a value is an error.
    """

    kind: Literal["bins"]
    monotone: Monotone = None
    bins: dict[str, Weight] = Field(min_length=1)

    @property
    def intervals(self) -> dict[str, BinInterval]:
        """The bins that are intervals, by key."""
        parsed = {key: BinInterval.parse(key) for key in self.bins}
        return {key: interval for key, interval in parsed.items() if interval is not None}

    @property
    def ordered(self) -> list[str]:
        """Keys of intervals, in the order in which weights never fall; empty without `monotone`."""
        keys = sorted(self.intervals, key=lambda key: self.intervals[key].low)
        return [] if self.monotone is None else keys if self.monotone == "up" else keys[::-1]

    @property
    def categories(self) -> list[str]:
        """Keys of bins that are categories, without ``other`` and ``missing``."""
        return [k for k in self.bins if k not in self.intervals and k not in ("other", "missing")]

    @model_validator(mode="after")
    def _one_sort_and_apart(self) -> Bins:
        intervals = self.intervals
        nearly = [key for key in self.categories if key[:1] in "[(" and "," in key]
        if nearly:
            raise ValueError(
                f"{nearly} look like intervals and are none; write [low,high), low included and "
                "high excluded, with inf for no end"
            )
        if intervals and self.categories:
            raise ValueError(
                "bins are either intervals or categories, got both: "
                f"intervals {sorted(intervals)}, categories {sorted(self.categories)}"
            )
        ordered = sorted(intervals.items(), key=lambda item: item[1].low)
        for (key, one), (next_key, two) in pairwise(ordered):
            if two.low < one.high:
                raise ValueError(f'bins "{key}" and "{next_key}" overlap')
        if self.monotone and not intervals:
            raise ValueError(
                f"monotone: {self.monotone} is for intervals; categories have no order"
            )
        points = {key: self.bins[key].weight for key in self.ordered}
        wrong = [
            f'"{key}" has {points[key]} and "{next_key}" {points[next_key]}'
            for key, next_key in pairwise(self.ordered)
            if points[next_key] < points[key]
        ]
        if wrong:
            listed = "; ".join(wrong)
            raise ValueError(f"not in the order of monotone: {self.monotone}: {listed}")
        return self


_Along = Annotated[tuple[str, ...], Field(min_length=1, max_length=TABLE_SIDE - 1)]


class TableEncoder(SpecModel):
    """Two columns that say something together: a value for each cell of a small table.

    A cell's row is that of the first condition `down` that holds, the last row where none does; its
    place in the row comes from `across` in the same way. So the last ones are of all other values,
    an unknown one included where no condition asks for it.
    """

    kind: Literal["table"]
    down: _Along
    across: _Along
    values: tuple[tuple[FiniteFloat, ...], ...]

    @property
    def sides(self) -> tuple[tuple[Condition, ...], tuple[Condition, ...]]:
        """The conditions down and those across."""
        down, across = ([Rule.parse(text).conditions[0] for text in s] for s in self._texts)
        return tuple(down), tuple(across)

    @property
    def cells(self) -> list[list[str]]:
        """Each cell in words: ``day < 5, any other month``."""
        down, across = ([*map(str, side), f"any other {side[0].column}"] for side in self.sides)
        return [[f"{row}, {column}" for column in across] for row in down]

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All conditions, those down first."""
        return tuple(each for side in self.sides for each in side)

    @property
    def columns(self) -> tuple[str, str]:
        """The column that goes down, and the one that goes across."""
        down, across = self.sides
        return down[0].column, across[0].column

    @property
    def canonical(self) -> dict[str, Any]:
        """The same plain data for every spelling of the same conditions, as ids need it."""
        down, across = ([str(each) for each in side] for side in self.sides)
        return {"kind": self.kind, "down": down, "across": across, "values": self.values}

    @property
    def _texts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self.down, self.across

    @model_validator(mode="after")
    def _two_columns_and_all_cells(self) -> TableEncoder:
        for side, texts in zip(("down", "across"), self._texts, strict=True):
            rules = [Rule.parse(text) for text in texts]
            if long := [
                text for text, rule in zip(texts, rules, strict=True) if len(rule.conditions) > 1
            ]:
                raise ValueError(f"{side} lists one condition at a time, got {long}")
            if len(columns := {name for rule in rules for name in rule.columns}) > 1:
                raise ValueError(f"{side} is about one column, got {sorted(columns)}")
        if len(set(self.columns)) == 1:
            raise ValueError(f"down and across are about two columns, got {self.columns[0]} twice")
        rows, places = len(self.down) + 1, len(self.across) + 1
        if len(self.values) != rows or any(len(row) != places for row in self.values):
            got = f"{some(len(self.values), 'row')} of {sorted({len(row) for row in self.values})}"
            raise ValueError(
                f"values need {rows} rows of {places}, one more than the conditions down and "
                f"across, got {got}"
            )
        return self


class MissingValue(SpecModel):
    """What stands for an unknown: a value on the encoder's own scale."""

    value: FiniteFloat


def slope(encoder: RangeEncoder | CurveEncoder | QuantileEncoder) -> int:
    """Return 1 if encoded values rise with the column, -1 if they fall.

    A curve is judged by its first and last point; 0 if these are equal.
    """
    if isinstance(encoder, CurveEncoder):
        (_, first), (_, last) = encoder.points[0], encoder.points[-1]
        return (last > first) - (last < first)
    return -1 if encoder.invert else 1


def unordered(encode: dict[str, Any]) -> dict[str, Any]:
    """Return an encoder's plain data without `monotone`, which changes no score."""
    plain = {key: value for key, value in encode.items() if key != "monotone"}
    return plain | ({"then": unordered(plain["then"])} if "then" in plain else {})


def _spell_out(value: object) -> object:
    """Expand ``encode: bool`` to ``encode: {kind: bool}``."""
    return {"kind": value} if isinstance(value, str) else value


AnyEncoder = Annotated[
    IdentityEncoder
    | RangeEncoder
    | CurveEncoder
    | QuantileEncoder
    | BoolEncoder
    | OneOfEncoder
    | DaysBeforeEncoder
    | TableEncoder
    | Bins,
    Field(discriminator="kind"),
]

Encoder = Annotated[
    AnyEncoder,
    BeforeValidator(
        _spell_out, json_schema_input_type=Literal["identity", "bool", "days_before"] | AnyEncoder
    ),
]
