"""Write a score as SQL: one SELECT over an account table, built as a sqlglot tree.

This is the SQL counterpart of `data.encode`. Whatever can be computed in advance is computed here,
in Python's doubles: bins, categories, cuts and flags become integer constants. Only linear
interpolation uses doubles in SQL, with the operations and the order that `spec.encoders` defines. A
value that the data contract refuses (an unknown value for which the spec has no rule, an infinite
one, an unknown category) becomes null, and so do the score and the tier of its account.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from gtmar.errors import UsageError, alike, culprits, nearest
from gtmar.spec.combination import Combination
from gtmar.spec.encoders import (
    Bins,
    BoolEncoder,
    CurveEncoder,
    DaysBeforeEncoder,
    DecayEncoder,
    IdentityEncoder,
    OneOfEncoder,
    QuantileEncoder,
    RangeEncoder,
    TableEncoder,
)
from gtmar.spec.ids import calibration_of
from gtmar.spec.model import SCORE_UNITS, VALUE_UNITS, Feature, ScoringSpec, Term, stated_as_of
from gtmar.spec.spellings import number_spellings, value_forms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from gtmar.spec.rule import Condition, Rule

__all__ = [
    "DIALECTS",
    "LONGEST_NAME",
    "column_kinds",
    "refuse_dialect",
    "refuse_lost",
    "select",
    "select_grid",
    "table_name",
]


#: A SQL expression.
Sql: TypeAlias = exp.Expr

#: Largest feature value that the data contract allows: in 1/10,000ths it is still exact.
_EXACT = 2**53 / VALUE_UNITS
#: Bound on a group's points times its weights, as in `data.matrix.check_reach`.
_SHARED = 2**50
#: The first and the last valid date.
_YEARS = ("0001-01-01", "9999-12-31")
_LARGEST = math.nextafter(math.inf, 0)
#: Allowed magnitudes of nonzero constants in linear interpolation. PostgreSQL raises an error if a
#: result is too small for a double, and these bounds exclude that.
_SMALL, _BIG = 1e-100, 1e100
#: A position below this share of a line's length is treated as its beginning: the difference is too
#: small to affect the rounded value.
_NOTHING = 1e-200
#: Texts to which engines cast true and false flags, with up to ten zeros for decimals.
_FRACTIONS = ("", *("." + "0" * digits for digits in range(1, 11)), ".0e0")
_SET = ("true", "t", *(f"1{rest}" for rest in _FRACTIONS))
_UNSET = ("false", "f", *(f"{sign}0{rest}" for sign in ("", "-") for rest in _FRACTIONS))
_COMPARISONS: dict[str, type[exp.Binary]] = {
    "<": exp.LT,
    "<=": exp.LTE,
    ">": exp.GT,
    ">=": exp.GTE,
    "=": exp.EQ,
    "!=": exp.NEQ,
}
#: Dialects in which two columns can't differ by capitals alone, even in quotes. There, a name reads
#: whichever column has it in any spelling.
_ONE_CASE = ("duckdb", "bigquery", "databricks", "spark", "redshift", "trino")
#: Dialects without a function for NaN; in these, NaN equals itself.
_NAN_EQUALS = ("postgres", "redshift", "snowflake")


def column(name: str) -> exp.Column:
    return exp.column(name, quoted=True)


def named(x: Sql, name: str) -> Sql:
    return exp.alias_(x, name, quoted=True)


def text(value: str) -> Sql:
    return exp.Literal.string(value)


def double(value: float) -> Sql:
    """Return a literal that every dialect reads as a double."""
    digits = repr(abs(float(value))).upper()
    number = exp.Literal.number(digits if "E" in digits else f"{digits}E0")
    return exp.Neg(this=number) if value < 0 else number


def integer(value: int) -> Sql:
    return exp.Literal.number(value)


def units(value: float) -> Sql:
    """Return a constant in 1/10,000ths, rounded by ``floor(value * 10000 + 0.5)``.

    Raises `UsageError` if it is too large to be exact.
    """
    if not abs(value) <= _EXACT:
        raise UsageError(
            f"{value:g} is too large to be exact as a feature value",
            hint="no table with such a value can be scored; change the spec",
        )
    return integer(math.floor(value * VALUE_UNITS + 0.5))


#: Dialects with infinite dates.
_ENDLESS = ("duckdb", "postgres")


def day(x: Sql, dtype: str | None, zone: str, dialect: str) -> Sql:
    """Return the date of a date or timestamp; one with a time zone is converted to `zone`."""
    if dtype == "zoned" and dialect in _ENDLESS:
        x = exp.AtTimeZone(this=x, zone=text(zone))
    return exp.cast(x, "date")


def read(
    feature: Feature, name: str, dtype: str | None, as_of: Sql | None, *, zone: str, dialect: str
) -> Sql:
    """Return a feature's column as its encoder reads it: a double, a text, or a number of days.

    Parameters
    ----------
    feature, name
        The feature, and its column.
    dtype
        The column's kind by `column_kinds`; None if unknown.
    as_of
        Date that `days_before` counts from; None if there is none.
    zone
        Time zone in which timestamps with a zone are converted to dates.
    dialect
        The SQL dialect.

    Raises
    ------
    UsageError
        If the feature is encoded as `days_before` and `as_of` is None.
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
        low, high = (exp.cast(text(end), "date") for end in _YEARS)
        known = [then.copy() >= low, then.copy() <= high, as_of.copy() >= low, as_of.copy() <= high]
        unknown = exp.or_(then.copy().is_(exp.null()), as_of.copy().is_(exp.null()))
        # An infinite number of days, which encoders turn into null: the account is refused.
        no_days = _as_double(text("Infinity"))
        return _case([(unknown, exp.null()), (exp.and_(*known), days)], no_days)
    categories = isinstance(encoder, Bins) and not encoder.intervals
    textual = categories or _reads_text(feature, dtype)
    return _as_text(name) if textual else _as_number(name, dtype)


