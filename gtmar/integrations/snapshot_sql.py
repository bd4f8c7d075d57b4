"""A snapshot's SELECT for a warehouse: DuckDB's statement, read by sqlglot and said in its dialect.

Below the statement lies one table a source, `gtmar_raw_SOURCE`, that casts each column to the type
that it has here; so types are known throughout, and whatever engines understand differently is
written out: divisions, comparisons of days with moments, the text order of PostgreSQL. SQL of a
recipe's own is taken if it consists of what is known to mean the same everywhere, else refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.schema import MappingSchema

from gtmar.data.locations import quoted
from gtmar.errors import RecipeError, UsageError, culprits, nearest
from gtmar.integrations.sql import LONGEST_NAME, refuse_lost, table_name
from gtmar.snapshots.conflicts import conflicts, refuse_unsettled
from gtmar.snapshots.raw_history import conditions, history
from gtmar.snapshots.statement import RAW

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from gtmar.snapshots.recipe import SnapshotRecipe
    from gtmar.snapshots.statement import SnapshotDays

__all__ = ["DIALECTS", "WarehouseSelect", "source_tables", "warehouse_selects"]

#: Dialects that a snapshot can be said in.
DIALECTS = ("duckdb", "postgres", "snowflake", "bigquery", "databricks")
_OWN = "gtmar_"
#: By source and column the type that it is cast to; None for one that not every dialect has.
_Schemas: TypeAlias = "Mapping[str, Mapping[str, exp.DataType | None]]"
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# ---- which table is a source ---------------------------------------------------------------------


def source_tables(recipe: SnapshotRecipe, given: Sequence[str] = ()) -> dict[str, str]:
    """Return by source the table that a warehouse has it in.

    That is what `given` says, each as ``SOURCE=TABLE``; else the name of the source's file, folder
    or table: ``exports/subs.parquet`` is ``subs``.

    Raises
    ------
    UsageError
        If a source that `given` names isn't there, or the table of one can't be told: a name that
        is no plain one, or a `query`, whose rows the warehouse must bring.
    """
    said = dict(text.partition("=")[::2] for text in given)
    wrong = [f'"{text}" is no SOURCE=TABLE' for text in given if not text.partition("=")[2]]
    for name in said.keys() - recipe.sources.keys():
        likely = nearest(name, recipe.sources)
        wrong.append(
            f'there is no source "{name}"' + (f'; did you mean "{likely}"?' if likely else "")
        )
    for name, source in recipe.sources.items():
        if name in said:
            continue
        said[name] = _stem(source.data or "")
        if source.query is not None:
            wrong.append(f'source "{name}" has a query, whose rows a warehouse must bring')
        elif not all(_PLAIN.fullmatch(part) for part in said[name].split(".")):
            wrong.append(f'source "{name}": the name of its table can\'t be told')
    if wrong:
        raise UsageError("; ".join(wrong), hint="--table SOURCE=TABLE says which table a source is")
    return said


def _stem(data: str) -> str:
    """Return the name of a file, a folder or a table, without its kind."""
    if tables := parse_qs(urlsplit(data).query).get("table"):
        return tables[0]
    parts = [part for part in PurePosixPath(data).parts if not set(part) & set("*?=")]
    return parts[-1].removeprefix("delta:").partition(".")[0] if parts else ""


# ---- SQL of a recipe's own -----------------------------------------------------------------------

_COMPARED = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
_PREDICATES = (*_COMPARED, exp.Is, exp.In, exp.Between)
#: What a recipe's SQL may consist of, where it isn't DuckDB's: the same in all dialects, or made so
#: by `_alike`.
_KNOWN = (
    *(exp.Select, exp.From, exp.Join, exp.Where, exp.Group, exp.Having, exp.Order, exp.Ordered),
    *(exp.Subquery, exp.With, exp.CTE, exp.Union, exp.Table, exp.TableAlias, exp.Alias),
    *(exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Paren, exp.Var),
    *(exp.And, exp.Or, exp.Not, *_COMPARED, exp.Is, exp.In, exp.Between, exp.Exists),
    *(exp.Case, exp.If, exp.Coalesce, exp.Nullif, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Neg),
    *(exp.Abs, exp.Cast, exp.DataType, exp.DataTypeParam, exp.Interval, exp.DateDiff),
    *(exp.Count, exp.Sum, exp.Avg, exp.Min, exp.Max, exp.Distinct, exp.Filter),
    *(exp.Window, exp.RowNumber, exp.Star),
)
#: Parts of those that not every dialect has, or that mean other things elsewhere.
_UNKNOWN_PARTS = {
    exp.Select: ("kind", "hint", "limit", "operation_modifiers"),
    exp.Join: ("method", "match_condition"),
    exp.Group: ("all", "cube", "rollup", "grouping_sets", "totals"),
    exp.Distinct: ("on",),
    exp.Union: ("by_name",),
    exp.Star: ("except_", "replace", "rename", "except"),
    exp.With: ("recursive",),
    exp.Window: ("first", "spec"),
    exp.Between: ("symmetric",),
    exp.Case: ("this",),
}
_REAL, _WHOLE = ("DOUBLE", "FLOAT"), ("TINYINT", "SMALLINT", "INT", "BIGINT", "INT128")
#: By a type's name what its values are, as far as operators ask.
_KINDS = {
    **dict.fromkeys((*_REAL, *_WHOLE, "DECIMAL", "UTINYINT", "UINT", "UBIGINT"), "number"),
    **dict.fromkeys(("VARCHAR", "TEXT"), "text"),
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMPNTZ"), "moment"),
    "BOOLEAN": "flag",
    "DATE": "day",
    "INTERVAL": "interval",
    "NULL": "null",
}
_CASTS = {
    "day": ("day", "moment"),
    "moment": ("day", "moment"),
    "number": ("number",),
    "text": ("text",),
}


def _type(node: exp.Expr) -> str:
    kind = node.type
    return "UNKNOWN" if kind is None else str(kind.this.value)


def _kind(node: exp.Expr) -> str:
    return _KINDS.get(_type(node), "unknown")


def _is_text(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal) and bool(node.is_string)


def _typed(tree: exp.Expr, schemas: _Schemas) -> Any:
    """Resolve all names of a statement and tell the types of its expressions."""
    types: dict[str, object] = {
        name: {c: "UNKNOWN" if kind is None else str(kind) for c, kind in each.items()}
        for name, each in schemas.items()
    }
    schema = MappingSchema(types, dialect="duckdb")

    def annotated(tree: exp.Expr) -> exp.Expr:
        return annotate_types(tree, schema=schema, dialect="duckdb")

    typed = annotated(qualify(tree, dialect="duckdb", schema=schema))
    for node in _deepest_first(typed, exp.Sub):
        # Days between two dates, which are an interval in some engines.
        if _kind(node.this) == _kind(node.expression) == "day":
            left, right = node.this.copy(), node.expression.copy()
            node.replace(exp.DateDiff(this=left, expression=right, unit=exp.var("DAY")))
            typed = annotated(typed)
    return typed


def _refuse_unknown(recipe: SnapshotRecipe, schemas: _Schemas, dialect: str) -> None:
    """Refuse SQL of the recipe that isn't known to mean the same in a dialect, place by place."""
    wrong = list[str]()
    fragments = [
        (place, f"select 1 from {quoted(source)} where ({text}\n)", {source: schemas[source]})
        for place, source, text in conditions(recipe)
    ]
    fragments += [
        (f"features.{name}", str(rule.sql), dict(schemas))
        for name, rule in recipe.features.items()
        if rule.kind == "sql"
    ]
    for place, text, seen in fragments:
        found = dict.fromkeys(_oddities(text, seen))
        wrong += [f"{place}: {odd}" for odd in found]
    if wrong:
        raise RecipeError(
            f"{len(wrong)} of the recipe's expressions can't be said in {dialect} for certain",
            listing=[f"  - {text}" for text in wrong],
            problems=wrong,
            hint="bring it as a column of the source; docs/snapshots.md lists what can be said",
        )


