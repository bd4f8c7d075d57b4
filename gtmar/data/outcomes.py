"""Outcomes: their columns, the values of label words, and each account's movement class.

The value of a label word depends on its column's role: `Active` is 1 in `retained` and 0 in
`churned`. This module knows only unambiguous words; the spec must state the value of any other. For
a first spec, outcome columns are also matched by further names, and the spec records the match.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar.data.encode import half_up
from gtmar.data.scan import AccountTable, collect
from gtmar.data.text_columns import HEADER_AGAIN, TEXT_TYPES
from gtmar.errors import AccountDataError, culprits
from gtmar.spec.model import LABELS, Outcomes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "ACTIVATION_STATES",
    "CENTS",
    "LabelWords",
    "Movement",
    "OutcomeColumns",
    "canonical_outcomes",
    "known_number",
    "lacks_outcome",
    "movement_class",
    "named_outcomes",
    "plain_name",
    "with_labels",
]


_FLAGS = dict.fromkeys(("yes", "y", "true", "t", "1", "1.0"), 1)
_FLAGS |= dict.fromkeys(("no", "n", "false", "f", "0", "0.0"), 0)
#: The same in German, French, Spanish, Portuguese and Dutch; what a spreadsheet writes for TRUE.
_FLAGS |= dict.fromkeys(("ja", "oui", "s\u00ed", "si", "sim", "wahr", "vrai", "verdadero"), 1)
_FLAGS |= dict.fromkeys(("nein", "non", "nee", "n\u00e3o", "falsch", "faux", "falso"), 0)
#: Words for an account that stayed, and for one that left.
_STAYS = "active,current,existing,existing customer,kept,not churned,renewed,retained,stayed"
_LEAVES = (
    "attrited,attrited customer,canceled,cancelled,churned,closed,exited,gone,inactive,left,lost,"
    "non-renewed,not renewed,terminated"
)
_STAYED = dict.fromkeys(_STAYS.split(","), True) | dict.fromkeys(_LEAVES.split(","), False)
#: Names of label columns beyond the default ones, as `plain_name` gives them.
_NAMES = {
    "retained": re.compile(
        r"(is|has|was)?(retained|renewed)(flag|label|yn)?|(is)?stillcustomer|retentionflag"
    ),
    "churned": re.compile(
        r"(is|has|was|customer)?churn(ed)?(flag|label|value|yn|ind|indicator|\d+(d|days|m|mo|months)?)?"
        r"|(is|has)?(exited|attrited)|attrition(flag)?|(is|has)?cancell?ed"
    ),
}
#: Further names of MRR at either end of the window, as `plain_name` gives them, likeliest first.
_REVENUE = {
    "mrr": ("mrrstart", "startmrr", "startingmrr", "mrratstart", "openingmrr"),
    "mrr_end": ("endmrr", "endingmrr", "mrratend", "closingmrr"),
}
#: Largest number of words of a label column, and how many of unknown value a hint lists.
_MOST_WORDS, _WORDS_SHOWN = 12, 3


def plain_name(name: str) -> str:
    """Return a name in lower case without anything but letters and digits.

    Salesforce's ending of an own field, ``__c``, is left out, too.

    Examples
    --------
    >>> plain_name("Churn Flag"), plain_name("churn_flag"), plain_name("Churn_Flag__c")
    ('churnflag', 'churnflag', 'churnflag')
    """
    return re.sub(r"__c$|[^0-9a-z]+", "", name.casefold())


def _plain(word: str) -> str:
    return " ".join(word.casefold().split())


@dataclass(frozen=True)
class LabelWords:
    """The words of a label column and their values."""

    role: str
    column: str
    #: 0 or 1 by word, spelled as in the table; None where the value isn't known.
    words: dict[str, int | None]

    @property
    def unknown(self) -> list[str]:
        """Words without a known value."""
        return [word for word, value in self.words.items() if value is None]

    @property
    def sentence(self) -> str:
        """The note on the words' values."""
        listed = ", ".join(f'"{word}" counts {value}' for word, value in self.words.items())
        return f"Outcome {self.role}, column {self.column}: {listed}."

    @property
    def hint(self) -> str:
        """The hint that shows how a spec states the words' values; needs an unknown word."""
        if self._header_again:
            return HEADER_AGAIN
        values, otherwise = self._proposed()
        listed = ", ".join(f"{word}: {value}" for word, value in values.items())
        more = ", ..." if len(self.words) > len(values) else ""
        return (
            "labels are 0 and 1, null where unknown; the spec says what each word counts, as "
            f"labels: {{{self.role}: {{{listed}{more}}}}}{otherwise}"
        )

    @property
    def option_hint(self) -> str:
        """The hint that shows how ``--label`` states the words' values; needs an unknown word."""
        if self._header_again:
            return HEADER_AGAIN
        values, otherwise = self._proposed()
        # What a person states replaces the known words, so those are stated, too.
        stated = {word: value for word, value in self.words.items() if value is not None} | values
        options = " ".join(f'--label "{self.role}:{w}={value}"' for w, value in stated.items())
        return f"say what each word counts: {options}{otherwise}"

    @property
    def _header_again(self) -> bool:
        return self.unknown == [self.column.strip()]

    def _proposed(self) -> tuple[dict[str, int], str]:
        """Return values for unknown words, and what else they could be: a person has to say."""
        counted = {value for value in self.words.values() if value is not None}
        first, *others = self.unknown
        if not counted and len(others) == 1:
            return {first: 1, others[0]: 0}, ", or the other way round"
        if not others and len(counted) == 1:
            # The other side of a label is all that is left.
            return {first: 1 - min(counted)}, ""
        more = ", and so on" if len(others) >= _WORDS_SHOWN else ""
        return dict.fromkeys(self.unknown[:_WORDS_SHOWN], 0), f", or 1{more}"


