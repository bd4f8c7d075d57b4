"""A decision as a folder: a report, what changes for which account, what it all rests on."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from gtmar import spec as specs
from gtmar.engine.evaluator import EVALUATOR_VERSION
from gtmar.errors import UsageError
from gtmar.metrics.metric import marked
from gtmar.runs.decided import ids_of
from gtmar.runs.inputs import file_hashes
from gtmar.runs.score import score
from gtmar.safe_text import markdown, spreadsheet_safe
from gtmar.spec.model import VALUE_UNITS

if TYPE_CHECKING:
    from gtmar.data.scan import AccountTable
    from gtmar.outputs import Output
    from gtmar.runs.decided import Decided
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.interval import Interval

__all__ = ["account_changes", "write_folder"]

CUSTOMERS_NOTE = (
    "This folder holds customer data: account ids, scores and what moved them. Keep it where such "
    "data may be kept."
)
#: Metrics that the report shows first; the rest follow.
_FIRST = ("auc_roc_retain", "nrr_by_tier", "revenue_capture_at_20", "logo_retention_by_tier")


def write_folder(
    output: Output, decided: Decided, table: AccountTable, *, as_of: str | None
) -> None:
    """Write report, account changes, specs and manifest; all or nothing."""
    changes = account_changes(table, decided.incumbent, decided.candidate, as_of=as_of)
    try:
        with output.made() as folder:
            changes.write_csv(folder / "account_changes.csv")
            for name, spec in zip(("incumbent", "candidate"), decided.sides, strict=True):
                heading = f"Frozen by a decision on {decided.experiment}: the {name}."
                (folder / f"{name}.yaml").write_text(specs.to_yaml(spec, heading=heading), "utf-8")
            report = json.dumps(decided.as_json(), indent=2, ensure_ascii=False, default=str)
            (folder / "report.json").write_text(report + "\n", "utf-8")
            (folder / "report.md").write_text(_report(decided, changes.height), "utf-8")
            (folder / "manifest.json").write_text(_manifest(decided, folder), "utf-8")
    except UsageError as err:
        raise UsageError(
            f"{err.message}. The decision itself, {decided.verdict}, is in the journal as "
            f"{decided.event_id}",
            hint=f"gtmar decide {decided.run_id} -o NEW makes the folder",
            event=decided.event_id,
        ) from err


def account_changes(
    table: AccountTable, one: ScoringSpec, two: ScoringSpec, *, as_of: str | None
) -> pl.DataFrame:
    """Return score and tier of every account under two specs, and what the difference is made of.

    Returns
    -------
    DataFrame
        `account` (its id, or its row from 1), `date` in a table of several, `score_before`,
        `score_after`, `change`, `tier_before`, `tier_after`, then ``by.<term>`` for each weight,
        ``by.base``, ``by.rounding``, ``by.clipping`` and one for each of the score's other lines,
        which add up to `change`. Texts that a spreadsheet would run as a formula begin with an
        apostrophe.
    """
    before, after = (score(table.as_read, spec, as_of=as_of) for spec in (one, two))
    identifier = before.columns[0] if before.columns[0] != "score" else None
    dated = {} if table.several is None else {"date": table.several.column}
    account = pl.col(identifier) if identifier else pl.int_range(1, before.height + 1)
    names = [name for name in before.columns if name.startswith("points.")]
    others = before.columns[before.columns.index("base") :]
    parts = [*names, *(name for name in others if name not in names)]

    def difference(name: str) -> pl.Series:
        # Both are whole numbers of 1/10,000 of a point, so the difference is rounded to one.
        units = ((after[name] - before[name]) * VALUE_UNITS).round().cast(pl.Int64)
        return units / VALUE_UNITS

    changes = before.select(
        account.cast(pl.String if identifier else pl.Int64).alias("account"),
        **dated,
        score_before="score",
        score_after=after["score"],
        change=difference("score"),
        tier_before="tier",
        tier_after=after["tier"],
        **{f"by.{name.removeprefix('points.')}": difference(name) for name in parts},
    )
    safe = spreadsheet_safe(changes)
    order = ["account", *dated]
    return safe.sort(pl.col("change").abs(), *order, descending=[True, *[False] * len(order)])


def _manifest(decided: Decided, folder: Path) -> str:
    """List by hash what the decision was made from, and what was written."""
    content = {
        "decided_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "event": decided.event_id,
        "run": decided.run_id,
        "inputs_sha256": decided.inputs,
        "fingerprints": decided.fingerprints,
        "incumbent": ids_of(decided.sides[0]),
        "candidate": ids_of(decided.sides[1]),
        "compared": decided.compared,
        "evaluator_version": EVALUATOR_VERSION,
        "packages": {name: version(name) for name in ("gtmar", "polars", "numpy")},
        "files_sha256": {Path(name).name: sha for name, sha in file_hashes(folder).items()},
        "customer_data": CUSTOMERS_NOTE,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _report(decided: Decided, listed: int) -> str:
    """Return the report as Markdown."""
    tiers, own = decided.incumbent.tier_names, decided.own_edges
    old, new = decided.incumbent.weights, decided.candidate.weights
    of = decided.intervals
    before, after, gain = of.before, of.after, of.gain

    def rank(name: str) -> tuple[int, str]:
        key = name.partition(".")[0]
        return _FIRST.index(key) if key in _FIRST else len(_FIRST), name

    looks = f"First look at these accounts: intervals at {decided.level:.1%}."
    if decided.looks > 1:
        looks = (
            f"Comparison number {decided.looks} on these accounts, so intervals are taken at "
            f"{decided.level:.2%} (1 - 0.05 / {decided.looks}). Each look makes them less unseen."
        )
    lines = [
        f"# {markdown(decided.sentence)}",
        "",
        *(f"- {markdown(said)}" for said in (*decided.headline, decided.movement)),
        "",
        f"{markdown(decided.incumbent.model)}: {markdown(decided.compared)}",
        "",
        f"**{CUSTOMERS_NOTE}**",
        "",
        looks,
        "",
        *_customers(decided),
        "## Gates",
        "",
        "| gate | stated beforehand | measured | |",
        "|---|---|---|---|",
        *(
            f"| {markdown(g.name)} | {markdown(g.limit)} | {markdown(g.found)} | {g.outcome} |"
            for g in decided.gates
        ),
        "",
        "## Weights",
        "",
        "| weight | incumbent | candidate |",
        "|---|---:|---:|",
        *(f"| {markdown(n)} | {w} | {new[n]} |" for n, w in old.items() if w != new[n]),
        "",
        f"## {decided.counted.capitalize()} by tier, before (rows) and after (columns)",
        "",
        f"| | {' | '.join(map(markdown, tiers))} |",
        "|---|" + "---:|" * len(tiers),
        *(
            f"| {markdown(name)} | {' | '.join(f'{n:,}' for n in row)} |"
            for name, row in zip(tiers, decided.moves, strict=True)
        ),
        "",
        f"`account_changes.csv` lists all {listed:,} {decided.counted} of the table.",
        "",
        f"## Metrics, with {decided.level:.1%} intervals",
        "",
        "Metrics of a tier are taken at the incumbent's tier sizes: both scores are cut after as "
        "many accounts, and those that tie across a cut belong to both sides in part.",
        "",
        "| metric | incumbent | candidate | gain |",
        "|---|---|---|---|",
        *(
            f"| {markdown(marked(name, decided.basis))} | {_worded(before[name])} "
            f"| {_worded(after[name])} "
            f"| {_worded(gain[name]) if name in gain else 'none: any score has it'} |"
            for name in sorted(after, key=rank)
            if name in before and not name.startswith("share_by_tier.")
        ),
        "",
        "## Tiers by each score's own edges",
        "",
        "| metric | incumbent | candidate |",
        "|---|---|---|",
        *(
            f"| {decided.counted} in {markdown(tier)} | {one:,} | {two:,} |"
            for tier, one, two in zip(tiers, *decided.sizes, strict=True)
        ),
        *(
            f"| {markdown(marked(name, decided.basis))} | {_worded(own.before[name])} "
            f"| {_worded(own.after[name])} |"
            for name in sorted(own.after, key=rank)
            if name in own.before and not name.endswith(".*")
        ),
    ]
    if decided.notes:
        lines += ["", "## Notes", "", *(f"- {markdown(note)}" for note in decided.notes)]
    return "\n".join([*lines, ""])


def _customers(decided: Decided) -> list[str]:
    """Return the section on old customers and new ones; nothing where they aren't apart."""
    if not decided.customers:
        return []
    rows = [
        f"| {each.group} | {each.accounts:,} | {_worded(each.before)} | {_worded(each.after)} "
        f"| {_worded(each.gain)} | {each.reading} |"
        for each in decided.customers
    ]
    return [
        f"## Old and new customers apart, by {markdown(marked(decided.objective, decided.basis))}",
        "",
        "Old ones stood in the table searched as well. What a score does for new ones is another "
        "question.",
        "",
        "| customers | accounts | incumbent | candidate | gain | |",
        "|---|---:|---|---|---|---|",
        *rows,
        "",
    ]


def _worded(interval: Interval) -> str:
    if interval.value is None:
        return f"none: {markdown(str(interval.reason))}"
    if interval.low is None or interval.high is None:
        return f"{interval.worded} ({markdown(str(interval.reason))})"
    return interval.worded
