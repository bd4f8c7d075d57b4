"""The whole error tree, and the exit code that each branch gives the command line.

Everything that a user can cause ends in one of these; programming errors stay plain Python
exceptions, of which the command line makes a `FaultError`. Libraries' own errors are translated
once, in the module that owns the library. Every room may import this one. What a message quotes, of
tables and journals that somebody else wrote, is shown without credentials and with nothing that a
terminal obeys.

::

    GtmarError                     1
    ├── UsageError                 2   a command or call that asks for something that isn't there
    ├── SpecError                  3
    ├── RecipeError                3   a recipe of snapshots
    ├── AccountDataError           3   ViolationsError: all that is wrong with a table
    ├── ShapeError                 1   array contract of kernel and metrics
    ├── ResourceError              4   a disk or a cluster lacks what a run needs
    ├── JournalError               5   RunNotFoundError · JournalVersionError ·
    │                                 NotComparableError · NotResumableError
    ├── QueryError                 6
    ├── FaultError                70   what nobody foresaw: a fault of gtmar
    └── OutputError               74   stdout or stderr can't be written
"""

from __future__ import annotations

from contextlib import contextmanager
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Self

from gtmar.safe_text import redacted, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "AccountDataError",
    "DamagedJournalWarning",
    "FaultError",
    "GtmarError",
    "GtmarWarning",
    "JournalError",
    "JournalVersionError",
    "JournalWarning",
    "NotComparableError",
    "NotResumableError",
    "OutputError",
    "QueryError",
    "RecipeError",
    "ResourceError",
    "RunNotFoundError",
    "ShapeError",
    "SpecError",
    "SpecWarning",
    "UsageError",
    "Violation",
    "ViolationsError",
    "culprits",
    "did_you_mean",
    "nearest",
    "needing",
]


#: Longer names, and more of them, are not compared with a name that isn't there.
_LONGEST_NAME, _COMPARED = 200, 5_000
#: Names of so many letters are within many others by chance.
_SHORT = 3
#: Characters of a line of a message; whole cells and files would drown what it says.
_LONGEST_LINE = 20_000


class GtmarError(Exception):
    """Root of all errors that gtmar raises on purpose.

    Parameters
    ----------
    message
        Whose name, what was expected, what was found, how many and which.
    hint
        The one argument or command that most likely mends it; printed on a line of its own.
    listing
        Lines below the message, of several findings.
    facts
        The same facts as plain values, for ``--json``.
    """

    #: Stable slug, for programs that read ``--json``.
    code: ClassVar[str] = "error"
    #: Exit code of the command line.
    exit_code: ClassVar[int] = 1

    def __init__(
        self, message: str, *, hint: str | None = None, listing: Sequence[str] = (), **facts: object
    ) -> None:
        # Only the lines of a listing are lines: a name with a line's end in it forges none.
        self.message = "\n".join(map(_presentable, (message, *listing)))
        super().__init__(self.message)
        self.hint = None if hint is None else _presentable(hint)
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message

    @classmethod
    def of_all(
        cls, texts: Sequence[str], head: str, *, hint: str | None = None, **facts: object
    ) -> Self:
        """Make one error of several findings: the only one itself, else all below a head."""
        if len(texts) == 1:
            return cls(texts[0], hint=hint, listing=(), **facts)
        return cls(head, hint=hint, listing=[f"  - {text}" for text in texts], **facts)


def _presentable(line: str) -> str:
    """Return a line of bounded length without credentials, control characters shown."""
    cut = line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}... and so on"
    return visible(redacted(cut))


class UsageError(GtmarError, ValueError):
    """A command or a call names something that isn't there, or things that exclude each other."""

    code = "usage"
    exit_code = 2


class SpecError(GtmarError, ValueError):
    """A scoring spec can't be read, or says something that can't hold."""

    code = "spec"
    exit_code = 3


class RecipeError(GtmarError, ValueError):
    """A recipe of snapshots can't be read, or says something that can't hold."""

    code = "recipe"
    exit_code = 3


class AccountDataError(GtmarError, ValueError):
    """An account table can't be read, or doesn't fit the spec."""

    code = "account_data"
    exit_code = 3


class Violation(Exception):  # noqa: N818 - one finding among many; ViolationsError is what is raised
    """One way in which an account table breaks the data contract.

    Parameters
    ----------
    column
        The column's name, or an empty string where the table as a whole is meant.
    problem
        What was expected and what was found, with the number of rows and the first few culprits.
    hint
        What mends it.
    rows
        Number of rows concerned, 0 where it isn't about rows.
    """

    def __init__(self, column: str, problem: str, *, hint: str = "", rows: int = 0) -> None:
        super().__init__(problem)
        self.column = column
        self.problem = problem
        self.hint = hint
        self.rows = rows


