"""The data contract: every way in which a table and a spec don't fit, found in one pass.

Names and types are looked at first; then one streaming query counts the rows that break each rule,
and a second one fetches the first few culprits where there are any; then all violations are raised
together. What is allowed but worth knowing becomes a note.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar.data.encode import NUMERIC, categories_of, category, encoded_value, is_missing
from gtmar.data.notes import (
    label_names,
    notes,
    outcome_facts,
    stated_unknowns,
    unknown_notes,
    unnamed,
)
from gtmar.data.outcomes import OutcomeColumns, canonical_outcomes, lacks_outcome, with_labels
from gtmar.data.prepare import prepared
from gtmar.data.rules import (
    ACCOUNT,
    EXACT,
    OWN,
    Rule,
    date_rules,
    feature_rules,
    id_rules,
    outcome_rules,
    total_rules,
)
from gtmar.data.scan import ID_NAMES, AccountTable, collect, refuse_empty
from gtmar.data.segments import segment_violations
from gtmar.data.set_aside import SetAside, leave_out
from gtmar.data.split import canonical_id, may_identify
from gtmar.data.windows import complete_by, window_rules, window_violations
from gtmar.errors import UsageError, Violation, ViolationsError, culprits, nearest
from gtmar.spec.encoders import Bins, BoolEncoder, DaysBeforeEncoder, OneOfEncoder
from gtmar.spec.model import LABELS, Outcomes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gtmar.spec.model import Feature, ScoringSpec

__all__ = ["Checked", "as_of_date", "check_contract", "id_column"]


@dataclass(frozen=True)
class Checked:
    """What the contract learnt of a table that keeps it."""

    #: Accounts in the table, and those without any outcome, left out on request.
    accounts: int
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
    #: Those of `notes` that say how the table was read, and what of it the spec doesn't know.
    reading: tuple[str, ...] = ()
    set_aside: SetAside = field(default_factory=SetAside)


def id_column(spec: ScoringSpec, columns: list[str]) -> str | None:
    """Return the account id's column: the spec's, else the first usual name the table has."""
    if spec.id is not None:
        return spec.id
    lowered = {name.lower(): name for name in columns}
    return next((lowered[name] for name in ID_NAMES if name in lowered), None)


def as_of_date(spec: ScoringSpec, schema: pl.Schema, as_of: str | None) -> pl.Expr | None:
    """Return the date that `days_before` counts from: the spec's column, or one date for all."""
    if as_of is not None:
        try:
            return pl.lit(date.fromisoformat(as_of))
        except ValueError as err:
            raise UsageError(
                f'as_of expects a date, got "{as_of}"', hint="write it as YYYY-MM-DD"
            ) from err
    if spec.as_of is not None and spec.as_of in schema:
        return pl.col(spec.as_of)
    return None


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

    Parameters
    ----------
    table, spec
        What has to fit.
    as_of
        ISO date for `days_before`, where the table has no such column.
    drop_unlabelled
        Leave accounts without any outcome out, and count them, instead of refusing.
    set_aside
        Share of rows that may be left out since they break the contract, and are counted; None to
        refuse them.
    outcomes
        False where a table is only scored: outcomes are then not asked for.

    Raises
    ------
    ViolationsError
        With every violation found.
    AccountDataError
        If the table is empty, or can't be read.
    """
    refuse_empty(table)
    table = prepared(table, spec, outcomes=outcomes)
    violations: list[Violation] = []
    identifier = id_column(spec, table.columns)
    found = OutcomeColumns.found(spec.outcomes, table.columns)
    terms_ok = _check_names(table, spec, identifier, found, violations, outcomes=outcomes)
    usable = {name: f for name, f in spec.features.items() if name in terms_ok}
    day = as_of_date(spec, table.schema, as_of)
    usable = _check_types(table, spec, usable, day, violations)
    numeric = (
        _check_outcome_types(table, found, spec.labels, violations)
        if outcomes
        else OutcomeColumns({})
    )
    violations += segment_violations(table, spec.segments) if outcomes else []

    rules = _rules(
        table, spec, identifier, usable, numeric, violations, as_of=as_of, outcomes=outcomes
    )
    aside = SetAside()
    if set_aside is not None:
        if violations:
            # Rows can't be judged by columns that don't fit.
            raise ViolationsError(table.source, violations)
        table, aside = leave_out(table, rules, set_aside)
        refuse_empty(table)
    facts = _run(table, spec, rules, usable, numeric, identifier, day)
    accounts = int(facts["accounts"])
    for i, rule in enumerate(rules):
        count = int(facts[f"{i}.count"])
        if count:
            listed = _first(facts[f"{i}.culprits"])
            problem = rule.problem.replace("{count}", f"{count:,} of {accounts:,}")
            violations.append(
                Violation(rule.column, f"{problem}: {listed}", hint=rule.hint, rows=count)
            )
    unlabelled = int(facts["unlabelled"]) if outcomes and numeric.columns else 0
    if unlabelled and not drop_unlabelled:
        undecided = int(facts.get("end_without_label") or 0)
        also = (
            f"; {undecided:,} have a {found.columns['mrr_end']}, which doesn't decide what the "
            f"null in {label_names(found)} leaves unknown"
            if undecided
            else ""
        )
        violations.append(
            Violation(
                "",
                f"{unlabelled:,} of {accounts:,} accounts have no outcome of any kind: "
                f"{_first(facts['unlabelled.culprits'])}{also}",
                hint="--drop-unlabelled leaves them out and counts them",
                rows=unlabelled,
            )
        )
    if unlabelled == accounts and drop_unlabelled:
        violations.append(
            Violation("", "no account has an outcome", hint="see the outcome columns")
        )
    ranges = {}
    for term in spec.terms:
        if term.feature in usable and facts[f"{term.name}.low"] is not None:
            low, high = facts[f"{term.name}.low"], facts[f"{term.name}.high"]
            ranges[term.name] = (int(low), int(high))
            if max(abs(low), abs(high)) > EXACT:
                violations.append(
                    Violation(
                        term.column,
                        f"values reach {max(abs(low), abs(high)) / 1e4:g}: too large to be exact",
                        hint="scale it with `encode: {kind: range, ...}`",
                    )
                )
    strange = _strange_categories(table, usable, facts, violations)
    if violations:
        broken = int(facts.get("broken") or 0)
        raise ViolationsError(
            table.source,
            violations,
            set_aside=(broken, accounts) if len(violations) == len(_counted(violations)) else None,
        )
    read = [term.column for term in spec.terms] + [*found.columns.values(), *spec.segments]
    unknown = table.texts and table.texts.markers_note(read)
    as_read = (*table.notes, *strange, *([unknown] if unknown else []))
    unknowns = {name: int(facts[f"{name}.unknown"] or 0) for name in stated_unknowns(spec)}
    unknowns = {name: count for name, count in unknowns.items() if count}
    return Checked(
        accounts=accounts - (unlabelled if drop_unlabelled else 0),
        dropped=unlabelled if drop_unlabelled else 0,
        id_column=identifier,
        outcomes=found,
        ranges=ranges,
        unknowns=unknowns,
        notes=(
            *((aside.sentence,) if aside.rows else ()),
            *(notes(facts, found, identifier) if outcomes else ()),
            *(unnamed(table.columns, spec, found, identifier) if outcomes else ()),
            *unknown_notes(unknowns, accounts),
            *as_read,
        ),
        reading=as_read,
        # Its text can't be read again without the rows that were set aside.
        table=replace(table, texts=None) if aside.rows else table,
        set_aside=aside,
    )


def _strange_categories(
    table: AccountTable,
    features: dict[str, Feature],
    facts: dict[str, Any],
    violations: list[Violation],
) -> list[str]:
    """Say where most values are none of a spec's categories; refuse a column where none is one."""
    notes = []
    for name, feature in features.items():
        listed = categories_of(feature.encode)
        known, strange = facts.get(f"{name}.known") or 0, facts.get(f"{name}.strange") or 0
        if listed is None or strange <= known / 2:
            continue
        column = feature.column or name
        cell = category(column, table.schema[column], listed)
        odd = cell.filter(cell.is_not_null() & ~cell.is_in(listed)).value_counts(sort=True).head(6)
        rows = collect(table, table.frame.select(odd.struct.field(column))).to_series()
        shown, rest = (
            _first(rows.to_list()),
            "default" if feature.encode.kind == "one_of" else "other",
        )
        if strange < known:
            notes.append(
                f'Feature "{name}": {strange:,} of {known:,} known values are none of the spec\'s '
                f"{len(listed):,} categories and count as {rest}: {shown}."
            )
            continue
        likely = {str(value): nearest(str(value), listed) for value in rows.to_list()[:5]}
        pairs = [f'"{value}" for "{meant}"' for value, meant in likely.items() if meant]
        hint = f"the spec has {culprits(listed[:5])}" + ", ..." * (len(listed) > 5)
        if pairs:
            hint = f"is {', '.join(pairs)}? write them one way, here or in the spec"
        problem = (
            f'feature "{name}": none of its {known:,} known values is one of the spec\'s '
            f"categories, so all would count as {rest}: {shown}"
        )
        violations.append(Violation(column, problem, hint=hint, rows=strange))
    return notes


