"""The data contract: validates an account table against a spec and raises all violations at once.

Names and types are validated first. One streaming query then counts the rows that break each rule,
and a second query fetches the first few of those rows where there are any. Facts that don't break
the contract but that a user should know become notes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar.data.dates import ASOF, TableDates
from gtmar.data.encode import (
    NUMERIC,
    as_text,
    categories_of,
    category,
    counts_unknown,
    encoded_value,
    half_up,
    is_missing,
)
from gtmar.data.outcomes import (
    CENTS,
    OutcomeColumns,
    canonical_outcomes,
    lacks_outcome,
    plain_name,
    with_labels,
)
from gtmar.data.prepare import prepared
from gtmar.data.rules import (
    ACCOUNT,
    EXACT,
    OWN,
    RowRule,
    SetAside,
    contract_rules,
    leave_open_out,
    leave_out,
    pooled_hint,
)
from gtmar.data.scan import ID_NAMES, AccountTable, collect, first_values, likely_id, refuse_empty
from gtmar.data.split import canonical_id, may_identify
from gtmar.data.text_columns import ONE_CURRENCY, TEXT_TYPES, names_currency
from gtmar.errors import UsageError, Violation, ViolationsError, culprits, did_you_mean, nearest
from gtmar.plain_data import of_one, some
from gtmar.spec.encoders import Bins, DaysBeforeEncoder, OneOfEncoder
from gtmar.spec.model import LABELS, Feature, Outcomes, ScoringSpec, stated_as_of, stated_date

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gtmar.spec.rule import Condition

    #: Asks a query of the parts of a table, each by itself; gives a row of facts for each.
    CountParts = Callable[
        [AccountTable, Callable[[pl.LazyFrame], pl.LazyFrame]], list[dict[str, Any]]
    ]

__all__ = [
    "MOST_SEGMENTS",
    "Checked",
    "as_of_date",
    "check_contract",
    "check_segments",
    "currency_facts",
    "currency_notes",
    "id_column",
    "needed_id",
]

#: Largest number of values of a segment column. A column with more holds ids, not segments.
MOST_SEGMENTS = 100
#: Number of features that the note on unknown values names, the most affected first.
_FEATURES_NAMED = 5
_MONEY = ("mrr", "mrr_end", "ltv")
_DATE_HINT = (
    "store it as a date, or as text YYYY-MM-DD; where day and month could be either, say which "
    "with --date-format %d/%m/%Y or %m/%d/%Y, %y for years of two digits, or date_format in the "
    "spec; a spreadsheet's day numbers, such as 45296, have to be formatted as dates there"
)


@dataclass(frozen=True)
class Checked:
    """A table that keeps the contract, with the counts and notes of its validation."""

    #: Distinct accounts, without the dropped rows.
    accounts: int
    #: Rows, without the dropped ones. More than `accounts` in a table of several dates.
    rows: int
    #: Rows without any outcome, left out because of `drop_unlabelled`.
    dropped: int
    #: None where the table has no account id.
    id_column: str | None
    outcomes: OutcomeColumns
    #: Smallest and largest encoded value by term, in 1/10,000ths.
    ranges: dict[str, tuple[int, int]]
    #: One sentence each about facts that don't break the contract.
    notes: tuple[str, ...]
    #: The table as it was read, without the rows that were set aside.
    table: AccountTable = field(compare=False)
    #: Notes that every verdict on the table repeats: rows set aside, and columns whose categories
    #: don't match the spec's.
    warnings: tuple[str, ...] = ()
    #: Notes on how the table was read, and on columns whose categories don't match the spec's.
    reading: tuple[str, ...] = ()
    set_aside: SetAside = field(default_factory=SetAside)


def id_column(spec: ScoringSpec, columns: list[str]) -> str | None:
    """Return the account id's column: the spec's, else the first of `ID_NAMES` in the table."""
    if spec.id is not None:
        return spec.id
    lowered = {name.lower(): name for name in columns}
    return next((lowered[name] for name in ID_NAMES if name in lowered), None)


def needed_id(spec: ScoringSpec, table: AccountTable, otherwise: str) -> str:
    """Return the account id's column.

    Raises
    ------
    UsageError
        If there is none; its message ends with `otherwise`, what can't be done without an id.
    """
    name = id_column(spec, table.columns)
    if name is None:
        raise UsageError(
            f"{table.source}: no column is the account's id, so {otherwise}",
            hint="id: COLUMN in the spec names it",
        )
    return name


def as_of_date(
    spec: ScoringSpec, schema: pl.Schema, as_of: str | None, dates: TableDates | None = None
) -> pl.Expr | None:
    """Return the date that `days_before` counts from, as an expression.

    It is `as_of` for all accounts where given, else the spec's `as_of` column, else the date of
    each row in a table of several dates. None where there is none of these.

    Raises
    ------
    UsageError
        If `as_of` is no date, or is given for features that count days in a table of several dates.
    """
    if as_of is not None:
        day = pl.lit(stated_as_of(as_of))
        if spec.date_columns and dates is not None and dates.several:
            raise UsageError(
                f"{as_of} is one date to count from, and the table has {len(dates.days):,}",
                hint="leave --as-of away: days_before counts from the date that a row is of",
            )
        return day
    if spec.as_of is not None and spec.as_of in schema:
        return pl.col(spec.as_of)
    return None if dates is None else dates.day(schema)


def check_contract(
    table: AccountTable,
    spec: ScoringSpec,
    *,
    as_of: str | None = None,
    drop_unlabelled: bool = False,
    set_aside: float | None = None,
    outcomes: bool = True,
    count: CountParts | None = None,
) -> Checked:
    """Validate an account table against the data contract.

    Parameters
    ----------
    as_of
        ISO date that `days_before` counts from; None for the spec's column or the rows' dates.
    drop_unlabelled
        Drop accounts without any outcome, and count them, instead of raising.
    set_aside
        Largest share of rows, in [0, 1), that may be left out for breaking the contract; None to
        raise instead.
    outcomes
        False for a table that is only scored: outcomes are then neither needed nor validated.
    count
        Counts each part of the table, for a table that shards read; None for this process. Ids that
        occur in two parts are then left to the caller, who has all ids.

    Returns
    -------
    Checked
        The table with its text read, and the counts and notes of the validation.

    Raises
    ------
    ViolationsError
        If the table breaks the contract; it holds every violation.
    AccountDataError
        If the table is empty or can't be read, or more rows than `set_aside` break the contract.

    Notes
    -----
    Cost: one streaming pass over the needed columns, and a second one where rows break a rule,
    besides the passes that `prepared` takes over text columns.
    """
    refuse_empty(table)
    check = _Check(prepared(table, spec, outcomes=outcomes), spec, as_of=as_of, outcomes=outcomes)
    left_open = None
    if outcomes:
        ended = leave_open_out(check.table, check.outcome_columns, spec.window, as_of)
        check.table, left_open = ended
    rules = check.rules()
    aside = SetAside()
    if set_aside is not None:
        if check.violations:
            # Rows can't be validated while columns are missing or of the wrong type.
            raise ViolationsError(table.source, check.violations)
        check.table, aside = leave_out(check.table, rules, set_aside)
        refuse_empty(check.table)
    facts = check.facts(rules, count)
    rows = int(facts["rows"])
    unlabelled = int(facts["unlabelled"]) if outcomes and check.numeric.columns else 0
    broken = check.rows(rules, facts)
    check.unlabelled(unlabelled, facts, drop=drop_unlabelled)
    # The encoded values of broken rows mean nothing.
    ranges = {} if broken else check.ranges(facts)
    strange = check.strange_categories(facts)
    if check.violations:
        mended = all(violation.rows and violation.column for violation in check.violations)
        broken_rows = int(facts.get("broken") or 0), rows
        aside_rows = broken_rows if mended else None
        raise ViolationsError(table.source, check.violations, set_aside=aside_rows)
    columns, table, identifier = check.outcome_columns, check.table, check.identifier
    read = {*columns.columns.values(), *spec.columns, *spec.segments}
    of_text = table.texts.notes(read) if table.texts else []
    as_read = (*table.notes, *([left_open] if left_open else ()), *strange, *of_text)
    counted = {name: facts[f"{name}.unknown"] for name in _stated_unknowns(spec)}
    unknowns = {name: int(count) for name, count in counted.items() if count}
    later = {name: int(facts.get(f"{name}.later") or 0) for name in spec.features}
    dropped = unlabelled if drop_unlabelled else 0
    left_out = (aside.sentence,) if aside.rows else ()
    notes = [*left_out]
    if outcomes:
        notes += _outcome_notes(facts, columns, identifier)
        notes += _unnamed([n for n in table.columns if n not in read], spec, columns, identifier)
    return Checked(
        accounts=int(facts.get("accounts", rows)) - dropped,
        rows=rows - dropped,
        dropped=dropped,
        id_column=identifier,
        outcomes=columns,
        ranges=ranges,
        notes=(
            *check.of_rows(*notes, *_unknown_notes(unknowns, rows), *_later_notes(later, rows)),
            *as_read,
        ),
        warnings=(*left_out, *strange),
        reading=as_read,
        # Reading its text again would bring back the rows that were left out.
        table=replace(table, texts=None) if aside.rows or left_open else table,
        set_aside=aside,
    )


def check_segments(
    table: AccountTable, spec: ScoringSpec, columns: Sequence[str], *, as_of: str | None
) -> None:
    """Raise `ViolationsError` for columns that can't be segments of a table that fits a spec."""
    spec = spec.model_copy(update={"segments": tuple(columns)})
    if violations := _Check(table, spec, as_of=as_of, outcomes=True).violations:
        raise ViolationsError(table.source, violations)


