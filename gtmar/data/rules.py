"""The row rules of the data contract.

A rule is a mask of the rows that break it, a value to show for each of them, and a message;
`contract` counts all of them in one query. On request, rows that break a rule are left out, counted
and kept apart.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar.data.dates import TableDates, day_of, listed
from gtmar.data.encode import categories_of, counts_unknown, is_missing, lies_in, written_otherwise
from gtmar.data.outcomes import CENTS, OutcomeColumns
from gtmar.data.prepare import endless
from gtmar.data.scan import AccountTable, collect, days_of
from gtmar.data.split import canonical_id, inexact_id, may_identify
from gtmar.errors import AccountDataError, UsageError, Violation, culprits
from gtmar.spec.encoders import Bins, BoolEncoder, DaysBeforeEncoder, OneOfEncoder
from gtmar.spec.model import Feature, ScoringSpec, Window, stated_date

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


__all__ = [
    "ACCOUNT",
    "EXACT",
    "OWN",
    "RowRule",
    "SetAside",
    "contract_rules",
    "id_rules",
    "leave_open_out",
    "leave_out",
    "outcome_rules",
    "overlap",
    "pooled_hint",
    "total_rules",
]

#: Doubles hold every integer up to this; larger counts of cents or units could be rounded.
EXACT = 2**53
#: Prefix of columns that this package adds. No column of a user's table begins with it.
OWN = "\x00"
#: Column that names the account of a row that breaks a rule.
ACCOUNT = f"{OWN}account"


@dataclass(frozen=True)
class RowRule:
    """One rule of the data contract."""

    #: The column that the violation names.
    column: str
    #: Whether a row breaks the rule; null where unknown.
    broken: pl.Expr
    #: The message, to which the number of rows is added.
    problem: str
    hint: str = ""
    #: What the message lists of the rows that break the rule.
    shown: pl.Expr = field(default_factory=lambda: pl.col(ACCOUNT))
    #: A cheaper aggregate that is above 0 if any row may break the rule. Only then is `mask`
    #: evaluated.
    sign: pl.Expr | None = None

    @property
    def mask(self) -> pl.Expr:
        """Whether a row breaks the rule; False where `broken` is null."""
        return self.broken.fill_null(value=False)


def contract_rules(
    spec: ScoringSpec,
    schema: pl.Schema,
    features: Mapping[str, Feature],
    *,
    identifier: str | None,
    as_of: str | None,
    outcomes: OutcomeColumns | None,
    windowed: bool,
    dates: TableDates | None = None,
) -> list[RowRule]:
    """Return the rules that every row must keep.

    Parameters
    ----------
    spec, schema
        The spec, and the types of the table's columns.
    features
        Features whose columns exist and have a readable type.
    identifier
        Column of the account id; None where there is none.
    as_of
        ISO date that `days_before` counts from; None where the spec or the rows state it.
    outcomes
        Outcomes whose columns are numeric; None for a table that is only scored.
    windowed
        Whether to add rules for the spec's window, if it has one.
    dates
        Dates of a table of several dates, else None.
    """
    rules = id_rules(identifier, schema, dates)
    if spec.as_of is not None and as_of is None and spec.as_of in schema:
        rules += _date_rules(spec.as_of, schema[spec.as_of])
    for name, feature in features.items():
        rules += _feature_rules(name, feature, schema)
    if outcomes is not None:
        rules += outcome_rules(outcomes, schema)
        if windowed and spec.window is not None:
            # With `days_before` features, `as_of` is the features' date and not the outcomes'.
            by = None if spec.date_columns or as_of is None else date.fromisoformat(as_of)
            rules += _window_rules(spec.window, by)
        columns = [column for name, each in features.items() for column in each.reads(name)]
        rules += total_rules(identifier, outcomes, columns, schema)
    return rules


def id_rules(
    identifier: str | None, schema: pl.Schema, dates: TableDates | None = None
) -> list[RowRule]:
    """Return rules for ids: each is known and exact, and unique, or unique on its date."""
    dtype = schema.get(identifier) if identifier is not None else None
    if identifier is None or dtype is None or not may_identify(dtype):
        return []
    key, inexact = canonical_id(identifier, dtype), inexact_id(identifier, dtype)
    unknown = is_missing(identifier, dtype)
    row = pl.format("row {}", pl.int_range(1, pl.len() + 1))
    own = "every account needs an id of its own"
    rules = [RowRule(identifier, unknown, "account ids are null", own, row)]
    if inexact is not None:
        binary = dtype == pl.Binary
        what = "no text" if binary else f"not whole, or larger than {dtype} holds exactly"
        hint = "two accounts may have become one: store ids as text or as integers"
        shown = row if binary else pl.col(identifier).cast(pl.String)
        rules.append(RowRule(identifier, inexact, f"account ids are {what}", hint, shown))
    elif not dtype.is_numeric():
        blank = key.is_null() & ~unknown
        rules.append(RowRule(identifier, blank, "account ids are blank", own, row))
    twice = key.is_duplicated() & key.is_not_null()
    problem = "rows share their account id with another"
    hint = "one row per account: aggregate the table first"
    # 64-bit hashes take less memory than ids. If two collide, the mask counts the rows exactly.
    sign = key.count() - key.drop_nulls().hash().n_unique()
    if dates is not None:
        both = pl.struct(key, dates.day(schema).alias(f"{OWN}day"))
        twice = both.is_duplicated() & key.is_not_null()
        problem = "rows share their account id and date with another"
        hint = "one row per account and date: aggregate the table first"
        sign = key.count() - both.filter(key.is_not_null()).hash().n_unique()
    return [*rules, RowRule(identifier, twice, problem, hint, key, sign)]


def pooled_hint(table: AccountTable) -> str | None:
    """Return the hint to request dates, for a table that has several; None for other tables.

    In such a table a repeated account id may be the same account on another date.
    """
    days = [] if table.dates else days_of(table)
    if len(days) < 2:
        return None
    return (
        f"it has {listed(days)}: --at {days[0]}..{days[-1]} takes an account on each of its "
        f"dates, --at {days[0]} those of one date"
    )


def leave_open_out(
    table: AccountTable, outcomes: OutcomeColumns, window: Window | None, by: str | None
) -> tuple[AccountTable, str | None]:
    """Leave out rows whose outcomes aren't complete, from a table of several dates.

    Those are all rows of a date on which no row has a known outcome. Where each row has its own
    window, they are also the rows whose window has no known end, or ends after `by`, an ISO date. A
    table of one date, or without any known outcome, is returned unchanged, and the contract refuses
    it where needed. The second item is the note on the rows left out; None where there are none.
    """
    dates, schema = table.several, table.schema
    # MRR at the start is known before a window is over.
    roles = [r for r in outcomes.columns if r not in ("mrr", "days_to_activate")]
    if dates is None or not outcomes.columns:
        return table, None
    columns = [outcomes.columns[role] for role in roles or outcomes.columns]
    last = None if window is None else window.outcome_end
    day = dates.day(schema)
    over = day.is_not_null()
    if last is not None and stated_date(last) is None and last in schema:
        over = day_of(last, schema[last]).is_not_null()
        if by is not None:
            over &= day_of(last, schema[last]) <= pl.lit(date.fromisoformat(by))
    known = over & pl.any_horizontal(pl.col(n).is_not_null() for n in columns)
    sums = {"rows": pl.len(), "over": over.sum(), "known": known.sum()}
    by_day = table.frame.group_by(day.alias("day")).agg(**sums)
    counted = collect(table, by_day.sort("day")).rows()
    taken = tuple(day for day, _, _, some in counted if some)
    left = {day: rows - (each if some else 0) for day, rows, each, some in counted}
    left = {day: count for day, count in left.items() if count}
    if not taken or not left:
        return table, None
    frame = table.frame.filter(day.is_in(list(taken)) & over)
    count = sum(left.values())
    rows = "1 row" if count == 1 else f"{count:,} rows"
    note = f"{rows} of {listed(list(left))} left out: their outcomes aren't over."
    return replace(table, frame=frame, dates=replace(dates, days=taken)), note


#: Names of rows of sums, with anything after them: Total (300), All accounts, Subtotal 2.
_TOTAL = (
    r"(?i)^[\s\W]*(?:(?:grand|over|sub|sous|zwischen)?[ _-]?(?:totals?|totale?s?|totaal|sum|summe|"
    r"somme|suma|gesamt|gesamtsumme|insgesamt)|overall|all|everything|"
    r"\d[\d,.]* (?:accounts|customers|clients|rows|records))(?:[\W\d_].*)?$"
)
#: Units that a total may be rounded to, and the largest relative error of such rounding.
_ROUNDED, _OFF = [10.0**i for i in range(7)], 0.01


def total_rules(
    identifier: str | None, outcomes: OutcomeColumns, features: list[str], schema: pl.Schema
) -> list[RowRule]:
    """Return the rule that no row is a total of others.

    A row breaks it if its text is a total's name, and its amount equals the sum of all other rows
    or of a run of rows just before it. Other rows with a total's name are left out of these sums.
    """
    texts = [n for n, t in schema.items() if t == pl.String]
    money = [outcomes.columns[r] for r in ("mrr", "mrr_end", "ltv") if outcomes.has(r)]
    sized = [n for n in dict.fromkeys([*money, *features]) if schema[n].is_numeric()]
    if not texts or not sized:
        return []
    named = pl.any_horizontal(pl.col(name).str.contains(_TOTAL) for name in texts)
    named = named.fill_null(value=False)
    values = {name: pl.col(name).cast(pl.Float64).fill_nan(None) for name in sized}

    def of_all(x: pl.Expr) -> pl.Expr:
        # The tolerance is half a cent per row, for amounts rounded before they were summed, or
        # half the unit that the total itself is rounded to.
        unit = pl.max_horizontal(
            pl.when(x % unit == 0).then(unit).otherwise(0) for unit in _ROUNDED
        )
        off = pl.max_horizontal(0.005 * pl.len(), pl.min_horizontal(unit / 2, x * _OFF))
        sums = (x.sum() - x, x.filter(~named).sum())
        equal = pl.any_horizontal((x - whole).abs() <= off for whole in sums)
        return (x > 0) & equal & (x.count() > 2)

    def of_rows_before(x: pl.Expr) -> pl.Expr:
        cents = (x * CENTS).round().cast(pl.Int64, strict=False)
        until = pl.when(named).then(0).otherwise(cents).fill_null(0).cum_sum()
        return (x > x.filter(~named).max()) & (until - cents).is_in(until.append(0).implode())

    known = [values[name] for name in money if name in values] or list(values.values())
    subtotal = pl.all_horizontal(x.is_null() | of_rows_before(x) for x in known)
    subtotal &= pl.any_horizontal(x.is_not_null() for x in known)
    total = pl.any_horizontal(map(of_all, values.values())).fill_null(value=False)
    broken = named & (total | subtotal)
    problem = "rows are a total of others, by name and size"
    hint = "a total is no account: leave it out of the export"
    column = identifier if identifier in texts else texts[0]
    return [RowRule(column, broken, problem, hint, sign=named.sum())]


def _date_rules(column: str, dtype: pl.DataType) -> list[RowRule]:
    """Return rules for the spec's `as_of` column: each date is known and finite."""
    problem, hint = "values of the spec's as_of are null", "fill it, or give --as-of DATE"
    rule = RowRule(column, pl.col(column).is_null(), problem, hint)
    # The contract refuses a column of another type.
    return [rule, _endless_rule(column, "the spec's as_of")] if dtype == pl.Date else [rule]


