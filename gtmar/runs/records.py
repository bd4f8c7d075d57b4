"""The start record of a run: what was asked, of which data and spec, with what."""

from __future__ import annotations

import hashlib
import json
import secrets
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from gtmar import spec as specs
from gtmar.engine.evaluator import EVALUATOR_VERSION, evaluator_code
from gtmar.journal.schema import FORMAT_VERSION
from gtmar.runs.findings import recorded_findings
from gtmar.runs.holdout import dropped_later, recorded
from gtmar.safe_text import without_credentials

if TYPE_CHECKING:
    from gtmar.runs.loop import Search
    from gtmar.spec.model import ScoringSpec

__all__ = ["new_run_id", "start_record", "tiers_id"]


def start_record(search: Search) -> dict[str, Any]:
    """Return what was asked, as the `start` record has it."""
    spec, accounts, plan = search.spec, search.accounts, search.plan
    checked = accounts.checked
    lineage = spec.lineage
    parameters = {
        **plan.parameters,
        "holdout": spec.split.holdout,
        "salt": spec.split.salt,
        "drop_unlabelled": checked.dropped > 0 or dropped_later(accounts),
        **checked.set_aside.parameters,
        "segments_fingerprint": accounts.segments_fingerprint,
        "reading": "\n".join(checked.reading) or None,
        "findings": recorded_findings(search.findings),
        "copies_together": accounts.copies.repeated if accounts.copies else None,
        **accounts.table.origin,
        **recorded(accounts),
    }
    packages = ("gtmar", "polars", "duckdb", "numpy", "pyarrow")
    return {
        "format_version": FORMAT_VERSION,
        "kind": plan.kind,
        "started_at": datetime.now(UTC),
        "author": plan.author,
        "note": plan.note,
        "seed": plan.seed,
        "parameters": [(k, str(v)) for k, v in parameters.items() if v is not None],
        "objective": search.judge.name,
        "higher_is_better": search.judge.sign > 0,
        "orientation": spec.orientation,
        "model": spec.model,
        "spec_id": specs.spec_id(spec),
        "score_id": specs.score_id(spec),
        "spec": specs.to_json(spec),
        "tiers": list(spec.tier_names),
        "tiers_id": tiers_id(spec),
        "source": without_credentials(accounts.table.source),
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
        "memory": plan.memory.to_json() if plan.memory else None,
        "memory_digest": plan.memory.digest if plan.memory else None,
        "parent_run": lineage.run if lineage else None,
        "parent_experiment": lineage.experiment if lineage else None,
    }


def tiers_id(spec: ScoringSpec) -> str:
    """Return a hash of the tiers' names and edges."""
    tiers = {name: [tier.low, tier.high] for name, tier in spec.tiers.items()}
    return hashlib.sha256(json.dumps(tiers, sort_keys=True).encode()).hexdigest()[:16]


def new_run_id() -> str:
    """Return a fresh run id: sortable by time, unique by chance, beginning with a letter."""
    return f"r{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
