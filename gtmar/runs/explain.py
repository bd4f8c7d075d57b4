"""Explanation of one account's score: lines of points that add up to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar import spec as specs
from gtmar.data.contract import as_of_date, check_contract, id_column
from gtmar.data.encode import encoded_terms, flag_values, rule_holds
from gtmar.data.prepare import prepared
from gtmar.data.scan import AccountTable, collect, scan
from gtmar.data.split import key_expression
from gtmar.errors import AccountDataError, culprits
from gtmar.plain_data import PlainData, digits
from gtmar.runs.inputs import newest_date
from gtmar.runs.score import score
from gtmar.spec.combination import Combination
from gtmar.spec.model import SCORE_UNITS, VALUE_UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from gtmar.data.scan import Tabular
    from gtmar.spec.model import ScoringSpec

__all__ = ["Explanation", "explain", "explained", "row_of"]

#: Prefix of columns that say whether a rule holds; no table has such a column.
_HOLDS = "\x00holds."
#: Characters from which on a fraction is written with six significant digits.
_DIGITS = 12


@dataclass(frozen=True)
class Line:
    """One line of a score: the points of a weight, or of the score itself.

    The score's own lines are `base`, `rounding`, `clipping`, and what groups, redistribution and
    vetoes add.
    """

    name: str
    #: The account's value as text; for a group its limits, for vetoes those that hold; else None.
    value: str | None
    weight: int | None
    points: float
    #: Points by the other spec; None without one, or if it has no such line.
    other_points: float | None = None
    #: What earns a weight's points, in words; None for the score's own lines.
    earned_by: str | None = None


@dataclass(frozen=True)
class PossibleChange:
    """How many points one feature alone, or the end of all vetoes, could add."""

    feature: str
    #: Points now, and with the best value that any account of the table has, after all caps.
    points: float
    possible: float
    #: Whether that alone is enough for the tier above.
    reaches: bool


@dataclass(frozen=True)
class Explanation(PlainData):
    """A score, line by line: the points of all lines add up to it."""

    account: str
    model: str
    score: float
    tier: str
    lines: tuple[Line, ...]
    #: Score and tier by the other spec; None without one.
    other_score: float | None
    other_tier: str | None
    #: The next tiers above and below, and how many points away; None if there is none.
    above: str | None
    points_to_above: float | None
    below: str | None
    points_to_below: float | None
    #: What each feature could add on the way to the tier above, the most first.
    up: tuple[PossibleChange, ...]
    #: The probability of leaving, and a sentence about it; None if the spec has none.
    probability: float | None = None
    probability_reading: str | None = None
    #: The newest date, if it was taken from a table of several; else None.
    newest: date | None = None


def explain(
    account: str,
    data: Tabular,
    spec: ScoringSpec,
    *,
    other: ScoringSpec | None = None,
    as_of: str | None = None,
    date_format: str | None = None,
) -> Explanation:
    """Explain one account's score. Outcomes aren't needed.

    Parameters are those of `gtmar.explain`. From a table of several dates the newest one is taken.

    Raises
    ------
    AccountDataError
        If there is no such account, or more than one.
    ViolationsError
        If the table doesn't fit a spec.
    """
    spec = specs.reading_dates(spec, date_format)
    given = scan(data)
    given, newest = newest_date(given, id_column(spec, given.columns))
    table = prepared(given, spec, outcomes=False)
    row = row_of(table, spec, account)
    scored = score(table.as_read, spec, as_of=as_of).row(row, named=True)
    compared: dict[str, Any] = {}
    if other is not None:
        other = specs.reading_dates(other, date_format)
        compared = score(table.as_read, other, as_of=as_of).row(row, named=True)
    explanation = explained(account, table, row, spec, scored, other, compared)
    explanation = replace(explanation, newest=newest)
    if explanation.points_to_above is None:
        return explanation
    needed = round(explanation.points_to_above * SCORE_UNITS)
    return replace(explanation, up=_steps(table, spec, row, scored, needed, as_of))


def explained(
    account: str,
    table: AccountTable,
    row: int,
    spec: ScoringSpec,
    scored: dict[str, Any],
    other: ScoringSpec | None = None,
    compared: Mapping[str, Any] | None = None,
) -> Explanation:
    """Return an account's explanation, without what each feature could add.

    Parameters
    ----------
    account, table, row
        The account's name, and its row number in a table that is prepared for the spec.
    spec, scored
        The spec, and the account's row of `score` by it.
    other, compared
        Another spec, and the row of `score` by that; None for none.
    """
    compared = dict(compared or {})
    cells = _cells(table, row, spec)
    if other is not None:
        cells = _cells(prepared(table, other, outcomes=False), row, other) | cells
    tier, neighbours = scored["tier"], list(pairwise(spec.tier_names))
    above = {lower: higher for higher, lower in neighbours}.get(tier)
    below = dict(neighbours).get(tier)
    value = round(scored["score"] * SCORE_UNITS)
    needed = None if above is None else spec.tiers[above].low - value
    # An account is in the tier below from 0.01 points under the lower edge of its own tier.
    spare = None if below is None else value - spec.tiers[tier].low + 1
    calibration = specs.calibration_of(spec)
    return Explanation(
        account=account,
        model=spec.model,
        score=scored["score"],
        tier=tier,
        lines=_lines(spec, other, scored, compared, cells),
        other_score=compared.get("score"),
        other_tier=compared.get("tier"),
        above=above,
        points_to_above=None if needed is None else needed / SCORE_UNITS,
        below=below,
        points_to_below=None if spare is None else spare / SCORE_UNITS,
        up=(),
        probability=scored.get("probability"),
        probability_reading=None
        if calibration is None
        else calibration.sentence_of(scored["score"]),
    )


def row_of(table: AccountTable, spec: ScoringSpec, account: str) -> int:
    """Return the number of an account's row, from 0; errors are those of `explain`."""
    name = id_column(spec, table.columns)
    if name is None or name not in table.columns:
        height = collect(table, table.frame.select(pl.len())).item()
        if account.isdigit() and 1 <= int(account) <= height:
            return int(account) - 1
        raise AccountDataError(
            f'{table.source}: no account "{account}": the table has no ids, so accounts are '
            f"named by their row, 1 to {height:,}",
            hint="gtmar explain 1",
        )
    ids = collect(table, table.frame.select(key_expression(name, table.schema).alias(name)))[name]
    wanted = pl.DataFrame({name: [account]})
    key = wanted.select(key_expression(name, wanted.schema)).item()
    rows = ids.eq_missing(key).arg_true() if key is not None else pl.Series(dtype=pl.UInt32)
    if len(rows) != 1:
        count = "no account" if rows.is_empty() else f"{len(rows):,} accounts"
        # A spreadsheet takes zeros off the front of ids, and capitals are easily missed.
        plain = ids.cast(pl.String).str.strip_chars_start("0").str.to_lowercase()
        alike = ids.filter(plain == account.strip().lstrip("0").lower()).unique().sort().head(3)
        meant = " or ".join(f'"{each}"' for each in alike) if rows.is_empty() else ""
        raise AccountDataError(
            f'{table.source}: {count} "{account}" in column "{name}"; it has '
            f"{culprits(ids.head(3).to_list())} and others",
            hint=f"did you mean {meant}?" if meant else "the id as the table has it",
        )
    return int(rows.item())


