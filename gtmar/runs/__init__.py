"""The use cases, each a function that the command line and a notebook both call."""

from gtmar.runs.checkup import Checkup, check
from gtmar.runs.difference import Difference, difference, is_spec_file
from gtmar.runs.going_live import WentLive, promote, record
from gtmar.runs.plan import DEFAULT_PROPOSER, PROPOSERS
from gtmar.runs.results import Limits, Progress, RunResult
from gtmar.runs.resumption import Replay, replay, resume
from gtmar.runs.run import run
from gtmar.runs.scoring import changed_since, score, write_table
from gtmar.runs.trial import try_weights

__all__ = [
    "DEFAULT_PROPOSER",
    "PROPOSERS",
    "Checkup",
    "Difference",
    "Limits",
    "Progress",
    "Replay",
    "RunResult",
    "WentLive",
    "changed_since",
    "check",
    "difference",
    "is_spec_file",
    "promote",
    "record",
    "replay",
    "resume",
    "run",
    "score",
    "try_weights",
    "write_table",
]
