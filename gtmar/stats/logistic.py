"""Logistic regression with a penalty, and the additive model made of it: numpy alone.

The optimum is unique, and is found far below the last digit that is given back. So neither the
order of rows nor the machine changes a coefficient, though sums of doubles differ on the way there.

In the additive model each feature brings its part: the pieces of a line that may bend, a level for
each category or bin, one for the unknown. The levels shape encoders and give bins their points.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Blocks = Callable[[], Iterable[tuple[Doubles, Doubles]]]

__all__ = ["Fit", "Levels", "Part", "correlation", "every_so_many", "fit_levels", "fit_logistic"]

_MOST_ROUNDS = 100
#: A step whose largest part is below this has arrived; what is given back is rounded well above.
_ARRIVED, _DIGITS = 1e-7, 6
#: Beyond this a probability is 0 or 1 to all digits.
_MOST_LOGIT = 35.0
#: Gain in penalised log-likelihood, relative to its size, below which sums of doubles say nothing.
_NOISE = 1e-12
#: Of their size, by which equal doubles may differ for the way they were added up.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Fit:
    """A regression that was fitted: P coefficients and what is known of them."""

    #: Change of the log-odds per unit of each predictor, shape (P,), rounded to six decimals.
    coefficients: Doubles
    #: Of them, the penalty taken as prior knowledge; shape (P, P).
    covariance: Doubles
    #: Intercept and coefficients as they were found, shape (P + 1,): where another fit may begin.
    place: Doubles


def fit_logistic(
    blocks: Blocks, penalty: Doubles, *, start: Doubles | None = None, arrived: float = _ARRIVED
) -> Fit:
    """Fit an intercept and P coefficients by penalised maximum likelihood.

    Parameters
    ----------
    blocks
        Gives the table a block of rows at a time, anew at each call: predictors of shape (N, P),
        outcomes of shape (N,), in [0, 1], not all at one end; a share is so much of an event.
    penalty
        Positive definite, shape (P, P): half of its quadratic form is taken off the log-likelihood.
    start
        Where to begin, shape (P + 1,); None for zeros. Changes nothing but the cost.
    arrived
        A step whose largest part is below this is the last one.

    Notes
    -----
    Newton's steps on a strictly concave function, halved until they rise. Cost: some ten passes
    over the table, each of N x P^2 operations. McCullagh and Nelder, Generalized Linear Models,
    1989, chapter 4; le Cessie and van Houwelingen, Ridge estimators in logistic regression, 1992.
    """
    width = len(penalty)
    whole = np.zeros((width + 1, width + 1))
    whole[1:, 1:] = penalty
    now = np.zeros(width + 1) if start is None else start
    height, slope, bend = _at(now, blocks, whole)
    for _ in range(_MOST_ROUNDS):
        step = np.linalg.solve(bend, slope)
        while np.abs(step).max() >= arrived:
            reached, *there = _at(now + step, blocks, whole)
            if reached >= height - _NOISE * abs(height):
                break
            step = step / 2
        now = now + step
        if np.abs(step).max() < arrived:
            break
        height, (slope, bend) = reached, there
    # Adding 0 turns -0 into 0.
    rounded: Doubles = np.round(now[1:], _DIGITS) + 0.0
    return Fit(rounded, np.linalg.inv(bend)[1:, 1:].astype(np.float64), now)


def _at(place: Doubles, blocks: Blocks, whole: Doubles) -> tuple[float, Doubles, Doubles]:
    """Return penalised log-likelihood, its slope and its bend (negated) at a place, (P + 1,)."""
    pulled = whole @ place
    height = -0.5 * float(place @ pulled)
    slope, bend = -pulled, whole.copy()
    for predictors, outcomes in blocks():
        logit = np.clip(place[0] + predictors @ place[1:], -_MOST_LOGIT, _MOST_LOGIT)
        chance = 1 / (1 + np.exp(-logit))
        height += float((outcomes * logit - np.logaddexp(0, logit)).sum())
        rest = outcomes - chance
        slope[0] += rest.sum()
        slope[1:] += predictors.T @ rest
        spread = chance * (1 - chance)
        bend[0, 0] += spread.sum()
        cross = spread @ predictors
        bend[0, 1:] += cross
        bend[1:, 0] += cross
        # A matrix times its own transpose takes half the time of a product of two.
        weighted = predictors * np.sqrt(spread)[:, None]
        bend[1:, 1:] += weighted.T @ weighted
    return height, slope, bend


# ---- the additive model --------------------------------------------------------------------------

#: How much a level is always drawn to nothing: as if that much information (accounts x chance x
#: (1 - chance)) said so. It keeps the fit's optimum one place.
_RIDGE = 0.1
#: Least share of a tamed form, and the largest of a line's and of others', whose differences are
#: still given back where they are none; rounds of finding it, and when it has settled: a bend that
#: stops half-way may seem none. On the way there a fit need not be exact, and is foreseen for so
#: many rounds.
_LEAST, _MOST_OF_LINE, _MOST_OF_OTHERS = 1e-3, 1e6, 1e4
_TAMINGS, _SETTLED, _ON_THE_WAY, _AHEAD = 40, 0.1, 0.03, 10
#: Fewer degrees of freedom than this are none.
_NOTHING = 0.02
#: Twice the logarithm of the ratio of likelihoods above which a part is more than plain: lines of
#: noise, of 300 to 2,000 accounts, get there in 2 to 5 % of cases. And the square of an effect in
#: standard errors above which a plain part is any: in 5 %.
_BENT, _ANY = 2.0, 3.84
#: How often a table whose lines have no step may show one, at most; information, as of `_RIDGE`,
#: that a step needs to be looked at; how often steps are looked for, and so a line's at most.
_BY_CHANCE, _LEAST_INFORMATION, _STEPPINGS = 0.05, 5.0, 8
#: Of the largest, eigenvalues that are 0 but for rounding.
_ROUNDED = 1e-9
#: Predictors of accounts that are fitted at most, and how many of them a feature is taken to have.
_MOST_CELLS, _PREDICTORS = 10_000_000, 16


@dataclass(frozen=True)
class Part:
    """What a feature brings to the fit: K predictors of N accounts, and how they are penalised."""

    #: Shape (N, K), in [0, 1].
    columns: Doubles
    #: Quadratic forms of shape (K, K), 0 where levels are as plain as they can be: a straight
    #: line, no difference. The share of each in the penalty is found by the fit.
    tamed: tuple[Doubles, ...] = ()
    #: Shape (K,): what the levels differ by where they are plain, as the ends of a line do; None
    #: where they don't differ then.
    ends: Doubles | None = None
    #: Shape (K, J): the levels of a straight line, by its J; None for what isn't a line.
    line: Doubles | None = None
    #: Shape (S,), ascending: the values from which on a line may be a step up or down.
    places: tuple[float, ...] = ()
    #: Shape (N,): how many of them an account has reached; of the unknown, none.
    reached: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    #: Numbers of the places where it steps; the last predictors say who has reached them.
    steps: tuple[int, ...] = ()

    @property
    def most(self) -> float:
        """The largest share of the tamed form."""
        return _MOST_OF_OTHERS if self.line is None else _MOST_OF_LINE

    @classmethod
    def of_flag(cls, x: Doubles) -> Part:
        """Take a flag, shape (N,), NaN where unknown: its level, and that of the unknown."""
        columns = np.stack([np.nan_to_num(x), np.isnan(x)], axis=1)
        return cls(columns, ends=np.array([1.0, 0.0]))

    @classmethod
    def of_groups(cls, members: Sequence[NDArray[Any]]) -> Part:
        """Take K groups of accounts, N zeros and ones each, that are drawn to no difference."""
        return cls(_side_by_side(members), (np.eye(len(members)),))

    @classmethod
    def of_steps(cls, members: Sequence[NDArray[Any]], unknown: NDArray[np.bool_]) -> Part:
        """Take groups in an order, each drawn to its neighbours; the unknown if there are any."""
        steps = np.diff(np.eye(len(members)), axis=0)
        return cls._beside_unknown(_side_by_side(members), [steps], unknown)

    @classmethod
    def of_line(cls, x: Doubles, knots: Doubles, places: Sequence[float] = ()) -> Part:
        """Take a line that may bend at K - 2 inner knots, and the unknown if there are any.

        `x` has shape (N,), NaN where unknown; beyond the end `knots`, ascending, it is flat. Beside
        a knot that many accounts have, it bends for itself, so that there may be a step. At one of
        the `places`, ascending, it steps where that is proven.
        """
        unknown = np.isnan(x)
        inside = np.where(unknown, knots[0], x)
        pieces = [np.interp(inside, knots, one) for one in np.eye(len(knots))]
        columns = _side_by_side(pieces) * ~unknown[:, None]
        # What a knot is off the line through its neighbours, so that knots that are near each other
        # bend as freely as those far apart.
        bends = np.zeros((max(0, len(knots) - 2), len(knots)))
        for place, (before, after) in enumerate(pairwise(np.diff(knots))):
            beside = after / (before + after)
            bends[place, place : place + 3] = -beside, 1, beside - 1
        known = max(1, int((~unknown).sum()))
        usual = np.array([(x == knot).sum() * len(knots) >= known for knot in knots])
        steps = usual[:-2] | usual[1:-1] | usual[2:]
        forms = [own for own in (bends[~steps], bends[steps]) if len(own)]
        part = cls._beside_unknown(columns, forms, unknown)
        along = (knots - knots[0]) / (knots[-1] - knots[0])
        width, count = part.columns.shape[1], len(knots)
        line = np.eye(width)
        line[:count, 0], line[:count, count - 1] = 1 - along, along
        line = np.delete(line, range(1, count - 1), axis=1)
        ends = np.zeros(width)
        ends[0], ends[count - 1] = -1, 1
        reached = np.searchsorted(np.asarray(places), np.where(unknown, -np.inf, x), side="right")
        return replace(part, ends=ends, line=line, places=tuple(places), reached=reached)

    @classmethod
    def _beside_unknown(
        cls, columns: Doubles, plain: Sequence[Doubles], unknown: NDArray[np.bool_]
    ) -> Part:
        """Tame what `plain`, each of shape (L, K), makes of the levels, in units of its largest."""
        forms = [own.T @ own for own in plain]
        forms = [form / max(float(np.linalg.norm(form, 2)), 1.0) for form in forms]
        if unknown.any():
            columns = np.column_stack([columns, unknown])
            forms = [np.pad(form, (0, 1)) for form in forms]
        return cls(columns, tuple(forms))

    def stepped(self, place: int) -> Part:
        """Let a line step at the place of a number, by as much as accounts say."""
        assert self.ends is not None  # it is a line
        assert self.line is not None
        line = np.pad(self.line, (0, 1))
        line[-1, -1] = 1
        return replace(
            self,
            columns=np.column_stack([self.columns, self.reached > place]),
            tamed=tuple(np.pad(form, (0, 1)) for form in self.tamed),
            ends=np.append(self.ends, 0),
            line=line,
            steps=(*self.steps, place),
        )

    def turned(self, levels: Doubles, y: Doubles) -> Doubles:
        """Turn levels, shape (K,), round where alone they go with the worse outcome."""
        return -levels if correlation(self.columns @ levels, y) < 0 else levels


def correlation(x: Doubles, y: Doubles) -> float:
    """Pearson correlation over pairs known on both sides; 0 where either doesn't vary."""
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    if len(x) < 2 or not min(np.ptp(x) > _ROUNDING * np.abs(x).max(), np.ptp(y)):
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _side_by_side(columns: Sequence[NDArray[Any]]) -> Doubles:
    return np.stack(columns, axis=1).astype(np.float64)


