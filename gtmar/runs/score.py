"""Scoring a table: every account's score, tier, and the points that add up to the score."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from polars.exceptions import PolarsError

from gtmar import safe_text
from gtmar import spec as specs
from gtmar.data.contract import as_of_date, check_contract
from gtmar.data.encode import divided, encoded_terms, flag_values
from gtmar.data.locations import expanded, refuse_remote
from gtmar.data.matrix import check_reach
from gtmar.data.outcomes import OutcomeColumns
from gtmar.data.prepare import prepared
from gtmar.data.scan import collect, likely_id, scan
from gtmar.data.split import key_expression
from gtmar.errors import UsageError, culprits
from gtmar.integrations.lakehouse import is_target, refuse_target, replace
from gtmar.outputs import Output
from gtmar.plain_data import some
from gtmar.safe_text import without_credentials
from gtmar.spec.calibration import PROBABILITY_UNITS
from gtmar.spec.combination import Combination
from gtmar.spec.model import SCORE_UNITS, VALUE_UNITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gtmar.data.rules import SetAside
    from gtmar.data.scan import AccountTable, Tabular
    from gtmar.spec.model import ScoringSpec

__all__ = [
    "CARRIED",
    "NewTable",
    "ScoredTable",
    "changed_since",
    "had_left",
    "refuse_other_id",
    "score",
    "score_table",
    "scored",
    "tier_changes",
    "with_spec_stamp",
    "write_rows_aside",
    "write_table",
]

_RAW_PER_SCORE = VALUE_UNITS // SCORE_UNITS
#: Columns used in between; no table has such names.
_RAW, _ROUNDED, _VALUE, _KEY = "\x00raw", "\x00rounded", "\x00value", "\x00key"
_FLAG = "\x00flag."
#: Columns with the spec and the day that a row was scored by.
_STAMP = ("spec_id", "scored_on")
_NEARLY = 1e-9
#: Beginnings of columns that can explain why a score moved.
_MOVING = ("points.", "group.", "redistributed", "veto")
#: Prefix of columns that are copied from the table.
CARRIED = "\x00carried."


@dataclass(frozen=True)
class ScoredTable:
    """The scores of an account table, and notes about the table."""

    #: As `score` returns it.
    frame: pl.DataFrame
    #: Rows that were left out since they break the data contract.
    set_aside: SetAside
    #: Sentences, such as how many values are unknown, or in none of the spec's categories.
    notes: tuple[str, ...]


def score(
    data: Tabular,
    spec: ScoringSpec,
    *,
    as_of: str | None = None,
    announce: Callable[[str], None] | None = None,
    set_aside: float | None = None,
) -> pl.DataFrame:
    """Score an account table; parameters, result and errors are those of `score_table`.

    `announce` is called with each of its notes.
    """
    scored_table = score_table(data, spec, as_of=as_of, set_aside=set_aside)
    if announce is not None:
        for sentence in scored_table.notes:
            announce(sentence)
    return scored_table.frame


def score_table(
    data: Tabular,
    spec: ScoringSpec,
    *,
    as_of: str | None = None,
    set_aside: float | None = None,
    carry: Sequence[str] = (),
) -> ScoredTable:
    """Score an account table. Outcomes aren't needed.

    Parameters
    ----------
    data, spec, as_of, set_aside
        As for `run`, without outcomes.
    carry
        Columns of the table that are copied, with the prefix `CARRIED`.

    Returns
    -------
    ScoredTable
        Its `frame` has a row an account, in the table's order: the id where there is one, the
        date's column in a table of several dates, `score` in points, `tier`, the `probability` of
        leaving where the spec is calibrated, then what the score is made of: `base`,
        ``points.<term>`` for each weight, what groups, redistribution and vetoes do
        (``group.<name>``, ``redistributed``, ``redistributed.<group>``, ``veto``) where the spec
        has any, `rounding` and `clipping`; all of them add up to it.

    Raises
    ------
    ViolationsError
        If the table doesn't fit the spec.
    UsageError
        If the id's column has the name of a result.
    """
    table = scan(data)
    likely = spec.id or likely_id(table.columns)
    table = prepared(table.with_text(likely), spec, outcomes=False)
    checked = check_contract(table, spec, as_of=as_of, outcomes=False, set_aside=set_aside)
    table = checked.table
    check_reach(spec, checked.ranges)
    identifier = checked.id_column or likely
    combination = Combination.of(spec)
    lines = [] if combination is None else list(combination.lines)
    own = {"score", "tier", "probability", "base", *lines, "rounding", "clipping", *_STAMP}
    if identifier in own:
        raise UsageError(
            f"\"{identifier}\" is the account id's column and one of the result's; "
            f"the result has {', '.join(sorted(own))}",
            hint="rename the table's column",
        )
    notes = list(checked.notes)
    won_back = _won_back(table, spec)
    if won_back is None or won_back in carry:
        # A caller that carries the column knows of former accounts itself.
        frame = scored(table, spec, identifier, as_of=as_of, carry=carry)
    else:
        frame = scored(table, spec, identifier, as_of=as_of, carry=[*carry, won_back])
        gone = int(had_left(frame, won_back).sum())
        if gone:
            notes.append(
                f"{some(gone, 'account')} left before the window, by {won_back}: the probability "
                f"of leaving says nothing of {'it' if gone == 1 else 'them'}."
            )
        frame = frame.drop(f"{CARRIED}{won_back}")
    return ScoredTable(frame, checked.set_aside, tuple(notes))


def _won_back(table: AccountTable, spec: ScoringSpec) -> str | None:
    """Return the column that only former accounts have a value in; None if nobody asks for it.

    It matters only where there is a probability of leaving.
    """
    if specs.calibration_of(spec) is None:
        return None
    return OutcomeColumns.matching(spec.outcomes, table.columns).columns.get("won_back")


def had_left(scored: pl.DataFrame, won_back: str) -> pl.Series:
    """Return whether each account left before the window: its win-back, carried, is known."""
    values = scored[f"{CARRIED}{won_back}"]
    return (values.fill_nan(None) if values.dtype.is_float() else values).is_not_null()


def scored(
    table: AccountTable,
    spec: ScoringSpec,
    identifier: str | None,
    *,
    as_of: str | None = None,
    carry: Sequence[str] = (),
) -> pl.DataFrame:
    """Score a table that is known to fit a spec; parameters are those of `score_table`.

    `identifier` is the column of account ids; None for none.
    """
    combination = Combination.of(spec)
    lines = [] if combination is None else list(combination.lines)
    identity = [pl.col(identifier)] if identifier else []
    identity += [] if table.several is None else [pl.col(table.several.column)]
    encoded = encoded_terms(spec, table.schema, as_of_date(spec, table.schema, as_of, table.dates))
    points = [f"points.{term.name}" for term in spec.terms]
    weighted = [
        (encoded[term.name] * term.weight).alias(name)
        for name, term in zip(points, spec.terms, strict=True)
    ]
    # Integer division rounds down, so this is floor(raw + 0.5) on the grid of score values.
    rounded = (pl.col(_RAW) + _RAW_PER_SCORE // 2) // _RAW_PER_SCORE
    carried = [pl.col(name).alias(f"{CARRIED}{name}") for name in carry]
    flags = [flag.alias(f"{_FLAG}{name}") for name, flag in flag_values(spec, table.schema).items()]
    frame = table.frame.select(*identity, *weighted, *carried, *flags)
    if combination is not None:
        frame = frame.with_columns(**_combination_lines(spec, combination))
    frame = frame.with_columns(
        (pl.sum_horizontal([*points, *lines]) + spec.base * VALUE_UNITS).alias(_RAW)
    ).with_columns(
        rounded.alias(_ROUNDED), rounded.clip(0, spec.max_score * SCORE_UNITS).alias(_VALUE)
    )

    def in_points(units: pl.Expr, per_point: int, name: str) -> pl.Expr:
        return divided(units.cast(pl.Float64), per_point).alias(name)

    raw, on_grid, value = pl.col(_RAW), pl.col(_ROUNDED), pl.col(_VALUE)
    result = frame.select(
        *identity,
        in_points(value, SCORE_UNITS, "score"),
        _tier(spec),
        *_probability(spec),
        pl.lit(float(spec.base)).alias("base"),
        *(in_points(pl.col(name), VALUE_UNITS, name) for name in (*points, *lines)),
        in_points(on_grid * _RAW_PER_SCORE - raw, VALUE_UNITS, "rounding"),
        in_points(value - on_grid, SCORE_UNITS, "clipping"),
        *(pl.col(f"{CARRIED}{name}") for name in carry),
    )
    return collect(table, result)


def _combination_lines(spec: ScoringSpec, combination: Combination) -> dict[str, pl.Expr]:
    """Return the points that groups, redistribution and vetoes add, in 1/10,000ths, by line."""
    terms = spec.terms
    sums = [
        pl.sum_horizontal(f"points.{terms[number].name}" for number in each.terms)
        for each in combination.sets
    ]
    flags = {name: pl.col(f"{_FLAG}{name}").cast(pl.Int64) for name in combination.flags}
    return combination.parts(sums, list(spec.vector), flags)


def with_spec_stamp(scored: pl.DataFrame, spec: ScoringSpec) -> pl.DataFrame:
    """Add columns with the spec's id, and the day in UTC, to every row."""
    stamp = zip(_STAMP, (specs.spec_id(spec), datetime.now(UTC).date()), strict=True)
    return scored.with_columns(pl.lit(value).alias(name) for name, value in stamp)


