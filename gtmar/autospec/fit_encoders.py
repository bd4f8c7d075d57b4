"""Fits an encoder to each column: first looks at each by itself, then fits all of them together.

A number becomes a line or a curve, a flag may be inverted, each category gets a level. All go from
0, the worst, to 1, the best, so that equal weights mean equal influence. For a scorecard, numbers
and categories become bins instead: numbers are cut at tenths of the accounts, the bins of all
features are fitted together, and neighbouring bins with the same points are joined.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar.plain_data import digits
from gtmar.spec.encoders import BinInterval, TableEncoder
from gtmar.stats.isotonic import isotonic
from gtmar.stats.logistic import Levels, Part, correlation, fit_levels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]

__all__ = [
    "Fitted",
    "Shape",
    "fit_bins",
    "fit_categories",
    "fit_flag",
    "fit_number",
    "fit_shapes",
    "rising_numbers",
    "table_of",
]

#: For correlations, numbers are clipped at these quantiles; so are lines, if the outermost accounts
#: are far out.
_ENDS = (0.01, 0.99)
#: Number of average accounts that are added to each category, to shrink its rate to the mean.
_SHRINKAGE = 20
#: Categories with fewer accounts aren't listed.
_LEAST_ACCOUNTS = 10


@dataclass(frozen=True)
class Fitted:
    """What is known of a column that becomes a feature, before its encoder is fitted."""

    #: `flag`, `number` or `categories`.
    kind: str
    #: Correlation with the outcome, in [-1, 1]; 0 if either doesn't vary. For a number, that of its
    #: values or of their ranks, whichever is further from 0; for categories, of mean outcomes.
    r: float
    #: Share of accounts without a value.
    unknown: float
    #: For categories, those with ten accounts or more, sorted.
    listed: tuple[str, ...] = ()
    #: For a number, whether its encoder must rise, or must fall; None if it may do both.
    rising: bool | None = None
    #: For a number, cut points that a person gave, ascending.
    cuts: tuple[float, ...] = ()
    #: For a number, values at which its curve stepped in a fit of fewer features, and may again.
    steps: tuple[float, ...] = ()


def written(value: float) -> float:
    """Round to four significant digits, as a person would write it."""
    return float(f"{value:.4g}")


def fit_flag(column: pl.Series, y: Doubles) -> Fitted:
    """Return what is known of a flag; `y` are the outcomes, NaN where unknown."""
    x = column.cast(pl.Float64).to_numpy()
    return Fitted("flag", correlation(x, y), float(np.isnan(x).mean()))


def fit_number(column: pl.Series, y: Doubles) -> Fitted | str:
    """Return what is known of a number, or in words why it is no feature."""
    x = column.cast(pl.Float64).to_numpy()
    known = x[~np.isnan(x)]
    if known.min() == known.max():
        return f"always {digits(known[0])} where it is known"
    low, high = np.quantile(known, _ENDS)
    own = correlation(np.clip(x, low, high) if low < high else x, y)
    ranks = pl.Series(x).fill_nan(None).rank("average").cast(pl.Float64).to_numpy()
    by_rank = correlation(ranks, y)
    r = by_rank if abs(by_rank) > abs(own) else own
    return Fitted("number", r, float(np.isnan(x).mean()))


def fit_categories(column: pl.Series, y: Doubles) -> Fitted | str:
    """Return what is known of categories, or in words why they are no feature."""
    frame = pl.DataFrame({"category": column.cast(pl.String).str.strip_chars(" "), "y": y}).filter(
        pl.col("y").is_not_nan() & pl.col("y").is_not_null()
    )
    mean = frame["y"].mean()
    if not isinstance(mean, float):
        return "no account has both it and an outcome"
    groups = (
        frame.drop_nulls("category")
        .group_by("category")
        .agg(accounts=pl.len(), total=pl.col("y").sum())
        .with_columns(
            rate=(pl.col("total") + _SHRINKAGE * mean) / (pl.col("accounts") + _SHRINKAGE)
        )
        .filter(pl.col("accounts") >= _LEAST_ACCOUNTS)
        .sort("category")
    )
    if groups["rate"].n_unique() < 2:
        return "no category differs from the others"
    rates = frame["category"].replace_strict(
        groups["category"], groups["rate"], default=mean, return_dtype=pl.Float64
    )
    r = correlation(rates.to_numpy(), frame["y"].to_numpy())
    unknown = column.null_count() / len(column)
    return Fitted("categories", r, unknown, tuple(groups["category"]))


# ---- lines, curves and categories ----------------------------------------------------------------

#: Least accounts with an unknown value and a known outcome, for a fitted level of unknown values.
_ENOUGH_UNKNOWN = 10

#: Most knots of one number's curve, and about so many of all numbers; most points in the spec.
_MOST_KNOTS, _KNOTS_IN_ALL, _MOST_POINTS = 16, 900, 12
#: Accounts between these quantiles aren't far out.
_INNER = (0.02, 0.98)
#: Points that change a curve by less than this share of its variance are left out.
_FLAT = 0.002
#: A curve may have a step at about so many values, with at least so many accounts on either side.
_MOST_PLACES, _ON_EITHER_SIDE = 100, 20
#: Slope of a monotone number without any effect, in log-odds from knot to knot.
_LEAST_SLOPE = 1e-6


@dataclass(frozen=True)
class Shape:
    """A fitted encoder: its parameters as plain data, the value for unknown, and a comment."""

    encode: dict[str, Any]
    #: The value of an account without one, in [0, 1]; None for bins, which have a bin `missing`.
    missing: float | None
    comment: str
    #: Values at which a number's curve steps.
    steps: tuple[float, ...] = ()


def fit_shapes(
    frame: pl.DataFrame,
    fitted: dict[str, Fitted],
    y: Doubles,
    *,
    repeats: float = 1.0,
    points: int = 0,
    bound: int = 0,
) -> dict[str, Shape]:
    """Fit the encoders of all features together, and return them by feature.

    Parameters
    ----------
    frame
        The search part, N rows.
    fitted
        What each feature's column is.
    y
        Outcomes, shape (N,): higher is better, NaN where unknown.
    repeats
        Rows that an account has, on average.
    points, bound
        As for `fit_bins`, for numbers with cut points of a person.

    Returns
    -------
    dict
        Unknown values get a level of their own, or the mean if there are too few.
    """
    most = max(3, min(_MOST_KNOTS, _KNOTS_IN_ALL // len(fitted)))
    marks = {name: _marks(frame[name], each, most) for name, each in fitted.items()}
    cuts = {name: _Cut.of(frame[name], each, 0) for name, each in fitted.items() if each.cuts}
    parts = [
        cuts[name].part if name in cuts else _part(frame[name], each, marks[name])
        for name, each in fitted.items()
    ]
    levels = fit_levels(parts, y, repeats=repeats)
    labelled = ~np.isnan(y)
    shapes = {}
    for (name, each), part, own in zip(fitted.items(), parts, levels, strict=True):
        unknowns = _unknown_accounts(frame[name], labelled)
        if name in cuts:
            shapes[name] = _binned(each, cuts[name], own, unknowns, points=points, bound=bound)
        else:
            at, stepped = _stepped(frame[name], marks[name], own)
            written_as = _part(frame[name], each, at) if own.steps else part
            shape = _shape(each, at, written_as, stepped, unknowns)
            shapes[name] = replace(shape, steps=tuple(own.steps))
    return shapes


def table_of(table: TableEncoder, shape: Shape) -> TableEncoder:
    """Return a table with the values that its cells, fitted as categories, came to."""
    by_cell, other = shape.encode["values"], shape.encode["default"]
    values = tuple(tuple(by_cell.get(cell, other) for cell in row) for row in table.cells)
    return table.model_copy(update={"values": values})


def _unknown_accounts(column: pl.Series, labelled: NDArray[np.bool_]) -> int:
    """Return how many accounts have no value in a column, but a known outcome."""
    unknown = column.is_null()
    if column.dtype.is_float():
        unknown |= column.is_nan().fill_null(value=False)
    return int((unknown.to_numpy() & labelled).sum())


def _marks(column: pl.Series, fitted: Fitted, most: int) -> tuple[Any, ...]:
    """Return what the levels of a feature stand for: a number's knots, or listed categories."""
    if fitted.kind != "number":
        return fitted.listed
    known = column.cast(pl.Float64).drop_nulls().drop_nans().to_numpy()
    inner, middle = np.quantile(known, _INNER), float(np.median(known))
    low, high = float(known.min()), float(known.max())
    cut_low, cut_high = np.quantile(known, _ENDS)
    # A tail is clipped if it is longer than the distance from its inner end to the median.
    low = low if inner[0] - low <= middle - inner[0] else cut_low
    high = high if high - inner[-1] <= inner[-1] - middle else cut_high
    bends = [knot for knot in _bends(known, most) if low < knot < high]
    knots = sorted({written(float(q)) for q in (low, *bends, high)})
    return tuple(knots) if len(knots) > 1 else (float(known.min()), float(known.max()))


