"""Export a spec or a recipe as dbt models: a SELECT over `ref` or `source`, and column tests."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gtmar import spec as specs
from gtmar.errors import UsageError
from gtmar.integrations.snapshot_sql import warehouse_selects
from gtmar.integrations.sql import select
from gtmar.snapshots.recipe import SnapshotRecipe, Span, recipe_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from gtmar.snapshots.statement import SnapshotDays
    from gtmar.spec.model import ScoringSpec

__all__ = ["DbtModel", "dbt_model", "snapshot_models"]

#: Placeholder for the table while sqlglot writes the statement, since dbt's reference is no SQL.
_TABLE = "gtmar_dbt_relation_6f1c"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class DbtModel:
    """The two files of a dbt model."""

    name: str
    #: Content of ``<name>.sql``: one SELECT with Jinja references.
    sql: str
    #: Content of ``<name>.yml``: descriptions and tests.
    yml: str


def dbt_model(
    spec: ScoringSpec,
    relation: str,
    *,
    dialect: str = "duckdb",
    name: str | None = None,
    as_of: str | None = None,
    kinds: Mapping[str, str] | None = None,
) -> DbtModel:
    """Return a dbt model that scores a relation.

    Parameters
    ----------
    spec
        The spec.
    relation
        A dbt model such as ``accounts``, referenced by ``ref``, or a table of a source such as
        ``crm.accounts``, referenced by ``source``.
    name
        Name of the new model; None for the spec's model name.
    dialect, as_of, kinds
        As for `sql.select`.

    Raises
    ------
    UsageError
        If dbt doesn't allow a name, or the spec can't be written in the dialect.
    """
    name = name or spec.model
    call = _reference(relation)
    if call is None or not _NAME.fullmatch(name):
        raise UsageError(
            f'dbt names are letters, digits and underscores, got model "{name}" over "{relation}"',
            hint="--name health_score, --relation accounts or --relation crm.accounts",
        )
    text = _no_jinja(select(spec, _TABLE, dialect=dialect, as_of=as_of, kinds=kinds))
    if text.count(_TABLE) != 1:
        raise UsageError(f'a name in the spec holds "{_TABLE}"', hint="rename it")
    heading = f"-- Written by gtmar from spec {specs.spec_id(spec)}; change the spec, not this."
    body = f"{heading}\n{text.replace(_TABLE, call)}\n"
    about = f"Scores of spec {specs.spec_id(spec)}, as gtmar score gives them."
    return DbtModel(name=name, sql=body, yml=_properties(name, about, _columns_of(spec)))


def _properties(name: str, about: str, columns: Iterable[Mapping[str, Any]]) -> str:
    """Write a model's properties as YAML, one line of JSON a column (JSON is valid YAML)."""
    lines = ["version: 2", "models:", f"  - name: {name}", f"    description: {json.dumps(about)}"]
    return "\n".join([*lines, "    columns:", *(f"      - {json.dumps(c)}" for c in columns), ""])


def _accepted(values: Sequence[object], **how: object) -> dict[str, Any]:
    """Return dbt's test that a column contains only these values."""
    return {"accepted_values": {"arguments": {"values": list(values), **how}}}


def _columns_of(spec: ScoringSpec) -> Iterator[dict[str, Any]]:
    """Yield description and tests of each column of a score.

    The model quotes all names, so the tests do too: Snowflake would look for "SCORE" otherwise. dbt
    inserts the names of tiers unescaped into SQL literals, so quotes and Jinja are escaped.
    """
    points = f"Points, from 0 to {spec.max_score}. Null where the account breaks the data contract."
    tiers = [_no_jinja(tier.replace("'", "''")) for tier in spec.tier_names]
    columns: list[tuple[str | None, str, list[Any]]] = [
        (spec.id, "The account.", ["unique", "not_null"]),
        ("score", points, ["not_null"]),
        ("tier", "The band of scores.", ["not_null", _accepted(tiers)]),
    ]
    if (calibration := specs.calibration_of(spec)) is not None:
        fitted = f"fitted {calibration.fitted} on {calibration.accounts:,} accounts"
        description = f"Of leaving, from 0 to 1; {fitted}."
        columns.append(("probability", description, ["not_null"]))
    for name, description, tests in columns:
        yield {"name": name, "description": description, "quote": True, "data_tests": tests}