class ViolationsError(AccountDataError):
    """All violations of the data contract that one pass over an account table found."""

    code = "contract"

    def __init__(
        self,
        source: str,
        violations: Sequence[Violation],
        *,
        set_aside: tuple[int, int] | None = None,
    ) -> None:
        self.source = source
        self.violations = tuple(violations)
        count = len(violations)
        lines = []
        for violation in violations:
            where = f'column "{violation.column}": ' if violation.column else ""
            lines.append(f"  - {where}{violation.problem}")
            if violation.hint:
                lines.append(f"    hint: {violation.hint}")
        super().__init__(
            f"{source}: {count} violation{'s' if count != 1 else ''} of the data contract",
            listing=lines,
            violations=[
                {"column": v.column, "problem": v.problem, "hint": v.hint, "rows": v.rows}
                for v in violations
            ],
        )
        if set_aside is not None:
            self.facts["set_aside"] = set_aside
        #: Rows that leaving out would mend all of it, and of how many; None where it wouldn't.
        self.set_aside = set_aside


class ShapeError(GtmarError, ValueError):
    """Arrays handed to the kernel or to a metric don't fit together."""

    code = "shape"


class ResourceError(GtmarError):
    """A disk is full, or a cluster can't be reached or loses its workers."""

    code = "resource"
    exit_code = 4


class JournalError(GtmarError):
    """A journal can't be read or written."""

    code = "journal"
    exit_code = 5


class GtmarWarning(UserWarning):
    """What a reader passed over, and why; on stderr from the command line."""

    code: ClassVar[str] = "warning"
    hint: ClassVar[str | None] = None


class JournalWarning(GtmarWarning):
    """What a journal's reader passed over, and why."""

    code = "journal"


class DamagedJournalWarning(JournalWarning):
    """An answer leaves out runs or events whose files aren't what was written, or can't be read.

    It names them.
    """

    code = "damaged_journal"
    hint = "gtmar verify names all that is damaged"


class SpecWarning(GtmarWarning):
    """What a spec's reader passed over, and why."""

    code = "spec"


class RunNotFoundError(JournalError):
    """The journal holds no such run or experiment."""

    code = "run_not_found"


class JournalVersionError(JournalError):
    """A journal was written by a newer gtmar, in a format that this one doesn't know."""

    code = "journal_version"


class NotComparableError(JournalError):
    """Two runs differ in table, tiers, objective or evaluator: their values don't compare."""

    code = "not_comparable"


class NotResumableError(JournalError):
    """A run can't be resumed or replayed over another table, spec or evaluator version."""

    code = "not_resumable"


class QueryError(GtmarError):
    """A query isn't there, is not allowed, lacks a parameter, or fails."""

    code = "query"
    exit_code = 6


class FaultError(GtmarError):
    """Something that nobody foresaw: a fault of gtmar and not of who uses it."""

    code = "fault"
    exit_code = 70


class OutputError(GtmarError):
    """Standard output or error can't be written: closed, or its disk is full."""

    code = "output"
    exit_code = 74


def culprits(values: Iterable[object], *, limit: int = 5) -> str:
    """Word the first few culprits of an error, quoted and in order.

    Examples
    --------
    >>> culprits(["b", "a"])
    '"b", "a"'
    >>> culprits(range(7))
    '0, 1, 2, 3, 4 and 2 more'
    """
    listed = list(values)
    shown = [f'"{v}"' if isinstance(v, str) else str(v) for v in listed[:limit]]
    rest = len(listed) - limit
    return ", ".join(shown) + (f" and {rest:,} more" if rest > 0 else "")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that the given one was most likely meant to be, or None.

    One of like letters, else the shortest of those that have the given one within them. Very long
    names, and names beyond some thousands, are not compared: that would take seconds.

    Examples
    --------
    >>> nearest("alert_creatd", ["alert_created", "mrr"])
    'alert_created'
    """
    if len(name) > _LONGEST_NAME:
        return None
    # By difflib's measure, a name more than 7/3 as long as another is never near.
    options = list(islice(known, _COMPARED))
    near = (o for o in options if 3 * max(len(o), len(name)) <= 7 * min(len(o), len(name)))
    lowered = {option.lower(): option for option in near}
    match = get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    if match:
        return lowered[match[0]]
    longer = [o for o in options if name.lower() in o.lower()] if len(name) > _SHORT else []
    return min(longer, key=len, default=None)


def did_you_mean(name: str, known: Iterable[str], before: str = "") -> str:
    """Ask whether the nearest known name was meant, `before` at the front; empty for none near.

    Examples
    --------
    >>> did_you_mean("alert_creatd", ["alert_created", "mrr"], before="; ")
    '; did you mean "alert_created"?'
    """
    likely = nearest(name, known)
    return f'{before}did you mean "{likely}"?' if likely else ""


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Word the error of a library that isn't installed, around the import of it.

    Parameters
    ----------
    extra
        The extra of gtmar that brings it.

    Raises
    ------
    UsageError
        If a library is missing.
    """
    try:
        yield
    except ModuleNotFoundError as err:
        raise UsageError(
            f"this needs {err.name}, which is not installed", hint=f"pip install 'gtmar[{extra}]'"
        ) from err
