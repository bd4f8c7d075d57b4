"""Two tables at once: both are looked at before either is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from gtmar.errors import Violation, ViolationsError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["both"]

T = TypeVar("T")
U = TypeVar("U")


def both(first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
    """Do two things, and raise the violations of both in one error.

    Parameters
    ----------
    first, second
        What reads a table each.

    Raises
    ------
    ViolationsError
        With all that either found, each problem with its table's name before it.
    """
    found: list[ViolationsError] = []
    one = two = None
    try:
        one = first()
    except ViolationsError as err:
        found.append(err)
    try:
        two = second()
    except ViolationsError as err:
        found.append(err)
    if len(found) == 1:
        raise found[0]
    if found:
        raise ViolationsError(
            " and ".join(err.source for err in found),
            [
                Violation(v.column, f"{err.source}: {v.problem}", hint=v.hint, rows=v.rows)
                for err in found
                for v in err.violations
            ],
        )
    return one, two  # type: ignore[return-value] # both were read