def _oddities(text: str, schemas: _Schemas) -> Iterator[str]:
    """Say what in a text isn't known to mean the same in another dialect."""
    try:
        tree = sqlglot.parse_one(text, read="duckdb")
    except SqlglotError:
        yield "only DuckDB can read it"
        return
    odd = [
        node
        for node in tree.walk()
        if not isinstance(node, _KNOWN)
        or any(node.args.get(part) for part in _UNKNOWN_PARTS.get(type(node), ()))
        or (isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count))
        or (isinstance(node, exp.Join) and node.kind in ("SEMI", "ANTI", "POSITIONAL"))
    ]
    if odd:
        yield from (f"{_shown(node)} isn't known to be the same there" for node in odd[:1])
        return
    for node in tree.find_all(*_PREDICATES):
        if any(isinstance(each, (*_PREDICATES, exp.Not)) for each in node.iter_expressions()):
            yield f"{_shown(node)} needs brackets: engines differ in what comes first"
    try:
        typed = _typed(tree, schemas)
    except SqlglotError as err:
        yield f"its names can't be told apart: {str(err).partition(chr(10))[0]}"
        return
    for node in typed.walk():
        if not _fits(node):
            yield f"what kind of values {_shown(node)} takes differs there"


def _shown(node: exp.Expr) -> str:
    text = " ".join(node.sql(dialect="duckdb").split())
    return f'"{text[:60]}{"..." if len(text) > 60 else ""}"'


