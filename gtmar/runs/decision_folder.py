"""A decision as a folder: what to read, what changes for whom, what it rests on.

It is put in its place when it is whole.
"""

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
from gtmar.outputs import Output
from gtmar.runs.input_files import file_hashes, local_inputs
from gtmar.runs.score import score
from gtmar.safe_text import markdown, spreadsheet_safe
from gtmar.spec.model import VALUE_UNITS

if TYPE_CHECKING:
    from gtmar.data.scan import AccountTable
    from gtmar.runs.decide import Decided
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.interval import Interval

__all__ = ["account_changes", "new_folder", "write_dossier"]

_CUSTOMERS = (
    "This folder holds customer data: account ids, scores and what moved them. Keep it where such "
    "data may be kept."
)
#: Metrics that the report shows first; the rest follow.
_FIRST = ("auc_roc_retain", "nrr_by_tier", "revenue_capture_at_20", "logo_retention_by_tier")


def new_folder(folder: str | Path | None, *inputs: object) -> Output | None:
    """Check where a decision's folder is to be made; None for none.

    Raises
    ------
    UsageError
        If it is there already, lies in an input, or can't be made.
    """
    if folder is None:
        return None
    return Output(Path(folder), local_inputs(*inputs), folder=True, parents=True)


def write_dossier(
    output: Output, decided: Decided, table: AccountTable, *, as_of: str | None
) -> None:
    """Write report, account changes, specs and manifest; all or nothing.

    Parameters
    ----------
    output
        The new folder.
    decided
        The decision.
    table
        The table with the untouched accounts; all of its accounts are listed.
    as_of
        ISO date that `days_before` counts from.

    Raises
    ------
    UsageError
        If it can't be written.
    """
    changes = account_changes(table, decided.incumbent, decided.candidate, as_of=as_of)
    try:
        with output.made() as folder:
            changes.write_csv(folder / "account_changes.csv")
            for name, spec in (("incumbent", decided.incumbent), ("candidate", decided.candidate)):
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

    Parameters
    ----------
    table
        The accounts.
    one, two
        Specs of the same features.
    as_of
        ISO date that `days_before` counts from.

    Returns
    -------
    DataFrame
        `account` (its id, or its row from 1), `score_before`, `score_after`, `change`,
        `tier_before`, `tier_after`, then ``by.<term>`` for each weight, ``by.base``,
        ``by.rounding`` and ``by.clipping``, which add up to `change`. Texts that a spreadsheet
        would run as a formula begin with an apostrophe.
    """
    before, after = (score(table.frame, spec, as_of=as_of) for spec in (one, two))
    identifier = before.columns[0] if before.columns[0] != "score" else None
    account = (
        before[identifier].cast(pl.String).alias("account")
        if identifier
        else pl.Series("account", range(1, before.height + 1))
    )
    names = [c for c in before.columns if c.startswith("points.")]
    parts = {f"by.{name.removeprefix('points.')}": name for name in names}
    parts |= {f"by.{name}": name for name in ("base", "rounding", "clipping")}

    def difference(name: str) -> pl.Series:
        # Both are whole numbers of 1/10,000 of a point, so the difference is rounded to one.
        units = ((after[name] - before[name]) * VALUE_UNITS).round().cast(pl.Int64)
        return units / VALUE_UNITS

    changes = pl.DataFrame(
        {
            "account": account,
            "score_before": before["score"],
            "score_after": after["score"],
            "change": difference("score"),
            "tier_before": before["tier"],
            "tier_after": after["tier"],
            **{label: difference(name) for label, name in parts.items()},
        }
    )
    safe = spreadsheet_safe(changes)
    return safe.sort(pl.col("change").abs(), "account", descending=[True, False])


def _manifest(decided: Decided, folder: Path) -> str:
    """List by hash what the decision was made from, and what was written."""
    written = {Path(name).name: digest for name, digest in file_hashes(folder).items()}
    content = {
        "decided_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "event": decided.event_id,
        "run": decided.run_id,
        "inputs_sha256": decided.inputs,
        "fingerprints": decided.fingerprints,
        "incumbent": {
            "spec_id": specs.spec_id(decided.incumbent),
            "score_id": specs.score_id(decided.incumbent),
        },
        "candidate": {
            "spec_id": specs.spec_id(decided.candidate),
            "score_id": specs.score_id(decided.candidate),
        },
        "evaluator_version": EVALUATOR_VERSION,
        "packages": {name: version(name) for name in ("gtmar", "polars", "numpy")},
        "files_sha256": written,
        "customer_data": _CUSTOMERS,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _report(decided: Decided, listed: int) -> str:
    """Return the report as Markdown."""
    lines = [
        f"# {decided.verdict}",
        "",
        *(f"- {markdown(sentence)}" for sentence in decided.headline),
        "",
        f"{markdown(decided.incumbent.model)}: {markdown(decided.experiment)} against the spec "
        f"that it started from, on {decided.accounts:,} accounts of {markdown(decided.source)} "
        "that the search never saw.",
        "",
        f"**{_CUSTOMERS}**",
        "",
        _looks_said(decided),
        "",
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
    ]
    new = decided.candidate.weights
    lines += [
        f"| {markdown(name)} | {old} | {new[name]} |"
        for name, old in decided.incumbent.weights.items()
        if old != new[name]
    ]
    lines += ["", "## Accounts by tier, before (rows) and after (columns)", ""]
    tiers = decided.incumbent.tier_names
    lines.append(f"| | {' | '.join(map(markdown, tiers))} |")
    lines.append("|---|" + "---:|" * len(tiers))
    for name, row in zip(tiers, decided.moves, strict=True):
        lines.append(f"| {markdown(name)} | {' | '.join(f'{n:,}' for n in row)} |")
    lines += [
        "",
        f"`account_changes.csv` lists all {listed:,} accounts of the table.",
        "",
        f"## Metrics, with {decided.level:.1%} intervals",
        "",
        "| metric | incumbent | candidate | gain |",
        "|---|---|---|---|",
    ]
    found = decided.intervals
    order = sorted(found.after, key=lambda name: (_rank(name), name))
    lines += [
        f"| {markdown(marked(name, decided.basis))} | {_worded(found.before[name])} "
        f"| {_worded(found.after[name])} "
        f"| {_worded(found.gain[name]) if name in found.gain else 'none: any score has it'} |"
        for name in order
        if name in found.before
    ]
    if decided.notes:
        lines += ["", "## Notes", "", *(f"- {markdown(note)}" for note in decided.notes)]
    return "\n".join([*lines, ""])


def _looks_said(decided: Decided) -> str:
    if decided.looks == 1:
        return f"First look at these accounts: intervals at {decided.level:.1%}."
    return (
        f"Comparison number {decided.looks} on these accounts, so intervals are taken at "
        f"{decided.level:.2%} (1 - 0.05 / {decided.looks}). Each look makes them less unseen."
    )


def _rank(name: str) -> int:
    key = name.partition(".")[0]
    return _FIRST.index(key) if key in _FIRST else len(_FIRST)


def _worded(interval: Interval) -> str:
    if interval.value is None:
        return f"none: {markdown(str(interval.reason))}"
    if interval.low is None or interval.high is None:
        return f"{interval.value:.4g} ({markdown(str(interval.reason))})"
    return f"{interval.value:.4g} ({interval.low:.4g} to {interval.high:.4g})"
