"""Proposers and the keep-or-revert loop. No I/O and no clock here, and no Polars."""

from gtmar.search.climb import Batch, Candidate, Climb, Outcome, Step
from gtmar.search.proposers import Levers, Proposer, RandomProposer

__all__ = [
    "Batch",
    "Candidate",
    "Climb",
    "Levers",
    "Outcome",
    "Proposer",
    "RandomProposer",
    "Step",
]
