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
    parts = relation.split(".")
    wrong = [part for part in (name, *parts) if not _NAME.fullmatch(part)]
    if wrong or len(parts) > 2:
        raise UsageError(
            f'dbt names are letters, digits and underscores, got model "{name}" over "{relation}"',
            hint="--name health_score, --relation accounts or --relation crm.accounts",
        )
    text = _no_jinja(select(spec, _TABLE, dialect=dialect, as_of=as_of, kinds=kinds))
    quoted = ", ".join(f"'{part}'" for part in parts)
    call = f"{{{{ {'ref' if len(parts) == 1 else 'source'}({quoted}) }}}}"
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