def _rules(
    table: AccountTable,
    spec: ScoringSpec,
    identifier: str | None,
    usable: dict[str, Feature],
    numeric: OutcomeColumns,
    violations: list[Violation],
    *,
    as_of: str | None,
    outcomes: bool,
) -> list[Rule]:
    """Return what every row has to keep; add to the violations what the window's columns break."""
    rules = id_rules(identifier, table.schema)
    if spec.as_of is not None and as_of is None and spec.as_of in table.columns:
        rules += date_rules(spec.as_of, table.schema[spec.as_of])
    for name, feature in usable.items():
        rules += feature_rules(name, feature, table.schema)
    if outcomes:
        rules += outcome_rules(numeric, table.schema)
        if spec.window is not None:
            unfit = window_violations(spec.window, table)
            violations += unfit
            by = None if as_of is None else complete_by(spec, date.fromisoformat(as_of))
            rules += [] if unfit else window_rules(spec.window, by)
        columns = [feature.column or name for name, feature in usable.items()]
        rules += total_rules(identifier, numeric, columns, table.schema)
    return rules


def _check_names(
    table: AccountTable,
    spec: ScoringSpec,
    identifier: str | None,
    found: OutcomeColumns,
    violations: list[Violation],
    *,
    outcomes: bool,
) -> set[str]:
    """Look for columns that aren't there; return the features whose column is."""
    columns = table.columns

    def absent(column: str, role: str) -> None:
        if column in table.unread:
            problem = f"can't be read ({role}): {table.unread[column]}"
            violations.append(Violation(column, problem, hint="store it as a number or a date"))
            return
        likely = nearest(column, columns)
        hint = f'did you mean "{likely}"?' if likely else f"the table has {culprits(columns)}"
        violations.append(Violation(column, f"no such column ({role})", hint=hint))

    for column, role in _needed(spec, identifier, outcomes=outcomes).items():
        if column not in columns:
            absent(column, role)
    if identifier in columns and not may_identify(table.schema[identifier]):
        dtype = table.schema[identifier]
        violations.append(Violation(identifier, f"expected account ids, got {dtype}"))
    if outcomes and not found.columns and table.columns:
        names = ", ".join(str(f.default) for f in type(spec.outcomes).model_fields.values())
        violations.append(
            Violation(
                "",
                f"no outcome column; expected at least one of {names}",
                hint="name yours in the spec: outcomes: {retained: my_column}",
            )
        )
    usable = set()
    for name, feature in spec.features.items():
        column = feature.column or name
        if outcomes and column in found.columns.values():
            violations.append(
                Violation(
                    column,
                    f'feature "{name}" reads it, and it is an outcome: a score must not see that',
                    hint="take the feature out, or name the outcome's own column in the spec",
                )
            )
        elif column in columns:
            usable.add(name)
        else:
            absent(column, f'feature "{name}"')
    return usable


