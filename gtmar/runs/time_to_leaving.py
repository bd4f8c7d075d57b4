"""How many of those still here are gone after 30, 60, 90 and 180 days, by tier and score band.

From the tables of several dates: each account on each date counts with the tier that it had then,
and is followed to later dates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar.data.contract import needed_id
from gtmar.data.split import key_expression
from gtmar.plain_data import PlainData, digits
from gtmar.runs.dated_tables import tables_by_date
from gtmar.runs.leaving import gone_after, presence
from gtmar.runs.score import score
from gtmar.stats.interval import unknown
from gtmar.validation.life_table import GONE, THERE, UNKNOWN, share_gone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from gtmar.data.scan import AccountTable, Tabular
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.interval import Interval

__all__ = ["HORIZONS", "Leaving", "TimeToLeaving", "leaving_of", "time_to_leaving"]

#: Days after a score on which people ask who is gone.
HORIZONS = (30, 60, 90, 180)
#: How far from the days asked a date may lie, as a share of them: months have 28 to 31 days.
_NEAR = 0.1
_LEVEL = 0.95
_FIFTHS = 5


@dataclass(frozen=True)
class Leaving(PlainData):
    """How many of a tier, or of a band of scores, are gone after some days."""

    #: `tier` or `score`, and which.
    by: str
    band: str
    days: int
    #: The fewest and most days after which accounts were looked for; None without a value.
    looked: tuple[int, int] | None
    #: Rows followed from a date on, and the accounts that they are of.
    rows: int
    accounts: int
    #: The share that is gone, in [0, 1]; null with its reason where the dates can't tell.
    gone: Interval


@dataclass(frozen=True)
class TimeToLeaving(PlainData):
    """How many are gone after some days, by tier and by fifths of the score."""

    bands: tuple[Leaving, ...]
    #: The dates that accounts were followed from, first and last.
    dates: tuple[date, date]

    def of(self, by: str) -> dict[str, dict[int, Leaving]]:
        """Return what is known by `tier` or `score`: by band, then by days."""
        found: dict[str, dict[int, Leaving]] = {}
        for each in self.bands:
            if each.by == by:
                found.setdefault(each.band, {})[each.days] = each
        return found

    @property
    def unknown(self) -> dict[int, str]:
        """By days: why nobody can tell who is gone by then."""
        return {
            each.days: each.gone.reason
            for each in self.bands
            if each.looked is None and each.gone.reason is not None
        }

    def with_columns(self, scored: pl.DataFrame) -> pl.DataFrame:
        """Add to scored accounts the share of their tier that is gone: `leaves_30` and so on."""
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
    """Say of each tier of a spec, and each fifth of its scores, how many are gone after some days.

    Parameters
    ----------
    data
        Account tables of several dates, as ``gtmar snapshot`` writes them. The newest needs no
        outcomes.
    spec
        The spec whose tiers and scores they are; all dates are scored by it.
    set_aside
        As for `run`.

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
    return leaving_of(pl.concat(frames), spec, tables)


def leaving_of(
    scored: pl.DataFrame, spec: ScoringSpec, tables: Mapping[date, AccountTable]
) -> TimeToLeaving:
    """Follow scored accounts, `account`, `day`, `score` and `tier`, through the tables of dates.

    See `time_to_leaving`; `scored` has one row at least. A row whose date has no table is followed
    to the later ones.
    """
    seen, later = presence(spec, tables)
    for day in scored["day"].unique():
        later.setdefault(day, sorted({d for days in later.values() for d in days if d > day}))
    followed = gone_after(seen, scored).sort("day", "account")
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
    """Return bands of scores from the lowest up, about a fifth of the rows each, none empty."""
    ordered = np.sort(scores)
    # The lowest score of each band; many accounts of one score stay together.
    at = np.arange(_FIFTHS) * len(ordered) // _FIFTHS
    lows = np.unique(ordered[at])
    number = np.searchsorted(lows, scores, side="right") - 1
    found = []
    for n in range(len(lows)):
        inside = number == n
        low, high = scores[inside].min(), scores[inside].max()
        found.append((digits(low) if low == high else f"{digits(low)} to {digits(high)}", inside))
    return found


def _looks(
    rows: pl.DataFrame, later: Mapping[date, Sequence[date]], days: int
) -> tuple[np.ndarray[Any, np.dtype[np.int8]], tuple[int, int] | None, str | None]:
    """Say what was known of rows at the looks up to some days after; the days of the last look.

    The looks before are those of `HORIZONS` that every date has which reaches the last. A date that
    doesn't reach it is followed as far as its looks are those.
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
            found = np.where(known[here] >= at, THERE, UNKNOWN)
            looks[here, number] = np.where(gone[here] <= at, GONE, found)
    # Not known to be there, and found gone at a later look: it was found then.
    for number in range(len(steps) - 2, -1, -1):
        late = (looks[:, number] == UNKNOWN) & (looks[:, number + 1] == GONE)
        looks[late, number] = THERE
    after = [(look - day).days for day in full if (look := nearest[day][days]) is not None]
    return looks, (min(after), max(after)), None


def _nearest(day: date, later: Sequence[date], days: int) -> date | None:
    """Return the day of a look that is nearest to so many days after; None where none is near."""
    off = {each: abs((each - day).days - days) for each in later}
    near = [each for each in later if off[each] <= days * _NEAR]
    return min(near, key=lambda each: off[each], default=None)


def _why(dates: Sequence[date], later: Mapping[date, Sequence[date]], days: int) -> str:
    """Say why no date has a look after so many days."""
    longest = max(((later[day][-1] - day).days for day in dates if later[day]), default=0)
    if not longest:
        return "no later date says who is gone"
    if longest < days * (1 - _NEAR):
        return f"accounts could be followed for {longest} days at most"
    return f"no date lies about {days} days after another: between dates nothing can be told"
