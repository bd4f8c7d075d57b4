"""A scorecard's bins: where a number is cut, which categories stand alone, and their points.

Cuts lie at tenths of the accounts; points come from all features' bins fitted together. Neighbours
that get the same points are one bin. Flags stay flags: they are two bins already.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gtmar.autospec.fit_encoders import ENOUGH_UNKNOWN, Shape, flag_shape, said, unknown_accounts
from gtmar.autospec.one_column import written
from gtmar.spec.encoders import BinInterval
from gtmar.stats.logistic import Part, fit_levels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gtmar.autospec.one_column import Fitted

    Doubles = NDArray[np.float64]

__all__ = ["fit_bins"]

#: A number is cut into so many bins at most, none with a smaller share of the known accounts; all
#: numbers together into about so many.
_MOST_BINS, _LEAST_SHARE, _MOST_IN_ALL = 10, 0.05, 500
#: A category with a smaller share of all accounts joins the others.
_LEAST_CATEGORY = 0.02
#: What a spec's bins mean by these names.
_RESERVED = ("missing", "other")


def fit_bins(
    frame: pl.DataFrame, fitted: dict[str, Fitted], y: Doubles, *, points: int, bound: int
) -> dict[str, Shape]:
    """Cut features into bins, each with its points.

    Parameters
    ----------
    frame
        The search part, N accounts.
    fitted
        What each feature is, by its column.
    y
        Outcomes, shape (N,), more being better; NaN where unknown.
    points
        Of a feature's best bin; its worst has 0.
    bound
        Most points that a search may give a bin.

    Returns
    -------
    dict
        By feature: numbers and categories as bins, flags as flags. Each has a bin `missing`; where
        nothing of the search part is in it, it is fixed at the mean, since no search can tell.
    """
    most = max(2, min(_MOST_BINS, _MOST_IN_ALL // len(fitted)))
    cuts = {name: _Cut.of(frame[name], each, most) for name, each in fitted.items()}
    levels = fit_levels([cut.part for cut in cuts.values()], y)
    labelled = ~np.isnan(y)
    shapes = {}
    for (name, each), cut, found in zip(fitted.items(), cuts.values(), levels, strict=True):
        own = found
        unknowns = unknown_accounts(frame[name], labelled)
        if each.kind == "flag":
            shapes[name] = flag_shape(each, cut.part, own, unknowns)
            continue
        sizes = cut.part.columns.sum(axis=0)
        known = cut.known
        if unknowns < ENOUGH_UNKNOWN:
            mean = np.average(own[:known], weights=sizes[:known])
            own = np.append(own[:known], mean)
        low, high = float(own.min()), float(own.max())
        scored = [round(points * (level - low) / (high - low or 1)) for level in own.tolist()]
        bins = {
            key: {"weight": weight, "min": 0, "max": bound}
            for key, weight in cut.joined(scored).items()
        }
        if not each.unknown:
            mean_weight = bins["missing"]["weight"]
            bins["missing"] = {"weight": mean_weight, "min": mean_weight, "max": mean_weight}
        comment = said(each, f"{len(bins)} bins", unknowns)
        shapes[name] = Shape({"kind": "bins", "bins": bins}, None, comment)
    return shapes


@dataclass(frozen=True)
class _Cut:
    """A feature cut into bins.

    Parameters
    ----------
    part
        Its bins in the fit, in the order of `edges` and `keys`, the unknown if there are any.
    edges
        Ends of a number's bins, infinite ones included.
    keys
        Other bins, that of the unknown the last.
    """

    part: Part
    edges: tuple[float, ...] = ()
    keys: tuple[str, ...] = ()

    @classmethod
    def of(cls, column: pl.Series, fitted: Fitted, most: int) -> _Cut:
        if fitted.kind == "flag":
            return cls(Part.of_flag(column.cast(pl.Float64).to_numpy()))
        if fitted.kind == "number":
            x = column.cast(pl.Float64).to_numpy()
            edges = (-np.inf, *_cuts(x[~np.isnan(x)], most), np.inf)
            members = [(x >= low) & (x < high) for low, high in pairwise(edges)]
            return cls(Part.of_steps(members, np.isnan(x)), edges, ("missing",))
        text = column.cast(pl.String)
        alone = _alone(text)
        members = [(text == key).fill_null(value=False).to_numpy() for key in alone]
        members.append((~text.is_in(alone).fill_null(value=True)).to_numpy())
        if fitted.unknown:
            members.append(text.is_null().to_numpy())
        return cls(Part.of_groups(members), (), (*alone, "other", "missing"))

    @property
    def known(self) -> int:
        """Number of bins but that of the unknown."""
        return max(0, len(self.edges) - 1) + len(self.keys) - 1

    def joined(self, scored: list[int]) -> dict[str, int]:
        """Return points by bin, neighbours that have the same made one."""
        bins = {}
        begun = 0
        number = max(0, len(self.edges) - 1)
        for place in range(number):
            if place + 1 == number or scored[place + 1] != scored[place]:
                bins[_key(self.edges[begun], self.edges[place + 1])] = scored[place]
                begun = place + 1
        return bins | dict(zip(self.keys, scored[number:], strict=True))


def _cuts(known: Doubles, most: int) -> list[float]:
    """Return where to cut into at most so many bins: each from its cut, included, to the next."""
    least = _LEAST_SHARE * len(known)
    ordered = np.sort(known)
    cuts: list[float] = []
    begun = 0
    shares = np.linspace(0, 1, most + 1)[1:-1]
    for cut in sorted({written(float(q)) for q in np.quantile(known, shares)}):
        below = int(np.searchsorted(ordered, cut))
        if below - begun >= least and len(known) - below >= least:
            cuts.append(cut)
            begun = below
    if not cuts:
        # Nearly all have one value: a cut parts it from what is above or, if nothing is, below.
        usual = ordered[len(ordered) // 2]
        above = ordered[ordered > usual]
        cuts.append(float(above[0] if len(above) else usual))
    return cuts


def _alone(text: pl.Series) -> list[str]:
    """Return the categories that are bins of their own, sorted."""
    counts = text.drop_nulls().value_counts(sort=False, name="accounts").sort(text.name)
    least = _LEAST_CATEGORY * len(text)
    return [
        key
        for key, accounts in counts.iter_rows()
        if accounts >= least and key not in _RESERVED and not _looks_like_interval(key)
    ]


def _looks_like_interval(key: str) -> bool:
    return BinInterval.parse(key) is not None or (key[:1] in ("[", "(") and "," in key)


def _key(low: float, high: float) -> str:
    return f"[{_number(low)},{_number(high)})"


def _number(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
