"""Leaving: when an account counts as gone, scores before that, shares gone after some days.

The share of accounts that are gone after 30, 60, 90 and 180 days, by tier and by band of scores, is
estimated from tables of several dates: each account counts on each date with the tier it had then,
and is followed to the later dates. `calibrate` fits probabilities of leaving anew on one table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import polars as pl

from gtmar import spec as specs
from gtmar.data.contract import id_column, needed_id
from gtmar.data.outcomes import OutcomeColumns, canonical_outcomes
from gtmar.data.prepare import read_for
from gtmar.data.scan import collect, scan
from gtmar.data.split import key_expression
from gtmar.engine.equal_sizes import with_edges
from gtmar.errors import AccountDataError
from gtmar.plain_data import PlainData, digits
from gtmar.runs.inputs import load, outcome_end, tables_by_date
from gtmar.runs.score import score
from gtmar.runs.side_by_side import best_and_worst
from gtmar.stats.interval import Interval, effective_size, from_proportion, unknown
from gtmar.validation.reliability import Reliability, calibrated, reliability

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from gtmar.data.scan import AccountTable, Tabular
    from gtmar.runs.inputs import TableOptions
    from gtmar.runs.kept_scores import KeptScores
    from gtmar.spec.calibration import Calibration
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.interval import Interval

__all__ = [
    "Calibrated",
    "TimeToLeaving",
    "before_leaving",
    "calibrate",
    "follow_scored",
    "time_to_leaving",
]


@dataclass(frozen=True)
class Presence:
    """On which days accounts were there, and on which they weren't."""

    #: `account`, `day`, `there`, and whether the date's own table has the account, `listed`; one
    #: row an account and day, sorted. An account is there on a date whose table has it, and not
    #: there on a later date whose table lacks it. On the day after a window's end it is there if
    #: it stayed, and not if it left, or if the table of that very day lacks it.
    seen: pl.DataFrame
    #: For each date whose table has ids, ascending: the later days on which it is known of its
    #: accounts whether they were there.
    later: dict[date, list[date]]
    #: `account` and `day` of rows of former accounts: they had left before that date, so that its
    #: table doesn't have them as far as `seen` goes, and nobody can lose them again.
    former: pl.DataFrame


def presence(spec: ScoringSpec, tables: Mapping[date, AccountTable]) -> Presence:
    """Return on which days accounts were there, by the tables of several dates."""
    rows, without_outcomes, windows = [], [], []
    ends: dict[date, date | None] = {}
    for day, given in sorted(tables.items()):
        table = read_for(given, spec)
        name = id_column(spec, table.columns)
        if name is None:
            continue
        outcomes = OutcomeColumns.matching(spec.outcomes, table.columns)
        canonical = canonical_outcomes(outcomes, table.schema)
        own = collect(
            table,
            table.frame.select(
                key_expression(name, table.schema).alias("account"),
                (canonical["retained"] == 1).alias("there"),
                canonical["won_back"].is_not_null().alias("former"),
                (canonical["start"].fill_null(0) == 0).alias("unpaid"),
            ),
        )
        rows.append(own.with_columns(day=pl.lit(day)))
        if outcomes.has("mrr") and not outcomes.has("won_back"):
            without_outcomes.append(day)
        ends[day] = None
        last = outcome_end(table, spec)
        known = own.select("account", "there").drop_nulls()
        if last is not None and known.height:
            ends[day] = over = last + timedelta(days=1)
            windows.append(known.with_columns(day=pl.lit(over), listed=pl.lit(value=False)))
    schema = {"account": pl.String, "day": pl.Date, "there": pl.Boolean, "listed": pl.Boolean}
    if not rows:
        empty = pl.DataFrame(schema=schema)
        return Presence(empty, {}, empty.select("account", "day"))
    every = _marked_former(pl.concat(rows), without_outcomes)
    there = every.filter(~pl.col("former")).select("account", "day", there=True, listed=True)
    days = pl.DataFrame({"day": list(ends)}, schema={"day": pl.Date})
    first = there.group_by("account").agg(first=pl.col("day").min())
    lacking = (
        first.join(days, how="cross")
        .filter(pl.col("day") > pl.col("first"))
        .join(there, on=["account", "day"], how="anti")
        .with_columns(there=pl.lit(value=False), listed=pl.lit(value=False))
    )
    seen = (
        pl.concat([each.select(*schema) for each in (there, lacking, *windows)])
        .group_by("account", "day")
        .agg(pl.col("there").all(), pl.col("listed").any())
        .sort("account", "day")
    )
    later = {
        day: sorted(
            {other for other in ends if other > day}
            | {end for other, end in ends.items() if end is not None and other >= day and end > day}
        )
        for day in ends
    }
    return Presence(seen, later, every.filter("former").select("account", "day"))


