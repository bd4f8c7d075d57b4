"""What a column is, which encoder suits it: the first spec of a table.

Everything is fitted on the search part of the split alone, so that the holdout stays unseen. Every
feature starts with the same weight: nothing is claimed before it is measured.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar.autospec.find_rules import find_rules, rule_names, rules_that_pay, weigh_rules
from gtmar.autospec.fit_encoders import (
    Fitted,
    Shape,
    fit_bins,
    fit_categories,
    fit_flag,
    fit_number,
    fit_shapes,
    rising_numbers,
    table_of,
)
from gtmar.autospec.leakage import Grade, Leak, find_leaks
from gtmar.autospec.refit_encoders import MONEY, target_of
from gtmar.autospec.wide_tables import weakest
from gtmar.data.contract import currency_facts, currency_notes
from gtmar.data.encode import categories_of, cell_of, encoded_terms, rule_holds
from gtmar.data.matrix import load_accounts, search_sample
from gtmar.data.outcomes import LabelWords, OutcomeColumns, named_outcomes, with_labels
from gtmar.data.prepare import looks_like_dates, settled, with_days
from gtmar.data.rules import (
    OWN,
    SetAside,
    id_rules,
    leave_open_out,
    leave_out,
    outcome_rules,
    pooled_hint,
    total_rules,
)
from gtmar.data.scan import ID_NAMES, AccountTable, collect, first_values, likely_id, refuse_empty
from gtmar.data.split import canonical_id
from gtmar.errors import AccountDataError, GtmarError, UsageError, culprits, nearest
from gtmar.plain_data import of_one, singular, some
from gtmar.spec.document import commented_yaml, parse
from gtmar.spec.encoders import Bins, TableEncoder
from gtmar.spec.ids import encoder_id
from gtmar.spec.model import (
    LABELS,
    MAX_SCORE_LIMIT,
    SCORE_UNITS,
    VALUE_UNITS,
    Outcomes,
    Reading,
    ScoringSpec,
    Split,
    Window,
)
from gtmar.spec.rule import Rule
from gtmar.spec.tier_rule import TierRule
from gtmar.stats.logistic import every_so_many

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from gtmar.data.split import Copies

#: What stands beside the columns' own features.
_Asked = Rule | TableEncoder

__all__ = ["FIRST_SPEC", "MOST_CLIPPED", "FirstSpec", "first_spec", "window_of"]

#: Share of accounts at one end of the scores above which a start is said to clip them.
MOST_CLIPPED = 0.05

#: The model's name in a first spec, until a person gives it another.
FIRST_SPEC = "first_spec"

#: A text column of more distinct values is taken for free text.
_MOST_CATEGORIES = 50
#: Unless each has so many accounts on average, as states and countries have.
_ACCOUNTS_EACH, _MOST_OF_MANY = 10, 500
#: How names of ids end; those of what is paid or bid do so, too, and are none.
_ID_ENDING = re.compile(r"(?<!pa)(?<!b)(?<!gr)id$", re.IGNORECASE)
#: A number and what stands behind it, if anything; few cells of a column of such are none.
_WITH_UNIT, _FEW = r"^[-+]?\d[\d.,]*\s*(%|[A-Za-z]{0,8})$", 0.2
_MIXED = "numbers with units, or in several forms"
#: What the first weights add up to, when nothing is at its floor.
_TOTAL_POINTS = 100
_LEAST_BOUND = 25
#: How what features are oriented by is called, and the first objective.
_TARGETS = {
    "retained": ("retention", "auc_roc_retain"),
    "ltv": ("LTV", "tier_separation"),
    "activated": ("activation", "activation_rate_by_tier.A"),
    "won_back": ("win-back", "winback_rate_by_former_tier.A"),
    "start": ("MRR", "revenue_capture_at_20"),
}
#: Share of accounts by tier where none are stated.
DEFAULT_SHARES = {"A": 0.25, "B": 0.25, "C": 0.25, "D": 0.25}


@dataclass(frozen=True)
class FirstSpec:
    """A spec detected from a table, as data and as commented YAML to edit."""

    spec: ScoringSpec
    text: str
    #: Why each column that is no feature was left out, by column.
    left_out: dict[str, str]
    #: What was found of leakage, in columns that are a feature and in those that were left out.
    leaks: tuple[Leak, ...] = ()
    #: What is worth knowing of how the table was read, a sentence each.
    notes: tuple[str, ...] = ()
    #: What was taken for the outcomes, the id and the objective, a sentence each.
    taken: tuple[str, ...] = ()
    #: Column by outcome, for the outcomes that the table has.
    outcomes: dict[str, str] = field(default_factory=dict)
    set_aside: SetAside = field(default_factory=SetAside)


def first_spec(
    table: AccountTable,
    *,
    holdout: float | None = None,
    outcomes: Outcomes | None = None,
    identifier: str | None = None,
    labels: Mapping[str, Mapping[str, int]] | None = None,
    date_format: str | None = None,
    set_aside: float | None = None,
    keep: Collection[str] = (),
    bins: bool = False,
    monotone: bool = False,
    cuts: Mapping[str, tuple[float, ...]] | None = None,
    rules: int = 0,
    reading: Reading | None = None,
    tiers: Mapping[str, float] | None = None,
) -> FirstSpec:
    """Detect features and write a first spec.

    Parameters
    ----------
    table
        The account table, with at least one outcome under its usual name.
    holdout
        Share of accounts that nothing is fitted on; None for the default.
    outcomes, identifier
        Which column is which outcome, and which the id, where they aren't called as usual.
    labels
        What the words of a label count, by role; known words need none.
    date_format, reading
        How texts write a date, and how other cells of text are read; both become the spec's own.
    set_aside
        Share of rows that may be left out since ids or outcomes break the contract.
    keep
        Columns to take though they seem to know the outcome, or are among the weakest of many.
    bins
        Cut numbers and categories into bins, a weight each, in place of curves.
    monotone
        Let points rise or fall all along each number, where outcomes don't contradict it.
    cuts
        Where numbers are cut into bins, ascending, by column; with `bins` or without.
    rules
        How many rules of two or three conditions to look for, at most, beside the columns.
    tiers
        Share of accounts by tier, from the highest scores down; None for four tiers of a quarter.

    Raises
    ------
    AccountDataError
        If a column that is named isn't there, no column can be a feature, or there is no outcome to
        orient by.
    UsageError
        If `holdout` is outside of [0, 1), or shares of tiers don't add up to 1.
    """
    if holdout is not None and not 0 <= holdout < 1:
        raise UsageError(f"holdout must be in [0, 1), got {holdout}")
    shares = [*(tiers or DEFAULT_SHARES).values()]
    if not (all(share > 0 for share in shares) and math.isclose(sum(shares), 1, abs_tol=1e-6)):
        raise UsageError(f"shares of tiers must be above 0 and add up to 1, got {shares}")
    refuse_empty(table)
    reading = settled(table, reading or Reading())
    table = table.detected(reading)
    detected = partial(
        _detected,
        table,
        split=Split() if holdout is None else Split(holdout=holdout),
        outcomes=outcomes or Outcomes(),
        identifier=identifier,
        keep=keep,
        bins=bins,
        monotone=monotone,
        cuts=cuts or {},
        reading=reading,
        labels=labels or {},
        date_format=date_format,
        set_aside=set_aside,
        tiers=tiers or DEFAULT_SHARES,
    )
    first = detected(copies=None, most_rules=0)
    copies = _copies(table, first.spec, set_aside)
    return first if copies is None and not rules else detected(copies=copies, most_rules=rules)


def _copies(table: AccountTable, spec: ScoringSpec, set_aside: float | None) -> Copies | None:
    """Return accounts that a run of a spec draws together; what breaks the contract has none."""
    if not spec.split.holdout:
        return None
    try:
        return load_accounts(table, spec, drop_unlabelled=True, set_aside=set_aside).copies
    except GtmarError:
        return None


def _detected(
    table: AccountTable,
    *,
    split: Split,
    outcomes: Outcomes,
    identifier: str | None,
    keep: Collection[str],
    bins: bool,
    monotone: bool,
    cuts: Mapping[str, tuple[float, ...]],
    most_rules: int,
    reading: Reading,
    tiers: Mapping[str, float],
    labels: Mapping[str, Mapping[str, int]],
    date_format: str | None,
    set_aside: float | None,
    copies: Copies | None,
) -> FirstSpec:
    """Detect features on the search part, copies of an account being in one part."""
    identifier = _identifier(table, identifier, outcomes, keep)
    outcomes = named_outcomes(table, outcomes, labels)
    outcome_columns = OutcomeColumns.matching(outcomes, table.columns)
    # Before anything is split: the ids of a run are the texts that the file has.
    table = table.with_text(identifier)
    table, words = with_labels(table, outcomes, labels)
    _refuse_pooled(table, identifier)
    window = window_of(table)
    table, left_open = leave_open_out(
        table, outcome_columns, Window(**window) if window else None, None
    )
    aside, several = SetAside(), table.several
    if set_aside is not None:
        rules = [
            *id_rules(identifier, table.schema, several),
            *outcome_rules(outcome_columns, table.schema),
            *total_rules(identifier, outcome_columns, [], table.schema),
        ]
        table, aside = leave_out(table, rules, set_aside)
    target = _target(table, outcome_columns)
    _refuse_texts(table, outcome_columns, words)
    _refuse_odd_labels(table, outcome_columns)
    sample = search_sample(table, outcome_columns, identifier, split, copies=copies)
    outcome = _told_apart(table, target, sample[f"{OWN}{target}"].cast(pl.Float64))
    # Money is skewed: its rank orients better than its amount.
    y = (outcome.rank("average") if target in MONEY else outcome).to_numpy()
    frame = sample.select(table.columns)
    candidates = [
        n for n in table.columns if n not in {identifier, *outcome_columns.columns.values()}
    ]
    leaks = find_leaks(sample, candidates, outcome_columns)
    # What numbers the rows tells no outcome, and nothing of another table's accounts either.
    reasons = {k.column: k.sentence for k in leaks if k.grade is Grade.ERROR or k.kind == "row"}
    reasons = {name: why for name, why in reasons.items() if name not in keep}
    reasons |= dict.fromkeys(outcome_columns.columns.values(), "an outcome")
    reasons |= {identifier: "the account id"} if identifier else {}
    reasons |= dict.fromkeys((window or {}).values(), "a day of the window")
    reasons |= {} if table.dates is None else {table.dates.column: "the date that a row is of"}
    fitted, left_out = _fitted(table, frame, y, reasons, date_format)
    weak = weakest(frame, fitted, y, {*keep, *cuts})
    fitted = {name: each for name, each in fitted.items() if name not in weak}
    fitted = _as_asked(frame, fitted, left_out := left_out | weak, y, cuts, monotone=monotone)
    oriented = _TARGETS[target][0]
    groups = _same_accounts(frame, list(fitted), identifier if table.several else None, copies)
    features, comments, found_rules = _features_of(
        frame,
        fitted,
        y,
        bins=bins,
        repeats=_rows_each(table, identifier),
        most_rules=most_rules,
        groups=groups,
        oriented=oriented,
    )
    used = {*fitted, *outcome_columns.columns.values()}
    # Another file may have no other column that settles it.
    thousands = table.texts.thousands(used) if table.texts else {}
    reading = reading.model_copy(update={"columns": {**reading.columns, **thousands}})
    known = [each for each in words if not each.unknown]
    optional = {
        "id": identifier,
        "outcomes": outcomes.model_dump(exclude_defaults=True),
        "labels": {each.role: each.words for each in known},
        "read": reading.model_dump(exclude_defaults=True),
        "date_format": date_format,
        "window": window,
        "chosen_from": len(fitted) + len(weak) if weak else None,
    }
    data = _spec_data(optional, split, _TARGETS[target][1], features, frame, tiers)
    roles = ", ".join(f"{column} ({role})" for role, column in outcome_columns.columns.items())
    heading = _heading(table, roles, oriented, len(frame), split, bins=bins)
    proven = len(features) - len(fitted)
    if proven:
        heading += "\nA rule starts at the points that fit beside the columns' own."
    text = commented_yaml(data, heading=heading, comments=comments, left_out=left_out)
    spec = parse(text, source="detected spec")
    taken = (
        *_dates_taken(table, identifier),
        *((left_open,) if left_open else ()),
        *((aside.sentence,) if aside.rows else ()),
        f"Outcomes: {roles}.",
        *(each.sentence for each in known),
        f"Id: {spec.id}."
        if spec.id
        else "Id: none found, accounts are told apart by their content; --id COLUMN names one.",
        f"Features are oriented by {oriented}; objective: {spec.objective}."
        + (
            ""
            if outcome_columns.labelled
            else " No label was found: --outcome churned=COLUMN or retained=COLUMN names one."
        ),
        *((_rules_found(proven, found_rules, most_rules),) if most_rules else ()),
    )
    notes = [
        *_reading_notes(table, used, left_out),
        *_currency_notes(table, outcome_columns),
        *_spelling_notes(spec),
        *_wide_notes(weak, spec),
        *(_order_notes(fitted) if monotone else ()),
    ]
    return FirstSpec(
        spec, text, left_out, leaks, tuple(notes), taken, outcome_columns.columns, aside
    )


def _currency_notes(table: AccountTable, outcomes: OutcomeColumns) -> list[str]:
    """Say where amounts are of several currencies: they may orient the features by now."""
    facts = currency_facts(outcomes, table.schema)
    if not facts:
        return []
    values = collect(table, table.frame.select(each.alias(n) for n, each in facts.items()))
    return currency_notes(values.row(0, named=True), outcomes)


def _spelling_notes(spec: ScoringSpec) -> list[str]:
    """Return a note on each feature whose categories differ from each other by case alone."""
    notes = []
    for name, feature in spec.features.items():
        alike: dict[str, list[str]] = {}
        for each in categories_of(feature.encode) or ():
            alike.setdefault(str(each).casefold(), []).append(str(each))
        if twice := [word for words in alike.values() if len(words) > 1 for word in words]:
            notes.append(
                f'Column "{feature.reads(name)[0]}": {culprits(sorted(twice))} differ by case '
                "alone, and each counts by itself; write them one way in the table if they are one."
            )
    return notes


def _order_notes(fitted: Mapping[str, Fitted]) -> list[str]:
    """Say which numbers go up and down beyond chance, and stay free to."""
    free = [name for name, each in fitted.items() if each.kind == "number" and each.rising is None]
    listed = culprits(free, limit=len(free))
    return [f"Not monotone, since outcomes go up and down along: {listed}."] if free else []


def _wide_notes(weak: Mapping[str, str], spec: ScoringSpec) -> list[str]:
    """Say what became of a table that has more columns than a score has points."""
    notes = []
    if weak:
        notes.append(
            f"{len(weak):,} of {len(weak) + len(spec.features):,} columns are left out since they "
            "tell least of the outcome alone; --keep COLUMN takes one of them."
        )
    if spec.max_score != _TOTAL_POINTS:
        notes.append(
            f"max_score is {spec.max_score}: of {_TOTAL_POINTS} points more than "
            f"{MOST_CLIPPED:.0%} of accounts would be clipped at the maximum."
        )
    return notes


def _fitted(
    table: AccountTable,
    frame: pl.DataFrame,
    y: NDArray[np.float64],
    reasons: Mapping[str, str],
    date_format: str | None,
) -> tuple[dict[str, Fitted], dict[str, str]]:
    """Return what each feature is, and why other columns are none: for one of `reasons`, if any."""
    left_out, fitted = dict(table.unread), {}
    infinite, flags = _infinite_and_flags(
        table, frame, [n for n in frame.columns if n not in reasons]
    )
    for name in table.columns:
        unlike = table.unlike(name)
        result = reasons.get(name) or (
            "; ".join(unlike)
            if unlike
            else "has infinite values"
            if name in infinite
            else _fit(frame[name], y, date_format, flag=name in flags)
        )
        if isinstance(result, str):
            left_out[name] = result
        else:
            fitted[name] = result
    if not fitted:
        raise AccountDataError(
            f"{table.source}: no column can be a feature; left out: "
            + "; ".join(f'"{name}" ({reason})' for name, reason in left_out.items()),
            hint="features are numbers, flags and categories known at the window's start",
        )
    return fitted, left_out


def _as_asked(
    frame: pl.DataFrame,
    fitted: Mapping[str, Fitted],
    left_out: Mapping[str, str],
    y: NDArray[np.float64],
    cuts: Mapping[str, tuple[float, ...]],
    *,
    monotone: bool,
) -> dict[str, Fitted]:
    """Return the features with the cuts and the order that a person asks for."""
    words = {"flag": "a flag", "categories": "of categories", "number": "number"}
    kinds = {name: words[fitted[name].kind] for name in cuts if name in fitted}
    wrong = [
        f'"{name}" is {left_out.get(name, "no column") if name not in kinds else kinds[name]}'
        for name in cuts
        if kinds.get(name) != "number"
    ]
    if wrong:
        likely = next((nearest(n, fitted) for n in cuts if n not in {*fitted, *left_out}), None)
        raise AccountDataError(
            f"cuts are for numbers; {'; '.join(wrong)}",
            hint=f'did you mean "{likely}"?' if likely else None,
        )
    rising = rising_numbers(frame, fitted, y) if monotone else {}
    return {
        name: replace(each, rising=rising.get(name), cuts=tuple(cuts.get(name, ())))
        for name, each in fitted.items()
    }


def _reading_notes(
    table: AccountTable, used: Collection[str], left_out: Mapping[str, str]
) -> list[str]:
    """Say what was read as unknown, and which columns are numbers but for some cells."""
    if table.texts is None:
        return []
    nearly = {name: table.unlike(name) for name in table.columns if name in left_out}
    return [
        *table.texts.notes(used),
        *(
            f'Column "{name}" is left out: {reading[0]}. {reading[1]}.'
            for name, reading in nearly.items()
            if reading is not None
        ),
        *(
            f'Column "{name}" is left out: {reason}. Store the numbers alone.'
            for name, reason in left_out.items()
            if reason.startswith(_MIXED)
        ),
    ]


def _identifier(
    table: AccountTable, named: str | None, outcomes: Outcomes, keep: Collection[str]
) -> str | None:
    """Return the id's column; refuse names, of it, outcomes or columns kept, that aren't there."""
    given = {r: c for r, c in outcomes.model_dump().items() if c != getattr(Outcomes(), r)}
    named_columns = [*given.items(), *([("id", named)] if named else [])]
    for role, column in [*named_columns, *(("--keep", column) for column in keep)]:
        if column not in table.columns:
            likely = nearest(column, table.columns)
            raise AccountDataError(
                f'{table.source}: no column "{column}" ({role})',
                hint=f'did you mean "{likely}"?' if likely else None,
            )
    likely = named or likely_id(table.columns)
    if named is not None or likely is None or likely.lower() in ID_NAMES:
        return likely
    # Of a name that isn't among the usual ones only an id is believed.
    key = canonical_id(likely, table.schema[likely])
    twice = collect(table, table.frame.select(key.is_duplicated().any() | key.is_null().any()))
    return None if twice.item() else likely


def _refuse_pooled(table: AccountTable, identifier: str | None) -> None:
    """Refuse a table of several dates that was asked for none: its accounts would count twice."""
    hint = pooled_hint(table)
    key = None if identifier is None else canonical_id(identifier, table.schema[identifier])
    twice = key is None or collect(table, table.frame.select(key.is_duplicated().any())).item()
    if hint is not None and twice:
        raise AccountDataError(
            f"{table.source}: accounts stand in it more than once, on several dates", hint=hint
        )
    if table.several is not None and identifier is None:
        raise AccountDataError(
            f"{table.source}: a table of several dates needs account ids",
            hint="--id COLUMN names the column",
        )


def _rows_each(table: AccountTable, identifier: str | None) -> float:
    """Return how many rows an account has on average: 1 in a table of one date."""
    if table.several is None or identifier is None:
        return 1.0
    key = canonical_id(identifier, table.schema[identifier])
    return float(collect(table, table.frame.select(pl.len() / key.n_unique())).item())


def _dates_taken(table: AccountTable, identifier: str | None) -> list[str]:
    """Say how many accounts there are, on how many dates, where there are several."""
    if table.several is None or identifier is None:
        return []
    key = canonical_id(identifier, table.schema[identifier])
    counts = collect(table, table.frame.select(accounts=key.n_unique(), rows=pl.len())).row(0)
    accounts, rows = counts
    return [f"{accounts:,} accounts on {len(table.several.days):,} dates, {rows:,} rows."]


def window_of(table: AccountTable) -> dict[str, str] | None:
    """Return the window of a table that gtmar snapshot made, which has its days as columns."""
    window = {
        "features_asof": "features_until",
        "outcome_start": "outcome_start",
        "outcome_end": "outcome_end",
    }
    if not {*window.values()} <= {*table.columns}:
        return None
    # Whoever stored the table anew may have stored days as text.
    table = with_days(table, window.values(), date_format=None, zone="UTC")
    return window if all(table.schema[name] == pl.Date for name in window.values()) else None


def _target(table: AccountTable, outcomes: OutcomeColumns) -> str:
    """Return the outcome that features are oriented by; refuse a table that has none."""
    target = target_of(outcomes)
    if target is not None:
        return target
    names = ", ".join(str(f.default) for f in Outcomes.model_fields.values())
    raise AccountDataError(
        f"{table.source}: no outcome column; expected at least one of {names}",
        hint="say which column is yours: gtmar init --outcome retained=my_column",
    )


def _refuse_texts(table: AccountTable, outcomes: OutcomeColumns, words: list[LabelWords]) -> None:
    """Refuse outcomes that aren't numbers, all at once."""
    wrong, hints = [], []
    for role, column in outcomes.columns.items():
        dtype = table.schema[column]
        if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
            continue
        hint = "store the amounts alone, as numbers"
        if role in LABELS:
            hint = "labels are 0 and 1, null where unknown"
        got, hint = table.unlike(column) or (f"{dtype}: {first_values(table, column, 3)}", hint)
        if unknown := [each for each in words if each.column == column and each.unknown]:
            hint = unknown[0].option_hint
        wrong.append(f'column "{column}": outcome {role} expects numbers, got {got}')
        hints.append(hint)
    if wrong:
        raise AccountDataError(
            f"{table.source}: {'; '.join(wrong)}", hint="; ".join(dict.fromkeys(hints))
        )