def _needed(spec: ScoringSpec, identifier: str | None, *, outcomes: bool) -> dict[str, str]:
    """Return the columns that a spec asks for beside those of features, with where it does."""
    needed = {} if identifier is None else {identifier: "the spec's id"}
    if spec.as_of is not None:
        needed[spec.as_of] = "the spec's as_of"
    roles = type(spec.outcomes).model_fields
    named = {role: str(getattr(spec.outcomes, role)) for role in roles}
    if outcomes:
        stated = {role: name for role, name in named.items() if name != roles[role].default}
        needed |= {name: f"outcome {role}" for role, name in stated.items()}
    # A table that is only scored need not have outcomes.
    spared = () if outcomes else tuple(named.values())
    needed |= {c: "the spec's required_columns" for c in spec.required_columns if c not in spared}
    return needed | dict.fromkeys(spec.read.columns, "the spec's read")


def _check_types(
    table: AccountTable,
    spec: ScoringSpec,
    features: dict[str, Feature],
    day: pl.Expr | None,
    violations: list[Violation],
) -> dict[str, Feature]:
    """Refuse columns whose type an encoder can't read; return the features that pass."""
    usable = {}
    dated = table.schema.get(spec.as_of) if spec.as_of is not None else None
    if dated is not None and dated not in (pl.Date, pl.Datetime):
        shown = _some_values(table, str(spec.as_of))
        problem = f"the spec's as_of expects dates, got {dated}{shown}"
        violations.append(Violation(str(spec.as_of), problem, hint=_DATE_HINT))
        day = None
    for name, feature in features.items():
        column = feature.column or name
        dtype = table.schema[column]
        encoder = feature.encode
        number = dtype.is_numeric() or dtype in (pl.Boolean, pl.Null)
        if isinstance(encoder, DaysBeforeEncoder):
            if day is None:
                hint = "give --as-of DATE, or name the column in the spec's as_of"
                violations.append(
                    Violation(column, "days_before has no date to count from", hint=hint)
                )
                continue
            if dtype != pl.Date:
                unlike = table.unlike(column)
                got = unlike[0] if unlike else f"{dtype}{_some_values(table, column)}"
                hint = "store it as a date; dates as text are read as YYYY-MM-DD"
                hint = _DATE_HINT if dtype == pl.String else hint
                violations.append(Violation(column, f"expected dates, got {got}", hint=hint))
                continue
        elif (
            isinstance(encoder, (*NUMERIC, BoolEncoder))
            or (isinstance(encoder, Bins) and encoder.intervals)
        ) and not number:
            shown = _first_values(table, column)
            unlike = table.unlike(column)
            if dtype == pl.String and not shown:
                # A column that is unknown for everybody has no type of its own; CSV calls it text.
                usable[name] = feature
                continue
            violations.append(
                Violation(
                    column,
                    f'feature "{name}" has encoder {encoder.kind} and expects numbers, '
                    f"got {unlike[0] if unlike else f'{dtype}: {shown}'}",
                    hint=unlike[1] if unlike else "encode categories with one_of or bins",
                )
            )
            continue
        elif isinstance(encoder, OneOfEncoder | Bins) and dtype.is_nested():
            violations.append(Violation(column, f"expected categories, got {dtype}"))
            continue
        usable[name] = feature
    return usable


