"""The use cases: each is a function that the command line and `gtmar.api` call."""

from gtmar.optimize.search_loop import Limits
from gtmar.runs.account_list import AccountList, account_list
from gtmar.runs.backtest import Backtest, backtest
from gtmar.runs.bench import Pace, bench
from gtmar.runs.check import Checkup, Drift, check, drift
from gtmar.runs.decide import decide, decide_between, decide_on, refresh
from gtmar.runs.decision_report import Decided
from gtmar.runs.explain import Explanation, explain
from gtmar.runs.holdout import searched_note
from gtmar.runs.inputs import run_or_experiment, spec_of
from gtmar.runs.leaving import Calibrated, TimeToLeaving, calibrate, time_to_leaving
from gtmar.runs.plan import DEFAULT_PROPOSER, DEFAULT_START, PROPOSERS, Engine
from gtmar.runs.promote import WentLive, promote, record
from gtmar.runs.results import Finding, Progress, RunResult, warnings_of
from gtmar.runs.run import run, try_weights
from gtmar.runs.score import (
    NewTable,
    changed_since,
    score,
    score_table,
    with_spec_stamp,
    write_rows_aside,
    write_table,
)
from gtmar.runs.segments import BySegment, by_segment
from gtmar.runs.session import (
    FoundStability,
    NullSearch,
    Replay,
    null_search,
    replay,
    resume,
    stability,
)
from gtmar.runs.simplify import Simplified, simplify
from gtmar.runs.tiers import Grid, TierLine, Tiers, grid, tiers_of
from gtmar.runs.two_specs import Difference, difference
from gtmar.runs.walk import Walked, walk
from gtmar.runs.watch import Watched, watch

__all__ = [
    "DEFAULT_PROPOSER",
    "DEFAULT_START",
    "PROPOSERS",
    "AccountList",
    "Backtest",
    "BySegment",
    "Calibrated",
    "Checkup",
    "Decided",
    "Difference",
    "Drift",
    "Engine",
    "Explanation",
    "Finding",
    "FoundStability",
    "Grid",
    "Limits",
    "NewTable",
    "NullSearch",
    "Pace",
    "Progress",
    "Replay",
    "RunResult",
    "Simplified",
    "TierLine",
    "Tiers",
    "TimeToLeaving",
    "Walked",
    "Watched",
    "WentLive",
    "account_list",
    "backtest",
    "bench",
    "by_segment",
    "calibrate",
    "changed_since",
    "check",
    "decide",
    "decide_between",
    "decide_on",
    "difference",
    "drift",
    "explain",
    "grid",
    "null_search",
    "promote",
    "record",
    "refresh",
    "replay",
    "resume",
    "run",
    "run_or_experiment",
    "score",
    "score_table",
    "searched_note",
    "simplify",
    "spec_of",
    "stability",
    "tiers_of",
    "time_to_leaving",
    "try_weights",
    "walk",
    "warnings_of",
    "watch",
    "with_spec_stamp",
    "write_rows_aside",
    "write_table",
]