def _refuse_odd_labels(table: AccountTable, outcomes: OutcomeColumns) -> None:
    """Refuse labels that break the contract: features would be turned by them."""
    labels = {outcomes.columns[role] for role in LABELS if outcomes.has(role)}
    rules = [rule for rule in outcome_rules(outcomes, table.schema) if rule.column in labels]
    if not rules:
        return
    counted = [rule.mask.sum().alias(str(i)) for i, rule in enumerate(rules)]
    counts = collect(table, table.frame.select(counted)).row(0)
    broken = [(rule, count) for rule, count in zip(rules, counts, strict=True) if count]
    if broken:
        worded = [
            singular(f"{count:,} {rule.problem if count > 1 else of_one(rule.problem)}")
            for rule, count in broken
        ]
        wrong = [
            f'column "{rule.column}": {problem}'
            for (rule, _), problem in zip(broken, worded, strict=True)
        ]
        hints = dict.fromkeys(str(rule.hint) for rule, _ in broken)
        raise AccountDataError(
            f"{table.source}: {'; '.join(wrong)}",
            hint=f"{'; '.join(hints)}; --set-aside 0.01 leaves a few such rows out",
        )


def _told_apart(table: AccountTable, target: str, outcome: pl.Series) -> pl.Series:
    """Return the outcome to orient by; refuse accounts that all stayed, or all left."""
    known = outcome.drop_nulls()
    if target != "retained" or known.n_unique() != 1:
        return outcome
    others = "left" if known[0] else "stayed"
    counted = "account" if table.several is None else "row"
    raise AccountDataError(
        f"{table.source}: none of {some(len(known), counted)} to fit on {others}, so nothing tells "
        "who leaves",
        hint=f"the table must have accounts that {others}, too, more than the holdout takes: "
        "a longer window, or an export of current and former customers",
    )


