"""A spec as one SELECT: account id, score, tier and points, equal to what `gtmar score` gives.

Feature values are integers (`encoding`), points are decimals, and nothing after the encoders is a
double: sums, rounding and clipping are exact in every engine. All names and texts are quoted by
sqlglot, and the statement is read back before it is given out.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import date
from typing import TYPE_CHECKING

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from gtmar.errors import UsageError, culprits, nearest
from gtmar.export.encoding import Sql, column, encoded, integer, read
from gtmar.export.encoding import day as day_of
from gtmar.spec.model import SCORE_UNITS, VALUE_UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from gtmar.spec.model import ScoringSpec

__all__ = ["DIALECTS", "column_kinds", "select"]

#: Dialects of SQL that a score can be written in.
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
#: Bytes that a name may have, where an engine cuts it short without a word.
_LONGEST_NAME = {"postgres": 63, "redshift": 127}
_RAW_PER_SCORE = VALUE_UNITS // SCORE_UNITS
#: Columns that `gtmar score` gives beside the id and the points.
_OWN = ("score", "tier", "base", "rounding", "clipping")
#: Digits of a sum of points in 1/10,000ths: over a million terms of the largest value and weight.
_SUM, _VALUE = "decimal(28, 0)", "decimal(18, 0)"


def column_kinds(schema: pl.Schema) -> dict[str, str]:
    """Say what the columns of a table are, as far as SQL has to know: by name, in five words."""
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
    """Return a SELECT that scores a table as `gtmar score` does.

    Parameters
    ----------
    spec
        The scoring spec.
    table
        The table's name as the dialect reads it: ``accounts``, ``crm.accounts``,
        ``"My Schema"."Accounts"``.
    dialect
        One of `DIALECTS`.
    as_of
        ISO date that `days_before` counts from; None takes the spec's column.
    identifier
        The account id's column; None takes the spec's.
    kinds
        What the columns are, by `column_kinds`, where that is known. Without it, encoders of
        numbers expect columns of numbers; some engines have no cast from boolean to double.

    Returns
    -------
    str
        One SELECT, pretty-printed. Its columns: the id, ``score`` (decimal, in points), ``tier``,
        ``base``, ``points.<term>`` for each weight, ``rounding`` and ``clipping``; points add up to
        the score. For an account that the data contract refuses, score and tier are null.

    Raises
    ------
    UsageError
        If dialect, table, id or date can't be used, or the spec has a number or a name that the
        dialect can't hold.

    Notes
    -----
    In BigQuery, where a name may hold letters, digits and underscores alone, other signs of
    ``points.<term>`` are written as underscores.
    """
    if dialect not in DIALECTS:
        likely = nearest(dialect, DIALECTS)
        raise UsageError(
            f'no dialect "{dialect}"; there are {", ".join(DIALECTS)}',
            hint=f"--dialect {likely or DIALECTS[0]}",
        )
    identifier = identifier or spec.id
    if identifier is None:
        raise UsageError(
            f'spec "{spec.model}" names no id column', hint="add id: account_id to the spec"
        )
    if identifier in _OWN:
        raise UsageError(
            f"\"{identifier}\" is the account id's column and one of the result's; "
            f"the result has {', '.join(sorted(_OWN))}",
            hint="rename the table's column",
        )
    source = _table(table, dialect)
    # A name of our own must not hide the table.
    own = "_" if source.name.lower().startswith("gtmar_") else ""
    names = {
        stage: f"gtmar_{stage}{own}" for stage in ("read", "encoded", "points", "raw", "value")
    }
    tree = _tree(
        spec,
        source,
        dialect,
        identifier,
        _day(spec, as_of, kinds or {}, dialect),
        kinds or {},
        names,
    )
    text = tree.sql(dialect=dialect, pretty=True, comments=False)
    _refuse_lost(tree, text, dialect)
    return text


def _tree(
    spec: ScoringSpec,
    source: exp.Table,
    dialect: str,
    identifier: str,
    as_of: Sql | None,
    kinds: Mapping[str, str],
    names: dict[str, str],
) -> exp.Select:
    """Put the statement together: read, encode, weigh, add up, round and clip, in this order."""
    terms = spec.terms
    features = list(spec.features)
    place = {name: f"x{i}" for i, name in enumerate(features, start=1)}
    value = {term.name: f"v{i}" for i, term in enumerate(terms, start=1)}
    point = {term.name: f"p{i}" for i, term in enumerate(terms, start=1)}

    def stage(before: str, *columns: Sql) -> exp.Select:
        return exp.select(column("id"), *columns).from_(exp.to_table(names[before], copy=False))

    reading = []
    for name, feature in spec.features.items():
        origin = feature.column or name
        found = read(
            feature, origin, kinds.get(origin), as_of, zone=spec.time_zone, dialect=dialect
        )
        reading.append(exp.alias_(found, place[name], quoted=True))
    encoding = []
    for term in terms:
        feature = spec.features[term.feature]
        found = encoded(feature, term, place[term.feature], kinds.get(term.column), dialect=dialect)
        encoding.append(exp.alias_(found, value[term.name], quoted=True))
    weighing = [
        exp.alias_(
            exp.cast(exp.cast(column(value[t.name]), _VALUE) * integer(t.weight), _SUM),
            point[t.name],
            quoted=True,
        )
        for t in terms
    ]
    total: Sql = exp.cast(integer(spec.base * VALUE_UNITS), _SUM)
    for name in point.values():
        total = exp.Add(this=total, expression=column(name))
    points = [column(name) for name in point.values()]
    raw, rounded, clipped = column("raw"), column("rounded"), column("clipped")
    half_up = exp.paren(raw + integer(_RAW_PER_SCORE // 2))
    grid = integer(_RAW_PER_SCORE)
    # The remainder is taken twice, since that of a negative number is negative in SQL.
    remainder = exp.Mod(
        this=exp.paren(exp.Mod(this=half_up, expression=grid) + grid), expression=grid
    )
    top = spec.max_score * VALUE_UNITS
    within = (
        exp.Case()
        .when(rounded < integer(0), integer(0))
        .when(rounded > integer(top), integer(top))
        .else_(rounded)
    )
    last = stage(
        "value",
        raw,
        *points,
        rounded,
        exp.alias_(exp.cast(within, _SUM), "clipped", quoted=True),
    ).subquery("gtmar_scored", copy=False)
    outer = exp.select(
        exp.alias_(column("id"), identifier, quoted=True),
        exp.alias_(_in_points(clipped), "score", quoted=True),
        exp.alias_(_tier(spec, clipped), "tier", quoted=True),
        exp.alias_(_in_points(integer(spec.base * VALUE_UNITS)), "base", quoted=True),
        *(
            exp.alias_(_in_points(column(point[term])), name, quoted=True)
            for term, name in _point_names(spec, dialect).items()
        ),
        exp.alias_(_in_points(rounded - raw), "rounding", quoted=True),
        exp.alias_(_in_points(clipped - rounded), "clipping", quoted=True),
    ).from_(last)
    steps = {
        "read": exp.select(exp.alias_(column(identifier), "id", quoted=True), *reading).from_(
            source
        ),
        "encoded": stage("read", *encoding),
        "points": stage("encoded", *weighing),
        "raw": stage("points", *points, exp.alias_(total, "raw", quoted=True)),
        "value": stage(
            "raw", raw, *points, exp.alias_(half_up - remainder, "rounded", quoted=True)
        ),
    }
    for name, step in steps.items():
        # PostgreSQL would put each step's text wherever the next one names its columns, and work
        # them out again there.
        kept = True if dialect == "postgres" and name in ("encoded", "value") else None
        outer = outer.with_(names[name], as_=step, materialized=kept, copy=False)
    return outer


def _in_points(raw: Sql) -> Sql:
    """Turn 1/10,000ths of a point into points, a decimal."""
    per_unit = exp.cast(exp.Literal.string("0.0001"), "decimal(4, 4)")
    return exp.cast(raw, _SUM) * per_unit


def _tier(spec: ScoringSpec, clipped: Sql) -> Sql:
    """Return the tier of a score in 1/10,000ths, from the highest down; null where that is."""
    case = exp.Case()
    for name, low in zip(spec.tier_names, spec.tier_lows, strict=True):
        case = case.when(clipped >= integer(low * _RAW_PER_SCORE), exp.Literal.string(name))
    return case


def _point_names(spec: ScoringSpec, dialect: str) -> dict[str, str]:
    """Return by term the name of its column of points, one that the dialect can hold.

    Raises
    ------
    UsageError
        If names are longer than the dialect's names may be.
    """
    names: dict[str, str] = {}
    for term in spec.terms:
        name = f"points.{term.name}"
        if dialect == "bigquery":
            bare = re.sub(r"[^A-Za-z0-9_]", "_", name)
            taken = {taken.lower() for taken in names.values()}
            name, number = bare, 2
            while name.lower() in taken:
                name, number = f"{bare}_{number}", number + 1
        names[term.name] = name
    longest = _LONGEST_NAME.get(dialect)
    if longest is not None:
        long = [name for name in names.values() if len(name.encode()) > longest]
        if long:
            raise UsageError(
                f"{dialect} cuts names off after {longest} bytes; longer are {culprits(long)}",
                hint="give the features shorter names, and their columns with `column:`",
            )
    return names


def _day(
    spec: ScoringSpec, as_of: str | None, kinds: Mapping[str, str], dialect: str
) -> Sql | None:
    """Return the date that `days_before` counts from."""
    dated = [f.column or n for n, f in spec.features.items() if f.encode.kind == "days_before"]
    texts = [name for name in (*dated, spec.as_of) if name and kinds.get(name) == "text"]
    if texts and spec.date_format is not None:
        raise UsageError(
            f"{culprits(texts)} hold dates as text in the form {spec.date_format}, which SQL "
            "engines read differently",
            hint="store dates as dates where the score is computed",
        )
    if as_of is not None:
        try:
            day = date.fromisoformat(as_of)
        except ValueError as err:
            raise UsageError(
                f'as_of expects a date, got "{as_of}"', hint="write it as YYYY-MM-DD"
            ) from err
        return exp.cast(exp.Literal.string(day.isoformat()), "date")
    if spec.as_of is None:
        return None
    return day_of(column(spec.as_of), kinds.get(spec.as_of), spec.time_zone, dialect)


def _table(name: str, dialect: str) -> exp.Table:
    """Read a table's name as the dialect does, and nothing but a name."""
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


def _refuse_lost(tree: exp.Select, text: str, dialect: str) -> None:
    """Refuse names and texts that the dialect's own quoting loses: read back, all must be there."""

    def held(statement: exp.Expr) -> Counter[tuple[str, str]]:
        names = Counter(("name", found.name) for found in statement.find_all(exp.Identifier))
        texts = (found for found in statement.find_all(exp.Literal) if found.is_string)
        return names + Counter(("text", found.name) for found in texts)

    expected = held(tree)
    try:
        statements = sqlglot.parse(text, dialect=dialect)
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
