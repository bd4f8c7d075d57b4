"""Text files and JSON from outside, read within limits of size and depth.

A small file can expand to gigabytes, and reading a device never ends. So everything that a person
or another machine provides is read within these limits, and refused with the limit named.
"""

from __future__ import annotations

import json
import re
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "HALF",
    "LARGEST_TEXT",
    "MOST_LEVELS",
    "is_spec_file",
    "is_text",
    "parse_json",
    "read_text",
    "with_leaves",
]

#: Most bytes of a text file: a spec, a weights file, a query.
LARGEST_TEXT = 4 * 1024 * 1024
#: Most levels of mappings and lists within each other.
MOST_LEVELS = 50
_SPEC_ENDINGS = {".yaml", ".yml", ".json", ".csv"}


def is_spec_file(name: str) -> bool:
    """Return whether a name is that of a spec's file, by its ending, and not of an experiment."""
    return Path(name).suffix.lower() in _SPEC_ENDINGS


def read_text(path: str | Path) -> str:
    """Read a text file in UTF-8 of at most `LARGEST_TEXT` bytes.

    Raises
    ------
    ValueError
        If it can't be read, is larger, or isn't UTF-8; the message is the reason.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_TEXT + 1)
        text = content[:LARGEST_TEXT].decode("utf-8")
    except OSError as err:
        raise ValueError(err.strerror or str(err)) from err
    except UnicodeDecodeError as err:
        raise ValueError("not UTF-8 text") from err
    if len(content) > LARGEST_TEXT:
        raise ValueError(f"larger than {LARGEST_TEXT:,} bytes")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_json(
    text: str | bytes, *, pairs: Callable[[list[tuple[str, Any]]], object] | None = None
) -> Any:
    """Read JSON of at most `MOST_LEVELS` levels.

    Parameters
    ----------
    text
        The JSON.
    pairs
        Makes an object of its pairs; None for a dict.

    Raises
    ------
    ValueError
        If it isn't JSON, or is nested deeper; or if it has what Python could read, but not write
        again: a number of thousands of digits, or a lone surrogate.
    """
    try:
        value = json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except UnicodeDecodeError as err:
        raise ValueError("not UTF-8 text") from err
    except ValueError as err:
        if "digits" not in str(err):
            raise
        raise ValueError("a number in it has thousands of digits") from err
    level = [value]
    for _ in range(MOST_LEVELS + 1):
        level = list(chain.from_iterable(map(_below, level)))
        if not level:
            break
    else:
        raise ValueError(_TOO_DEEP)
    if not is_text(value):
        raise ValueError(HALF)
    return value


#: The reason why `is_text` is False for a text.
HALF = "half a character in it, a lone surrogate, which no file can hold"


def is_text(value: object) -> bool:
    """Return whether all texts in a value can be written as UTF-8: none has a lone surrogate."""
    if isinstance(value, dict):
        return all(is_text(key) and is_text(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(is_text, value))
    return not isinstance(value, str) or value.isascii() or not _SURROGATE.search(value)


_SURROGATE = re.compile("[\ud800-\udfff]")
_TOO_DEEP = f"more than {MOST_LEVELS} levels of lists and objects within each other"


def _below(value: object) -> list[object]:
    """Return the lists and objects directly within a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [each for each in inner if isinstance(each, dict | list)]


def with_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a document in which `change` was applied to everything but lists and objects."""
    if isinstance(value, dict):
        return {key: with_leaves(each, change) for key, each in value.items()}
    if isinstance(value, list):
        return [with_leaves(each, change) for each in value]
    return change(value)
