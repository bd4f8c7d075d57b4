"""The smallest gain that so many accounts can prove, before anybody searches.

The error of a gain depends on how alike the two scores are. So it is taken from changes of the size
that a search makes: each of a few walks of proposals away from the start, seeded, no outcome asked.
"""

from __future__ import annotations

import math
from statistics import NormalDist, median
from typing import TYPE_CHECKING

from gtmar.proof.uncertainty import panel_of, uncertainty
from gtmar.search.proposers import Levers, RandomProposer

if TYPE_CHECKING:
    from gtmar.accounts.matrix import AccountMatrix
    from gtmar.objective import Judge
    from gtmar.spec.model import ScoringSpec

__all__ = ["smallest_gain"]

#: Walks away from the start, and proposals taken in each.
_WALKS, _STEPS = 5, 40
#: Chance of proving a gain of the size returned.
POWER = 0.8
_LEVEL = 0.95
_REPLICATES = 200


def smallest_gain(
    matrix: AccountMatrix, spec: ScoringSpec, judge: Judge, *, accounts: int
) -> float | None:
    """Return the true gain that four decisions in five would prove.

    Parameters
    ----------
    matrix
        Accounts to learn the error from; those to be searched, never the holdout.
    spec
        Its weights are the start.
    judge
        The objective.
    accounts
        Accounts that will decide: the error shrinks with the root of their number.

    Returns
    -------
    float or None
        In the objective's own unit; None where it has no interval, or nothing can move.

    Notes
    -----
    (z of 97.5 % + z of 80 %) x standard error, the median over the walks. Cost: five intervals.
    """
    ends = zip(*((t.min, t.max) for t in spec.terms), strict=True)
    levers = Levers(tuple(t.name for t in spec.terms), *(tuple(e) for e in ends))
    start = tuple(term.weight for term in spec.terms)
    if not levers.free or not accounts:
        return None
    key = judge.name.partition(".")[0]
    normal = NormalDist()
    reach = normal.inv_cdf((1 + _LEVEL) / 2)
    errors = []
    for walk in range(_WALKS):
        proposer, weights = RandomProposer(levers, seed=walk), list(start)
        for number in range(1, _STEPS + 1):
            for index, weight in proposer.propose(number, weights).items():
                weights[index] = weight
        panel = panel_of(matrix, spec, start, weights)
        found = uncertainty(panel, level=_LEVEL, replicates=_REPLICATES, metrics={key})
        gain = found.gain.get(judge.name)
        if gain is not None and gain.low is not None and gain.high is not None:
            errors.append((gain.high - gain.low) / 2 / reach)
    if not errors:
        return None
    shrunk = math.sqrt(matrix.accounts / accounts)
    return (reach + normal.inv_cdf(POWER)) * median(errors) * shrunk
