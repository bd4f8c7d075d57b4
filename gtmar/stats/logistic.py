"""Penalised logistic regression, and an additive model built on it, in numpy alone.

The optimum is unique, and is located far more precisely than results are rounded. So coefficients
depend on neither row order nor machine, though sums of doubles differ in their last digits.

In the additive model each feature has one part: a piecewise linear curve, or a level for each
category or bin, and a level for unknown values. The levels shape encoders and give bins points.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
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
#: Newton's steps end when the largest component is below the first; coefficients are rounded to
#: the second, decimals that are well above that error.
_ARRIVED, _DIGITS = 1e-7, 6
#: Log-odds are clipped to this size, where a probability is within 1e-15 of 0 or 1.
_MOST_LOGIT = 35.0
#: Relative change of the penalised log-likelihood that may be rounding error of its sum.
_NOISE = 1e-12
#: Relative difference of equal doubles that may come from the order in which they were summed.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Fit:
    """A fitted regression with P coefficients."""

    #: Change of the log-odds per unit of each predictor, shape (P,), rounded to six decimals.
    coefficients: Doubles
    #: Covariance of the coefficients, with the penalty as a prior, shape (P, P).
    covariance: Doubles
    #: Intercept and unrounded coefficients, shape (P + 1,): a start for another fit.
    solution: Doubles
    #: Whether this is the optimum: a whole step of Newton's from here is none. Else the steps
    #: ended before it, and nothing is proven by the coefficients.
    converged: bool


def fit_logistic(
    blocks: Blocks, penalty: Doubles, *, start: Doubles | None = None, arrived: float = _ARRIVED
) -> Fit:
    """Fit an intercept and P coefficients by penalised maximum likelihood.

    Parameters
    ----------
    blocks
        Called once per pass; yields the table in blocks of rows: predictors of shape (N, P) and
        outcomes of shape (N,), in [0, 1], not all 0 or all 1. A fraction is a part of an event.
    penalty
        Positive definite, shape (P, P): half of its quadratic form is subtracted from the
        log-likelihood.
    start
        Intercept and coefficients to begin with, shape (P + 1,); None for zeros. It changes only
        the cost.
    arrived
        Size of the largest component below which a step is the last one.

    Notes
    -----
    Newton's method on a strictly concave function; a step is halved until the function rises. Cost:
    some ten passes over the table, each of N x P^2 operations. McCullagh and Nelder, Generalized
    Linear Models, 1989, chapter 4; le Cessie and van Houwelingen, Ridge estimators in logistic
    regression, 1992.
    """
    width = len(penalty)
    whole = np.zeros((width + 1, width + 1))
    whole[1:, 1:] = penalty
    now = np.zeros(width + 1) if start is None else start
    height, slope, bend = _at(now, blocks, whole)
    converged = False
    for _ in range(_MOST_ROUNDS):
        step = np.linalg.solve(bend, slope)
        converged = bool(np.abs(step).max() < arrived)
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
    covariance = np.linalg.inv(bend)[1:, 1:].astype(np.float64)
    return Fit(rounded, covariance, now, converged)


def _at(coefficients: Doubles, blocks: Blocks, whole: Doubles) -> tuple[float, Doubles, Doubles]:
    """Return penalised log-likelihood, gradient and negated Hessian.

    `coefficients`, the intercept first, have shape (P + 1,).
    """
    pulled = whole @ coefficients
    height = -0.5 * float(coefficients @ pulled)
    slope, bend = -pulled, whole.copy()
    for predictors, outcomes in blocks():
        logit = np.clip(coefficients[0] + predictors @ coefficients[1:], -_MOST_LOGIT, _MOST_LOGIT)
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
        # A product of a matrix with its own transpose takes half the time of a general one.
        weighted = predictors * np.sqrt(spread)[:, None]
        bend[1:, 1:] += weighted.T @ weighted
    return height, slope, bend


# ---- the additive model --------------------------------------------------------------------------

#: Ridge penalty on every level, in units of information (accounts x chance x (1 - chance)). It
#: makes the optimum unique.
_RIDGE = 0.1
#: Smallest weight of a penalty form; largest one for lines and for other parts. The latter is
#: smaller, so that levels still differ in the result where accounts show no difference.
_LEAST, _MOST_OF_LINE, _MOST_OF_OTHERS = 1e-3, 1e6, 1e4
#: Estimating the weights: most rounds; the change of a weight's logarithm below which it has
#: settled, as a bend that stops half-way may look straight; the largest step that ends a fit on
#: the way; rounds of extrapolation after each fit.
_TAMINGS, _SETTLED, _ON_THE_WAY, _AHEAD = 40, 0.1, 0.03, 10
#: Effective degrees of freedom up to which a penalty form's share of the fit counts as none.
_NOTHING = 0.02
#: Twice the log-likelihood ratio above which a part is more than plain (straight, or all equal):
#: lines of noise, of 300 to 2,000 accounts, exceed it in 2 to 5 % of cases. And the squared z-score
#: above which a plain part has any effect: exceeded by chance in 5 %.
_BENT, _ANY = 2.0, 3.84
#: Probability that a table without steps shows one, at most; information, as of `_RIDGE`, that a
#: step must exceed to be tested; rounds of looking for steps, thus also the most steps of a line.
_BY_CHANCE, _LEAST_INFORMATION, _STEPPINGS = 0.05, 5.0, 8
#: Share of the largest eigenvalue up to which another one is 0 but for rounding.
_ROUNDED = 1e-9
#: Most cells, accounts x predictors, of a fit; predictors that each feature is assumed to have.
_MOST_CELLS, _PREDICTORS = 10_000_000, 16


@dataclass(frozen=True)
class Part:
    """One feature's part of the model: K predictors of N accounts, and how they are penalised.

    A part is plain if its levels are as simple as they can be: a straight line, or all equal.
    """

    #: Shape (N, K), in [0, 1].
    columns: Doubles
    #: Penalty forms: quadratic, shape (K, K), 0 for plain levels. The fit estimates their weights.
    tamed: tuple[Doubles, ...] = ()
    #: Shape (K,): the contrast in which plain levels differ, as the ends of a line do; None if
    #: plain levels are all equal.
    ends: Doubles | None = None
    #: Shape (K, J): maps the J coefficients of a straight line to K levels; None if not a line.
    line: Doubles | None = None
    #: Shape (S,), ascending: values from which on a line may step up or down.
    places: tuple[float, ...] = ()
    #: Shape (N,): how many of the `places` an account's value reaches; 0 if it is unknown.
    reached: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    #: Indices of the `places` where the line steps; the last predictors flag who has reached them.
    steps: tuple[int, ...] = ()
    #: Values among the `places` at which an earlier fit had a step.
    expected: tuple[float, ...] = ()

    @property
    def most(self) -> float:
        """The largest weight of a penalty form."""
        return _MOST_OF_OTHERS if self.line is None else _MOST_OF_LINE

    @cached_property
    def within(self) -> Doubles:
        """Shape (K, L): a basis of the subspace that any penalty form penalises, one form at least.

        The weights are estimated some hundred times over the same forms.
        """
        strengths, basis = np.linalg.eigh(np.sum(self.tamed, axis=0))
        return np.asarray(basis[:, strengths > _ROUNDED * strengths[-1]])

    @classmethod
    def of_flag(cls, x: Doubles) -> Part:
        """Return the part of a flag, shape (N,), NaN where unknown: a level for each of the two."""
        columns = np.stack([np.nan_to_num(x), np.isnan(x)], axis=1)
        return cls(columns, ends=np.array([1.0, 0.0]))

    @classmethod
    def of_groups(cls, members: Sequence[NDArray[Any]]) -> Part:
        """Return the part of K groups, N zeros and ones each; all levels are shrunk to 0."""
        return cls(_side_by_side(members), (np.eye(len(members)),))

    @classmethod
    def of_steps(cls, members: Sequence[NDArray[Any]], unknown: NDArray[np.bool_]) -> Part:
        """Return the part of ordered groups, each shrunk to its neighbours; the unknown if any."""
        steps = np.diff(np.eye(len(members)), axis=0)
        return cls._beside_unknown(_side_by_side(members), [steps], unknown)

    @classmethod
    def of_line(cls, x: Doubles, knots: Doubles, places: Sequence[float] = ()) -> Part:
        """Return the part of a line that may bend at K - 2 inner knots, and the unknown if any.

        `x` has shape (N,), NaN where unknown. `knots`, shape (K,), ascend; beyond the first and
        last the line is flat. Bends at or beside a knot whose value many accounts share have a
        penalty form of their own, as the line may be steep there. The fit may add a step at each of
        the `places`, ascending.
        """
        unknown = np.isnan(x)
        inside = np.where(unknown, knots[0], x)
        pieces = [np.interp(inside, knots, one) for one in np.eye(len(knots))]
        columns = _side_by_side(pieces) * ~unknown[:, None]
        # A bend is a knot's distance from the line through its neighbours, so that knots close
        # together may bend as freely as those far apart.
        bends = np.zeros((max(0, len(knots) - 2), len(knots)))
        for i, (before, after) in enumerate(pairwise(np.diff(knots))):
            beside = after / (before + after)
            bends[i, i : i + 3] = -beside, 1, beside - 1
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
        """Penalise squares of the differences `plain`, (L, K) each, scaled to norm 1 at most."""
        forms = [own.T @ own for own in plain]
        forms = [form / max(float(np.linalg.norm(form, 2)), 1.0) for form in forms]
        if unknown.any():
            columns = np.column_stack([columns, unknown])
            forms = [np.pad(form, (0, 1)) for form in forms]
        return cls(columns, tuple(forms))

    def stepped(self, index: int) -> Part:
        """Return the line with an unpenalised step at `places[place]`."""
        assert self.ends is not None  # it is a line
        assert self.line is not None
        line = np.pad(self.line, (0, 1))
        line[-1, -1] = 1
        return replace(
            self,
            columns=np.column_stack([self.columns, self.reached > index]),
            tamed=tuple(np.pad(form, (0, 1)) for form in self.tamed),
            ends=np.append(self.ends, 0),
            line=line,
            steps=(*self.steps, index),
        )

    def turned(self, levels: Doubles, y: Doubles) -> Doubles:
        """Return levels, shape (K,), negated if this part alone falls as the outcome rises."""
        return -levels if correlation(self.columns @ levels, y) < 0 else levels


def correlation(x: Doubles, y: Doubles) -> float:
    """Return Pearson's correlation over pairs known on both sides; 0 if either doesn't vary."""
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    if len(x) < 2 or not min(np.ptp(x) > _ROUNDING * np.abs(x).max(), np.ptp(y)):
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _side_by_side(columns: Sequence[NDArray[Any]]) -> Doubles:
    return np.stack(columns, axis=1).astype(np.float64)


def every_so_many(accounts: int, features: int) -> int:
    """Return the stride at which to sample accounts, so that the fit stays small; 1 for all."""
    return max(1, -(-accounts * features * _PREDICTORS // _MOST_CELLS))


@dataclass(frozen=True)
class Levels:
    """The fitted levels of one part."""

    #: Log-odds of its K predictors, shape (K,), to six decimals; the sign is such that the part
    #: alone rises with the outcome.
    levels: Doubles
    #: Whether the levels are proven to differ at all, given the other parts; by no fit that ended
    #: before its optimum.
    proven: bool = False
    #: For a line: the log-odds that each step adds from a value on, by that value.
    steps: Mapping[float, float] = field(default_factory=dict)


def fit_levels(parts: list[Part], y: Doubles, *, repeats: float = 1.0) -> list[Levels]:
    """Fit all parts, of N accounts each, together to outcomes, shape (N,), NaN where unknown.

    More of the outcome is better; it is scaled to [0, 1]. Levels are all 0 if the outcome doesn't
    vary. `repeats` is the average number of rows of one account among the N; evidence must be so
    many times stronger to prove an effect.

    Notes
    -----
    Restricted maximum likelihood estimates the weight of each penalty, so that lines bend and
    categories differ as far as the accounts show it. A line that isn't proven to bend is straight.
    A smooth curve would turn a step into a slope, so steps are tested separately; a line with a
    step keeps its bends, proven or not. Cost: 10 to 40 passes over the parts. Wood and Fasiolo, A
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
    # A line with a step isn't straight anyway.
    bent = [
        bool(part.steps) or (bool(part.tamed) and _beyond_plain(part, own, each) > _BENT * repeats)
        for part, own, each in zip(parts, tamed.fit_shares, tamed.estimates, strict=True)
    ]
    # A line that isn't proven to bend is fitted as a straight one, with the ridge penalty alone.
    forms = [
        (np.eye(part.columns.shape[1]), _penalty(part, own))
        if part.line is None or more
        else (part.line, _RIDGE * np.eye(part.line.shape[1]))
        for part, own, more in zip(parts, tamed.shares, bent, strict=True)
    ]
    straight = [part.columns[known] @ line for part, (line, _) in zip(parts, forms, strict=True)]
    table = np.concatenate(straight, axis=1)
    # Start near the optimum: at the straight line closest to the levels of the last fit.
    near = [
        np.linalg.lstsq(line, tamed.fit.solution[1:][at])[0]
        for (line, _), at in zip(forms, tamed.places, strict=True)
    ]
    start = np.concatenate([tamed.fit.solution[:1], *near])
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
        steps = {part.places[index]: height for index, height in heights}
        levels.append(Levels(turned[:count], proven and fit.converged, steps))
    return levels


