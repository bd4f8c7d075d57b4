"""Translate a snapshot's SELECT from DuckDB to the dialect of a warehouse, with sqlglot.

The statement starts with one CTE per source, `gtmar_raw_SOURCE`, that casts each column to the type
it has in DuckDB. So all types are known, and constructs that engines interpret differently are
written out: divisions, comparisons of dates with timestamps, the text order of PostgreSQL. The
recipe's own SQL is accepted only if it is known to mean the same everywhere (`known_sql`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import sqlglot
from sqlglot import exp

from gtmar.data.locations import quoted
from gtmar.errors import UsageError, culprits, did_you_mean
from gtmar.integrations.portable_sql import (
    COMPARED,
    Schemas,
    compared_with,
    deepest_first,
    is_text,
    kind_of,
    refuse_unknown,
    typed,
)
from gtmar.integrations.sql import LONGEST_NAME, refuse_dialect, refuse_lost, table_name
from gtmar.snapshots.conflicts import conflicts, refuse_unsettled
from gtmar.snapshots.raw_history import history
from gtmar.snapshots.recipe import RateTable, RawTable, SnapshotRecipe
from gtmar.snapshots.statement import RATES, RAW, SnapshotDays

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date


__all__ = ["DIALECTS", "WarehouseSelect", "source_tables", "warehouse_selects"]

#: Dialects that a snapshot's SELECT can be written in.
DIALECTS = ("duckdb", "postgres", "snowflake", "bigquery", "databricks")
_OWN = "gtmar_"
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: The table of rates by date: its name for ``--table``, and its name in the statement.
_RATES_PLACE, _RATES = "revenue.rates", RATES.removeprefix(RAW)

# ---- which table is a source ---------------------------------------------------------------------


def source_tables(recipe: SnapshotRecipe, given: Sequence[str] = ()) -> dict[str, str]:
    """Return the warehouse table of each source, by source.

    Tables are taken from `given`, texts of the form ``SOURCE=TABLE``. The default is the name of
    the source's file, folder or table: ``subs`` for ``exports/subs.parquet``.

    Raises
    ------
    UsageError
        If `given` names an unknown source, or a source without a given table has a name that is no
        plain identifier, or a `query`, whose result must exist as a table in the warehouse.
    """
    names = dict(text.partition("=")[::2] for text in given)
    wrong = [f'"{text}" is no SOURCE=TABLE' for text in given if not text.partition("=")[2]]
    all_tables: dict[str, RawTable | RateTable] = {**recipe.sources, **_beside(recipe)}
    wrong += [
        f'there is no source "{name}"{did_you_mean(name, all_tables, before="; ")}'
        for name in names
        if name not in all_tables
    ]
    for name, source in all_tables.items():
        if name in names:
            continue
        names[name] = _stem(source.data or "")
        if getattr(source, "query", None) is not None:
            wrong.append(f'source "{name}" has a query, whose rows a warehouse must bring')
        elif not all(_PLAIN.fullmatch(part) for part in names[name].split(".")):
            wrong.append(f'source "{name}": the name of its table can\'t be told')
    if wrong:
        raise UsageError("; ".join(wrong), hint="--table SOURCE=TABLE says which table a source is")
    return names


def _beside(recipe: SnapshotRecipe) -> dict[str, RateTable]:
    """Return the recipe's table of rates, if any, by its path in the recipe."""
    rates = recipe.revenue.shape.rates
    return {_RATES_PLACE: rates} if isinstance(rates, RateTable) else {}


def _stem(data: str) -> str:
    """Return the name of a file, a folder or a table, without its extension."""
    if tables := parse_qs(urlsplit(data).query).get("table"):
        return tables[0]
    parts = [part for part in PurePosixPath(data).parts if not set(part) & set("*?=")]
    return parts[-1].removeprefix("delta:").partition(".")[0] if parts else ""


# ---- the statement -------------------------------------------------------------------------------


