"""When a run asks in folds whether its search pays, where it begins then, and over which accounts.

By default it asks where that was measured to hold: for the AUC of specs whose encoders `init`
fitted, with few accounts for each weight. A start that breaks a guardrail needs a search in any
case, since nothing is kept until a candidate respects it. Weights that were found on these very
accounts can't be held against a search, since no fold of them is unseen.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gtmar import spec as specs
from gtmar.autospec.refit_encoders import EncoderRefit, columns_of
from gtmar.data.outcomes import Movement
from gtmar.engine.local import LocalEvaluator
from gtmar.errors import UsageError
from gtmar.journal.columns import experiment_id
from gtmar.journal.files import RunFiles
from gtmar.objective.objective import DEFAULT_OBJECTIVE
from gtmar.runs.inputs import load
from gtmar.runs.plan import DEFAULT_START, given_at_start
from gtmar.runs.results import start_breaches
from gtmar.runs.session import knows_outcomes
from gtmar.spec.encoders import Bins
from gtmar.spec.ids import fitted_features
from gtmar.validation.repeated_search import RepeatedSearch
from gtmar.validation.search_pays import search_in_folds

if TYPE_CHECKING:
    from gtmar.data.matrix import Accounts
    from gtmar.objective.objective import Judge
    from gtmar.runs.inputs import HoldoutOptions
    from gtmar.runs.plan import Engine, Plan
    from gtmar.spec import Lineage
    from gtmar.spec.model import ScoringSpec
    from gtmar.validation.search_pays import SearchPays

__all__ = ["asked_in_folds", "folds_and_start"]

#: Folds, where nobody says how many.
_FOLDS = 5
#: Accounts searched of the rarer outcome, for each weight, from which on nobody asks by default: a
#: search finds little luck there.
_ENOUGH = 100


def folds_and_start(
    accounts: Accounts,
    spec: ScoringSpec,
    judge: Judge,
    *,
    folds: int | None,
    start: str | None,
    engine: Engine,
    journal: str | Path,
) -> tuple[int, str, str | None]:
    """Return in how many folds to ask, 0 for none, where to begin, and why no fold is asked.

    `folds` and `start` are what was asked for, None for the default; `journal` may have the run
    that the spec comes from. The reason is a sentence where folds were asked for, or would be by
    default; else None. Raises `UsageError` if folds were asked for, and the spec's weights come
    from the accounts searched.
    """
    matrix = accounts.search
    kept = matrix.rows(Movement.KEPT_REVENUE_LOST, Movement.KEPT_NONPAYING)
    lost = matrix.rows(Movement.LOST_NONPAYING, Movement.LOST_PAYING)
    rarer = min(kept.stop - kept.start, lost.stop - lost.start)
    free = sum(not term.fixed for term in spec.terms)
    usual = start is None and bool(fitted_features(spec)) and judge.name == DEFAULT_OBJECTIVE
    usual = usual and 0 < rarer < _ENOUGH * free
    if folds is None and usual:
        folds = 0 if _weights_know(accounts, spec, journal) else _FOLDS
    elif folds and _weights_know(accounts, spec, journal):
        raise UsageError(
            f'spec "{spec.model}": its weights come from the outcomes of these accounts, so no '
            "fold of them is unseen, and whether a search pays can't be asked",
            hint="--folds 0, or the spec that it started from: gtmar checkout RUN/start",
        )
    unasked = None
    if folds and engine.own_rows:
        unasked = (
            "Whether the search pays isn't asked: shards hold the features. Without --own-rows it "
            "would be, so the run may be another one."
        )
    elif folds and _breaks_guardrail(accounts, spec, judge):
        unasked = "The start breaks a guardrail, so it is searched, and no folds are asked."
    if not folds or unasked is not None:
        return 0, start or DEFAULT_START, unasked
    return folds, start or ("logistic" if rarer else DEFAULT_START), None


def _weights_know(accounts: Accounts, spec: ScoringSpec, journal: str | Path) -> bool:
    """Return whether a spec's weights, and not its encoders alone, may know the outcomes."""
    bins = any(isinstance(feature.encode, Bins) for feature in spec.features.values())
    if _found_in(spec, Path(journal)) is None and not bins:
        return False
    return knows_outcomes(spec, Path(journal), accounts.outcomes_fingerprint)


def _found_in(spec: ScoringSpec, journal: Path) -> Lineage | None:
    """Return where a spec's weights were found; None if no run found them.

    A run's start has the weights that the run was given, so it is where these were found.
    """
    lineage = spec.lineage
    while lineage is not None and lineage.experiment == experiment_id(0):
        files = RunFiles(journal, lineage.run)
        if not files.start.is_file():
            break
        lineage = specs.parse(files.record("start")["spec"]).lineage
    return lineage


def _breaks_guardrail(accounts: Accounts, spec: ScoringSpec, judge: Judge) -> bool:
    if not (judge.limits or judge.comparisons):
        return False
    frame = LocalEvaluator(accounts.search, spec).frame([spec.vector])
    return bool(start_breaches(judge, spec, accounts.search, frame))


def asked_in_folds(
    accounts: Accounts,
    spec: ScoringSpec,
    judge: Judge,
    plan: Plan,
    folds: int,
    *,
    journal: str | Path,
    memory: int | None,
    table_options: HoldoutOptions,
) -> SearchPays:
    """Ask in folds whether a planned search pays.

    Encoders that may know the outcomes of these accounts are refitted in each fold; for that the
    table is read once more. `journal` may have the run that the spec comes from; `memory` is as for
    `load`.
    """
    matrix, refit = accounts.search, None
    names = fitted_features(spec)
    if names and knows_outcomes(spec, Path(journal), accounts.outcomes_fingerprint):
        options = table_options.copy()
        # These rows were written already.
        options.pop("set_aside_to", None)
        codes = columns_of(spec, names)
        coded, _ = load(accounts.table, spec, memory=memory, coded=codes, **options)
        matrix, refit = coded.search, EncoderRefit.of(accounts.table, spec, names)
    fitted = plan.start != DEFAULT_START
    search = RepeatedSearch(
        spec=spec,
        judge=judge,
        proposer=partial(plan.make_proposer, spec, sign=judge.sign),
        limits=replace(plan.limits, seconds=None),
        given=partial(given_at_start, plan.start, spec=spec) if fitted else None,
        refit=refit,
    )
    return search_in_folds(search, matrix, folds)