def _bends(known: Doubles, most: int) -> Doubles:
    """Return about `most` values: frequent ones, and quantiles of the others."""
    values, accounts = np.unique(known, return_counts=True)
    if len(values) <= most:
        return values
    usual = values[accounts * most >= len(known)]
    rest = known[~np.isin(known, usual)]
    return np.concatenate([usual, np.quantile(rest, np.linspace(0, 1, max(2, most - len(usual))))])


def _places(x: Doubles) -> list[float]:
    """Return about `_MOST_PLACES` values at which a curve may have a step, ascending.

    They are values of accounts: all if there are few; else frequent values, the values after these,
    and quantiles of the others.
    """
    ordered = np.sort(x[~np.isnan(x)])
    looked_at = _bends(ordered, _MOST_PLACES)
    first, behind = (np.searchsorted(ordered, looked_at, side=side) for side in ("left", "right"))
    usual = (behind - first) * _MOST_PLACES >= len(ordered)
    ranks = np.union1d(first, behind[usual])
    enough = np.minimum(ranks, len(ordered) - ranks) >= _ON_EITHER_SIDE
    return [float(value) for value in np.unique(ordered[ranks[enough]])]


def _stepped(
    column: pl.Series, marks: tuple[Any, ...], fit: Levels
) -> tuple[tuple[Any, ...], Levels]:
    """Return a curve's knots and levels, with two knots added for each step: below and at it."""
    if not fit.steps:
        return marks, fit
    known = column.cast(pl.Float64).drop_nulls().drop_nans().to_numpy()
    ends = [(float(known[known < at].max()), at) for at in fit.steps]
    # For each knot, the value whose level it has. No account lies between the two ends of a step.
    value_at = {knot: knot for knot in marks if not any(low < knot < high for low, high in ends)}
    for low, high in ends:
        value_at |= dict(zip(_between(low, high), (low, high), strict=True))
    knots = sorted(value_at)
    values = np.array([value_at[knot] for knot in knots])
    levels = np.interp(values, marks, fit.levels[: len(marks)])
    for at, height in fit.steps.items():
        levels += height * (values >= at)
    return tuple(knots), replace(fit, levels=np.append(levels, fit.levels[len(marks) :]))