def _fits(node: exp.Expr) -> bool:
    """Whether an operator's values are of kinds for which engines agree."""
    kind = _kind(node.this) if isinstance(node.this, exp.Expr) else ""
    other = _kind(node.expression) if isinstance(node.args.get("expression"), exp.Expr) else ""
    for kinds, fits in (
        ((exp.And, exp.Or), {kind, other} <= {"flag", "null"}),
        ((exp.Not, exp.Where, exp.Having, exp.If), kind in ("flag", "null")),
        ((exp.Mul, exp.Div), kind == other == "number"),
        ((exp.Neg, exp.Abs, exp.Sum, exp.Avg), kind == "number"),
        ((exp.Min, exp.Max), kind != "unknown"),
        ((exp.DateDiff,), kind == other == "day" and str(node.args.get("unit")).upper() == "DAY"),
    ):
        if isinstance(node, kinds) and not fits:
            return False
    if isinstance(node, exp.Div):
        # In DuckDB a division by 0 is infinite, elsewhere an error.
        divisor = node.expression.unnest()
        return isinstance(divisor, exp.Nullif) or (divisor.is_number and float(divisor.name) != 0)
    if isinstance(node, exp.Add | exp.Sub):
        return kind == other == "number" or (kind in ("day", "moment") and other == "interval")
    if isinstance(node, exp.Interval):
        return str(node.unit).upper() in ("DAY", "MONTH") and node.this.name.isdigit()
    if isinstance(node, exp.Cast):
        return _casts(node)
    return _one_kind(node)


def _others(node: exp.Expr) -> list[exp.Expr]:
    """Return what a value is compared with."""
    if isinstance(node, exp.Between):
        return [node.args["low"], node.args["high"]]
    if isinstance(node, exp.In):
        query = node.args.get("query")
        return [query.unnest().selects[0]] if query is not None else list(node.expressions)
    return [node.expression]


def _one_kind(node: exp.Expr) -> bool:
    """Whether the values that are compared, or one of which comes out, are of one kind.

    Days may be compared with moments, and either with a text that stands for one.
    """
    if isinstance(node, (*_COMPARED, exp.Between, exp.In)):
        values = [node.this, *_others(node)]
    elif isinstance(node, exp.Coalesce):
        values = [node.this, *node.expressions]
    elif isinstance(node, exp.Nullif):
        values = [node.this, node.expression]
    elif isinstance(node, exp.Case):
        values = [each.args["true"] for each in node.args["ifs"]]
        values += [node.args["default"]] if node.args.get("default") else []
    else:
        return True
    kinds = {_kind(each) for each in values} - {"null"}
    if isinstance(node, (*_COMPARED, exp.Between, exp.In)) and "unknown" not in kinds:
        typed = {_kind(each) for each in values if not _is_text(each)} - {"null"}
        if typed and typed <= {"day", "moment"}:
            return True
    return len(kinds - {"unknown"}) <= 1 and "unknown" not in kinds