def _words_of(table: AccountTable, columns: Iterable[str]) -> dict[str, list[str]]:
    """Return each text column's first distinct words, sorted, without blank cells."""
    selected = [
        pl.col(name).cast(pl.String).drop_nulls().unique().sort().head(_MOST_WORDS + 1).implode()
        for name in columns
    ]
    if not selected:
        return {}
    listed = collect(table, table.frame.select(selected)).row(0, named=True)
    return {name: [word for word in words if word.strip()] for name, words in listed.items()}


def with_labels(
    table: AccountTable, outcomes: Outcomes, labels: Mapping[Any, Mapping[str, int]]
) -> tuple[AccountTable, list[LabelWords]]:
    """Return the table with label words replaced by 0 and 1, and each text label's words.

    `labels` has the values of words by role; a role that it lacks uses the known words. A column
    with a word of unknown value is left as it is, and `contract` refuses it. Cost: one pass over
    the label columns of text, none where there are none.
    """
    roles = {
        column: role
        for role, column in OutcomeColumns.matching(outcomes, table.columns).columns.items()
        if role in LABELS and table.schema[column] in TEXT_TYPES
    }
    read, numbers = [], {}
    for column, listed in _words_of(table, roles).items():
        role, known = roles[column], dict(_FLAGS)
        if role in _NAMES:
            known |= {w: int(stayed == (role == "retained")) for w, stayed in _STAYED.items()}
        stated = {_plain(word): value for word, value in labels.get(role, {}).items()}
        # A null marker such as NA is no word, unless the spec states its value.
        words = [w for w in listed if _plain(w) in stated or w.strip() not in table.nulls]
        each = LabelWords(role, column, {w: (stated or known).get(_plain(w)) for w in words})
        read.append(each)
        if not each.unknown:
            text = pl.col(column).cast(pl.String)
            numbers[column] = text.replace_strict(each.words, default=None, return_dtype=pl.Int8)
    if not numbers:
        return table, read
    schema = pl.Schema({**table.schema, **dict.fromkeys(numbers, pl.Int8())})
    return replace(table, frame=table.frame.with_columns(**numbers), schema=schema), read


def named_outcomes(
    table: AccountTable, outcomes: Outcomes, labels: Mapping[Any, Mapping[str, int]]
) -> Outcomes:
    """Match outcomes with columns by further names than a spec's defaults, for a first spec.

    A name in `outcomes` that the table lacks is compared without case and punctuation. If no label
    is found then, a column that is named like a label and holds one is used. `labels` has the
    values of words by role.

    Raises
    ------
    AccountDataError
        If several columns could be the label; if a label has words of unknown value; or, where the
        names in `outcomes` are the defaults and there is neither label nor end MRR, if a text
        column has words for accounts that stayed and for accounts that left.
    """
    plain = {plain_name(name): name for name in reversed(table.columns)}
    named = {
        role: column if column in table.columns else plain.get(plain_name(column), column)
        for role, column in outcomes.model_dump().items()
    }
    for role, others in _REVENUE.items():
        there = next((plain[name] for name in others if name in plain), None)
        if there is not None and named[role] not in table.columns:
            named[role] = there
    present = {role: column for role, column in named.items() if column in table.columns}
    if not any(role in present for role in _NAMES):
        taken = set(present.values())
        label = _named_label(table, [c for c in table.columns if c not in taken], labels)
        named |= label
        if not label and "mrr_end" not in present and outcomes == Outcomes():
            _refuse_hidden_label(table, taken)
    return Outcomes(**named)