def _between(low: float, high: float) -> tuple[float, float]:
    """Return two different numbers in [low, high] with few digits, as a person would write them."""
    for count in range(4, 17):
        short = [float(f"{each:.{count}g}") for each in (low, high)]
        if low <= short[0] < short[1] <= high:
            return short[0], short[1]
    return low, high


def _part(column: pl.Series, fitted: Fitted, marks: tuple[Any, ...]) -> Part:
    if fitted.kind == "flag":
        return Part.of_flag(column.cast(pl.Float64).to_numpy())
    if fitted.kind == "number":
        x = column.cast(pl.Float64).to_numpy()
        return replace(Part.of_line(x, np.array(marks), _places(x)), expected=fitted.steps)
    text = column.cast(pl.String)
    return Part.of_groups([*_members(text, marks), text.is_null().to_numpy()])


def _members(text: pl.Series, listed: Sequence[str]) -> list[NDArray[Any]]:
    """Return a mask for each listed category, and one for accounts in any other category."""
    members = [(text == key).fill_null(value=False).to_numpy() for key in listed]
    return [*members, (~text.is_in(listed).fill_null(value=True)).to_numpy()]


def _shape(fitted: Fitted, marks: tuple[Any, ...], part: Part, fit: Levels, unknowns: int) -> Shape:
    """Return a feature's encoder, given its fitted levels."""
    if fitted.kind == "flag":
        return _flag_shape(fitted, part, fit, unknowns)
    levels, count = fit.levels, len(marks)
    own = unknowns >= _ENOUGH_UNKNOWN
    sizes = part.columns.sum(axis=0)
    listed, unknown = _in_order(levels[:count], sizes[:count], fitted), levels[-1]
    used = [*listed, *([unknown] if own else [])]
    low, high = min(used), max(used)

    def scaled(level: float) -> float:
        return round(float(np.clip((level - low) / (high - low or 1), 0, 1)), 2)

    values = [scaled(level) for level in listed]
    if fitted.kind == "number":
        ends = [bisect_right(marks, at) - 1 for at in fit.steps]
        encode = _line(marks, values, sizes[:count], {*ends, *(end - 1 for end in ends)})
        if fitted.rising is not None:
            encode["monotone"] = _direction(encode)
        given = _at(encode, marks).tolist()
        points = len(encode.get("points", ()))
        form = f"{points} points" if points else "a line"
        form += "".join(f", a step at {digits(at)}" for at in sorted(fit.steps))
    else:
        # Accounts in no listed category have a level of their own, if there are any.
        rest = levels[count] if sizes[count] else np.average(listed, weights=sizes[:count])
        by_name = dict(zip(marks, values, strict=True))
        encode = {"kind": "one_of", "values": by_name, "default": scaled(rest)}
        given, form = [*values, scaled(rest)], f"{count} categories"
    mean = float(np.average(given, weights=sizes[: len(given)]))
    missing = scaled(unknown) if own else round(mean, 2)
    return Shape(encode, missing, _said(fitted, fit, form, unknowns))


