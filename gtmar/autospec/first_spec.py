"""What a column is, which encoder suits it: the first spec of a table.

Everything is fitted on the search part of the split alone, so that the holdout stays unseen. Every
feature starts with the same weight: nothing is claimed before it is measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar.autospec.bins import fit_bins
from gtmar.autospec.fit_encoders import Shape, fit_shapes
from gtmar.autospec.leakage import Grade, Leak, find_leaks
from gtmar.autospec.one_column import Fitted, fit_categories, fit_flag, fit_number
from gtmar.data.dates import looks_like_dates
from gtmar.data.encode import encoded_terms
from gtmar.data.matrix import load_accounts, search_sample
from gtmar.data.outcomes import LabelWords, OutcomeColumns, named_outcomes, with_labels
from gtmar.data.prepare import settled
from gtmar.data.rules import (
    OWN,
    SetAside,
    id_rules,
    leave_out,
    outcome_rules,
    total_rules,
)
from gtmar.data.scan import ID_NAMES, AccountTable, collect, likely_id, refuse_empty
from gtmar.data.split import canonical_id
from gtmar.errors import AccountDataError, GtmarError, culprits, nearest
from gtmar.spec.document import parse
from gtmar.spec.model import LABELS, Outcomes, Reading, ScoringSpec, Split
from gtmar.spec.yaml_writer import commented_yaml
from gtmar.stats.logistic import every_so_many

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from gtmar.data.split import Copies

__all__ = ["FirstSpec", "first_spec"]

#: A text column of more distinct values is taken for free text.
_MOST_CATEGORIES = 50
#: Unless each has so many accounts on average, as states and countries have.
_ACCOUNTS_EACH, _MOST_OF_MANY = 10, 500
#: A number and what stands behind it, if anything; few cells of a column of such are none.
_WITH_UNIT, _FEW = r"^[-+]?\d[\d.,]*\s*(%|[A-Za-z]{0,8})$", 0.2
_MIXED = "numbers with units, or in several forms"
#: What the first weights add up to, when nothing is at its floor.
_TOTAL_POINTS = 100
_LEAST_BOUND = 25
#: Least share of accounts that a search must leave in each tier.
_TIER_SHARE = 0.05


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
    reading: Reading | None = None,
) -> FirstSpec:
    """Detect features and write a first spec.

    Parameters
    ----------
    table
        The account table, with at least one outcome under its usual name.
    holdout
        Share of accounts that nothing is fitted on; None for the default.
    outcomes
        Which column is which outcome, where they aren't called as usual.
    identifier
        The account id's column; None takes the first usual name.
    labels
        What the words of a label count, by role; known words need none.
    date_format
        How texts write a date, for the spec to say.
    set_aside
        Share of rows that may be left out since ids or outcomes break the contract.
    keep
        Columns to take though they seem to know the outcome.
    bins
        Cut numbers and categories into bins, a weight each, in place of curves.
    reading
        How cells of text are read, where that isn't as usual; it becomes the spec's own.

    Raises
    ------
    AccountDataError
        If a column that is named isn't there, no column can be a feature, or there is no outcome to
        orient by.
    """
    refuse_empty(table)
    reading = settled(table, reading or Reading())
    table = table.detected(reading)
    options: dict[str, Any] = {
        "split": Split() if holdout is None else Split(holdout=holdout),
        "outcomes": outcomes or Outcomes(),
        "identifier": identifier,
        "keep": keep,
        "bins": bins,
        "reading": reading,
        "labels": labels or {},
        "date_format": date_format,
        "set_aside": set_aside,
    }
    first = _detected(table, copies=None, **options)
    copies = _copies(table, first.spec, set_aside)
    return first if copies is None else _detected(table, copies=copies, **options)


def _copies(table: AccountTable, spec: ScoringSpec, set_aside: float | None) -> Copies | None:
    """Find accounts that a run of this spec draws together; what breaks the contract has none."""
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
    reading: Reading,
    labels: Mapping[str, Mapping[str, int]],
    date_format: str | None,
    set_aside: float | None,
    copies: Copies | None,
) -> FirstSpec:
    """Detect features on the search part, copies of an account being in one part."""
    identifier = _identifier(table, identifier, outcomes, keep)
    outcomes = named_outcomes(table, outcomes, labels)
    found = OutcomeColumns.found(outcomes, table.columns)
    # Before anything is split: the ids of a run are the texts that the file has.
    table = table.with_text(identifier)
    table, words = with_labels(table, outcomes, labels)
    aside = SetAside()
    if set_aside is not None:
        rules = [*id_rules(identifier, table.schema), *outcome_rules(found, table.schema)]
        rules += total_rules(identifier, found, [], table.schema)
        table, aside = leave_out(table, rules, set_aside)
    meanings = {each.role: each.words for each in words if not each.unknown}
    sample, target, target_name = _search_part(table, found, identifier, split, words, copies)
    frame = sample.select(table.columns)
    candidates = [n for n in table.columns if n not in {identifier, *found.columns.values()}]
    leaks = find_leaks(sample, candidates, found)
    telling = {k.column: k.sentence for k in leaks if k.grade is Grade.ERROR}
    left_out: dict[str, str] = dict(table.unread)
    fitted: dict[str, Fitted] = {}
    for name in table.columns:
        if name == identifier:
            left_out[name] = "the account id"
        elif name in found.columns.values():
            left_out[name] = "an outcome"
        elif name in telling and name not in keep:
            left_out[name] = telling[name]
        else:
            unlike = table.unlike(name)
            result = "; ".join(unlike) if unlike else _fit(frame[name], target, date_format)
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
    apart = every_so_many(len(frame), len(fitted))
    shapes = _shapes(frame.gather_every(apart), target[::apart], fitted, bins=bins)
    used = {*fitted, *found.columns.values()}
    # Another file may have no other column that settles it.
    thousands = table.texts.thousands(used) if table.texts else {}
    reading = reading.model_copy(update={"columns": {**reading.columns, **thousands}})
    data = _spec_data(found, outcomes, identifier, split, reading, shapes, frame, meanings)
    if date_format is not None:
        data["date_format"] = date_format
    heading = _heading(table, found, target_name, len(frame), split, bins=bins)
    comments = {name: shape.comment for name, shape in shapes.items()}
    text = commented_yaml(data, heading=heading, comments=comments, left_out=left_out)
    spec = parse(text, source="detected spec")
    taken = _taken(spec, found, target_name, [each for each in words if not each.unknown])
    if aside.rows:
        taken = (aside.sentence, *taken)
    notes = tuple(_reading_notes(table, used, left_out))
    return FirstSpec(spec, text, left_out, leaks, notes, taken, found.columns, aside)


def _reading_notes(
    table: AccountTable, used: Collection[str], left_out: Mapping[str, str]
) -> list[str]:
    """Say what was read as unknown, and which columns are numbers but for some cells."""
    if table.texts is None:
        return []
    nearly = {name: table.unlike(name) for name in table.columns}
    return [
        *table.texts.notes(used),
        *(
            f'Column "{name}" is left out: {found[0]}. {found[1]}.'
            for name, found in nearly.items()
            if found is not None
        ),
        *(
            f'Column "{name}" is left out: {reason}. Store the numbers alone.'
            for name, reason in left_out.items()
            if reason.startswith(_MIXED)
        ),
    ]


def _taken(
    spec: ScoringSpec, found: OutcomeColumns, target: str, words: list[LabelWords]
) -> tuple[str, ...]:
    """Say what was taken for the outcomes, the id and the objective."""
    roles = ", ".join(f"{column} ({role})" for role, column in found.columns.items())
    identifier = (
        f"Id: {spec.id}."
        if spec.id
        else "Id: none found, accounts are told apart by their content; --id COLUMN names one."
    )
    oriented = f"Features are oriented by {target}; objective: {spec.objective}."
    if not found.labelled:
        oriented += " No label was found: --outcome churned=COLUMN or retained=COLUMN names one."
    return (f"Outcomes: {roles}.", *(each.sentence for each in words), identifier, oriented)


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


def _search_part(
    table: AccountTable,
    found: OutcomeColumns,
    identifier: str | None,
    split: Split,
    words: list[LabelWords],
    copies: Copies | None,
) -> tuple[pl.DataFrame, NDArray[np.float64], str]:
    """Return the search part of the table and what its features are oriented by."""
    roles = {
        "retained": found.labelled,
        "ltv": found.has("ltv"),
        "activated": found.has("activated"),
    }
    roles |= {"won_back": found.has("won_back"), "start": found.has("mrr")}
    target = next((role for role, there in roles.items() if there), None)
    if target is None:
        names = ", ".join(str(f.default) for f in Outcomes.model_fields.values())
        raise AccountDataError(
            f"{table.source}: no outcome column; expected at least one of {names}",
            hint="say which column is yours: gtmar init --outcome retained=my_column",
        )
    for name, column in found.columns.items():
        if not (table.schema[column].is_numeric() or table.schema[column] in (pl.Boolean, pl.Null)):
            unlike = table.unlike(column)
            first = pl.col(column).drop_nulls().unique(maintain_order=True).head(3)
            shown = culprits(collect(table, table.frame.select(first))[column].to_list())
            unknown = [w for each in words if each.column == column for w in each.unknown]
            option = (
                f'say what each word counts: --label "{name}:{unknown[0]}=1"' if unknown else ""
            )
            raise AccountDataError(
                f'{table.source}: column "{column}": outcome {name} expects numbers, '
                f"got {unlike[0] if unlike else f'{table.schema[column]}: {shown}'}",
                hint=option
                or (
                    unlike[1]
                    if unlike
                    else "labels are 0 and 1, null where unknown"
                    if name in LABELS
                    else "store the amounts alone, as numbers"
                ),
            )
    sample = search_sample(table, found, identifier, split, copies=copies)
    y = sample[f"{OWN}{target}"].cast(pl.Float64)
    if target in ("ltv", "start"):
        # Money is skewed: its rank orients better than its amount.
        y = y.rank("average")
    spoken = {"retained": "retention", "ltv": "LTV", "start": "MRR", "won_back": "win-back"}
    return sample, y.to_numpy(), spoken.get(target, "activation")


def _date(column: pl.Series, date_format: str | None) -> str | None:
    """Say why a column of dates as text is no feature; None where it holds none."""
    if column.dtype != pl.String or not looks_like_dates(column):
        return None
    stated = date_format is not None or column.str.contains(r"^\s*\d{4}-").all()
    option = "" if stated else ", after --date-format %d/%m/%Y or %m/%d/%Y"
    return f"a date as text; store it as a date and encode it with days_before{option}"


def _fit(column: pl.Series, target: NDArray[np.float64], date_format: str | None) -> Fitted | str:
    """Fit an encoder to a column, or say why it is no feature."""
    dtype = column.dtype
    if reason := _date(column, date_format):
        return reason
    if unfit := _unfit(dtype):
        return unfit
    if dtype.is_float():
        column = column.fill_nan(None)
        if column.is_infinite().any():
            return "has infinite values"
    known = column.drop_nulls()
    distinct = known.n_unique()
    if distinct == 0:
        return "empty"
    if distinct == 1 and not column.null_count():
        return f"constant: always {known[0]}"
    if dtype == pl.Boolean:
        return fit_flag(column, target)
    if dtype.is_numeric():
        if dtype.is_integer() and distinct == len(column) and column.name.lower().endswith("id"):
            return "an identifier: every value differs"
        if set(known.unique().to_list()) <= {0, 1}:
            return fit_flag(column, target)
        return fit_number(column, target)
    many = distinct > _MOST_OF_MANY or distinct * _ACCOUNTS_EACH > len(known)
    if distinct > _MOST_CATEGORIES and many:
        units = known.cast(pl.String).str.extract(_WITH_UNIT)
        if units.null_count() <= _FEW * len(known):
            return f"{_MIXED}: {culprits(known.head(3).to_list())}"
        return f"free text or an identifier: {distinct:,} distinct values"
    return fit_categories(column, target)


def _unfit(dtype: pl.DataType) -> str | None:
    """Say why no column of a type is a feature as it stands."""
    if dtype in (pl.Date, pl.Datetime):
        return "a date; encode it with days_before and --as-of"
    if dtype.is_temporal():
        return f"a {dtype}, no date and no number; store it as a number, of hours or days"
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        return f"of type {dtype}, neither number nor category"
    return None


def _weight_and_bound(features: int) -> tuple[int, int]:
    """Return each feature's first weight, and how far a search may take it."""
    weight = max(1, round(_TOTAL_POINTS / features))
    return weight, max(_LEAST_BOUND, 3 * weight)