@dataclass(frozen=True)
class WarehouseSelect:
    """The SELECT of one date in a dialect."""

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
    """Return the SELECTs that build a recipe's account tables in a warehouse, by date.

    Parameters
    ----------
    recipe, days
        The recipe, and the dates.
    tables
        By source, its table as the dialect writes it; from `source_tables`.
    dialect
        One of `DIALECTS`.
    options
        Those of `history`. The sources are opened for the types of their columns, to check the
        history for contradictions, and to find the day until which outcomes are known.

    Raises
    ------
    UsageError
        If the dialect is unknown, or can't represent a name or a column's type.
    RecipeError
        If the recipe's own SQL isn't known to mean the same in the dialect.
    AccountDataError
        As for `history`, and if the history has contradictions without a rule.
    """
    refuse_dialect(dialect, DIALECTS, " for snapshots")
    with history(recipe, **options) as opened:
        refuse_unsettled(conflicts(opened))
        described = {
            name: {row[0]: row[1] for row in opened.ask(f"describe {quoted(f'{RAW}{name}')}")}
            for name in (*recipe.sources, *(_RATES for _ in _beside(recipe)))
        }
        schemas: Schemas = {
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
            refuse_unknown(recipe, schemas, dialect)
        tables = {_RATES if name == _RATES_PLACE else name: each for name, each in tables.items()}
        stated = {day: opened.statement(day) for day in days}
        return {
            day: WarehouseSelect(_select(text, schemas, zoned, tables, dialect), span)
            for day, (text, span) in stated.items()
        }


def _select(
    text: str,
    schemas: Schemas,
    zoned: set[tuple[str, str]],
    tables: Mapping[str, str],
    dialect: str,
) -> str:
    """Translate one DuckDB statement; `zoned` has sources and columns with a time zone."""
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
    for start in deepest_first(tree, exp.TimestampTrunc):
        start.replace(_month_start(start.this.copy(), dialect))
    for shift in deepest_first(tree, exp.Add, exp.Sub):
        if isinstance(shift.expression, exp.Interval):
            # In DuckDB, a date plus an interval is a timestamp.
            shift.set("this", exp.cast(shift.this, "timestamp"))
    # Only the columns that the statement names are read from a source.
    used = {
        name: {column: kind for column, kind in each.items() if column.lower() in written}
        for name, each in schemas.items()
    }
    odd = [f"{n}.{c}" for n, each in used.items() for c, kind in each.items() if kind is None]
    if odd:
        raise UsageError(f"columns of a type that not every warehouse has: {culprits(odd)}")
    tree = typed(tree, {f"{RAW}{name}": each for name, each in used.items()})
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
        own = f"{_OWN}raw_{name.lower().replace(' ', '_')}"
        alias = exp.TableAlias(this=exp.to_identifier(own, quoted=True))
        raw.append(exp.CTE(this=select, alias=alias))
    ctes = tree.args["with_"]
    ctes.set("expressions", [*raw, *ctes.expressions])
    _alike(tree, dialect)
    _refuse_names(tree, names, dialect)
    statement: str = tree.sql(dialect=dialect, pretty=True, comments=False)
    refuse_lost(tree, statement, dialect)
    return statement


def _case(condition: exp.Expr, value: exp.Expr) -> exp.Case:
    return exp.Case().when(condition.copy(), value.copy())


def _newest_values(tree: exp.Select) -> None:
    """Rewrite `latest` features without a struct, which few engines can compare.

    The value is the largest one among the account's rows with its newest time.
    """
    for number, dot in enumerate(tree.find_all(exp.Dot)):
        struct, filtered, select = dot.find(exp.Struct), dot.find(exp.Filter), dot.parent_select
        assert isinstance(struct, exp.Struct)
        assert isinstance(select, exp.Select)
        at, _, value = (each.expression for each in struct.expressions)
        condition = exp.true() if filtered is None else filtered.expression.this
        name = f"{_OWN}newest_{number}"
        newest = exp.Window(
            this=exp.Max(this=_case(condition, at)), partition_by=[select.selects[0].this.copy()]
        )
        newest_at = exp.EQ(this=at, expression=exp.column(name, quoted=True))
        is_newest = exp.and_(exp.paren(condition.copy()), newest_at)
        dot.replace(exp.Max(this=_case(is_newest, value)))
        source = select.args["from_"].this
        rows = exp.select("*", exp.alias_(newest, name, quoted=True)).from_(source.copy())
        source.replace(rows.subquery(exp.to_identifier(source.alias_or_name, quoted=True)))


def _month_start(day: exp.Expr, dialect: str) -> exp.Expr:
    """Return the first day of a timestamp's month, as a date."""
    start: type[exp.Expr] = exp.DateTrunc
    if dialect == "postgres":
        # PostgreSQL's date_trunc would add a time zone to a date.
        start = exp.TimestampTrunc
    of = exp.cast(day, "timestamp" if dialect == "postgres" else "date")
    return exp.cast(start(this=of, unit=exp.var("MONTH")), "date")


def _filters_to_cases(tree: exp.Select) -> None:
    """Rewrite FILTER, which Snowflake and BigQuery lack, as a CASE inside the aggregate."""
    for node in deepest_first(tree, exp.Filter):
        aggregate, condition = node.this, node.expression.this
        inner = aggregate.this
        if isinstance(inner, exp.Star):
            aggregate.set("this", _case(condition, exp.Literal.number(1)))
        elif isinstance(inner, exp.Distinct):
            inner.set("expressions", [_case(condition, each) for each in inner.expressions])
        else:
            aggregate.set("this", _case(condition, inner))
        node.replace(aggregate.copy())
    for node in deepest_first(tree, exp.AnyValue):
        # `any_value` is taken over one row (several raise an error), so `max` is the same.
        whole = node.parent if isinstance(node.parent, exp.IgnoreNulls) else node
        whole.replace(exp.Max(this=node.this.copy()))


def _rename(tree: exp.Select, sources: Mapping[str, object]) -> None:
    """Rename tables so that every dialect allows the names and none hides a warehouse's table."""
    seen = {name.lower() for name in sources}
    for node in tree.find_all(exp.Table, exp.CTE):
        own = node.this if isinstance(node, exp.Table) else node.args["alias"].this
        if own.name in seen:
            own.set("this", f"{_OWN}seen_{own.name}")
    for node in tree.find_all(exp.Identifier):
        name = node.name.replace(RATES, RATES.replace(" ", "_"))
        node.set("this", name.replace(RAW, f"{_OWN}raw_").replace(":", "_"))


def _refuse_names(tree: exp.Select, names: list[str], dialect: str) -> None:
    """Refuse names that a dialect truncates, or doesn't allow for a column."""
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


#: By DuckDB's type of a column, a type that every dialect has. Integers become wide ones, and
#: timestamps lose their zone (in `_cast_type`) after conversion to UTC.
_CASTS = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT"), "BIGINT"),
    **dict.fromkeys(("UTINYINT", "USMALLINT", "UINTEGER"), "BIGINT"),
    **dict.fromkeys(("HUGEINT", "UHUGEINT", "UBIGINT"), "DECIMAL(38, 0)"),
    **dict.fromkeys(("FLOAT", "DOUBLE"), "DOUBLE"),
    **dict.fromkeys(("VARCHAR", "ENUM"), "VARCHAR"),
    **{kind: kind for kind in ("BOOLEAN", "DATE")},
}


