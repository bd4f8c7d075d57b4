"""A spec as a dbt model: the SELECT over a `ref` or a `source`, and the tests of its columns."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gtmar import spec as specs
from gtmar.errors import UsageError
from gtmar.integrations.sql import select

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gtmar.spec.model import ScoringSpec

__all__ = ["DbtModel", "dbt_model"]

#: Stands for the table until the statement is written, since dbt's reference is no SQL.
_TABLE = "gtmar_dbt_relation_6f1c"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class DbtModel:
    """A model's two files."""

    #: The model's name, which its files bear.
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
    """Return a dbt model that scores a relation as `gtmar score` does.

    Parameters
    ----------
    spec
        The scoring spec.
    relation
        A model, ``accounts``, taken by ``ref``; or ``crm.accounts``, taken by ``source``.
    dialect, as_of, kinds
        As for `export.sql.select`.
    name
        The model's name; None for the spec's model.

    Raises
    ------
    UsageError
        If a name is none that dbt takes, or the spec can't be written in the dialect.
    """
    name = name or spec.model
    parts = relation.split(".")
    wrong = [part for part in (name, *parts) if not _NAME.fullmatch(part)]
    if wrong or len(parts) > 2:
        raise UsageError(
            f'dbt names are letters, digits and underscores, got model "{name}" over "{relation}"',
            hint="--name health_score, --relation accounts or --relation crm.accounts",
        )
    text = select(spec, _TABLE, dialect=dialect, as_of=as_of, kinds=kinds)
    # What looks like Jinja in a name or a text is none.
    text = re.sub(r"\{[{%#]", lambda found: f'{{{{ "{found[0]}" }}}}', text)
    quoted = ", ".join(f"'{part}'" for part in parts)
    call = f"{{{{ {'ref' if len(parts) == 1 else 'source'}({quoted}) }}}}"
    if text.count(_TABLE) != 1:
        raise UsageError(f'a name in the spec holds "{_TABLE}"', hint="rename it")
    heading = f"-- Written by gtmar from spec {specs.spec_id(spec)}; change the spec, not this."
    body = f"{heading}\n{text.replace(_TABLE, call)}\n"
    return DbtModel(name=name, sql=body, yml=_properties(spec, name))


def _properties(spec: ScoringSpec, name: str) -> str:
    """Write descriptions and tests; texts as JSON strings, which YAML reads too."""
    identifier = json.dumps(spec.id)
    tiers = ", ".join(json.dumps(_literal(tier)) for tier in spec.tier_names)
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
            "",
        )
    )


def _literal(text: str) -> str:
    """Escape what dbt would put into a SQL literal and Jinja as it stands."""
    text = text.replace("'", "''")
    return re.sub(r"\{[{%#]", lambda found: f'{{{{ "{found[0]}" }}}}', text)
