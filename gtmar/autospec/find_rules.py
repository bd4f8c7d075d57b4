"""Rules and tables of two columns that a sum of points misses: found, proven, put into words.

A sum of points says what each column says by itself. What two of them say together is looked for in
what the columns' curves and steps leave over; a rule stays only where chance doesn't reach as far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar.autospec.leakage import area
from gtmar.spec.encoders import TABLE_SIDE, TableEncoder
from gtmar.spec.rule import Condition, Rule
from gtmar.stats.cells import CellGroups, best_cells
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
    "rule_of_columns",
    "rules_that_pay",
    "spoken",
    "weigh_rules",
]

#: A number is cut at its tenths; a list of categories has no more than so many.
_PARTS, _MOST_LISTED = 10, 4
#: For a table it is cut into parts of so many accounts each, into ten at least and 32 at most;
#: a table names each of its categories, so there is none of a column with more than fifty.
_ACCOUNTS_OF_PART, _MOST_PARTS, _MOST_NAMED = 500, 32, 50
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
#: Tables are made of so many pairs of columns, those with the best corners. They have more cells
#: than a rule parts, and several times its numbers to read, so they are held to twice the proof.
_MOST_TABLES, _CELLS_OF_RULE, _SURE_OF_TABLE = 6, 4, 3.0
#: Where one is proven so, the next must be proven as a third condition is.
_SURE_OF_NEXT = 1.5
#: It isn't asked where a third condition gains less where it was found, and pairs are grown so many
#: at a time.
_WORTH_ASKING, _AT_ONCE = 2.0, 25
#: A rule must put in order accounts to which nothing was fitted, in so many folds.
_FOLDS = 5
#: Predictors of accounts that are fitted at most, and accounts of pairs of columns.
_MOST_CELLS, _MOST_PAIRED = 8_000_000, 20_000_000


@dataclass(frozen=True)
class FoundRule:
    """A rule or a table, and the share of data without interplay whose best rule seems as good.

    A table's values aren't known yet.
    """

    rule: Rule | TableEncoder
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
            for digit in places:
                number = float(f"{digit * unit:.15g}")
                if low < number <= high:
                    return number + 0.0
    return high


def find_rules(
    frame: pl.DataFrame,
    fitted: Mapping[str, Fitted],
    encoded: Callable[[tuple[Rule | TableEncoder, ...]], Doubles],
    y: Doubles,
    *,
    most: int,
    tables: bool = True,
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
        Rules and tables wanted at most.
    tables
        Whether a table may stand in place of a rule.
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
    third condition is taken where rules with one foretell unseen outcomes better, and a table of
    two columns where tables do: the first by more, the next by as much. Cost: 2 s a rule for 20
    columns and 5,000 accounts, 6 s for 60; more where a table is in question.
    """
    known = ~np.isnan(y)
    if len(np.unique(y[known])) < 2:
        return []
    cut = [_CutColumn.of(frame[name], each, y, _PARTS) for name, each in fitted.items()]
    predictors = sum(each.levels.sides.shape[1] for each in cut)
    pairs = len(cut) * (len(cut) - 1) // 2
    apart = max(-(-len(y) * predictors // _MOST_CELLS), -(-len(y) * pairs // _MOST_PAIRED), 1)
    chosen = np.flatnonzero(known)
    chosen = (chosen if groups is None else chosen[_one_of_each(groups[chosen])])[::apart]
    low, high = y[known].min(), y[known].max()
    finer = int(np.clip(len(chosen) // _ACCOUNTS_OF_PART, _PARTS, _MOST_PARTS))
    search = _Search(
        [each.among(chosen) for each in cut],
        [
            _CutColumn.of(frame[name], each, y, finer).among(chosen)
            for name, each in fitted.items()
            if tables
        ],
        encoded(())[chosen],
        (y[chosen] - low) / (high - low),
    )
    rules: list[_Found] = []
    while len(rules) < most and (more := search.next(rules)):
        rules.append(more)
        if len(rules) < most:
            beside = encoded(tuple(map(search.rule, rules)))
            search = replace(search, encoded=beside[chosen])
    return [FoundRule(search.rule(each), each.p) for each in rules]


def rule_of_columns(
    frame: pl.DataFrame,
    fitted: Mapping[str, Fitted],
    encoded: Doubles,
    y: Doubles,
    *,
    upward: bool,
) -> Rule | None:
    """Return the rule of given columns that says most beside features, proven or not.

    Parameters
    ----------
    frame, fitted
        N accounts, and what each of the two or three columns is.
    encoded, y
        Values of the features, shape (N, F), in [0, 1], and outcomes as for `find_rules`.
    upward
        Whether the rule's accounts do better than the features say, or worse.

    Returns
    -------
    Rule or None
        A condition on each column, of those that `find_rules` looks among; None where no rule goes
        that way.
    """
    known = np.flatnonzero(~np.isnan(y))
    apart = max(1, -(-len(known) * max(encoded.shape[1], _MOST_FITTED) // _MOST_CELLS))
    chosen = known[::apart]
    outcome = y[chosen]
    if len(np.unique(outcome)) < 2:
        return None
    cut = [
        _CutColumn.of(frame[name], each, y, _PARTS).among(chosen) for name, each in fitted.items()
    ]
    outcome = (outcome - outcome.min()) / np.ptp(outcome)
    search = _Search(cut, [], encoded[chosen], outcome)
    model = search._coarse(())
    ranked = search._ranked(search._whole_corners(model, upward=upward), model)
    if not ranked:
        return None
    sides = ranked[0][1]
    return Rule(tuple(cut[column].conditions[side] for column, side in sides))


def rules_that_pay(
    encoded: Callable[[NDArray[np.bool_]], Doubles],
    blocks: Sequence[Doubles],
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
    blocks
        Of each rule for whom it holds, shape (N, 1); of a table who is in which cell, shape (N, K).
    y, groups
        Outcomes, and who is like whom, as for `find_rules`.
    """
    known = ~np.isnan(y)
    if not np.isin(y[known], (0, 1)).all():
        return len(blocks)
    positive = y == 1
    fold_of = (np.arange(len(y)) if groups is None else groups) % _FOLDS
    by_count: list[list[tuple[Doubles, Doubles]]] = [[] for _ in range(len(blocks) + 1)]
    for fold in range(_FOLDS):
        out, others = known & (fold_of == fold), known & (fold_of != fold)
        if any(len(np.unique(positive[part])) < 2 for part in (out, others)):
            return 0
        features = encoded(others)
        for rules, folds in enumerate(by_count):
            table = np.column_stack([features, *blocks[:rules]])
            fit = _fitted(table[others], y[others], table.shape[1] - features.shape[1])
            folds.append(placed(table[out] @ fit.coefficients, positive[out]))
    for rules, (before, after) in enumerate(pairwise(by_count)):
        gain, error = folded_difference(before, after)
        if gain <= error:
            return rules
    return len(blocks)


def _fitted(table: Doubles, outcome: Doubles, rules: int) -> Fit:
    """Fit slopes of a table whose last columns are rules, shape (N, F + R)."""
    count = table.shape[1] - rules
    ridges = np.repeat([_RIDGES["term"], _RIDGES["rule"]], [count, rules])
    return fit_logistic(lambda: [(table, outcome)], np.diag(ridges))


def weigh_rules(
    candidates: Sequence[FoundRule],
    values: Doubles,
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
    candidates, values
        R rules and tables, and the value that each gives, shape (N, R): 1 where a rule holds.
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
    outcome, values = y[known], values[known]
    binary = len(np.unique(outcome)) == 2
    outcome = (outcome - outcome.min()) / (outcome.max() - outcome.min())

    def fitted(features: Doubles, rules: int) -> tuple[Doubles, Doubles]:
        """Return slopes, and the log-odds that they give, shape (N,)."""
        table = np.column_stack([features[known], values[:, :rules]])
        fit = _fitted(table, outcome, rules)
        return fit.coefficients, fit.solution[0] + table @ fit.solution[1:]

    sums = [fitted(alone, rules)[1] for rules in range(len(candidates) + 1)]
    worth = [area(each, outcome == 1) if binary else correlation(each, outcome) for each in sums]
    expected = 1 / (1 + np.exp(-sums[0]))
    own, rules = np.split(fitted(encoded, len(candidates))[0], [encoded.shape[1]])
    spread = float((encoded[known] @ own).std())
    scale = float((encoded[known] @ weights).std()) / spread if spread else 0.0
    weighted = []
    for number, (each, slope) in enumerate(zip(candidates, rules.tolist(), strict=True)):
        inside = values[:, number] > values[:, number].mean()
        means = outcome[inside].mean(), outcome[~inside].mean(), expected[inside].mean()
        got, others, due = (f"{mean:.1%}" if binary else f"rank {mean:.2f}" for mean in means)
        weight = int(np.clip(math.floor(slope * scale + 0.5) or np.sign(slope), -bound, bound))
        is_rule = isinstance(each.rule, Rule)
        who, what = ("holds for", "rule") if is_rule else ("above its mean are", "table")
        comment = (
            f"{who} {inside.sum():,} of {len(inside):,} accounts: {oriented} {got}, others "
            f"{others}; p = {each.p:.2g}\n"
            f"from the columns alone {due} is expected; with the {what} "
            f"{worth[number + 1] - worth[number]:+.4f} {'AUC' if binary else 'correlation'} here"
        )
        weighted.append(WeightedRule(weight, comment))
    return weighted


def rule_names(rules: Sequence[Rule | TableEncoder], taken: Collection[str]) -> list[str]:
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


#: What may be found, simplest first, by number: see `_Search._kinds`.
_PAIR, _THIRD, _TABLE = range(3)


@dataclass(frozen=True)
class _Table:
    """Two columns by number, and the cells of their levels."""

    columns: tuple[int, int]
    cells: CellGroups


@dataclass(frozen=True)
class _Found:
    """A rule's sides or a table's cells, and the share of tables by chance that seem as good."""

    sides: _Sides | _Table
    p: float


@dataclass(frozen=True)
class _Search:
    """The accounts that rules are sought among: columns cut, features encoded, outcomes."""

    cut: Sequence[_CutColumn]
    #: The same columns, cut finer, for tables; none where no table is wanted.
    finer: Sequence[_CutColumn]
    encoded: Doubles
    outcome: Doubles

    def members(self, sides: _Sides) -> Doubles:
        """Return who is on all of some sides, shape (N,), ones and zeros."""
        return reduce(
            np.multiply, [self.cut[column].levels.members(side) for column, side in sides]
        )

    def block(self, sides: _Sides | _Table) -> Doubles:
        """Return for whom a rule holds, shape (N, 1), or who is in which cell, shape (N, K)."""
        if not isinstance(sides, _Table):
            return self.members(sides)[:, None]
        one, two = (self.finer[column].levels.codes for column in sides.columns)
        down, across = sides.cells.down[one], sides.cells.across[two]
        return np.asarray(np.eye(sides.cells.count)[down * (sides.cells.across.max() + 1) + across])

    def rule(self, candidate: _Found) -> Rule | TableEncoder:
        if not isinstance(candidate.sides, _Table):
            return Rule(
                tuple(self.cut[column].conditions[side] for column, side in candidate.sides)
            )
        cells = candidate.sides.cells
        down, across = (
            [*map(str, self.finer[column].conditions_of(groups))]
            for column, groups in zip(
                candidate.sides.columns, (cells.down, cells.across), strict=True
            )
        )
        values = [[0.0] * (len(across) + 1)] * (len(down) + 1)
        return TableEncoder(kind="table", down=down, across=across, values=values)

    def next(self, before: Sequence[_Found]) -> _Found | None:
        """Return the proven rule that helps most beside those before; None if there is none."""
        known = [each.sides for each in before]
        above = _ABOVE_NEXT if before else _ABOVE_FIRST
        fine = self._fine(known)
        columns = [each.levels for each in self.cut]
        proven = proven_corners(columns, fine, self.least, above=above)
        corners = {
            tuple(zip(each.columns, each.sides, strict=True)): each.p
            for each in proven[:_MOST_FITTED]
        }
        model = self._coarse(known)
        if not (pairs := self._ranked(list(corners), model)[:_MOST_GROWN]):
            return None
        short = [len(each.names) <= _MOST_NAMED for each in self.finer]
        apart = dict.fromkeys(
            each.columns for each in proven if short and all(short[at] for at in each.columns)
        )
        from_these = [own for _, own in pairs], list(apart)[:_MOST_TABLES]
        best: _Sides | _Table
        kind, (worth, best) = _PAIR, pairs[0]
        for other in (_THIRD, _TABLE):
            ranked = self._kinds(*from_these, model)[other]()
            enough = bool(ranked) and ranked[0][0] > worth + _WORTH_ASKING
            if enough and self._foretells(kind, other, from_these, known):
                kind, (worth, best) = other, ranked[0]
        if isinstance(best, _Table):
            return _Found(best, min(each.p for each in proven if each.columns == best.columns))
        # Of a rule of three, the corner that it was grown from.
        return _Found(best, min(p for sides, p in corners.items() if {*sides} <= {*best}))

    def _kinds(
        self, pairs: Sequence[_Sides], apart: Sequence[tuple[int, int]], model: Predicted
    ) -> Sequence[Callable[[], Sequence[tuple[float, _Sides | _Table]]]]:
        """Say how to choose rules of two conditions, rules of three and tables, the best first."""
        return (
            lambda: self._ranked(pairs, model),
            lambda: self._ranked(self._grown(pairs, model), model),
            lambda: self._made(apart, model),
        )

    def _made(
        self, apart: Sequence[tuple[int, int]], model: Predicted
    ) -> list[tuple[float, _Table]]:
        """Return a table of each pair of columns, by gain in likelihood less a penalty a word."""
        tables = []
        for pair in apart:
            columns = [self.finer[column] for column in pair]
            one, two = (each.levels for each in columns)
            shape = one.sides.shape[1], two.sides.shape[1]
            cell = one.codes * shape[1] + two.codes
            rows = self.outcome - model.chance, model.information
            off, known = (
                np.asarray(np.bincount(cell, row, shape[0] * shape[1]), dtype=np.float64)
                for row in rows
            )
            off, known = off.reshape(shape), known.reshape(shape)
            cells = best_cells(
                _unknown_with_last(off),
                _unknown_with_last(known),
                ordered=(not columns[0].names, not columns[1].names),
                most=TABLE_SIDE,
                ridge=_RIDGES["rule"],
                penalty=_WORD,
            )
            if cells is None:
                continue
            sides = [
                column.grouped(groups, others=bool(known.sum(axis=1 - axis)[-2:].sum() > 0))
                for axis, (column, groups) in enumerate(
                    zip(columns, (cells.down, cells.across), strict=True)
                )
            ]
            table = _Table(pair, CellGroups(sides[0], sides[1], cells.worth))
            # Of two by two cells, a rule says the same interplay with fewer numbers.
            if min(groups.max() for groups in sides) < 1 or table.cells.count <= _CELLS_OF_RULE:
                continue
            words = table.cells.count + sum(
                len(each.categories) or 1
                for column, groups in zip(columns, sides, strict=True)
                for each in column.conditions_of(groups)
            )
            gain = model.gain(self.block(table), _RIDGES["rule"])
            tables.append((round(gain - _WORD * words, 6), table))
        return sorted(tables, key=lambda each: (-each[0], each[1].columns))

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
            sum(len(self.cut[column].conditions[side].categories) or 1 for column, side in sides)
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
        levels = np.concatenate([each.levels.indicators() for each in self.cut], axis=1)
        ends = np.cumsum([each.levels.sides.shape[1] for each in self.cut])[:-1]
        worth_of: dict[_Sides, float] = {}
        for begin in range(0, len(pairs), _AT_ONCE):
            some = pairs[begin : begin + _AT_ONCE]
            rows = np.concatenate([each * self.members(pair) for pair in some])
            for pair, both in zip(some, np.split(rows @ levels, len(some)), strict=True):
                for column, sums in enumerate(np.split(both, ends, axis=1)):
                    if column in dict(pair):
                        continue
                    off, known, size = sums @ self.cut[column].levels.sides.T
                    worth = np.round(off**2 / (known + _RIDGES["rule"]) / 2, 6)
                    enough = (size >= self.least) & (size < sums[2].sum())
                    for side in np.flatnonzero(enough).tolist():
                        worth_of[tuple(sorted((*pair, (column, side))))] = float(worth[side])
        return sorted(worth_of, key=lambda sides: (-worth_of[sides], sides))[:_MOST_FITTED]

    def _whole_corners(self, model: Predicted, *, upward: bool) -> list[_Sides]:
        """Return the most promising rules with a condition on every column, as `_grown` does."""
        columns = [each.levels for each in self.cut]
        shape = [column.sides.shape[1] for column in columns]
        cell = np.ravel_multi_index([column.codes for column in columns], shape)
        rows = self.outcome - model.chance, model.information, np.ones_like(model.chance)
        sums = np.stack([np.bincount(cell, row, math.prod(shape)) for row in rows])
        corners: Doubles = sums.reshape(3, *shape).astype(np.float64)
        for column in columns:
            # The first column's levels give way to its sides, which come last.
            corners = np.tensordot(corners, column.sides, (1, 1))
        off, known, size = corners
        worth = np.round(off**2 / (known + _RIDGES["rule"]) / 2, 6)
        enough = (size >= self.least) & (len(self.outcome) - size >= self.least)
        enough &= (off > 0) == upward
        for axis, column in enumerate(columns):
            # A side with everybody on it asks for nothing.
            parted = column.sides @ np.bincount(column.codes, minlength=column.sides.shape[1])
            own = [1] * len(shape)
            own[axis] = -1
            enough &= (parted < len(self.outcome)).reshape(own)
        places = np.argwhere(enough)
        best = np.argsort(-worth[enough], kind="stable")[:_MOST_FITTED]
        return [tuple(enumerate(sides)) for sides in places[best].tolist()]

    def _foretells(
        self,
        kind: int,
        other: int,
        from_these: tuple[Sequence[_Sides], Sequence[tuple[int, int]]],
        before: Sequence[_Sides | _Table],
    ) -> bool:
        """Whether the best of another kind foretells unseen outcomes better than that of one.

        Both are chosen in each of the folds from the other accounts alone, so that a third
        condition, or a cell, made of chance foretells worse.
        """
        fold_of = np.arange(len(self.outcome)) % _FOLDS
        gained = []
        for fold in range(_FOLDS):
            seen, unseen = self._part(fold_of != fold), self._part(fold_of == fold)
            if np.ptp(seen.outcome) == 0:
                return False
            kinds, heights = seen._kinds(*from_these, seen._coarse(before)), []
            for each in (kind, other):
                if not (ranked := kinds[each]()):
                    return False
                rules = [*before, ranked[0][1]]
                table = seen._table(rules)
                fit = _fitted(table, seen.outcome, table.shape[1] - self.encoded.shape[1])
                heights.append(unseen._heights(fit, rules))
            gained.append(heights[1] - heights[0])
        gain = np.concatenate(gained)
        tabled = any(isinstance(each, _Table) for each in before)
        sure = _SURE if other == _THIRD else _SURE_OF_NEXT if tabled else _SURE_OF_TABLE
        return bool(gain.sum() > sure * np.sqrt(len(gain)) * gain.std())

    def _part(self, some: NDArray[np.bool_]) -> _Search:
        cut, finer = ([each.among(some) for each in own] for own in (self.cut, self.finer))
        encoded, outcome = self.encoded[some], self.outcome[some]
        return replace(self, cut=cut, finer=finer, encoded=encoded, outcome=outcome)

    def _table(self, rules: Sequence[_Sides | _Table]) -> Doubles:
        return np.column_stack([self.encoded, *map(self.block, rules)])

    def _coarse(self, before: Sequence[_Sides | _Table]) -> Predicted:
        """Fit the spec's features and the rules."""
        table = self._table(before)
        ridges = [_RIDGES["term"], _RIDGES["rule"]]
        width = table.shape[1] - self.encoded.shape[1]
        penalty = np.repeat(ridges, [self.encoded.shape[1], width])
        return self._predicted(table, penalty, _fitted(table, self.outcome, width))

    def _heights(self, fit: Fit, rules: Sequence[_Sides | _Table]) -> Doubles:
        """Return each account's log-likelihood by a fit to features and rules, shape (N,)."""
        logit = fit.solution[0] + self._table(rules) @ fit.solution[1:]
        return np.asarray(self.outcome * logit - np.logaddexp(0, logit))

    def _fine(self, before: Sequence[_Sides | _Table]) -> Predicted:
        """Fit levels of all columns and the rules, levels drawn to nothing as far as they say so.

        The spec's encoders, whose shapes know these outcomes, would take chance for less than it
        is. Wood and Fasiolo (2017) as in `fit_levels`, one share for all levels of all columns.
        """
        columns = [each.levels.indicators() for each in self.cut]
        table = np.concatenate([*columns, *map(self.block, before)], axis=1)
        level = np.arange(table.shape[1]) < sum(each.shape[1] for each in columns)
        start, share = None, 10 * _LEAST_SHARED
        for _ in range(_ROUNDS):
            penalty = np.where(level, share, _RIDGES["rule"])
            fit = fit_logistic(lambda: [(table, self.outcome)], np.diag(penalty), start=start)
            start, before_it = fit.solution, share
            free = level.sum() - share * np.diag(fit.covariance)[level].sum()
            size = share * float((fit.coefficients[level] ** 2).sum())
            # Twice the step, as each goes less than half of the way.
            step = free / size if size * _MOST_SHARED > free else _MOST_SHARED
            share = float(np.clip(share * step**2, _LEAST_SHARED, _MOST_SHARED))
            if abs(np.log(share / before_it)) < _SETTLED:
                break
        return self._predicted(table, penalty, fit)

    def _predicted(self, table: Doubles, penalty: Doubles, fit: Fit) -> Predicted:
        chance = 1 / (1 + np.exp(-(fit.solution[0] + table @ fit.solution[1:])))
        constant = np.column_stack([np.ones(len(table)), table])
        return Predicted(constant, np.append(0, penalty), chance, self.outcome)


@dataclass(frozen=True)
class _CutColumn:
    """A column cut into levels, and the condition that each of its sides is."""

    levels: LevelColumns
    conditions: list[Condition]
    #: Categories in the order of their levels; none of a number or a flag.
    names: tuple[str, ...] = ()

    def among(self, some: NDArray[Any]) -> _CutColumn:
        """Return the column of some accounts alone."""
        levels = replace(self.levels, codes=self.levels.codes[some])
        return replace(self, levels=levels)

    def grouped(self, groups: NDArray[np.intp], *, others: bool) -> NDArray[np.intp]:
        """Return each level's group, that of other categories and the unknown being the last.

        Without any `others` the largest group is.
        """
        if self.names:
            rest = groups[-1] if others else np.bincount(groups[:-1]).argmax()
            groups = np.append(groups[:-1], rest)
            firsts = dict.fromkeys(each for each in groups.tolist() if each != rest)
            number = {each: at for at, each in enumerate([*firsts, int(rest)])}
            groups = np.array([number[each] for each in groups.tolist()])
        return np.append(groups, groups[-1])

    def conditions_of(self, groups: NDArray[np.intp]) -> list[Condition]:
        """Return the conditions of all groups but the last; the first that holds counts."""
        if self.names:
            own, name = groups[: len(self.names)], self.conditions[0].column
            listed = (np.flatnonzero(own == each) for each in range(groups.max()))
            return [Condition(name, "in", tuple(self.names[at] for at in some)) for some in listed]
        # Of each cut there are two conditions, the first of which holds below it.
        return [self.conditions[2 * at] for at in np.flatnonzero(np.diff(groups[:-1]))]

    @classmethod
    def of(cls, column: pl.Series, fitted: Fitted, y: Doubles, parts: int) -> _CutColumn:
        """Cut a number at plain numbers into so many parts, or take categories one by one."""
        name = column.name
        if fitted.kind == "categories":
            text = column.cast(pl.String).str.strip_chars(" ")
            names = _ordered(text, fitted.listed, y)
            code = {each: at for at, each in enumerate(names)}
            codes = text.replace_strict(code, default=len(names), return_dtype=pl.Int64)
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
            whole = cls._beside_unknown(name, codes.to_numpy().astype(np.intp), unknown, taken)
            return replace(whole, names=names)
        x = column.cast(pl.Float64).to_numpy()
        unknown = np.isnan(x)
        flag = fitted.kind == "flag"
        cuts = [1.0] if flag else _cuts(x[~unknown], parts)
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


def _unknown_with_last(sums: Doubles) -> Doubles:
    """Add what is unknown to the last level that is known, along both axes."""
    for axis in (0, 1):
        sums = np.moveaxis(sums, axis, 0)
        sums = np.moveaxis(np.concatenate([sums[:-2], sums[-2:-1] + sums[-1:]]), 0, axis)
    return sums


def _ordered(text: pl.Series, listed: Sequence[str], y: Doubles) -> tuple[str, ...]:
    """Return categories by their mean outcome, the worst first."""
    mean = float(np.nanmean(y))
    frame = pl.DataFrame({"name": text, "y": y}).fill_nan(None).drop_nulls()
    rates = frame.group_by("name").agg(
        (pl.col("y").sum() + _SHRINKAGE * mean) / (pl.len() + _SHRINKAGE)
    )
    rate = dict(rates.iter_rows())
    return tuple(sorted(listed, key=lambda name: (round(rate.get(name, mean), 9), name)))


def _cuts(known: Doubles, parts: int) -> list[float]:
    """Return plain numbers that cut known values, N in any order, into parts of about one size.

    Where nearly all have one value, no part is cut off by size; then there is one cut beside it.
    """
    values, counts = np.unique(known, return_counts=True)
    # How many accounts lie below each value but the first: where a cut may be.
    below = np.cumsum(counts)[:-1]
    few = len(values) <= parts
    share = np.arange(1, len(values)) if few else below / len(known) * parts
    nearest = np.floor(share + 0.5)
    cuts = []
    if not few and not ((nearest > 0) & (nearest < parts)).any():
        nearest = np.where(np.arange(len(share)) == np.abs(share - parts / 2).argmin(), 1, 0)
    for tenth in np.unique(nearest):
        if few or 0 < tenth < parts:
            at = np.flatnonzero(nearest == tenth)
            middle = at[np.abs(share[at] - tenth).argmin()]
            cuts.append(spoken(values[at[0]], values[at[-1] + 1], values[middle + 1]))
    return cuts
