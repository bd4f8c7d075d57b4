"""Checks the arguments of a call against the function's annotations; one error for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Number, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gtmar.errors import UsageError

__all__ = ["checked"]


def checked(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call, with numpy's numbers as Python's.

    A text doesn't count as a list, nor True as a number; ``Any`` allows everything. Raises
    `UsageError` with each argument of a wrong type, what it may be, and what was given.
    """
    hints = get_type_hints(function)
    wrong = [
        f"{name} expects {_listed(_words(hints[name]))}, got {_shown(value)}"
        for name, value in given.items()
        if not _fits(value, hints[name])
    ]
    if wrong:
        name = getattr(function, "__qualname__", "")
        raise UsageError("; ".join(wrong), hint=f"help(gtmar.{name}) says what each may be")
    return {name: _plain(value) for name, value in given.items()}


def _fits(value: object, hint: Any) -> bool:
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if kind is Any:
        return True
    if kind is Literal:
        return isinstance(value, str) and value in inner
    if kind in _NUMBERS:
        return isinstance(value, _NUMBERS[kind]) and not isinstance(value, bool)
    if kind is Sequence:
        listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return listed and all(_fits(each, inner[0]) for each in value)  # type: ignore[attr-defined] # a sequence
    if kind is Mapping:
        return isinstance(value, Mapping) and all(
            _fits(each, inner[0]) and _fits(named, inner[1]) for each, named in value.items()
        )
    return callable(value) if kind is Callable else isinstance(value, kind)


_NUMBERS: dict[object, type] = {int: Integral, float: Real}
#: Names of types in messages; others are called by their class, as "a Spec".
_CALLED = {
    bool: "True or False",
    float: "a number",
    int: "a whole number",
    NoneType: "None",
    str: "a text",
    Callable: "a function",
}


def _listed(words: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _words(hint: Any) -> list[str]:
    """Return the name of each type that an annotation allows."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return [word for each in inner for word in _words(each)]
    if kind is Literal:
        return list(map(repr, inner))
    if kind is Sequence:
        return [f"a list of which each is {_listed(_words(inner[0]))}"]
    if kind is Mapping:
        key, value = (_listed(_words(each)) for each in inner)
        return [f"a dict with {key} as key and {value} as value"]
    return [_CALLED.get(kind) or f"a {kind.__name__}"]


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    kind = type(value)
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple | dict):
        return f"the {kind.__name__} {value!r}"
    return f"a {kind.__module__}.{kind.__qualname__}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_plain(key): _plain(each) for key, each in value.items()}
    return value.item() if isinstance(value, Number) and hasattr(value, "item") else value
