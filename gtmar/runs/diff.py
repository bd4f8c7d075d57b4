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
from gtmar.journal.history import Reference, checkout, measured_as, resolve
from gtmar.metrics.metric import basis_note
from gtmar.runs.score import score

if TYPE_CHECKING:
    from gtmar.data.sources import Tabular
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
            told = self.metrics["basis"].drop_nulls().unique().to_list()
            if note := basis_note(told[0] if told else None):
                shown += sentence(note)
        elif self.unmeasured:
            shown += sentence(f"Metrics don't compare: {self.unmeasured}.")
        if self.moves is not None:
            shown += table(self.moves.columns, self.moves.rows(), caption="Accounts by tier")
        return shown

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "one": self.one.name,
            "two": self.two.name,
            "weights": [dict(zip(("weight", "one", "two"), w, strict=True)) for w in self.weights],
            "parts": list(self.parts),
            "metrics": None if self.metrics is None else self.metrics.to_dicts(),
            "unmeasured": self.unmeasured,
            "moves": None if self.moves is None else self.moves.to_dicts(),
            "moved": None if self.moved is None else self.moved.to_dicts(),
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
    if is_spec_file(one) and is_spec_file(two) and not _has_runs(Path(journal)):
        sides = _file_side(one, None), _file_side(two, None)
        unmeasured: str | None = "neither was measured in a journal"
    else:
        with Journal(journal) as opened:
            sides = _side(one, opened), _side(two, opened)
            unmeasured = _incomparable(opened, *sides)
            if unmeasured is None:
                first, second = (side.experiment for side in sides)
                assert first is not None
                assert second is not None
                metrics = opened.sql(
                    "difference",
                    run=first.run_id,
                    experiment=first.experiment_id,
                    other=second.run_id,
                    other_experiment=second.experiment_id,
                )
    moves, moved = (None, None) if data is None else _moves(data, *sides, as_of=as_of)
    return Difference(
        *sides,
        weights=_weights(*(side.spec for side in sides)),
        parts=_parts(*(side.spec for side in sides)),
        metrics=metrics,
        unmeasured=unmeasured,
        moves=moves,
        moved=moved,
    )


def _has_runs(journal: Path) -> bool:
    return any(journal.glob("runs/*/start.parquet"))


def _side(name: str, journal: Journal) -> Side:
    if is_spec_file(name):
        return _file_side(name, journal)
    return Side(name, checkout(journal, name), resolve(journal, name))


def _file_side(name: str, journal: Journal | None) -> Side:
    """Read a spec's file; its lineage counts only while it is what the experiment measured."""
    spec = specs.load(name)
    return Side(name, spec, None if journal is None else measured_as(journal, spec))


def _incomparable(journal: Journal, one: Side, two: Side) -> str | None:
    """Say why the metrics of two sides don't compare; None where they do."""
    unknown = [side.name for side in (one, two) if side.experiment is None]
    if unknown:
        return f"{' and '.join(unknown)} was not measured in this journal as it is"
    rows = {
        row["run_id"]: row
        for row in journal.query(
            f"select run_id, {', '.join(_SHARED)} from runs "
            "where list_contains(getvariable('ids'), run_id)",
            ids=[side.experiment.run_id for side in (one, two) if side.experiment],
        ).to_dicts()
    }
    first, second = (rows[side.experiment.run_id] for side in (one, two) if side.experiment)
    differing = [word for column, word in _SHARED.items() if first[column] != second[column]]
    return f"they were measured on different {' and '.join(differing)}" if differing else None


def _weights(one: ScoringSpec, two: ScoringSpec) -> tuple[tuple[str, int | None, int | None], ...]:
    names = list(dict.fromkeys([*one.weights, *two.weights]))
    rows = ((name, one.weights.get(name), two.weights.get(name)) for name in names)
    return tuple(row for row in rows if row[1] != row[2])


def _parts(one: ScoringSpec, two: ScoringSpec) -> tuple[str, ...]:
    """Name what else of two specs differs: tiers, objective, a feature's encoder or bounds."""
    left, right = (_unweighted(spec) for spec in (one, two))
    return tuple(key for key in sorted({*left, *right}) if left.get(key) != right.get(key))


def _unweighted(spec: ScoringSpec) -> dict[str, Any]:
    """Return a spec's canonical parts, features one by one, without weights."""
    form = specs.canonical(spec)
    parts = {key: value for key, value in form.items() if key != "features"}
    for name, feature in form["features"].items():
        kept = {k: v for k, v in feature.items() if k != "weight"}
        if kept["encode"]["kind"] == "bins":
            bins = kept["encode"]["bins"].items()
            kept["encode"] = kept["encode"] | {
                "bins": {
                    key: {k: v for k, v in bin_.items() if k != "weight"} for key, bin_ in bins
                }
            }
        parts[f"features.{name}"] = kept
    return parts


def _moves(
    data: Tabular, one: Side, two: Side, *, as_of: str | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Score a table by both specs and say who changes tier."""
    if one.spec.id != two.spec.id:
        raise UsageError(
            f'the specs name different id columns: "{one.spec.id}" and "{two.spec.id}"',
            hint="give both the same id",
        )
    before, after = (score(data, side.spec, as_of=as_of) for side in (one, two))
    who = (
        before.select(account=pl.col(one.spec.id))
        if one.spec.id
        else pl.DataFrame({"account": range(1, before.height + 1)})
    )
    both = who.with_columns(
        before["score"].alias("score_one"),
        before["tier"].alias("tier_one"),
        after["score"].alias("score_two"),
        after["tier"].alias("tier_two"),
    )
    changed = both.filter(pl.col("tier_one") != pl.col("tier_two"))
    order = {name: place for place, name in enumerate(one.spec.tier_names)}
    order |= {name: order.get(name, place) for place, name in enumerate(two.spec.tier_names)}
    moves = (
        changed.group_by("tier_one", "tier_two")
        .agg(accounts=pl.len())
        .sort(
            pl.col("tier_one").replace_strict(order, return_dtype=pl.Int64),
            pl.col("tier_two").replace_strict(order, return_dtype=pl.Int64),
        )
    )
    distance = (pl.col("score_two") - pl.col("score_one")).abs()
    return moves, changed.sort(distance, "account", descending=[True, False])
