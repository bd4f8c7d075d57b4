"""One account's score taken apart: what it is made of, and what the next tier would take."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar import spec as specs
from gtmar.data.contract import as_of_date, check_contract, id_column
from gtmar.data.encode import encoded_terms
from gtmar.data.prepare import prepared
from gtmar.data.scan import AccountTable, collect, scan
from gtmar.data.split import key_expression
from gtmar.errors import AccountDataError, culprits
from gtmar.runs.score import score
from gtmar.spec.model import SCORE_UNITS, VALUE_UNITS

if TYPE_CHECKING:
    from gtmar.data.scan import Tabular
    from gtmar.spec.model import ScoringSpec

__all__ = ["Explanation", "Line", "PossibleChange", "explain"]

#: Lines that are no feature's.
_OWN = ("base", "rounding", "clipping")


@dataclass(frozen=True)
class Line:
    """One line of a score: a weight's points, or `base`, `rounding`, `clipping`."""

    name: str
    #: The table's value, as text; None for the score's own lines.
    value: str | None
    weight: int | None
    points: float
    #: Under the other spec; None without one, or where it has no such line.
    other_points: float | None = None


@dataclass(frozen=True)
class PossibleChange:
    """What one feature alone could add on the way to the tier above."""

    feature: str
    #: What it gives now, and the most that it gives any account of the table.
    points: float
    possible: float
    #: Whether that is enough by itself.
    reaches: bool


@dataclass(frozen=True)
class Explanation:
    """A score, line by line: the points of all lines add up to it."""

    account: str
    model: str
    score: float
    tier: str
    lines: tuple[Line, ...]
    #: Under the other spec; None without one.
    other_score: float | None
    other_tier: str | None
    #: Nearest tiers above and below, and how many points away; None where there is none.
    above: str | None
    points_to_above: float | None
    below: str | None
    points_to_below: float | None
    #: What each feature could add for the tier above, the most first.
    up: tuple[PossibleChange, ...]

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)


def explain(
    account: str,
    data: Tabular,
    spec: ScoringSpec,
    *,
    other: ScoringSpec | None = None,
    as_of: str | None = None,
    date_format: str | None = None,
) -> Explanation:
    """Take one account's score apart. Outcomes aren't needed.

    Parameters
    ----------
    account
        Its id; its row, from 1, in a table without ids.
    data, spec
        The account table and the scoring spec.
    other
        Another spec, to say what moves the score from it to `spec`.
    as_of, date_format
        As for `run`.

    Raises
    ------
    AccountDataError
        If there is no such account, or more than one.
    ViolationsError
        If the table doesn't fit a spec.
    """
    spec = specs.reading_dates(spec, date_format)
    table = prepared(scan(data), spec, outcomes=False)
    row = _row(table, spec, account)
    scored = score(table.frame, spec, as_of=as_of).row(row, named=True)
    compared = None
    if other is not None:
        other = specs.reading_dates(other, date_format)
        compared = score(table.frame, other, as_of=as_of).row(row, named=True)
    cells = collect(table, table.frame.slice(row, 1)).row(0, named=True)
    tiers, tier = spec.tier_names, spec.tier_names.index(scored["tier"])
    value = round(scored["score"] * SCORE_UNITS)
    above = below = needed = spare = None
    if tier > 0:
        above = tiers[tier - 1]
        needed = spec.tiers[above].low - value
    if tier + 1 < len(tiers):
        below = tiers[tier + 1]
        # One hundredth of a point under its own lower edge, and an account is in the tier below.
        spare = value - spec.tiers[scored["tier"]].low + 1
    return Explanation(
        account=account,
        model=spec.model,
        score=scored["score"],
        tier=scored["tier"],
        lines=_lines(spec, other, scored, compared, cells),
        other_score=None if compared is None else compared["score"],
        other_tier=None if compared is None else compared["tier"],
        above=above,
        points_to_above=None if needed is None else needed / SCORE_UNITS,
        below=below,
        points_to_below=None if spare is None else spare / SCORE_UNITS,
        up=() if needed is None else _steps(table, spec, scored, needed, as_of),
    )


