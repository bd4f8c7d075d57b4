"""All errors and warnings of gtmar, with the command line's exit code for each.

Whatever a user can cause raises one of these. Programming errors stay plain Python exceptions; the
command line reports them as `FaultError`. A library's errors are translated in the module that uses
the library. Messages may quote tables and journals that somebody else wrote, so they are shown
without credentials and control characters.

::

    GtmarError                     1
    ├── UsageError                 2   a command or call that asks for what isn't there
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
from importlib.util import find_spec
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
    "alike",
    "culprits",
    "did_you_mean",
    "nearest",
    "needing",
    "require_packages",
]


#: Suggestions for an unknown name: it is compared with names up to this length, and with so many.
_LONGEST_NAME, _COMPARED = 200, 5_000
#: Names up to this length occur within other names by chance.
_SHORT = 3
#: Most characters of a line of a message, which may quote a whole cell or file.
_LONGEST_LINE = 20_000


class GtmarError(Exception):
    """Root of all errors that gtmar raises on purpose.

    Parameters
    ----------
    message
        What is meant by name, what was expected, what was found, how many and which.
    hint
        The argument or command that most likely helps; printed on a line of its own.
    listing
        Further lines below the message, if it is about several findings.
    facts
        The same facts as plain values, for ``--json``.
    """

    #: Stable short name of the kind of error, for programs that read ``--json``.
    code: ClassVar[str] = "error"
    #: Exit code of the command line.
    exit_code: ClassVar[int] = 1

    def __init__(
        self, message: str, *, hint: str | None = None, listing: Sequence[str] = (), **facts: object
    ) -> None:
        # Line ends within a quoted name are escaped, so that it can't forge a line of the listing.
        self.message = "\n".join(map(_presentable, (message, *listing)))
        super().__init__(self.message)
        self.hint = None if hint is None else _presentable(hint)
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _put_together, (type(self), self.args, vars(self))

    @classmethod
    def of_all(
        cls, texts: Sequence[str], head: str, *, hint: str | None = None, **facts: object
    ) -> Self:
        """Return one error for several findings: the only one as message, else all below `head`."""
        if len(texts) == 1:
            return cls(texts[0], hint=hint, listing=(), **facts)
        return cls(head, hint=hint, listing=[f"  - {text}" for text in texts], **facts)


def _put_together(
    kind: type[Exception], given: tuple[object, ...], facts: dict[str, object]
) -> Exception:
    """Make an error that another process raised of its parts.

    Pickle by itself calls the constructor with the message alone, which asks for more or for else.
    """
    error = kind.__new__(kind, *given)
    vars(error).update(facts)
    return error


def _presentable(line: str) -> str:
    """Return a line of bounded length without credentials, control characters shown."""
    cut = line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}... and so on"
    return visible(redacted(cut))


class UsageError(GtmarError, ValueError):
    """A command or a call names what isn't there, or combines what excludes each other."""

    code = "usage"
    exit_code = 2


class SpecError(GtmarError, ValueError):
    """A scoring spec can't be read, or contradicts itself or the rules of specs."""

    code = "spec"
    exit_code = 3


class RecipeError(GtmarError, ValueError):
    """A recipe of snapshots can't be read, or contradicts itself or the rules of recipes."""

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
        The column's name, or an empty string for the table as a whole.
    problem
        What was expected and what was found, with the number of rows and the first few values.
    hint
        What helps.
    rows
        Number of rows concerned; 0 if it isn't about rows.
    """

    def __init__(self, column: str, problem: str, *, hint: str = "", rows: int = 0) -> None:
        super().__init__(problem)
        self.column = column
        self.problem = problem
        self.hint = hint
        self.rows = rows

    def __reduce__(self) -> tuple[object, ...]:
        return _put_together, (type(self), self.args, vars(self))


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
        #: How many rows break the contract, and of how many, if leaving them out would help; else
        #: None.
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
    """Something that was left out while reading, and why; the command line prints it on stderr."""

    code: ClassVar[str] = "warning"
    hint: ClassVar[str | None] = None


class JournalWarning(GtmarWarning):
    """Something in a journal that was left out while reading, and why."""

    code = "journal"


class DamagedJournalWarning(JournalWarning):
    """Runs or events were left out because their files are damaged; the message names them."""

    code = "damaged_journal"
    hint = "gtmar verify names all that is damaged"


class SpecWarning(GtmarWarning):
    """Something in a spec that was left out while reading, and why."""

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
    """An error that nobody foresaw: a fault of gtmar, not of its user."""

    code = "fault"
    exit_code = 70


class OutputError(GtmarError):
    """Standard output or error can't be written: closed, or its disk is full."""

    code = "output"
    exit_code = 74


def culprits(values: Iterable[object], *, limit: int = 5) -> str:
    """Return the first few of the values that an error is about, quoted, as text.

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


def alike(names: Iterable[str]) -> list[str]:
    """Return the names that differ from another one by capitals alone.

    Examples
    --------
    >>> alike(["Logins", "mrr", "logins", "mrr"])
    ['Logins', 'logins']
    """
    spellings: dict[str, dict[str, None]] = {}
    for name in names:
        spellings.setdefault(name.lower(), {})[name] = None
    return [name for each in spellings.values() if len(each) > 1 for name in each]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was most likely meant, or None.

    That is a similarly spelled one, else the shortest that contains the given one. Very long names,
    and more than some thousand, are not compared, which would take seconds.

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
    """Return a question for the nearest known name, with `before` in front; empty for none.

    Examples
    --------
    >>> did_you_mean("alert_creatd", ["alert_created", "mrr"], before="; ")
    '; did you mean "alert_created"?'
    """
    likely = nearest(name, known)
    return f'{before}did you mean "{likely}"?' if likely else ""


def require_packages(subject: str, extra: str, *names: str) -> None:
    """Raise `UsageError` if packages of an extra of gtmar, which `subject` needs, are missing."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"{subject} needs {', '.join(missing)}, which is not installed",
            hint=f"pip install 'gtmar[{extra}]'",
        )


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Raise a `UsageError` with a hint if an import within the context fails.

    Parameters
    ----------
    extra
        The extra of gtmar that installs the library.

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
