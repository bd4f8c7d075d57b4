"""Fewer features for the same score: as many as tell who stays apart as well as all of them do.

The parsimony curve says how well each number of features does. Backward elimination drops the
feature that matters least, given those that are left, by Wald's approximation of the change of
Akaike's criterion. Five-fold cross-validation gives the AUC of each size: for each fold, the other
four select the features, fit their weights, and fit the encoders that depend on outcomes. Encoders
that had seen the fold's outcomes would make a column of noise seem predictive. So the curve favours
neither large sizes nor the sizes that were selected.

References
----------
Lawless & Singhal 1978 for backward elimination without refitting each candidate; Breiman, Friedman,
Olshen & Stone 1984, section 3.4.3, for the smallest size within one standard error; DeLong, DeLong
& Clarke-Pearson 1988 for that error.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from gtmar import spec as specs
from gtmar.autospec import refit_encoders
from gtmar.autospec.refit_encoders import EncoderRefit
from gtmar.data.outcomes import Movement
from gtmar.data.scan import scan
from gtmar.engine.equal_sizes import tier_sizes, with_edges
from gtmar.errors import UsageError, culprits
from gtmar.optimize.search_loop import Limits
from gtmar.plain_data import PlainData, plain
from gtmar.runs.backtest import only_columns
from gtmar.runs.holdout import without_holdout
from gtmar.runs.inputs import HoldoutOptions, load
from gtmar.runs.run import run
from gtmar.runs.session import chosen_columns, knows_outcomes
from gtmar.spec.ids import fitted_features
from gtmar.stats.logistic import every_so_many, fit_logistic
from gtmar.stats.paired_auc import folded_difference, placed
from gtmar.validation.resampling import in_order_of_content

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix
    from gtmar.data.scan import Tabular
    from gtmar.runs.results import Progress, RunResult
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.logistic import Fit

    Doubles = NDArray[np.float64]

__all__ = ["Parsimony", "Simplified", "Size", "parsimony", "simplify"]


@dataclass(frozen=True)
class Simplified(PlainData):
    """The curve over the number of features, and the search over the spec with fewer of them."""

    _left_out = ("curve", "result", "chosen")
    _beside = ("sentence", "unseen")

    curve: Parsimony
    #: Accounts searched whose outcome is known.
    accounts: int
    kept: tuple[str, ...]
    #: Those left out, the first to go first.
    dropped: tuple[str, ...]
    #: None where no feature can go.
    result: RunResult | None
    #: Which columns the accounts that each AUC is of chose beforehand, in words; None for none.
    chosen: str | None = None

    @property
    def unseen(self) -> str:
        """What the accounts that each AUC is of had no part in, and what they had."""
        if self.chosen is None:
            return (
                "Each AUC is of accounts that chose no feature and fitted no encoder and no weight."
            )
        return (
            "Each AUC is of accounts that fitted no encoder and no weight, but init chose "
            f"{self.chosen} by all of them: so each AUC is too good, and those that no search saw "
            "say how good the score is."
        )

    @property
    def sentence(self) -> str:
        """How well fewer features do, in a sentence."""
        first = self.curve.sizes[0]
        if first.auc is None:
            return "Too few accounts stayed or left to say which features matter."
        if not self.dropped and first.features == 1:
            return "The spec has 1 feature, so none can go."
        if not self.dropped:
            return (
                f"Every one of the {first.features} features is needed: with fewer the AUC falls "
                "by more than its standard error."
            )
        [chosen] = [s for s in self.curve.sizes if s.features == len(self.kept)]
        behind, error = chosen.behind_all or 0.0, chosen.behind_all_error or 0.0
        verb = "do as well as all, as far as {} accounts tell"
        verb = verb.format(f"{self.accounts:,}") if behind <= error else "do less well than all"
        return (
            f"{chosen.features} of {first.features} features {verb}: AUC {chosen.auc:.4f}, "
            f"{first.auc:.4f} with all; the difference has an error of {error:.4f}."
        )

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        sizes = [vars(size) for size in self.curve.sizes]
        return super().as_json() | {"sizes": sizes, "run": plain(self.result)}


def simplify(
    data: Tabular,
    spec: ScoringSpec | str | Path,
    *,
    most: int | None = None,
    limits: Limits | None = None,
    journal: str | Path = "journal",
    author: str | None = None,
    note: str | None = None,
    announce: Callable[[str], None] | None = None,
    watch: Callable[[Progress], None] | None = None,
    **table_options: Unpack[HoldoutOptions],
) -> Simplified:
    """Find how many features suffice, search their weights anew, and journal that search.

    Parameters
    ----------
    data, spec, journal, author, note, announce, watch, table_options
        As for `run`; the accounts held out choose no feature.
    most
        Features to leave at most, 1 or more; None for the fewest whose AUC is within one standard
        error of the best.
    limits
        Of the search over what is left; None for those of `run`.

    Raises
    ------
    UsageError
        If the table doesn't say who stayed, or the constraints leave no spec of fewer features.
    """
    spec = specs.load(spec) if not isinstance(spec, specs.ScoringSpec) else spec
    if most is not None and most < 1:
        raise UsageError(f"at least 1 feature is left, got {most}", hint="--features 8")
    if spec.constraints is not None:
        raise UsageError(
            f'spec "{spec.model}": its constraints hold its weights together, so none can go',
            hint="drop constraints from the spec, and state them again for fewer features",
        )
    table = scan(data)
    full = spec if table_options.get("holdout_file") is None else without_holdout(spec)
    names = fitted_features(spec)
    accounts, _ = load(table, full, **table_options, coded=refit_encoders.columns_of(spec, names))
    coded = accounts.search
    refit = EncoderRefit.of(accounts.table, spec, names)
    matrix = refit.encoded(coded)
    if not matrix.outcomes.labelled:
        raise UsageError(
            "features are judged by who stays and who leaves; the table has none of "
            "retained_6mo, churned, mrr_end",
            hint="name your column in the spec's outcomes",
        )
    known = knows_outcomes(spec, Path(journal), accounts.outcomes_fingerprint)
    curve, counted = _curve(coded, spec, refit if known and names else None)
    chosen = chosen_columns(spec) if known else None
    kept = curve.kept([*spec.features])
    if most is not None and curve.sizes[0].auc is not None:
        least = curve.sizes[-1].features
        if most < least:
            raise UsageError(
                f"{least} features have points fixed by hand, so {most} are too few",
                hint="free them in the spec, or leave more",
            )
        kept = Parsimony(curve.sizes, most).kept([*spec.features])
    dropped = tuple(s.next_out for s in curve.sizes if s.next_out and s.next_out not in kept)
    if not dropped:
        return Simplified(curve, counted, kept, dropped, None, chosen)
    why = note or f"{len(kept)} of {len(spec.features)} features; without {culprits([*dropped])}"
    result = run(
        table,
        _reduced(spec, kept, matrix),
        limits=limits or Limits(),
        journal=journal,
        start="logistic",
        author=author,
        note=why,
        announce=announce,
        watch=watch,
        **table_options,
    )
    return Simplified(curve, counted, kept, dropped, result, chosen)


def _curve(
    matrix: AccountMatrix, spec: ScoringSpec, refit: EncoderRefit | None
) -> tuple[Parsimony, int]:
    """Return the curve over the accounts searched with an outcome, and their number."""
    labelled = matrix.rows(Movement.LOST_NONPAYING, Movement.KEPT_NONPAYING)
    # Folds depend on the content of rows, not on their order; equal rows are spread over all folds.
    ordered = in_order_of_content(matrix.part(labelled.start, labelled.stop))
    apart = every_so_many(ordered.accounts, len(spec.features))
    rows = ordered.take(np.arange(0, ordered.accounts, apart))

    def columns(encoded: AccountMatrix) -> NDArray[np.float64]:
        return np.stack(encoded.columns[: len(spec.terms)], axis=1).astype(np.float64)

    def fitted_to(refit: EncoderRefit, some: NDArray[np.bool_]) -> NDArray[np.float64]:
        return columns(refit.encoded(rows, refit.fitted(rows.take(np.flatnonzero(some)))))

    numbers = np.arange(rows.accounts)
    free = {term.feature for term in spec.terms if not term.fixed}
    curve = parsimony(
        columns(rows),
        [term.feature for term in spec.terms],
        numbers >= rows.offsets[Movement.KEPT_REVENUE_LOST],
        numbers if rows.account_of is None else rows.account_of,
        always=sorted({*spec.features} - free),
        encoded=partial(fitted_to, refit) if refit else None,
    )
    return curve, ordered.accounts


def _reduced(spec: ScoringSpec, kept: tuple[str, ...], matrix: AccountMatrix) -> ScoringSpec:
    """Return the spec with only these features, and tiers of the sizes that they had.

    Fixed edges are moved: the old ones would give a score with fewer points other tier sizes.
    """
    groups = {
        name: group.model_copy(update={"features": left})
        for name, group in spec.groups.items()
        if (left := tuple(each for each in group.features if each in kept))
    }
    changes = {
        "features": {name: spec.features[name] for name in kept},
        "groups": groups,
        "fitted": {name: each for name, each in spec.fitted.items() if name in kept},
        "calibration": None,
    }
    reduced = spec.model_copy(update=changes)
    narrow = only_columns(matrix, reduced)
    if spec.has_rule:
        return with_edges(reduced, narrow)
    sizes = tier_sizes(matrix, spec, spec.vector)
    ruled = {
        name: spec.tiers[name].model_copy(update={"accounts": size or None})
        for name, size in zip(spec.tier_names[:-1], sizes, strict=False)
    }
    held = reduced.model_copy(update={"tiers": {**reduced.tiers, **ruled}})
    return reduced.with_edges(with_edges(held, narrow).tier_lows)


# ---- the parsimony curve -------------------------------------------------------------------------

_FOLDS = 5
#: Ridge penalty on each coefficient, per whole range of its feature, in units of information; the
#: same as in `optimize.logistic_start`.
_RIDGE = 1.0


@dataclass(frozen=True)
class Size:
    """The performance of a number of features."""

    features: int
    #: Mean AUC over the folds; None if a fold has accounts of one class only.
    auc: float | None
    #: The best size's AUC minus this one, and its standard error, accounts paired.
    loss: float | None
    error: float | None
    #: The AUC of all features minus this one, and its standard error.
    behind_all: float | None
    behind_all_error: float | None
    #: The feature that is dropped next, selected on all accounts; None for the last size.
    next_out: str | None


@dataclass(frozen=True)
class Parsimony:
    """The curve, all features first, and the smallest size within one standard error."""

    sizes: tuple[Size, ...]
    chosen: int

    def kept(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the features of the chosen size, in the order of `names`."""
        out = {size.next_out for size in self.sizes if size.features > self.chosen}
        return tuple(name for name in names if name not in out)


