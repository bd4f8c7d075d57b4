"""What a run tries before any proposal: fitted weights where they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gtmar.data.outcomes import Movement
from gtmar.errors import UsageError
from gtmar.optimize.hill_climb import Given
from gtmar.optimize.logistic_start import Labelled, logistic_starts
from gtmar.optimize.proposers import SearchSpace
from gtmar.runs.plan import DEFAULT_START, constraints_of

if TYPE_CHECKING:
    from gtmar.data.matrix import AccountMatrix
    from gtmar.spec.model import ScoringSpec

__all__ = ["given_at_start", "levers_of"]


def given_at_start(start: str, matrix: AccountMatrix, spec: ScoringSpec) -> Given | None:
    """Return the vectors that a start tries over a matrix; None for the spec alone.

    Parameters
    ----------
    start
        One of `plan.STARTS`.
    matrix
        The accounts searched, and no others.
    spec
        Bounds, constraints, orientation.

    Raises
    ------
    UsageError
        If the table says of no account whether it stayed.
    """
    if start == DEFAULT_START:
        return None
    if not matrix.outcomes.labelled:
        raise UsageError(
            f'start "{start}" is fitted to who stayed and who left; the table has none of '
            "retained_6mo, churned, mrr_end",
            hint="name your column in the spec's outcomes, or start with --start spec",
        )
    labelled = matrix.rows(Movement.LOST_NONPAYING, Movement.KEPT_NONPAYING)
    rows = np.arange(labelled.start, labelled.stop)
    stayed = rows >= matrix.offsets[Movement.KEPT_REVENUE_LOST]
    groups: dict[str, list[int]] = {}
    for number, term in enumerate(spec.terms):
        if term.bin is not None:
            groups.setdefault(term.feature, []).append(number)
    vectors = logistic_starts(
        Labelled(tuple(column[labelled] for column in matrix.columns), stayed),
        tuple(term.weight for term in spec.terms),
        levers_of(spec),
        groups=tuple(groups.values()),
        sign=1 if spec.orientation == "health" else -1,
        constraints=constraints_of(spec),
    )
    return Given(start, vectors)


def levers_of(spec: ScoringSpec) -> SearchSpace:
    """Return what a search may move, and how far."""
    terms = spec.terms
    return SearchSpace(
        tuple(term.name for term in terms),
        tuple(term.min for term in terms),
        tuple(term.max for term in terms),
    )
