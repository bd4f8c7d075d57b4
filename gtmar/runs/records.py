"""The start record of a run: what was asked, of which data and spec, with what."""

from __future__ import annotations

import hashlib
import json
import secrets
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from gtmar import spec as specs
from gtmar.evaluate.version import EVALUATOR_VERSION, evaluator_code
from gtmar.journal.schema import FORMAT_VERSION
from gtmar.search.proposers import RandomProposer

if TYPE_CHECKING:
    from gtmar.runs.loop import Search

__all__ = ["new_run_id", "start_record"]


def start_record(
    search: Search, *, as_of: str | None, author: str | None, note: str | None
) -> dict[str, Any]:
    """Return what was asked, as the `start` record has it."""
    spec, accounts, limits = search.spec, search.accounts, search.limits
    checked = accounts.checked
    lineage = spec.lineage
    tiers = {name: [tier.low, tier.high] for name, tier in spec.tiers.items()}
    parameters = {
        "n": limits.experiments,
        "patience": limits.patience,
        "time_budget": limits.seconds,
        "proposer": RandomProposer.name,
        "holdout": spec.split.holdout,
        "salt": spec.split.salt,
        "as_of": as_of,
        "drop_unlabelled": checked.dropped > 0,
    }
    packages = ("gtmar", "polars", "duckdb", "numpy", "pyarrow")
    return {
        "format_version": FORMAT_VERSION,
        "kind": "search",
        "started_at": datetime.now(UTC),
        "author": author,
        "note": note,
        "seed": search.seed,
        "parameters": [(k, str(v)) for k, v in parameters.items() if v is not None],
        "objective": search.judge.name,
        "higher_is_better": search.judge.sign > 0,
        "orientation": spec.orientation,
        "model": spec.model,
        "spec_id": specs.spec_id(spec),
        "score_id": specs.score_id(spec),
        "spec": specs.to_json(spec),
        "tiers": list(spec.tier_names),
        "tiers_id": hashlib.sha256(json.dumps(tiers, sort_keys=True).encode()).hexdigest()[:16],
        "source": _without_credentials(accounts.table.source),
        "outcomes_fingerprint": accounts.outcomes_fingerprint,
        "features_fingerprint": accounts.features_fingerprint,
        "accounts": checked.accounts,
        "accounts_dropped": checked.dropped,
        "search_accounts": accounts.search.accounts,
        "holdout_accounts": accounts.holdout.accounts if accounts.holdout else 0,
        "basis": checked.outcomes.basis,
        "evaluator_version": EVALUATOR_VERSION,
        "evaluator_code": evaluator_code(),
        "packages": [(name, version(name)) for name in packages],
        "memory": None,
        "memory_digest": None,
        "parent_run": lineage.run if lineage else None,
        "parent_experiment": lineage.experiment if lineage else None,
    }


def new_run_id() -> str:
    """Return a fresh run id: sortable by time, unique by chance, beginning with a letter."""
    return f"r{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _without_credentials(source: str) -> str:
    """Take user, password and query out of a URL; leave paths alone."""
    parts = urlsplit(source)
    if not parts.scheme or not parts.netloc:
        return source
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