def parsimony(
    columns: Doubles,
    feature_of: Sequence[str],
    stayed: NDArray[np.bool_],
    groups: NDArray[np.integer],
    *,
    always: Sequence[str] = (),
    encoded: Callable[[NDArray[np.bool_]], Doubles] | None = None,
) -> Parsimony:
    """Compute the curve over N accounts.

    Parameters
    ----------
    columns
        Shape (N, P): encoded values.
    feature_of
        P names: the feature of each column.
    stayed
        Shape (N,): whether each account stayed; both classes must occur.
    groups
        Shape (N,), 0 or more: rows with the same number, as of one account, are in the same fold.
    always
        Features that are never dropped.
    encoded
        Returns `columns` with the encoders fitted to the accounts in a mask, shape (N,); None if no
        encoder depends on outcomes.

    Returns
    -------
    Parsimony
        Of all features alone, without values, if a fold has accounts of one class only.

    Notes
    -----
    Cost: six times as many regressions as features, each some ten passes over N x P values.
    """
    x = _scaled(columns)
    names = tuple(dict.fromkeys(feature_of))
    feature_index = np.array([names.index(name) for name in feature_of])
    fixed = frozenset(names.index(name) for name in always)
    order, _ = _eliminate(x, stayed, feature_index, fixed)
    least = len(names) - len(order)
    fold_of = groups % _FOLDS
    by_fold: list[list[tuple[Doubles, Doubles]]] = []
    for fold in range(_FOLDS):
        out = fold_of == fold
        if not (_both(stayed[out]) and _both(stayed[~out])):
            sizes = (Size(len(names), None, None, None, None, None, None),)
            return Parsimony(sizes, len(names))
        own = x if encoded is None else _scaled(encoded(~out))
        _, fits = _eliminate(own[~out], stayed[~out], feature_index, fixed)
        by_fold.append([placed(own[out] @ fit, stayed[out]) for fit in fits])
    by_size = list(zip(*by_fold, strict=True))
    aucs = [float(np.mean([up.mean() for up, _ in folds])) for folds in by_size]
    best = by_size[int(np.argmax(aucs))]
    listed = []
    for step, (auc, folds) in enumerate(zip(aucs, by_size, strict=True)):
        behind = folded_difference(folds, best), folded_difference(folds, by_size[0])
        following = names[order[step]] if step < len(order) else None
        listed.append(Size(len(names) - step, auc, *behind[0], *behind[1], following))
    within = [s.features for s in listed if s.loss is not None and s.loss <= (s.error or 0.0)]
    return Parsimony(tuple(listed), max(1, least, min(within)))


