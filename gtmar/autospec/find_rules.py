"""Rules of two or three conditions that a sum of points misses: found, proven, put into words.

A sum of points says what each column says by itself. What two of them say together is looked for in
what the columns' curves and steps leave over; a rule stays only where chance doesn't reach as far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gtmar.autospec.leakage import area
from gtmar.spec.rule import Condition, Rule
from gtmar.stats.interplay import LevelColumns, Predicted, proven_corners
from gtmar.stats.logistic import correlation, fit_logistic
from gtmar.stats.paired_auc import folded_difference, placed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from gtmar.autospec.fit_encoders import Fitted
    from gtmar.stats.logistic import Fit

    Doubles = NDArray[np.float64]

__all__ = [
    "FoundRule",
    "WeightedRule",
    "find_rules",
    "rule_names",
    "rules_that_pay",
    "spoken",
    "weigh_rules",
]

#: A number is cut at its tenths; a list of categories has no more than so many.
_PARTS, _MOST_LISTED = 10, 4
#: A category's mean outcome is drawn to that of all as if so many average accounts were in it.
_SHRINKAGE = 20
#: A rule holds for at least so many accounts and this share of them, and doesn't for as many.
_LEAST, _LEAST_SHARE = 20, 0.005
#: What the coefficient of a spec's feature and of a rule is drawn to nothing by.
_RIDGES = {"term": 0.1, "rule": 2.0}
#: Least and most that levels are drawn so, rounds of finding it, and when it has settled.
_LEAST_SHARED, _MOST_SHARED, _ROUNDS, _SETTLED = 0.5, 1e4, 8, 0.2
#: Gain in log-likelihood that each number and category of a rule must bring.
_WORD = 1.0
#: A corner is proven where its score is above all but so many of the best scores of 149 tables of
#: random outcomes: by chance in 2 % of tables for the first rule. Where one is proven there is
#: interplay, and the next may come by chance in 5 %, as each has to pay, too.
_ABOVE_FIRST, _ABOVE_NEXT = 3, 7
#: Of proven corners so many are fitted beside the spec's weights.
_MOST_FITTED = 250
#: Of these so many are grown by a third condition, which must raise the likelihood of unseen
#: outcomes by so many standard errors.
_MOST_GROWN, _SURE = 100, 1.5
#: It isn't asked where a third condition gains less where it was found, and pairs are grown so many
#: at a time.
_WORTH_ASKING, _AT_ONCE = 2.0, 25
#: A rule must put in order accounts to which nothing was fitted, in so many folds.
_FOLDS = 5
#: Predictors of accounts that are fitted at most, and accounts of pairs of columns.
_MOST_CELLS, _MOST_PAIRED = 8_000_000, 20_000_000


@dataclass(frozen=True)
class FoundRule:
    """A rule, and the share of tables without interplay whose best rule seems as good."""

    rule: Rule
    p: float


@dataclass(frozen=True)
class WeightedRule:
    """A rule's first points, and what was measured of it, for people."""

    weight: int
    comment: str


def spoken(low: float, high: float, near: float) -> float:
    """Return the plainest number above `low`, up to `high`: few digits, then fives and twos.

    Of equally plain ones it is the nearest to `near`.

    Examples
    --------
    >>> spoken(4.6, 5.2, 4.8731), spoken(17, 23, 18), spoken(0.47, 0.512, 0.5), spoken(2, 3, 3)
    (5.0, 20.0, 0.5, 3.0)
    """
    size = max(abs(low), abs(high))
    top = math.ceil(math.log10(size)) if size else 0
    for power in range(top, top - 17, -1):
        for step in (10, 5, 2, 1):
            unit = step * 10.0**power / 10
            places = (round(near / unit), math.floor(high / unit), math.ceil(low / unit))
            for place in places:
                number = float(f"{place * unit:.15g}")
                if low < number <= high:
                    return number + 0.0
    return high


