"""Encoders as SQL: a column of an account table to an integer feature value, as sqlglot trees.

The twin of `accounts.encode`. Whatever can be computed beforehand is, in Python's doubles: bins,
categories, cuts and flags become integer constants. Doubles remain where a straight line is drawn,
in the operations and the order that `spec.encoders` states. A value that the data contract refuses
(an unknown that the spec has no answer to, an infinite one, a category without a place) becomes
null, and so do the score and the tier of its account.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from sqlglot import exp

from gtmar.errors import UsageError
from gtmar.spec.categories import number_spellings, value_forms
from gtmar.spec.encoders import (
    Bins,
    BoolEncoder,
    CurveEncoder,
    DaysBeforeEncoder,
    IdentityEncoder,
    MissingValue,
    OneOfEncoder,
    QuantileEncoder,
    RangeEncoder,
)
from gtmar.spec.model import VALUE_UNITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gtmar.spec.model import Feature, Term

__all__ = ["Sql", "column", "day", "encoded", "integer", "read"]

#: A SQL expression.
Sql: TypeAlias = exp.Expr

#: Largest value that the contract takes, before it is counted in 1/10,000ths.
_EXACT = 2**53 / VALUE_UNITS
#: The first day that counts, and the last.
_YEARS = ("0001-01-01", "9999-12-31")
_LARGEST = math.nextafter(math.inf, 0)
#: Straight lines are drawn with numbers of this size, or 0: PostgreSQL raises an error where a
#: result is too small for a double, so the ones that could come to it are left out.
_SMALL, _BIG = 1e-100, 1e100
#: Below this share of a line's length nothing that is added to it can reach the rounding.
_NOTHING = 1e-200
#: How engines write a flag that is set, and one that isn't, as text: `2.0` zeros for decimals.
_FRACTIONS = ("", *("." + "0" * digits for digits in range(1, 11)), ".0e0")
_SET = ("true", "t", *(f"1{rest}" for rest in _FRACTIONS))
_UNSET = ("false", "f", *(f"{sign}0{rest}" for sign in ("", "-") for rest in _FRACTIONS))
#: Dialects without a function that tells NaN; there it equals itself.
_NAN_EQUALS = ("postgres", "redshift", "snowflake")


def column(name: str) -> exp.Column:
    """Return a column, its name quoted."""
    return exp.column(name, quoted=True)


def double(value: float) -> Sql:
    """Return a number that every dialect reads as a double."""
    text = repr(abs(float(value))).upper()
    number = exp.Literal.number(text if "E" in text else f"{text}E0")
    return exp.Neg(this=number) if value < 0 else number


def integer(value: int) -> Sql:
    """Return a whole number."""
    return exp.Literal.number(value)


def units(value: float) -> int:
    """Return a value in 1/10,000ths, by the one rounding: ``floor(value * 10000 + 0.5)``.

    Raises
    ------
    UsageError
        If it is too large to be exact.
    """
    if not abs(value) <= _EXACT:
        raise UsageError(
            f"{value:g} is too large to be exact as a feature value",
            hint="no table with such a value can be scored; change the spec",
        )
    return math.floor(value * VALUE_UNITS + 0.5)


#: Dialects with infinite dates.
_ENDLESS = ("duckdb", "postgres")
#: A count of days that no encoder takes: the account is refused, as by the data contract.
_NO_DAYS = exp.Literal.string("Infinity")


def day(x: Sql, dtype: str | None, zone: str, dialect: str) -> Sql:
    """Return the day of a date or moment; of one with a time zone in the spec's."""
    if dtype == "zoned" and dialect in _ENDLESS:
        x = exp.AtTimeZone(this=x, zone=exp.Literal.string(zone))
    return exp.cast(x, "date")


