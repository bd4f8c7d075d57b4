"""Proposers and the keep-or-revert loop. No I/O and no clock here, and no Polars."""

from gtmar.search.climb import Batch, Candidate, Climb, Given, Known, Outcome, Step
from gtmar.search.constraints import ConstrainedProposer, Constraints
from gtmar.search.memory import Memory
from gtmar.search.proposers import Levers, Proposer, RandomProposer, Result

__all__ = [
    "Batch",
    "Candidate",
    "Climb",
    "ConstrainedProposer",
    "Constraints",
    "Given",
    "Known",
    "Levers",
    "Memory",
    "Outcome",
    "Proposer",
    "RandomProposer",
    "Result",
    "Step",
]
