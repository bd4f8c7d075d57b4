"""Refits a spec's encoders to other accounts: to shuffled outcomes, or to a part of a table.

An encoder that was fitted to outcomes contains information about them. When a search is repeated on
shuffled or drawn accounts, its encoders must be fitted to those, or else a column of noise would
still profit from the original outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gtmar.autospec.fit_encoders import Fitted, fit_shapes
from gtmar.data.encode import encoded_terms
from gtmar.data.matrix import own_value
from gtmar.data.outcomes import ACTIVATION_STATES, Movement
from gtmar.data.scan import collect
from gtmar.spec.encoders import BoolEncoder, OneOfEncoder
from gtmar.spec.model import Feature
from gtmar.stats.logistic import every_so_many

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix
    from gtmar.data.outcomes import OutcomeColumns
    from gtmar.data.scan import AccountTable
    from gtmar.spec.model import ScoringSpec

__all__ = ["MONEY", "TARGETS", "EncoderRefit", "columns_of", "target_of"]

#: Outcomes that features can be oriented by, the preferred one first. For money the rank is taken,
#: since amounts are skewed.
TARGETS = ("retained", "ltv", "activated", "won_back", "start")
MONEY = ("ltv", "start")


def target_of(outcomes: OutcomeColumns) -> str | None:
    """Return the first of `TARGETS` that a table has; None if it has no outcome."""
    there = {"retained": outcomes.labelled, "start": outcomes.has("mrr")}
    return next((role for role in TARGETS if there.get(role, outcomes.has(role))), None)


@dataclass(frozen=True)
class EncoderRefit:
    """Fits encoders of a spec anew to the accounts of a matrix.

    After the columns of the spec's F terms, the matrix must have a column of codes for each table
    column that the encoders read, as `load_accounts` adds them for `coded`.
    """

    spec: ScoringSpec
    #: Features whose encoders are fitted.
    names: tuple[str, ...]
    #: For each table column, the values that its codes stand for: null, then all values, ascending.
    values: dict[str, pl.Series]

    @classmethod
    def of(cls, table: AccountTable, spec: ScoringSpec, names: Sequence[str]) -> EncoderRefit:
        """Return the refit for some features; reads the distinct values of their columns."""
        columns = columns_of(spec, names)
        distinct = [own_value(name, table.schema[name]).unique().sort() for name in columns]
        found = {
            name: collect(table, table.frame.select(values.alias(name)))[name].drop_nulls()
            for name, values in zip(columns, distinct, strict=True)
        }
        known = {
            name: pl.concat([pl.Series(name, [None], dtype=values.dtype), values])
            for name, values in found.items()
        }
        return cls(spec, tuple(names), known)

    def fitted(self, matrix: AccountMatrix) -> ScoringSpec:
        """Return the spec with encoders fitted to a matrix's accounts and their outcomes.

        A feature that doesn't vary among them keeps its encoder. Cost: that of `fit_shapes`.
        """
        frame = self._frame(matrix)
        read = {name: self.spec.features[name].column or name for name in self.names}
        vary = {
            name: _content(self.spec.features[name], frame[column])
            for name, column in read.items()
            if frame[column].drop_nulls().n_unique() > 1
        }
        if not vary:
            return self.spec
        apart = every_so_many(frame.height, len(vary))
        cells = frame.select(pl.col(read[name]).alias(name) for name in vary).gather_every(apart)
        repeats = matrix.accounts / matrix.distinct
        shapes = fit_shapes(cells, vary, _outcome(matrix)[::apart], repeats=repeats)
        features = dict(self.spec.features)
        for name, shape in shapes.items():
            form = {"weight": 0, "min": 0, "max": 0, "encode": shape.encode}
            made = Feature.model_validate({**form, "missing": {"value": shape.missing}})
            update = {"encode": made.encode, "missing": made.missing}
            features[name] = features[name].model_copy(update=update)
        return self.spec.model_copy(update={"features": features})

    def encoded(self, matrix: AccountMatrix, spec: ScoringSpec | None = None) -> AccountMatrix:
        """Return the matrix with the columns of the terms only, encoded as `spec` does.

        `spec` is from `fitted`; None for the original one.
        """
        terms = [term.name for term in self.spec.terms]
        columns = dict(zip(terms, matrix.columns, strict=False))
        if spec is not None and spec is not self.spec:
            part = spec.model_copy(update={"features": {n: spec.features[n] for n in self.names}})
            frame = self._frame(matrix)
            for name, value in encoded_terms(part, frame.schema).items():
                encoded = frame.select(value.cast(pl.Int16)).to_series().to_numpy()
                columns[name] = np.ascontiguousarray(encoded)
                columns[name].flags.writeable = False
        return replace(matrix, names=tuple(terms), columns=tuple(columns.values()))

    def _frame(self, matrix: AccountMatrix) -> pl.DataFrame:
        """Return the table columns that the encoders read, with the matrix's N rows."""
        codes = matrix.columns[len(self.spec.terms) :]
        return pl.DataFrame(
            [values.gather(own) for values, own in zip(self.values.values(), codes, strict=True)]
        )


def columns_of(spec: ScoringSpec, names: Sequence[str]) -> list[str]:
    """Return the distinct table columns that features read."""
    return list(dict.fromkeys(spec.features[name].column or name for name in names))


def _content(feature: Feature, cells: pl.Series) -> Fitted:
    """Return what kind of column a feature has, by its encoder."""
    unknown = cells.null_count() / len(cells)
    if isinstance(feature.encode, OneOfEncoder):
        return Fitted("categories", 0.0, unknown, tuple(feature.encode.values))
    if isinstance(feature.encode, BoolEncoder):
        return Fitted("flag", 0.0, unknown)
    # A monotone feature keeps its direction.
    direction = getattr(feature.encode, "monotone", None)
    return Fitted("number", 0.0, unknown, rising=None if direction is None else direction == "up")


def _outcome(matrix: AccountMatrix) -> NDArray[np.float64]:
    """Return the outcome that features are oriented by, (N,): higher is better, NaN is unknown."""
    target = target_of(matrix.outcomes)
    movement, state = np.divmod(matrix.codes, ACTIVATION_STATES)
    y = np.full(matrix.accounts, np.nan)
    if target == "retained":
        y[movement < Movement.UNLABELLED] = 1
        y[movement < Movement.KEPT_REVENUE_LOST] = 0
    elif target == "activated":
        y[state > 0] = state[state > 0] - 1
    elif target == "won_back":
        former = movement >= Movement.FORMER_LOST
        y[former] = movement[former] == Movement.FORMER_WON_BACK
    else:
        # Without labels, every account has an amount.
        money = matrix.ltv if target == "ltv" else matrix.start
        if money is not None:
            y = pl.Series(money).rank("average").cast(pl.Float64).to_numpy()
    return y
