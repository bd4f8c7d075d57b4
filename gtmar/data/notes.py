"""What is allowed in an account table but worth knowing: aggregates, and sentences of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar.data.encode import half_up
from gtmar.data.outcomes import CENTS, OutcomeColumns, known_number, lacks_outcome, plain_name
from gtmar.data.rules import OWN
from gtmar.data.scan import likely_id
from gtmar.spec.encoders import Bins, MissingValue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gtmar.spec.model import ScoringSpec

__all__ = ["label_names", "notes", "outcome_facts", "stated_unknowns", "unknown_notes", "unnamed"]

#: Features with unknown values that a note names, those with the most first.
_FEATURES_NAMED = 5


def outcome_facts(found: OutcomeColumns, schema: pl.Schema) -> list[pl.Expr]:
    """Aggregate what `notes` words, and the accounts without any outcome.

    Reads the canonical outcomes under their names with `OWN` before them.
    """
    bare = lacks_outcome(found, prefix=OWN)
    facts = [
        bare.sum().alias("unlabelled"),
        ((pl.col(f"{OWN}retained") == 1) & (pl.col(f"{OWN}end") == 0) & (pl.col(f"{OWN}start") > 0))
        .sum()
        .alias("kept_without_revenue"),
        pl.col(f"{OWN}won_back").is_not_null().sum().alias("former"),
        (pl.col(f"{OWN}ltv") <= 0).sum().alias("ltv_not_positive"),
    ]
    if found.has("retained", "churned"):
        unknown = pl.col(f"{OWN}retained").is_null() & pl.col(f"{OWN}won_back").is_null()
        facts += [(unknown & ~bare).sum().alias("retention_unknown")]
        if found.has("mrr_end"):
            end = known_number(found.columns["mrr_end"], schema[found.columns["mrr_end"]])
            facts += [(unknown & end.is_not_null()).sum().alias("end_without_label")]
    for role in ("mrr", "mrr_end", "ltv"):
        if found.has(role):
            x = known_number(found.columns[role], schema[found.columns[role]])
            rounded = half_up(x, CENTS)
            facts += [
                ((rounded - x * CENTS).abs() > 1e-6).sum().alias(f"{role}.moved"),
                x.sum().alias(f"{role}.before"),
                (rounded.sum() / CENTS).alias(f"{role}.after"),
                rounded.abs().sum().alias(f"{role}.cents"),
            ]
    return facts


def stated_unknowns(spec: ScoringSpec) -> dict[str, str]:
    """Return the column of each feature whose spec says what an unknown is worth."""
    return {
        name: feature.column or name
        for name, feature in spec.features.items()
        if isinstance(feature.missing, MissingValue)
        or (isinstance(feature.encode, Bins) and "missing" in feature.encode.bins)
    }


def unknown_notes(unknowns: Mapping[str, int], accounts: int) -> list[str]:
    """Say how many values are unknown and count as the spec's `missing` says."""
    if not unknowns:
        return []
    names = sorted(unknowns, key=lambda name: -unknowns[name])
    listed = ", ".join(f"{name} {unknowns[name]:,}" for name in names[:_FEATURES_NAMED])
    rest = len(names) - _FEATURES_NAMED
    return [
        f"Unknown values that count as the spec's missing says, of {accounts:,} accounts: {listed}"
        + (f" and {rest} more." if rest > 0 else ".")
    ]


def label_names(found: OutcomeColumns) -> str:
    """Name the columns that say whether an account stayed."""
    return " or ".join(found.columns[r] for r in ("retained", "churned") if found.has(r))


def unnamed(
    columns: list[str], spec: ScoringSpec, found: OutcomeColumns, identifier: str | None
) -> list[str]:
    """Say which columns are named like an id or an outcome, and are neither in the spec."""
    sentences = []
    used = {*found.columns.values(), *(term.column for term in spec.terms), *spec.segments}
    likely = likely_id([name for name in columns if name not in used])
    if identifier is None and likely is not None:
        sentences.append(
            f'Column "{likely}" is named like the account id and isn\'t it here: the spec says '
            f'id: "{likely}" where it is.'
        )
    plain = {plain_name(name): name for name in columns if name not in used}
    for role, column in spec.outcomes.model_dump().items():
        other = plain.get(plain_name(column))
        if not found.has(role) and other is not None:
            sentences.append(
                f'Column "{other}" is named like outcome {role} and isn\'t it here: the spec says '
                f'outcomes: {{{role}: "{other}"}} where it is.'
            )
    return sentences


def notes(facts: Mapping[str, Any], found: OutcomeColumns, identifier: str | None) -> list[str]:
    """Word what is allowed but worth knowing."""
    said = []
    if identifier is None:
        said.append(
            "No account id: the split follows each row's content, so that twins stay together."
        )
    if not found.has("retained", "churned") and found.has("mrr_end"):
        said.append("No retained_6mo or churned column: retained is taken as mrr_end > 0.")
    if found.basis == "binary":
        said.append(
            "No mrr_end column: revenue retention is on the binary basis, MRR assumed flat for who "
            "stays; expansion, contraction and quick ratio stay empty."
        )
    if facts.get("retention_unknown"):
        said.append(
            f"{facts['retention_unknown']:,} accounts have no {label_names(found)} and count in no "
            "metric of retention or revenue; other outcomes of theirs do count."
        )
    if facts.get("kept_without_revenue"):
        said.append(
            f"{facts['kept_without_revenue']:,} accounts are retained with mrr_end = 0: "
            "they kept the logo and lost the revenue."
        )
    if facts.get("ltv_not_positive"):
        said.append(
            f"{facts['ltv_not_positive']:,} accounts have no positive LTV and are left out of "
            "tier_separation."
        )
    for role in ("mrr", "mrr_end", "ltv"):
        if facts.get(f"{role}.moved"):
            before, after = float(facts[f"{role}.before"]), float(facts[f"{role}.after"])
            said.append(
                f"{role} is read in cents: {facts[f'{role}.moved']:,} values had finer "
                f"fractions; the total moves from {before:,.4f} to {after:,.2f} "
                f"({after - before:+,.4f})."
            )
    return said