def _no_jinja(text: str) -> str:
    """Escape names and texts that contain Jinja's opening marks."""
    return re.sub(r"\{[{%#]", lambda mark: f'{{{{ "{mark[0]}" }}}}', text)


def _reference(relation: str) -> str | None:
    """Return dbt's call for a model or a source's table; None if the name isn't valid in dbt."""
    parts = relation.split(".")
    if len(parts) > 2 or not all(_NAME.fullmatch(part) for part in parts):
        return None
    listed = ", ".join(f"'{part}'" for part in parts)
    return f"{{{{ {'ref' if len(parts) == 1 else 'source'}({listed}) }}}}"


def snapshot_models(
    recipe: SnapshotRecipe,
    days: Sequence[date],
    tables: Mapping[str, str],
    *,
    dialect: str = "duckdb",
    **options: Any,
) -> list[DbtModel]:
    """Return a dbt model for each date of a recipe, named after the recipe and the date.

    Parameters
    ----------
    tables
        By source, a dbt model such as ``subs``, referenced by ``ref``, or a table of a dbt source
        such as ``crm.subs``, referenced by ``source``.
    recipe, days, dialect, options
        As for `warehouse_selects`.

    Raises
    ------
    UsageError
        If dbt doesn't allow a name.
    GtmarError
        As for `warehouse_selects`.
    """
    calls = {source: _reference(table) for source, table in tables.items()}
    wrong = [f'"{tables[source]}"' for source, call in calls.items() if call is None]
    wrong += [] if _NAME.fullmatch(recipe.name) else [f'the recipe\'s name "{recipe.name}"']
    if wrong:
        raise UsageError(
            f"dbt names are letters, digits and underscores, got {' and '.join(wrong)}",
            hint="--table SOURCE=accounts or SOURCE=crm.accounts; a name like churn in the recipe",
        )
    places = {source: f"{_TABLE}_{number}_" for number, source in enumerate(tables)}
    selects = warehouse_selects(recipe, days, places, dialect=dialect, **options)
    heading = f"-- Written by gtmar from recipe {recipe_id(recipe)}; change the recipe, not this."
    models = []
    for day, made in selects.items():
        body = _no_jinja(made.sql)
        for source, placeholder in places.items():
            body = body.replace(placeholder, str(calls[source]))
        name = f"{recipe.name}_{day:%Y_%m_%d}"
        about = f"Accounts of {day} by recipe {recipe_id(recipe)}, a row each."
        properties = _properties(name, about, _snapshot_columns(recipe, made.days))
        models.append(DbtModel(name, f"{heading}\n{body}\n", properties))
    return models


def _snapshot_columns(recipe: SnapshotRecipe, days: SnapshotDays) -> Iterator[dict[str, Any]]:
    """Yield the columns common to all account tables, with tests: id, days, outcomes."""
    tests: dict[str, list[Any]] = {recipe.id: ["unique", "not_null"]}
    windows = {"features_asof": days.day, "features_until": Span(0, 1).after(days.cut, -1)}
    if days.over:
        windows |= {"outcome_start": days.day, "outcome_end": Span(0, 1).after(days.end, -1)}
    tests |= {column: ["not_null", _accepted([str(day)])] for column, day in windows.items()}
    # Former accounts only have the outcome `won_back`; the others are null.
    former = recipe.population == "paying and former"
    if not former or not days.over:
        tests["mrr"] = ["not_null"]
    if days.over:
        flag, always = _accepted([0, 1], quote=False), ["not_null"] * (not former)
        tests |= {"retained_6mo": [*always, flag], "churned": [*always, flag]}
        tests |= {"won_back": [flag]} if former else {}
        tests |= {} if recipe.activation is None else {"activated": [flag]}
    for column, each in tests.items():
        yield {"name": column, "quote": True, "data_tests": each}