def _infinite_and_flags(
    table: AccountTable, frame: pl.DataFrame, names: Collection[str]
) -> tuple[set[str], set[str]]:
    """Return which numbers are infinite for any account, and which are 0 or 1 for all.

    The whole table is asked, since the spec will read the accounts held out, too: a 2 among them is
    no flag's, though all accounts searched have 0 or 1.
    """
    numeric = [name for name in names if frame.schema[name].is_numeric()]
    floats = [name for name in numeric if frame.schema[name].is_float()]
    number = {name: pl.col(name).cast(pl.Float64).fill_nan(None) for name in numeric}
    flag = {name: number[name].is_in([0.0, 1.0]).all().alias(name) for name in numeric}
    # What the accounts searched settle isn't read again.
    likely = [each.name for each in frame.select(flag.values()) if each.item()]

    def those(that: Iterable[pl.Expr]) -> set[str]:
        return {each.name for each in collect(table, table.frame.select(that)) if each.item()}

    infinite = those(number[name].is_infinite().any().alias(name) for name in floats)
    flags = those(flag[name] for name in likely)
    return infinite, {*flags, *(name for name in names if frame.schema[name] == pl.Boolean)}


def _fit(
    column: pl.Series, target: NDArray[np.float64], date_format: str | None, *, flag: bool
) -> Fitted | str:
    """Fit an encoder to a column, or say why it is no feature; `flag` says whether it is 0 or 1."""
    dtype = column.dtype
    if dtype == pl.String and looks_like_dates(column):
        stated = date_format is not None or column.str.contains(r"^\s*\d{4}-").all()
        option = "" if stated else ", after --date-format %d/%m/%Y or %m/%d/%Y"
        return f"a date as text; store it as a date and encode it with days_before{option}"
    if dtype in (pl.Date, pl.Datetime):
        return "a date; encode it with days_before and --as-of"
    if dtype.is_temporal():
        return f"a {dtype}, no date and no number; store it as a number, of hours or days"
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        return f"of type {dtype}, neither number nor category"
    if dtype.is_float():
        column = column.fill_nan(None)
    known = column.drop_nulls()
    distinct = known.n_unique()
    if distinct == 0:
        return "empty"
    if distinct == 1 and not column.null_count():
        return f"constant: always {known[0]}"
    # Merges of pandas turn whole numbers into doubles.
    whole = dtype.is_integer() or (dtype.is_float() and (known == known.floor()).all())
    if whole and distinct == len(column) and _ID_ENDING.search(column.name):
        return "an identifier: every value differs"
    if dtype == pl.Boolean or dtype.is_numeric():
        return fit_flag(column, target) if flag else fit_number(column, target)
    many = distinct > _MOST_OF_MANY or distinct * _ACCOUNTS_EACH > len(known)
    if distinct > _MOST_CATEGORIES and many:
        text = known.cast(pl.String)
        units = text.str.extract(_WITH_UNIT)
        # Digits alone, zeros before them, are codes.
        codes = text.str.contains(r"^\s*\d+\s*$").sum() >= (1 - _FEW) * len(known)
        if units.null_count() <= _FEW * len(known) and not codes:
            return f"{_MIXED}: {culprits(known.head(3).to_list())}"
        return f"free text or an identifier: {distinct:,} distinct values"
    return fit_categories(column, target)


