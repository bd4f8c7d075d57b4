"""A feature as a picture: value against points, with the accounts beneath and how many stay."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gtmar.data.contract import as_of_date
from gtmar.data.encode import as_text, encoded_terms
from gtmar.data.matrix import search_sample
from gtmar.data.rules import OWN
from gtmar.plain_data import digits
from gtmar.spec.model import VALUE_UNITS
from gtmar.stats.interval import wilson

if TYPE_CHECKING:
    from gtmar.data.matrix import Accounts
    from gtmar.spec.model import ScoringSpec

__all__ = ["Band", "EncoderPicture", "encoder_pictures"]

#: Features that are drawn, those whose points differ most between accounts.
_MOST = 12
#: Accounts that a picture is made of at most.
_MOST_ACCOUNTS = 200_000
#: Bands of equal width that a number's values are cut into, from the first to the last of these
#: quantiles; what lies further out is in the outermost. With no more values each is a band.
_BANDS, _ENDS = 12, (0.01, 0.99)
#: Points of a line, and categories, at most.
_MOST_POINTS, _MOST_CATEGORIES = 80, 12


@dataclass(frozen=True)
class Band:
    """Accounts of like value."""

    #: As text; the ends of a number's band, which may be equal, else None.
    name: str
    low: float | None
    high: float | None
    #: Mean points of its accounts.
    points: float
    #: Of the accounts searched, in [0, 1].
    share: float
    #: Share that stayed of those whose outcome is known, in [0, 1]; None of none.
    retention: float | None
    #: Ends of its 95 % interval, by Wilson; None of rows, several of which are an account's.
    retention_low: float | None
    retention_high: float | None


@dataclass(frozen=True)
class EncoderPicture:
    """What a feature's values give under the best weights, and whose values they are."""

    feature: str
    #: What earns its points, in words; empty of a column's own numbers and of bins.
    earned_by: str
    bands: tuple[Band, ...]
    #: The line of points over a number's values, at most 80 of them; empty for other features.
    line: tuple[tuple[float, float], ...] = ()
    #: Whether the line jumps from one value to the next.
    steps: bool = False


def encoder_pictures(
    accounts: Accounts, spec: ScoringSpec, *, as_of: str | None = None
) -> tuple[EncoderPicture, ...]:
    """Draw up the features whose points differ most, on the accounts searched.

    Cost: one pass over the features' columns.
    """
    table, outcomes = accounts.checked.table, accounts.checked.outcomes
    day = as_of_date(spec, table.schema, as_of, table.dates)
    frame = search_sample(
        table,
        outcomes,
        accounts.checked.id_column,
        spec.split,
        copies=accounts.copies,
        most=_MOST_ACCOUNTS,
    )
    kept = frame[f"{OWN}retained"].cast(pl.Float64)
    frame = frame.select(table.columns)
    encoded = encoded_terms(spec, frame.schema, day)
    terms: dict[str, list[pl.Expr]] = {}
    for term in spec.terms:
        terms.setdefault(term.feature, []).append(encoded[term.name] * term.weight)
    points = frame.select(
        (pl.sum_horizontal(own) / VALUE_UNITS).alias(name) for name, own in terms.items()
    )
    ends = points.select(pl.all().max() - pl.all().min()).row(0, named=True)
    shown = sorted(terms, key=lambda name: -ends[name])[:_MOST]
    earned = spec.earned_by
    days = frame.select(day.alias("day")) if day is not None else None
    pictures = tuple(
        _picture(name, earned.get(name, ""), values, points[name], kept)
        for name in shown
        for values in [_values(spec, name, frame, encoded, days)]
    )
    if accounts.search.account_of is None:
        return pictures
    return tuple(
        replace(each, bands=tuple(_without_interval(band) for band in each.bands))
        for each in pictures
    )


def _without_interval(band: Band) -> Band:
    return replace(band, retention_low=None, retention_high=None)


