"""Which columns leak the outcome: by their names, and by how closely their values follow it.

The lists of words are described in docs/leakage.md. All measures are exact up to one division, and
don't depend on the order of rows.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import chain, pairwise
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar.data.rules import OWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from gtmar.data.outcomes import OutcomeColumns

    Doubles = NDArray[np.float64]
    Flags = NDArray[np.bool_]

__all__ = ["Grade", "Leak", "area", "find_leaks"]


class HintKind(StrEnum):
    """What a column's name suggests about it."""

    #: It is filled in after the outcome: `churn_reason`.
    AFTERWARDS = "afterwards"
    #: It keeps growing until the outcome is known: `months_active`.
    RUNNING = "running"
    #: It mentions the outcome: `churn_score`.
    MENTIONS = "mentions"


@dataclass(frozen=True)
class NameHint:
    """What a column's name suggests, and the words that do."""

    kind: HintKind
    words: str


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Words for how an account ends or stays; alone, or with `DETAILS`, they name the outcome itself.
EVENTS = _words(
    "attrition canceled cancelation cancellation cancelled churn churned closure deactivated "
    "deactivation exit exited lapsed left lost offboarded offboarding quit retained terminated "
    "termination unsubscribed winback"
)
#: Words for details of an end: when, why.
DETAILS = _words(
    "at category cause code comment comments date day feedback flag month note notes on quarter "
    "reason survey time timestamp type week year"
)
#: Words that change nothing.
FILLERS = _words("account client company contract customer did has is subscription the user was")
#: Words that mention the outcome anywhere in a name.
MENTIONS = _words(
    "attrition cancellation churn churned label outcome predicted prediction renewed retained "
    "target terminated"
)
#: Words, and pairs of neighbouring words, for amounts that grow until the end.
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


def name_hint(name: str) -> NameHint | None:
    """Return what a column's name suggests; None for nothing.

    Examples
    --------
    >>> name_hint("churn_reason").kind.value, name_hint("TotalCharges").kind.value
    ('afterwards', 'running')
    >>> name_hint("cancel_page_views") is None
    True
    """
    words = words_of(name)
    bare = [word for word in words if word not in FILLERS]
    ends = [word for word in bare if word in EVENTS]
    if ends and all(word in EVENTS or word in DETAILS or word.isdecimal() for word in bare):
        return NameHint(HintKind.AFTERWARDS, " ".join(bare))
    running = [word for word in words if word in RUNNING]
    running += [" ".join(pair) for pair in pairwise(words) if pair in RUNNING_PAIRS]
    if running:
        return NameHint(HintKind.RUNNING, running[0])
    mentioned = next((word for word in words if word in MENTIONS), None)
    return None if mentioned is None else NameHint(HintKind.MENTIONS, mentioned)


# ---- how closely columns go together -------------------------------------------------------------

#: Names that an index, or a query's row_number(), has in an export.
_ROW_NUMBER = re.compile(
    r"(column_|unnamed: ?|__index_level_|level_)\d+(__)?|index|#|rn|"
    r"row_?(id|nr|num|number|index|no)?",
    re.IGNORECASE,
)
#: Two columns are proportional if they differ by no more than this share of their range.
_NOTHING = 1e-9
#: Levels of a category with fewer accounts are merged.
_RARE = 10


def area(values: Doubles, positive: Flags) -> float:
    """Return the area under the ROC curve of one column, shape (N,), in [0, 1]; ties count half.

    No value may be NaN, and `positive` must have both classes. Hanley and McNeil (1982), The
    meaning and use of the area under a ROC curve.
    """
    levels, level_of = np.unique(values, return_inverse=True)
    above = np.bincount(level_of, weights=positive, minlength=len(levels))
    below = np.bincount(level_of, minlength=len(levels)) - above
    won = (above * (np.cumsum(below) - below / 2)).sum()
    return float(won / (above.sum() * below.sum()))


def separation(values: Doubles, positive: Flags) -> float:
    """Return how well one column ranks an outcome by itself, in [0.5, 1].

    That is the area under the ROC curve, in the better direction. Unknown values (NaN) are one
    level below or above all others, whichever separates more. `positive` must have both classes.
    """
    unknown = np.isnan(values)
    _, level_of = np.unique(values[~unknown], return_inverse=True)
    best = 0.5
    for level in (-1, len(level_of)) if unknown.any() else (0,):
        ranked = np.full(len(values), float(level))
        ranked[~unknown] = level_of
        auc = area(ranked, positive)
        best = max(best, auc, 1 - auc)
    return best