def _cells(table: AccountTable, row: int, spec: ScoringSpec) -> dict[str, str]:
    """Return an account's value as text by term, or whether the term's rule holds.

    Under the key `_HOLDS` are the vetoes that hold.
    """
    rules = {n: rule for n, each in spec.inputs.items() if (rule := each.parsed_rule) is not None}
    held = {f"{_HOLDS}{name}": rule_holds(rule, table.schema) for name, rule in rules.items()}
    columns = table.frame.slice(row, 1).select(*spec.columns, **held)
    cells = collect(table, columns).row(0, named=True)
    words = {}
    for term in spec.terms:
        if (rule := rules.get(term.feature)) is not None:
            holds = "holds" if cells[f"{_HOLDS}{term.feature}"] else "doesn't hold"
            words[term.name] = f"{rule}: {holds}"
        else:
            own = [cells[name] for name in term.columns]
            words[term.name] = ", ".join(map(_worded, own))
    vetoes = (name for name in rules if name not in spec.features and cells[f"{_HOLDS}{name}"])
    return words | {_HOLDS: ", ".join(name.removeprefix("veto: ") for name in vetoes)}


def _worded(cell: object) -> str:
    if cell is None:
        return "unknown"
    # A mean has as many digits as a double holds; nobody typed more than a few.
    return digits(cell) if isinstance(cell, float) and len(str(cell)) > _DIGITS else str(cell)