def _cast_type(kind: str) -> exp.DataType | None:
    """Return the type that a column is cast to in every dialect; None if some dialect lacks it."""
    bare = kind.partition("(")[0]
    to = kind if bare == "DECIMAL" else _CASTS.get(bare)
    if bare.startswith("TIMESTAMP"):
        to = "TIMESTAMP"
    return None if to is None or kind.endswith("]") else exp.DataType.build(to, dialect="duckdb")


def _folded(name: str, dialect: str) -> exp.Identifier:
    """Quote a column's name in the case in which the dialect stores unquoted names.

    A name in mixed case is kept as it is.
    """
    if name in (name.lower(), name.upper()) and _PLAIN.fullmatch(name):
        name = {"snowflake": name.upper(), "postgres": name.lower()}.get(dialect, name)
    return exp.to_identifier(name, quoted=True)


def _in_utc(moment: exp.Expr, dialect: str) -> exp.Expr:
    """Convert a timestamp with a zone to one in UTC without a zone, whatever the session's zone."""
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


# ---- constructs that engines interpret differently -----------------------------------------------


def _alike(tree: exp.Select, dialect: str) -> None:
    """Rewrite constructs that engines interpret differently, given the types of expressions."""
    for node in deepest_first(tree, *COMPARED, exp.Between, exp.In):
        _compare_moments([node.this, *compared_with(node)])
    _alike_in_truth(tree)
    for node in deepest_first(tree, exp.Avg):
        total = exp.cast(exp.Sum(this=node.this.copy()), "double")
        zero = exp.Nullif(this=exp.Count(this=node.this.copy()), expression=exp.Literal.number(0))
        node.replace(exp.paren(exp.Div(this=total, expression=zero)))
    for node in deepest_first(tree, exp.Div):
        # DuckDB divides as doubles; elsewhere integers and decimals give integers and decimals. No
        # divisor is 0, so division by zero needs no handling.
        if not node.this.is_type("double") and not node.expression.is_type("double"):
            node.set("this", exp.cast(node.this.copy(), "double"))
        node.args |= {"typed": False, "safe": False}
    for node in deepest_first(tree, exp.Min, exp.Max):
        if kind_of(node.this) == "flag":
            flag = exp.LogicalOr if isinstance(node, exp.Max) else exp.LogicalAnd
            node.replace(flag(this=node.this.copy()))
    for node in deepest_first(tree, exp.Anonymous):
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
        "databricks": _alike_in_databricks,
    }
    if dialect in own:
        own[dialect](tree)