def _endless_rule(column: str, of: str) -> RowRule:
    problem = f"values of {of} are infinite, or outside the years 1 to 9999"
    return RowRule(column, endless(column), problem, "write a date, or null where there is none")


def _feature_rules(name: str, feature: Feature, schema: pl.Schema) -> list[RowRule]:
    """Return rules for a feature: its values are known, finite, and accepted by its encoder."""
    values = f'values of feature "{name}"'
    if feature.conditions:
        # Conditions accept any number and say what unknown values count, so only categories matter.
        return [
            each
            for condition in feature.conditions
            for each in _category_rules(condition.column, schema, condition.categories, values)
        ]
    [column] = feature.reads(name)
    x, dtype, encoder = pl.col(column), schema[column], feature.encode
    unknown, listed = is_missing(column, dtype), categories_of(encoder)
    rules = []
    if not counts_unknown(feature):
        what = "null or NaN" if dtype.is_float() else "null"
        hint = (
            "give it a bin named missing"
            if isinstance(encoder, Bins)
            else f"say what an unknown counts in the spec: {name}: {{missing: {{value: 0}}}}"
        )
        rules.append(RowRule(column, unknown, f"{values} are {what}", hint))
    if isinstance(encoder, DaysBeforeEncoder):
        rules.append(_endless_rule(column, f'feature "{name}"'))
    if dtype.is_float():
        rules.append(
            RowRule(column, x.is_infinite(), f"{values} are infinite", "replace or cap them")
        )
    if isinstance(encoder, BoolEncoder) and dtype != pl.Boolean:
        odd = ~x.cast(pl.Float64).is_in([0.0, 1.0]) & ~unknown
        hint = "encode it with range or identity"
        rules.append(RowRule(column, odd, f"{values} are neither 0 nor 1", hint, x))
    if listed is not None:
        rules += _category_rules(column, schema, listed, values)
    complete = (isinstance(encoder, OneOfEncoder) and encoder.default is None) or (
        isinstance(encoder, Bins) and "other" not in encoder.bins
    )
    if complete:
        unlisted = ~lies_in(encoder, column, dtype) & ~unknown
        if (otherwise := written_otherwise(column, dtype, listed or ())) is not None:
            unlisted &= ~otherwise[0].fill_null(value=False)
        problem = f"{values} are in none of the spec's categories or bins"
        rules.append(RowRule(column, unlisted, problem, "add a default, or a bin named other", x))
    return rules


