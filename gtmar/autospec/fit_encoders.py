"""How features become encoders: what each column alone says, then what it adds beside the others.

A number becomes a straight line or a curve, a flag is turned, a category gets its level: from 0,
the worst, to 1, the best, so that equal weights say equal reach. As a scorecard has it, numbers and
categories are cut into bins instead: cuts lie at tenths of the accounts, points come from all
features' bins fitted together, and neighbours that get the same points are one bin.
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
    "table_of",
]

#: Numbers beyond these quantiles count as these: so a correlation is taken, and so a line ends
#: where the outermost accounts lie further out than others do.
_ENDS = (0.01, 0.99)
#: A category's rate is drawn to the mean as if this many average accounts were in it.
_SHRINKAGE = 20
#: Rarer categories aren't listed.
_LEAST_ACCOUNTS = 10


@dataclass(frozen=True)
class Fitted:
    """A column as a feature."""

    #: `flag`, `number` or `categories`.
    kind: str
    #: Correlation with the outcome, in [-1, 1]; 0 where either doesn't vary. Of a number, its own
    #: or its ranks', whichever is further from 0; of categories, that of their mean outcomes.
    r: float
    #: Share of accounts without a value.
    unknown: float
    #: Of categories, those with ten accounts or more, sorted.
    listed: tuple[str, ...] = ()
    #: Of a number, whether its shape is to rise along it, or to fall; None for either or both.
    rising: bool | None = None
    #: Of a number, where a person cuts it into bins, ascending.
    cuts: tuple[float, ...] = ()


def written(value: float) -> float:
    """Round to four significant digits, as a person would write it."""
    return float(f"{value:.4g}")


def fit_flag(column: pl.Series, y: Doubles) -> Fitted:
    """Look at a flag."""
    x = column.cast(pl.Float64).to_numpy()
    return Fitted("flag", correlation(x, y), float(np.isnan(x).mean()))


def fit_number(column: pl.Series, y: Doubles) -> Fitted | str:
    """Look at a number, or say why it is no feature."""
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
    """Look at categories, or say why they are no feature."""
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

#: With fewer accounts whose value is unknown and whose outcome is known, theirs says nothing.
_ENOUGH_UNKNOWN = 10

#: A number's line may bend at so many values at most, all lines together at about so many; a spec
#: has so many points of a line.
_MOST_KNOTS, _KNOTS_IN_ALL, _MOST_POINTS = 16, 900, 12
#: From the first to the second of these quantiles, outermost accounts are not far out.
_INNER = (0.02, 0.98)
#: Points of a line that change it by less than this share of its variance aren't written.
_FLAT = 0.002
#: Where a line may step: at about so many values at most, with so many accounts on either side.
_MOST_PLACES, _ON_EITHER_SIDE = 100, 20
#: From one level to the next, in log-odds.
_LEAST_SLOPE = 1e-6


@dataclass(frozen=True)
class Shape:
    """An encoder's parameters as plain data, the value of an unknown, and a comment for people."""

    encode: dict[str, Any]
    #: On the encoder's scale; None for bins, which have one of their own for it.
    missing: float | None
    comment: str


def fit_shapes(
    frame: pl.DataFrame,
    fitted: dict[str, Fitted],
    y: Doubles,
    *,
    repeats: float = 1.0,
    points: int = 0,
    bound: int = 0,
) -> dict[str, Shape]:
    """Fit the encoders of all features together, by feature.

    `frame` is the search part, `fitted` what each feature is; `y` are its accounts' outcomes, shape
    (N,), more being better, NaN where unknown. An unknown value is at its own level, or at the mean
    where there are too few to fit one. `points` and `bound` are for numbers with cuts, which are
    binned as by `fit_bins`.
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
            shapes[name] = _shape(each, at, written_as, stepped, unknowns)
    return shapes


def table_of(table: TableEncoder, shape: Shape) -> TableEncoder:
    """Return a table with the values that its cells, fitted as categories, came to."""
    by_cell, other = shape.encode["values"], shape.encode["default"]
    values = tuple(tuple(by_cell.get(cell, other) for cell in row) for row in table.cells)
    return table.model_copy(update={"values": values})


def _unknown_accounts(column: pl.Series, labelled: NDArray[np.bool_]) -> int:
    """Count the accounts of which a column doesn't know the value, and `y` the outcome."""
    unknown = column.is_null()
    if column.dtype.is_float():
        unknown |= column.is_nan().fill_null(value=False)
    return int((unknown.to_numpy() & labelled).sum())