def _alike_in_truth(tree: exp.Select) -> None:
    """Bring the values of each CASE to one type, and rewrite IS TRUE and IS FALSE without IS."""
    for node in deepest_first(tree, exp.Case):
        given = [*(each.args["true"] for each in node.args["ifs"]), node.args.get("default")]
        _compare_moments([each for each in given if each is not None])
    for node in deepest_first(tree, exp.Is):
        if isinstance(node.expression, exp.Boolean):
            # Not every dialect has IS TRUE, and sqlglot would drop it for Snowflake.
            true = bool(node.expression.this)
            known = exp.Coalesce(this=node.this.copy(), expressions=[exp.Boolean(this=not true)])
            node.replace(known if true else exp.not_(known))


def _compare_moments(values: list[exp.Expr]) -> None:
    """Cast dates to timestamps if they are compared with some, and literals to the same type."""
    kinds = {kind_of(each) for each in values if not is_text(each)}
    if not kinds & {"day", "moment"}:
        return
    to = "timestamp" if "moment" in kinds else "date"
    for each in values:
        if is_text(each) or (to == "timestamp" and kind_of(each) == "day"):
            each.replace(exp.cast(each.copy(), to))


def _raise_error(node: exp.Anonymous, dialect: str) -> None:
    """Write a call of `error` as the dialect raises errors; else cast a text to a number.

    The text contains the account, so that no engine can evaluate the cast while planning.
    """
    if dialect in ("duckdb", "bigquery", "databricks"):
        node.set("this", "RAISE_ERROR" if dialect == "databricks" else "ERROR")
        return
    case = node.find_ancestor(exp.Case)
    assert isinstance(case, exp.Case)
    condition = case.args["ifs"][0].this
    account = exp.column("account", table=condition.this.args["table"].copy(), quoted=True)
    message = exp.DPipe(
        this=account, expression=exp.Literal.string(f": {node.expressions[0].name}")
    )
    number = _case(condition, message).else_(exp.Literal.string("0"))
    fine = exp.EQ(this=exp.cast(number, "int"), expression=exp.Literal.number(0))
    case.replace(_case(fine, case.args["default"]))