def _check_outcome_types(
    table: AccountTable,
    found: OutcomeColumns,
    labels: Mapping[Any, Mapping[str, int]],
    violations: list[Violation],
) -> OutcomeColumns:
    """Refuse outcomes that aren't numbers; return those that are."""
    numeric = {}
    for role, column in found.columns.items():
        dtype = table.schema[column]
        if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
            numeric[role] = column
            continue
        expected = "amounts" if role in ("mrr", "mrr_end", "ltv") else "0 and 1"
        unlike = table.unlike(column)
        got = unlike[0] if unlike else f"{dtype}: {_first_values(table, column)}"
        hint = unlike[1] if unlike else "store it as a number"
        if role in LABELS and dtype in (pl.String, pl.Categorical, pl.Enum):
            _, read = with_labels(table, Outcomes(**{role: column}), labels)
            # A column of nothing but blanks has no word.
            hint = read[0].hint if read and read[0].unknown else hint
        violations.append(
            Violation(
                column,
                f"outcome {role} expects {expected}, got {got}",
                hint=hint,
            )
        )
    return OutcomeColumns(numeric)


def _counted(violations: list[Violation]) -> list[Violation]:
    """Return the violations that leaving rows out mends, unlabelled accounts apart."""
    return [v for v in violations if v.rows and v.column]


