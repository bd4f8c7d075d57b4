"""The scoring spec: what it says (`model`, `encoders`), its ids, and how it is read and written."""

from gtmar.spec.document import (
    json_schema,
    load,
    parse,
    reading_dates,
    retiered,
    reweighed,
    to_json,
    to_yaml,
)
from gtmar.spec.ids import canonical, score_id, spec_id, tiers_id
from gtmar.spec.model import (
    Feature,
    Guardrail,
    Lineage,
    Outcomes,
    ScoringSpec,
    Split,
    Term,
    Tier,
)

__all__ = [
    "Feature",
    "Guardrail",
    "Lineage",
    "Outcomes",
    "ScoringSpec",
    "Split",
    "Term",
    "Tier",
    "canonical",
    "json_schema",
    "load",
    "parse",
    "reading_dates",
    "retiered",
    "reweighed",
    "score_id",
    "spec_id",
    "tiers_id",
    "to_json",
    "to_yaml",
]