def _as_text(name: str) -> Sql:
    # Only spaces are trimmed, as elsewhere in gtmar: some engines would trim other blanks too.
    return exp.Trim(this=exp.cast(column(name), "varchar"), expression=text(" "))


def _as_number(name: str, dtype: str | None) -> Sql:
    x = column(name)
    if dtype == "boolean":
        # Some engines can't cast a boolean to a double.
        return _case([(x, double(1)), (exp.not_(x), double(0))])
    return _as_double(x)


def _reads_text(feature: Feature, dtype: str | None) -> bool:
    """Whether a feature without bins is read as text."""
    encoder = feature.encode
    return isinstance(encoder, OneOfEncoder) or (isinstance(encoder, BoolEncoder) and dtype is None)


def encoded(feature: Feature, term: Term, read_as: str, dtype: str | None, *, dialect: str) -> Sql:
    """Return a term's feature value as an integer in 1/10,000ths.

    `read_as` is the name of the column with the result of `read`.
    """
    x, encoder = column(read_as), feature.encode
    if isinstance(encoder, Bins):
        shared = feature.missing == "redistribute"
        return _membership(encoder, str(term.bin), x, dialect, shared=shared)
    unknown: list[tuple[Sql, Sql]] = []
    textual = _reads_text(feature, dtype)
    if feature.missing != "error":
        value = units(0 if feature.missing == "redistribute" else feature.missing.value)
        unknown = [(each, value) for each in _unknown(feature, x, dtype, dialect)]
    if isinstance(encoder, OneOfEncoder):
        within = _within(x, list(encoder.values))
        cases = [(inside, units(encoder.values[name])) for name, inside in within.items()]
        if encoder.default is not None:
            cases.append((exp.not_(x.is_(exp.null())), units(encoder.default)))
        return _case([*unknown, *cases])
    if isinstance(encoder, BoolEncoder):
        high, low = (0, VALUE_UNITS) if encoder.invert else (VALUE_UNITS, 0)
        if textual:
            lowered = exp.Lower(this=x)
            flags: list[Sql] = [lowered.isin(*map(text, forms)) for forms in (_SET, _UNSET)]
        else:
            flags = [x.eq(double(1)), x.eq(double(0))]
        ends = (integer(high), integer(low))
        return _case([*unknown, *zip(flags, ends, strict=True)])
    assert not isinstance(encoder, TableEncoder)  # it reads no column alone
    scale = encoder.then if isinstance(encoder, DaysBeforeEncoder) else encoder
    if isinstance(scale, IdentityEncoder):
        exact = x.between(double(-_EXACT), double(_EXACT))
        return _case([*unknown, (exact, _rounded(x))])
    return _case([*unknown, (_finite(x), _scaled(scale, x))])


def _unknown(feature: Feature, x: Sql, dtype: str | None, dialect: str) -> list[Sql]:
    """Return conditions, any of which makes a value returned by `read` unknown."""
    encoder, null = feature.encode, x.is_(exp.null())
    if isinstance(encoder, Bins):
        return [null, _is_nan(x, dialect)] if encoder.intervals else [null]
    if not _reads_text(feature, dtype):
        return [null, _is_nan(x, dialect)]
    return [null, exp.Lower(this=x).eq(text("nan"))] if isinstance(encoder, BoolEncoder) else [null]