class _Check:
    """One validation of a table against a spec: its state and the violations so far."""

    def __init__(
        self, table: AccountTable, spec: ScoringSpec, *, as_of: str | None, outcomes: bool
    ) -> None:
        self.table, self.spec, self.as_of, self.outcomes = table, spec, as_of, outcomes
        self.violations: list[Violation] = []
        self.identifier = id_column(spec, table.columns)
        self.outcome_columns = OutcomeColumns.matching(spec.outcomes, table.columns)
        self._check_names()
        #: Features whose columns exist and have a type that the encoder reads.
        self.features = self._present_features()
        self.day = as_of_date(spec, table.schema, as_of, table.dates)
        self._check_types()
        #: Outcomes whose columns are numeric.
        self.numeric = OutcomeColumns(self._numeric_outcomes() if outcomes else {})
        if outcomes:
            self._check_segments()
        self._check_currencies()

    def of_rows(self, *sentences: str) -> list[str]:
        """Write "rows" for "accounts" in sentences about a table of several dates."""
        if self.table.several is None:
            return list(sentences)
        return [re.sub(r"\baccounts\b", "rows", sentence) for sentence in sentences]

    def refuse(self, column: str, problem: str, hint: str = "", rows: int = 0) -> None:
        self.violations.append(Violation(column, problem, hint=hint, rows=rows))

    def refuse_absent(self, column: str, role: str, otherwise: str | None = None) -> None:
        if column in self.table.unread and otherwise is None:
            problem = f"can't be read ({role}): {self.table.unread[column]}"
            self.refuse(column, problem, "store it as a number or a date")
            return
        columns = self.table.columns
        hint = did_you_mean(column, columns) or otherwise or f"the table has {culprits(columns)}"
        self.refuse(column, f"no such column ({role})", hint)

    def _check_names(self) -> None:
        """Refuse absent columns that the spec names, except those of features."""
        table, spec, identifier = self.table, self.spec, self.identifier
        needed = {} if identifier is None else {identifier: "the spec's id"}
        if spec.as_of is not None:
            needed[spec.as_of] = "the spec's as_of"
        if self.outcomes:
            named = spec.outcomes.model_dump(exclude_defaults=True)
            needed |= {name: f"outcome {role}" for role, name in named.items()}
        # A table that is only scored needs no outcomes.
        spared = () if self.outcomes else spec.outcomes.model_dump().values()
        stated = {"required_columns": [*spec.required_columns], "read": [*spec.read.columns]}
        for key, columns in stated.items():
            needed |= {name: f"the spec's {key}" for name in columns if name not in spared}
        for column, role in needed.items():
            if column not in table.columns:
                self.refuse_absent(column, role)
        dtype = table.schema.get(identifier or "")
        if identifier is not None and dtype is not None and not may_identify(dtype):
            self.refuse(identifier, f"expected account ids, got {dtype}")
        if self.outcomes and not self.outcome_columns.columns and table.columns:
            names = ", ".join(str(f.default) for f in type(spec.outcomes).model_fields.values())
            hint = "name yours in the spec: outcomes: {retained: my_column}"
            self.refuse("", f"no outcome column; expected at least one of {names}", hint)

    def _present_features(self) -> dict[str, Feature]:
        present = {}
        for name, feature in self.spec.inputs.items():
            before = len(self.violations)
            for column in feature.reads(name):
                if self.outcomes and column in self.outcome_columns.columns.values():
                    problem = f'feature "{name}" reads it, and it is an outcome'
                    self.refuse(
                        column,
                        f"{problem}: a score must not see that",
                        "take the feature out, or name the outcome's own column in the spec",
                    )
                elif column not in self.table.columns:
                    self.refuse_absent(column, f'feature "{name}"')
            if len(self.violations) == before:
                present[name] = feature
        return present

    def _check_types(self) -> None:
        """Refuse columns whose type an encoder can't read; keep the features that pass."""
        as_of = self.spec.as_of
        dated = self.table.schema.get(as_of) if as_of is not None else None
        if as_of is not None and dated is not None and dated not in (pl.Date, pl.Datetime):
            problem = f"the spec's as_of expects dates, got {dated}{self._shown_text(as_of)}"
            self.refuse(as_of, problem, _DATE_HINT)
            self.day = None
        # A rule that lacks one column still has its other columns validated.
        looked_at = {n: f for n, f in self.spec.inputs.items() if n in self.features or f.rule}
        readable = {n for n, f in looked_at.items() if self._readable(n, f)}
        self.features = {n: f for n, f in self.features.items() if n in readable}

    def _readable(self, name: str, feature: Feature) -> bool:
        """Return whether a feature's encoder can read its column, and refuse the column if not."""
        if conditions := feature.conditions:
            there = [c for c in conditions if c.column in self.table.schema]
            answerable = [self._answerable(name, condition) for condition in there]
            return all(answerable)
        [column], encoder = feature.reads(name), feature.encode
        dtype = self.table.schema[column]
        if isinstance(encoder, DaysBeforeEncoder):
            if self.day is None:
                hint = "give --as-of DATE, or name the column in the spec's as_of"
                self.refuse(column, "days_before has no date to count from", hint)
            elif dtype != pl.Date:
                unlike = self.table.unlike(column)
                got = unlike[0] if unlike else f"{dtype}{self._shown_text(column)}"
                plain = "store it as a date; dates as text are read as YYYY-MM-DD"
                hint = _DATE_HINT if dtype == pl.String else plain
                self.refuse(column, f"expected dates, got {got}", hint)
            return self.day is not None and dtype == pl.Date
        numbers = isinstance(encoder, Bins) and bool(encoder.intervals)
        if numbers or isinstance(encoder, NUMERIC):
            expects = f'feature "{name}" has encoder {encoder.kind} and expects numbers'
            return self._of_numbers(column, expects, "encode categories with one_of or bins")
        if isinstance(encoder, OneOfEncoder | Bins) and dtype.is_nested():
            self.refuse(column, f"expected categories, got {dtype}")
            return False
        return True

    def _answerable(self, name: str, condition: Condition) -> bool:
        """Return whether a rule's condition fits its column's type, and refuse it if not."""
        column, dtype = condition.column, self.table.schema[condition.column]
        if condition.number is not None:
            expects, hint = f'rule "{name}" compares it with a number', "list categories by in"
            if dtype.is_temporal():
                hint = "a date is no part of a rule; a feature of its own counts it as days_before"
            return self._of_numbers(column, expects, hint)
        if condition.categories and dtype.is_nested():
            self.refuse(column, f'rule "{name}" lists categories, got {dtype}')
            return False
        return True

    def _of_numbers(self, column: str, expects: str, otherwise: str) -> bool:
        """Return whether a column holds numbers, and refuse it if not.

        `otherwise` is the hint for a column of categories.
        """
        dtype = self.table.schema[column]
        if _is_number(dtype):
            return True
        values = self._shown(column)
        if dtype == pl.String and not values:
            # A CSV column without any value is typed as text, though it may be meant as numbers.
            return True
        got, hint = self.table.unlike(column) or (f"{dtype}: {values}", otherwise)
        self.refuse(column, f"{expects}, got {got}", hint)
        return False

    def _numeric_outcomes(self) -> dict[str, str]:
        """Return the outcome columns that are numeric, by role, and refuse the others."""
        numeric = {}
        for role, column in self.outcome_columns.columns.items():
            dtype = self.table.schema[column]
            if _is_number(dtype):
                numeric[role] = column
                continue
            expected = "amounts" if role in _MONEY else "0 and 1"
            plain = f"{dtype}: {self._shown(column)}", "store it as a number"
            got, hint = self.table.unlike(column) or plain
            if role in LABELS and dtype in TEXT_TYPES:
                named = Outcomes(**{role: column})
                _, read = with_labels(self.table, named, self.spec.labels)
                # A column of blanks alone has no words.
                hint = read[0].hint if read and read[0].unknown else hint
            self.refuse(column, f"outcome {role} expects {expected}, got {got}", hint)
        return numeric

    def _check_segments(self) -> None:
        """Refuse segment columns that are absent, nested, or have too many values."""
        table = self.table
        usable = []
        for name in self.spec.segments:
            dtype = table.schema.get(name)
            if dtype is None:
                self.refuse_absent(name, "a segment", "take it out of the spec's segments")
            elif dtype.is_nested():
                self.refuse(name, f"expected values of a segment, got {dtype}")
            else:
                usable.append(name)
        if not usable:
            return
        texts = (as_text(name, table.schema[name]).n_unique() for name in usable)
        for name, count in collect(table, table.frame.select(texts)).row(0, named=True).items():
            if count > MOST_SEGMENTS:
                problem = f"has {count:,} values, more than {MOST_SEGMENTS} segments"
                hint = "name a column with few values, such as a plan or a region"
                self.refuse(name, problem, hint)

    def _check_currencies(self) -> None:
        """Refuse columns read as money whose amounts are in several currencies."""
        if self.table.texts is None:
            return
        read = {*self.spec.columns, *self.spec.segments}
        if self.outcomes:
            read |= {*self.outcome_columns.columns.values()}
        mixed = self.table.texts.in_several_currencies(read, partial(collect, self.table))
        for name, problem in mixed.items():
            self.refuse(name, problem, ONE_CURRENCY)

    def _window_fits(self) -> bool:
        """Return whether the window's columns exist and hold dates, and refuse them if not."""
        window, before = self.spec.window, len(self.violations)
        for key, text in window.model_dump(exclude_none=True).items() if window else ():
            try:
                if stated_date(text) is not None:
                    continue
            except ValueError as err:
                self.refuse("", f'window {key} is no date: "{text}" ({err})')
                continue
            dtype = self.table.schema.get(text)
            if dtype is None:
                self.refuse_absent(text, f"window {key}", "or write a date, as YYYY-MM-DD")
            elif dtype != pl.Date:
                got = f"{dtype}{self._shown_text(text)}"
                self.refuse(text, f"window {key} expects dates, got {got}", _DATE_HINT)
        return len(self.violations) == before

    def rules(self) -> list[RowRule]:
        """Return the rules that every row must keep.

        Refuses a window's columns that don't fit, and several dates without an account id.
        """
        several, pooled = self.table.several, None
        if several is not None and self.identifier is None:
            self.refuse("", "a table of several dates needs account ids", "id: COLUMN in the spec")
        elif several is None and (pooled := pooled_hint(self.table)) and self.identifier is None:
            problem = "the table has rows of several dates, and no account id tells whose they are"
            self.refuse(ASOF, problem, pooled)
        rules = contract_rules(
            self.spec,
            self.table.schema,
            self.features,
            identifier=self.identifier,
            as_of=self.as_of,
            outcomes=self.numeric if self.outcomes else None,
            windowed=self.outcomes and self._window_fits(),
            dates=several,
        )
        if pooled is None:
            return rules
        # Rows that share an id may be one account on several dates.
        twice = "share their account id"
        return [replace(each, hint=pooled) if twice in each.problem else each for each in rules]

    def facts(self, rules: list[RowRule], count: CountParts | None = None) -> dict[str, Any]:
        """Aggregate all counts in one streaming query, and fetch rows that break rules in another.

        The result has one entry per aggregate, keyed by rule number, feature or term, and name.
        """
        schema, table, spec, numeric = self.table.schema, self.table, self.spec, self.numeric
        wanted: list[pl.Expr] = [pl.len().alias("rows")]
        identifier = self.identifier
        if table.several is not None and may_identify(schema.get(identifier or "", pl.Object())):
            key = canonical_id(str(identifier), schema[str(identifier)])
            wanted.append(key.n_unique().alias("accounts"))
        signs = (rule.mask.sum() if rule.sign is None else rule.sign for rule in rules)
        wanted += [sign.alias(f"{i}.count") for i, sign in enumerate(signs)]
        if len(self.features) == len(spec.inputs):
            for term in spec.terms:
                # Doubles, so that a value too large for an integer is reported as a violation
                # instead of failing the query.
                value = encoded_value(spec, term, schema, self.day)
                wanted.append(value.min().alias(f"{term.name}.low"))
                wanted.append(value.max().alias(f"{term.name}.high"))
            for name, column in _stated_unknowns(spec).items():
                wanted.append(is_missing(column, schema[column]).sum().alias(f"{name}.unknown"))
        for name, feature in self.features.items():
            wanted += _category_facts(name, feature, schema)
            if self.day is not None and isinstance(feature.encode, DaysBeforeEncoder):
                later = pl.col(feature.reads(name)[0]) > self.day
                wanted.append(later.sum().alias(f"{name}.later"))
        canonical = {}
        if numeric.columns:
            known = canonical_outcomes(numeric, schema).items()
            canonical = {f"{OWN}{name}": value for name, value in known}
            wanted += _outcome_facts(numeric, schema)
        lazy = table.frame.with_columns(**canonical)
        facts = _facts_of(table, lambda rows: rows.with_columns(**canonical).select(wanted), count)
        broken = {i: rule for i, rule in enumerate(rules) if facts[f"{i}.count"]}
        fetched: list[pl.Expr] = []
        for i, rule in broken.items():
            shown = rule.shown.filter(rule.mask).unique(maintain_order=True).head(6)
            fetched.append(rule.mask.sum().alias(f"{i}.count"))
            fetched.append(shown.implode().alias(f"{i}.culprits"))
        if broken:
            any_broken = pl.any_horizontal(rule.mask for rule in broken.values())
            fetched.append(any_broken.sum().alias("broken"))
        if facts.get("unlabelled"):
            bare = pl.col(ACCOUNT).filter(lacks_outcome(numeric, prefix=OWN)).head(6)
            fetched.append(bare.implode().alias("unlabelled.culprits"))
        if fetched:
            account = pl.format("row {}", pl.int_range(1, pl.len() + 1))
            if identifier is not None and may_identify(schema.get(identifier, pl.Object())):
                account = canonical_id(identifier, schema[identifier])
            lazy = lazy.with_columns(account.alias(ACCOUNT))
            facts |= collect(table, lazy.select(fetched)).row(0, named=True)
        return facts

    def rows(self, rules: list[RowRule], facts: Mapping[str, Any]) -> bool:
        """Refuse rows that break a rule, and return whether there are any."""
        before = len(self.violations)
        for i, rule in enumerate(rules):
            if count := int(facts[f"{i}.count"]):
                listed = _first(facts[f"{i}.culprits"])
                [problem_text] = self.of_rows(rule.problem)
                if count == 1:
                    problem_text = of_one(problem_text)
                problem = f"{count:,} of {facts['rows']:,} {problem_text}: {listed}"
                self.refuse(rule.column, problem, rule.hint, count)
        return len(self.violations) > before

    def unlabelled(self, count: int, facts: Mapping[str, Any], *, drop: bool) -> None:
        """Refuse accounts without any outcome, or with `drop` a table that has no other."""
        rows = facts["rows"]
        if count and not drop:
            listed = _first(facts["unlabelled.culprits"])
            [noun] = self.of_rows("accounts")
            has = "has" if count == 1 else "have"
            problem = f"{count:,} of {rows:,} {noun} {has} no outcome of any kind: {listed}"
            if undecided := facts.get("end_without_label"):
                problem += (
                    f"; {some(undecided, 'has', 'have')} "
                    f"{self.outcome_columns.columns['mrr_end']}, which "
                    f"doesn't decide what the null in {_label_names(self.outcome_columns)} leaves "
                    "unknown"
                )
            self.refuse("", problem, "--drop-unlabelled leaves them out and counts them", count)
        if count == rows and drop:
            self.refuse("", "no account has an outcome", "see the outcome columns")

    def ranges(self, facts: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        """Return the smallest and largest encoded value by term, in 1/10,000ths.

        Refuses values above 2^53, which a double can't hold exactly.
        """
        ranges = {}
        for term in self.spec.terms:
            low, high = facts.get(f"{term.name}.low"), facts.get(f"{term.name}.high")
            if low is None or high is None:
                continue
            ranges[term.name] = (int(low), int(high))
            most = max(abs(low), abs(high))
            if most > EXACT:
                problem = f"values reach {most / 1e4:g}: too large to be exact"
                # Of a column that is scaled, such values are the spec's own.
                states = self.spec.features[term.feature].encode.kind in (
                    "curve",
                    "one_of",
                    "table",
                )
                own = f"the spec's values of {term.feature} go from 0 to 1 as a rule"
                hint = own if states else "scale it with `encode: {kind: range, ...}`"
                self.refuse(term.columns[0], problem, hint)
        return ranges

    def strange_categories(self, facts: Mapping[str, Any]) -> list[str]:
        """Return notes on columns most of whose known values the spec doesn't list.

        Refuses a column none of whose known values is listed. Also notes categories of rules that
        their column lacks.
        """
        notes = []
        for name, feature in self.features.items():
            listed, [column, *_] = categories_of(feature.encode), feature.reads(name)
            for key, condition in _lists(name, feature):
                absent = [each for each in condition.categories if each not in facts[key]]
                if absent:
                    notes.append(
                        f'Rule "{name}": no value of "{condition.column}" is {culprits(absent)}; '
                        f"it has {self._shown(condition.column) or 'none'}."
                    )
            known, strange = facts.get(f"{name}.known") or 0, facts.get(f"{name}.strange") or 0
            if listed is None or strange <= known / 2:
                continue
            cell = category(column, self.table.schema[column], listed)
            odd = cell.filter(cell.is_not_null() & ~cell.is_in(listed))
            most = odd.value_counts(sort=True).head(6).struct.field(column)
            values = collect(self.table, self.table.frame.select(most)).to_series().to_list()
            rest = "default" if feature.encode.kind == "one_of" else "other"
            if strange < known:
                notes.append(
                    f'Feature "{name}": {strange:,} of {known:,} known values are none of the '
                    f"spec's {len(listed):,} categories and count as {rest}: {_first(values)}."
                )
                continue
            likely = ((value, nearest(str(value), listed)) for value in values[:5])
            pairs = [f'"{value}" for "{meant}"' for value, meant in likely if meant]
            hint = f"the spec has {culprits(listed[:5])}" + ", ..." * (len(listed) > 5)
            if pairs:
                hint = f"is {', '.join(pairs)}? write them one way, here or in the spec"
            problem = (
                f'feature "{name}": none of its {known:,} known values is one of the spec\'s '
                f"categories, so all would count as {rest}: {_first(values)}"
            )
            self.refuse(column, problem, hint, strange)
        return notes

    def _shown(self, column: str) -> str:
        return first_values(self.table, column, 5)

    def _shown_text(self, column: str) -> str:
        return f": {self._shown(column)}" if self.table.schema[column] == pl.String else ""


def _facts_of(
    table: AccountTable, query: Callable[[pl.LazyFrame], pl.LazyFrame], count: CountParts | None
) -> dict[str, Any]:
    """Ask a table for facts: one row of a query, or as many as it is counted in."""
    if count is None:
        return dict(collect(table, query(table.frame)).row(0, named=True))
    parts = count(table, query)
    return {name: _together(name, [part[name] for part in parts]) for name in parts[0]}


def _together(name: str, values: list[Any]) -> Any:
    """Return a fact of a table by those of its parts: an end, values that there are, or a sum."""
    known = [value for value in values if value is not None]
    if name.endswith((".low", ".high")):
        end = min if name.endswith(".low") else max
        return end(known, default=None)
    if known and isinstance(known[0], list):
        return list(dict.fromkeys(each for value in known for each in value))
    return sum(known)


def _category_facts(name: str, feature: Feature, schema: pl.Schema) -> list[pl.Expr]:
    """Count a feature's known and unlisted values; collect a rule's categories that occur."""
    facts, listed, [column, *_] = [], categories_of(feature.encode), feature.reads(name)
    if listed:
        cell = category(column, schema[column], listed)
        facts.append(cell.count().alias(f"{name}.known"))
        facts.append((~cell.is_in(listed)).sum().alias(f"{name}.strange"))
    for key, condition in _lists(name, feature):
        named = list(condition.categories)
        cell = category(condition.column, schema[condition.column], named)
        facts.append(cell.filter(cell.is_in(named)).unique().implode().alias(key))
    return facts


def _lists(name: str, feature: Feature) -> list[tuple[str, Condition]]:
    """Return the conditions that list categories, with their keys in `facts`."""
    numbered = enumerate(feature.conditions)
    return [(f"{name}.listed{i}", each) for i, each in numbered if each.categories]


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype in (pl.Boolean, pl.Null)


def _first(values: list[Any]) -> str:
    """Return the first five values as text, with an ellipsis where a sixth was fetched."""
    return culprits(values[:5]) + (", ..." if len(values) > 5 else "")


# ---- notes --------------------------------------------------------------------------------------


def _outcome_facts(outcomes: OutcomeColumns, schema: pl.Schema) -> list[pl.Expr]:
    """Return the aggregates for `_outcome_notes`, and the count of accounts without any outcome.

    The canonical outcomes are read from columns named with the prefix `OWN`.
    """
    bare = lacks_outcome(outcomes, prefix=OWN)
    own = {name: pl.col(f"{OWN}{name}") for name in ("retained", "start", "end", "ltv", "won_back")}
    lost_revenue = (own["retained"] == 1) & (own["end"] == 0) & (own["start"] > 0)
    facts = {
        "unlabelled": bare.sum(),
        "kept_without_revenue": lost_revenue.sum(),
        "ltv_not_positive": (own["ltv"] <= 0).sum(),
    }
    if outcomes.has("retained", "churned"):
        unknown = own["retained"].is_null() & own["won_back"].is_null()
        facts["retention_unknown"] = (unknown & ~bare).sum()
        if outcomes.has("mrr_end"):
            end = outcomes.number("mrr_end", schema)
            facts["end_without_label"] = (unknown & end.is_not_null()).sum()
    elif outcomes.has("mrr_end") and outcomes.has("mrr"):
        nothing = (own["start"] == 0) & (own["end"] == 0) & own["won_back"].is_null()
        facts["never_paid"] = nothing.sum()
    facts |= currency_facts(outcomes, schema)
    for role in filter(outcomes.has, _MONEY):
        x = outcomes.number(role, schema)
        rounded = half_up(x, CENTS)
        facts[f"{role}.moved"] = ((rounded - x * CENTS).abs() > 1e-6).sum()
        facts[f"{role}.before"] = x.sum()
        facts[f"{role}.after"] = rounded.sum() / CENTS
    return [value.alias(name) for name, value in facts.items()]


#: A column with as many values, or more, holds no currencies, whatever it is called.
_MOST_CURRENCIES = 200
_CURRENCIES = ".currencies"


def currency_facts(outcomes: OutcomeColumns, schema: pl.Schema) -> dict[str, pl.Expr]:
    """Return the aggregates for `currency_notes`: values of columns named like a currency.

    They are lists of values, since numbers of values don't add up over the parts of a table. None
    are returned where no outcome is an amount.
    """
    if not any(map(outcomes.has, _MONEY)):
        return {}
    texts = (pl.String, pl.Categorical, pl.Enum)
    facts = {}
    for name in (n for n, kind in schema.items() if names_currency(n) and kind in texts):
        codes = pl.col(name).cast(pl.String).str.strip_chars().str.to_uppercase()
        known = codes.filter(codes.str.len_chars() > 0).unique(maintain_order=True)
        facts[f"{name}{_CURRENCIES}"] = known.head(_MOST_CURRENCIES).implode()
    return facts


def currency_notes(facts: Mapping[str, Any], outcomes: OutcomeColumns) -> list[str]:
    """Word which columns have several currencies beside outcomes that are amounts."""
    notes = []
    for fact, codes in facts.items():
        name = fact.removesuffix(_CURRENCIES)
        if name != fact and 1 < (count := len(codes)) < _MOST_CURRENCIES:
            money = ", ".join(outcomes.columns[role] for role in filter(outcomes.has, _MONEY))
            notes.append(
                f'Column "{name}" has {count:,} currencies, and amounts of {money} are added up as '
                "they stand: that is right where they were converted to one, else convert them "
                "first, in the export or by a --query."
            )
    return notes


#: Sentence for each count of accounts, by the count's name.
_COUNTED = {
    "retention_unknown": (
        "has no {label} and counts in no metric of retention or revenue; its other outcomes do "
        "count.",
        "have no {label} and count in no metric of retention or revenue; other outcomes of "
        "theirs do "
        "count.",
    ),
    "kept_without_revenue": (
        "is retained with mrr_end = 0: it kept the logo and lost the revenue.",
        "are retained with mrr_end = 0: they kept the logo and lost the revenue.",
    ),
    "never_paid": (
        "paid nothing at the start and pays nothing at the end: it counts as lost, though it may "
        "be a free one that stayed. A label would say so, or leave it out.",
        "paid nothing at the start and pay nothing at the end: they count as lost, though free "
        "ones may have stayed. A label would say so, or leave them out.",
    ),
    "ltv_not_positive": (
        "has no positive LTV and is left out of tier_separation.",
        "have no positive LTV and are left out of tier_separation.",
    ),
}


def _outcome_notes(
    facts: Mapping[str, Any], outcomes: OutcomeColumns, identifier: str | None
) -> list[str]:
    notes = []
    if identifier is None:
        notes.append(
            "No account id: the split follows each row's content, so that twins stay together."
        )
    if not outcomes.has("retained", "churned") and outcomes.has("mrr_end"):
        notes.append("No retained_6mo or churned column: retained is taken as mrr_end > 0.")
    if outcomes.basis == "binary":
        notes.append(
            "No mrr_end column: revenue retention is on the binary basis, MRR assumed flat for who "
            "stays; expansion, contraction and quick ratio stay empty."
        )
    for name, (one, several) in _COUNTED.items():
        if count := facts.get(name):
            sentence = some(count, f"account {one}", f"accounts {several}")
            notes.append(sentence.format(label=_label_names(outcomes)))
    notes += currency_notes(facts, outcomes)
    for role in _MONEY:
        if moved := facts.get(f"{role}.moved"):
            before, after = float(facts[f"{role}.before"]), float(facts[f"{role}.after"])
            notes.append(
                f"{role} is read in cents: {some(moved, 'value')} had finer fractions; the total "
                "moves "
                f"from {before:,.4f} to {after:,.2f} ({after - before:+,.4f})."
            )
    return notes


def _stated_unknowns(spec: ScoringSpec) -> dict[str, str]:
    """Return the column of each feature whose spec gives unknown values a value."""
    features = spec.features.items()
    return {name: feature.reads(name)[0] for name, feature in features if counts_unknown(feature)}


def _unknown_notes(unknowns: Mapping[str, int], accounts: int) -> list[str]:
    """Return the note on unknown values that count as the spec's `missing` says."""
    if not unknowns:
        return []
    names = sorted(unknowns, key=lambda name: -unknowns[name])
    listed = ", ".join(f"{name} {unknowns[name]:,}" for name in names[:_FEATURES_NAMED])
    more = f" and {len(names) - _FEATURES_NAMED} more" if len(names) > _FEATURES_NAMED else ""
    head = f"Unknown values that count as the spec's missing says, of {accounts:,} accounts"
    return [f"{head}: {listed}{more}."]


def _later_notes(later: Mapping[str, int], accounts: int) -> list[str]:
    """Return the note on dates after the day that `days_before` counts from."""
    listed = ", ".join(f"{name} {count:,}" for name, count in later.items() if count)
    if not listed:
        return []
    return [
        f"Dates after the day that days_before counts from, of {accounts:,} accounts: {listed}. "
        "That is right of what lies ahead, such as a renewal, and a leak where nobody knew it then."
    ]


def _label_names(outcomes: OutcomeColumns) -> str:
    """Return the names of the columns that hold the retention label."""
    return " or ".join(outcomes.columns[r] for r in ("retained", "churned") if outcomes.has(r))


def _unnamed(
    unused: list[str], spec: ScoringSpec, outcomes: OutcomeColumns, identifier: str | None
) -> list[str]:
    """Return notes on columns named like an id or an outcome that the spec doesn't use as such."""
    sentences = []
    if identifier is None and (likely := likely_id(unused)):
        sentences.append(
            f'Column "{likely}" is named like the account id and isn\'t it here: the spec says '
            f'id: "{likely}" where it is.'
        )
    plain = {plain_name(name): name for name in unused}
    for role, column in spec.outcomes.model_dump().items():
        other = plain.get(plain_name(column))
        if not outcomes.has(role) and other is not None:
            sentences.append(
                f'Column "{other}" is named like outcome {role} and isn\'t it here: the spec says '
                f'outcomes: {{{role}: "{other}"}} where it is.'
            )
    return sentences