def _scaled(columns: Doubles) -> Doubles:
    reach = np.ptp(columns, axis=0)
    return np.asarray(columns / np.where(reach > 0, reach, 1.0))


def _both(stayed: NDArray[np.bool_]) -> bool:
    return len(stayed) > 0 and bool(stayed.any()) and not bool(stayed.all())


def _eliminate(
    x: Doubles, stayed: NDArray[np.bool_], feature_index: NDArray[np.intp], fixed: frozenset[int]
) -> tuple[list[int], list[Doubles]]:
    """Return the features in the order of elimination, and the weights (P,) of each size."""
    y = stayed.astype(np.float64)
    left = list(range(x.shape[1]))
    order: list[int] = []
    fits: list[Doubles] = []
    start: Doubles | None = None
    while left:
        own = np.ascontiguousarray(x[:, left])
        fit = fit_logistic(lambda own=own: [(own, y)], _RIDGE * np.eye(len(left)), start=start)  # type: ignore[misc] # bound at once
        whole = np.zeros(x.shape[1])
        whole[left] = fit.coefficients
        fits.append(whole)
        there = sorted({int(feature_index[column]) for column in left})
        free = [feature for feature in there if feature not in fixed]
        if len(there) == 1 or not free:
            break
        going = min(free, key=lambda feature: _worth(fit, feature_index[left] == feature))
        order.append(going)
        stays = feature_index[left] != going
        start = fit.solution[np.concatenate([[True], stays])]
        left = [column for column, kept in zip(left, stays, strict=True) if kept]
    return order, fits


def _worth(fit: Fit, own: NDArray[np.bool_]) -> float:
    """Return how much dropping a feature's columns would raise Akaike's criterion, by Wald."""
    b = fit.coefficients[own]
    spread = fit.covariance[np.ix_(own, own)]
    return float(b @ np.linalg.solve(spread, b)) - 2 * len(b)
