"""Check that a recipe's own SQL means the same in every warehouse, and infer a statement's types.

A condition or a SELECT is accepted if it consists only of constructs known to behave alike. All
others are refused by name, with their path in the recipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.schema import MappingSchema

from gtmar.data.locations import quoted
from gtmar.errors import RecipeError
from gtmar.snapshots.raw_history import conditions
from gtmar.sql_sandbox import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gtmar.snapshots.recipe import SnapshotRecipe

__all__ = [
    "COMPARED",
    "Schemas",
    "compared_with",
    "deepest_first",
    "is_text",
    "kind_of",
    "refuse_unknown",
    "typed",
]

#: By source and column, the type that the column is cast to; None if not every dialect has one.
Schemas: TypeAlias = "Mapping[str, Mapping[str, exp.DataType | None]]"


def deepest_first(tree: exp.Expr, *kinds: type[exp.Expr]) -> list[Any]:
    """Return all nodes of some kinds, children before their parents."""
    return list(tree.find_all(*kinds))[::-1]


COMPARED = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
_PREDICATES = (*COMPARED, exp.Is, exp.In, exp.Between)
#: Nodes allowed in a recipe's SQL for other dialects than DuckDB: they behave alike in all of them,
#: or `snapshot_sql` rewrites them so that they do.
_KNOWN = (
    *(exp.Select, exp.From, exp.Join, exp.Where, exp.Group, exp.Having, exp.Order, exp.Ordered),
    *(exp.Subquery, exp.With, exp.CTE, exp.Union, exp.Table, exp.TableAlias, exp.Alias),
    *(exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Paren, exp.Var),
    *(exp.And, exp.Or, exp.Not, *COMPARED, exp.Is, exp.In, exp.Between, exp.Exists),
    *(exp.Case, exp.If, exp.Coalesce, exp.Nullif, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Neg),
    *(exp.Abs, exp.Cast, exp.DataType, exp.DataTypeParam, exp.Interval, exp.DateDiff),
    *(exp.Count, exp.Sum, exp.Avg, exp.Min, exp.Max, exp.Distinct, exp.Filter),
    *(exp.Window, exp.RowNumber, exp.Star),
)
#: Arguments of those nodes that some dialects lack or interpret differently.
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
#: By a type's name, the kind of its values as operators distinguish them.
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


def kind_of(node: exp.Expr) -> str:
    """Return the kind of an expression's values, one of `_KINDS`, or `unknown`."""
    return _KINDS.get(_type(node), "unknown")


def is_text(node: exp.Expr) -> bool:
    """Whether an expression is a string literal."""
    return isinstance(node, exp.Literal) and bool(node.is_string)


def typed(tree: exp.Expr, schemas: Schemas) -> Any:
    """Resolve all names of a statement and annotate the types of its expressions."""
    types: dict[str, object] = {
        name: {c: "UNKNOWN" if kind is None else str(kind) for c, kind in each.items()}
        for name, each in schemas.items()
    }
    schema = MappingSchema(types, dialect="duckdb")

    def annotated(tree: exp.Expr) -> exp.Expr:
        return annotate_types(tree, schema=schema, dialect="duckdb")

    result = annotated(qualify(tree, dialect="duckdb", schema=schema))
    for node in deepest_first(result, exp.Sub):
        # A difference of dates is a number of days in DuckDB, an interval in some engines.
        if kind_of(node.this) == kind_of(node.expression) == "day":
            left, right = node.this.copy(), node.expression.copy()
            node.replace(exp.DateDiff(this=left, expression=right, unit=exp.var("DAY")))
            result = annotated(result)
    return result