def _shapes(
    frame: pl.DataFrame, y: NDArray[np.float64], fitted: dict[str, Fitted], *, bins: bool
) -> dict[str, Shape]:
    if not bins:
        return fit_shapes(frame, fitted, y)
    weight, bound = _weight_and_bound(len(fitted))
    return fit_bins(frame, fitted, y, points=weight, bound=bound)


def _spec_data(
    found: OutcomeColumns,
    outcomes: Outcomes,
    identifier: str | None,
    split: Split,
    reading: Reading,
    shapes: dict[str, Shape],
    frame: pl.DataFrame,
    labels: Mapping[str, Mapping[str, int | None]],
) -> dict[str, Any]:
    """Return the spec as plain data, tiers at the quartiles of the starting score."""
    weight, bound = _weight_and_bound(len(shapes))
    features: dict[str, Any] = {}
    for name, shape in shapes.items():
        own = {"weight": weight, "min": -bound, "max": bound}
        features[name] = {**({} if shape.encode["kind"] == "bins" else own), "encode": shape.encode}
        if shape.missing is not None:
            features[name]["missing"] = {"value": shape.missing}
    data: dict[str, Any] = {
        "model": "first_spec",
        "max_score": 100,
        **({"id": identifier} if identifier else {}),
        **({"outcomes": named} if (named := outcomes.model_dump(exclude_defaults=True)) else {}),
        **({"labels": labels} if labels else {}),
        "split": {"holdout": split.holdout, "salt": split.salt},
        **({"read": stated} if (stated := reading.model_dump(exclude_defaults=True)) else {}),
        "objective": _objective(found),
        "features": features,
        "tiers": {"all": {"min": 0, "max": 101}},
    }
    spec = ScoringSpec.model_validate(data)
    encoded = frame.select(encoded_terms(spec, frame.schema).values())
    weights = np.array(list(spec.weights.values()))
    scores = np.clip(encoded.to_numpy() @ weights / 10_000, 0, 100)
    edges = [round(float(q)) for q in np.quantile(scores, [0.25, 0.5, 0.75])]
    low = min(max(edges[0], 1), 98)
    middle = min(max(edges[1], low + 1), 99)
    high = min(max(edges[2], middle + 1), 100)
    data["tiers"] = {
        "A": {"min": high, "max": 101},
        "B": {"min": middle, "max": high},
        "C": {"min": low, "max": middle},
        "D": {"min": 0, "max": low},
    }
    # Rescaled weights would give the same order and other tiers: keep every tier in use.
    data["guardrails"] = [
        {"metric": f"share_by_tier.{t}", "min": _TIER_SHARE} for t in data["tiers"]
    ]
    return data


def _objective(found: OutcomeColumns) -> str:
    if found.labelled:
        return "auc_roc_retain"
    if found.has("ltv"):
        return "tier_separation"
    if found.has("activated"):
        return "activation_rate_by_tier.A"
    return "winback_rate_by_former_tier.A" if found.has("won_back") else "revenue_capture_at_20"


def _heading(
    table: AccountTable,
    found: OutcomeColumns,
    target: str,
    accounts: int,
    split: Split,
    *,
    bins: bool,
) -> str:
    roles = ", ".join(f"{column} ({role})" for role, column in found.columns.items())
    unseen = (
        f"the other {split.holdout:.0%} are the holdout and were not looked at"
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