def _in_order(levels: Doubles, sizes: Doubles, fitted: Fitted) -> Doubles:
    """Return the levels, made monotone by isotonic regression if the feature must be."""
    if fitted.rising is None:
        return levels
    turned = 1 if fitted.rising else -1
    # Levels without accounts get a tiny weight. If all levels come out equal, a tiny slope keeps
    # the direction.
    ordered = isotonic(turned * levels, np.maximum(sizes, 1e-6))
    return turned * (ordered + (0 if np.ptp(ordered) else _LEAST_SLOPE * np.arange(len(levels))))


def _direction(encode: Mapping[str, Any]) -> str:
    """Return the direction of an encoder, ``up`` or ``down``; ``up`` if it is flat."""
    ends = [y for _, y in encode.get("points", [(0, encode.get("invert", False)), (1, 0.5)])]
    return "down" if ends[-1] < ends[0] else "up"


def _flag_shape(fitted: Fitted, part: Part, fit: Levels, unknowns: int) -> Shape:
    """Return a flag's encoder, given its level and that of unknown values."""
    level, unknown = fit.levels.tolist()
    inverted = level < 0
    encode = {"kind": "bool", **({"invert": True} if inverted else {})}
    true, absent = part.columns.mean(axis=0).tolist()
    share = true / ((1 - absent) or 1)
    if unknowns >= _ENOUGH_UNKNOWN:
        share = unknown / level if level else 0.5
    missing = round(float(np.clip(1 - share if inverted else share, 0, 1)), 2)
    return Shape(encode, missing, _said(fitted, fit, "flag", unknowns))