def levels_of(codes: NDArray[np.intp], positive: Flags) -> Doubles:
    """Return for each account the share of positives in its category, for `separation`.

    `codes`, shape (N,), number the categories from 0, unknown among them. Categories of fewer than
    ten accounts are merged.
    """
    size = np.bincount(codes)
    rare = (size < _RARE)[codes]
    codes = np.where(rare, len(size), codes)
    size = np.bincount(codes)
    share: Doubles = np.bincount(codes, weights=positive) / np.maximum(size, 1)
    return share[codes]


def pure(codes: NDArray[np.intp], positive: Flags) -> bool:
    """Return whether all accounts of each category, shape (N,), have the same class."""
    size, above = np.bincount(codes), np.bincount(codes, weights=positive)
    return bool(np.all((above == 0) | (above == size)))


def rank_correlation(one: Doubles, two: Doubles) -> float:
    """Return Spearman's rank correlation of two columns, shape (N,), without NaN; 0 if constant.

    Spearman (1904), The proof and measurement of association between two things.
    """
    ranks = [_average_ranks(values) for values in (one, two)]
    spreads = [values - values.mean() for values in ranks]
    size = np.sqrt((spreads[0] ** 2).sum() * (spreads[1] ** 2).sum())
    return float((spreads[0] * spreads[1]).sum() / size) if size else 0.0


def _average_ranks(values: Doubles) -> Doubles:
    """Return ranks from 1, shape (N,); equal values share the mean of theirs."""
    _, level_of, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Doubles = (np.cumsum(sizes) - (sizes - 1) / 2)[level_of]
    return ranks


def one_to_one(one: NDArray[Any], two: NDArray[Any]) -> bool:
    """Return whether the values of two columns, shape (N,), correspond one to one.

    False for columns whose values hardly repeat, since these would correspond to anything.
    """
    first, at = np.unique(one, return_inverse=True)
    second, there = np.unique(two, return_inverse=True)
    if len(first) != len(second) or len(first) < 2 or len(first) > len(one) / 3:
        return False
    return len(np.unique(at * len(second) + there)) == len(first)


def proportional(one: Doubles, two: Doubles) -> bool:
    """Return whether one column is a linear function of the other; both (N,), NaN where unknown.

    Both must be unknown for the same accounts, and vary.
    """
    if not np.array_equal(np.isnan(one), np.isnan(two)):
        return False
    shares = []
    for values in (one, two):
        known = values[~np.isnan(values)]
        if not len(known) or known.min() == known.max():
            return False
        shares.append((known - known.min()) / (known.max() - known.min()))
    up, down = (np.abs(shares[0] - other).max() for other in (shares[1], 1 - shares[1]))
    return bool(min(up, down) <= _NOTHING)


#: A column with more distinct values is no category.
_MOST_LEVELS = 50
#: Two columns whose `lean` differs by more than this aren't proportional.
_ALIKE = 1e-6


def _readings(column: pl.Series) -> tuple[Doubles | None, NDArray[np.intp] | None]:
    """Return a column as doubles, NaN where unknown, and as codes of categories.

    Either is None if the column is no number (dates are), or has too many distinct values.
    """
    dtype = column.dtype
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        return None, None
    if dtype.is_temporal():
        column = column.to_physical()
    values: Doubles | None = None
    if column.dtype.is_numeric() or dtype == pl.Boolean:
        column = column.cast(pl.Float64).fill_nan(None)
        values = column.to_numpy()
    else:
        column = column.cast(pl.String)
    if column.n_unique() > _MOST_LEVELS:
        return values, None
    # Dense ranks begin with 1; 0 stands for unknown.
    return values, column.rank("dense").fill_null(0).to_numpy().astype(np.intp)


def _few(codes: NDArray[np.intp]) -> bool:
    """Return whether there are at least five accounts for each level, on average."""
    return len(np.unique(codes)) <= len(codes) / 5


@dataclass(frozen=True)
class _Content:
    """A column's values, with a key that duplicates of it have, too."""

    name: str
    #: Columns with different keys can't be duplicates.
    key: tuple[object, ...]
    content: NDArray[Any]
    #: Distance of the mean from the middle of the range, as a share of it; None for categories.
    lean: float | None

    def says_the_same_as(self, other: _Content) -> bool:
        """Return whether both are proportional, or categories that correspond one to one."""
        if self.lean is None or other.lean is None:
            return one_to_one(self.content, other.content)
        return abs(self.lean - other.lean) < _ALIKE and proportional(self.content, other.content)


