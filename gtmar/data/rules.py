"""The rules of the data contract that rows can break, one record each.

A rule is a mask of the rows that break it, what to show of them, and the wording; `contract` counts
all of them in one query.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import polars as pl

from gtmar.data.dates import endless
from gtmar.data.encode import categories_of, category, is_missing, written_otherwise
from gtmar.data.outcomes import CENTS, OutcomeColumns, known_number
from gtmar.data.split import canonical_id, inexact_id, may_identify
from gtmar.errors import culprits
from gtmar.spec.encoders import Bins, BoolEncoder, DaysBeforeEncoder, MissingValue, OneOfEncoder

if TYPE_CHECKING:
    from gtmar.spec.model import Feature

__all__ = [
    "ACCOUNT",
    "EXACT",
    "OWN",
    "Rule",
    "date_rules",
    "endless_rule",
    "feature_rules",
    "id_rules",
    "outcome_rules",
    "total_rules",
]

#: Above this a double no longer holds every integer, so a count of cents or units could be rounded.
EXACT = 2**53
#: Columns of our own begin so, which no table's do; this one shows a culprit by its account.
OWN = "\x00"
ACCOUNT = f"{OWN}account"


@dataclass(frozen=True)
class Rule:
    """Rows that break it, what to show of them, and how to word it: problem and hint."""

    column: str
    broken: pl.Expr
    shown: pl.Expr
    problem: str
    hint: str = ""
    #: Above 0 where any row may break it, for a rule whose rows cost more to find than that.
    sign: pl.Expr | None = None

    @property
    def text(self) -> str:
        """What is wrong with the rows, without their number."""
        return self.problem.replace("{count} ", "")


def id_rules(identifier: str | None, schema: pl.Schema) -> list[Rule]:
    """Every account has an id that its column can say exactly, and no two the same."""
    dtype = schema.get(identifier) if identifier is not None else None
    if identifier is None or dtype is None or not may_identify(dtype):
        return []
    key, inexact = canonical_id(identifier, dtype), inexact_id(identifier, dtype)
    unknown = is_missing(identifier, dtype)
    row = pl.format("row {}", pl.int_range(1, pl.len() + 1))
    own = "every account needs an id of its own"
    rules = [Rule(identifier, unknown, row, "{count} account ids are null", own)]
    if inexact is None and not dtype.is_numeric():
        blank = key.is_null() & ~unknown
        rules.append(Rule(identifier, blank, row, "{count} account ids are blank", own))
    if inexact is not None:
        what = "no text" if dtype == pl.Binary else f"no whole numbers that {dtype} holds exactly"
        rules.append(
            Rule(
                identifier,
                inexact,
                row if dtype == pl.Binary else pl.col(identifier).cast(pl.String),
                f"{{count}} account ids are {what}",
                "two accounts may have become one: store ids as text or as integers",
            )
        )
    rules.append(
        Rule(
            identifier,
            key.is_duplicated() & key.is_not_null(),
            key,
            "{count} rows share their account id with another",
            "one row per account: aggregate the table first",
            # By 64-bit hashes, which take less memory; where two fall together, rows are counted.
            sign=key.count() - key.drop_nulls().hash().n_unique(),
        )
    )
    return rules


#: What the last row of an export is called.
_TOTAL = (
    r"(?i)^\s*[(*]*\s*(?:grand[ _-]?|over)?(?:totals?|total general|sum|summe|gesamt|"
    r"gesamtsumme|insgesamt|somme|suma|totale|totaal|overall|all)\s*[:)*]*\s*$"
)


def total_rules(
    identifier: str | None, found: OutcomeColumns, features: list[str], schema: pl.Schema
) -> list[Rule]:
    """No row is a total of the others: called so, and as large as all of them together."""
    texts = [n for n, t in schema.items() if t == pl.String]
    names = [identifier] if identifier in texts else texts if identifier is None else []
    money = [found.columns[r] for r in ("mrr", "mrr_end", "ltv") if found.has(r)]
    sized = [n for n in dict.fromkeys([*money, *features]) if schema[n].is_numeric()]
    if not names or not sized:
        return []
    named = pl.any_horizontal(pl.col(name).str.contains(_TOTAL) for name in names)
    values = {name: pl.col(name).cast(pl.Float64).fill_nan(None) for name in sized}
    # Half a unit of the last digit each, of amounts that were rounded before they were added up.
    equal = [
        (x > 0) & (x - (x.sum() - x)).abs().le(0.005 * pl.len()) & (x.count() > 2)
        for x in values.values()
    ]
    problem = "{count} rows are a total of the others, by name and size"
    hint = "a total is no account: leave it out of the export"
    broken = named & pl.any_horizontal(equal).fill_null(value=False)
    return [Rule(names[0], broken, _shown(), problem, hint, sign=named.sum())]


def date_rules(column: str, dtype: pl.DataType) -> list[Rule]:
    """The date that `days_before` counts from is known for every account, and is one."""
    problem, hint = "{count} values of the spec's as_of are null", "fill it, or give --as-of DATE"
    rule = Rule(column, pl.col(column).is_null(), _shown(), problem, hint)
    # A column of anything else is refused by its type.
    return [rule, endless_rule(column, "the spec's as_of")] if dtype == pl.Date else [rule]


def endless_rule(column: str, of: str) -> Rule:
    """Days are of the years 1 to 9999: none is infinite."""
    problem = f"{{count}} values of {of} are infinite, or outside the years 1 to 9999"
    hint = "write a date, or null where there is none"
    return Rule(column, endless(column), _shown(), problem, hint)


def feature_rules(name: str, feature: Feature, schema: pl.Schema) -> list[Rule]:
    """A feature's values are known, finite, and what its encoder reads."""
    column = feature.column or name
    x, dtype, encoder = pl.col(column), schema[column], feature.encode
    unknown = is_missing(column, dtype)
    rules = []
    handled = isinstance(feature.missing, MissingValue) or (
        isinstance(encoder, Bins) and "missing" in encoder.bins
    )
    if not handled:
        what = "null or NaN" if dtype.is_float() else "null"
        hint = (
            "give it a bin named missing"
            if isinstance(encoder, Bins)
            else f"say what an unknown counts in the spec: {name}: {{missing: {{value: 0}}}}"
        )
        problem = f'{{count}} values of feature "{name}" are {what}'
        rules.append(Rule(column, unknown, _shown(), problem, hint))
    if isinstance(encoder, DaysBeforeEncoder):
        rules.append(endless_rule(column, f'feature "{name}"'))
    if dtype.is_float():
        problem = f'{{count}} values of feature "{name}" are infinite'
        rules.append(Rule(column, x.is_infinite(), _shown(), problem, "replace or cap them"))
    if isinstance(encoder, BoolEncoder) and dtype != pl.Boolean:
        problem = f'{{count}} values of feature "{name}" are neither 0 nor 1'
        odd = ~x.cast(pl.Float64).is_in([0.0, 1.0]) & ~unknown
        rules.append(Rule(column, odd, x, problem, "encode it with range or identity"))
    unlisted = None
    if isinstance(encoder, OneOfEncoder) and encoder.default is None:
        listed = list(encoder.values)
        unlisted = ~category(column, dtype, listed).is_in(listed)
    elif isinstance(encoder, Bins) and "other" not in encoder.bins:
        inside = (
            reduce(operator.or_, [(x >= i.low) & (x < i.high) for i in encoder.intervals.values()])
            if encoder.intervals
            else category(column, dtype, encoder.categories).is_in(encoder.categories)
        )
        unlisted = ~inside
    otherwise = written_otherwise(column, dtype, categories_of(encoder) or ())
    if otherwise is not None:
        problem = (
            f'{{count}} values of feature "{name}" equal one of the spec\'s categories as numbers, '
            "and are written otherwise"
        )
        hint = f"the spec has {culprits(otherwise[1])}: write them one way, here or there"
        rules.append(Rule(column, otherwise[0], x, problem, hint))
        if unlisted is not None:
            unlisted &= ~otherwise[0].fill_null(value=False)
    if unlisted is not None:
        problem = (
            f'{{count}} values of feature "{name}" are in none of the spec\'s categories or bins'
        )
        hint = "add a default, or a bin named other"
        rules.append(Rule(column, unlisted & ~unknown, x, problem, hint))
    return rules