def _marks(column: pl.Series, fitted: Fitted, most: int) -> tuple[Any, ...]:
    """Return what the first levels stand for: a number's knots, or the categories listed."""
    if fitted.kind != "number":
        return fitted.listed
    known = column.cast(pl.Float64).drop_nulls().drop_nans().to_numpy()
    inner, middle = np.quantile(known, _INNER), float(np.median(known))
    low, high = float(known.min()), float(known.max())
    cut_low, cut_high = np.quantile(known, _ENDS)
    # A tail longer than all between it and the middle is cut.
    low = low if inner[0] - low <= middle - inner[0] else cut_low
    high = high if high - inner[-1] <= inner[-1] - middle else cut_high
    bends = [knot for knot in _bends(known, most) if low < knot < high]
    knots = sorted({written(float(q)) for q in (low, *bends, high)})
    return tuple(knots) if len(knots) > 1 else (float(known.min()), float(known.max()))


def _bends(known: Doubles, most: int) -> Doubles:
    """Return at most so many values, about: those that many accounts have, others in between."""
    values, accounts = np.unique(known, return_counts=True)
    if len(values) <= most:
        return values
    usual = values[accounts * most >= len(known)]
    rest = known[~np.isin(known, usual)]
    return np.concatenate([usual, np.quantile(rest, np.linspace(0, 1, max(2, most - len(usual))))])


def _places(x: Doubles) -> list[float]:
    """Return the values from which on a line may be another one, ascending: at most so many, about.

    They are the accounts' own: all of few, else those that many accounts have and those behind
    them, of the others some at equal shares.
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
    """Return a line's knots and levels with two more knots for each step: below it and at it."""
    if not fit.steps:
        return marks, fit
    known = column.cast(pl.Float64).drop_nulls().drop_nans().to_numpy()
    ends = [(float(known[known < place].max()), place) for place in fit.steps]
    # By knot the value whose level it has; between two values of a step there are no accounts.
    value_at = {knot: knot for knot in marks if not any(low < knot < high for low, high in ends)}
    for low, high in ends:
        value_at |= dict(zip(_between(low, high), (low, high), strict=True))
    knots = sorted(value_at)
    values = np.array([value_at[knot] for knot in knots])
    levels = np.interp(values, marks, fit.levels[: len(marks)])
    for place, height in fit.steps.items():
        levels += height * (values >= place)
    return tuple(knots), replace(fit, levels=np.append(levels, fit.levels[len(marks) :]))


def _between(low: float, high: float) -> tuple[float, float]:
    """Return two different numbers between these or at them, short as a person would write them."""
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
        return Part.of_line(x, np.array(marks), _places(x))
    text = column.cast(pl.String)
    return Part.of_groups([*_members(text, marks), text.is_null().to_numpy()])


def _members(text: pl.Series, listed: Sequence[str]) -> list[NDArray[Any]]:
    """Say by listed category who is in it, and last who is in another one."""
    members = [(text == key).fill_null(value=False).to_numpy() for key in listed]
    return [*members, (~text.is_in(listed).fill_null(value=True)).to_numpy()]


def _shape(fitted: Fitted, marks: tuple[Any, ...], part: Part, fit: Levels, unknowns: int) -> Shape:
    """Return a feature's encoder by its levels."""
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
        ends = [bisect_right(marks, place) - 1 for place in fit.steps]
        encode = _line(marks, values, sizes[:count], {*ends, *(end - 1 for end in ends)})
        if fitted.rising is not None:
            encode["monotone"] = _direction(encode)
        given = _at(encode, marks).tolist()
        points = len(encode.get("points", ()))
        form = f"{points} points" if points else "a line"
        form += "".join(f", a step at {digits(place)}" for place in sorted(fit.steps))
    else:
        # Whoever is in no listed category: their own level where there are any.
        rest = levels[count] if sizes[count] else np.average(listed, weights=sizes[:count])
        by_name = dict(zip(marks, values, strict=True))
        encode = {"kind": "one_of", "values": by_name, "default": scaled(rest)}
        given, form = [*values, scaled(rest)], f"{count} categories"
    mean = float(np.average(given, weights=sizes[: len(given)]))
    missing = scaled(unknown) if own else round(mean, 2)
    return Shape(encode, missing, _said(fitted, fit, form, unknowns))


def _in_order(levels: Doubles, sizes: Doubles, fitted: Fitted) -> Doubles:
    """Return the closest levels that rise or fall all along, where the feature is to."""
    if fitted.rising is None:
        return levels
    turned = 1 if fitted.rising else -1
    # A level of no accounts hardly counts; where all come to one, the least slope says the way.
    ordered = isotonic(turned * levels, np.maximum(sizes, 1e-6))
    return turned * (ordered + (0 if np.ptp(ordered) else _LEAST_SLOPE * np.arange(len(levels))))


