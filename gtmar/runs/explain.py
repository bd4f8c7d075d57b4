"""One account's score taken apart: what it is made of, and what the next tier would take."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar.data.contract import as_of_date, check_contract, id_column
from gtmar.data.encode import encoded_terms
from gtmar.data.prepare import prepared
from gtmar.data.scan import AccountTable, collect, scan
from gtmar.data.split import key_expression
from gtmar.errors import AccountDataError, culprits
from gtmar.runs.score import score
from gtmar.spec.model import SCORE_UNITS, VALUE_UNITS

if TYPE_CHECKING:
    from gtmar.data.sources import Tabular
    from gtmar.spec.model import ScoringSpec

__all__ = ["Explanation", "Line", "Step", "explain"]

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
class Step:
    """What one feature alone would have to do for the nearest tier above or below.

    Parameters
    ----------
    feature
        The feature.
    points
        What it gives now.
    possible
        The most (or least) that it gives any account of the table.
    reaches
        Whether that is enough by itself.
    """

    feature: str
    points: float
    possible: float
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
    up: tuple[Step, ...]

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
) -> Explanation:
    """Take one account's score apart.

    Parameters
    ----------
    account
        Its id; its row, from 1, in a table without ids.
    data
        The account table. Outcomes aren't needed.
    spec
        The scoring spec.
    other
        Another spec, to say what moves the score from it to `spec`.
    as_of
        ISO date that `days_before` counts from.

    Raises
    ------
    AccountDataError
        If there is no such account, or more than one.
    ViolationsError
        If the table doesn't fit a spec.
    """
    table = prepared(scan(data), spec, outcomes=False)
    row = _row(table, spec, account)
    scored = score(table.frame, spec, as_of=as_of).row(row, named=True)
    compared = None
    if other is not None:
        compared = score(table.frame, other, as_of=as_of).row(row, named=True)
    cells = collect(table, table.frame.slice(row, 1)).row(0, named=True)
    places = spec.tier_names.index(scored["tier"])
    above = spec.tier_names[places - 1] if places else None
    below = spec.tier_names[places + 1] if places + 1 < len(spec.tier_names) else None
    value = round(scored["score"] * SCORE_UNITS)
    needed = None if above is None else spec.tiers[above].low - value
    # One hundredth of a point under its own lower edge, and an account is in the tier below.
    spare = None if below is None else value - spec.tiers[scored["tier"]].low + 1
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
    key = key_expression(name, table.schema).alias(name)
    ids = collect(table, table.frame.select(key))[name]
    wanted = pl.DataFrame({name: [account]})
    rows = (ids == wanted.select(key_expression(name, wanted.schema)).item()).arg_true().to_list()
    if len(rows) != 1:
        found = "no account" if not rows else f"{len(rows):,} accounts"
        raise AccountDataError(
            f'{table.source}: {found} "{account}" in column "{name}"; it has '
            f"{culprits(ids.head(3).to_list())} and others",
            hint="the id as the table has it",
        )
    return int(rows[0])


def _lines(
    spec: ScoringSpec,
    other: ScoringSpec | None,
    scored: dict[str, Any],
    compared: dict[str, Any] | None,
    cells: dict[str, Any],
) -> tuple[Line, ...]:
    """List every line that either spec has, those that change most first where there are two."""
    terms = {term.name: term for term in (*(other.terms if other else ()), *spec.terms)}
    weights = spec.weights
    lines = [Line("base", None, None, scored["base"], _points(compared, "base"))]
    lines += [
        Line(
            name,
            _text(cells.get(term.column)),
            weights.get(name),
            scored.get(f"points.{name}", 0.0),
            _points(compared, f"points.{name}"),
        )
        for name, term in terms.items()
    ]
    lines += [
        Line(name, None, None, scored[name], _points(compared, name))
        for name in ("rounding", "clipping")
    ]

    def moved(line: Line) -> float:
        if compared is None:
            return -abs(line.points)
        return -abs(line.points - (line.other_points or 0.0))

    return tuple(sorted(lines, key=lambda line: (line.name in _OWN, moved(line))))


def _points(compared: dict[str, Any] | None, name: str) -> float | None:
    return None if compared is None else float(compared.get(name, 0.0))


def _text(value: object) -> str:
    return "unknown" if value is None else str(value)


def _steps(
    table: AccountTable,
    spec: ScoringSpec,
    scored: dict[str, Any],
    needed: int,
    as_of: str | None,
) -> tuple[Step, ...]:
    """Say for each feature what the best that any account has would add."""
    date = as_of_date(spec, table.schema, as_of)
    check_contract(table, spec, as_of=as_of, outcomes=False)
    encoded = encoded_terms(spec, table.schema, date)
    features: dict[str, list[str]] = {}
    for term in spec.terms:
        features.setdefault(term.feature, []).append(term.name)
    weights = spec.weights
    best = collect(
        table,
        table.frame.select(
            # A binned feature gives the points of one bin, so its terms are summed account by
            # account and not each at its best.
            pl.sum_horizontal(encoded[name] * weights[name] for name in names).max().alias(feature)
            for feature, names in features.items()
        ),
    ).row(0, named=True)
    # What lies below the scale has to be made up for first. A score rounds half up.
    units = VALUE_UNITS // SCORE_UNITS
    raw = sum(round(scored[k] * VALUE_UNITS) for k in scored if k.startswith("points."))
    raw += spec.base * VALUE_UNITS
    edge = round(scored["score"] * SCORE_UNITS) + needed
    short = edge * units - units // 2 - raw
    steps = []
    for feature, names in features.items():
        now = round(sum(scored[f"points.{name}"] for name in names) * VALUE_UNITS)
        most = int(best[feature])
        if most > now:
            steps.append(
                Step(feature, now / VALUE_UNITS, most / VALUE_UNITS, reaches=most - now >= short)
            )
    return tuple(sorted(steps, key=lambda step: step.points - step.possible))
