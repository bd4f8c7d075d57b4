"""The Pareto front of a run: the best compromises of its objective and another metric."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gtmar.errors import RunNotFoundError, UsageError
from gtmar.journal.sql_library import find_file
from gtmar.metrics.metric import basis_note, marked
from gtmar.metrics.registry import all_metrics, metric_named, objective_keys
from gtmar.plain_data import PlainData, html_sentence, html_table, number, some

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from gtmar.journal.catalog import Journal
    from gtmar.journal.files import Row

__all__ = ["Front", "front"]

#: Most rows that are shown.
_MOST_SHOWN = 20
#: Default for the other metric: the first of these that isn't the objective and has a value. If
#: none has, the retention of the best tier, which needs only the label.
_USUAL = ("revenue_capture_at_20", "tier_separation", "auc_roc_retain")
#: Columns of experiments that `front.sql` reads beside the metric's column.
_COLUMNS = ("run_id", "experiment_id", "number", "outcome", "value_after")
#: Difference of sizes, as a share of the largest, up to which a tier's sizes count as equal.
_SAME_SIZE = 0.02

_ASKED = """
    select
        runs.run_id as run_id,
        runs.objective as objective,
        runs.higher_is_better as higher_is_better,
        runs.tiers as tiers,
        if(runs.orientation = 'risk', runs.tiers[-1], runs.tiers[1]) as best_tier,
        runs.basis as basis,
        json_array_length(json_extract(runs.spec, '$.guardrails')) as guardrails,
        runs.spec is not null as has_spec,
        experiments.null_reasons as null_reasons
    from runs
    join experiments on experiments.run_id = runs.run_id
    where runs.run_id = getvariable('run')
        and experiments.number = 0
"""
_ON_TABLE = """
    select other.run_id as run_id
    from runs as other
    join runs as one on one.run_id = getvariable('run')
    where other.outcomes_fingerprint = one.outcomes_fingerprint
        and other.objective = one.objective
        and other.tiers_id = one.tiers_id
        and other.evaluator_version = one.evaluator_version