def refuse_unknown(recipe: SnapshotRecipe, schemas: Schemas, dialect: str) -> None:
    """Raise `RecipeError` for all of the recipe's SQL not known to mean the same in a dialect."""
    wrong = list[str]()
    fragments = [
        (path, f"select 1 from {quoted(source)} where ({text}\n)", {source: schemas[source]})
        for path, source, text in conditions(recipe)
    ]
    fragments += [
        (f"features.{name}", str(rule.sql), dict(schemas))
        for name, rule in recipe.features.items()
        if rule.kind == "sql"
    ]
    for path, text, seen in fragments:
        odd_parts = dict.fromkeys(_oddities(text, seen))
        wrong += [f"{path}: {odd}" for odd in odd_parts]
    if wrong:
        raise RecipeError(
            f"{len(wrong)} of the recipe's expressions can't be said in {dialect} for certain",
            listing=[f"  - {text}" for text in wrong],
            problems=wrong,
            hint="bring it as a column of the source; docs/snapshots.md lists what can be said",
        )


def _oddities(text: str, schemas: Schemas) -> Iterator[str]:
    """Yield messages on the parts of a text that aren't known to mean the same elsewhere."""
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
        typed_tree = typed(tree, schemas)
    except SqlglotError as err:
        yield f"its names can't be told apart: {first_line(err)}"
        return
    for node in typed_tree.walk():
        if not _fits(node):
            yield f"what kind of values {_shown(node)} takes differs there"


def _shown(node: exp.Expr) -> str:
    text = " ".join(node.sql(dialect="duckdb").split())
    return f'"{text[:60]}{"..." if len(text) > 60 else ""}"'


def _fits(node: exp.Expr) -> bool:
    """Whether engines agree on an operator, given the kinds of its operands."""
    kind = kind_of(node.this) if isinstance(node.this, exp.Expr) else ""
    other = kind_of(node.expression) if isinstance(node.args.get("expression"), exp.Expr) else ""
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
        # DuckDB divides by 0 without an error, other engines raise one.
        divisor = node.expression.unnest()
        return isinstance(divisor, exp.Nullif) or (divisor.is_number and float(divisor.name) != 0)
    if isinstance(node, exp.Add | exp.Sub):
        return kind == other == "number" or (kind in ("day", "moment") and other == "interval")
    if isinstance(node, exp.Interval):
        return str(node.unit).upper() in ("DAY", "MONTH") and node.this.name.isdigit()
    if isinstance(node, exp.Cast):
        return _casts(node)
    return _one_kind(node)


def compared_with(node: exp.Expr) -> list[exp.Expr]:
    """Return the operands that the first one of a comparison, BETWEEN or IN is compared with."""
    if isinstance(node, exp.Between):
        return [node.args["low"], node.args["high"]]
    if isinstance(node, exp.In):
        query = node.args.get("query")
        return [query.unnest().selects[0]] if query is not None else list(node.expressions)
    return [node.expression]


def _one_kind(node: exp.Expr) -> bool:
    """Whether the operands of a comparison, or the possible values of an expression, are alike.

    Dates may be compared with timestamps, and both with string literals.
    """
    if isinstance(node, (*COMPARED, exp.Between, exp.In)):
        values = [node.this, *compared_with(node)]
    elif isinstance(node, exp.Coalesce):
        values = [node.this, *node.expressions]
    elif isinstance(node, exp.Nullif):
        values = [node.this, node.expression]
    elif isinstance(node, exp.Case):
        values = [each.args["true"] for each in node.args["ifs"]]
        values += [node.args["default"]] if node.args.get("default") else []
    else:
        return True
    kinds = {kind_of(each) for each in values} - {"null"}
    if isinstance(node, (*COMPARED, exp.Between, exp.In)) and "unknown" not in kinds:
        known = {kind_of(each) for each in values if not is_text(each)} - {"null"}
        if known and known <= {"day", "moment"}:
            return True
    return len(kinds - {"unknown"}) <= 1 and "unknown" not in kinds


def _casts(node: exp.Cast) -> bool:
    """Whether engines agree on a cast."""
    to, value = _KINDS.get(str(node.to.this.value), "unknown"), node.this
    if is_text(value) and to in ("day", "moment"):
        return True
    if to == "text":
        return kind_of(value) == "text" or _type(value) in _WHOLE
    if str(node.to.this.value) in _WHOLE:
        return _type(value) in _WHOLE
    return kind_of(value) in _CASTS.get(to, ())