def _tier(spec: ScoringSpec) -> pl.Expr:
    """Return the tier of a score value in hundredths of a point, tiers from the highest down."""
    tier: pl.Expr = pl.lit(spec.tier_names[-1])
    for name, low in reversed(list(zip(spec.tier_names, spec.tier_lows, strict=True))):
        tier = pl.when(pl.col(_VALUE) >= low).then(pl.lit(name)).otherwise(tier)
    return tier.alias("tier")


def _probability(spec: ScoringSpec) -> list[pl.Expr]:
    """Return the probability of leaving as a column; empty if the spec has none."""
    calibration = specs.calibration_of(spec)
    if calibration is None:
        return []
    first, *others = calibration.steps
    units: pl.Expr = pl.lit(first.units)
    for step in others:
        units = pl.when(pl.col(_VALUE) >= step.low).then(pl.lit(step.units)).otherwise(units)
    return [divided(units.cast(pl.Float64), PROBABILITY_UNITS).alias("probability")]


def refuse_other_id(one: ScoringSpec, two: ScoringSpec) -> None:
    """Raise `UsageError` if two specs to be compared name different columns of ids."""
    if one.id != two.id:
        raise UsageError(
            f'the specs name different id columns: "{one.id}" and "{two.id}"',
            hint="give both the same id",
        )


