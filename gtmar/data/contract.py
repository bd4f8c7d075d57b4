"""The data contract: every way in which a table and a spec don't fit, found in one pass.

Names and types are looked at first; then one streaming query counts the rows that break each rule,
and a second one fetches the first few culprits where there are any; then all violations are raised
together. What is allowed but worth knowing becomes a note.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
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
from gtmar.data.text_columns import TEXT_TYPES
from gtmar.errors import UsageError, Violation, ViolationsError, culprits, did_you_mean, nearest
from gtmar.spec.encoders import Bins, DaysBeforeEncoder, OneOfEncoder
from gtmar.spec.model import LABELS, Feature, Outcomes, ScoringSpec, stated_as_of, stated_date

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gtmar.spec.rule import Condition

__all__ = [
    "MOST_SEGMENTS",
    "Checked",
    "as_of_date",
    "check_contract",
    "id_column",
    "needed_id",
]

#: Values of a segment column at most; more are no segments but ids.
MOST_SEGMENTS = 100
#: Features with unknown values that a note names, those with the most first.
_FEATURES_NAMED = 5
_MONEY = ("mrr", "mrr_end", "ltv")
_DATE_HINT = (
    "store it as a date, or as text YYYY-MM-DD; where day and month could be either, say which "
    "with --date-format %d/%m/%Y or %m/%d/%Y, or date_format in the spec"
)


@dataclass(frozen=True)
class Checked:
    """What the contract learnt of a table that keeps it."""

    #: Accounts in the table; its rows, which are more where it has several dates; and rows without
    #: any outcome, left out on request.
    accounts: int
    rows: int
    dropped: int
    id_column: str | None
    outcomes: OutcomeColumns
    #: Smallest and largest encoded value by term, in 1/10,000ths.
    ranges: dict[str, tuple[int, int]]
    #: Unknown values by feature that count as its `missing` says; features without any left out.
    unknowns: dict[str, int]
    #: What is allowed but worth knowing, a sentence each.
    notes: tuple[str, ...]
    #: The table as it was read, without the rows that were set aside.
    table: AccountTable = field(compare=False)
    #: Those of `notes` that every verdict on the table repeats: rows set aside, and categories most
    #: of whose values the spec doesn't know.
    warnings: tuple[str, ...] = ()
    #: Those of `notes` that say how the table was read, and what of it the spec doesn't know.
    reading: tuple[str, ...] = ()
    set_aside: SetAside = field(default_factory=SetAside)


def id_column(spec: ScoringSpec, columns: list[str]) -> str | None:
    """Return the account id's column: the spec's, else the first usual name the table has."""
    if spec.id is not None:
        return spec.id
    lowered = {name.lower(): name for name in columns}
    return next((lowered[name] for name in ID_NAMES if name in lowered), None)


def needed_id(spec: ScoringSpec, table: AccountTable, otherwise: str) -> str:
    """Return the account id's column; `UsageError` where there is none, so that `otherwise`."""
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
    """Return the date that `days_before` counts from: the spec's column, or one date for all.

    Without either it is the date that a row is of, of `dates` that were asked for.
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
) -> Checked:
    """Hold a table against the contract.

    Raises `ViolationsError` with every violation found, and `AccountDataError` if the table is
    empty, or can't be read.

    Parameters
    ----------
    as_of
        ISO date for `days_before`, where the table has no such column.
    drop_unlabelled
        Leave accounts without any outcome out, and count them, instead of refusing.
    set_aside
        Share of rows that may be left out since they break the contract; None to refuse them.
    outcomes
        False where a table is only scored: outcomes are then not asked for.
    """
    refuse_empty(table)
    check = _Check(prepared(table, spec, outcomes=outcomes), spec, as_of=as_of, outcomes=outcomes)
    left_open = None
    if outcomes:
        found = leave_open_out(check.table, check.outcome_columns, spec.window, as_of)
        check.table, left_open = found
    rules = check.rules()
    aside = SetAside()
    if set_aside is not None:
        if check.violations:
            # Rows can't be judged by columns that don't fit.
            raise ViolationsError(table.source, check.violations)
        check.table, aside = leave_out(check.table, rules, set_aside)
        refuse_empty(check.table)
    facts = check.facts(rules)
    rows = int(facts["rows"])
    unlabelled = int(facts["unlabelled"]) if outcomes and check.numeric.columns else 0
    broken = check.rows(rules, facts)
    check.unlabelled(unlabelled, facts, drop=drop_unlabelled)
    # What an encoder makes of a broken row says nothing.
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
        unknowns=unknowns,
        notes=(*check.of_rows(*notes, *_unknown_notes(unknowns, rows)), *as_read),
        warnings=(*left_out, *strange),
        reading=as_read,
        # Its text can't be read again without the rows that were set aside.
        table=replace(table, texts=None) if aside.rows or left_open else table,
        set_aside=aside,
    )


class _Check:
    """A table held against a spec: what is known of it, and in what it breaks the contract."""

    def __init__(
        self, table: AccountTable, spec: ScoringSpec, *, as_of: str | None, outcomes: bool
    ) -> None:
        self.table, self.spec, self.as_of, self.outcomes = table, spec, as_of, outcomes
        self.violations: list[Violation] = []
        self.identifier = id_column(spec, table.columns)
        self.outcome_columns = OutcomeColumns.found(spec.outcomes, table.columns)
        self._check_names()
        #: The features whose column is there and of a type that the encoder reads.
        self.features = self._present_features()
        self.day = as_of_date(spec, table.schema, as_of, table.dates)
        self._check_types()
        #: The outcomes that are numbers.
        self.numeric = OutcomeColumns(self._numeric_outcomes() if outcomes else {})
        if outcomes:
            self._check_segments()

    def of_rows(self, *sentences: str) -> list[str]:
        """Word what is counted as what it is: in a table of several dates not accounts but rows."""
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
        """Refuse columns of the spec that aren't there, those of features apart."""
        table, spec, identifier = self.table, self.spec, self.identifier
        needed = {} if identifier is None else {identifier: "the spec's id"}
        if spec.as_of is not None:
            needed[spec.as_of] = "the spec's as_of"
        if self.outcomes:
            named = spec.outcomes.model_dump(exclude_defaults=True)
            needed |= {name: f"outcome {role}" for role, name in named.items()}
        # A table that is only scored need not have outcomes.
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
        # Of a rule that lacks one column the others are looked at, too.
        looked_at = {n: f for n, f in self.spec.inputs.items() if n in self.features or f.rule}
        readable = {n for n, f in looked_at.items() if self._readable(n, f)}
        self.features = {n: f for n, f in self.features.items() if n in readable}

    def _readable(self, name: str, feature: Feature) -> bool:
        """Whether a feature's encoder can read its column; refuse it else."""
        if asked := feature.conditions:
            there = [c for c in asked if c.column in self.table.schema]
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
        """Whether a column is of a type that a rule's condition can be asked of; refuse it else."""
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
        """Whether a column holds numbers; refuse it else, with a hint for categories."""
        dtype = self.table.schema[column]
        if _is_number(dtype):
            return True
        values = self._shown(column)
        if dtype == pl.String and not values:
            # A column that is unknown for everybody has no type of its own; CSV calls it text.
            return True
        got, hint = self.table.unlike(column) or (f"{dtype}: {values}", otherwise)
        self.refuse(column, f"{expects}, got {got}", hint)
        return False

    def _numeric_outcomes(self) -> dict[str, str]:
        """Refuse outcomes that aren't numbers; return those that are."""
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
                # A column of nothing but blanks has no word.
                hint = read[0].hint if read and read[0].unknown else hint
            self.refuse(column, f"outcome {role} expects {expected}, got {got}", hint)
        return numeric

    def _check_segments(self) -> None:
        """Refuse segment columns that are absent, nested, or of too many values."""
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

    def _window_fits(self) -> bool:
        """Whether a window's columns are there and hold dates; refuse them else."""
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
        """Return what every row has to keep; refuse a window's columns that don't fit."""
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
        # Rows that share an id may be of several dates.
        twice = "share their account id"
        return [replace(each, hint=pooled) if twice in each.problem else each for each in rules]

    def facts(self, rules: list[RowRule]) -> dict[str, Any]:
        """Count everything in one streaming query, and fetch culprits in another."""
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
                # As doubles: what is too large for an integer is a violation and not a failure.
                value = encoded_value(spec, term, schema, self.day)
                wanted.append(value.min().alias(f"{term.name}.low"))
                wanted.append(value.max().alias(f"{term.name}.high"))
            for name, column in _stated_unknowns(spec).items():
                wanted.append(is_missing(column, schema[column]).sum().alias(f"{name}.unknown"))
        for name, feature in self.features.items():
            wanted += _category_facts(name, feature, schema)
        lazy = table.frame
        if numeric.columns:
            canonical = canonical_outcomes(numeric, schema).items()
            lazy = lazy.with_columns(**{f"{OWN}{name}": value for name, value in canonical})
            wanted += _outcome_facts(numeric, schema)
        facts: dict[str, Any] = dict(collect(table, lazy.select(wanted)).row(0, named=True))
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
        """Refuse the rows that break a rule; return whether there are any."""
        before = len(self.violations)
        for i, rule in enumerate(rules):
            if count := int(facts[f"{i}.count"]):
                listed = _first(facts[f"{i}.culprits"])
                [said] = self.of_rows(rule.problem)
                problem = f"{count:,} of {facts['rows']:,} {said}: {listed}"
                self.refuse(rule.column, problem, rule.hint, count)
        return len(self.violations) > before

    def unlabelled(self, count: int, facts: Mapping[str, Any], *, drop: bool) -> None:
        """Refuse accounts without any outcome, or a table that has none but such."""
        rows = facts["rows"]
        if count and not drop:
            listed = _first(facts["unlabelled.culprits"])
            [noun] = self.of_rows("accounts")
            problem = f"{count:,} of {rows:,} {noun} have no outcome of any kind: {listed}"
            if undecided := facts.get("end_without_label"):
                problem += (
                    f"; {undecided:,} have a {self.outcome_columns.columns['mrr_end']}, which "
                    f"doesn't decide what the null in {_label_names(self.outcome_columns)} leaves "
                    "unknown"
                )
            self.refuse("", problem, "--drop-unlabelled leaves them out and counts them", count)
        if count == rows and drop:
            self.refuse("", "no account has an outcome", "see the outcome columns")

    def ranges(self, facts: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        """Return smallest and largest encoded value by term; refuse what is too large."""
        ranges = {}
        for term in self.spec.terms:
            low, high = facts.get(f"{term.name}.low"), facts.get(f"{term.name}.high")
            if low is None or high is None:
                continue
            ranges[term.name] = (int(low), int(high))
            most = max(abs(low), abs(high))
            if most > EXACT:
                problem = f"values reach {most / 1e4:g}: too large to be exact"
                self.refuse(term.columns[0], problem, "scale it with `encode: {kind: range, ...}`")
        return ranges

    def strange_categories(self, facts: Mapping[str, Any]) -> list[str]:
        """Say where most values are none of a spec's categories; refuse a column of no other."""
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


def _category_facts(name: str, feature: Feature, schema: pl.Schema) -> list[pl.Expr]:
    """Count known values, and those of no category; of a rule find the categories there are."""
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
    """Return the conditions that list categories, each with a key of its own."""
    asked = enumerate(feature.conditions)
    return [(f"{name}.listed{i}", each) for i, each in asked if each.categories]


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype in (pl.Boolean, pl.Null)


def _first(values: list[Any]) -> str:
    """Word the first five of six that were fetched; the sixth says that there are more."""
    return culprits(values[:5]) + (", ..." if len(values) > 5 else "")


# ---- what is allowed but worth knowing ----------------------------------------------------------


def _outcome_facts(outcomes: OutcomeColumns, schema: pl.Schema) -> list[pl.Expr]:
    """Aggregate what `_outcome_notes` words, and the accounts without any outcome.

    Reads the canonical outcomes under their names with `OWN` before them.
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
    for role in filter(outcomes.has, _MONEY):
        x = outcomes.number(role, schema)
        rounded = half_up(x, CENTS)
        facts[f"{role}.moved"] = ((rounded - x * CENTS).abs() > 1e-6).sum()
        facts[f"{role}.before"] = x.sum()
        facts[f"{role}.after"] = rounded.sum() / CENTS
    return [value.alias(name) for name, value in facts.items()]


#: What is said of accounts that are counted, by the count's name.
_COUNTED = {
    "retention_unknown": "accounts have no {label} and count in no metric of retention or revenue; "
    "other outcomes of theirs do count.",
    "kept_without_revenue": "accounts are retained with mrr_end = 0: they kept the logo and lost "
    "the revenue.",
    "ltv_not_positive": "accounts have no positive LTV and are left out of tier_separation.",
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
    for name, sentence in _COUNTED.items():
        if count := facts.get(name):
            notes.append(f"{count:,} {sentence.format(label=_label_names(outcomes))}")
    for role in _MONEY:
        if moved := facts.get(f"{role}.moved"):
            before, after = float(facts[f"{role}.before"]), float(facts[f"{role}.after"])
            notes.append(
                f"{role} is read in cents: {moved:,} values had finer fractions; the total moves "
                f"from {before:,.4f} to {after:,.2f} ({after - before:+,.4f})."
            )
    return notes


def _stated_unknowns(spec: ScoringSpec) -> dict[str, str]:
    """Return the column of each feature whose spec says what an unknown counts."""
    features = spec.features.items()
    return {name: feature.reads(name)[0] for name, feature in features if counts_unknown(feature)}


def _unknown_notes(unknowns: Mapping[str, int], accounts: int) -> list[str]:
    """Say how many values are unknown and count as the spec's `missing` says."""
    if not unknowns:
        return []
    names = sorted(unknowns, key=lambda name: -unknowns[name])
    listed = ", ".join(f"{name} {unknowns[name]:,}" for name in names[:_FEATURES_NAMED])
    more = f" and {len(names) - _FEATURES_NAMED} more" if len(names) > _FEATURES_NAMED else ""
    head = f"Unknown values that count as the spec's missing says, of {accounts:,} accounts"
    return [f"{head}: {listed}{more}."]


def _label_names(outcomes: OutcomeColumns) -> str:
    """Name the columns that say whether an account stayed."""
    return " or ".join(outcomes.columns[r] for r in ("retained", "churned") if outcomes.has(r))


def _unnamed(
    unused: list[str], spec: ScoringSpec, outcomes: OutcomeColumns, identifier: str | None
) -> list[str]:
    """Say which columns are named like an id or an outcome, and are neither in the spec."""
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