def _casts(node: exp.Cast) -> bool:
    to, value = _KINDS.get(str(node.to.this.value), "unknown"), node.this
    if _is_text(value) and to in ("day", "moment"):
        return True
    if to == "text":
        return _kind(value) == "text" or _type(value) in _WHOLE
    if str(node.to.this.value) in _WHOLE:
        return _type(value) in _WHOLE
    return _kind(value) in _CASTS.get(to, ())


# ---- the statement -------------------------------------------------------------------------------


@dataclass(frozen=True)
class WarehouseSelect:
    """The SELECT of one date."""

    sql: str
    days: SnapshotDays


def warehouse_selects(
    recipe: SnapshotRecipe,
    days: Sequence[date],
    tables: Mapping[str, str],
    *,
    dialect: str = "duckdb",
    **options: Any,
) -> dict[date, WarehouseSelect]:
    """Return by date the SELECT of its account table over a warehouse's tables.

    Parameters
    ----------
    recipe, days
        The recipe, and the dates.
    tables
        By source its table, as the dialect writes it; `source_tables` gives them.
    dialect
        One of `DIALECTS`.
    options
        Those of `history`. Sources are opened here too: they say which types columns have, whether
        the history contradicts itself, and until when outcomes are known.

    Raises
    ------
    UsageError
        If there is no such dialect, or it can't hold a name.
    RecipeError
        If SQL of the recipe's own isn't known to mean the same in the dialect.
    """
    if dialect not in DIALECTS:
        likely = nearest(dialect, DIALECTS)
        raise UsageError(
            f'no dialect "{dialect}" for snapshots; there are {", ".join(DIALECTS)}',
            hint=f"--dialect {likely or DIALECTS[0]}",
        )
    with history(recipe, **options) as opened:
        refuse_unsettled(conflicts(opened))
        described = {
            name: {row[0]: row[1] for row in opened.ask(f"describe {quoted(f'{RAW}{name}')}")}
            for name in recipe.sources
        }
        schemas: _Schemas = {
            name: {column: _cast_type(kind) for column, kind in each.items()}
            for name, each in described.items()
        }
        zoned = {
            (name, column)
            for name, each in described.items()
            for column, kind in each.items()
            if kind == "TIMESTAMP WITH TIME ZONE"
        }
        if dialect != "duckdb":
            _refuse_unknown(recipe, schemas, dialect)
        stated = {day: opened.statement(day) for day in days}
        return {
            day: WarehouseSelect(_select(text, schemas, zoned, tables, dialect), span)
            for day, (text, span) in stated.items()
        }


def _select(
    text: str,
    schemas: _Schemas,
    zoned: set[tuple[str, str]],
    tables: Mapping[str, str],
    dialect: str,
) -> str:
    """Say one statement of DuckDB's in a dialect."""
    tree = sqlglot.parse_one(text, read="duckdb")
    assert isinstance(tree, exp.Select)
    written = {each.name.lower() for each in tree.find_all(exp.Identifier)}
    if taken := sorted(name for name in written if name.startswith(_OWN)):
        raise UsageError(
            f'names that begin with "{_OWN}" are those of the statement itself: {culprits(taken)}',
            hint="rename them",
        )
    names = [each.alias_or_name for each in tree.selects]
    _newest_values(tree)
    _filters_to_cases(tree)
    for start in _deepest_first(tree, exp.TimestampTrunc):
        start.replace(_month_start(start.this.copy(), dialect))
    for shift in _deepest_first(tree, exp.Add, exp.Sub):
        if isinstance(shift.expression, exp.Interval):
            # As in DuckDB a day plus some time is a moment.
            shift.set("this", exp.cast(shift.this, "timestamp"))
    # Of a source the columns alone that the statement names.
    used = {
        name: {column: kind for column, kind in each.items() if column.lower() in written}
        for name, each in schemas.items()
    }
    odd = [f"{n}.{c}" for n, each in used.items() for c, kind in each.items() if kind is None]
    if odd:
        raise UsageError(f"columns of a type that not every warehouse has: {culprits(odd)}")
    tree = _typed(tree, {f"{RAW}{name}": each for name, each in used.items()})
    for chosen, name in zip(tree.selects, names, strict=True):
        chosen.set("alias", exp.to_identifier(name, quoted=True))
    _rename(tree, schemas)
    raw = []
    for name, columns in used.items():
        select = exp.select().from_(table_name(tables[name], dialect))
        for column, kind in columns.items():
            value: exp.Expr = exp.Column(this=_folded(column, dialect))
            if (name, column) in zoned:
                value = _in_utc(value, dialect)
            assert kind is not None
            cast = exp.alias_(exp.cast(value, kind), column.lower(), quoted=True)
            select.select(cast, copy=False)
        alias = exp.TableAlias(this=exp.to_identifier(f"{_OWN}raw_{name.lower()}", quoted=True))
        raw.append(exp.CTE(this=select, alias=alias))
    ctes = tree.args["with_"]
    ctes.set("expressions", [*raw, *ctes.expressions])
    _alike(tree, dialect)
    _refuse_names(tree, names, dialect)
    said: str = tree.sql(dialect=dialect, pretty=True, comments=False)
    refuse_lost(tree, said, dialect)
    return said