def _scaled(encoder: RangeEncoder | CurveEncoder | QuantileEncoder | DecayEncoder, x: Sql) -> Sql:
    """Apply a numeric encoder to `x`, which the caller has checked to be finite."""
    if isinstance(encoder, RangeEncoder):
        low, high = encoder.from_, encoder.to
        ends = (VALUE_UNITS, 0) if encoder.invert else (0, VALUE_UNITS)
        # Where the line begins, and the distance of x from there.
        begin, along = (high, double(high) - x) if encoder.invert else (low, x - double(low))
        return _case(
            [(x <= double(low), integer(ends[0])), (x >= double(high), integer(ends[1]))],
            _rounded(_share(along, begin, high - low)),
        )
    if isinstance(encoder, CurveEncoder):
        first, last = encoder.points[0], encoder.points[-1]
        pieces: list[tuple[Sql, Sql]] = [(x <= double(first[0]), units(first[1]))]
        for (x0, y0), (x1, y1) in pairwise(encoder.points):
            units(y1)  # raises if the height is too large to be exact
            share = _share(x - double(x0), x0, x1 - x0)
            pieces.append((x <= double(x1), _rounded(double(y0) + _line(y1 - y0) * share)))
        return _case(pieces, units(last[1]))
    if isinstance(encoder, DecayEncoder):
        days = [(x <= double(0), integer(VALUE_UNITS)), (x >= double(encoder.end), integer(0))]
        days += [(x.eq(double(day)), integer(value)) for day, value in encoder.near.items()]
        power = exp.Pow(this=double(2), expression=x / double(-encoder.half_life))
        return _case(days, _rounded(power))
    count = len(encoder.cuts)
    steps = [
        (x >= double(cut), units((count - n if encoder.invert else n) / count))
        for n, cut in reversed(list(enumerate(encoder.cuts, start=1)))
    ]
    return _case(steps, integer(VALUE_UNITS if encoder.invert else 0))


def _membership(encoder: Bins, key: str, x: Sql, dialect: str, *, shared: bool) -> Sql:
    """Return 10,000 if the value falls into the bin, 0 if into another one, null if into none."""
    intervals = encoder.intervals
    unknown = exp.or_(x.is_(exp.null()), _is_nan(x, dialect)) if intervals else x.is_(exp.null())
    known = _finite(x) if intervals else exp.not_(x.is_(exp.null()))
    places: dict[str, Sql] = {}
    if "missing" in encoder.bins or shared:
        places["missing"] = unknown
    for name, interval in intervals.items():
        ends = [known] if math.isinf(interval.low) else [known, x >= double(interval.low)]
        ends += [] if math.isinf(interval.high) else [x < double(interval.high)]
        places[name] = exp.and_(*ends)
    places |= _within(x, encoder.categories)
    if "other" in encoder.bins:
        places["other"] = known
    return _case(
        [(read_as, integer(VALUE_UNITS if name == key else 0)) for name, read_as in places.items()]
    )


def _within(x: Sql, categories: list[str]) -> dict[str, Sql]:
    """Return, by category, the condition that a text is one of the spellings of that category."""
    spelled = {name: list(dict.fromkeys((name.strip(" "), name))) for name in categories}
    for form, name in value_forms(categories).items():
        spelled[name] += [text for text in number_spellings(form) if text != name]
    texts = {name: list(map(text, each)) for name, each in spelled.items()}
    return {n: x.isin(*each) if len(each) > 1 else x.eq(each[0]) for n, each in texts.items()}


def _asked_places(
    conditions: Sequence[Condition], read_as: str, kinds: Mapping[str, str]
) -> dict[tuple[str, bool], str]:
    """Return a numbered name for each (column, read as text) that conditions read."""
    read = [(c.column, _textual(c, kinds)) for c in conditions]
    return {key: f"{read_as}_{i}" for i, key in enumerate(dict.fromkeys(read), start=1)}


def _textual(condition: Condition, kinds: Mapping[str, str]) -> bool:
    """Whether a condition reads its column as text: categories, and checks for missing values."""
    presence = condition.value is None and kinds.get(condition.column) != "number"
    return presence or bool(condition.categories)


def _rule_holds(rule: Rule, read_as: str, kinds: Mapping[str, str], dialect: str) -> Sql:
    """Return 10,000 if a rule holds, else 0; unknown values satisfy `is missing` only."""
    holds = exp.and_(*_each_holds(rule.conditions, read_as, kinds, dialect))
    return _case([(holds, integer(VALUE_UNITS))], integer(0))


def _value(
    feature: Feature, term: Term, read_as: str, kinds: Mapping[str, str], dialect: str
) -> Sql:
    """Return the units of a term's value: of a rule, a table, or one column's encoder."""
    if (rule := feature.parsed_rule) is not None:
        return _rule_holds(rule, read_as, kinds, dialect)
    if isinstance(feature.encode, TableEncoder):
        return _in_cell(feature.encode, read_as, kinds, dialect)
    return encoded(feature, term, read_as, kinds.get(term.columns[0]), dialect=dialect)


def _in_cell(encoder: TableEncoder, read_as: str, kinds: Mapping[str, str], dialect: str) -> Sql:
    """Return the units of the cell of a table that an account falls into."""
    holds = _each_holds(encoder.conditions, read_as, kinds, dialect)
    down, across = holds[: len(encoder.down)], holds[len(encoder.down) :]
    rows = [
        _case(
            [(each.copy(), units(cell)) for each, cell in zip(across, row, strict=False)],
            units(row[-1]),
        )
        for row in encoder.values
    ]
    return _case([*zip(down, rows, strict=False)], rows[-1])