@dataclass(frozen=True)
class _Tamed:
    """A fit of all parts, with penalty weights by restricted maximum likelihood."""

    fit: Fit
    #: Predictors of all parts, shape (N, P), and the columns of each part among them.
    table: Doubles
    places: list[slice]
    #: Weights of each part's penalty forms: in the penalty of this fit, and re-estimated from it.
    fit_shares: list[Doubles]
    shares: list[Doubles]
    estimates: list[_Estimate]


def _tamed(
    parts: Sequence[Part],
    shares: list[Doubles],
    known: NDArray[np.bool_],
    outcome: Doubles,
    start: Doubles | None,
) -> _Tamed:
    """Fit parts to the outcomes of the `known` accounts, beginning with the weights `shares`."""
    places = _places([part.columns.shape[1] for part in parts])
    table = np.concatenate([part.columns[known] for part in parts], axis=1)
    for _ in range(_TAMINGS):
        penalty = _diagonal(list(map(_penalty, parts, shares)))
        fit = fit_logistic(lambda: [(table, outcome)], penalty, start=start, arrived=_ON_THE_WAY)
        start, new_shares = fit.solution, shares
        estimates = [_Estimate(fit.coefficients[at], fit.covariance[at, at]) for at in places]
        shares = list(map(_shares, parts, new_shares, estimates))
        if _moved(new_shares, shares) < _SETTLED:
            break
        # Extrapolate the weights on a quadratic approximation, which needs no pass over the table.
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
    return _Tamed(fit, table, places, new_shares, shares, estimates)