def _deepest_first(tree: exp.Expr, *kinds: type[exp.Expr]) -> list[Any]:
    """Return all nodes of some kinds; each after those that it holds."""
    return list(tree.find_all(*kinds))[::-1]


def _case(condition: exp.Expr, value: exp.Expr) -> exp.Case:
    return exp.Case().when(condition.copy(), value.copy())


def _newest_values(tree: exp.Select) -> None:
    """Say the value of an account's last row without a struct, which few engines can compare.

    It is the largest value of the rows whose moment is the newest of their account.
    """
    for number, dot in enumerate(tree.find_all(exp.Dot)):
        struct, filtered, select = dot.find(exp.Struct), dot.find(exp.Filter), dot.parent_select
        assert isinstance(struct, exp.Struct)
        assert isinstance(select, exp.Select)
        at, _, value = (each.expression for each in struct.expressions)
        asked = exp.true() if filtered is None else filtered.expression.this
        name = f"{_OWN}newest_{number}"
        newest = exp.Window(
            this=exp.Max(this=_case(asked, at)), partition_by=[select.selects[0].this.copy()]
        )
        is_newest = exp.and_(exp.paren(asked.copy()), exp.EQ(this=at, expression=_named(name)))
        dot.replace(exp.Max(this=_case(is_newest, value)))
        source = select.args["from_"].this
        rows = exp.select("*", exp.alias_(newest, name, quoted=True)).from_(source.copy())
        source.replace(rows.subquery(exp.to_identifier(source.alias_or_name, quoted=True)))


def _named(name: str) -> exp.Column:
    return exp.column(name, quoted=True)


def _month_start(day: exp.Expr, dialect: str) -> exp.Expr:
    """Return the first day of a moment's month, as a day."""
    start: type[exp.Expr] = exp.DateTrunc
    if dialect == "postgres":
        # It would give a day a zone.
        start = exp.TimestampTrunc
    of = exp.cast(day, "timestamp" if dialect == "postgres" else "date")
    return exp.cast(start(this=of, unit=exp.var("MONTH")), "date")


def _filters_to_cases(tree: exp.Select) -> None:
    """Say FILTER, which Snowflake and BigQuery don't have, as a CASE inside the aggregate."""
    for node in _deepest_first(tree, exp.Filter):
        aggregate, asked = node.this, node.expression.this
        inner = aggregate.this
        if isinstance(inner, exp.Star):
            aggregate.set("this", _case(asked, exp.Literal.number(1)))
        elif isinstance(inner, exp.Distinct):
            inner.set("expressions", [_case(asked, each) for each in inner.expressions])
        else:
            aggregate.set("this", _case(asked, inner))
        node.replace(aggregate.copy())
    for node in _deepest_first(tree, exp.AnyValue):
        # It is of one row, or there is an error.
        whole = node.parent if isinstance(node.parent, exp.IgnoreNulls) else node
        whole.replace(exp.Max(this=node.this.copy()))