def _named_label(
    table: AccountTable, columns: list[str], labels: Mapping[Any, Mapping[str, int]]
) -> dict[str, str]:
    """Return the one column that is named like a label and holds one, by role; empty if none."""
    likely = {
        column: role
        for column in columns
        for role, pattern in _NAMES.items()
        if pattern.fullmatch(plain_name(column))
    }
    texts = _words_of(table, [c for c in likely if table.schema[c] in TEXT_TYPES])
    labelled = {}
    for column, role in likely.items():
        dtype, words = table.schema[column], texts.get(column)
        if words is not None:
            if len(words) > _MOST_WORDS:
                continue
            _, read = with_labels(table, Outcomes(**{role: column}), labels)
            if read and read[0].unknown:
                raise AccountDataError(
                    f'{table.source}: column "{column}" is named like outcome {role} and holds '
                    f"{culprits(words)}, of which {culprits(read[0].unknown)} may count 0 "
                    "or 1",
                    hint=f"{read[0].option_hint}; or name another column: "
                    f'--outcome "{role}=COLUMN"',
                )
        elif dtype.is_numeric():
            odd = ~pl.col(column).cast(pl.Float64).fill_nan(None).is_in([0.0, 1.0])
            if collect(table, table.frame.select(odd.any())).item():
                continue
        elif dtype != pl.Boolean:
            continue
        labelled[column] = role
    if len(labelled) > 1:
        column, role = next(iter(labelled.items()))
        raise AccountDataError(
            f"{table.source}: columns {culprits(labelled)} could each be the outcome",
            hint=f'name the one that is: --outcome "{role}={column}"',
        )
    return {role: column for column, role in labelled.items()}


def _refuse_hidden_label(table: AccountTable, taken: set[str]) -> None:
    """Refuse a table without a label if a column's words divide accounts into stayed and left."""
    texts = [c for c in table.columns if c not in taken and table.schema[c] in TEXT_TYPES]
    for column, words in _words_of(table, texts).items():
        sides = {_STAYED.get(_plain(word)) for word in words}
        if {True, False} <= sides and len(words) <= _MOST_WORDS:
            raise AccountDataError(
                f'{table.source}: no label by its name, but column "{column}" holds '
                f"{culprits(words)}",
                hint=f'--outcome "churned={column}" takes it; where it is none, name the outcome '
                "that is meant, as --outcome ltv=actual_ltv",
            )


#: Money is stored in integer cents.
CENTS = 100


class Movement(IntEnum):
    """An account's movement class; in this order each cohort of the kernel is a range of rows."""

    LOST_NONPAYING = 0
    LOST_PAYING = 1
    KEPT_REVENUE_LOST = 2
    KEPT_CONTRACTED = 3
    KEPT_FLAT = 4
    KEPT_EXPANDED = 5
    KEPT_NONPAYING = 6
    UNLABELLED = 7
    #: Paying at the start, in a table without retention labels or end MRR.
    UNLABELLED_PAYING = 8
    FORMER_LOST = 9
    FORMER_WON_BACK = 10


#: Activation states: unknown, missed, reached.
ACTIVATION_STATES = 3


@dataclass(frozen=True)
class OutcomeColumns:
    """The outcome columns of a table."""

    #: Column by role, for the roles that the table has: `retained`, `churned`, `mrr`, `mrr_end`,
    #: `ltv`, `activated`, `days_to_activate`, `won_back`.
    columns: dict[str, str]

    @classmethod
    def matching(cls, outcomes: Outcomes, present: list[str]) -> OutcomeColumns:
        """Match a spec's outcome names with a table's columns, ignoring case.

        Raises
        ------
        AccountDataError
            If two columns differ only by case or blanks and match the same outcome.
        """
        columns: dict[str, str] = {}
        for role, name in outcomes.model_dump().items():
            alike = [column for column in present if column.strip().lower() == name.strip().lower()]
            if len(alike) > 1:
                raise AccountDataError(
                    f'outcome {role} is "{name}", and columns {culprits(alike)} may be it',
                    hint="rename or drop all but one",
                )
            columns |= dict(zip([role], alike, strict=False))
        return cls(columns)

    def has(self, *roles: str) -> bool:
        """Return whether the table has any of these roles."""
        return any(role in self.columns for role in roles)

    @property
    def labelled(self) -> bool:
        """Whether retention is known, from a label or from the end MRR."""
        return self.has("retained", "churned", "mrr_end")

    @property
    def basis(self) -> str | None:
        """Revenue basis: `observed` with an end MRR, `binary` where MRR is assumed flat.

        None where the table lacks MRR or retention.
        """
        if not self.has("mrr") or not self.labelled:
            return None
        return "observed" if self.has("mrr_end") else "binary"

    def missing_reason(self, metric_needs: tuple[str, ...]) -> str | None:
        """Return which column that a metric needs is absent; None where none is.

        ``label`` among the roles stands for any source of retention.
        """
        for role in metric_needs:
            if role == "label" and not self.labelled:
                return "no retained_6mo, churned or mrr_end column"
            if role != "label" and not self.has(role):
                return f"no {Outcomes.model_fields[role].default} column"
        return None

    def number(self, role: str, schema: pl.Schema) -> pl.Expr:
        """Return an outcome as doubles, null where unknown or where the table lacks the role."""
        column = self.columns.get(role)
        if column is None:
            return pl.lit(None, dtype=pl.Float64)
        return known_number(column, schema[column])