def _category_rules(
    column: str, schema: pl.Schema, listed: Collection[str], values: str
) -> list[RowRule]:
    """Return rules for categories: numbers are exact in their type, and spelled as in the spec."""
    x, dtype, rules = pl.col(column), schema[column], []
    if listed and dtype.is_float():
        odd = x.abs() >= (2**24 if dtype == pl.Float32 else EXACT)
        problem = f"{values} are, as categories, too large for {dtype} to hold exactly"
        hint = "two may have become one: store them as text or as integers"
        rules.append(RowRule(column, odd & x.is_finite(), problem, hint, x.cast(pl.String)))
    if (otherwise := written_otherwise(column, dtype, listed)) is not None:
        problem = (
            f"{values} equal one of the spec's categories as numbers, and are written otherwise"
        )
        hint = f"the spec has {culprits(otherwise[1])}: write them one way, here or there"
        rules.append(RowRule(column, otherwise[0], problem, hint, x))
    return rules


def outcome_rules(outcomes: OutcomeColumns, schema: pl.Schema) -> list[RowRule]:
    """Return rules for outcomes: labels are 0 or 1, and agree with each other and with MRR."""
    number = partial(outcomes.number, schema=schema)
    retained, churned, end = number("retained"), number("churned"), number("mrr_end")
    label = pl.coalesce(retained, 1 - churned)
    former = number("won_back").is_not_null()
    labels = outcomes.has("retained", "churned")
    #: The role of each rule's column, and the rule's other fields.
    rules: list[tuple[Any, ...]] = []
    for role in filter(outcomes.has, ("retained", "churned", "activated", "won_back")):
        x, problem = number(role), f"values of outcome {role} are neither 0 nor 1"
        hint = "labels are 0 and 1, null where unknown"
        rules.append((role, ~x.is_in([0.0, 1.0]), problem, hint, x))
    if outcomes.has("retained") and outcomes.has("churned"):
        problem = f'accounts are not either "{outcomes.columns["retained"]}" or churned'
        hint = "exactly one of the two is 1"
        rules.append(("churned", retained + churned != 1, problem, hint))
    if outcomes.has("won_back"):
        problem = "former accounts also have a retention label"
        hint = "who left before the window has won_back, no label; who is current the reverse"
        rules.append(("won_back", former & label.is_not_null(), problem, hint))
    for role in filter(outcomes.has, ("mrr", "mrr_end", "ltv", "days_to_activate")):
        x = number(role)
        if role != "ltv":
            problem, hint = f"values of {role} are negative", "amounts are 0 or more"
            rules.append((role, x < 0, problem, hint, x))
        too_large = x.is_infinite() | (x.abs() * CENTS > EXACT)
        rules.append((role, too_large, f"values of {role} are infinite or above 9e13"))
    if outcomes.has("mrr") and outcomes.labelled:
        current = ~former & (label if labels else end).is_not_null()
        problem = "values of mrr are unknown for current accounts"
        hint = "MRR at the start of the window; 0 for who pays nothing"
        rules.append(("mrr", number("mrr").is_null() & current, problem, hint))
    if outcomes.has("mrr_end") and labels:
        problem = "churned accounts have an end MRR above 0"
        hint = "who left pays nothing at the window's end: label or amount is wrong"
        rules.append(("mrr_end", (label == 0) & (end > 0), problem, hint))
        problem = "values of mrr_end are unknown for retained accounts"
        hint = "give the amount at the window's end; it may be 0"
        rules.append(("mrr_end", (label == 1) & end.is_null(), problem, hint))
    return [RowRule(outcomes.columns[role], *rest) for role, *rest in rules]


