"""SQL of a recipe: it reaches the rows that a date could see, and no others."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from gtmar.errors import RecipeError, culprits

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import duckdb

__all__ = ["refuse_condition", "refuse_select"]

#: Functions whose value is another on another day, in another run or on another machine.
_UNSTEADY = frozenset(
    {
        *("now", "today", "get_current_time", "get_current_timestamp", "transaction_timestamp"),
        *("current_localtime", "current_localtimestamp", "random", "uuid", "gen_random_uuid"),
        *("uuidv4", "uuidv7", "setseed", "nextval", "currval", "setval", "getvariable", "getenv"),
        *("current_setting", "current_query", "current_query_id", "current_connection_id"),
        *("current_transaction_id", "txid_current", "current_database", "current_schemas"),
        *("in_search_path", "version", "sleep_ms", "write_log", "stats", "vector_type", "query"),
        *("query_table", "pg_postmaster_start_time", "pg_conf_load_time", "ago"),
        "reservoir_quantile",
        # These read what DuckDB knows of its views, the paths of the files among it.
        *("pg_get_viewdef", "pg_get_constraintdef", "format_type", "get_block_size"),
    }
)
#: Those that SQL lets stand without brackets.
_BARE = frozenset(
    {
        *("current_date", "current_timestamp", "current_time", "localtime", "localtimestamp"),
        *("current_user", "user", "session_user", "current_role", "current_catalog"),
        "current_schema",
    }
)
_TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series"})
#: What a FROM may hold; SHOW and whatever else comes is refused.
_FROM = frozenset({"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EMPTY", "EXPRESSION_LIST"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


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
    wrong = set()
    for node in _nodes(tree):
        if node.get("sample"):
            raise RecipeError(f"{place}: a sample is another one in another run")
        kind = node.get("class")
        if kind in ("FUNCTION", "WINDOW"):
            name = str(node.get("function_name", "")).lower()
            # Of one argument, age counts from today.
            since_today = name == "age" and len(node.get("arguments", ())) < 2
            if name in _UNSTEADY | _BARE or since_today:
                wrong.add(name)
        elif kind == "COLUMN_REF" and len(node["column_names"]) == 1:
            wrong |= {str(node["column_names"][0]).lower()} & _BARE
    if wrong:
        raise RecipeError(
            f"{place}: {culprits(sorted(wrong))} may give another value another day",
            hint="count from the snapshot date by a feature of days_since or last",
        )


def refuse_select(
    connection: duckdb.DuckDBPyConnection,
    text: str,
    sources: Collection[str],
    place: str,
    *,
    what: str = "source",
) -> None:
    """Refuse a SELECT that names a table other than those given, by a `RecipeError`.

    `what` is the word for one of them: a feature reads the recipe's sources, a source's query reads
    the tables of that source.
    """
    tree = _tree(connection, text, place)
    own = [
        str(each["key"])
        for node in _nodes(tree)
        for each in (node.get("cte_map") or {}).get("map", [])
    ]
    # Outside of where such a name is defined it would be a table's of the database.
    there = {
        str(row[0]).lower()
        for row in connection.execute(
            "select view_name from duckdb_views() union all select table_name from duckdb_tables()"
        ).fetchall()
    } | {name.lower() for name in sources}
    taken = sorted({n for n in own if n.lower() in there or not _NAME.fullmatch(n)})
    if taken:
        raise RecipeError(f"{place}: a WITH may not be named {culprits(taken)}: another table is")
    known = {name.lower() for name in (*sources, *own)}
    for node in _nodes(tree):
        kind = node.get("type")
        if kind == "BASE_TABLE":
            qualified = node.get("schema_name") or node.get("catalog_name")
            if qualified or str(node["table_name"]).lower() not in known:
                raise RecipeError(
                    f'{place}: there is no {what} "{node["table_name"]}"',
                    hint=f"{what}s are {', '.join(sources)}",
                )
        elif kind == "TABLE_FUNCTION":
            name = str(node["function"]["function_name"]).lower()
            if name not in _TABLE_FUNCTIONS:
                raise RecipeError(f'{place}: "{name}" reads what no source of the recipe is')
        for part in ("from_table", "left", "right"):
            child = node.get(part)
            if not isinstance(child, dict) or "class" in child:
                continue
            if (part == "from_table" or kind == "JOIN") and child["type"] not in _FROM:
                raise RecipeError(f"{place}: a FROM reads the recipe's sources alone")
    _refuse_unsteady(tree, place)


def refuse_condition(connection: duckdb.DuckDBPyConnection, text: str, place: str) -> None:
    """Refuse a condition that is more than one over the columns of its row, by a `RecipeError`."""
    # In brackets nothing may follow the condition; without, it can't close them.
    _tree(connection, f"select 1 where ({text}\n)", place)
    node = _tree(connection, f"select 1 where {text}\n", place)["node"]
    parts = ("group_expressions", "having", "qualify", "modifiers")
    if node["type"] != "SELECT_NODE" or any(node.get(part) for part in parts):
        raise RecipeError(f"{place}: expected a condition")
    found = list(_nodes(node["where_clause"]))
    if any(each.get("class") in ("SUBQUERY", "WINDOW") or "table_name" in each for each in found):
        raise RecipeError(f"{place}: a condition reads the columns of its own row alone")
    _refuse_unsteady(node["where_clause"], place)
