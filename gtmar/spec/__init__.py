"""The scoring spec: its data model (`model`, `encoders`), its ids, and reading and writing it."""

from gtmar.spec.calibration import Calibration
from gtmar.spec.document import (
    json_schema,
    load,
    parse,
    part_of,
    reading_dates,
    retiered,
    reweighed,
    to_json,
    to_yaml,
)
from gtmar.spec.ids import calibration_of, canonical, points_id, score_id, spec_id, tiers_id
from gtmar.spec.model import Feature, Guardrail, Lineage, Outcomes, ScoringSpec, Split, Term, Tier

__all__ = [
    "Calibration",
    "Feature",
    "Guardrail",
    "Lineage",
    "Outcomes",
    "ScoringSpec",
    "Split",
    "Term",
    "Tier",
    "calibration_of",
    "canonical",
    "json_schema",
    "load",
    "parse",
    "part_of",
    "points_id",
    "reading_dates",
    "retiered",
    "reweighed",
    "score_id",
    "spec_id",
    "tiers_id",
    "to_json",
    "to_yaml",
]