# ---- the order of time --------------------------------------------------------------------------


def _window_rules(window: Window, by: date | None) -> list[RowRule]:
    """Return rules for the window: features precede outcomes, and outcomes end after they start.

    The window's columns must exist and hold dates. With `by`, outcomes must be complete by that
    day.
    """
    days = window.model_dump(exclude_none=True)
    columns = {key: text for key, text in days.items() if stated_date(text) is None}
    hint = "every account has its own window, or write one date for all"
    rules = [
        RowRule(column, pl.col(column).is_null(), f"values of window {key} are null", hint)
        for key, column in columns.items()
    ]
    rules += [_endless_rule(column, f"window {key}") for key, column in columns.items()]

    def rule(keys: tuple[str, ...], broken: pl.Expr, problem: str, hint: str) -> None:
        column = next((columns[key] for key in keys if key in columns), "")
        rules.append(RowRule(column, broken, problem, hint))

    first, last = "outcome_start", "outcome_end"
    if then := next((key for key in (first, last) if key in days), None):
        late = _day(window.features_asof) >= _day(days[then])
        problem = f"accounts have features_asof not before {then}"
        hint = "what was known on the outcomes' own days may be the outcome"
        rule(("features_asof", then), late, problem, hint)
    if first in days and last in days:
        problem, hint = f"accounts have {last} before {first}", "a window ends after it begins"
        rule((first, last), _day(days[last]) < _day(days[first]), problem, hint)
    if by is not None and last in days:
        problem = f"accounts have outcomes that aren't complete by {by}"
        hint = "leave them out until their window is over"
        rule((last,), _day(days[last]) > pl.lit(by), problem, hint)
    return rules