def known_number(column: str, dtype: pl.DataType) -> pl.Expr:
    """Return a numeric or Boolean column as doubles, NaN as null; all null for a text column."""
    return pl.col(column).cast(pl.Float64).fill_nan(None) if dtype != pl.String else pl.lit(None)


def canonical_outcomes(outcomes: OutcomeColumns, schema: pl.Schema) -> dict[str, pl.Expr]:
    """Return the canonical outcomes by name, each an Int64 expression, null where unknown.

    The names are `retained`, `start` and `end` (MRR in cents), `ltv` (in cents), `activated`,
    `days` (to activation) and `won_back`. A churned account's unknown end MRR is 0, since it left.
    Without a label column, an account is retained if its end MRR is above 0. With one, a null label
    makes both `retained` and `end` null, whatever the end MRR. On the binary basis `end` is the
    start MRR of retained accounts and 0 of churned ones. The contract refuses other unknown values.
    """
    number = partial(outcomes.number, schema=schema)

    def whole(x: pl.Expr) -> pl.Expr:
        return x.cast(pl.Int64, strict=False)

    def cents(role: str) -> pl.Expr:
        return whole(half_up(number(role), CENTS))

    former = number("won_back").is_not_null()
    start, end = cents("mrr"), cents("mrr_end")
    if outcomes.has("retained", "churned"):
        label = pl.coalesce(number("retained"), 1 - number("churned"))
    else:
        label = (end > 0).cast(pl.Float64)
    label = pl.when(~former).then(whole(label))
    if outcomes.has("mrr_end"):
        end = pl.when(end.is_null() & (label == 0)).then(0).otherwise(end)
        if outcomes.has("retained", "churned"):
            end = pl.when(former | label.is_not_null()).then(end)
    elif outcomes.has("mrr"):
        end = start * label
    canonical = {
        "retained": label,
        "start": start,
        "end": end,
        "ltv": cents("ltv"),
        "activated": whole(number("activated")),
        "days": whole(number("days_to_activate").floor()),
        "won_back": whole(number("won_back")),
    }
    return {name: value.alias(name) for name, value in canonical.items()}


def lacks_outcome(outcomes: OutcomeColumns, *, prefix: str = "") -> pl.Expr:
    """Return whether an account has no outcome at all, from the canonical columns.

    In a table whose only outcome is MRR at the start, an account without that MRR has none.
    """
    known: tuple[str, ...] = ("retained", "end", "ltv", "activated", "won_back")
    if not outcomes.has("retained", "churned", "mrr_end", "ltv", "activated", "won_back"):
        known = ("start",)
    return pl.all_horizontal(pl.col(f"{prefix}{name}").is_null() for name in known)


def movement_class(outcomes: OutcomeColumns) -> pl.Expr:
    """Return each account's `Movement` from the canonical columns."""
    retained, start, end = pl.col("retained"), pl.col("start"), pl.col("end")
    paying = (start > 0) & end.is_not_null()
    without_end = outcomes.has("mrr") and not outcomes.labelled
    unlabelled_paying = Movement.UNLABELLED_PAYING if without_end else Movement.UNLABELLED
    # An account's class is the first whose condition holds.
    classes = (
        (pl.col("won_back") == 1, Movement.FORMER_WON_BACK),
        (pl.col("won_back") == 0, Movement.FORMER_LOST),
        (retained.is_null() & (start > 0), unlabelled_paying),
        (retained.is_null(), Movement.UNLABELLED),
        ((retained == 0) & paying, Movement.LOST_PAYING),
        (retained == 0, Movement.LOST_NONPAYING),
        (~paying | paying.is_null(), Movement.KEPT_NONPAYING),
        (end == 0, Movement.KEPT_REVENUE_LOST),
        (end < start, Movement.KEPT_CONTRACTED),
        (end == start, Movement.KEPT_FLAT),
    )
    movement = pl.lit(int(Movement.KEPT_EXPANDED))
    for holds, value in reversed(classes):
        movement = pl.when(holds).then(int(value)).otherwise(movement)
    return movement.cast(pl.Int8).alias("movement")