def _alike_in_postgres(tree: exp.Select) -> None:
    """Adapt to PostgreSQL: casts to decimals, byte order of text, intervals of columns."""
    for node in deepest_first(tree, exp.Interval):
        if (number := _of_a_column(node)) is not None:
            month = exp.Interval(this=exp.Literal.string("1"), unit=exp.var("MONTH"))
            node.replace(exp.paren(exp.Mul(this=number, expression=month)))
    for node in deepest_first(tree, exp.Cast):
        if node.to.is_type("decimal") and node.this.unnest().is_type("double"):
            # By way of text, since a direct cast would lose all but 15 digits.
            node.set("this", exp.cast(node.this.copy(), "text"))
        elif node.to.is_type("varchar", "text") and node.parent.key != "cast":
            # PostgreSQL compares text by the server's collation, other engines by bytes.
            binary = exp.to_identifier("C", quoted=True)
            node.replace(exp.Collate(this=node.copy(), expression=binary))


def _of_a_column(length: object) -> exp.Expr | None:
    """Return an interval's number of months as an integer if a column holds it, else None."""
    if isinstance(length, exp.Interval) and isinstance(length.this, exp.Paren):
        return exp.cast(length.this.this.copy(), "int")
    return None


def _alike_in_databricks(tree: exp.Select) -> None:
    """Adapt to Databricks: intervals of columns by a function, products of decimals exactly."""
    for node in deepest_first(tree, exp.Interval):
        if (number := _of_a_column(node)) is not None:
            months = [exp.Literal.number(0), number]
            node.replace(exp.Anonymous(this="MAKE_YM_INTERVAL", expressions=months))
    for node in deepest_first(tree, exp.Mul):
        if all(each.is_type("decimal(38, 12)") for each in (node.this, node.expression)):
            # Databricks gives products of such wide decimals six decimals only, so they are
            # multiplied as integers.
            whole = sqlglot.parse_one(_EXACT_PRODUCT, read="databricks")
            factors = {"a": node.this.copy(), "b": node.expression.copy()}
            node.replace(exp.paren(exp.replace_placeholders(whole, **factors)))


#: Product of two decimals with twelve decimals, rounded to twelve; exact below ten trillion.
_EXACT_PRODUCT = """
    cast(round(cast(:a * 1000000000000 as decimal(38, 0)) * cast(:b * 1000000000000 as
    decimal(38, 0)), -12) / 1000000000000 as decimal(25, 0)) * 0.000000000001"""


def _alike_in_snowflake(tree: exp.Select) -> None:
    """Adapt to Snowflake: DATEADD, which ends months as DuckDB does, for added intervals."""
    for node in deepest_first(tree, exp.Add, exp.Sub):
        if isinstance(node.expression, exp.Interval):
            length = node.expression
            number = _of_a_column(length) or exp.Literal.number(length.this.name)
            if isinstance(node, exp.Sub):
                number = exp.Neg(this=number)
            unit = length.args["unit"].copy()
            node.replace(exp.DateAdd(this=node.this.copy(), expression=number, unit=unit))


def _alike_in_bigquery(tree: exp.Select) -> None:
    """Adapt to BigQuery: decimals without a scale, rounded by a function, since ours are wider."""
    for node in deepest_first(tree, exp.Interval):
        # BigQuery's intervals need a number, not a text.
        node.set("this", _of_a_column(node) or exp.Literal.number(node.this.name))
    for node in deepest_first(tree, exp.Cast):
        if node.to.is_type("decimal"):
            scale = node.to.expressions[1].this.copy()
            wide = exp.cast(node.this.copy(), "bigdecimal")
            node.replace(exp.Round(this=wide, decimals=scale))
