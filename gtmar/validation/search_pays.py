"""Does a search pay? It is done in folds, and held against the weights that are tried before it.

A search takes whatever ranks the accounts searched best by a hair. Where few accounts leave for
each weight, that is luck rather than signal, and weights fitted by a regression rank other accounts
better. So each fold of the accounts is set aside in turn, the search is done on all others, and the
fold is scored twice: with the best of the weights tried first, and with those that the search ends
with. The holdout isn't touched.

References
----------
Stone, Cross-validatory choice and assessment of statistical predictions, 1974.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from gtmar.engine.local import LocalEvaluator
from gtmar.plain_data import PlainData
from gtmar.validation.resampling import folded, in_order_of_content

if TYPE_CHECKING:
    from gtmar.data.matrix import AccountMatrix
    from gtmar.validation.repeated_search import RepeatedSearch

__all__ = ["SearchPays", "search_in_folds"]


@dataclass(frozen=True)
class SearchPays(PlainData):
    """What a search is worth on accounts that it doesn't see, K folds of them."""

    _beside = ("gain", "error", "pays", "sentence")

    objective: str
    #: False where less of the objective is better.
    higher_is_better: bool
    #: Experiments of each search at most.
    experiments: int
    #: Whether weights of a regression are among those tried first.
    fitted: bool
    #: The objective on each of the K folds at the best of the weights tried first; None if null.
    first: tuple[float | None, ...]
    #: The same at the weights that the search ends with.
    searched: tuple[float | None, ...]

    @property
    def _pairs(self) -> list[tuple[float, float]]:
        """Objective at first and after the search, of the folds that have both values."""
        return [
            (first, found)
            for first, found in zip(self.first, self.searched, strict=True)
            if first is not None and found is not None
        ]

    @property
    def gain(self) -> float | None:
        """Mean improvement by the search, above 0 if it is better; None if no fold has values."""
        gains = [found - first for first, found in self._pairs]
        return (1 if self.higher_is_better else -1) * fmean(gains) if gains else None

    @property
    def error(self) -> float | None:
        """Standard error of `gain`, by how folds differ; None for fewer than two of them."""
        gains = [found - first for first, found in self._pairs]
        return stdev(gains) / sqrt(len(gains)) if len(gains) > 1 else None

    @property
    def pays(self) -> bool:
        """Whether to search; where the folds can't tell, a search that was asked for is done."""
        return self.gain is None or self.gain > 0

    @property
    def sentence(self) -> str:
        """The answer for people."""
        if self.gain is None:
            return f"Whether a search pays can't be told: no fold has a value of {self.objective}."
        first, found = (f"{fmean(values):.4f}" for values in zip(*self._pairs, strict=True))
        tried = "the spec's weights and fitted ones" if self.fitted else "the spec's own weights"
        close = self.error is None or abs(self.gain) < self.error
        call = "Whether a search pays is a close call"
        if self.pays:
            how = f"{call}, so it is done" if close else "A search pays here"
            without = f"at the best of what is tried first, {tried}"
        else:
            how = call if close else "A search doesn't pay here"
            how, without = f"{how}, so only {tried} were tried", "without"
        asked, told = len(self.first), len(self._pairs)
        folds = f"{asked}" if told == asked else f"{told} of {asked}"
        return (
            f"{how}: in {folds} folds, on accounts that a search didn't see, "
            f"{self.objective} is {found} after it, and {first} {without}."
        )

    @classmethod
    def of_json(cls, text: str) -> SearchPays:
        """Return the answer of a start record."""
        own = json.loads(text)
        own |= {name: tuple(own[name]) for name in ("first", "searched")}
        return cls(**{name: own[name] for name in own if name not in cls._beside})


def search_in_folds(search: RepeatedSearch, matrix: AccountMatrix, folds: int) -> SearchPays:
    """Do a search in folds, and measure it on the accounts set aside.

    Parameters
    ----------
    search
        Encoders that know the outcomes are refitted to each fold's other accounts, if it has a
        `refit`.
    matrix
        The accounts searched; the order of its rows makes no difference.
    folds
        Their number K, 2 or more.

    Notes
    -----
    Cost: that of K searches, over (K - 1) / K of the accounts each.
    """
    ordered = in_order_of_content(matrix)
    values = (_in_fold(search, ordered, folds, number) for number in range(1, folds + 1))
    first, searched = zip(*values, strict=True)
    judge = search.judge
    own = judge.name, judge.sign > 0, search.limits.experiments, search.given is not None
    return SearchPays(*own, first, searched)


def _in_fold(
    search: RepeatedSearch, matrix: AccountMatrix, folds: int, number: int
) -> tuple[float | None, float | None]:
    """Return a fold's objective at the best of the weights tried first, and after the search."""
    others, own = folded(matrix, folds=folds, number=number)
    outcome = search.over(others)
    evaluator = LocalEvaluator(search.encoded(own, outcome.spec), outcome.spec, by_rule=True)
    evaluator.move(outcome.first)
    sums = evaluator.sums([outcome.first, outcome.weights])
    first, found = search.judge.values(evaluator.frame_of(sums))
    return first, found
