"""What a column's name gives away: that it tells the outcome, or goes on until it is known.

Names are only read here; what a name weighs beside the numbers is for `leakage` to say. The lists
are those of docs/leakage.md.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar.autospec.column_content import (
    ColumnContent,
    content_of,
    few,
    levels_of,
    one_to_one,
    pure,
    rank_correlation,
    readings,
    separation,
)
from gtmar.data.rules import OWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from gtmar.data.outcomes import OutcomeColumns

    Doubles = NDArray[np.float64]

__all__ = ["Grade", "Leak", "Naming", "Told", "find_leaks", "told_by_name", "words_of"]


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


#: From this area under the curve on a column is a label, from this rank correlation an amount.
SAME, SAME_ORDER = 0.97, 0.99
#: Alone, an area above this is worth a question.
STRONG = 0.85
#: With a name that counts on until the end, this much is the outcome's, and that much a question.
TELLING, SLIGHT = 0.70, 0.60
#: Fewer accounts of either class tell nothing.
_LEAST = 20
#: Areas within so many standard deviations of 0.5 are taken for chance.
_CHANCE = 3.0
_SPOKEN = {
    "retained": "retention",
    "activated": "activation",
    "won_back": "win-back",
    "end": "end MRR",
    "ltv": "LTV",
    "days": "days to activate",
    "start": "MRR",
}


class Grade(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Leak:
    """One finding about one column: what, why it is suspicious, what to do."""

    column: str
    grade: Grade
    #: `outcome`, `afterwards`, `running`, `mentions`, `strong`, `constant` or `duplicate`.
    kind: str
    found: str
    why: str
    advice: str

    @property
    def sentence(self) -> str:
        """All of it on one line."""
        return f"{self.found}: {self.why}; {self.advice}"

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class _Outcome:
    """An outcome as doubles, NaN where unknown."""

    role: str
    values: Doubles

    @property
    def spoken(self) -> str:
        return _SPOKEN[self.role]


def find_leaks(
    sample: pl.DataFrame, columns: Sequence[str], found: OutcomeColumns
) -> tuple[Leak, ...]:
    """Look for leakage in columns.

    Parameters
    ----------
    sample
        What `sample.search_sample` gives: N accounts of the search part with their outcomes.
    columns
        Those to look at: features, or what may become one.
    found
        The table's outcome columns.

    Returns
    -------
    tuple of Leak
        Errors first, then in the order of the columns.

    Notes
    -----
    Cost: a sort of N values for each column and outcome, and N for each pair of columns whose
    distribution is the same.
    """
    labels, amounts = _outcomes(sample, found)
    leaks = [leak for name in columns for leak in _of_column(sample[name], labels, amounts)]
    leaks += _duplicates(sample, columns)
    places = {name: place for place, name in enumerate(columns)}
    return tuple(sorted(leaks, key=lambda k: (k.grade is not Grade.ERROR, places[k.column])))


def _outcomes(
    sample: pl.DataFrame, found: OutcomeColumns
) -> tuple[list[_Outcome], list[tuple[_Outcome, Doubles | None]]]:
    """Return labels, and amounts each with what was known of it beforehand: MRR at the start."""

    def known(role: str) -> _Outcome:
        return _Outcome(role, sample[f"{OWN}{role}"].cast(pl.Float64).to_numpy())

    labels = [known(role) for role in ("retained", "activated", "won_back")]
    start = known("start").values if found.has("mrr") else None
    later = {"end": ("mrr_end", start), "ltv": ("ltv", start), "days": ("days_to_activate", None)}
    amounts = [(known(role), before) for role, (own, before) in later.items() if found.has(own)]
    labels = [label for label in labels if not np.isnan(label.values).all()]
    if not labels and not amounts and found.has("mrr"):
        amounts = [(known("start"), None)]
    return labels, amounts


def _of_column(
    column: pl.Series, labels: list[_Outcome], amounts: list[tuple[_Outcome, Doubles | None]]
) -> list[Leak]:
    """Judge one column: against labels and amounts, by its name, by its strength."""
    name = column.name
    values, codes = readings(column)
    if codes is not None and len(np.unique(codes)) == 1:
        return [_constant(column)]
    areas: dict[str, float] = {}
    for label in labels:
        if said := _told(label, values, codes, column.is_null().to_numpy(), areas):
            return [_outcome_leak(name, said)]
    for amount, start in amounts:
        if values is not None and (said := _follows(amount, values, start)):
            return [_outcome_leak(name, said)]
    naming = told_by_name(name)
    best = max(areas, key=lambda role: areas[role], default=None)
    strength = None if best is None else areas[best]
    measured = "" if best is None else f"alone it ranks {_SPOKEN[best]} with AUC {areas[best]:.3f}"
    if naming is not None and (
        leak := _by_name(name, naming, strength, measured, labelled=bool(labels))
    ):
        return [leak]
    if strength is None or strength < STRONG:
        return []
    why = f"few columns that are known beforehand reach {STRONG}"
    advice = "make sure that it was known when the window began"
    return [Leak(name, Grade.WARNING, "strong", measured, why, advice)]


def _told(
    label: _Outcome,
    values: Doubles | None,
    codes: NDArray[np.intp] | None,
    empty: NDArray[np.bool_],
    areas: dict[str, float],
) -> str | None:
    """Say how a column tells a label, and note how well it ranks it; None where it doesn't."""
    known = ~np.isnan(label.values)
    positive = label.values[known] == 1
    if min(positive.sum(), (~positive).sum()) < _LEAST:
        return None
    unknown = empty[known] if values is None else np.isnan(values[known])
    for gone in (positive, ~positive):
        if np.array_equal(unknown, gone):
            return f"it is empty exactly where {label.spoken} is {int(gone is positive)}"
    read = values[known] if values is not None else None
    if values is None and codes is not None:
        read = levels_of(codes[known], positive)
    if read is not None:
        area = separation(read, positive)
        if area > 0.5 + _CHANCE * _deviation(positive):
            areas[label.role] = area
    if codes is not None and few(codes[known]) and pure(codes[known], positive):
        return f"each of its values goes with one value of {label.spoken}"
    if areas.get(label.role, 0) >= SAME:
        return f"it ranks {label.spoken} almost perfectly by itself (AUC {areas[label.role]:.3f})"
    return None