def _content(name: str, values: Doubles | None, codes: NDArray[np.intp] | None) -> _Content | None:
    """Return a column's content; None if it doesn't vary, or is neither number nor category."""
    if values is None:
        if codes is None or not _few(codes) or len(np.unique(codes)) < 2:
            return None
        sizes = sorted(np.bincount(codes).tolist())
        return _Content(name, ("levels", *sizes), codes, None)
    known = values[~np.isnan(values)]
    if not len(known) or not np.isfinite(known).all() or known.min() == known.max():
        return None
    lean = abs((known.mean() - known.min()) / (known.max() - known.min()) - 0.5)
    return _Content(name, ("line", len(known)), values, float(lean))


# ---- what is found -------------------------------------------------------------------------------

#: From this AUC on, a column is taken for the label itself; from this rank correlation on, for an
#: outcome's amount.
SAME, SAME_ORDER = 0.97, 0.99
#: From this AUC on, a column is a warning, whatever its name.
STRONG = 0.85
#: AUC from which a column with a name of `RUNNING` is an error, and from which a warning.
TELLING, SLIGHT = 0.70, 0.60
#: Least accounts of each class.
_LEAST = 20
#: An AUC within so many standard deviations of 0.5 is taken for chance.
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
    #: `outcome`, `afterwards`, `running`, `mentions`, `strong`, `row`, `constant` or `duplicate`.
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
    sample: pl.DataFrame, columns: Sequence[str], outcomes: OutcomeColumns
) -> tuple[Leak, ...]:
    """Look for leakage in columns that are features, or may become one.

    Parameters
    ----------
    sample
        N accounts, from `matrix.search_sample`.
    columns
        Names of the columns to look at.
    found
        The table's outcome columns.

    Returns
    -------
    tuple of Leak
        Errors first, then warnings; both in the order of the columns.

    Notes
    -----
    Cost: a sort of N values for each column and outcome, and a pass over N for each pair of columns
    that may be duplicates.
    """
    labels, amounts = _outcomes(sample, outcomes)
    leaks, contents = list[Leak](), list[_Content | None]()
    for name in columns:
        values, codes = _readings(sample[name])
        leaks += _of_column(sample[name], values, codes, labels, amounts)
        contents.append(_content(name, values, codes))
    leaks += _duplicates(filter(None, contents))
    places = {name: index for index, name in enumerate(columns)}
    return tuple(sorted(leaks, key=lambda k: (k.grade is not Grade.ERROR, places[k.column])))


def _outcomes(
    sample: pl.DataFrame, outcomes: OutcomeColumns
) -> tuple[list[_Outcome], list[tuple[_Outcome, Doubles | None]]]:
    """Return the labels; and the amounts, each with the MRR at the start if it may follow that."""

    def known(role: str) -> _Outcome:
        return _Outcome(role, sample[f"{OWN}{role}"].cast(pl.Float64).to_numpy())

    labels = [known(role) for role in ("retained", "activated", "won_back")]
    start = known("start").values if outcomes.has("mrr") else None
    later = {"end": ("mrr_end", start), "ltv": ("ltv", start), "days": ("days_to_activate", None)}
    amounts = [(known(role), before) for role, (own, before) in later.items() if outcomes.has(own)]
    labels = [label for label in labels if not np.isnan(label.values).all()]
    if not labels and not amounts and outcomes.has("mrr"):
        amounts = [(known("start"), None)]
    return labels, amounts