def _shown() -> pl.Expr:
    return pl.col(ACCOUNT)


def outcome_rules(found: OutcomeColumns, schema: pl.Schema) -> list[Rule]:
    """Labels are 0 or 1 and agree with each other and with the money."""

    def number(role: str) -> pl.Expr:
        column = found.columns.get(role)
        if column is None:
            return pl.lit(None, dtype=pl.Float64)
        return known_number(column, schema[column])

    rules = []
    for role in ("retained", "churned", "activated", "won_back"):
        if found.has(role):
            odd = ~number(role).is_in([0.0, 1.0])
            problem = f"{{count}} values of outcome {role} are neither 0 nor 1"
            hint = "labels are 0 and 1, null where unknown"
            rules.append(Rule(found.columns[role], odd, number(role), problem, hint))
    retained, churned = number("retained"), number("churned")
    if found.has("retained") and found.has("churned"):
        rules.append(
            Rule(
                found.columns["churned"],
                retained + churned != 1,
                _shown(),
                f'{{count}} accounts are not either "{found.columns["retained"]}" or churned',
                "exactly one of the two is 1",
            )
        )
    label = pl.coalesce(retained, 1 - churned)
    former = number("won_back").is_not_null()
    if found.has("won_back"):
        rules.append(
            Rule(
                found.columns["won_back"],
                former & label.is_not_null(),
                _shown(),
                "{count} former accounts also have a retention label",
                "who left before the window has won_back, no label; who is current the reverse",
            )
        )
    for role in ("mrr", "mrr_end", "ltv", "days_to_activate"):
        if not found.has(role):
            continue
        column, x = found.columns[role], number(role)
        if role != "ltv":
            problem = f"{{count}} values of {role} are negative"
            rules.append(Rule(column, x < 0, x, problem, "amounts are 0 or more"))
        too_large = x.is_infinite() | (x.abs() * CENTS > EXACT)
        problem = f"{{count}} values of {role} are infinite or above 9e13"
        rules.append(Rule(column, too_large, _shown(), problem))
    if found.has("mrr") and found.labelled:
        known = number("mrr_end") if not found.has("retained", "churned") else label
        current = ~former & known.is_not_null()
        problem = "{count} values of mrr are unknown for current accounts"
        hint = "MRR at the start of the window; 0 for who pays nothing"
        rules.append(
            Rule(found.columns["mrr"], number("mrr").is_null() & current, _shown(), problem, hint)
        )
    if found.has("mrr_end") and found.has("retained", "churned"):
        column, end = found.columns["mrr_end"], number("mrr_end")
        rules += [
            Rule(
                column,
                (label == 0) & (end > 0),
                _shown(),
                "{count} churned accounts have an end MRR above 0",
                "who left pays nothing at the window's end: label or amount is wrong",
            ),
            Rule(
                column,
                (label == 1) & end.is_null(),
                _shown(),
                "{count} values of mrr_end are unknown for retained accounts",
                "give the amount at the window's end; it may be 0",
            ),
        ]
    return rules