"""


@dataclass(frozen=True)
class Front(PlainData):
    """The experiments that no other beats in one of two metrics without being worse in the other.

    All values are of the accounts searched.
    """

    _left_out = ("found",)
    _beside = ("sentences", "points", "best", "bend")

    run_id: str
    objective: str
    #: The metric that it is held against.
    metric: str
    higher_is_better: bool
    metric_higher_is_better: bool
    whole_table: bool
    #: Rows of ``front.sql``, and the run's start and best where they are not among them.
    found: list[Row] = field(repr=False)
    #: Guardrails of the run's spec.
    guardrails: int
    with_blocked: bool
    basis: str | None
    #: Why no experiment has a value of the metric; None where some have.
    reason: str | None = None
    #: Whether the spec of an experiment can be written.
    has_spec: bool = True

    @property
    def rows(self) -> pl.DataFrame:
        """The rows in `found` as a frame."""
        # Imported late, as the command line doesn't need it.
        import polars as pl

        kinds = {"double": pl.Float64, "boolean": pl.Boolean, "bigint": pl.Int64}
        columns = find_file("front").columns
        return pl.DataFrame(
            self.found, schema={each.name: kinds.get(each.type, pl.String) for each in columns}
        )

    @property
    def points(self) -> list[dict[str, Any]]:
        """The compromises, the best objective first, each with its name as `experiment`."""
        return [row for row in self._named if row["on_front"]]

    @property
    def best(self) -> dict[str, Any] | None:
        """The run's best, or its start where nothing was kept."""
        marks = {row["mark"]: row for row in self._named}
        return marks.get("best") or marks.get("start")

    @property
    def bend(self) -> dict[str, Any] | None:
        """The compromise beyond the run's best that brings the most of the metric for its cost.

        Both as shares of what there is between the best and the far end. None where nothing lies
        beyond.
        """
        beyond = self._beyond
        if not beyond:
            return None
        here, end = self._from, beyond[-1]
        cost = abs(end["value"] - here["value"])
        gain = abs(end["metric_value"] - here["metric_value"])
        return max(
            beyond,
            key=lambda row: (
                abs(row["metric_value"] - here["metric_value"]) / gain
                - abs(row["value"] - here["value"]) / cost
            ),
        )

    @property
    def sentences(self) -> list[str]:
        """Say what there is to choose from, what it costs, and on which accounts that was seen."""
        names = (marked(self.objective, self.basis), marked(self.metric, self.basis))
        if self.reason is not None:
            return [f"No experiment has a value of {names[1]}: {self.reason}."]
        first, points = self.found[0], self.points
        lines = [self._counted(first, len(points), names), *self._traded(names)]
        if sizes := self._sizes(points):
            lines.append(sizes)
        if first["broke"] and not self.with_blocked:
            count = first["broke"]
            lines.append(
                f"Left out: {count:,} that broke a guardrail; --blocked looks at "
                f"{'it' if count == 1 else 'them'}, too."
            )
        lost = sum(row["outcome"] == "lose" for row in points)
        if lost and self.guardrails:
            lines.append(
                f"Guardrails were not asked of {lost:,} of them, which lost by {names[0]}: they "
                "may break one."
            )
        lines.append(
            "All of it was measured on the accounts searched, so it looks better than it is."
        )
        return [
            *lines,
            *filter(None, (basis_note(self.basis if names[1] != self.metric else None),)),
        ]

    def shown(self, most: int = _MOST_SHOWN) -> list[dict[str, Any]]:
        """Return about `most` rows, evenly spread, with both ends, all marked rows and the bend."""
        rows, bend = self._named, self.bend
        if len(rows) <= most:
            return rows
        must = {0, len(rows) - 1}
        must |= {i for i, row in enumerate(rows) if row["mark"] or row == bend}
        spread = [round(i * (len(rows) - 1) / (most - 1)) for i in range(most)]
        # Rows that must be shown replace their neighbours.
        kept = set(spread) | must
        for index in sorted(set(spread) - must, key=lambda i: min(abs(i - m) for m in must)):
            if len(kept) <= most:
                break
            kept.remove(index)
        return [rows[i] for i in sorted(kept)]

    def _repr_html_(self) -> str:
        heads, rows = self.cells(self.shown())
        paragraphs = "".join(map(html_sentence, self.sentences))
        return paragraphs + html_table(
            heads, rows, caption=f"{self.objective} against {self.metric}"
        )

    def cells(self, shown: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[object]]]:
        """Return the column heads and the rows of a table of `shown`."""
        sized = any(row["accounts"] is not None for row in shown)
        heads = ["experiment", self.objective, self.metric, *["accounts"] * sized, ""]
        bend = self.bend
        rows: list[list[object]] = []
        for row in shown:
            marks = [row["mark"]] if row["mark"] else []
            marks += ["blocked"] * (row["outcome"] == "blocked")
            marks += ["beaten"] * (row["mark"] == "best" and not row["on_front"])
            marks += ["trade"] * (row == bend)
            values = [row["experiment"], row["value"], row["metric_value"]]
            rows.append([*values, *[row["accounts"]] * sized, ", ".join(marks)])
        return heads, rows

    @property
    def _named(self) -> list[dict[str, Any]]:
        return [
            {"experiment": f"{row['run_id']}/{row['experiment_id']}", **row} for row in self.found
        ]

    @property
    def _from(self) -> dict[str, Any]:
        """The compromise that trades start from: the run's best, or one that beats it in both."""
        best, points = self.best, self.points
        if best is None or best["on_front"]:
            return best or points[0]
        signs = self._signs
        # Of those with no worse an objective, the last is best in the metric.
        return [row for row in points if signs[0] * (row["value"] - best["value"]) >= 0][-1]

    @property
    def _signs(self) -> tuple[int, int]:
        higher = (self.higher_is_better, self.metric_higher_is_better)
        return tuple(1 if each else -1 for each in higher)  # type: ignore[return-value] # it has two

    @property
    def _beyond(self) -> list[dict[str, Any]]:
        """The compromises with a worse objective and a better metric than `_from`."""
        if not self.found:
            return []
        points = self.points
        return points[points.index(self._from) + 1 :]

    def _counted(self, first: dict[str, Any], points: int, names: tuple[str, str]) -> str:
        runs = f" of {first['runs']:,} runs" if first["runs"] > 1 else ""
        looked_at = some(first["looked_at"], "experiment")
        both = f"{names[0]} and {names[1]}"
        if points == 1:
            return f"Of {looked_at}{runs} one is best in both {both}."
        return (
            f"Of {looked_at}{runs} {points:,} are best compromises of "
            f"{both}: none of the others is better in one and as good in the other."
        )

    def _traded(self, names: tuple[str, str]) -> list[str]:
        """Return sentences on the run's best, and on the gain from giving up some objective."""
        best, here, bend = self.best, self._from, self.bend
        sentences = []
        if best is not None:
            whose = "best" if best["mark"] == "best" else "start, which nothing beat,"
            sentences.append(f"The run's {whose} has {_pair(best, names)}.")
            if here != best:
                sentences.append(
                    f"{here['experiment']} is no worse in either: {_pair(here, names)}."
                )
        if bend is None:
            return [
                *sentences,
                f"No experiment trades {names[0]} for more: there is nothing to choose.",
            ]

        def sentence(row: dict[str, Any], opening: str) -> str:
            cost = number(abs(row["value"] - here["value"]))
            change = row["metric_value"] - here["metric_value"]
            signed = f"{'+' if change > 0 else '-'}{number(abs(change))}"
            return (
                f"{opening} {cost} of {names[0]} brings {names[1]} to "
                f"{number(row['metric_value'])} ({signed}): {row['experiment']}."
            )

        sentences.append(sentence(bend, "Giving up"))
        if (end := self._beyond[-1]) != bend:
            sentences.append(sentence(end, "The other end, giving up"))
        return sentences

    def _sizes(self, points: Sequence[dict[str, Any]]) -> str | None:
        """Return a sentence if the size of the metric's tier differs between compromises."""
        sizes = [row["accounts"] for row in points if row["accounts"] is not None]
        if not sizes or max(sizes) - min(sizes) <= max(1.0, _SAME_SIZE * max(sizes)):
            return None
        tier = self.metric.partition(".")[2]
        return (
            f"Tier {tier} has from {min(sizes):,} to {max(sizes):,} accounts among these, by each "
            "score's own edges, so part of what moves may be its size alone."
        )