def _row(table: AccountTable, spec: ScoringSpec, account: str) -> int:
    """Return the number of an account's row, from 0."""
    name = id_column(spec, table.columns)
    if name is None or name not in table.columns:
        height = collect(table, table.frame.select(pl.len())).item()
        if not account.isdigit() or not 1 <= int(account) <= height:
            raise AccountDataError(
                f'{table.source}: no account "{account}": the table has no ids, so accounts are '
                f"named by their row, 1 to {height:,}",
                hint="gtmar explain 1",
            )
        return int(account) - 1
    ids = collect(table, table.frame.select(key_expression(name, table.schema).alias(name)))[name]
    wanted = pl.DataFrame({name: [account]})
    rows = (ids == wanted.select(key_expression(name, wanted.schema)).item()).arg_true()
    if len(rows) != 1:
        count = "no account" if rows.is_empty() else f"{len(rows):,} accounts"
        raise AccountDataError(
            f'{table.source}: {count} "{account}" in column "{name}"; it has '
            f"{culprits(ids.head(3).to_list())} and others",
            hint="the id as the table has it",
        )
    return int(rows.item())


def _lines(
    spec: ScoringSpec,
    other: ScoringSpec | None,
    scored: dict[str, Any],
    compared: dict[str, Any] | None,
    cells: dict[str, Any],
) -> tuple[Line, ...]:
    """List every line that either spec has, those that change most first where there are two."""

    def line(name: str, key: str, value: str | None = None, weight: int | None = None) -> Line:
        then = None if compared is None else float(compared.get(key, 0.0))
        return Line(name, value, weight, scored.get(key, 0.0), then)

    def order(each: Line) -> tuple[bool, float]:
        return each.name in _OWN, -abs(each.points - (each.other_points or 0.0))

    lines = [line(name, name) for name in _OWN]
    for term in {t.name: t for t in (*(other.terms if other else ()), *spec.terms)}.values():
        cell = cells.get(term.column)
        text = "unknown" if cell is None else str(cell)
        lines.append(line(term.name, f"points.{term.name}", text, spec.weights.get(term.name)))
    return tuple(sorted(lines, key=order))


def _steps(
    table: AccountTable,
    spec: ScoringSpec,
    scored: dict[str, Any],
    needed: int,
    as_of: str | None,
) -> tuple[PossibleChange, ...]:
    """Say for each feature what the best that any account has would add."""
    check_contract(table, spec, as_of=as_of, outcomes=False)
    encoded = encoded_terms(spec, table.schema, as_of_date(spec, table.schema, as_of))
    features: dict[str, list[str]] = {}
    for term in spec.terms:
        features.setdefault(term.feature, []).append(term.name)
    best = collect(
        table,
        table.frame.select(
            # A binned feature gives the points of one bin, so its terms are summed account by
            # account and not each at its best.
            pl.sum_horizontal(encoded[n] * spec.weights[n] for n in names).max().alias(feature)
            for feature, names in features.items()
        ),
    ).row(0, named=True)
    # What lies below the scale has to be made up for first. A score rounds half up.
    units = VALUE_UNITS // SCORE_UNITS
    raw = sum(round(scored[k] * VALUE_UNITS) for k in scored if k.startswith("points."))
    edge = round(scored["score"] * SCORE_UNITS) + needed
    short = edge * units - units // 2 - raw - spec.base * VALUE_UNITS
    steps = []
    for feature, names in features.items():
        now = round(sum(scored[f"points.{name}"] for name in names) * VALUE_UNITS)
        more = int(best[feature]) - now
        if more > 0:
            possible = best[feature] / VALUE_UNITS
            steps.append(
                PossibleChange(feature, now / VALUE_UNITS, possible, reaches=more >= short)
            )
    return tuple(sorted(steps, key=lambda step: step.points - step.possible))