def _rename(tree: exp.Select, sources: Mapping[str, object]) -> None:
    """Give tables names that every dialect takes, and none that a warehouse's table has."""
    seen = {name.lower() for name in sources}
    for node in tree.find_all(exp.Table, exp.CTE):
        own = node.this if isinstance(node, exp.Table) else node.args["alias"].this
        if own.name in seen:
            own.set("this", f"{_OWN}seen_{own.name}")
    for node in tree.find_all(exp.Identifier):
        node.set("this", node.name.replace(RAW, f"{_OWN}raw_").replace(":", "_"))


def _refuse_names(tree: exp.Select, names: list[str], dialect: str) -> None:
    """Refuse names that a dialect cuts short, or doesn't take for a column."""
    longest = LONGEST_NAME.get(dialect, 1 << 30)
    all_names = {each.name for each in tree.find_all(exp.Identifier)}
    if long := sorted(name for name in all_names if len(name.encode()) > longest):
        raise UsageError(f"{dialect} cuts names off after {longest} bytes: {culprits(long)}")
    odd = [name for name in names if not _PLAIN.fullmatch(name)]
    if dialect == "bigquery" and odd:
        raise UsageError(
            f"bigquery has letters, digits and underscores alone in a column's name, got "
            f"{culprits(odd)}",
            hint="rename these features",
        )


# ---- raw tables ----------------------------------------------------------------------------------


def _cast_type(kind: str) -> exp.DataType | None:
    """Return the type that a column of DuckDB's type has in every dialect; None where it has none.

    Whole numbers are wide ones, and a moment is without a zone: one that has a zone is taken in
    UTC, as it is here.
    """
    bare = kind.partition("(")[0]
    if kind.endswith("]"):
        return None
    if bare in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"):
        bare = "BIGINT"
    elif bare in ("HUGEINT", "UHUGEINT", "UBIGINT"):
        bare = "DECIMAL(38, 0)"
    elif bare in ("FLOAT", "DOUBLE"):
        bare = "DOUBLE"
    elif bare.startswith("TIMESTAMP"):
        bare = "TIMESTAMP"
    elif bare in ("VARCHAR", "ENUM"):
        bare = "VARCHAR"
    elif bare == "DECIMAL":
        bare = kind
    elif bare not in ("BOOLEAN", "DATE"):
        return None
    return exp.DataType.build(bare, dialect="duckdb")


def _folded(name: str, dialect: str) -> exp.Identifier:
    """Quote a column's name as the dialect holds one that was made without quotes.

    A name in small and capital letters is taken as it stands.
    """
    if name in (name.lower(), name.upper()) and _PLAIN.fullmatch(name):
        name = {"snowflake": name.upper(), "postgres": name.lower()}.get(dialect, name)
    return exp.to_identifier(name, quoted=True)


def _in_utc(moment: exp.Expr, dialect: str) -> exp.Expr:
    """Return the day and time in UTC of a moment with a zone, whatever a session's own zone is."""
    utc = exp.Literal.string("UTC")
    if dialect == "snowflake":
        return exp.Anonymous(this="CONVERT_TIMEZONE", expressions=[utc, moment])
    if dialect == "bigquery":
        return exp.Anonymous(this="DATETIME", expressions=[moment, utc])
    if dialect == "databricks":
        start = exp.cast(exp.Literal.string("1970-01-01 00:00:00"), "timestampntz")
        since = exp.Anonymous(this="UNIX_MICROS", expressions=[moment])
        return exp.Anonymous(
            this="TIMESTAMPADD", expressions=[exp.var("MICROSECOND"), since, start]
        )
    return exp.AtTimeZone(this=moment, zone=utc)


# ---- what engines understand differently ---------------------------------------------------------