def _line(
    knots: tuple[float, ...], values: list[float], accounts: Doubles, steps: set[int]
) -> dict[str, Any]:
    """Return a number's encoder, without knots that make hardly any difference to its accounts.

    Knots whose index is in `steps` are kept.
    """
    at, drawn, shares = np.array(knots), np.array(values), accounts / accounts.sum()
    spread = float(shares @ (drawn - shares @ drawn) ** 2)

    def lost(kept: list[int]) -> float:
        return float(shares @ (np.interp(at, at[kept], drawn[kept]) - drawn) ** 2)

    kept, outer = list(range(len(knots))), [0, len(knots) - 1]
    if not steps and np.ptp(drawn[outer]) == np.ptp(drawn) and lost(outer) <= _FLAT * spread:
        kept = outer
    while inner := [n for n in kept[1:-1] if values[n] not in (0, 1) and n not in steps]:
        least = min(inner, key=lambda place: lost([other for other in kept if other != place]))
        fewer = [index for index in kept if index != least]
        if lost(fewer) > _FLAT * spread and len(kept) <= _MOST_POINTS + len(steps):
            break
        kept = fewer
    ends = values[0], values[-1]
    if len(kept) == 2 and ends in ((0, 1), (1, 0), (0, 0)):
        line = {"kind": "range", "from": knots[0], "to": knots[-1]}
        return line | ({"invert": True} if ends == (1, 0) else {})
    return {"kind": "curve", "points": [[knots[index], values[index]] for index in kept]}


def _at(encode: dict[str, Any], knots: tuple[float, ...]) -> Doubles:
    """Return the values of an encoder at a number's knots."""
    ends = [(encode.get("from"), 0), (encode.get("to"), 1)]
    xs, ys = zip(*encode.get("points", ends), strict=True)
    drawn = np.interp(knots, xs, ys)
    return np.asarray(1 - drawn if encode.get("invert") else drawn, dtype=np.float64)


def _said(fitted: Fitted, fit: Levels, shape: str, unknowns: int) -> str:
    """Return a feature's comment in the spec, with the reason for the value of `missing`."""
    if unknowns >= _ENOUGH_UNKNOWN:
        unknown = f"{fitted.unknown:.1%} unknown, which count as their outcomes say"
    elif fitted.unknown:
        unknown = f"{fitted.unknown:.1%} unknown, too few to fit, which count as the mean"
    else:
        unknown = "none unknown; one that comes counts as the mean"
    proof = "" if fit.proven else "; proves nothing beside the others"
    return f"r = {fitted.r:+.3f}{proof}; {shape}; {unknown}"


# ---- bins ----------------------------------------------------------------------------------------

#: Most bins of one number, least share of the known accounts in a bin, and about so many bins of
#: all numbers.
_MOST_BINS, _LEAST_SHARE, _MOST_IN_ALL = 10, 0.05, 500
#: A category with a smaller share of all accounts is put into the bin `other`.
_LEAST_CATEGORY = 0.02
#: Names of bins with a meaning of their own in a spec.
_RESERVED = ("missing", "other")