def _each_holds(
    conditions: Sequence[Condition], read_as: str, kinds: Mapping[str, str], dialect: str
) -> list[Sql]:
    """Return whether each condition holds; unknown values satisfy `is missing` only."""
    places = _asked_places(conditions, read_as, kinds)
    holds: list[Sql] = []
    for condition in conditions:
        textual = _textual(condition, kinds)
        x = column(places[condition.column, textual])
        unknown: Sql = x.is_(exp.null())
        if not textual:
            unknown = exp.or_(unknown, _is_nan(x, dialect))
        elif kinds.get(condition.column) != "text":
            unknown = exp.or_(unknown, exp.Lower(this=x).eq(text("nan")))
        if condition.value is None:
            holds.append(unknown if condition.operator == "is missing" else exp.not_(unknown))
            continue
        if condition.number is None:
            inside = exp.or_(*_within(x, list(condition.categories)).values())
            answer = exp.not_(inside) if condition.operator == "not in" else inside
        else:
            answer = _COMPARISONS[condition.operator](this=x, expression=double(condition.number))
        holds.append(exp.and_(exp.not_(unknown), answer))
    return holds


def _share(along: Sql, begin: float, length: float) -> Sql:
    """Return the relative position along a line of some length: 0 at its beginning, 1 at its end.

    `along` is the distance from the beginning, which lies at `begin`.
    """
    share = along / _line(length)
    if abs(begin) >= _SMALL:
        return share  # the double next to `begin` is far enough from it
    return _case([(along < double(length * _NOTHING), double(0))], share)


def _line(value: float) -> Sql:
    """Return a constant of a line; raise `UsageError` if it is too large or too small."""
    if value != 0 and not _SMALL <= abs(value) <= _BIG:
        raise UsageError(
            f"{value:g} is too large or too small for a line in SQL, where engines differ",
            hint=f"scale the column: lengths and heights from {_SMALL:g} to {_BIG:g}",
        )
    return double(value)


def _rounded(value: Sql) -> Sql:
    """Convert a double to an integer in 1/10,000ths: ``floor(value * 10000 + 0.5)``."""
    return exp.cast(exp.Floor(this=value * double(VALUE_UNITS) + double(0.5)), "bigint")


def _as_double(x: Sql) -> Sql:
    return exp.cast(x, "double")


def _finite(x: Sql) -> Sql:
    """Return the condition that a value is neither null, NaN nor infinite in any engine."""
    return x.between(double(-_LARGEST), double(_LARGEST))


def _is_nan(x: Sql, dialect: str) -> Sql:
    if dialect in _NAN_EQUALS:
        return x.eq(_as_double(text("NaN")))
    return exp.IsNan(this=x)


def _case(whens: Sequence[tuple[Sql, Sql]], otherwise: Sql | None = None) -> Sql:
    """Return the value of the first condition that holds, else `otherwise`, or null."""
    case = exp.Case()
    for condition, value in whens:
        case = case.when(condition, value, copy=False)
    return case if otherwise is None else case.else_(otherwise, copy=False)


# ---- the statement -------------------------------------------------------------------------------

#: SQL dialects that a score can be written in.
DIALECTS = (
    "duckdb",
    "postgres",
    "snowflake",
    "bigquery",
    "databricks",
    "spark",
    "redshift",
    "trino",
)
#: Longest name in bytes, for engines that silently truncate longer ones.
LONGEST_NAME = {"postgres": 63, "redshift": 127}
_RAW_PER_SCORE = VALUE_UNITS // SCORE_UNITS
#: Columns of `gtmar score` other than the id and points.
_OWN = ("score", "tier", "probability", "base", "rounding", "clipping")
#: Steps of the statement, each a CTE, and those that PostgreSQL must materialize.
_STEPS = ("read", "encoded", "points", "sums", "shared", "cut", "whole", "held", "raw", "value")
_KEPT = ("encoded", "sums", "shared", "cut", "whole", "value")
#: Types of a sum of points and of a value in 1/10,000ths. A sum has room for over a million terms
#: of the largest value and weight.
_SUM, _VALUE = "decimal(28, 0)", "decimal(18, 0)"


def refuse_dialect(dialect: str, known: Sequence[str], what: str = "") -> None:
    """Raise `UsageError` for a dialect not in `known`; `what` follows its name in the message."""
    if dialect not in known:
        raise UsageError(
            f'no dialect "{dialect}"{what}; there are {", ".join(known)}',
            hint=f"--dialect {nearest(dialect, known) or known[0]}",
        )


def column_kinds(schema: pl.Schema) -> dict[str, str]:
    """Return the kind of each column: `boolean`, `number`, `zoned`, `date` or `text`.

    `zoned` columns hold timestamps with a time zone; `date` includes those without one.
    """
    import polars as pl

    def kind(dtype: pl.DataType) -> str:
        if dtype == pl.Boolean:
            return "boolean"
        if dtype.is_numeric():
            return "number"
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
            return "zoned"
        return "date" if dtype.is_temporal() else "text"

    return {name: kind(dtype) for name, dtype in schema.items()}