def overlap(window: Window, searched: AccountTable, later: AccountTable) -> list[Violation]:
    """Return a violation if accounts of a later table have features from before the window ends.

    Both tables must have the window's columns. Without `outcome_end` there is no violation.
    """
    if window.outcome_end is None:
        return []
    last = stated_date(window.outcome_end)
    if last is None:
        ends = searched.frame.select(_day(window.outcome_end).max())
        last = collect(searched, ends).item()
    early = (_day(window.features_asof) < pl.lit(last)).sum()
    accounts, count = collect(later, later.frame.select(pl.len(), early.alias("early"))).row(0)
    if not count:
        return []
    problem = (
        f"{count:,} of {accounts:,} accounts have features from before {last}, when the "
        "last outcome that is searched was complete"
    )
    hint = "the holdout begins where the search window is over"
    return [Violation("", problem, hint=hint, rows=count)]


def _day(text: str) -> pl.Expr:
    stated = stated_date(text)
    if stated is None:
        return pl.col(text)
    # One value per row, so that a comparison of two stated dates counts rows.
    return pl.repeat(stated, pl.len(), dtype=pl.Date)


# ---- rows left out ------------------------------------------------------------------------------

#: Share of rows that the hint suggests for `--set-aside`.
_SHARE = 0.01
#: Column of the file of rows set aside that holds the rules that a row breaks.
_REASON = "set_aside_for"