def fit_bins(
    frame: pl.DataFrame,
    fitted: dict[str, Fitted],
    y: Doubles,
    *,
    points: int,
    bound: int,
    repeats: float = 1.0,
) -> dict[str, Shape]:
    """Cut numbers and categories into bins, each with its points; a flag is encoded as it is.

    Parameters
    ----------
    frame, fitted, y, repeats
        As for `fit_shapes`.
    points
        Points of a feature's best bin; the worst has 0.
    bound
        Most points that a search may give a bin.

    Returns
    -------
    dict
        By feature. There is always a bin `missing`. If no account of the search part is in it, its
        points are fixed at the mean, since no search could find them.
    """
    most = max(2, min(_MOST_BINS, _MOST_IN_ALL // len(fitted)))
    cuts = {name: _Cut.of(frame[name], each, most) for name, each in fitted.items()}
    levels = fit_levels([cut.part for cut in cuts.values()], y, repeats=repeats)
    labelled = ~np.isnan(y)
    shapes = {}
    for (name, each), cut, fit in zip(fitted.items(), cuts.values(), levels, strict=True):
        unknowns = _unknown_accounts(frame[name], labelled)
        if each.kind == "flag":
            shapes[name] = _flag_shape(each, cut.part, fit, unknowns)
            continue
        shapes[name] = _binned(each, cut, fit, unknowns, points=points, bound=bound)
    return shapes


def _binned(
    fitted: Fitted, cut: _Cut, fit: Levels, unknowns: int, *, points: int, bound: int
) -> Shape:
    """Return a feature's bins, given its fitted levels."""
    own = fit.levels
    sizes = cut.part.columns.sum(axis=0)
    number = max(0, len(cut.edges) - 1)
    known = number + len(cut.keys) - 1
    levelled = np.append(_in_order(own[:number], sizes[:number], fitted), own[number:])
    if unknowns < _ENOUGH_UNKNOWN:
        mean = np.average(levelled[:known], weights=sizes[:known])
        levelled = np.append(levelled[:known], mean)
    low, high = float(levelled.min()), float(levelled.max())
    scored = [round(points * (level - low) / (high - low or 1)) for level in levelled.tolist()]
    joined = cut.joined(scored, stated=bool(fitted.cuts))
    bins = {key: {"weight": w, "min": 0, "max": bound} for key, w in joined.items()}
    if not fitted.unknown:
        bins["missing"] = dict.fromkeys(("weight", "min", "max"), joined["missing"])
    order = {} if fitted.rising is None else {"monotone": "up" if fitted.rising else "down"}
    encode = {"kind": "bins", **order, "bins": bins}
    return Shape(encode, None, _said(fitted, fit, f"{len(bins)} bins", unknowns))


@dataclass(frozen=True)
class _Cut:
    """A feature cut into bins, before points are fitted."""

    #: The feature's part of the regression: a column for each bin, in the order of `edges`, `keys`.
    part: Part
    #: Edges of a number's bins, from minus infinity to infinity.
    edges: tuple[float, ...] = ()
    #: Names of the other bins; the last one is `missing`.
    keys: tuple[str, ...] = ()

    @classmethod
    def of(cls, column: pl.Series, fitted: Fitted, most: int) -> _Cut:
        if fitted.kind == "flag":
            return cls(Part.of_flag(column.cast(pl.Float64).to_numpy()))
        if fitted.kind == "number":
            x = column.cast(pl.Float64).to_numpy()
            edges = (-np.inf, *(fitted.cuts or _cuts(x[~np.isnan(x)], most)), np.inf)
            members = [(x >= low) & (x < high) for low, high in pairwise(edges)]
            return cls(Part.of_steps(members, np.isnan(x)), edges, ("missing",))
        text = column.cast(pl.String)
        alone = _alone(text)
        members = _members(text, alone)
        if fitted.unknown:
            members.append(text.is_null().to_numpy())
        return cls(Part.of_groups(members), (), (*alone, "other", "missing"))

    def joined(self, scored: list[int], *, stated: bool) -> dict[str, int]:
        """Return points by bin; neighbours with the same points are joined, unless `stated`."""
        bins = {}
        begun = 0
        number = max(0, len(self.edges) - 1)
        for index in range(number):
            if stated or index + 1 == number or scored[index + 1] != scored[index]:
                low, high = map(_number, (self.edges[begun], self.edges[index + 1]))
                bins[f"[{low},{high})"] = scored[index]
                begun = index + 1
        return bins | dict(zip(self.keys, scored[number:], strict=True))


def _cuts(known: Doubles, most: int) -> list[float]:
    """Return cut points for at most `most` bins; a bin includes its lower cut point."""
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
        # Nearly all accounts have the same value: it is cut off from larger ones or, if there are
        # none, from smaller ones.
        usual = ordered[len(ordered) // 2]
        above = ordered[ordered > usual]
        cuts.append(float(above[0] if len(above) else usual))
    return cuts


def _alone(text: pl.Series) -> list[str]:
    """Return the categories that get their own bin, sorted; none may look like an interval."""
    counts = text.drop_nulls().value_counts(sort=False, name="accounts").sort(text.name)
    least = _LEAST_CATEGORY * len(text)
    return [
        key
        for key, accounts in counts.iter_rows()
        if accounts >= least
        and key not in _RESERVED
        and not (BinInterval.parse(key) or (key[:1] in ("[", "(") and "," in key))
    ]


def _number(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


# ---- which numbers may be monotone ---------------------------------------------------------------

#: Groups of equal size that a number's outcomes are compared between.
_GROUPS = 10
#: Simulated tables with monotone means, and the level of the test.
_DRAWS, _CHANCE, _SEED = 999, 0.05, 20
#: Least accounts of a group, so that its mean is about normally distributed.
_LEAST_OF_GROUP = 20


def rising_numbers(
    frame: pl.DataFrame, fitted: Mapping[str, Fitted], y: Doubles
) -> dict[str, bool]:
    """Return for each number that may be monotone whether outcomes rise along it, or fall.

    Parameters
    ----------
    frame
        The search part, N rows.
    fitted
        What each column is; columns that are no numbers are left out.
    y
        Outcomes, shape (N,), NaN where unknown.

    Notes
    -----
    A test of order restrictions (Robertson, Wright & Dykstra 1988, chapter 2). Means of ten groups
    are fitted by isotonic regression, rising or falling, whichever fits better. The squared
    residuals are compared with those of 999 simulated tables around the fit; one in twenty monotone
    columns is rejected by chance. Cost: about 5 ms for each number.
    """
    rising = {}
    for name, each in fitted.items():
        if each.kind != "number":
            continue
        means, sizes, variance = _group_means(frame[name], y)
        if not variance:
            continue
        fits = {up: _monotone(means, sizes, rising=up) for up in (True, False)}
        left = {up: float((sizes * (means - fits[up]) ** 2).sum()) for up in fits}
        up = left[True] <= left[False]
        draw = np.random.default_rng(_SEED)
        noise = draw.normal(size=(_DRAWS, len(sizes))) * np.sqrt(variance / sizes)
        drawn = fits[up] + noise
        more = (sizes * (drawn - _monotone(drawn, sizes, rising=up)) ** 2).sum(axis=1) >= left[up]
        if (more.sum() + 1) / (_DRAWS + 1) > _CHANCE:
            rising[name] = up
    return rising


def _monotone(means: Doubles, sizes: Doubles, *, rising: bool) -> Doubles:
    return isotonic(means, sizes) if rising else -isotonic(-means, sizes)


def _group_means(column: pl.Series, y: Doubles) -> tuple[Doubles, Doubles, float]:
    """Return mean outcomes of groups along a column, their sizes, and the variance within them."""
    x = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    if not len(x):
        return np.zeros(1), np.ones(1), 0.0
    cuts = np.unique(np.quantile(x, np.linspace(0, 1, _GROUPS + 1)[1:-1]))
    groups = np.searchsorted(cuts, x, side="right")
    counts = np.bincount(groups)
    # Groups that are too small are merged with the one below.
    large = np.cumsum(counts >= _LEAST_OF_GROUP) - 1
    groups = np.maximum(large, 0)[groups]
    sizes = np.bincount(groups).astype(np.float64)
    means = np.bincount(groups, weights=y) / sizes
    return means, sizes, float(((y - means[groups]) ** 2).mean())