def _moved(before: Sequence[Doubles], after: Sequence[Doubles]) -> float:
    """Return the largest change of a weight's logarithm."""
    moved = [np.abs(np.log(one / two)) for one, two in zip(after, before, strict=True)]
    return float(np.concatenate(moved).max(initial=0))


def _stepped(
    parts: list[Part], known: NDArray[np.bool_], outcome: Doubles, repeats: float
) -> tuple[list[Part], _Tamed]:
    """Return the parts with their proven steps added, and the fit of these."""
    tamed = _tamed(parts, [np.ones(len(part.tamed)) for part in parts], known, outcome, None)
    for _ in range(_STEPPINGS):
        steps = _steps(parts, tamed, known, outcome, repeats)
        if not steps:
            break
        start = np.insert(tamed.fit.solution, [1 + tamed.places[where].stop for where in steps], 0)
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
    """Return the indices of the places where lines are proven to step, at most one each, by part.

    Rao's score test, given all parts and the steps proven before. Bonferroni's correction over all
    places of the table limits the probability of any false step to a twentieth. A step that is
    expected is one question, with a twentieth of its own, and is asked first.
    """
    reached = {n: part.reached[known] for n, part in enumerate(parts) if part.places}
    if not reached:
        return {}
    logit = tamed.fit.solution[0] + tamed.table @ tamed.fit.solution[1:]
    chance = 1 / (1 + np.exp(-np.clip(logit, -_MOST_LOGIT, _MOST_LOGIT)))
    spread, rest = chance * (1 - chance), outcome - chance
    weighted = np.ascontiguousarray(tamed.table.T) * spread
    mean = weighted.sum(axis=1) / spread.sum()
    candidates, asked, tried = {}, [], 0
    for where, own in reached.items():
        count = 1 + len(parts[where].places)
        sums = np.stack([np.bincount(own, each, count) for each in (rest, spread, *weighted)])
        # Accounts that reach a later place have reached this one, too: sums from the last down.
        pull, size, *cross = sums[:, :0:-1].cumsum(axis=1)[:, ::-1]
        apart = np.stack(cross) - np.outer(mean, size)
        left = size - size**2 / spread.sum() - (apart * (tamed.fit.covariance @ apart)).sum(axis=0)
        squares = _squares(pull, left)
        expected = np.isin(parts[where].places, parts[where].expected) & (squares > repeats * _ANY)
        asked.append(bool(expected.any()))
        candidates[where] = int((squares * expected if asked[-1] else squares).argmax())
        tried += int((left > _LEAST_INFORMATION).sum())
    found = NormalDist().inv_cdf(1 - _BY_CHANCE / max(1, tried) / 2) ** 2
    enough = repeats * np.where(asked, _ANY, found)
    # Accept steps one by one, and test the others given those that are accepted.
    table = np.stack(
        [reached[n] > reached_index for n, reached_index in candidates.items()], axis=1
    ).astype(float)
    pull, size = rest @ table, spread @ table
    apart = weighted @ table - np.outer(mean, size)
    left = (table.T * spread) @ table - np.outer(size, size) / spread.sum()
    left -= apart.T @ tamed.fit.covariance @ apart
    steps = {}
    while ((squares := _squares(pull, np.diag(left))) > enough).any():
        number = int((squares * (squares > enough)).argmax())
        where = [*candidates][number]
        steps[where] = candidates[where]
        share = left[number] / left[number, number]
        pull, left = pull - share * pull[number], left - np.outer(share, left[number])
    return steps