def _alike(tree: exp.Select, dialect: str) -> None:
    """Write out whatever engines understand differently, by the types that are known."""
    for node in _deepest_first(tree, *_COMPARED, exp.Between, exp.In):
        _compare_moments([node.this, *_others(node)])
    for node in _deepest_first(tree, exp.Avg):
        total = exp.cast(exp.Sum(this=node.this.copy()), "double")
        zero = exp.Nullif(this=exp.Count(this=node.this.copy()), expression=exp.Literal.number(0))
        node.replace(exp.paren(exp.Div(this=total, expression=zero)))
    for node in _deepest_first(tree, exp.Div):
        # DuckDB divides as doubles; elsewhere whole numbers and decimals give their own kind. No
        # divisor is 0, so that nothing needs to be said of that.
        if not node.this.is_type("double") and not node.expression.is_type("double"):
            node.set("this", exp.cast(node.this.copy(), "double"))
        node.args |= {"typed": False, "safe": False}
    for node in _deepest_first(tree, exp.Min, exp.Max):
        if _kind(node.this) == "flag":
            flag = exp.LogicalOr if isinstance(node, exp.Max) else exp.LogicalAnd
            node.replace(flag(this=node.this.copy()))
    for node in _deepest_first(tree, exp.Anonymous):
        if node.name.lower() == "error":
            _raise_error(node, dialect)
    if dialect == "duckdb":
        return
    for node in tree.find_all(exp.DataType):
        if node.this == exp.DataType.Type.TIMESTAMP:
            node.set("this", exp.DataType.Type.TIMESTAMPNTZ)
    own = {
        "postgres": _alike_in_postgres,
        "snowflake": _alike_in_snowflake,
        "bigquery": _alike_in_bigquery,
    }
    if dialect in own:
        own[dialect](tree)


def _compare_moments(values: list[exp.Expr]) -> None:
    """Make days moments where they are compared with some, and texts what they stand for."""
    kinds = {_kind(each) for each in values if not _is_text(each)}
    if not kinds & {"day", "moment"}:
        return
    to = "timestamp" if "moment" in kinds else "date"
    for each in values:
        if _is_text(each) or (to == "timestamp" and _kind(each) == "day"):
            each.replace(exp.cast(each.copy(), to))


def _raise_error(node: exp.Anonymous, dialect: str) -> None:
    """Raise the error of a CASE in a dialect's own way; without one, by a text that is no number.

    It holds the account, so that no engine can work it out beforehand.
    """
    if dialect in ("duckdb", "bigquery", "databricks"):
        node.set("this", "RAISE_ERROR" if dialect == "databricks" else "ERROR")
        return
    case = node.find_ancestor(exp.Case)
    assert isinstance(case, exp.Case)
    asked = case.args["ifs"][0].this
    account = exp.column("account", table=asked.this.args["table"].copy(), quoted=True)
    message = exp.DPipe(
        this=account, expression=exp.Literal.string(f": {node.expressions[0].name}")
    )
    number = _case(asked, message).else_(exp.Literal.string("0"))
    fine = exp.EQ(this=exp.cast(number, "int"), expression=exp.Literal.number(0))
    case.replace(_case(fine, case.args["default"]))


def _alike_in_postgres(tree: exp.Select) -> None:
    """Say decimals of doubles without loss, and texts in the order of their bytes."""
    for node in _deepest_first(tree, exp.Cast):
        if node.to.is_type("decimal") and node.this.unnest().is_type("double"):
            # By way of text, since a double would lose all but 15 of its digits.
            node.set("this", exp.cast(node.this.copy(), "text"))
        elif node.to.is_type("varchar", "text") and node.parent.key != "cast":
            # The order of its texts is the server's, elsewhere that of their bytes.
            binary = exp.to_identifier("C", quoted=True)
            node.replace(exp.Collate(this=node.copy(), expression=binary))


def _alike_in_snowflake(tree: exp.Select) -> None:
    """Say a moment and a length of time as DATEADD, whose months end as they do here."""
    for node in _deepest_first(tree, exp.Add, exp.Sub):
        if isinstance(node.expression, exp.Interval):
            length = node.expression
            number: exp.Expr = exp.Literal.number(length.this.name)
            if isinstance(node, exp.Sub):
                number = exp.Neg(this=number)
            unit = length.args["unit"].copy()
            node.replace(exp.DateAdd(this=node.this.copy(), expression=number, unit=unit))


def _alike_in_bigquery(tree: exp.Select) -> None:
    """Say decimals without a scale, since none there is as wide as ours; a function rounds them."""
    for node in _deepest_first(tree, exp.Cast):
        if node.to.is_type("decimal"):
            scale = node.to.expressions[1].this.copy()
            wide = exp.cast(node.this.copy(), "bigdecimal")
            node.replace(exp.Round(this=wide, decimals=scale))