def _direction(encode: Mapping[str, Any]) -> str:
    """Return which way a written line goes; up where it is flat."""
    ends = [y for _, y in encode.get("points", [(0, encode.get("invert", False)), (1, 0.5)])]
    return "down" if ends[-1] < ends[0] else "up"


def _flag_shape(fitted: Fitted, part: Part, fit: Levels, unknowns: int) -> Shape:
    """Return a flag's encoder by its level and that of the unknown."""
    level, unknown = fit.levels.tolist()
    inverted = level < 0
    encode = {"kind": "bool", **({"invert": True} if inverted else {})}
    true, absent = part.columns.mean(axis=0).tolist()
    place = true / ((1 - absent) or 1)
    if unknowns >= _ENOUGH_UNKNOWN:
        place = unknown / level if level else 0.5
    missing = round(float(np.clip(1 - place if inverted else place, 0, 1)), 2)
    return Shape(encode, missing, _said(fitted, fit, "flag", unknowns))


def _line(
    knots: tuple[float, ...], values: list[float], accounts: Doubles, steps: set[int]
) -> dict[str, Any]:
    """Write a number's shape, without the knots that make next to no difference to its accounts.

    Those numbered in `steps` make one.
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
        fewer = [place for place in kept if place != least]
        if lost(fewer) > _FLAT * spread and len(kept) <= _MOST_POINTS + len(steps):
            break
        kept = fewer
    ends = values[0], values[-1]
    if len(kept) == 2 and ends in ((0, 1), (1, 0), (0, 0)):
        line = {"kind": "range", "from": knots[0], "to": knots[-1]}
        return line | ({"invert": True} if ends == (1, 0) else {})
    return {"kind": "curve", "points": [[knots[place], values[place]] for place in kept]}


def _at(encode: dict[str, Any], knots: tuple[float, ...]) -> Doubles:
    """Return what a written line gives at a number's knots."""
    ends = [(encode.get("from"), 0), (encode.get("to"), 1)]
    xs, ys = zip(*encode.get("points", ends), strict=True)
    drawn = np.interp(knots, xs, ys)
    return np.asarray(1 - drawn if encode.get("invert") else drawn, dtype=np.float64)


def _said(fitted: Fitted, fit: Levels, shape: str, unknowns: int) -> str:
    """Say of a feature what people want to know first, and how its `missing` came about."""
    if unknowns >= _ENOUGH_UNKNOWN:
        unknown = f"{fitted.unknown:.1%} unknown, which count as their outcomes say"
    elif fitted.unknown:
        unknown = f"{fitted.unknown:.1%} unknown, too few to fit, which count as the mean"
    else:
        unknown = "none unknown; one that comes counts as the mean"
    proof = "" if fit.proven else "; proves nothing beside the others"
    return f"r = {fitted.r:+.3f}{proof}; {shape}; {unknown}"


# ---- bins ----------------------------------------------------------------------------------------

#: A number is cut into so many bins at most, none with a smaller share of the known accounts; all
#: numbers together into about so many.
_MOST_BINS, _LEAST_SHARE, _MOST_IN_ALL = 10, 0.05, 500
#: A category with a smaller share of all accounts joins the others.
_LEAST_CATEGORY = 0.02
#: What a spec's bins mean by these names.
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
    """Cut numbers and categories into bins, each with its points; flags are two bins already.

    `frame`, `fitted` and `y` are as for `fit_shapes`. A feature's best bin has `points`, its worst
    0, and a search may give a bin `bound` at most. Each has a bin `missing`; where nothing of the
    search part is in it, it is fixed at the mean, since no search can tell.
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
    """Return a feature's bins by its levels."""
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
    """A feature cut into bins."""

    #: Its bins in the fit, in the order of `edges` and `keys`, the unknown if there are any.
    part: Part
    #: Ends of a number's bins, infinite ones included.
    edges: tuple[float, ...] = ()
    #: Other bins, that of the unknown the last.
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
        """Return points by bin, neighbours that have the same made one unless cuts are stated."""
        bins = {}
        begun = 0
        number = max(0, len(self.edges) - 1)
        for place in range(number):
            if stated or place + 1 == number or scored[place + 1] != scored[place]:
                low, high = map(_number, (self.edges[begun], self.edges[place + 1]))
                bins[f"[{low},{high})"] = scored[place]
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
    """Return the categories that are bins of their own, sorted; none looks like an interval."""
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