def _squares(pull: Doubles, left: Doubles) -> Doubles:
    """Return squared z-scores; 0 where there is too little information."""
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
    for at, block in zip(places, blocks, strict=True):
        whole[at, at] = block
    return whole


def _penalty(part: Part, shares: Doubles) -> Doubles:
    whole = _RIDGE * np.eye(part.columns.shape[1])
    for form, share in zip(part.tamed, shares, strict=True):
        whole += share * form
    return whole


def _shares(part: Part, shares: Doubles, estimate: _Estimate) -> Doubles:
    """Return new weights of a part's penalty forms, by one step of Fellner and Schall's method."""
    if not part.tamed:
        return shares
    within = part.within
    inverse = np.linalg.inv(within.T @ (_penalty(part, shares) @ within))
    new_shares = []
    for form, share in zip(part.tamed, shares, strict=True):
        size = float(estimate.levels @ form @ estimate.levels)
        free = share * float(((within @ inverse @ within.T - estimate.covariance) * form).sum())
        differ = size * part.most > free > _NOTHING
        new_shares.append(max(_LEAST, free / size) if differ else part.most)
    return np.array(new_shares)


def _beyond_plain(part: Part, shares: Doubles, estimate: _Estimate) -> float:
    """Return twice the log-likelihood ratio of a part's levels to those with the largest weights.

    It is of the restricted likelihood, approximated as normal around the levels.
    """
    precision = np.linalg.inv(estimate.covariance)
    information, pull = precision - _penalty(part, shares), precision @ estimate.levels

    def height(penalty: Doubles) -> float:
        both = information + penalty
        own = np.linalg.slogdet(penalty)[1] - np.linalg.slogdet(both)[1]
        return float(own + pull @ np.linalg.solve(both, pull))

    plain = np.full(len(part.tamed), part.most)
    return height(_penalty(part, shares)) - height(_penalty(part, plain))