def _of_column(
    column: pl.Series,
    values: Doubles | None,
    codes: NDArray[np.intp] | None,
    labels: list[_Outcome],
    amounts: list[tuple[_Outcome, Doubles | None]],
) -> list[Leak]:
    """Return the leaks of one column: against labels and amounts, by its name, by its AUC."""
    name = column.name
    if codes is not None and len(np.unique(codes)) == 1:
        # Written by Python, since Polars can't cast every type to text.
        known = column.drop_nulls()
        observed = "it is empty" if known.is_empty() else f"it is always {known[0]}"
        why = "what is the same for every account can't rank them"
        return [Leak(name, Grade.WARNING, "constant", observed, why, "leave it out")]
    areas: dict[str, float] = {}
    empty = column.is_null().to_numpy()
    label_leaks = (_tells_label(label, values, codes, empty, areas) for label in labels)
    amount_leaks = (_follows(each, values, start) for each, start in amounts if values is not None)
    if observed_first := next(filter(None, chain(label_leaks, amount_leaks)), None):
        why = "it is the outcome under another name, or made from it"
        advice = f"leave it out, or name it with --outcome; {_kept(name)}"
        return [Leak(name, Grade.ERROR, "outcome", observed_first, why, advice)]
    if _numbers_rows(column):
        why = "another table numbers its accounts in another order"
        advice = f"leave it out; {_kept(name)}"
        return [Leak(name, Grade.WARNING, "row", "it numbers the rows", why, advice)]
    hint = name_hint(name)
    best = max(areas, key=lambda role: areas[role], default=None)
    strength = None if best is None else areas[best]
    measured = "" if best is None else f"alone it ranks {_SPOKEN[best]} with AUC {areas[best]:.3f}"
    if hint is not None and (
        leak := _by_name(name, hint, strength, measured, labelled=bool(labels))
    ):
        return [leak]
    if strength is None or strength < STRONG:
        return []
    why = f"few columns that are known beforehand reach {STRONG}"
    advice = "make sure that it was known when the window began"
    return [Leak(name, Grade.WARNING, "strong", measured, why, advice)]


def _kept(name: str) -> str:
    return f"--keep {quote(name)} takes it all the same"


def _numbers_rows(column: pl.Series) -> bool:
    """Whether a column is the index of an export, by its name and as no value stands twice."""
    named = _ROW_NUMBER.fullmatch(column.name.strip())
    return bool(named) and column.dtype.is_integer() and column.n_unique() == len(column)


def _tells_label(
    label: _Outcome,
    values: Doubles | None,
    codes: NDArray[np.intp] | None,
    empty: Flags,
    areas: dict[str, float],
) -> str | None:
    """Word how a column gives a label away; None if it doesn't.

    The AUC by which it ranks the label, if above chance, is added to `areas`.
    """
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
        alone = separation(read, positive)
        # The standard deviation of an area that says nothing (Mann and Whitney 1947).
        above, below = int(positive.sum()), int((~positive).sum())
        if alone > 0.5 + _CHANCE * np.sqrt((above + below + 1) / (12 * above * below)):
            areas[label.role] = alone
    if codes is not None and _few(codes[known]) and pure(codes[known], positive):
        return f"each of its values goes with one value of {label.spoken}"
    if areas.get(label.role, 0) >= SAME:
        return f"it ranks {label.spoken} almost perfectly by itself (AUC {areas[label.role]:.3f})"
    return None


def _follows(amount: _Outcome, values: Doubles, start: Doubles | None) -> str | None:
    """Word how a column follows an amount that is known later; None if it doesn't.

    A column that follows the MRR at the start as closely is no leak: it was known then.
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


def _by_name(
    name: str, hint: NameHint, strength: float | None, measured: str, *, labelled: bool
) -> Leak | None:
    """Return the leak that a column's name suggests, graded by its AUC; None if it is too low."""
    advice = f"leave it out; {_kept(name)}"
    beside = f" and {measured}" if measured else ""
    observed = f'its name says "{hint.words}"{beside}'
    if hint.kind is HintKind.AFTERWARDS:
        why = "such a column is filled in once the account has gone"
        return Leak(name, Grade.ERROR, "afterwards", observed, why, advice)
    limit, why = STRONG, "a column that is named after the outcome is seldom known before it"
    if hint.kind is HintKind.RUNNING:
        if labelled and (strength or 0) < SLIGHT:
            return None
        limit, why = TELLING, "such a number keeps growing until the outcome is known"
        advice = f"take it as it was when the window began, or {advice}"
    grade = Grade.ERROR if strength is not None and strength >= limit else Grade.WARNING
    return Leak(name, grade, hint.kind.value, observed, why, advice)


def _duplicates(contents: Iterable[_Content]) -> list[Leak]:
    """Return a leak for each column that duplicates an earlier one.

    Only columns with the same `_Content.key` are compared, so that many columns cost little more
    than a pass each.
    """
    seen: dict[tuple[object, ...], list[_Content]] = {}
    leaks = []
    for reading in contents:
        like = seen.setdefault(reading.key, [])
        first = next((other.name for other in like if reading.says_the_same_as(other)), None)
        if first is None:
            like.append(reading)
            continue
        how = "is a straight line of" if reading.lean is not None else "goes one to one with"
        why = "two columns of the same content share one weight between them"
        advice = "keep the one that people know"
        leaks.append(
            Leak(reading.name, Grade.WARNING, "duplicate", f'it {how} "{first}"', why, advice)
        )
    return leaks
