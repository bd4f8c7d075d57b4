"""Outcome columns as canonical integers, and the movement class of every account.

Whatever a table calls its outcomes, from here on they are: `retained`, `activated`, `won_back` (0,
1 or null), `start`, `end`, `ltv` (integer cents or null), `days` (whole days or null). Who counts
in which metric follows from the movement class alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import polars as pl

from gtmar.accounts.encode import half_up
from gtmar.errors import AccountDataError, culprits
from gtmar.spec.model import Outcomes

__all__ = [
    "ACTIVATION_STATES",
    "CENTS",
    "Movement",
    "OutcomeColumns",
    "canonical_outcomes",
    "known_number",
    "lacks_outcome",
    "movement_class",
]

#: Money enters as integer cents.
CENTS = 100


class Movement(IntEnum):
    """What became of an account; the order keeps each cohort of the kernel in one run of rows."""

    LOST_NONPAYING = 0
    LOST_PAYING = 1
    KEPT_REVENUE_LOST = 2
    KEPT_CONTRACTED = 3
    KEPT_FLAT = 4
    KEPT_EXPANDED = 5
    KEPT_NONPAYING = 6
    UNLABELLED = 7
    #: Paying, in a table that says nothing about the window's end.
    UNLABELLED_PAYING = 8
    FORMER_LOST = 9
    FORMER_WON_BACK = 10


#: Activation is unknown, missed or reached.
ACTIVATION_STATES = 3


@dataclass(frozen=True)
class OutcomeColumns:
    """Which outcome roles a table has, and in which columns.

    Parameters
    ----------
    columns
        Column by role (`retained`, `churned`, `mrr`, `mrr_end`, `ltv`, `activated`,
        `days_to_activate`, `won_back`), for the roles that the table has.
    """

    columns: dict[str, str]

    @classmethod
    def found(cls, outcomes: Outcomes, present: list[str]) -> OutcomeColumns:
        """Match a spec's outcome names with a table's columns, in any case.

        Raises
        ------
        AccountDataError
            If more than one column may be meant.
        """
        columns: dict[str, str] = {}
        for role, name in outcomes.model_dump().items():
            alike = [column for column in present if column.strip().lower() == name.lower()]
            if len(alike) > 1:
                raise AccountDataError(
                    f'outcome {role} is "{name}", and columns {culprits(alike)} may be it',
                    hint="rename or drop all but one",
                )
            columns |= dict(zip([role], alike, strict=False))
        return cls(columns)

    def has(self, *roles: str) -> bool:
        """Whether the table has any of these roles."""
        return any(role in self.columns for role in roles)

    @property
    def labelled(self) -> bool:
        """Whether retention is known, from a label or from the end MRR."""
        return self.has("retained", "churned", "mrr_end")

    @property
    def basis(self) -> str | None:
        """`observed` with a real end MRR, `binary` where MRR is assumed flat, None without MRR."""
        if not self.has("mrr") or not self.labelled:
            return None
        return "observed" if self.has("mrr_end") else "binary"

    def missing_reason(self, metric_needs: tuple[str, ...]) -> str | None:
        """Say which column a metric lacks; None where it lacks none.

        Parameters
        ----------
        metric_needs
            Roles, all of which are needed; ``label`` stands for any source of retention.
        """
        for role in metric_needs:
            if role == "label" and not self.labelled:
                return "no retained_6mo, churned or mrr_end column"
            if role != "label" and not self.has(role):
                return f"no {Outcomes.model_fields[role].default} column"
        return None


def known_number(column: str, dtype: pl.DataType) -> pl.Expr:
    """A numeric or Boolean column as doubles, NaN taken as unknown."""
    return pl.col(column).cast(pl.Float64).fill_nan(None) if dtype != pl.String else pl.lit(None)


def canonical_outcomes(found: OutcomeColumns, schema: pl.Schema) -> dict[str, pl.Expr]:
    """Return the canonical outcome expressions, each an Int64 column or a null one.

    A churned account's unknown end MRR is 0, since it left. In a table without a label column,
    retained is taken as end MRR above 0; with one, a null label is unknown whatever the end MRR
    says, and so is that account's end. What else may be unknown is for `contract` to refuse.
    """

    def number(role: str) -> pl.Expr:
        column = found.columns.get(role)
        if column is None:
            return pl.lit(None, dtype=pl.Float64)
        return known_number(column, schema[column])

    def cents(role: str) -> pl.Expr:
        return half_up(number(role), CENTS).cast(pl.Int64, strict=False)

    former = number("won_back").is_not_null()
    start, end = cents("mrr"), cents("mrr_end")
    if found.has("retained", "churned"):
        label = pl.coalesce(number("retained"), 1 - number("churned"))
    else:
        label = (end > 0).cast(pl.Float64)
    label = label.cast(pl.Int64, strict=False)
    label = pl.when(former).then(None).otherwise(label)
    if found.has("mrr_end"):
        end = pl.when(end.is_null() & (label == 0)).then(0).otherwise(end)
        if found.has("retained", "churned"):
            end = pl.when(former | label.is_not_null()).then(end)
    elif found.has("mrr"):
        end = start * label
    return {
        "retained": label.alias("retained"),
        "start": start.alias("start"),
        "end": end.alias("end"),
        "ltv": cents("ltv").alias("ltv"),
        "activated": number("activated").cast(pl.Int64, strict=False).alias("activated"),
        "days": number("days_to_activate").floor().cast(pl.Int64, strict=False).alias("days"),
        "won_back": number("won_back").cast(pl.Int64, strict=False).alias("won_back"),
    }


def lacks_outcome(found: OutcomeColumns, *, prefix: str = "") -> pl.Expr:
    """Whether nothing is known of an account's end, from the canonical columns."""
    known: tuple[str, ...] = ("retained", "end", "ltv", "activated", "won_back")
    if not found.has("retained", "churned", "mrr_end", "ltv", "activated", "won_back"):
        known = ("start",)
    return pl.all_horizontal(pl.col(f"{prefix}{name}").is_null() for name in known)


def movement_class(found: OutcomeColumns) -> pl.Expr:
    """Return each account's `Movement` from the canonical columns."""
    retained, start, end = pl.col("retained"), pl.col("start"), pl.col("end")
    paying = (start > 0) & end.is_not_null()
    unlabelled_paying = (
        Movement.UNLABELLED_PAYING
        if found.has("mrr") and not found.labelled
        else Movement.UNLABELLED
    )
    return (
        pl.when(pl.col("won_back") == 1)
        .then(int(Movement.FORMER_WON_BACK))
        .when(pl.col("won_back") == 0)
        .then(int(Movement.FORMER_LOST))
        .when(retained.is_null() & (start > 0))
        .then(int(unlabelled_paying))
        .when(retained.is_null())
        .then(int(Movement.UNLABELLED))
        .when((retained == 0) & paying)
        .then(int(Movement.LOST_PAYING))
        .when(retained == 0)
        .then(int(Movement.LOST_NONPAYING))
        .when(~paying | paying.is_null())
        .then(int(Movement.KEPT_NONPAYING))
        .when(end == 0)
        .then(int(Movement.KEPT_REVENUE_LOST))
        .when(end < start)
        .then(int(Movement.KEPT_CONTRACTED))
        .when(end == start)
        .then(int(Movement.KEPT_FLAT))
        .otherwise(int(Movement.KEPT_EXPANDED))
        .cast(pl.Int8)
        .alias("movement")
    )