def tier_changes(
    data: Tabular,
    one: ScoringSpec,
    two: ScoringSpec,
    *,
    as_of: str | None = None,
    as_text: bool = False,
) -> pl.DataFrame:
    """Score a table by two specs of one id and return the accounts whose tier differs.

    Returns
    -------
    DataFrame
        `account` (the id as the table has it or, with `as_text`, as its canonical text; else the
        row from 1), `score_one`, `tier_one`, `score_two`, `tier_two`; the largest moves first.
    """
    before, after = (score(data, spec, as_of=as_of) for spec in (one, two))
    account = pl.int_range(1, before.height + 1)
    if one.id is not None:
        account = key_expression(one.id, before.schema) if as_text else pl.col(one.id)
    changed = before.select(
        (account.cast(pl.String) if as_text else account).alias("account"),
        score_one="score",
        tier_one="tier",
        score_two=after["score"],
        tier_two=after["tier"],
    ).filter(pl.col("tier_one") != pl.col("tier_two"))
    distance = (pl.col("score_two") - pl.col("score_one")).abs()
    return changed.sort(distance, "account", descending=[True, False])


def changed_since(
    old: Tabular,
    new: pl.DataFrame,
    spec: ScoringSpec,
    *,
    least: float = 0.0,
    tier_only: bool = False,
) -> pl.DataFrame:
    """Return the accounts whose score or tier changed since earlier scores, for a CRM sync.

    Parameters
    ----------
    old, new
        The earlier scores, as `score` wrote them, in anything that `scan` takes; and the new ones,
        with the account's id in the first column.
    spec
        The spec of the new scores.
    least
        Least change of the score, in points, if the tier is the same; 0 for any change.
    tier_only
        Whether to return only accounts whose tier changed.

    Returns
    -------
    DataFrame
        A row for each account that is new or changed, in the order of `new`: the id, `score`,
        `tier`, `previous_score`, `previous_tier`, `reason` (up to three weights whose points
        changed most, or ``new account``), `spec_id`, `scored_on`. Accounts that are only in the
        earlier scores are left out.

    Raises
    ------
    UsageError
        If either table has no id, or the earlier one has no score or tier, has an id twice, or
        shares no id with the new one.
    """
    key = new.columns[0]
    table = scan(old)
    escaped = safe_text.safe_cell(key)
    table = table.with_text(key if key in table.columns else escaped)
    before = collect(table, table.frame)
    if table.source.lower().endswith(".csv"):
        # Undo the apostrophes that were written for spreadsheets.
        before = safe_text.from_spreadsheet(before)
    lacking = [name for name in (key, "score", "tier") if name not in before.columns]
    if lacking or key == "score":
        raise UsageError(
            f"{table.source}: no column {culprits(lacking) or key}, so nothing can be compared",
            hint="--changed-since takes a table that gtmar score wrote, of accounts with ids",
        )
    ids = before.select(key_expression(key, before.schema).alias(_KEY))[_KEY]
    if ids.is_duplicated().any():
        raise UsageError(f'{table.source}: ids in "{key}" stand more than once')
    now = new.with_columns(key_expression(key, new.schema).alias(_KEY))
    if len(ids) and new.height and not now[_KEY].is_in(ids.implode()).any():
        raise UsageError(
            f'{table.source}: none of its {len(ids):,} ids in "{key}", '
            f"{culprits(ids.head(3).to_list())}, is one of the {new.height:,} scored now, "
            f"{culprits(now[_KEY].head(3).to_list())}",
            hint="were they written another way? without --changed-since all are given",
        )
    own = new.columns[new.columns.index("tier") :]
    points = [c for c in own if c.startswith(_MOVING) and c in before.columns]
    then = before.select(
        ids,
        previous_score=pl.col("score").cast(pl.Float64),
        previous_tier=pl.col("tier").cast(pl.String),
        **{f"{_RAW}{name}": pl.col(name).cast(pl.Float64) for name in points},
    )
    both = now.join(then, on=_KEY, how="left", maintain_order="left")
    differs = pl.col("tier").ne_missing(pl.col("previous_tier"))
    if not tier_only:
        by = (pl.col("score") - pl.col("previous_score")).abs().fill_null(math.inf)
        # The difference of two doubles may be a little smaller than that of the exact scores.
        differs |= (by > 0) & (by >= least - _NEARLY)
    moved = both.filter(differs)
    reasons = [_reason(row, points) for row in moved.iter_rows(named=True)]
    changed = moved.select(
        key,
        "score",
        "tier",
        "previous_score",
        "previous_tier",
        reason=pl.Series(reasons, dtype=pl.String),
    )
    return with_spec_stamp(changed, spec)


