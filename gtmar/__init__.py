"""Keep-or-revert research on account scores.

``gtmar.run(frame, "spec.yaml")`` searches, ``gtmar.score(frame, spec)`` scores, ``gtmar.Journal``
answers questions. Everything is imported when it is first asked for, from `gtmar.api`, which lists
it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gtmar.api import *  # noqa: F403 - each by its name in `gtmar.api.__all__`

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # A module of the package comes by the import that asks for it, without the others.
    if name == "__all__" or not (name.startswith("_") or find_spec(f"{__name__}.{name}")):
        api = import_module("gtmar.api")
        if name == "__all__":
            return [*api.__all__, "__version__"]
        if name in api.__all__:
            return getattr(api, name)
    raise AttributeError(f"module 'gtmar' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
