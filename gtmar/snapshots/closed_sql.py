"""SQL that a person writes in a recipe: it reaches the rows that a date could see, and no others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gtmar.errors import RecipeError, culprits

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import duckdb

__all__ = ["refuse_condition", "refuse_select"]

#: Functions whose value is another on another day, or in another run.
_UNSTEADY = frozenset(
    {
        *("now", "today", "current_date", "current_timestamp", "current_time", "get_current_time"),
        *("get_current_timestamp", "transaction_timestamp", "localtime", "localtimestamp"),
        *("random", "uuid", "gen_random_uuid", "uuidv4", "uuidv7", "setseed", "nextval", "currval"),
        *("getvariable", "current_setting", "getenv", "query", "query_table"),
    }
)
_TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series"})


def _tree(connection: duckdb.DuckDBPyConnection, text: str, place: str) -> Any:
    """Parse one SELECT to plain data."""
    [row] = connection.execute("select json_serialize_sql(?)", [text]).fetchall()
    tree = json.loads(row[0])
    if tree.get("error"):
        reason = str(tree.get("error_message", "")).partition("\n")[0]
        raise RecipeError(f"{place}: not readable as SQL: {reason}")
    if len(tree["statements"]) != 1:
        raise RecipeError(f"{place}: expected one SELECT, got {len(tree['statements'])}")
    return tree["statements"][0]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _refuse_unsteady(tree: Any, place: str) -> None:
    wrong = sorted(
        {
            str(node.get("function_name") or node.get("column_names", [""])[-1]).lower()
            for node in _nodes(tree)
            if node.get("class") in ("FUNCTION", "COLUMN_REF", "WINDOW")
        }
        & _UNSTEADY
    )
    if wrong:
        raise RecipeError(
            f"{place}: {culprits(wrong)} may give another value another day",
            hint="count from the snapshot date by a feature of days_since or last",
        )


def refuse_select(
    connection: duckdb.DuckDBPyConnection, text: str, sources: Collection[str], place: str
) -> None:
    """Refuse a SELECT that names a table other than the recipe's sources, by a `RecipeError`."""
    tree = _tree(connection, text, place)
    own = {
        each["key"].lower()
        for node in _nodes(tree)
        for each in (node.get("cte_map") or {}).get("map", [])
    }
    known = {name.lower() for name in sources} | own
    for node in _nodes(tree):
        kind = node.get("type")
        if kind == "BASE_TABLE":
            qualified = node.get("schema_name") or node.get("catalog_name")
            if qualified or str(node["table_name"]).lower() not in known:
                raise RecipeError(
                    f'{place}: there is no source "{node["table_name"]}"',
                    hint=f"sources are {', '.join(sources)}",
                )
        elif kind == "TABLE_FUNCTION":
            name = str(node["function"]["function_name"]).lower()
            if name not in _TABLE_FUNCTIONS:
                raise RecipeError(f'{place}: "{name}" reads what no source of the recipe is')
    shadowing = own & {name.lower() for name in sources}
    if shadowing:
        raise RecipeError(f"{place}: {culprits(sorted(shadowing))} is a source's name already")
    _refuse_unsteady(tree, place)


def refuse_condition(connection: duckdb.DuckDBPyConnection, text: str, place: str) -> None:
    """Refuse a condition that is more than one over the columns of its row, by a `RecipeError`."""
    tree = _tree(connection, f"select 1 where ({text}\n)", place)
    if any(node.get("class") == "SUBQUERY" or "table_name" in node for node in _nodes(tree["node"]["where_clause"])):
        raise RecipeError(f"{place}: a condition reads the columns of its own row alone")
    if any(tree["node"].get(part) for part in ("group_expressions", "having", "qualify")):
        raise RecipeError(f"{place}: expected a condition")
    _refuse_unsteady(tree, place)