_DATE_HINT = (
    "store it as a date, or as text YYYY-MM-DD; where day and month could be either, say which "
    "with --date-format %d/%m/%Y or %m/%d/%Y, or date_format in the spec"
)


def _some_values(table: AccountTable, column: str) -> str:
    if table.schema[column] != pl.String:
        return ""
    return f": {_first_values(table, column)}"


def _first(found: list[Any]) -> str:
    """Word the first five of six that were fetched; the sixth says that there are more."""
    return culprits(found[:5]) + (", ..." if len(found) > 5 else "")


def _first_values(table: AccountTable, column: str) -> str:
    values = table.frame.select(pl.col(column).drop_nulls().unique(maintain_order=True).head(5))
    return culprits(collect(table, values)[column].to_list())


def _run(
    table: AccountTable,
    spec: ScoringSpec,
    rules: list[Rule],
    features: dict[str, Feature],
    found: OutcomeColumns,
    identifier: str | None,
    day: pl.Expr | None,
) -> dict[str, Any]:
    """Count everything in one streaming query, and fetch culprits in another; return it by name."""
    schema = table.schema
    wanted: list[pl.Expr] = [pl.len().alias("accounts")]
    for i, rule in enumerate(rules):
        count = _mask(rule).sum() if rule.sign is None else rule.sign
        wanted.append(count.alias(f"{i}.count"))
    usable = [term for term in spec.terms if term.feature in features]
    if len(usable) == len(spec.terms):
        for term in usable:
            # As doubles: what is too large for an integer is a finding and not a failure.
            value = encoded_value(spec, term, schema, day)
            wanted += [
                value.min().alias(f"{term.name}.low"),
                value.max().alias(f"{term.name}.high"),
            ]
        for name, column in stated_unknowns(spec).items():
            wanted.append(is_missing(column, schema[column]).sum().alias(f"{name}.unknown"))
    wanted += _category_facts(features, schema)
    lazy = table.frame
    if found.columns:
        named = {f"{OWN}{key}": value for key, value in canonical_outcomes(found, schema).items()}
        lazy = lazy.with_columns(**named)
        wanted += outcome_facts(found, schema)
    facts: dict[str, Any] = dict(collect(table, lazy.select(wanted)).row(0, named=True))
    broken = [i for i in range(len(rules)) if facts[f"{i}.count"]]
    fetched: list[pl.Expr] = []
    for i in broken:
        mask, rule = _mask(rules[i]), rules[i]
        shown = rule.shown.filter(mask).unique(maintain_order=True).head(6)
        fetched += [mask.sum().alias(f"{i}.count"), shown.implode().alias(f"{i}.culprits")]
    if broken:
        every = pl.any_horizontal(_mask(rules[i]) for i in broken)
        fetched.append(every.sum().alias("broken"))
    if facts.get("unlabelled"):
        bare = pl.col(ACCOUNT).filter(lacks_outcome(found, prefix=OWN)).head(6)
        fetched.append(bare.implode().alias("unlabelled.culprits"))
    if fetched:
        account = pl.format("row {}", pl.int_range(1, pl.len() + 1))
        if identifier is not None and may_identify(schema.get(identifier, pl.Object())):
            account = canonical_id(identifier, schema[identifier])
        lazy = lazy.with_columns(account.alias(ACCOUNT))
        facts |= collect(table, lazy.select(fetched)).row(0, named=True)
    really_broken = any(facts[f"{i}.count"] for i in broken)
    for term in spec.terms:
        if really_broken:
            # What an encoder makes of a broken row says nothing.
            facts[f"{term.name}.low"] = None
        facts.setdefault(f"{term.name}.low", None)
    return facts


def _category_facts(features: dict[str, Feature], schema: pl.Schema) -> list[pl.Expr]:
    """Count the values of each column of categories, and those that the spec doesn't list."""
    wanted = []
    for name, feature in features.items():
        listed, column = categories_of(feature.encode), feature.column or name
        if listed:
            cell = category(column, schema[column], listed)
            wanted.append(cell.count().alias(f"{name}.known"))
            wanted.append((~cell.is_in(listed)).sum().alias(f"{name}.strange"))
    return wanted


def _mask(rule: Rule) -> pl.Expr:
    return rule.broken.fill_null(value=False)
