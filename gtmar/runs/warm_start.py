"""What the journal knows of a table before a run over it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gtmar import spec as specs
from gtmar.engine.evaluator import EVALUATOR_VERSION
from gtmar.errors import RunNotFoundError, SpecError
from gtmar.journal.catalog import Journal
from gtmar.optimize.hill_climb import MOST_GIVEN, Known, Memory
from gtmar.runs.plan import constraints_of
from gtmar.spec.ids import form_id

if TYPE_CHECKING:
    from pathlib import Path

    from gtmar.data.matrix import Accounts
    from gtmar.objective.objective import Judge
    from gtmar.spec.model import ScoringSpec

__all__ = ["recall", "said"]

#: Vectors that a memory holds at most, the best ones.
_MOST_KNOWN = 20_000
#: Columns of experiments that `known_vectors.sql` reads.
_COLUMNS = ("run_id", "experiment_id", "number", "value_after", "outcome", "weights")


def recall(journal: Path, accounts: Accounts, spec: ScoringSpec, judge: Judge) -> Memory | None:
    """Gather what finished runs over this very table, objective and scale have evaluated.

    The same outcomes fingerprint means the same accounts searched, so that nothing of the holdout
    comes in; the same features fingerprint and form mean that equal weights give equal scores.

    Returns
    -------
    Memory or None
        None where no finished run is of use.
    """
    try:
        opened = Journal(journal)
    except RunNotFoundError:
        return None
    with opened:
        # Of their rows alone all weights are read.
        on_table = opened.query(
            "select run_id from runs where outcomes_fingerprint = getvariable('outcomes')",
            columns=(),
            outcomes=accounts.outcomes_fingerprint,
        )
        rows = opened.sql(
            "known_vectors",
            among=on_table["run_id"].to_list(),
            columns=_COLUMNS,
            outcomes_fingerprint=accounts.outcomes_fingerprint,
            features_fingerprint=accounts.features_fingerprint,
            objective=judge.name,
            tiers_id=specs.tiers_id(spec),
            evaluator_version=EVALUATOR_VERSION,
            most=_MOST_KNOWN,
        )
        if rows.is_empty():
            return None
        ids = rows["spec_id"].unique().to_list()
        texts = opened.query(
            "select spec_id, any_value(spec) as spec from runs "
            "where list_contains(getvariable('ids'), spec_id) group by spec_id",
            columns=(),
            ids=ids,
        )
    form = form_id(spec)
    alike = {row["spec_id"] for row in texts.to_dicts() if _form_of(row["spec"]) == form}
    names = tuple(term.name for term in spec.terms)
    bounds = tuple((term.min, term.max) for term in spec.terms)
    constraints = constraints_of(spec)
    known: dict[tuple[int, ...], Known] = {}
    best: list[tuple[int, ...]] = []
    for row in rows.iter_rows(named=True):
        if row["spec_id"] not in alike:
            continue
        vector = tuple(row["weights"][name] for name in names)
        known[vector] = Known(row["value_after"], f"{row['run_id']}/{row['experiment_id']}")
        fits = constraints.hold(vector) and all(
            low <= w <= high for w, (low, high) in zip(vector, bounds, strict=True)
        )
        if fits and row["outcome"] != "blocked" and len(best) < MOST_GIVEN:
            best.append(vector)
    if not known:
        return None
    runs = sorted({result.source.partition("/")[0] for result in known.values()})
    return Memory(runs=tuple(runs), names=names, known=known, best=tuple(best))


def _form_of(text: str) -> str | None:
    """Return the form of a spec from the journal; None where this version can't read it."""
    try:
        return form_id(specs.parse(text))
    except SpecError:
        return None


def said(memory: Memory, objective: str) -> str:
    """Say what a memory holds, before a run begins with it."""
    runs, vectors = len(memory.runs), len(memory.known)
    sentence = (
        f"The journal knows this table: {runs:,} finished run{'' if runs == 1 else 's'}, "
        f"{vectors:,} weight vectors evaluated."
    )
    if memory.best:
        best = memory.known[memory.best[0]]
        sentence += f" The best, {objective} {best.value:.4f} of {best.source}, is tried first."
    return f"{sentence} --cold starts without it."