def _reason(row: dict[str, Any], points: list[str]) -> str:
    """Word which weights' points changed an account's score most, and by how much."""
    if row["previous_score"] is None:
        return "new account"
    moves = {name: row[name] - (row[f"{_RAW}{name}"] or 0.0) for name in points}
    largest = sorted((n for n in moves if moves[n]), key=lambda n: (-abs(moves[n]), n))[:3]
    listed = ", ".join(f"{name.removeprefix('points.')} {moves[name]:+.4g}" for name in largest)
    return listed or "base, tiers or weights that were not there before"


def write_rows_aside(sides: list[SetAside], path: str | Path | None) -> list[str]:
    """Write rows that were set aside, each with its reasons; return sentences about them.

    An existing file is never replaced: if it has the same rows, nothing is written; else the rows
    go to a file with a number in its name. Raises `UsageError` if they can't be written.
    """
    sides = [side for side in sides if side.rows]
    sentences = [side.sentence for side in sides]
    if not sides or path is None:
        return sentences
    rows = pl.concat([side.written() for side in sides], how="diagonal_relaxed")
    target, number = Path(path), 2
    while os.path.lexists(target):
        if target.is_file() and target.suffix.lower() == ".csv":
            written = safe_text.spreadsheet_safe(rows).write_csv().encode()
            if target.read_bytes() == written:
                return [*sentences, f"They are in {target}, with the reasons."]
        target = target.with_name(f"{Path(path).stem}-{number}{target.suffix}")
        number += 1
    return [*sentences, f"They are in {write_table(rows, target)}, with the reasons."]


