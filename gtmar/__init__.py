"""Keep-or-revert research on account scores.

``gtmar.run(frame, "spec.yaml")`` searches, ``gtmar.score(frame, spec)`` scores, ``gtmar.Journal``
answers questions. Everything is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gtmar.api import (
        Run,
        Workbench,
        account_list,
        diff,
        front,
        load_spec,
        run,
        score,
        try_weights,
        walk,
        watch,
    )
    from gtmar.data.scan import Source
    from gtmar.journal.catalog import Journal
    from gtmar.runs import Difference as Diff
    from gtmar.spec import ScoringSpec as Spec

__version__ = "0.1.0"

__all__ = [
    "Diff",
    "Journal",
    "Run",
    "Source",
    "Spec",
    "Workbench",
    "__version__",
    "account_list",
    "diff",
    "front",
    "load_spec",
    "run",
    "score",
    "try_weights",
    "walk",
    "watch",
]

#: Where each name is at home, and what it is called there.
_HOMES = {
    "Diff": ("gtmar.runs", "Difference"),
    "Journal": ("gtmar.journal.catalog", "Journal"),
    "Run": ("gtmar.api", "Run"),
    "Source": ("gtmar.data.scan", "Source"),
    "Spec": ("gtmar.spec", "ScoringSpec"),
    "Workbench": ("gtmar.api", "Workbench"),
    "account_list": ("gtmar.api", "account_list"),
    "diff": ("gtmar.api", "diff"),
    "front": ("gtmar.api", "front"),
    "load_spec": ("gtmar.api", "load_spec"),
    "run": ("gtmar.api", "run"),
    "score": ("gtmar.api", "score"),
    "try_weights": ("gtmar.api", "try_weights"),
    "walk": ("gtmar.api", "walk"),
    "watch": ("gtmar.api", "watch"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gtmar' has no attribute {name!r}")
    module, own = _HOMES[name]
    return getattr(import_module(module), own)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
