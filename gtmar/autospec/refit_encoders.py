"""Refits a spec's encoders to other accounts: to shuffled outcomes, or to a part of a table.

An encoder that was fitted to outcomes contains information about them, and so do a table's cells
and a rule's conditions that were chosen by them. When a search is repeated on shuffled or drawn
accounts, all of these must be fitted to those, or else a column of noise would still profit from
the original outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gtmar.autospec.find_rules import rule_of_columns
from gtmar.autospec.fit_encoders import Fitted, fit_categories, fit_shapes, table_of
from gtmar.data.encode import cell_of, encoded_terms, rule_holds
from gtmar.data.matrix import own_value
from gtmar.data.outcomes import ACTIVATION_STATES, Movement
from gtmar.data.scan import collect
from gtmar.spec.encoders import BoolEncoder, OneOfEncoder, TableEncoder
from gtmar.spec.model import VALUE_UNITS, Feature
from gtmar.stats.logistic import every_so_many

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix
    from gtmar.data.outcomes import OutcomeColumns
    from gtmar.data.scan import AccountTable
    from gtmar.spec.model import ScoringSpec
    from gtmar.spec.rule import Rule

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
        values_of = {
            name: collect(table, table.frame.select(values.alias(name)))[name].drop_nulls()
            for name, values in zip(columns, distinct, strict=True)
        }
        known = {
            name: pl.concat([pl.Series(name, [None], dtype=values.dtype), values])
            for name, values in values_of.items()
        }
        return cls(spec, tuple(names), known)

    def fitted(self, matrix: AccountMatrix) -> ScoringSpec:
        """Return the spec with encoders fitted to a matrix's accounts and their outcomes.

        A feature that doesn't vary among them keeps its encoder. A table keeps its rows and
        columns, and its cells are fitted beside all encoders. Rules are searched for again among
        the conditions on their own columns, in the direction of their weight; then encoders and
        cells are fitted beside them, as `init` does. Cost: that of `fit_shapes`, twice if there are
        rules.
        """
        frame = self._frame(matrix)
        spec = self._beside({}, frame, matrix)
        rules = [name for name in self.names if self.spec.features[name].rule is not None]
        if not rules:
            return spec
        found: dict[str, Rule] = {}
        for at, name in enumerate(rules):
            rule = self._rule(name, frame, matrix, spec, without=rules[at:])
            if rule is not None:
                found[name] = rule
                spec = _with_feature(spec, name, rule=str(rule))
        return self._beside(found, frame, matrix)

    def _beside(
        self, rules: Mapping[str, Rule], frame: pl.DataFrame, matrix: AccountMatrix
    ) -> ScoringSpec:
        """Return the spec with some rules, and with encoders and cells fitted beside them."""
        columns = frame.select(
            each.alias(name)
            for name in self.names
            if (each := self._values(name, rules, frame.schema)) is not None
        )
        vary = {
            each.name: _content(self.spec.features[each.name], each)
            for each in columns
            if each.drop_nulls().n_unique() > 1
        }
        if not vary:
            return self.spec
        apart = every_so_many(frame.height, len(vary))
        cells = columns.select(*vary).gather_every(apart)
        repeats = matrix.accounts / matrix.distinct
        shapes = fit_shapes(cells, vary, _outcome(matrix)[::apart], repeats=repeats)
        spec = self.spec
        for name, shape in shapes.items():
            encode = spec.features[name].encode
            if name in rules:
                spec = _with_feature(spec, name, rule=str(rules[name]))
            elif isinstance(encode, TableEncoder):
                spec = _with_feature(spec, name, encode=table_of(encode, shape))
            else:
                form = {"weight": 0, "min": 0, "max": 0, "encode": shape.encode}
                made = Feature.model_validate({**form, "missing": {"value": shape.missing}})
                spec = _with_feature(spec, name, encode=made.encode, missing=made.missing)
        return spec

    def _values(self, name: str, rules: Mapping[str, Rule], schema: pl.Schema) -> pl.Expr | None:
        """Return what a feature is fitted by; None for a rule that isn't known yet."""
        feature = self.spec.features[name]
        if isinstance(feature.encode, TableEncoder):
            return cell_of(feature.encode, schema)
        if feature.rule is None:
            return pl.col(feature.column or name)
        return rule_holds(rules[name], schema) if name in rules else None

    def _rule(
        self,
        name: str,
        frame: pl.DataFrame,
        matrix: AccountMatrix,
        spec: ScoringSpec,
        *,
        without: Collection[str],
    ) -> Rule | None:
        """Return the best rule of a rule's columns beside a spec's other features."""
        feature = self.spec.features[name]
        encoded = self.encoded(matrix, spec)
        beside = [
            column
            for term, column in zip(spec.terms, encoded.columns, strict=True)
            if term.feature not in without
        ]
        y, kinds = _outcome(matrix), {}
        for column in feature.reads(name):
            kind = _column_content(frame[column], y)
            if kind is None:
                return None
            kinds[column] = kind
        apart = every_so_many(frame.height, len(beside) + len(kinds))
        # Of a spec that has nothing else, the mean alone.
        columns = [each[::apart] for each in beside] or [np.zeros_like(y[::apart])]
        values = np.stack(columns, axis=1) / VALUE_UNITS
        own, upward = frame.select(*kinds).gather_every(apart), (feature.weight or 0) >= 0
        return rule_of_columns(own, kinds, values, y[::apart], upward=upward)

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
    return list(dict.fromkeys(c for name in names for c in spec.features[name].reads(name)))


def _with_feature(spec: ScoringSpec, name: str, **update: object) -> ScoringSpec:
    features = {**spec.features, name: spec.features[name].model_copy(update=update)}
    return spec.model_copy(update={"features": features})


def _content(feature: Feature, cells: pl.Series) -> Fitted:
    """Return what kind of column a feature has, by its encoder; a rule or table, by its cells."""
    if feature.rule is not None:
        return Fitted("flag", 0.0, 0.0)
    if isinstance(feature.encode, TableEncoder):
        return Fitted("categories", 0.0, 0.0, tuple(cells.unique().sort()))
    unknown = cells.null_count() / len(cells)
    if isinstance(feature.encode, OneOfEncoder):
        return Fitted("categories", 0.0, unknown, tuple(feature.encode.values))
    if isinstance(feature.encode, BoolEncoder):
        return Fitted("flag", 0.0, unknown)
    # A monotone feature keeps its direction.
    direction = getattr(feature.encode, "monotone", None)
    return Fitted("number", 0.0, unknown, rising=None if direction is None else direction == "up")


def _column_content(cells: pl.Series, y: NDArray[np.float64]) -> Fitted | None:
    """Return what a column is that a rule asks about, as `init` sees it; None if it is constant."""
    if cells.dtype == pl.Boolean or cells.dtype.is_numeric():
        known = cells.drop_nulls().unique()
        flag = {*known.to_list()} <= {0, 1}
        return Fitted("flag" if flag else "number", 0.0, 0.0) if len(known) > 1 else None
    listed = fit_categories(cells, y)
    return listed if isinstance(listed, Fitted) else None


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