def _marked_former(rows: pl.DataFrame, without_outcomes: Sequence[date]) -> pl.DataFrame:
    """Mark former accounts on dates without outcomes, too, where no win-back says who they are.

    They pay nothing there. Where a customer may pay nothing as well, that tells nothing, and the
    rows stay as they are.
    """
    customers = pl.col("there").is_not_null()
    if not rows["former"].any() or rows.filter(customers & pl.col("unpaid")).height:
        return rows
    new = pl.col("unpaid") & pl.col("day").is_in(without_outcomes)
    return rows.with_columns(former=pl.col("former") | new)


def gone_after(seen: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Add to rows of `account` and `day` when the account was gone after that day.

    `seen` is from `presence`. Two columns are added: `gone`, the first later day on which the
    account wasn't there, null if none is known; and `known`, the last day before that on which it
    was.
    """
    away = seen.filter(~pl.col("there")).select("account", gone=pl.col("day")).sort("gone")
    present = seen.filter("there").select("account", known=pl.col("day")).sort("known")
    by_day = rows.with_columns(_after=pl.col("day") + pl.duration(days=1)).sort("_after")
    accounts = by_day.join_asof(
        away,
        left_on="_after",
        right_on="gone",
        by="account",
        strategy="forward",
        check_sortedness=False,
    )
    last = pl.col("gone") - pl.duration(days=1)
    accounts = accounts.with_columns(_until=last.fill_null(date.max)).sort("_until")
    accounts = accounts.join_asof(
        present, left_on="_until", right_on="known", by="account", check_sortedness=False
    )
    return accounts.with_columns(known=pl.max_horizontal("known", "day")).drop("_after", "_until")


# ---- scores before leaving -----------------------------------------------------------------------

#: How many days before an account is gone its score is looked up.
BEFORE = (30, 60, 90)


def before_leaving(
    lives: Sequence[KeptScores], tables: Mapping[date, AccountTable]
) -> pl.DataFrame:
    """Return the scores of accounts that left, some days before they were gone.

    Returns
    -------
    DataFrame
        A row for 30, 60 and 90 days: `days`, `leavers` (those with a score kept so long before),
        `lowest` (their share in the tier that is worst), `others` (share of all accounts scored on
        the same dates who were in it), `median` (their median score). An account is gone by the
        end of the window that it left in, or by the first later date whose table lacks it. Shares
        are null without leavers.
    """
    schema = {"days": pl.Int64, "leavers": pl.Int64, "lowest": pl.Float64, "others": pl.Float64}
    if not lives:
        return pl.DataFrame(schema={**schema, "median": pl.Float64})
    there = presence(lives[-1].spec, tables)
    # By when accounts that left were last there.
    last = there.seen.filter("listed").group_by("account").agg(pl.col("day").max())
    gone = gone_after(there.seen, last).select("account", "gone").drop_nulls()
    frames = [
        each.frame().select(
            "account",
            "score",
            pl.lit(each.day).alias("day"),
            (pl.col("tier") == best_and_worst(each.spec)[1]).alias("worst"),
        )
        for each in lives
    ]
    kept = pl.concat(frames).with_columns(scored_for=pl.col("day")).sort("day")
    kept = kept.join(there.former, on=["account", "day"], how="anti", maintain_order="left")
    rows = []
    for days in BEFORE:
        by_day = gone.with_columns(day=pl.col("gone") - pl.duration(days=days)).sort("day")
        leavers = by_day.join_asof(kept, on="day", by="account", check_sortedness=False).drop_nulls(
            "score"
        )
        same_dates = pl.col("day").is_in(leavers["scored_for"].unique().implode())
        others = kept.filter(same_dates, ~pl.col("account").is_in(leavers["account"].implode()))
        rows.append(
            {
                "days": days,
                "leavers": leavers.height,
                "lowest": leavers["worst"].mean(),
                "others": others["worst"].mean(),
                "median": leavers["score"].median(),
            }
        )
    return pl.DataFrame(rows, schema={**schema, "median": pl.Float64})


# ---- share gone after some days ------------------------------------------------------------------

#: Days after a score for which the share of accounts gone is estimated.
HORIZONS = (30, 60, 90, 180)
#: How far a date may be from a horizon, as a share of it: months have 28 to 31 days.
_NEAR = 0.1
_LEVEL = 0.95
_FIFTHS = 5


@dataclass(frozen=True)
class Leaving(PlainData):
    """The share of a tier, or of a band of scores, that is gone after some days."""

    #: `tier` or `score`.
    by: str
    #: The tier's name, or the band of scores.
    band: str
    days: int
    #: The fewest and most days between a date and the later one; None without a value.
    looked: tuple[int, int] | None
    #: Rows that were followed from a date on, and the distinct accounts among them.
    rows: int
    accounts: int
    #: The share that is gone, in [0, 1]; without a value, but with a reason, if dates don't tell.
    gone: Interval


@dataclass(frozen=True)
class TimeToLeaving(PlainData):
    """Shares of accounts that are gone after some days, by tier and by fifths of the score."""

    bands: tuple[Leaving, ...]
    #: The first and the last date from which accounts were followed.
    dates: tuple[date, date]

    def of(self, by: str) -> dict[str, dict[int, Leaving]]:
        """Return the shares by `tier` or by `score`: by band, then by days."""
        by_band: dict[str, dict[int, Leaving]] = {}
        for each in self.bands:
            if each.by == by:
                by_band.setdefault(each.band, {})[each.days] = each
        return by_band

    @property
    def unknown(self) -> dict[int, str]:
        """Why no share is known after so many days, by days."""
        return {
            each.days: each.gone.reason
            for each in self.bands
            if each.looked is None and each.gone.reason is not None
        }

    def with_columns(self, scored: pl.DataFrame) -> pl.DataFrame:
        """Add columns `leaves_30`, ... to scored accounts: the share of their tier that is gone."""
        tiers = self.of("tier")
        columns = {
            f"leaves_{days}": pl.col("tier").replace_strict(
                {tier: each[days].gone.value for tier, each in tiers.items()},
                default=None,
                return_dtype=pl.Float64,
            )
            for days in HORIZONS
        }
        return scored.with_columns(**columns)


def time_to_leaving(
    data: Tabular, spec: ScoringSpec, *, set_aside: float | None = None
) -> TimeToLeaving:
    """Return the shares of a spec's tiers, and of fifths of its scores, gone after some days.

    `data` are account tables of several dates, as ``gtmar snapshot`` writes them; the newest needs
    no outcomes. All are scored by the spec.

    Raises
    ------
    AccountDataError
        If the tables have no dates, or break the contract.
    UsageError
        If no column is the account's id.
    """
    tables = tables_by_date(data)
    frames = []
    for day, table in sorted(tables.items()):
        name = needed_id(spec, table, "nobody can be followed")
        scored = score(table, spec, set_aside=set_aside)
        account = key_expression(name, scored.schema).alias("account")
        frames.append(scored.select(account, "score", "tier", day=pl.lit(day)))
    return follow_scored(pl.concat(frames), spec, tables)


def follow_scored(
    scored: pl.DataFrame, spec: ScoringSpec, tables: Mapping[date, AccountTable]
) -> TimeToLeaving:
    """Return the shares of scored accounts that are gone after some days, see `time_to_leaving`.

    `scored` has columns `account`, `day`, `score`, `tier`, and at least one row. Rows of a date
    that has no table are followed to the later tables.
    """
    there = presence(spec, tables)
    later = dict(there.later)
    for day in scored["day"].unique():
        later.setdefault(day, sorted({d for days in later.values() for d in days if d > day}))
    scored = scored.join(there.former, on=["account", "day"], how="anti")
    if scored.is_empty():
        raise AccountDataError("all accounts had left before their date: nobody can be followed")
    followed = gone_after(there.seen, scored).sort("day", "account")
    accounts = followed["account"].rank("dense").to_numpy().astype(np.int64)
    tiers = followed["tier"].to_numpy()
    groups = [("tier", name, tiers == name) for name in spec.tier_names]
    groups += [("score", name, inside) for name, inside in _fifths(followed["score"].to_numpy())]
    bands = []
    for days in HORIZONS:
        looks, looked, why = _looks(followed, later, days)
        rows = np.flatnonzero((looks != UNKNOWN).any(axis=1))
        for by, band, inside in groups:
            own = rows[inside[rows]]
            if why is None:
                gone = share_gone(looks[own], accounts[own], level=_LEVEL)
            else:
                gone = unknown(None, level=_LEVEL, accounts=0, reason=why)
            followed_of = len(np.unique(accounts[own]))
            bands.append(Leaving(by, band, days, looked, len(own), followed_of, gone))
    order = {(by, band): number for number, (by, band, _) in enumerate(groups)}
    bands.sort(key=lambda each: (order[each.by, each.band], each.days))
    dates = followed["day"]
    return TimeToLeaving(tuple(bands), (dates[0], dates[-1]))


def _fifths(scores: np.ndarray[Any, np.dtype[np.float64]]) -> list[tuple[str, Any]]:
    """Return bands of about a fifth of the rows each, the lowest scores first, with row masks."""
    ordered = np.sort(scores)
    # The lowest score of each band; many accounts of one score stay together.
    at = np.arange(_FIFTHS) * len(ordered) // _FIFTHS
    lows = np.unique(ordered[at])
    number = np.searchsorted(lows, scores, side="right") - 1
    fifths = []
    for n in range(len(lows)):
        inside = number == n
        low, high = scores[inside].min(), scores[inside].max()
        fifths.append((digits(low) if low == high else f"{digits(low)} to {digits(high)}", inside))
    return fifths


def _looks(
    rows: pl.DataFrame, later: Mapping[date, Sequence[date]], days: int
) -> tuple[np.ndarray[Any, np.dtype[np.int8]], tuple[int, int] | None, str | None]:
    """Return what is known of each row at the looks up to a horizon.

    The looks are the horizons before `days` that every date has which is followed up to `days`, and
    `days` itself. A date that isn't followed so long has only the first of them.

    Returns
    -------
    tuple
        int8 (rows, looks): `THERE`, `GONE` or `UNKNOWN`; the fewest and most days of the last look;
        and None. Or, if no date is followed so long, all unknown, None, and the reason.
    """
    nearest = {day: {h: _nearest(day, later[day], h) for h in HORIZONS} for day in later}
    dates = rows["day"].unique().sort().to_list()
    full = [day for day in dates if nearest[day][days] is not None]
    empty = np.full((rows.height, 1), UNKNOWN, dtype=np.int8)
    if not full:
        return empty, None, _why(dates, later, days)
    steps = [h for h in HORIZONS if h < days and all(nearest[day][h] for day in full)]
    steps.append(days)
    looks = np.full((rows.height, len(steps)), UNKNOWN, dtype=np.int8)
    of, gone, known = (rows[name].to_numpy() for name in ("day", "gone", "known"))
    for day in dates:
        here = np.flatnonzero(of == np.datetime64(day))
        for number, step in enumerate(steps):
            look = nearest[day][step]
            if look is None:
                break
            at = np.datetime64(look)
            state = np.where(known[here] >= at, THERE, UNKNOWN)
            looks[here, number] = np.where(gone[here] <= at, GONE, state)
    # Gone at a later look, and unknown at this one: counted as there until found gone.
    for number in range(len(steps) - 2, -1, -1):
        late = (looks[:, number] == UNKNOWN) & (looks[:, number + 1] == GONE)
        looks[late, number] = THERE
    after = [(look - day).days for day in full if (look := nearest[day][days]) is not None]
    return looks, (min(after), max(after)), None


def _nearest(day: date, later: Sequence[date], days: int) -> date | None:
    """Return the later day that is nearest to so many days after; None if none is near enough."""
    off = {each: abs((each - day).days - days) for each in later}
    near = [each for each in later if off[each] <= days * _NEAR]
    return min(near, key=lambda each: off[each], default=None)


def _why(dates: Sequence[date], later: Mapping[date, Sequence[date]], days: int) -> str:
    """Word why no date is followed for so many days."""
    longest = max(((later[day][-1] - day).days for day in dates if later[day]), default=0)
    if not longest:
        return "no later date says who is gone"
    if longest < days * (1 - _NEAR):
        return f"accounts could be followed for {longest} days at most"
    return f"no date lies about {days} days after another: between dates nothing can be told"


# ---- the estimate, with censoring ----------------------------------------------------------------

#: What is known of a row at a look.
THERE, GONE, UNKNOWN = 0, 1, -1


def share_gone(
    looks: NDArray[np.int8], whose: NDArray[np.integer[Any]], *, level: float
) -> Interval:
    """Estimate the share that is gone by the last look.

    Parameters
    ----------
    looks
        Shape (N, G): what was known of each row at each of G looks in the order of time: `THERE`,
        `GONE`, or `UNKNOWN`, from which on the row is censored.
    whose
        Shape (N,): the number of each row's account. Accounts are independent, their rows aren't.
    level
        Of the interval, in (0, 1).

    Returns
    -------
    Interval
        In [0, 1]; `accounts` are those that are known at the first look. Without a value if no row
        is at risk at some look.

    Notes
    -----
    Discrete Kaplan-Meier: one minus the product over looks of the share of those at risk who were
    not found gone. The standard error is Greenwood's, with the rows of an account added up (Lin &
    Wei 1989). The interval is Wilson's for the number of independent accounts that would have that
    error (Korn & Graubard 1998), so that its ends are in [0, 1] even if nobody left.
    """
    staying, stays = np.ones(len(looks), dtype=bool), 1.0
    pulls, followed = np.zeros(len(looks)), (looks[:, 0] != UNKNOWN)
    risk = followed
    for look in looks.T:
        if stays == 0:
            break
        risk = staying & (look != UNKNOWN)
        rows = int(risk.sum())
        if not rows:
            reason = "nobody was followed so long"
            return unknown(None, level=level, accounts=0, reason=reason)
        left = risk & (look == GONE)
        hazard = float(left.sum()) / rows
        if hazard < 1:
            pulls += np.where(risk, left - hazard, 0.0) / (rows * (1 - hazard))
        stays *= 1 - hazard
        staying = risk & ~left
    accounts = len(np.unique(whose[followed]))
    share = min(1.0, max(0.0, 1 - stays))
    _, of = np.unique(whose, return_inverse=True)
    together = np.bincount(of, weights=stays * pulls).astype(np.float64)
    if 0 < share < 1:
        size = effective_size(together, share, float(followed.sum()), level=level)
    else:
        size = float(len(np.unique(whose[risk])))
    return from_proportion(share * accounts, accounts, level=level, effective=size)


# ---- calibration ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calibrated(PlainData):
    """A spec with newly fitted probabilities, and their check on the accounts held out."""

    _left_out = ("spec", "counted")

    spec: ScoringSpec = field(repr=False)
    calibration: Calibration
    source: str
    #: How well they do on the accounts that the spec's split holds out; None if it holds out none.
    held_out: Reliability | None
    #: What is counted: `accounts`, or `rows` of a table of several dates.
    counted: str = "accounts"

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return super().as_json() | {"accounts": self.calibration.accounts}


def calibrate(
    data: Tabular, spec: ScoringSpec | str | Path, **table_options: Unpack[TableOptions]
) -> Calibrated:
    """Fit probabilities of leaving by score, on the accounts that a search may see.

    Parameters
    ----------
    data
        The account table, with outcomes.
    spec
        The scoring spec, or its file; weights and tiers stay.
    table_options
        As for `run`.

    Raises
    ------
    AccountDataError
        If the table breaks the contract, or everybody left, or nobody did.
    """
    given = specs.reading_dates(spec, table_options.get("date_format"))
    table = scan(data)
    accounts, _ = load(table, given, **table_options)
    edged = given if given.has_edges else with_edges(given, accounts.search)
    fitted = calibrated(accounts.search, edged, datetime.now(UTC).date())
    if fitted is None:
        raise AccountDataError(
            f"{table.source}: a probability needs accounts that left and accounts that stayed; "
            "one of the two is missing",
            hint="gtmar check says which outcomes the table has",
        )
    spec = edged.model_copy(update={"calibration": fitted})
    held_out = None if accounts.holdout is None else reliability(accounts.holdout, spec)
    counted = "rows" if accounts.search.dates else "accounts"
    return Calibrated(spec, fitted, table.source, held_out, counted)