def read(
    feature: Feature,
    name: str,
    dtype: str | None,
    as_of: Sql | None,
    *,
    zone: str = "UTC",
    dialect: str = "duckdb",
) -> Sql:
    """Return a feature's column as its encoder reads it: a double, a text, a flag or days.

    Parameters
    ----------
    feature
        The feature.
    name
        Its column.
    dtype
        ``boolean``, ``number``, ``date``, ``zoned`` for moments with a time zone, or ``text``, as
        far as the table is known.
    as_of
        The date that `days_before` counts from.
    zone
        Whose days count, of moments with a time zone.
    dialect
        The SQL dialect: some have infinite dates.
    """
    x, encoder = column(name), feature.encode
    if isinstance(encoder, DaysBeforeEncoder):
        if as_of is None:
            raise UsageError(
                f'"{name}" is encoded as days_before, and there is no date to count from',
                hint="give --as-of DATE, or name the column in the spec's as_of",
            )
        then = day(x, dtype, zone, dialect)
        days = _as_double(exp.DateDiff(this=as_of, expression=then, unit=exp.var("DAY")))
        if dialect not in _ENDLESS:
            return days
        low, high = (exp.cast(exp.Literal.string(end), "date") for end in _YEARS)
        known = [then.copy() >= low, then.copy() <= high, as_of.copy() >= low, as_of.copy() <= high]
        unknown = exp.or_(then.copy().is_(exp.null()), as_of.copy().is_(exp.null()))
        return _case([(unknown, exp.null()), (exp.and_(*known), days)], _as_double(_NO_DAYS.copy()))
    text = isinstance(encoder, OneOfEncoder) or (
        isinstance(encoder, Bins) and not encoder.intervals
    )
    if text or (isinstance(encoder, BoolEncoder) and dtype is None):
        return exp.cast(x, "varchar")
    if dtype == "boolean":
        # Some engines have no cast from a boolean to a double.
        return _case([(x, double(1)), (exp.not_(x), double(0))])
    return _as_double(x)


def encoded(feature: Feature, term: Term, place: str, dtype: str | None, *, dialect: str) -> Sql:
    """Return a term's feature value in 1/10,000ths, an integer, from what `read` gave.

    Parameters
    ----------
    feature, term
        What is encoded.
    place
        The name that holds what `read` returned.
    dtype
        As for `read`.
    dialect
        The SQL dialect: NaN is told differently.
    """
    x, encoder = column(place), feature.encode
    if isinstance(encoder, Bins):
        return _membership(encoder, str(term.bin), x, dialect)
    unknown: list[tuple[Sql, Sql]] = []
    textual = isinstance(encoder, OneOfEncoder) or (
        isinstance(encoder, BoolEncoder) and dtype is None
    )
    if isinstance(feature.missing, MissingValue):
        value = integer(units(feature.missing.value))
        unknown.append((x.is_(exp.null()), value))
        if isinstance(encoder, BoolEncoder) and textual:
            unknown.append((exp.Lower(this=x).eq(exp.Literal.string("nan")), value))
        elif not textual:
            unknown.append((_is_nan(x, dialect), value))
    if isinstance(encoder, OneOfEncoder):
        named: list[tuple[Sql, Sql]] = [
            (within, integer(units(encoder.values[name])))
            for name, within in _within(x, list(encoder.values)).items()
        ]
        if encoder.default is not None:
            named.append((exp.not_(x.is_(exp.null())), integer(units(encoder.default))))
        return _case([*unknown, *named])
    if isinstance(encoder, BoolEncoder):
        high, low = (0, VALUE_UNITS) if encoder.invert else (VALUE_UNITS, 0)
        if textual:
            lowered = exp.Lower(this=x)
            flags: list[tuple[Sql, Sql]] = [
                (lowered.isin(*(exp.Literal.string(form) for form in forms)), integer(value))
                for forms, value in ((_SET, high), (_UNSET, low))
            ]
        else:
            flags = [(x.eq(double(1)), integer(high)), (x.eq(double(0)), integer(low))]
        return _case([*unknown, *flags])
    scale = encoder.then if isinstance(encoder, DaysBeforeEncoder) else encoder
    if isinstance(scale, IdentityEncoder):
        exact = x.between(double(-_EXACT), double(_EXACT))
        return _case([*unknown, (exact, _rounded(x))])
    return _case([*unknown, (_finite(x), _scaled(scale, x))])


