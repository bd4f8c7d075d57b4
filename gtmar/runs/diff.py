"""Two specs side by side, each an experiment, a run or a file: only what differs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar import spec as specs
from gtmar.errors import UsageError
from gtmar.html import sentence, table
from gtmar.journal.catalog import Journal
from gtmar.journal.lookup import Reference, checkout, measured_as, resolve
from gtmar.metrics.metric import basis_note
from gtmar.runs.score import tier_changes

if TYPE_CHECKING:
    from gtmar.data.scan import Tabular
    from gtmar.spec.model import ScoringSpec

__all__ = ["Difference", "Side", "difference", "is_spec_file"]

_SPEC_ENDINGS = {".yaml", ".yml", ".json", ".csv"}
#: What must agree for two experiments' metrics to mean the same.
_SHARED = {
    "outcomes_fingerprint": "tables",
    "tiers_id": "tiers",
    "evaluator_version": "evaluators",
}


@dataclass(frozen=True)
class Side:
    """One of two specs."""

    #: As it was named.
    name: str
    spec: ScoringSpec
    #: The experiment that measured it; None for a file without lineage or edited since.
    experiment: Reference | None


@dataclass(frozen=True)
class Difference:
    """What differs between two specs."""

    one: Side
    two: Side
    #: Weight by term, None where a side has no such term.
    weights: tuple[tuple[str, int | None, int | None], ...]
    #: Parts of the spec other than weights that differ.
    parts: tuple[str, ...]
    #: Metrics that differ: metric, one, two, change, reading; None where they don't compare.
    metrics: pl.DataFrame | None
    #: Why metrics don't compare.
    unmeasured: str | None
    #: Accounts by tier before and after: from, to, accounts; None without a table.
    moves: pl.DataFrame | None
    #: Accounts that change tier: id or row, both scores, both tiers; those that move most first.
    moved: pl.DataFrame | None

    def _repr_html_(self) -> str:
        names = ("weight", self.one.name, self.two.name)
        shown = table(names, self.weights, caption=f"{self.one.name} and {self.two.name}")
        if self.parts:
            shown += sentence(f"Also different: {', '.join(self.parts)}.")
        if self.metrics is not None:
            shown += table(self.metrics.columns, self.metrics.rows(), caption="Metrics")
            bases = self.metrics["basis"].drop_nulls().unique().to_list()
            if note := basis_note(bases[0] if bases else None):
                shown += sentence(note)
        elif self.unmeasured:
            shown += sentence(f"Metrics don't compare: {self.unmeasured}.")
        if self.moves is not None:
            shown += table(self.moves.columns, self.moves.rows(), caption="Accounts by tier")
        return shown

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        metrics, moves, moved = (
            None if frame is None else frame.to_dicts()
            for frame in (self.metrics, self.moves, self.moved)
        )
        return {
            "one": self.one.name,
            "two": self.two.name,
            "weights": [dict(zip(("weight", "one", "two"), w, strict=True)) for w in self.weights],
            "parts": list(self.parts),
            "metrics": metrics,
            "unmeasured": self.unmeasured,
            "moves": moves,
            "moved": moved,
        }


def is_spec_file(name: str) -> bool:
    """Whether a name stands for a spec's file and not for something in the journal."""
    return Path(name).suffix.lower() in _SPEC_ENDINGS


def difference(
    one: str,
    two: str,
    *,
    journal: str | Path = "journal",
    data: Tabular | None = None,
    as_of: str | None = None,
) -> Difference:
    """Say what differs between two specs.

    Parameters
    ----------
    one, two
        ``RUN/EXP``, ``RUN`` for its best, or a spec's file.
    journal
        The journal's folder; not needed for two files.
    data
        An account table, to see which accounts change tier.
    as_of
        ISO date that `days_before` counts from.

    Raises
    ------
    RunNotFoundError, SpecError
        If one of them isn't there or can't be read.
    """
    metrics = None
    files = is_spec_file(one) and is_spec_file(two)
    if files and not any(Path(journal).glob("runs/*/start.parquet")):
        sides = _side(one, None), _side(two, None)
        unmeasured: str | None = "neither was measured in a journal"
    else:
        with Journal(journal) as opened:
            sides = _side(one, opened), _side(two, opened)
            first, second = (side.experiment for side in sides)
            unmeasured = _incomparable(opened, *sides)
            if first is not None and second is not None and unmeasured is None:
                metrics = opened.sql(
                    "difference",
                    run=first.run_id,
                    experiment=first.experiment_id,
                    other=second.run_id,
                    other_experiment=second.experiment_id,
                )
    old, new = (side.spec for side in sides)
    weights = (
        (name, old.weights.get(name), new.weights.get(name))
        for name in dict.fromkeys([*old.weights, *new.weights])
    )
    left, right = _unweighted(old), _unweighted(new)
    moves, moved = (None, None) if data is None else _moves(data, old, new, as_of=as_of)
    return Difference(
        *sides,
        weights=tuple(row for row in weights if row[1] != row[2]),
        parts=tuple(key for key in sorted({*left, *right}) if left.get(key) != right.get(key)),
        metrics=metrics,
        unmeasured=unmeasured,
        moves=moves,
        moved=moved,
    )


def _side(name: str, journal: Journal | None) -> Side:
    """Read a spec by its name; a file counts as measured while it is what was measured."""
    if journal is not None and not is_spec_file(name):
        return Side(name, checkout(journal, name), resolve(journal, name))
    spec = specs.load(name)
    return Side(name, spec, None if journal is None else measured_as(journal, spec))


def _incomparable(journal: Journal, one: Side, two: Side) -> str | None:
    """Say why the metrics of two sides don't compare; None where they do."""
    unknown = [side.name for side in (one, two) if side.experiment is None]
    if unknown:
        return f"{' and '.join(unknown)} was not measured in this journal as it is"
    ids = [side.experiment.run_id for side in (one, two) if side.experiment]
    rows = journal.query(
        f"select run_id, {', '.join(_SHARED)} from runs "
        "where list_contains(getvariable('ids'), run_id)",
        ids=ids,
    ).rows_by_key("run_id", named=True, unique=True)
    first, second = (rows[run_id] for run_id in ids)
    differing = [word for column, word in _SHARED.items() if first[column] != second[column]]
    return f"they were measured on different {' and '.join(differing)}" if differing else None


def _unweighted(spec: ScoringSpec) -> dict[str, Any]:
    """Return a spec's canonical parts, features one by one, without weights."""
    parts = specs.canonical(spec)
    for name, feature in parts.pop("features").items():
        bins = feature["encode"]["bins"] if feature["encode"]["kind"] == "bins" else {}
        for weighted in (feature, *bins.values()):
            weighted.pop("weight", None)
        parts[f"features.{name}"] = feature
    return parts


def _moves(
    data: Tabular, one: ScoringSpec, two: ScoringSpec, *, as_of: str | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Score a table by both specs and say who changes tier."""
    if one.id != two.id:
        raise UsageError(
            f'the specs name different id columns: "{one.id}" and "{two.id}"',
            hint="give both the same id",
        )
    changed = tier_changes(data, one, two, as_of=as_of)
    order = {name: index for index, name in enumerate(two.tier_names)}
    order |= {name: index for index, name in enumerate(one.tier_names)}
    ranks = (
        pl.col(name).replace_strict(order, return_dtype=pl.Int64)
        for name in ("tier_one", "tier_two")
    )
    moves = changed.group_by("tier_one", "tier_two").agg(accounts=pl.len()).sort(*ranks)
    return moves, changed