def _weight_and_bound(features: int) -> tuple[int, int]:
    """Return each feature's first weight, and how far a search may take it."""
    weight = max(1, round(_TOTAL_POINTS / features))
    return weight, max(_LEAST_BOUND, 3 * weight)


def _rules_found(paying: int, proven: int, most: int) -> str:
    if not proven:
        return "Rules: none; chance explains as much as the best that was found."
    if not paying:
        return "Rules: none. What was found is proven, but ranks unseen accounts no better."
    return f"Rules: {paying} of {most} looked for; chance explains none of them."


def _features_of(
    frame: pl.DataFrame,
    fitted: dict[str, Fitted],
    y: NDArray[np.float64],
    *,
    bins: bool,
    repeats: float,
    most_rules: int,
    groups: NDArray[np.intp] | None,
    oriented: str,
) -> tuple[dict[str, Any], dict[str, str], int]:
    """Return features as plain data, comments by name, and how many rules are proven.

    Those of the rules that pay are among the features. Encoders are fitted anew beside them: what a
    column says by itself is another thing once a rule says what it says with another one.
    """
    apart = every_so_many(len(frame), len(fitted))
    weight, bound = _weight_and_bound(len(fitted))
    how: Any = {"points": weight, "bound": bound, "repeats": repeats}
    fit = partial(fit_bins, **how) if bins else partial(fit_shapes, **how)
    some, own = frame.gather_every(apart), y[::apart]
    shapes = fit(some, fitted, own)
    features = _features(shapes)
    comments = {name: shape.comment for name, shape in shapes.items()}
    if not most_rules:
        return features, comments, 0

    # A rule says part of what a step does, and the step may not be proven again among all places.
    stepped = {name: replace(each, steps=shapes[name].steps) for name, each in fitted.items()}

    @cache
    def beside(rules: tuple[_Asked, ...]) -> Mapping[str, Shape]:
        """Return shapes fitted beside rules and tables, and those of the tables."""
        if not rules:
            return shapes
        holds = some.select(_holding(rules, frame))
        kinds = {name: _kind_of(holds[name], own) for name in holds.columns}
        return fit(some.hstack(holds), {**stepped, **kinds}, own)

    def of_columns(rules: tuple[_Asked, ...]) -> dict[str, Any]:
        return _features({name: beside(rules)[name] for name in fitted})

    def encoded(rules: tuple[_Asked, ...]) -> NDArray[np.float64]:
        return _encoded(of_columns(rules), frame)[1] / VALUE_UNITS

    proven = find_rules(frame, fitted, encoded, y, most=most_rules, tables=not bins, groups=groups)
    rules = tuple(each.rule for each in proven)
    if not proven:
        return features, comments, 0
    holds = some.select(_holding(rules, frame))

    def fitted_to(part: NDArray[np.bool_]) -> NDArray[np.float64]:
        rows = some.filter(pl.Series(part))
        vary = {n: each for n, each in fitted.items() if rows[n].drop_nulls().n_unique() > 1}
        return _encoded(_features(fit(rows, vary, own[part])), some)[1] / VALUE_UNITS

    alike = None if groups is None else groups[::apart]
    blocks = [
        each.to_dummies().to_numpy() if each.dtype == pl.String else each.to_numpy()[:, None]
        for each in holds
    ]
    paying = rules_that_pay(fitted_to, blocks, own, alike)
    if not paying:
        return features, comments, len(proven)
    rules = rules[:paying]
    features = of_columns(rules)
    comments = {name: beside(rules)[name].comment for name in fitted}
    spec = _encoded(features, frame[:1])[0]
    limits = {"weight": 1, "min": -bound, "max": bound}
    requested = {
        name: {"rule": str(each)}
        if isinstance(each, Rule)
        else {"encode": table_of(each, beside(rules)[name]).model_dump(mode="json")}
        for name, each in zip(holds.columns, rules, strict=False)
    }
    weighted = weigh_rules(
        proven[:paying],
        _encoded({name: each | limits for name, each in requested.items()}, frame)[1] / VALUE_UNITS,
        encoded(rules),
        y,
        alone=encoded(()),
        weights=np.array(list(spec.weights.values()), dtype=np.float64),
        bound=max(_LEAST_BOUND, weight),
        oriented=oriented,
    )
    for (name, each), given in zip(requested.items(), weighted, strict=True):
        features[name] = {**each, **limits, "weight": given.weight}
        comments[name] = given.comment
    return features, comments, len(proven)


