"""The use cases, each a function that the command line and a notebook both call."""

from gtmar.runs.checkup import Checkup, check
from gtmar.runs.results import Limits, Progress, RunResult
from gtmar.runs.resumption import Replay, replay, resume
from gtmar.runs.run import run
from gtmar.runs.scoring import score, write_table

__all__ = [
    "Checkup",
    "Limits",
    "Progress",
    "Replay",
    "RunResult",
    "check",
    "replay",
    "resume",
    "run",
    "score",
    "write_table",
]