def _values(
    spec: ScoringSpec,
    name: str,
    frame: pl.DataFrame,
    encoded: dict[str, pl.Expr],
    days: pl.DataFrame | None,
) -> pl.Series:
    """Return a feature's values: numbers, days before the date that is counted from, or texts."""
    feature = spec.features[name]
    if feature.rule is not None:
        holds = pl.when(encoded[name] > 0).then(pl.lit("holds")).otherwise(pl.lit("doesn't hold"))
        return frame.select(holds).to_series()
    column, encode = frame[feature.reads(name)[0]], feature.encode
    if encode.kind == "days_before" and days is not None:
        dated = days.with_columns(then=column.cast(pl.Date))
        return dated.select((pl.col("day") - pl.col("then")).dt.total_days()).to_series()
    texts = encode.kind == "one_of" or (encode.kind == "bins" and not encode.intervals)
    if column.dtype.is_numeric() and not texts and encode.kind != "bool":
        return column.cast(pl.Float64).fill_nan(None)
    return column.to_frame().select(as_text(column.name, column.dtype)).to_series()


def _picture(
    name: str, earned: str, values: pl.Series, points: pl.Series, kept: pl.Series
) -> EncoderPicture:
    frame = pl.DataFrame({"value": values, "points": points, "kept": kept})
    known = frame.drop_nulls("value")
    if not values.dtype.is_numeric() or known.is_empty():
        # The most frequent ones, then the unknown.
        counts = (
            known["value"]
            .value_counts(sort=True)
            .sort(["count", "value"], descending=[True, False])
        )
        listed = counts["value"].head(_MOST_CATEGORIES).to_list()
        named = frame.with_columns(
            pl.when(pl.col("value").is_in(listed) | pl.col("value").is_null())
            .then(pl.col("value").fill_null("(unknown)"))
            .otherwise(pl.lit("(others)"))
        )
        order = [*listed, "(others)", "(unknown)"]
        bands = [
            _band(str(each), None, None, rows, frame.height)
            for each in dict.fromkeys(order)
            if (rows := named.filter(pl.col("value") == each)).height
        ]
        return EncoderPicture(name, earned, tuple(bands))
    x = known["value"].cast(pl.Float64)
    known = known.with_columns(x).sort("value")
    distinct = x.unique().sort().to_numpy()
    if len(distinct) <= _BANDS:
        ends = [(float(each), float(each)) for each in distinct]
    else:
        low, high = np.quantile(x.to_numpy(), _ENDS)
        if low == high:
            low, high = distinct[0], distinct[-1]
        cuts = np.linspace(low, high, _BANDS + 1)
        ends = [(float(a), float(b)) for a, b in itertools.pairwise(cuts)]
    bands = []
    for i, (a, b) in enumerate(ends):
        v = pl.col("value")
        inside = (v == a) if a == b else pl.lit(value=True)
        if a != b:
            inside &= (v >= a) if i else pl.lit(value=True)
            inside &= (v < b) if i < len(ends) - 1 else pl.lit(value=True)
        rows = known.filter(inside)
        if rows.height:
            text = digits(a) if a == b else f"{digits(a, 4)} to {digits(b, 4)}"
            bands.append(_band(text, a, b, rows, frame.height))
    unknown = frame.filter(pl.col("value").is_null())
    if unknown.height:
        bands.append(_band("(unknown)", None, None, unknown, frame.height))
    drawn = (
        known.filter(pl.col("value").is_between(ends[0][0], ends[-1][1]))
        .unique("value")
        .sort("value")
    )
    every = max(1, -(-drawn.height // _MOST_POINTS))
    thinned = pl.concat([drawn.gather_every(every), drawn.tail(1)]).unique("value").sort("value")
    steps = len(set(thinned["points"])) < max(3, thinned.height // 3)
    line = tuple(thinned.select("value", "points").rows())
    return EncoderPicture(name, earned, tuple(bands), line, steps)


def _band(
    name: str, low: float | None, high: float | None, rows: pl.DataFrame, accounts: int
) -> Band:
    kept = rows["kept"].drop_nulls().drop_nans()
    points = float(rows["points"].mean())  # type: ignore[arg-type] # there is an account
    staying, known = int(kept.sum()), kept.len()
    low_end, high_end = wilson(staying, known) or (None, None)
    share = staying / known if known else None
    return Band(name, low, high, points, rows.height / accounts, share, low_end, high_end)