def select(
    spec: ScoringSpec,
    table: str,
    *,
    dialect: str = "duckdb",
    as_of: str | None = None,
    identifier: str | None = None,
    kinds: Mapping[str, str] | None = None,
) -> str:
    """Return a pretty-printed SELECT that scores a table as `gtmar score` does.

    Its columns: the id, ``score`` (decimal, in points), ``tier``, ``probability`` of leaving if the
    spec is calibrated (decimal, in [0, 1]), ``base``, ``points.<term>`` for each weight, the lines
    of groups, redistribution and vetoes, ``rounding`` and ``clipping``. From ``base`` on, they add
    up to the score. If the data contract refuses an account, its score, tier and probability are
    null. BigQuery allows only letters, digits and underscores in names: other characters of
    ``points.<term>`` become underscores there.

    Parameters
    ----------
    spec
        The spec.
    table
        The table's name as the dialect reads it: ``accounts``, ``crm.accounts``,
        ``"My Schema"."Accounts"``.
    dialect
        One of `DIALECTS`.
    as_of
        ISO date that `days_before` counts from; None for the spec's column.
    identifier
        The account id's column; None for the spec's.
    kinds
        Kinds of the columns by `column_kinds`, if known. Without them, numeric encoders expect
        numeric columns, since some engines can't cast a boolean to a double.

    Raises
    ------
    UsageError
        If dialect, table, id or date is invalid, the dialect can't represent a number or a name of
        the spec or takes two of its columns for one, or the spec parses text in a way that SQL
        can't reproduce.
    """
    return _written(_scored(spec, table, dialect, as_of, identifier, kinds), dialect)


def select_grid(
    one: ScoringSpec,
    two: ScoringSpec,
    table: str,
    *,
    dialect: str = "duckdb",
    as_of: str | None = None,
    kinds: Mapping[str, str] | None = None,
) -> str:
    """Return a SELECT with each account's cell in a grid of two scores, as in `gtmar grid`.

    Its columns: the id, ``<model>_score`` and ``<model>_tier`` of both specs, and ``cell``, null if
    either score is. The specs must have different model names. Other parameters and errors are
    those of `select`.
    """
    trees = {
        side: _scored(spec, table, dialect, as_of, one.id, kinds)
        for side, spec in (("gtmar_one", one), ("gtmar_two", two))
    }
    # Some engines allow CTEs only at the front of a statement, where both sides' steps would clash.
    steps = {cte.alias for cte in trees["gtmar_two"].find_all(exp.CTE)}
    for name in trees["gtmar_two"].find_all(exp.Identifier):
        if name.name in steps:
            name.set("this", f"{name.name}_two")
    sides = {side: tree.subquery(side, copy=False) for side, tree in trees.items()}

    def of(side: str, name: str) -> Sql:
        # The side's name is unquoted everywhere, so that engines change its case consistently.
        return exp.Column(this=exp.to_identifier(name, quoted=True), table=exp.to_identifier(side))

    identifier = str(one.id)
    names = [f"{spec.model}_{name}" for spec in (one, two) for name in ("score", "tier")]
    columns = [of(side, name) for side in sides for name in ("score", "tier")]
    shown = [named(c, n) for c, n in zip(columns, _line_names(names, dialect), strict=True)]
    cell = named(
        exp.DPipe(this=of("gtmar_one", "tier"), expression=of("gtmar_two", "tier")), "cell"
    )
    first, second = sides
    same = of(first, identifier).eq(of(second, identifier))
    tree = exp.select(named(of(first, identifier), identifier), *shown, cell)
    return _written(tree.from_(sides[first]).join(sides[second], on=same), dialect)


def _scored(
    spec: ScoringSpec,
    table: str,
    dialect: str,
    as_of: str | None,
    identifier: str | None,
    kinds: Mapping[str, str] | None,
) -> exp.Select:
    """Return the statement that scores a table as a tree; raises as `select`."""
    refuse_dialect(dialect, DIALECTS)
    identifier = identifier or spec.id
    if identifier is None:
        raise UsageError(
            f'spec "{spec.model}" names no id column', hint="add id: account_id to the spec"
        )
    combination = Combination.of(spec)
    own = {*_OWN, *(combination.lines if combination is not None else ())}
    if identifier in own:
        raise UsageError(
            f"\"{identifier}\" is the account id's column and one of the result's; "
            f"the result has {', '.join(sorted(own))}",
            hint="rename the table's column",
        )
    dated = [spec.as_of] if spec.as_of is not None and as_of is None and spec.date_columns else []
    _refuse_alike((identifier, *spec.columns, *dated), dialect)
    kinds = kinds or {}
    _refuse_readings(spec, as_of, kinds)
    source = table_name(table, dialect)
    day_counted = _day(spec, as_of, kinds, dialect)
    return _tree(spec, source, dialect, identifier, day_counted, kinds)


def _refuse_alike(read: Sequence[str], dialect: str) -> None:
    """Raise `UsageError` if columns that are read differ by capitals alone, and none may.

    Columns of the result may: weights of the categories `Pro` and `pro` are such, and no query
    reads them.
    """
    if dialect in _ONE_CASE and (found := alike(read)):
        raise UsageError(
            f"{dialect} doesn't tell columns apart that differ by capitals alone: "
            f"{culprits(found)}",
            hint="rename all but one in the table, and in the spec, also by `column:`",
        )


def _written(tree: exp.Select, dialect: str) -> str:
    written = tree.sql(dialect=dialect, pretty=True, comments=False)
    refuse_lost(tree, written, dialect)
    return written


