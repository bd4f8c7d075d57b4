"""A spec or a recipe as dbt models: a SELECT over `ref` and `source`, and tests of its columns."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gtmar import spec as specs
from gtmar.errors import UsageError
from gtmar.integrations.snapshot_sql import warehouse_selects
from gtmar.integrations.sql import select
from gtmar.snapshots.recipe import Span, recipe_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from gtmar.snapshots.recipe import SnapshotRecipe
    from gtmar.snapshots.statement import SnapshotDays
    from gtmar.spec.model import ScoringSpec

__all__ = ["DbtModel", "dbt_model", "snapshot_models"]

#: Stands for the table until the statement is written, since dbt's reference is no SQL.
_TABLE = "gtmar_dbt_relation_6f1c"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class DbtModel:
    """A model's two files, which bear its name."""

    name: str
    #: What ``<name>.sql`` holds: Jinja around one SELECT.
    sql: str
    #: What ``<name>.yml`` holds: descriptions and tests.
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
    """Return a dbt model, called as the spec's unless it has a name, that scores a relation.

    That is a model, ``accounts``, taken by ``ref``; or ``crm.accounts``, taken by ``source``. Other
    parameters are as for `sql.select`. Raises `UsageError` if a name is none that dbt takes, or the
    spec can't be written in the dialect.
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
    return DbtModel(name=name, sql=body, yml=_properties(spec, name))


def _properties(spec: ScoringSpec, name: str) -> str:
    """Write descriptions and tests; texts as JSON strings, which YAML reads too.

    Tiers are escaped as what dbt puts into a SQL literal and Jinja as it stands.
    """
    identifier = json.dumps(spec.id)
    tiers = ", ".join(json.dumps(_no_jinja(tier.replace("'", "''"))) for tier in spec.tier_names)
    about = json.dumps(f"Scores of spec {specs.spec_id(spec)}, as gtmar score gives them.")
    return "\n".join(
        (
            "version: 2",
            "models:",
            f"  - name: {name}",
            f"    description: {about}",
            "    columns:",
            f"      - name: {identifier}",
            '        description: "The account."',
            "        quote: true",
            "        data_tests: [unique, not_null]",
            "      - name: score",
            f'        description: "Points, from 0 to {spec.max_score}. Null where the account '
            'breaks the data contract."',
            "        data_tests: [not_null]",
            "      - name: tier",
            '        description: "The band of scores."',
            "        data_tests:",
            "          - not_null",
            "          - accepted_values:",
            "              arguments:",
            f"                values: [{tiers}]",
            *_probability(spec),
            "",
        )
    )


def _probability(spec: ScoringSpec) -> list[str]:
    """Return the lines about the probability; none where the spec has none."""
    calibration = specs.calibration_of(spec)
    if calibration is None:
        return []
    fitted = f"fitted {calibration.fitted} on {calibration.accounts:,} accounts"
    return [
        "      - name: probability",
        f'        description: "Of leaving, from 0 to 1; {fitted}."',
        "        data_tests: [not_null]",
    ]


def _no_jinja(text: str) -> str:
    """Escape what looks like Jinja in a name or a text, and is none."""
    return re.sub(r"\{[{%#]", lambda found: f'{{{{ "{found[0]}" }}}}', text)


def _reference(relation: str) -> str | None:
    """Return dbt's call for a model or a source's table; None for what is no name of one."""
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
    """Return a dbt model for each date of a recipe, called as the recipe and the date.

    Parameters
    ----------
    tables
        By source a model, ``subs``, taken by ``ref``, or ``crm.subs``, taken by ``source``.
    recipe, days, dialect, options
        As for `warehouse_selects`.

    Raises
    ------
    UsageError
        If a name is none that dbt takes.
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
        for source, place in places.items():
            body = body.replace(place, str(calls[source]))
        name = f"{recipe.name}_{day:%Y_%m_%d}"
        properties = _snapshot_properties(recipe, made.days, name)
        models.append(DbtModel(name, f"{heading}\n{body}\n", properties))
    return models


def _snapshot_properties(recipe: SnapshotRecipe, days: SnapshotDays, name: str) -> str:
    """Write descriptions and tests of what every table has: the account, its days, its outcomes."""
    windows = {"features_asof": days.day, "features_until": Span(0, 1).after(days.cut, -1)}
    # Of former accounts it is known whether they were won back, and nothing else.
    always = "" if recipe.population == "paying and former" else "not_null, "
    flags: dict[str, str] = {}
    if days.over:
        windows |= {"outcome_start": days.day, "outcome_end": Span(0, 1).after(days.end, -1)}
        flags = {"retained_6mo": always, "churned": always}
        flags |= {"won_back": ""} if recipe.population == "paying and former" else {}
        flags |= {} if recipe.activation is None else {"activated": ""}
    tests = {recipe.id: "unique, not_null"}
    accepted = "accepted_values: {{arguments: {{values: [{}]{}}}}}"
    for column, day in windows.items():
        tests[column] = f"not_null, {accepted.format(f'{chr(34)}{day}{chr(34)}', '')}"
    if always or not days.over:
        tests["mrr"] = "not_null"
    for column, first in flags.items():
        tests[column] = first + accepted.format("0, 1", ", quote: false")
    about = f"Accounts of {days.day} by recipe {recipe_id(recipe)}, a row each."
    lines = ["version: 2", "models:", f"  - name: {name}", f"    description: {json.dumps(about)}"]
    lines.append("    columns:")
    for column, each in tests.items():
        lines += [
            f"      - name: {json.dumps(column)}",
            "        quote: true",
            f"        data_tests: [{each}]",
        ]
    return "\n".join([*lines, ""])
