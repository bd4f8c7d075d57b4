"""What drift looks like, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gtmar.cli.output import data, say, some, table

if TYPE_CHECKING:
    from gtmar.proof.drift import Shift
    from gtmar.runs import Drift

__all__ = ["drift"]


def drift(found: Drift, *, as_json: bool) -> None:
    """Print what moved, the largest first."""
    if as_json:
        data(found.as_json())
        return
    say(
        f"{found.model}: {some(found.accounts, 'account')} of {found.source} against "
        f"{found.accounts_before:,} of {found.against}."
    )
    ordered = sorted(found.shifts, key=lambda each: -each.index)
    table(
        ["feature", "index", "by chance below", "reading", "most in", "then", "now"],
        (
            (
                each.name,
                f"{each.index:.3f}",
                f"{each.chance:.3f}",
                str(each.reading),
                *_most(each),
            )
            for each in ordered
        ),
        title="Population stability",
    )
    say("Stable below 0.1, moderate below 0.25, else large; unclear where chance gives as much.")
    if found.moved:
        names = ", ".join(each.name for each in found.moved)
        say(f"Moved: {names}. The spec was made on accounts that were spread otherwise.", "warning")
    else:
        say("Nothing moved by as much as 0.25.", "good")


def _most(shift: Shift) -> tuple[str, str, str]:
    """Return the bin that adds most, and its share then and now."""
    if not shift.index:
        return "", "", ""
    label, then, now = shift.bins[shift.most]
    before = sum(row[1] for row in shift.bins)
    after = sum(row[2] for row in shift.bins)
    return label, f"{then / before:.1%}", f"{now / after:.1%}"