def every_so_many(accounts: int, features: int) -> int:
    """Return the distance at which accounts are taken, so that the fit stays small; 1 for all."""
    return max(1, -(-accounts * features * _PREDICTORS // _MOST_CELLS))


@dataclass(frozen=True)
class Levels:
    """What the fit makes of a part."""

    #: Log-odds of its K predictors, shape (K,), of six decimals, turned so that alone they go with
    #: the better outcome.
    levels: Doubles
    #: Whether accounts prove that they differ at all, beside the other parts.
    proven: bool = False
    #: Of a line, what is added to it from a value on, by that value.
    steps: Mapping[float, float] = field(default_factory=dict)


def fit_levels(parts: list[Part], y: Doubles, *, repeats: float = 1.0) -> list[Levels]:
    """Fit all parts, of N accounts each, together to outcomes, shape (N,), NaN where unknown.

    More of the outcome is better; it is brought to [0, 1]. Levels are all 0 where the outcome
    doesn't vary. `repeats` is how often an account stands among the N on average: so much less
    each row proves.

    Notes
    -----
    How much each part is tamed is found by restricted maximum likelihood, so that a line bends and
    categories differ as far as accounts say so; a line that isn't proven to bend is straight. Bends
    that share one stiffness make a slope of a step, so steps are looked for beside them, and a line
    that has one bends unproven. Cost: 10 to 40 passes over the parts. Wood and Fasiolo, A
    generalized Fellner-Schall method for smoothing parameter optimization, 2017; Gu,
    Cross-validating non-Gaussian data, 1992; Self and Liang, Asymptotic properties of maximum
    likelihood estimators and likelihood ratio tests under nonstandard conditions, 1987.
    """
    known = ~np.isnan(y)
    outcome = y[known]
    if not len(outcome) or outcome.min() == outcome.max():
        return [Levels(np.zeros(part.columns.shape[1])) for part in parts]
    outcome = (outcome - outcome.min()) / (outcome.max() - outcome.min())
    parts, tamed = _stepped(parts, known, outcome, repeats)
    # A line that steps is no straight one anyway.
    bent = [
        bool(part.steps) or (bool(part.tamed) and _beyond_plain(part, own, each) > _BENT * repeats)
        for part, own, each in zip(parts, tamed.asked, tamed.found, strict=True)
    ]
    # What isn't proven to bend is fitted as a straight line, of which there is nothing to tame.
    forms = [
        (np.eye(part.columns.shape[1]), _penalty(part, own))
        if part.line is None or more
        else (part.line, _RIDGE * np.eye(part.line.shape[1]))
        for part, own, more in zip(parts, tamed.shares, bent, strict=True)
    ]
    straight = [part.columns[known] @ line for part, (line, _) in zip(parts, forms, strict=True)]
    table = np.concatenate(straight, axis=1)
    # Near the end already: the line closest to the levels found.
    near = [
        np.linalg.lstsq(line, tamed.fit.place[1:][at])[0]
        for (line, _), at in zip(forms, tamed.places, strict=True)
    ]
    start = np.concatenate([tamed.fit.place[:1], *near])
    penalty = _diagonal([each for _, each in forms])
    fit = fit_logistic(lambda: [(table, outcome)], penalty, start=start)
    places = _places([line.shape[1] for line, _ in forms])
    levels = []
    for part, (line, _), at, more in zip(parts, forms, places, bent, strict=True):
        own = line @ fit.coefficients[at]
        proven = more
        if part.ends is not None:
            along = part.ends @ line
            variance = float(along @ fit.covariance[at, at] @ along)
            proven |= float(part.ends @ own) ** 2 > _ANY * repeats * variance
        turned = part.turned(own, y)
        count = len(turned) - len(part.steps)
        heights = zip(part.steps, turned[count:].tolist(), strict=True)
        steps = {part.places[place]: height for place, height in heights}
        levels.append(Levels(turned[:count], proven, steps))
    return levels


@dataclass(frozen=True)
class _Tamed:
    """A fit whose penalty is as restricted likelihood asks for, of parts in their places."""

    fit: Fit
    table: Doubles
    places: list[slice]
    #: Of each part's tamed forms in the penalty of the fit, and as its levels ask for.
    asked: list[Doubles]
    shares: list[Doubles]
    found: list[_Estimate]


def _tamed(
    parts: Sequence[Part],
    shares: list[Doubles],
    known: NDArray[np.bool_],
    outcome: Doubles,
    start: Doubles | None,
) -> _Tamed:
    """Fit parts to outcomes of those accounts that have one, from shares that are about right."""
    places = _places([part.columns.shape[1] for part in parts])
    table = np.concatenate([part.columns[known] for part in parts], axis=1)
    for _ in range(_TAMINGS):
        penalty = _diagonal(list(map(_penalty, parts, shares)))
        fit = fit_logistic(lambda: [(table, outcome)], penalty, start=start, arrived=_ON_THE_WAY)
        start, asked = fit.place, shares
        found = [_Estimate(fit.coefficients[at], fit.covariance[at, at]) for at in places]
        shares = list(map(_shares, parts, asked, found))
        if _moved(asked, shares) < _SETTLED:
            break
        # What other shares would ask for in turn, as far as the log-likelihood is a parabola.
        precision = np.linalg.inv(fit.covariance)
        information, pull = precision - penalty, precision @ fit.coefficients
        for _ in range(_AHEAD):
            before = shares
            foreseen = _diagonal(list(map(_penalty, parts, before)))
            covariance = np.linalg.inv(information + foreseen).astype(np.float64)
            levels = covariance @ pull
            near = [_Estimate(levels[at], covariance[at, at]) for at in places]
            shares = list(map(_shares, parts, before, near))
            if _moved(before, shares) < _SETTLED:
                break
    return _Tamed(fit, table, places, asked, shares, found)


def _moved(before: Sequence[Doubles], after: Sequence[Doubles]) -> float:
    """Return by how much shares moved at most, in logarithms."""
    moved = [np.abs(np.log(one / two)) for one, two in zip(after, before, strict=True)]
    return float(np.concatenate(moved).max(initial=0))


def _stepped(
    parts: list[Part], known: NDArray[np.bool_], outcome: Doubles, repeats: float
) -> tuple[list[Part], _Tamed]:
    """Return the parts with the steps that are proven, and their fit."""
    tamed = _tamed(parts, [np.ones(len(part.tamed)) for part in parts], known, outcome, None)
    for _ in range(_STEPPINGS):
        steps = _steps(parts, tamed, known, outcome, repeats)
        if not steps:
            break
        start = np.insert(tamed.fit.place, [1 + tamed.places[where].stop for where in steps], 0)
        parts = [p.stepped(steps[n]) if n in steps else p for n, p in enumerate(parts)]
        tamed = _tamed(parts, tamed.shares, known, outcome, start)
    return parts, tamed


def _steps(
    parts: Sequence[Part],
    tamed: _Tamed,
    known: NDArray[np.bool_],
    outcome: Doubles,
    repeats: float,
) -> dict[int, int]:
    """Return the places where lines are proven to step, one each, by the part's number.

    Proven is what all the places of a table would show together, by chance, in a twentieth of
    tables at most (Bonferroni). Rao's score test, beside all parts and the steps proven before.
    """
    reached = {n: part.reached[known] for n, part in enumerate(parts) if part.places}
    if not reached:
        return {}
    logit = tamed.fit.place[0] + tamed.table @ tamed.fit.place[1:]
    chance = 1 / (1 + np.exp(-np.clip(logit, -_MOST_LOGIT, _MOST_LOGIT)))
    spread, rest = chance * (1 - chance), outcome - chance
    weighted = np.ascontiguousarray(tamed.table.T) * spread
    mean = weighted.sum(axis=1) / spread.sum()
    candidates, tried = {}, 0
    for where, own in reached.items():
        count = 1 + len(parts[where].places)
        sums = np.stack([np.bincount(own, each, count) for each in (rest, spread, *weighted)])
        # Whoever is beyond a place has reached it.
        pull, size, *cross = sums[:, :0:-1].cumsum(axis=1)[:, ::-1]
        apart = np.stack(cross) - np.outer(mean, size)
        left = size - size**2 / spread.sum() - (apart * (tamed.fit.covariance @ apart)).sum(axis=0)
        candidates[where] = int(_squares(pull, left).argmax())
        tried += int((left > _LEAST_INFORMATION).sum())
    enough = repeats * NormalDist().inv_cdf(1 - _BY_CHANCE / max(1, tried) / 2) ** 2
    # One after the other, each beside those before it.
    table = np.stack([reached[n] > place for n, place in candidates.items()], axis=1).astype(float)
    pull, size = rest @ table, spread @ table
    apart = weighted @ table - np.outer(mean, size)
    left = (table.T * spread) @ table - np.outer(size, size) / spread.sum()
    left -= apart.T @ tamed.fit.covariance @ apart
    steps = {}
    while (squares := _squares(pull, np.diag(left))).max() > enough:
        number = int(squares.argmax())
        where = [*candidates][number]
        steps[where] = candidates[where]
        share = left[number] / left[number, number]
        pull, left = pull - share * pull[number], left - np.outer(share, left[number])
    return steps


def _squares(pull: Doubles, left: Doubles) -> Doubles:
    """Return the squares of scores in standard errors, 0 of those that next to nothing is known."""
    squares: Doubles = pull**2 / np.maximum(left, _LEAST_INFORMATION)
    return np.where(left > _LEAST_INFORMATION, squares, 0.0)


@dataclass(frozen=True)
class _Estimate:
    """Levels of a part, shape (K,), and their covariance."""

    levels: Doubles
    covariance: Doubles


def _places(sizes: Sequence[int]) -> list[slice]:
    ends = np.cumsum(sizes)
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def _diagonal(blocks: Sequence[Doubles]) -> Doubles:
    """Return the square blocks as one matrix, each on its diagonal."""
    places = _places([len(block) for block in blocks])
    whole = np.zeros((places[-1].stop, places[-1].stop))
    for place, block in zip(places, blocks, strict=True):
        whole[place, place] = block
    return whole


def _penalty(part: Part, shares: Doubles) -> Doubles:
    whole = _RIDGE * np.eye(part.columns.shape[1])
    for form, share in zip(part.tamed, shares, strict=True):
        whole += share * form
    return whole


def _shares(part: Part, shares: Doubles, found: _Estimate) -> Doubles:
    """Return the shares of a part's tamed forms that its levels ask for."""
    if not part.tamed:
        return shares
    # What any of the forms tames, as coordinates.
    strengths, within = np.linalg.eigh(np.sum(part.tamed, axis=0))
    within = within[:, strengths > _ROUNDED * strengths[-1]]
    inverse = np.linalg.inv(within.T @ (_penalty(part, shares) @ within))
    asked = []
    for form, share in zip(part.tamed, shares, strict=True):
        size = float(found.levels @ form @ found.levels)
        free = share * float(((within @ inverse @ within.T - found.covariance) * form).sum())
        differ = size * part.most > free > _NOTHING
        asked.append(max(_LEAST, free / size) if differ else part.most)
    return np.array(asked)


def _beyond_plain(part: Part, shares: Doubles, found: _Estimate) -> float:
    """Return twice the logarithm of the likelihood ratio of levels to those tamed most.

    Of the restricted likelihood, taken as normal about the levels.
    """
    precision = np.linalg.inv(found.covariance)
    information, pull = precision - _penalty(part, shares), precision @ found.levels

    def height(penalty: Doubles) -> float:
        both = information + penalty
        own = np.linalg.slogdet(penalty)[1] - np.linalg.slogdet(both)[1]
        return float(own + pull @ np.linalg.solve(both, pull))

    plain = np.full(len(part.tamed), part.most)
    return height(_penalty(part, shares)) - height(_penalty(part, plain))