def _pair(row: dict[str, Any], names: tuple[str, str]) -> str:
    return f"{names[0]} {number(row['value'])} and {names[1]} {number(row['metric_value'])}"


def front(
    journal: Journal,
    run: str | None = None,
    *,
    by: str | None = None,
    whole_table: bool = False,
    blocked: bool = False,
) -> Front:
    """Find the best compromises of a run's objective and another metric.

    Parameters
    ----------
    run
        The run; None for the latest search.
    by
        The other metric, with a tier as in ``nrr_by_tier.A``. None for the first of revenue
        capture, tier separation, AUC, and retention of the best tier that isn't the objective and
        has a value.
    whole_table
        Whether to include all comparable runs: those of the same table, with the same outcomes,
        objective, tiers and evaluator.
    blocked
        Whether to include experiments that broke a guardrail.

    Raises
    ------
    RunNotFoundError
        If there is no such run, or it has no experiment yet.
    UsageError
        If there is no such metric or tier, it is the objective, or neither direction of it is
        better.
    """
    run_id = journal.run_id(run)
    rows = journal.query_rows(
        _ASKED, among=[run_id], columns=("run_id", "number", "null_reasons"), run=run_id
    )
    if not rows:
        raise RunNotFoundError(
            f"run {run_id} has no experiment yet", hint="wait for its first part, or resume it"
        )
    [run_row] = rows
    objective, reasons = run_row["objective"], dict(run_row["null_reasons"] or ())
    usual = [key for key in _USUAL if key != objective and key not in reasons]
    if run_row["best_tier"] is not None:
        usual.append(f"logo_retention_by_tier.{run_row['best_tier']}")
    metric = by or next(iter(usual), _other(objective))
    _refuse_unfit(metric, objective, run_row["tiers"] or ())
    among = [run_id]
    if whole_table:
        others = journal.query_rows(_ON_TABLE, columns=(), run=run_id)
        among = sorted({*(row["run_id"] for row in others), run_id})
    key, _, tier = metric.partition(".")
    columns = (*_COLUMNS, key, *(["accounts_by_tier"] if tier else []))
    points = journal.sql_rows(
        "front",
        among=among,
        columns=columns,
        run=run_id,
        metric=metric,
        whole_table=whole_table,
        blocked=blocked,
    )
    missing = reasons.get(metric, reasons.get(key, "none of them is on record with one"))
    return Front(
        run_id=run_id,
        objective=objective,
        metric=metric,
        higher_is_better=run_row["higher_is_better"],
        metric_higher_is_better=all_metrics()[key].better == "higher",
        whole_table=whole_table,
        found=points,
        guardrails=run_row["guardrails"] or 0,
        with_blocked=blocked,
        basis=run_row["basis"],
        reason=None if points else missing,
        has_spec=run_row["has_spec"],
    )


def _other(objective: str) -> str:
    return next(key for key in _USUAL if key != objective)


def _refuse_unfit(metric: str, objective: str, tiers: Sequence[str]) -> None:
    """Raise if a metric can't be traded for the objective."""
    known = metric_named(metric, tiers)
    if metric == objective:
        raise UsageError(
            f"{metric} is the objective already: there is nothing to trade it for",
            hint=f"--by {_other(objective)}",
        )
    if known.better == "neither":
        fit = [key for key in objective_keys() if all_metrics()[key].better != "neither"]
        raise UsageError(
            f'no direction of "{metric}" is better, so nothing can be best in it; '
            f"those that have one: {', '.join(fit)}",
            hint=f"--by {_other(objective)}",
        )