def _scaled(encoder: RangeEncoder | CurveEncoder | QuantileEncoder, x: Sql) -> Sql:
    """Apply one of the encoders that take a number, which is finite here."""
    if isinstance(encoder, RangeEncoder):
        low, high = encoder.from_, encoder.to
        ends = (VALUE_UNITS, 0) if encoder.invert else (0, VALUE_UNITS)
        # Where the line begins, its length, and how far along it x is.
        begin, along = (high, double(high) - x) if encoder.invert else (low, x - double(low))
        return _case(
            [(x <= double(low), integer(ends[0])), (x >= double(high), integer(ends[1]))],
            _rounded(_share(along, begin, high - low)),
        )
    if isinstance(encoder, CurveEncoder):
        first, last = encoder.points[0], encoder.points[-1]
        pieces: list[tuple[Sql, Sql]] = [(x <= double(first[0]), integer(units(first[1])))]
        for (x0, y0), (x1, y1) in pairwise(encoder.points):
            units(y1)  # it refuses what no double holds exactly
            share = _share(x - double(x0), x0, x1 - x0)
            pieces.append((x <= double(x1), _rounded(double(y0) + _line(y1 - y0) * share)))
        return _case(pieces, integer(units(last[1])))
    count = len(encoder.cuts)
    steps = [
        (x >= double(cut), integer(units((count - n if encoder.invert else n) / count)))
        for n, cut in reversed(list(enumerate(encoder.cuts, start=1)))
    ]
    return _case(steps, integer(VALUE_UNITS if encoder.invert else 0))


def _membership(encoder: Bins, key: str, x: Sql, dialect: str) -> Sql:
    """10,000 where the account falls into the bin, 0 where into another, null where into none."""
    intervals = encoder.intervals
    unknown = exp.or_(x.is_(exp.null()), _is_nan(x, dialect)) if intervals else x.is_(exp.null())
    known = _finite(x) if intervals else exp.not_(x.is_(exp.null()))
    places: dict[str, Sql] = {}
    if "missing" in encoder.bins:
        places["missing"] = unknown
    for name, interval in intervals.items():
        ends: list[Sql] = [known]
        if not math.isinf(interval.low):
            ends.append(x >= double(interval.low))
        if not math.isinf(interval.high):
            ends.append(x < double(interval.high))
        places[name] = exp.and_(*ends)
    places |= _within(x, encoder.categories)
    if "other" in encoder.bins:
        places["other"] = known
    return _case(
        [(place, integer(VALUE_UNITS if name == key else 0)) for name, place in places.items()]
    )


def _within(x: Sql, categories: list[str]) -> dict[str, Sql]:
    """Return by category whether a text is it, or one of the ways in which engines write it."""
    spelled = {name: [name] for name in categories}
    for form, name in value_forms(categories).items():
        spelled[name] += [text for text in number_spellings(form) if text != name]
    texts = {name: list(map(exp.Literal.string, each)) for name, each in spelled.items()}
    return {n: x.isin(*each) if len(each) > 1 else x.eq(each[0]) for n, each in texts.items()}


def _share(along: Sql, begin: float, length: float) -> Sql:
    """Return how far along a straight piece a number is, 0 at its beginning, 1 at its end."""
    share = along / _line(length)
    if abs(begin) >= _SMALL:
        return share  # the next double is far enough from it
    return _case([(along < double(length * _NOTHING), double(0))], share)


def _line(value: float) -> Sql:
    """Return a number that a line is drawn with."""
    if value != 0 and not _SMALL <= abs(value) <= _BIG:
        raise UsageError(
            f"{value:g} is too large or too small for a line in SQL, where engines differ",
            hint=f"scale the column: lengths and heights from {_SMALL:g} to {_BIG:g}",
        )
    return double(value)


def _rounded(value: Sql) -> Sql:
    """Count a double in 1/10,000ths: ``floor(value * 10000 + 0.5)`` as an integer."""
    return exp.cast(exp.Floor(this=value * double(VALUE_UNITS) + double(0.5)), "bigint")


def _as_double(x: Sql) -> Sql:
    return exp.cast(x, "double")


def _finite(x: Sql) -> Sql:
    """Neither null, NaN nor infinite, however an engine orders NaN."""
    return x.between(double(-_LARGEST), double(_LARGEST))


def _is_nan(x: Sql, dialect: str) -> Sql:
    if dialect in _NAN_EQUALS:
        return x.eq(_as_double(exp.Literal.string("NaN")))
    return exp.IsNan(this=x)


def _case(whens: Sequence[tuple[Sql, Sql]], otherwise: Sql | None = None) -> Sql:
    """Return the value of the first condition that holds, else `otherwise`, or null."""
    case = exp.Case()
    for condition, value in whens:
        case = case.when(condition, value, copy=False)
    return case if otherwise is None else case.else_(otherwise, copy=False)