#: Names of Polars' writers by a file's ending.
_WRITERS = {
    ".parquet": "write_parquet",
    ".csv": "write_csv",
    ".arrow": "write_ipc",
    ".ipc": "write_ipc",
    ".feather": "write_ipc",
}


class NewTable:
    """A table to be written; made before any work, since it checks that it can be written.

    Parameters
    ----------
    path
        A file, or a table: ``delta:FOLDER`` or ``duckdb:///file.db?table=NAME``.
    inputs
        Files, folders and globs that the rows come from; they are never written to.
    force
        Whether an existing file or table is replaced. A Delta table keeps its old versions.
    spreadsheet_safe
        Whether texts in CSV that a spreadsheet would run as a formula get an apostrophe in front.

    Raises
    ------
    UsageError
        If the file's ending is unknown, or the path is an input or exists already.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        inputs: Iterable[str | Path] = (),
        force: bool = False,
        spreadsheet_safe: bool = True,
    ) -> None:
        self._target = str(path) if is_target(str(path)) else None
        self._inputs, self._force, self._safe = tuple(inputs), force, spreadsheet_safe
        if self._target is not None:
            refuse_target(self._target, self._inputs, force=force)
            return
        local = expanded(path)
        refuse_remote(
            local,
            what="a table is written to a local file, to delta:FOLDER or to duckdb:///file.db?table=NAME",
            hint="write a file here and copy it there, or give delta: and the URL of a folder",
        )
        if local.suffix.lower() not in _WRITERS:
            raise UsageError(
                f'"{local}": can\'t tell the format from the ending "{local.suffix}"',
                hint=f"end it in {', '.join(_WRITERS)}",
            )
        self._file = Output(local, self._inputs, force=force)

    def write(self, frame: pl.DataFrame) -> str | Path:
        """Write all rows or none, and return the path or location.

        Raises `UsageError` if they can't be written.
        """
        if self._target is not None:
            replace(frame, self._target, self._inputs, force=self._force)
            return without_credentials(self._target)
        ending = self._file.path.suffix.lower()
        if self._safe and ending == ".csv":
            frame = safe_text.spreadsheet_safe(frame)
        try:
            return self._file.write(getattr(frame, _WRITERS[ending]))
        except PolarsError as err:
            raise self._file.unwritable(err) from err


def write_table(frame: pl.DataFrame, path: str | Path, **options: Any) -> str | Path:
    """Write rows; `path`, `options` and errors are those of `NewTable`."""
    return NewTable(path, **options).write(frame)
