"""What a column's name gives away: that it tells the outcome, or goes on until it is known.

Names are only read here; what a name weighs beside the numbers is for `leakage` to say. The lists
are those of docs/leakage.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

__all__ = ["Naming", "Told", "told_by_name", "words_of"]


class Told(StrEnum):
    """What a name says of its column."""

    #: It exists once the outcome has happened: `churn_reason`.
    AFTERWARDS = "afterwards"
    #: It counts on until the outcome is known: `months_active`.
    RUNNING = "running"
    #: It speaks of the outcome, whatever it holds: `churn_score`.
    MENTIONS = "mentions"


@dataclass(frozen=True)
class Naming:
    """What a name says, and the words that say it."""

    told: Told
    words: str


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Ways in which an account ends; alone or with a detail they name the outcome itself.
EVENTS = _words(
    "attrition canceled cancelation cancellation cancelled churn churned closure deactivated "
    "deactivation exit exited lapsed left lost offboarded offboarding quit retained terminated "
    "termination unsubscribed winback"
)
#: What is said of an end: when, why.
DETAILS = _words(
    "at category cause code comment comments date day feedback flag month note notes on quarter "
    "reason survey time timestamp type week year"
)
#: Words that change nothing.
FILLERS = _words("account client company contract customer did has is subscription the user was")
#: Words that speak of the outcome wherever they stand.
MENTIONS = _words(
    "attrition cancellation churn churned label outcome predicted prediction renewed retained "
    "target terminated"
)
#: What counts on until the end: single words, and pairs that stand side by side.
RUNNING = _words("cumulative duration final lifetime tenure total totals")
RUNNING_PAIRS = frozenset(
    (first, second)
    for firsts, seconds in (
        ("months weeks years", "active subscribed retained paid"),
        ("active subscribed paid", "months weeks years"),
        ("account subscription contract membership relationship", "age length months years"),
        ("last", "bill charge invoice payment"),
        ("end", "date"),
    )
    for first in firsts.split()
    for second in seconds.split()
)


def words_of(name: str) -> list[str]:
    """Split a column's name into lower-case words, at capitals too.

    Examples
    --------
    >>> words_of("ChurnReason_2"), words_of("Subscription  Length")
    (['churn', 'reason', '2'], ['subscription', 'length'])
    """
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W_]+", parted.lower())


def told_by_name(name: str) -> Naming | None:
    """Say what a column's name gives away; None for nothing.

    Examples
    --------
    >>> told_by_name("churn_reason").told.value, told_by_name("TotalCharges").told.value
    ('afterwards', 'running')
    >>> told_by_name("cancel_page_views") is None
    True
    """
    words = words_of(name)
    bare = [word for word in words if word not in FILLERS]
    ends = [word for word in bare if word in EVENTS]
    if ends and all(word in EVENTS or word in DETAILS or word.isdecimal() for word in bare):
        return Naming(Told.AFTERWARDS, " ".join(bare))
    for word in words:
        if word in RUNNING:
            return Naming(Told.RUNNING, word)
    for pair in pairwise(words):
        if pair in RUNNING_PAIRS:
            return Naming(Told.RUNNING, " ".join(pair))
    for word in words:
        if word in MENTIONS:
            return Naming(Told.MENTIONS, word)
    return None