def find_rules(
    frame: pl.DataFrame,
    fitted: Mapping[str, Fitted],
    encoded: Callable[[tuple[Rule, ...]], Doubles],
    y: Doubles,
    *,
    most: int,
    groups: NDArray[np.intp] | None = None,
) -> list[FoundRule]:
    """Find rules of two or three conditions that say more than the spec's features by themselves.

    Parameters
    ----------
    frame, fitted
        The search part, N accounts, and what each of its features is.
    encoded
        Gives the spec's values, shape (N, F), in [0, 1], by encoders fitted beside some rules.
    y
        Outcomes, shape (N,), more being better, NaN where unknown.
    most
        Rules wanted at most.
    groups
        A number for each account from 0, shape (N,), the same for those that are copies of one
        another or one account on several dates, of whom one is taken; None if each is its own.

    Returns
    -------
    list of FoundRule
        The best first; none where chance explains as much.

    Notes
    -----
    One rule after another is sought beside those already found, and beside encoders fitted anew
    with these. Which corners are proven is asked of a model that has the levels of every column, so
    that a bend isn't taken for interplay: the first rule's in 2 % of tables by chance, the next, in
    tables that have interplay, in 5 %. Among them the one is taken that raises the likelihood of
    the spec's own features most, less a penalty for each number and category to read; so of a
    corner and its three neighbours, which say the same interplay, it is the one that helps here. A
    third condition is taken where rules with one foretell unseen outcomes better. Cost: 2 s a rule
    for 20 columns and 5,000 accounts, 6 s for 60.
    """
    known = ~np.isnan(y)
    if len(np.unique(y[known])) < 2:
        return []
    sides = {name: _CutColumn.of(frame[name], each, y) for name, each in fitted.items()}
    parts = [each.levels for each in sides.values()]
    predictors = sum(part.sides.shape[1] for part in parts)
    pairs = len(parts) * (len(parts) - 1) // 2
    apart = max(-(-len(y) * predictors // _MOST_CELLS), -(-len(y) * pairs // _MOST_PAIRED), 1)
    chosen = np.flatnonzero(known)
    chosen = (chosen if groups is None else chosen[_one_of_each(groups[chosen])])[::apart]
    low, high = y[known].min(), y[known].max()
    search = _Search(
        [LevelColumns(part.codes[chosen], part.sides) for part in parts],
        [each.conditions for each in sides.values()],
        encoded(())[chosen],
        (y[chosen] - low) / (high - low),
    )
    found: list[_Found] = []
    while len(found) < most and (more := search.next(found)):
        found.append(more)
        if len(found) < most:
            beside = encoded(tuple(map(search.rule, found)))
            search = replace(search, encoded=beside[chosen])
    return [FoundRule(search.rule(each), each.p) for each in found]


def rules_that_pay(
    encoded: Callable[[NDArray[np.bool_]], Doubles],
    holds: NDArray[np.bool_],
    y: Doubles,
    groups: NDArray[np.intp] | None = None,
) -> int:
    """Return how many rules, the first ones, put unseen accounts in a better order.

    Interplay may be proven and yet change nobody's rank, where it is strong at one end of the
    scores. Each rule must raise the AUC by more than that gain's standard error, in folds that
    neither encoders nor weights were fitted to. Of outcomes other than 0 and 1, whose likelihood
    goes by their ranks, all rules stay.

    Parameters
    ----------
    encoded
        Gives N accounts' values, shape (N, F), by encoders fitted to some of them.
    holds, y, groups
        For whom R rules hold, shape (N, R), outcomes, and who is like whom, as for `find_rules`.
    """
    known = ~np.isnan(y)
    if not np.isin(y[known], (0, 1)).all():
        return int(holds.shape[1])
    positive = y == 1
    fold_of = (np.arange(len(y)) if groups is None else groups) % _FOLDS
    by_count: list[list[tuple[Doubles, Doubles]]] = [[] for _ in range(holds.shape[1] + 1)]
    for fold in range(_FOLDS):
        out, others = known & (fold_of == fold), known & (fold_of != fold)
        if any(len(np.unique(positive[part])) < 2 for part in (out, others)):
            return 0
        features = encoded(others)
        for rules, folds in enumerate(by_count):
            table = np.column_stack([features, holds[:, :rules]])
            fit = _fitted(table[others], y[others], rules)
            folds.append(placed(table[out] @ fit.coefficients, positive[out]))
    for rules, (before, after) in enumerate(pairwise(by_count)):
        gain, error = folded_difference(before, after)
        if gain <= error:
            return rules
    return int(holds.shape[1])


def _fitted(table: Doubles, outcome: Doubles, rules: int) -> Fit:
    """Fit slopes of a table whose last columns are rules, shape (N, F + R)."""
    count = table.shape[1] - rules
    ridges = np.repeat([_RIDGES["term"], _RIDGES["rule"]], [count, rules])
    return fit_logistic(lambda: [(table, outcome)], np.diag(ridges))


def weigh_rules(
    found: Sequence[FoundRule],
    holds: NDArray[np.bool_],
    encoded: Doubles,
    y: Doubles,
    *,
    alone: Doubles,
    weights: Doubles,
    bound: int,
    oriented: str,
) -> list[WeightedRule]:
    """Give rules points beside a spec's weights, and say what each is worth.

    Parameters
    ----------
    found, holds
        R rules, and for whom they hold, shape (N, R).
    encoded, y
        The spec's encoded values, shape (N, F), in [0, 1], and outcomes as for `find_rules`.
    alone
        Encoded values as they would be without rules, shape (N, F): what these are held against.
    weights, bound
        The spec's weights, shape (F,), in points, and how many points a rule has at most.
    oriented
        What more of the outcome means, such as retention.

    Notes
    -----
    All F + R slopes are fitted together. A rule's is brought to points by the spread that the
    spec's own weights give scores, over that of the fitted sum of its features.
    """
    known = ~np.isnan(y)
    outcome, holds = y[known], holds[known]
    binary = len(np.unique(outcome)) == 2
    outcome = (outcome - outcome.min()) / (outcome.max() - outcome.min())

    def fitted(features: Doubles, rules: int) -> tuple[Doubles, Doubles]:
        """Return slopes, and the log-odds that they give, shape (N,)."""
        table = np.column_stack([features[known], holds[:, :rules]])
        fit = _fitted(table, outcome, rules)
        return fit.coefficients, fit.place[0] + table @ fit.place[1:]

    sums = [fitted(alone, rules)[1] for rules in range(len(found) + 1)]
    worth = [area(each, outcome == 1) if binary else correlation(each, outcome) for each in sums]
    expected = 1 / (1 + np.exp(-sums[0]))
    own, rules = np.split(fitted(encoded, len(found))[0], [encoded.shape[1]])
    spread = float((encoded[known] @ own).std())
    scale = float((encoded[known] @ weights).std()) / spread if spread else 0.0
    weighted = []
    for number, (each, slope) in enumerate(zip(found, rules.tolist(), strict=True)):
        inside = holds[:, number] == 1
        means = outcome[inside].mean(), outcome[~inside].mean(), expected[inside].mean()
        got, others, due = (f"{mean:.1%}" if binary else f"rank {mean:.2f}" for mean in means)
        weight = int(np.clip(math.floor(slope * scale + 0.5) or np.sign(slope), -bound, bound))
        comment = (
            f"holds for {inside.sum():,} of {len(inside):,} accounts: {oriented} {got}, others "
            f"{others}; p = {each.p:.2g}\n"
            f"from the columns alone {due} is expected; with the rule "
            f"{worth[number + 1] - worth[number]:+.4f} {'AUC' if binary else 'correlation'} here"
        )
        weighted.append(WeightedRule(weight, comment))
    return weighted


def rule_names(rules: Sequence[Rule], taken: Collection[str]) -> list[str]:
    """Name rules by their columns, each name once and none of those taken."""
    names: list[str] = []
    for rule in rules:
        blank = " " if any(" " in column for column in rule.columns) else "_"
        name = f"{blank}and{blank}".join(rule.columns)
        counted = (name, *(f"{name}{blank}{number}" for number in range(2, len(taken) + 99)))
        names.append(next(each for each in counted if each not in taken and each not in names))
    return names


def _one_of_each(groups: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return where one of each group stands, in order: of one the first, of the next the second."""
    order = np.argsort(groups, kind="stable")
    _, begins, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    return np.sort(order[begins + np.arange(len(sizes)) % sizes])


#: Sides of columns, each a column and a side of it by number: who is on all of them.
_Sides = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Found:
    """What a rule asks for, and the share of tables without interplay that seem to have as much."""

    sides: _Sides
    p: float


@dataclass(frozen=True)
class _Search:
    """The accounts that rules are sought among: columns cut, features encoded, outcomes."""

    columns: Sequence[LevelColumns]
    conditions: Sequence[Sequence[Condition]]
    encoded: Doubles
    outcome: Doubles

    def members(self, sides: _Sides) -> Doubles:
        """Return who is on all of some sides, shape (N,), ones and zeros."""
        return reduce(np.multiply, [self.columns[column].members(side) for column, side in sides])

    def rule(self, found: _Found) -> Rule:
        return Rule(tuple(self.conditions[column][side] for column, side in found.sides))

    def next(self, before: Sequence[_Found]) -> _Found | None:
        """Return the proven rule that helps most beside those before; None if there is none."""
        known = [each.sides for each in before]
        above = _ABOVE_NEXT if before else _ABOVE_FIRST
        fine = self._fine(known)
        proven = proven_corners(self.columns, fine, self.least, above=above)[:_MOST_FITTED]
        corners = {tuple(zip(each.columns, each.sides, strict=True)): each.p for each in proven}
        model = self._coarse(known)
        if not (pairs := self._ranked(list(corners), model)[:_MOST_GROWN]):
            return None
        three = self._ranked(self._grown([sides for _, sides in pairs], model), model)
        (worth, best), grown = pairs[0], three[:1]
        if grown and grown[0][0] > worth + _WORTH_ASKING:
            best = grown[0][1] if self._third_pays([own for _, own in pairs], known) else best
        # Of a rule of three, the corner that it was grown from.
        return _Found(best, min(p for sides, p in corners.items() if {*sides} <= {*best}))

    @property
    def least(self) -> float:
        """How many accounts a rule holds for, and doesn't, at least."""
        return max(_LEAST, _LEAST_SHARE * len(self.outcome))

    def _ranked(self, candidates: Sequence[_Sides], model: Predicted) -> list[tuple[float, _Sides]]:
        """Return those that a person believes, by gain in likelihood less a penalty a word.

        Nobody would believe points where the outcome is worse than elsewhere, or the reverse.
        """
        if not candidates:
            return []
        members = np.stack([self.members(sides) for sides in candidates])
        inside, off = members @ self.outcome, members @ (self.outcome - model.chance)
        own_way = (inside > self.outcome.mean() * members.sum(axis=1)) == (off > 0)
        words = [
            sum(len(self.conditions[column][side].categories) or 1 for column, side in sides)
            for sides in candidates
        ]
        worth = np.round(model.gains(members, _RIDGES["rule"]) - _WORD * np.array(words), 6)
        order = np.argsort(-worth, kind="stable")
        return [(float(worth[at]), candidates[at]) for at in order if own_way[at]]

    def _grown(self, pairs: Sequence[_Sides], model: Predicted) -> list[_Sides]:
        """Return the most promising rules that have a third condition beside one of the pairs.

        By how far its accounts' outcomes are off, as if nothing else changed, which is exact enough
        to leave the others out. It holds for fewer than the pair does.
        """
        each = np.stack(
            [self.outcome - model.chance, model.information, np.ones_like(model.chance)]
        )
        levels = np.concatenate([column.indicators() for column in self.columns], axis=1)
        ends = np.cumsum([column.sides.shape[1] for column in self.columns])[:-1]
        found: dict[_Sides, float] = {}
        for begin in range(0, len(pairs), _AT_ONCE):
            some = pairs[begin : begin + _AT_ONCE]
            rows = np.concatenate([each * self.members(pair) for pair in some])
            for pair, both in zip(some, np.split(rows @ levels, len(some)), strict=True):
                for column, sums in enumerate(np.split(both, ends, axis=1)):
                    if column in dict(pair):
                        continue
                    off, known, size = sums @ self.columns[column].sides.T
                    worth = np.round(off**2 / (known + _RIDGES["rule"]) / 2, 6)
                    enough = (size >= self.least) & (size < sums[2].sum())
                    for side in np.flatnonzero(enough).tolist():
                        found[tuple(sorted((*pair, (column, side))))] = float(worth[side])
        return sorted(found, key=lambda sides: (-found[sides], sides))[:_MOST_FITTED]

    def _third_pays(self, pairs: Sequence[_Sides], before: Sequence[_Sides]) -> bool:
        """Whether a rule of three conditions foretells unseen outcomes better than one of two.

        Both are chosen in each of the folds from the other accounts alone, so that a third
        condition made of chance foretells worse.
        """
        fold_of = np.arange(len(self.outcome)) % _FOLDS
        gained = []
        for fold in range(_FOLDS):
            seen, unseen = self._part(fold_of != fold), self._part(fold_of == fold)
            if np.ptp(seen.outcome) == 0:
                return False
            model, heights = seen._coarse(before), []
            for candidates in (pairs, seen._grown(pairs, model)):
                if not (ranked := seen._ranked(candidates, model)):
                    return False
                rules = [*before, ranked[0][1]]
                fit = _fitted(seen._table(rules), seen.outcome, len(rules))
                heights.append(unseen._heights(fit, rules))
            gained.append(heights[1] - heights[0])
        gain = np.concatenate(gained)
        return bool(gain.sum() > _SURE * np.sqrt(len(gain)) * gain.std())

    def _part(self, some: NDArray[np.bool_]) -> _Search:
        columns = [LevelColumns(each.codes[some], each.sides) for each in self.columns]
        return _Search(columns, self.conditions, self.encoded[some], self.outcome[some])

    def _table(self, rules: Sequence[_Sides]) -> Doubles:
        return np.column_stack([self.encoded, *map(self.members, rules)])

    def _coarse(self, before: Sequence[_Sides]) -> Predicted:
        """Fit the spec's features and the rules."""
        table = self._table(before)
        ridges = [_RIDGES["term"], _RIDGES["rule"]]
        penalty = np.repeat(ridges, [self.encoded.shape[1], len(before)])
        return self._predicted(table, penalty, _fitted(table, self.outcome, len(before)))

    def _heights(self, fit: Fit, rules: Sequence[_Sides]) -> Doubles:
        """Return each account's log-likelihood by a fit to features and rules, shape (N,)."""
        logit = fit.place[0] + self._table(rules) @ fit.place[1:]
        return np.asarray(self.outcome * logit - np.logaddexp(0, logit))

    def _fine(self, before: Sequence[_Sides]) -> Predicted:
        """Fit levels of all columns and the rules, levels drawn to nothing as far as they say so.

        The spec's encoders, whose shapes know these outcomes, would take chance for less than it
        is. Wood and Fasiolo (2017) as in `fit_levels`, one share for all levels of all columns.
        """
        rules = [self.members(sides)[:, None] for sides in before]
        table = np.concatenate([each.indicators() for each in self.columns] + rules, axis=1)
        level = np.arange(table.shape[1]) < table.shape[1] - len(rules)
        start, share = None, 10 * _LEAST_SHARED
        for _ in range(_ROUNDS):
            penalty = np.where(level, share, _RIDGES["rule"])
            fit = fit_logistic(lambda: [(table, self.outcome)], np.diag(penalty), start=start)
            start, before_it = fit.place, share
            free = level.sum() - share * np.diag(fit.covariance)[level].sum()
            size = share * float((fit.coefficients[level] ** 2).sum())
            # Twice the step, as each goes less than half of the way.
            step = free / size if size * _MOST_SHARED > free else _MOST_SHARED
            share = float(np.clip(share * step**2, _LEAST_SHARED, _MOST_SHARED))
            if abs(np.log(share / before_it)) < _SETTLED:
                break
        return self._predicted(table, penalty, fit)

    def _predicted(self, table: Doubles, penalty: Doubles, fit: Fit) -> Predicted:
        chance = 1 / (1 + np.exp(-(fit.place[0] + table @ fit.place[1:])))
        constant = np.column_stack([np.ones(len(table)), table])
        return Predicted(constant, np.append(0, penalty), chance, self.outcome)


@dataclass(frozen=True)
class _CutColumn:
    """A column cut into levels, and the condition that each of its sides is."""

    levels: LevelColumns
    conditions: list[Condition]

    @classmethod
    def of(cls, column: pl.Series, fitted: Fitted, y: Doubles) -> _CutColumn:
        """Cut a number at plain numbers near its tenths, or take categories one by one."""
        name = column.name
        if fitted.kind == "categories":
            text = column.cast(pl.String).str.strip_chars(" ")
            names = _ordered(text, fitted.listed, y)
            place = {each: at for at, each in enumerate(names)}
            codes = text.replace_strict(place, default=len(names), return_dtype=pl.Int64)
            lists = {names[:many] for many in range(1, _MOST_LISTED + 1)}
            lists |= {names[-many:] for many in range(1, _MOST_LISTED + 1)}
            lists |= {(each,) for each in names}
            taken = [
                (
                    Condition(name, operator, some),
                    [(at in some) == (operator == "in") for at in (*names, "")],
                )
                for some in sorted(lists - {()})
                for operator in ("in", "not in")
            ]
            unknown = text.is_null().to_numpy()
            return cls._beside_unknown(name, codes.to_numpy().astype(np.intp), unknown, taken)
        x = column.cast(pl.Float64).to_numpy()
        unknown = np.isnan(x)
        flag = fitted.kind == "flag"
        cuts = [1.0] if flag else _cuts(x[~unknown])
        below = np.arange(len(cuts) + 1)[None, :] <= np.arange(len(cuts))[:, None]
        taken = []
        for cut, levels in zip(cuts, below, strict=True):
            taken.append((Condition(name, *("=", 0.0) if flag else ("<", cut)), levels))
            taken.append((Condition(name, *("=", 1.0) if flag else (">=", cut)), ~levels))
        return cls._beside_unknown(name, np.searchsorted(cuts, x, side="right"), unknown, taken)

    @classmethod
    def _beside_unknown(
        cls,
        name: str,
        codes: NDArray[np.intp],
        unknown: NDArray[np.bool_],
        taken: Sequence[tuple[Condition, Sequence[bool] | NDArray[np.bool_]]],
    ) -> _CutColumn:
        """Add the level of the unknown, which keeps no condition but its own."""
        known = len(taken[0][1])
        sides = [[*levels, False] for _, levels in taken]
        sides += [[missing ^ (at < known) for at in range(known + 1)] for missing in (False, True)]
        own = [Condition(name, f"is {word}missing") for word in ("not ", "")]
        codes = np.where(unknown, known, codes)
        return cls(
            LevelColumns(codes, np.array(sides, dtype=np.float64)), [c for c, _ in taken] + own
        )


def _ordered(text: pl.Series, listed: Sequence[str], y: Doubles) -> tuple[str, ...]:
    """Return categories by their mean outcome, the worst first."""
    mean = float(np.nanmean(y))
    frame = pl.DataFrame({"name": text, "y": y}).fill_nan(None).drop_nulls()
    rates = frame.group_by("name").agg(
        (pl.col("y").sum() + _SHRINKAGE * mean) / (pl.len() + _SHRINKAGE)
    )
    found = dict(rates.iter_rows())
    return tuple(sorted(listed, key=lambda name: (round(found.get(name, mean), 9), name)))


def _cuts(known: Doubles) -> list[float]:
    """Return plain numbers near the tenths of known values, N in any order, that part them."""
    values, counts = np.unique(known, return_counts=True)
    # How many accounts lie below each value but the first: where a cut may be.
    below = np.cumsum(counts)[:-1]
    few = len(values) <= _PARTS
    share = np.arange(1, len(values)) if few else below / len(known) * _PARTS
    nearest = np.floor(share + 0.5)
    cuts = []
    for tenth in np.unique(nearest):
        if few or 0 < tenth < _PARTS:
            at = np.flatnonzero(nearest == tenth)
            middle = at[np.abs(share[at] - tenth).argmin()]
            cuts.append(spoken(values[at[0]], values[at[-1] + 1], values[middle + 1]))
    return cuts