def _deviation(positive: NDArray[np.bool_]) -> float:
    """Return the standard deviation of an area that says nothing (Mann and Whitney 1947)."""
    above, below = int(positive.sum()), int((~positive).sum())
    return float(np.sqrt((above + below + 1) / (12 * above * below)))


def _follows(amount: _Outcome, values: Doubles, start: Doubles | None) -> str | None:
    """Say how a column follows an amount that is known later; None where it doesn't.

    What follows MRR at the start as closely was known then.
    """
    known = ~(np.isnan(amount.values) | np.isnan(values))
    if known.sum() < 2 * _LEAST:
        return None
    ours, theirs = values[known], amount.values[known]
    r = rank_correlation(ours, theirs)
    if start is not None:
        before = known & ~np.isnan(start)
        if abs(rank_correlation(values[before], start[before])) >= abs(r):
            return None
    if one_to_one(ours, theirs):
        return f"its values go one to one with {amount.spoken}"
    if abs(r) >= SAME_ORDER:
        return f"it follows {amount.spoken} (rank correlation {r:+.3f})"
    return None


def _outcome_leak(name: str, said: str) -> Leak:
    return Leak(
        name,
        Grade.ERROR,
        "outcome",
        said,
        "it is the outcome under another name, or made from it",
        f"leave it out, or name it with --outcome; --keep {name} takes it all the same",
    )


def _by_name(
    name: str, naming: Naming, strength: float | None, measured: str, *, labelled: bool
) -> Leak | None:
    """Judge a name, with what the column can do by itself."""
    advice = f"leave it out; --keep {name} takes it all the same"
    beside = f" and {measured}" if measured else ""
    found = f'its name says "{naming.words}"{beside}'
    if naming.told is Told.AFTERWARDS:
        why = "such a column is filled in once the account has gone"
        return Leak(name, Grade.ERROR, "afterwards", found, why, advice)
    if naming.told is Told.RUNNING:
        if labelled and (strength or 0) < SLIGHT:
            return None
        worst = strength is not None and strength >= TELLING
        why = "such a number counts on until the outcome is known"
        taken = "take it as it was when the window began, or "
        grade = Grade.ERROR if worst else Grade.WARNING
        return Leak(name, grade, "running", found, why, taken + advice)
    worst = strength is not None and strength >= STRONG
    why = "it speaks of the outcome; what is known beforehand seldom does"
    grade = Grade.ERROR if worst else Grade.WARNING
    return Leak(name, grade, "mentions", found, why, advice)


def _constant(column: pl.Series) -> Leak:
    # As Python words it: not every type can be cast to text.
    known = column.drop_nulls()
    found = "it is empty" if known.is_empty() else f"it is always {known[0]}"
    why = "what is the same for every account can't rank them"
    return Leak(column.name, Grade.WARNING, "constant", found, why, "leave it out")


def _duplicates(sample: pl.DataFrame, columns: Iterable[str]) -> list[Leak]:
    """Find columns that another one before them says already.

    Only columns with as many unknowns and the mean at the same place are held beside each other, so
    that many columns cost little more than a pass each.
    """
    seen: dict[tuple[object, ...], list[ColumnContent]] = {}
    leaks = []
    for name in columns:
        reading = content_of(sample[name])
        if reading is None:
            continue
        alike = [other for other in seen.get(reading.key, []) if reading.says_the_same_as(other)]
        first = alike[0].name if alike else None
        if first is None:
            seen.setdefault(reading.key, []).append(reading)
            continue
        how = "is a straight line of" if reading.lean is not None else "goes one to one with"
        why = "two columns of the same content share one weight between them"
        leaks.append(
            Leak(
                name,
                Grade.WARNING,
                "duplicate",
                f'it {how} "{first}"',
                why,
                "keep the one that people know",
            )
        )
    return leaks