def _lines(
    spec: ScoringSpec,
    other: ScoringSpec | None,
    scored: dict[str, Any],
    compared: dict[str, Any],
    cells: dict[str, str],
) -> tuple[Line, ...]:
    """Return the lines of both specs: those with the most points, or the largest change, first."""
    earned = (other.earned_by if other else {}) | spec.earned_by
    combinations = [Combination.of(each) for each in (spec, other) if each is not None]
    ends = {name: text for each in combinations if each for name, text in each.lines.items()}
    ends |= {"veto": cells[_HOLDS] or None} if "veto" in ends else {}
    own = ["base", *ends, "rounding", "clipping"]

    def line(name: str, key: str, value: str | None = None, weight: int | None = None) -> Line:
        then = float(compared.get(key, 0.0)) if compared else None
        return Line(name, value, weight, scored.get(key, 0.0), then, earned.get(name))

    def order(each: Line) -> tuple[bool, float]:
        moved = abs(each.points - (each.other_points or 0.0))
        return each.weight is None and each.name in own, -moved

    lines = [line(name, name, ends.get(name)) for name in own]
    for term in {t.name: t for t in (*(other.terms if other else ()), *spec.terms)}.values():
        key, text = f"points.{term.name}", cells[term.name]
        lines.append(line(term.name, key, text, spec.weights.get(term.name)))
    return tuple(sorted(lines, key=order))


def _steps(
    table: AccountTable,
    spec: ScoringSpec,
    row: int,
    scored: dict[str, Any],
    needed: int,
    as_of: str | None,
) -> tuple[PossibleChange, ...]:
    """Return for each feature what the best value of any account would add, the most first."""
    check_contract(table, spec, as_of=as_of, outcomes=False)
    encoded = encoded_terms(spec, table.schema, as_of_date(spec, table.schema, as_of, table.dates))
    features: dict[str, list[str]] = {}
    for term in spec.terms:
        features.setdefault(term.feature, []).append(term.name)
    best = collect(
        table,
        table.frame.select(
            # An account is in one bin of a feature, so bins are summed before the maximum is taken.
            pl.sum_horizontal(encoded[n] * spec.weights[n] for n in names).max().alias(feature)
            for feature, names in features.items()
        ),
    ).row(0, named=True)
    points = {
        feature: round(sum(scored[f"points.{name}"] for name in names) * VALUE_UNITS)
        for feature, names in features.items()
    }
    # In raw points, since a score that is clipped at 0 may be far below. Scores round half up.
    units = VALUE_UNITS // SCORE_UNITS
    needed_raw = (round(scored["score"] * SCORE_UNITS) + needed) * units - units // 2
    combination = Combination.of(spec)
    flags = flag_values(spec, table.schema)
    known = {
        name: values.to_numpy()[0].astype(np.int64)
        for name, values in collect(table, table.frame.slice(row, 1).select(**flags))
        .to_dict()
        .items()
    }

    def raw(changed: dict[str, int]) -> int:
        """Return the raw score with other points of some features; these count as known then."""
        now = points | changed
        if combination is None:
            return int(sum(now.values())) + spec.base * VALUE_UNITS
        columns = {n: c for each in combination.sets for n, c in each.shared.items()}
        unknown = {f"unknown.{columns[n]}": np.int64(0) for n in changed if n in columns}
        sums = [np.int64(sum(now[name] for name in each.features)) for each in combination.sets]
        weights = list(spec.weights.values())
        scored_raw: np.int64 = combination.raw(sums, weights, known | unknown)
        return int(scored_raw)

    vetoed = [name for name in known if name.startswith("veto.") and known[name]]
    before = raw({})
    steps = []
    for feature, now in points.items():
        after = raw({feature: int(best[feature])})
        if after > before:
            possible = (now + after - before) / VALUE_UNITS
            reaches = after >= needed_raw
            steps.append(PossibleChange(feature, now / VALUE_UNITS, possible, reaches))
    known |= dict.fromkeys(vetoed, np.int64(0))
    if (after := raw({})) > before:
        points_lost = (before - after) / VALUE_UNITS
        steps.append(PossibleChange("veto", points_lost, 0.0, after >= needed_raw))
    return tuple(sorted(steps, key=lambda step: step.points - step.possible))