@dataclass(frozen=True)
class SetAside:
    """The rows left out of a table, and the rules that they break."""

    #: The share of rows that the user allowed, in [0, 1); None where none may be left out.
    share: float | None = None
    #: Rows left out; a row that breaks two rules counts once.
    rows: int = 0
    #: Rows by rule; a row that breaks two rules counts in both.
    counts: dict[str, int] = field(default_factory=dict)
    #: The rows with their reasons, read only by `written`.
    frame: pl.LazyFrame | None = field(default=None, compare=False)

    @property
    def listed(self) -> str:
        """Each rule with the number of rows that break it."""
        return "; ".join(f"{rule}: {count:,}" for rule, count in self.counts.items())

    @property
    def sentence(self) -> str:
        """The note on the rows left out, by rule."""
        rows = f"{self.rows:,} rows that break the data contract are"
        if self.rows == 1:
            rows = "1 row that breaks the data contract is"
        return f"{rows} set aside: {self.listed}."

    @property
    def parameters(self) -> dict[str, object]:
        """Entries for a run's record."""
        if self.share is None:
            return {}
        counts = {f"set_aside.{rule}": count for rule, count in self.counts.items()}
        return {"set_aside": self.share, **counts}

    def written(self) -> pl.DataFrame:
        """Collect the rows, nested and binary values as text, which any file format can hold."""
        frame = pl.DataFrame() if self.frame is None else self.frame.collect(engine="streaming")
        nested = [n for n, t in frame.schema.items() if t.is_nested() or t == pl.Binary]
        return frame.with_columns(
            pl.Series(name, [None if v is None else str(v) for v in frame[name]], dtype=pl.String)
            for name in nested
        )


def leave_out(
    table: AccountTable, rules: list[RowRule], share: float
) -> tuple[AccountTable, SetAside]:
    """Return the table without rows that break a rule, and these rows with their reasons.

    Raises
    ------
    AccountDataError
        If they are more than this share of all rows.
    UsageError
        If the share is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise UsageError(
            f"the share of rows to set aside must be in [0, 1), got {share:g}",
            hint=f"--set-aside {_SHARE:g}",
        )
    if not rules:
        return table, SetAside(share)
    broken = pl.any_horizontal(rule.mask for rule in rules)
    each = [rule.mask.sum().alias(str(i)) for i, rule in enumerate(rules)]
    columns = [pl.len().alias("rows"), broken.sum().alias("broken"), *each]
    rows, count, *by_rule = collect(table, table.frame.select(columns)).row(0)
    if not count:
        return table, SetAside(share)
    counts: Counter[str] = Counter()
    for rule, number in zip(rules, by_rule, strict=True):
        counts.update({rule.problem: number} if number else {})
    aside = SetAside(share, count, dict(counts))
    if count > share * rows:
        needed = -(-count * 1_000 // rows) / 1_000
        raise AccountDataError(
            f"{table.source}: {count:,} of {rows:,} rows break the data contract, "
            f"{count / rows:.2%}, more than the {share:.2%} that may be set aside: {aside.listed}",
            hint=f"mend the table, or allow for more: --set-aside {needed:g}",
        )
    # Every reading of the table from here on asks these again; rules that no row breaks, most of
    # them, would only cost. The check of the rows that stay has all rules.
    rules = [rule for rule, number in zip(rules, by_rule, strict=True) if number]
    broken = pl.any_horizontal(rule.mask for rule in rules)
    reasons = pl.concat_list(pl.when(rule.mask).then(pl.lit(rule.problem)) for rule in rules)
    own = f"{OWN}{_REASON}"
    marked = table.frame.with_columns(
        reasons.list.drop_nulls().list.unique(maintain_order=True).alias(own)
    )
    reason = pl.col(own).list.join("; ").alias(_REASON)
    out = marked.filter(broken).select(reason, *table.columns)
    return replace(table, frame=table.frame.filter(~broken)), replace(aside, frame=out)
