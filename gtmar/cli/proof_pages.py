"""What the results of proving commands look like, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gtmar.cli.history_pages import WHY
from gtmar.cli.next_step import elsewhere, follow
from gtmar.cli.output import data, say, some, table
from gtmar.proof.chance import CHANCE

if TYPE_CHECKING:
    from pathlib import Path

    from gtmar.runs import Decided, FoundStability, NullSearch

__all__ = ["decision", "null", "stability"]

#: As many searches on noise can have a p-value that says more than chance.
_ENOUGH = 20


def null(found: NullSearch, *, journal: Path, as_json: bool) -> None:
    """Print a run's gain beside those of the same search on noise."""
    if as_json:
        data(found.as_json())
        return
    searches = len(found.gains)
    as_much = sum(gain >= found.found for gain in found.gains)
    say(
        f"Run {found.run_id}: {found.objective} got better by {found.found:.4f} on the accounts "
        "searched."
    )
    say(
        f"The same search of {found.experiments:,} experiments on shuffled outcomes, "
        f"{some(searches, 'time')}: half of them gained {found.typical:.4f} or more, 1 in 20 "
        f"{found.high:.4f} or more."
    )
    say(
        f"{as_much:,} of them gained as much as the run: p = (1 + {as_much}) / (1 + {searches}) = "
        f"{found.p_value:.3f}."
    )
    few = as_much == 0 and found.p_value > CHANCE
    if few:
        say(f"So few searches can't say less than {found.p_value:.3f}: {_ENOUGH} or more can.")
    elif found.p_value > CHANCE:
        say("Noise gives as much: on these accounts the gain proves nothing.")
    say()
    if few:
        follow("null", found.run_id, searches=50, journal=elsewhere(journal))
    else:
        follow("stability", found.run_id, journal=elsewhere(journal))


def stability(found: FoundStability, *, journal: Path, as_json: bool) -> None:
    """Print what other accounts of the same kind would make of each weight."""
    if as_json:
        data(found.as_json())
        return
    say(
        f"Run {found.run_id}: its search of {found.experiments:,} experiments, on "
        f"{found.searches:,} resamples of the accounts searched."
    )
    table(
        ["weight", "start", "found", "2.5 %", "median", "97.5 %", "sign held", ""],
        (
            (
                w.name,
                w.start,
                w.found,
                f"{w.low:.0f}",
                f"{w.middle:.0f}",
                f"{w.high:.0f}",
                f"{w.sign_held:.0%}",
                w.reading,
            )
            for w in found.weights
        ),
    )
    noise = [w.name for w in found.weights if w.reading == "noise"]
    if noise:
        say(
            f"Noise, for all that these accounts can say: {', '.join(noise)}. Whether such a "
            "weight is for or against an account changes with the accounts drawn."
        )
    say()
    follow("review", found.run_id, journal=elsewhere(journal))


def decision(found: Decided, *, journal: Path, as_json: bool) -> None:
    """Print a verdict with every reason."""
    if as_json:
        data(found.as_json())
        return
    say(str(found.verdict))
    for sentence in found.headline:
        say(sentence, "warning" if sentence != found.headline[-1] else None)
    say(
        f"{found.experiment} against its start, on {some(found.accounts, 'account')} of "
        f"{found.source} that the search never saw."
    )
    if found.looks > 1:
        say(
            f"Comparison number {found.looks} on them: intervals at {found.level:.2%}. Each look "
            "makes them less unseen."
        )
    table(
        ["gate", "stated beforehand", "measured", ""],
        ((gate.name, gate.limit, gate.found, gate.outcome) for gate in found.gates),
    )
    for note in found.notes:
        say(f"Note: {note}")
    if found.folder:
        say(f"All of it: {found.folder}. The folder holds customer data.")
    say()
    if found.verdict == "READY_FOR_REVIEW":
        follow("promote", found.experiment, note=WHY, journal=elsewhere(journal))
    else:
        follow("review", found.run_id, journal=elsewhere(journal))