def _holding(rules: Sequence[_Asked], frame: pl.DataFrame) -> list[pl.Expr]:
    """Return whom each rule holds for, or the cell of a table, by the name that it gets."""
    names = rule_names(rules, frame.columns)
    return [
        (
            rule_holds(each, frame.schema)
            if isinstance(each, Rule)
            else cell_of(each, frame.schema)
        ).alias(name)
        for name, each in zip(names, rules, strict=True)
    ]


def _kind_of(column: pl.Series, y: NDArray[np.float64]) -> Fitted:
    """Return what a rule or the cells of a table are as a feature to fit."""
    if column.dtype == pl.Boolean:
        return fit_flag(column, y)
    return Fitted("categories", 0.0, 0.0, tuple(column.unique().sort()))


def _features(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Return the spec's features as plain data, all of them with the same reach."""
    weight, bound = _weight_and_bound(len(shapes))
    features: dict[str, Any] = {}
    for name, shape in shapes.items():
        ordered = shape.encode.get("monotone")
        # A falling encoder earns its points by less of the column: neither way below 0.
        own = {"weight": weight, "min": 0 if ordered else -bound, "max": bound}
        features[name] = {**({} if shape.encode["kind"] == "bins" else own), "encode": shape.encode}
        if shape.missing is not None:
            features[name]["missing"] = {"value": shape.missing}
    return features


def _same_accounts(
    frame: pl.DataFrame, features: list[str], identifier: str | None, copies: Copies | None
) -> NDArray[np.intp] | None:
    """Number accounts that stand on several dates, or were copied; None where there are neither."""
    if identifier is None and copies is None:
        return None
    key = pl.struct([identifier] if identifier else features)
    return frame.select(key.rank("dense")).to_series().to_numpy().astype(np.intp) - 1


def _encoded(
    features: Mapping[str, Any], frame: pl.DataFrame
) -> tuple[ScoringSpec, NDArray[np.int64]]:
    """Return a spec of features as plain data, and a table's encoded values, shape (N, F)."""
    rest = {"model": FIRST_SPEC, "max_score": 100, "tiers": {"all": {"min": 0, "max": 101}}}
    spec = ScoringSpec.model_validate({**rest, "features": features})
    return spec, frame.select(encoded_terms(spec, frame.schema).values()).to_numpy()


def _spec_data(
    optional: Mapping[str, Any],
    split: Split,
    objective: str,
    features: Mapping[str, Any],
    frame: pl.DataFrame,
    tiers: Mapping[str, float],
) -> dict[str, Any]:
    """Return the spec as plain data, with the edges that its tiers' shares come to.

    What is `optional` is left out where there is nothing to say.
    """
    stated = {key: value for key, value in optional.items() if value}
    data: dict[str, Any] = {"model": FIRST_SPEC, "max_score": _TOTAL_POINTS}
    data |= {key: stated.pop(key) for key in ("id", "outcomes", "labels") if key in stated}
    data["split"] = {"holdout": split.holdout, "salt": split.salt}
    data |= {"read": stated.pop("read")} if "read" in stated else {}
    data |= {"objective": objective, "features": features}
    data["tiers"] = {name: {"share": share} for name, share in tiers.items()}
    spec = ScoringSpec.model_validate(data)
    raw = _encoded(features, frame)[1] @ np.array(list(spec.weights.values()))
    if np.mean(raw > spec.max_score * VALUE_UNITS) > MOST_CLIPPED:
        data["max_score"] = min(MAX_SCORE_LIMIT, -(-int(raw.max()) // VALUE_UNITS))
        spec = spec.model_copy(update={"max_score": data["max_score"]})
    half = VALUE_UNITS // SCORE_UNITS // 2
    bins = np.clip((raw + half) // (2 * half), 0, SCORE_UNITS * spec.max_score).astype(np.int64)
    everyone = np.bincount(bins)
    rule = TierRule.of(spec)
    assert rule is not None  # it was given shares
    edged = spec.with_edges(rule.lows(everyone, everyone * 0, everyone, first=0))
    data["tiers"] = {
        name: {"share": tier.share, "min": tier.min, "max": tier.max}
        for name, tier in edged.tiers.items()
    }
    fitted = {
        name: encoder_id(feature)
        for name, feature in spec.features.items()
        if not isinstance(feature.encode, Bins)
    }
    chosen = {key: stated.pop(key) for key in ("chosen_from",) if key in stated}
    return data | stated | ({"fitted": fitted} if fitted else {}) | chosen


def _heading(
    table: AccountTable, roles: str, target: str, accounts: int, split: Split, *, bins: bool
) -> str:
    unseen = (
        f"the other {split.holdout:.0%} are the holdout, and nothing was fitted to them"
        if split.holdout
        else "there is no holdout"
    )
    return (
        f"First spec, detected by gtmar from {table.source}. Edit it: it is yours.\n"
        f"Encoders were fitted together to {accounts:,} accounts of the search part; {unseen}.\n"
        f"Each feature is turned so that more of it goes with more {target}; r is the correlation\n"
        "before that turn.\n"
        f"Outcomes found: {roles}.\n"
        f"{'All features reach equally far' if bins else 'All weights start equal'}: `gtmar run` "
        "finds out which deserve more."
    )
