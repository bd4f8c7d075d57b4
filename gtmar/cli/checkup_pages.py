"""What a check of a table looks like, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gtmar.cli.next_step import follow, unused
from gtmar.cli.output import data, say, some, table

if TYPE_CHECKING:
    from gtmar.runs import Checkup

__all__ = ["check"]


def check(found: Checkup, *, scorecard: bool, as_json: bool) -> None:
    """Print what a table offers; a scorecard is best searched from fitted weights."""
    if as_json:
        data(found.as_json())
        return
    by = "features detected" if found.detected else f"spec {found.model}"
    say(f"{found.source} keeps the data contract ({by}, {some(found.features, 'feature')}).")
    left_out = f", {found.dropped:,} without an outcome left out" if found.dropped else ""
    say(
        f"{found.accounts:,} accounts{left_out}: {found.search_accounts:,} to search, "
        f"{found.holdout_accounts:,} held out."
    )
    cohorts = ", ".join(f"{count:,} {name}" for name, count in found.cohorts.items() if count)
    say(f"Cohorts: {cohorts}.")
    basis = {"observed": "start and end MRR are there", "binary": "MRR is assumed flat", None: None}
    if found.basis:
        say(f"Revenue retention: {found.basis} ({basis[found.basis]}).")
    table(
        ["metric, search part, all tiers", "value", ""],
        (
            (name, value, found.reasons.get(name, ""))
            for name, value in found.metrics.items()
            if not name.startswith(("share_clipped", "score_"))
        ),
    )
    _leaks(found)
    _drift(found)
    for note in found.notes:
        say(f"Note: {note}")
    if found.objective_value is None:
        say(f"Objective {found.objective} has no value here: choose another with --metric.")
        return
    say(f"Objective {found.objective}: {found.objective_value:.4f} at the start.")
    deciding = found.holdout_accounts or found.search_accounts
    if found.smallest_gain is None:
        say(
            f"{some(deciding, 'account')} can't prove a gain of it: too few, or it has no interval."
        )
    else:
        say(
            f"Smallest gain that {some(deciding, 'account')} would prove four times in five: about "
            f"{found.smallest_gain:.2g}."
        )
    fitted = scorecard and found.cohorts["retained"] and found.cohorts["lost"]
    start = "logistic" if fitted else None
    follow("run", start=start, output_path=unused("best.yaml"))


def _leaks(found: Checkup) -> None:
    """Print what was found of leakage, each with why and what to do."""
    if not found.leaks:
        say("Leakage: nothing suspicious in the columns read.")
        return
    errors = sum(leak.grade == "error" for leak in found.leaks)
    say(f"Leakage: {some(errors, 'error')}, {some(len(found.leaks) - errors, 'warning')}.")
    for leak in found.leaks:
        bad = leak.grade == "error"
        left = " (left out)" if bad and leak.column not in found.leaking else ""
        say(
            f'{leak.grade}: column "{leak.column}"{left}: {leak.found}.',
            "bad" if bad else "warning",
        )
        say(f"  Why: {leak.why}.")
        say(f"  Do: {leak.advice}.")


def _drift(found: Checkup) -> None:
    """Say whether the holdout is spread as the search part is."""
    moved = [each for each in found.drift if each.reading in ("moderate", "large")]
    if moved:
        listed = ", ".join(f"{each.name} ({each.index:.2f}, {each.reading})" for each in moved)
        say(f"Drift between search part and holdout, by stability index: {listed}.", "warning")
    elif found.drift:
        say("Drift between search part and holdout: none beyond what chance gives.")