def _refuse_readings(spec: ScoringSpec, as_of: str | None, kinds: Mapping[str, str]) -> None:
    """Refuse a spec that parses text as money, percent or dates in a format: SQL casts can't."""
    columns = spec.columns
    readings: dict[str, str] = {
        name: form
        for name, form in spec.read.columns.items()
        if name in columns
        and form not in ("text", "number")
        and kinds.get(name) not in ("number", "boolean")
    }
    if spec.date_format is not None:
        dated = spec.date_columns
        dated += [spec.as_of] if spec.as_of is not None and as_of is None and dated else []
        form = f"dates like {spec.date_format}"
        readings |= {n: form for n in dated if kinds.get(n) not in ("date", "zoned")}
    if readings:
        listed = ", ".join(f'"{name}" as {form}' for name, form in readings.items())
        raise UsageError(
            f"the spec reads text that SQL can't read the same way: {listed}",
            hint="give with --data a table in which these columns are numbers or dates",
        )


def _tree(
    spec: ScoringSpec,
    source: exp.Table,
    dialect: str,
    identifier: str,
    as_of: Sql | None,
    kinds: Mapping[str, str],
) -> exp.Select:
    """Build the statement: read, encode, weight, add up, round and clip, in this order."""
    # The name of a step must not hide the table.
    own = "_" if source.name.lower().startswith("gtmar_") else ""
    names = {n: f"gtmar_{n}{own}" for n in _STEPS}
    terms = spec.terms
    read_as = {name: f"x{i}" for i, name in enumerate(spec.inputs, start=1)}
    value = {term.name: f"v{i}" for i, term in enumerate(terms, start=1)}
    point = {term.name: f"p{i}" for i, term in enumerate(terms, start=1)}

    def stage(before: str, *columns: Sql) -> exp.Select:
        return exp.select(column("id"), *columns).from_(exp.to_table(names[before], copy=False))

    reading = _reading(spec, read_as, as_of, kinds, dialect)
    encoding, weighing = [], []
    for term in terms:
        feature = spec.features[term.feature]
        given = _value(feature, term, read_as[term.feature], kinds, dialect)
        encoding.append(named(given, value[term.name]))
        weighed = exp.cast(column(value[term.name]), _VALUE) * integer(term.weight)
        weighing.append(named(exp.cast(weighed, _SUM), point[term.name]))
    combination, points = Combination.of(spec), list(point.values())
    lines: dict[str, str] = {}
    more: dict[str, exp.Select] = {}
    before = "points"
    if combination is not None:
        flags = _flags(spec, read_as, kinds, dialect)
        encoding += flags
        carried = [*points, *(flag.alias for flag in flags)]
        weighing += map(column, carried[len(points) :])
        summed, lines = _combined(spec, combination, points, read_as)
        for step, columns in summed.items():
            more[step] = stage(before, *map(column, carried), *columns)
            carried += [each.alias for each in columns]
            before = step
        points += lines.values()
    total = _total([exp.cast(integer(spec.base * VALUE_UNITS), _SUM), *map(column, points)])
    raw, rounded, clipped = column("raw"), column("rounded"), column("clipped")
    half_up = exp.paren(raw + integer(_RAW_PER_SCORE // 2))
    grid = integer(_RAW_PER_SCORE)
    remainder = _modulo(half_up, grid)
    top = spec.max_score * VALUE_UNITS
    ends = [(rounded < integer(0), integer(0)), (rounded > integer(top), integer(top))]
    within = named(exp.cast(_case(ends, rounded), _SUM), "clipped")
    last = stage("value", raw, *map(column, points), rounded, within).subquery(
        "gtmar_scored", copy=False
    )
    shown = _line_names([*(f"points.{term.name}" for term in terms), *lines], dialect)
    in_points = {
        "score": clipped,
        "base": integer(spec.base * VALUE_UNITS),
        **{name: column(alias) for name, alias in zip(shown, points, strict=True)},
        "rounding": rounded - raw,
        "clipping": clipped - rounded,
    }
    score, *others = (named(_in_points(each), name) for name, each in in_points.items())
    bands = [named(_tier(spec, clipped), "tier"), *_probability(spec, clipped)]
    outer = exp.select(named(column("id"), identifier), score, *bands, *others).from_(last)
    steps = {
        "read": exp.select(named(column(identifier), "id"), *reading).from_(source),
        "encoded": stage("read", *encoding),
        "points": stage("encoded", *weighing),
        **more,
        "raw": stage(before, *map(column, points), named(total, "raw")),
        "value": stage("raw", raw, *map(column, points), named(half_up - remainder, "rounded")),
    }
    for name, query in steps.items():
        # PostgreSQL would inline each step, and compute an expression again wherever the next step
        # uses it.
        kept = True if dialect == "postgres" and name in _KEPT else None
        outer = outer.with_(names[name], as_=query, materialized=kept, copy=False)
    return outer


def _reading(
    spec: ScoringSpec,
    read_as: Mapping[str, str],
    as_of: Sql | None,
    kinds: Mapping[str, str],
    dialect: str,
) -> list[Sql]:
    """Return the columns that features and vetoes read, converted as they read them."""
    reading: list[Sql] = []
    for name, feature in spec.inputs.items():
        if conditions := feature.conditions:
            places = _asked_places(conditions, read_as[name], kinds)
            for (origin, textual), at in places.items():
                cell = _as_text(origin) if textual else _as_number(origin, kinds.get(origin))
                reading.append(named(cell, at))
            continue
        [origin] = feature.reads(name)
        kind, zone = kinds.get(origin), spec.time_zone
        cell = read(feature, origin, kind, as_of, zone=zone, dialect=dialect)
        reading.append(named(cell, read_as[name]))
    return reading


def _flags(
    spec: ScoringSpec, read_as: Mapping[str, str], kinds: Mapping[str, str], dialect: str
) -> list[Sql]:
    """Return the flags (1 or 0) that a `Combination` needs: unknown values, vetoes that hold."""
    flags = []
    for name, feature in spec.features.items():
        if feature.missing == "redistribute":
            [origin] = feature.reads(name)
            unknown = _unknown(feature, column(read_as[name]), kinds.get(origin), dialect)
            held = _case([(exp.or_(*unknown), integer(1))], integer(0))
            flags.append(named(held, f"u{read_as[name]}"))
    vetoes = [name for name in spec.inputs if name not in spec.features]
    for number, (name, rule) in enumerate(zip(vetoes, spec.veto_ends, strict=True)):
        holds = _rule_holds(rule[0], read_as[name], kinds, dialect)
        flags.append(named(_case([(holds.eq(integer(0)), integer(0))], integer(1)), f"w{number}"))
    return flags


def _combined(
    spec: ScoringSpec, combination: Combination, points: Sequence[str], read_as: Mapping[str, str]
) -> tuple[dict[str, list[Sql]], dict[str, str]]:
    """Return the new columns of further steps, and the column of each line of the combination.

    The SQL counterpart of `Combination.parts`. Each step also has all columns of those before it.
    """
    weights, lines = [term.weight for term in spec.terms], {}
    steps: dict[str, list[Sql]] = {step: [] for step in ("sums", "shared", "cut")}
    for number, each in enumerate(combination.sets):
        if not each.lines:
            continue
        own = exp.cast(_total([column(points[i]) for i in each.terms]), _SUM)
        steps["sums"].append(named(own, f"s{number}"))
        reached: Sql = column(f"s{number}")
        if each.shared:
            sizes = each.sizes(weights)
            whole = sum(sizes.values())
            unknown = [column(f"u{read_as[n]}") * integer(-sizes[n]) for n in each.shared]
            known = exp.cast(_total([integer(whole), *unknown]), _VALUE)
            steps["sums"].append(named(known, f"k{number}"))
            more = _redistributed(reached, column(f"k{number}"), whole)
            steps["shared"].append(named(more, f"r{number}"))
            lines[each.lines[0]] = f"r{number}"
            reached = exp.paren(reached + column(f"r{number}"))
        if each.ends is not None:
            ends: list[tuple[Sql, Sql]] = []
            if each.low is not None:
                ends.append((reached < integer(each.low), integer(each.low)))
            if each.high is not None:
                ends.append((reached > integer(each.high), integer(each.high)))
            within = exp.cast(_case(ends, reached), _SUM)
            steps["cut"].append(named(exp.cast(within - reached, _SUM), f"g{number}"))
            lines[each.lines[-1]] = f"g{number}"
    if combination.vetoes:
        parts = map(column, (*points, *lines.values()))
        all_points = _total([exp.cast(integer(combination.base), _SUM), *parts])
        steps["whole"] = [named(exp.cast(all_points, _SUM), "whole")]
        reached, held = column("whole"), []
        ordered = [(end, f"w{i}") for i, (_, end) in enumerate(combination.vetoes)]
        # The strictest veto comes first, since it also satisfies the others.
        for end, flag in sorted(ordered, reverse=combination.risk):
            over = reached < integer(end) if combination.risk else reached > integer(end)
            held.append((exp.and_(column(flag).eq(integer(1)), over), integer(end)))
        kept = exp.cast(_case(held, reached), _SUM)
        steps["held"] = [named(exp.cast(kept - reached, _SUM), "h")]
        lines["veto"] = "h"
    return {step: columns for step, columns in steps.items() if columns}, lines


def _redistributed(points: Sql, known: Sql, whole: int) -> Sql:
    """Return the points gained by redistributing the weights of unknown values.

    Null if they exceed what the data contract allows. The division in doubles is exact, since the
    dividend is a multiple of the divisor and below 2**53.
    """
    doubled = exp.cast(known * integer(2), _VALUE)
    upper = exp.paren(exp.cast(points, _VALUE) * integer(2 * whole) + known)
    remainder = _modulo(upper, doubled)
    quotient = _as_double(upper - remainder) / _as_double(doubled)
    reached = exp.cast(exp.Floor(this=quotient + double(0.5)), "bigint")
    largest = _SHARED // max(1, whole)
    exact = points.between(integer(-largest), integer(largest))
    gained = exp.cast(exp.cast(reached, _SUM) - points, _SUM)
    return _case([(known.eq(integer(0)), exp.cast(integer(0), _SUM)), (exact, gained)])


def _total(terms: Sequence[Sql]) -> Sql:
    first, *others = terms
    for each in others:
        first = exp.Add(this=first, expression=each)
    return first


def _modulo(value: Sql, by: Sql) -> Sql:
    """Return the nonnegative remainder; SQL's `mod` has the sign of the dividend."""
    return exp.Mod(this=exp.paren(exp.Mod(this=value, expression=by) + by), expression=by)


def _in_points(raw: Sql) -> Sql:
    """Convert 1/10,000ths, of a point or a probability, to a decimal."""
    per_unit = exp.cast(text("0.0001"), "decimal(4, 4)")
    return exp.cast(raw, _SUM) * per_unit


def _tier(spec: ScoringSpec, clipped: Sql) -> Sql:
    """Return the tier of a score in 1/10,000ths; null if the score is null."""
    tiers = zip(spec.tier_names, spec.tier_lows, strict=True)
    return _case([(clipped >= integer(low * _RAW_PER_SCORE), text(name)) for name, low in tiers])


def _probability(spec: ScoringSpec, clipped: Sql) -> list[Sql]:
    """Return the column of the probability of leaving; none without a calibration."""
    calibration = calibration_of(spec)
    if calibration is None:
        return []
    steps = [
        (clipped >= integer(step.low * _RAW_PER_SCORE), integer(step.units))
        for step in reversed(calibration.steps)
    ]
    return [named(_in_points(_case(steps)), "probability")]


def _line_names(names: Sequence[str], dialect: str) -> list[str]:
    """Return the names of the columns of points, adapted to what the dialect allows."""
    written: list[str] = []
    for name in names:
        bare = name
        if dialect == "bigquery":
            bare, number = re.sub(r"[^A-Za-z0-9_]", "_", name), 2
            first, taken = bare, {each.lower() for each in written}
            while bare.lower() in taken:
                bare, number = f"{first}_{number}", number + 1
        written.append(bare)
    longest = LONGEST_NAME.get(dialect, math.inf)
    if long := [name for name in written if len(name.encode()) > longest]:
        raise UsageError(
            f"{dialect} cuts names off after {longest} bytes; longer are {culprits(long)}",
            hint="give the features shorter names, and their columns with `column:`",
        )
    return written


def _day(
    spec: ScoringSpec, as_of: str | None, kinds: Mapping[str, str], dialect: str
) -> Sql | None:
    """Return the date that `days_before` counts from; None if the spec and `as_of` have none."""
    dated = (*spec.date_columns, spec.as_of)
    texts = [name for name in dated if name and kinds.get(name) == "text"]
    if texts and spec.date_format is not None:
        raise UsageError(
            f"{culprits(texts)} hold dates as text in the form {spec.date_format}, which SQL "
            "engines read differently",
            hint="store dates as dates where the score is computed",
        )
    if as_of is not None:
        return exp.cast(text(stated_as_of(as_of).isoformat()), "date")
    if spec.as_of is None:
        return None
    return day(column(spec.as_of), kinds.get(spec.as_of), spec.time_zone, dialect)


def table_name(name: str, dialect: str) -> exp.Table:
    """Parse a table's name in the dialect; raise `UsageError` if it is anything but a name."""
    try:
        table = sqlglot.parse_one(name, into=exp.Table, dialect=dialect)
    except (SqlglotError, ValueError):
        table = None
    parts = [] if table is None else [table.args.get(part) for part in ("this", "db", "catalog")]
    plain = table is not None and all(
        part is None or isinstance(part, exp.Identifier) for part in parts
    )
    others = {k for k, v in table.args.items() if v} - {"this", "db", "catalog"} if table else {""}
    if table is None or not plain or others or not table.name:
        raise UsageError(
            f'--table expects a table\'s name as {dialect} writes it, got "{name}"',
            hint="a name with odd signs is quoted, as in SQL",
        )
    return table


def refuse_lost(tree: exp.Select, written: str, dialect: str) -> None:
    """Raise `UsageError` if a name or a text is lost when the written statement is parsed again."""

    def held(statement: exp.Expr) -> Counter[tuple[str, str]]:
        names = Counter(("name", node.name) for node in statement.find_all(exp.Identifier))
        # A unit such as MONTH is a text in some dialects and a word in others.
        texts = (node for node in statement.find_all(exp.Literal) if node.is_string)
        return names + Counter(("text", node.name) for node in texts if node.arg_key != "unit")

    expected = held(tree)
    try:
        statements = sqlglot.parse(written, dialect=dialect)
    except SqlglotError:
        statements = []
    got = held(statements[0]) if len(statements) == 1 and statements[0] else Counter()
    odd = [name for _, name in expected if "\x00" in name]
    lost = odd or sorted({name for _, name in expected - got})
    if lost:
        raise UsageError(
            f"{dialect} has no way to write these names or texts: {culprits(map(repr, lost))}",
            hint="rename the column, or map it with `column:` in the spec",
        )
