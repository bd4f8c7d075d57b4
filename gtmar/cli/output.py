"""What people read and what programs read: stdout is data, stderr is talk."""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import datetime
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import polars as pl

    from gtmar.journal.library import SqlFile
    from gtmar.journal.reading import Comparison, Review
    from gtmar.runs import Checkup, RunResult

__all__ = [
    "check",
    "comparison",
    "data",
    "following",
    "frame",
    "listing",
    "review",
    "run",
    "say",
]

#: Wins shown in a review, the largest gains first.
_WINS_SHOWN = 5
_DRIFT_SHOWN = 8
#: Columns up to this wide are never broken; what doesn't fit is taken from the others.
_WHOLE = 31
#: Least width that a longer text is wrapped to; narrower, and a row becomes a block of lines.
_WRAPPED = 20
_NUMBER = re.compile(r"[-+]?[\d,]+(\.\d+)?|-|")


def _console() -> Console:
    return Console(highlight=False, soft_wrap=False)


def say(text: str = "") -> None:
    """Print a line of text to stdout, wrapped at the terminal's width."""
    _console().print(escape(text))


def following(command: str) -> None:
    """Print the next command, whole on one line, so that it can be copied."""
    sys.stdout.write(f"Next: {command}\n")


def data(value: object) -> None:
    """Print plain data as JSON to stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def number(value: object) -> str:
    """Write a value for people: a dash for null, thousands separated, cents from 100 up.

    Examples
    --------
    >>> number(None), number(12345), number(0.51234)
    ('-', '12,345', '0.5123')
    >>> number(655.5495)
    '655.55'
    """
    if value is None:
        return "-"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 100 else f"{value:.4f}"
    return str(value)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """Print a table that fits the terminal; numbers to the right."""
    cells = [[v if isinstance(v, str) else number(v) for v in row] for row in rows]
    shape = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for i, name in enumerate(columns):
        texts = [row[i] for row in cells]
        right = bool(texts) and all(_NUMBER.fullmatch(text) for text in texts)
        longest = max(map(len, [*texts, *name.split()]), default=0)
        shape.add_column(
            escape(name),
            justify="right" if right else "left",
            overflow="fold",
            min_width=longest if longest <= _WHOLE else None,
        )
    for row in cells:
        shape.add_row(*map(escape, row))
    if title:
        say()
        say(title)
    _console().print(shape)


def frame(rows: pl.DataFrame, *, as_json: bool) -> None:
    """Print a query's result: as a table where it fits, else a block of lines a row."""
    if as_json:
        data(rows.to_dicts())
        return
    cells = [[_cell(value) for value in row] for row in rows.rows()]
    heads = [max(map(len, name.split("_"))) for name in rows.columns]
    longest = [max((len(row[i]) for row in cells), default=0) for i in range(len(heads))]
    needed = (
        max(head, cell if cell <= _WHOLE else _WRAPPED)
        for head, cell in zip(heads, longest, strict=True)
    )
    if sum(needed) + 3 * (len(heads) - 1) <= _console().width or not cells:
        table(["\n".join(name.split("_")) for name in rows.columns], cells)
    else:
        for row in cells:
            table(["", ""], zip(rows.columns, row, strict=True))
    say(_some(rows.height, "row"))


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {number(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(str(v) for v in value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return number(value)


def run(result: RunResult, *, written: str | None, as_json: bool) -> None:
    """Print what a run found, and the next command."""
    if as_json:
        data({**result.as_json(), "output": written})
        return
    from gtmar.journal.reading import verdict

    holdout = result.holdout or {}
    row = {
        "objective": result.metric,
        "experiments": result.experiments,
        "wins": result.wins,
        "baseline_value": result.baseline_value,
        "best_value": result.best_value,
        "holdout_accounts": holdout.get("accounts", 0),
        "holdout_baseline_value": holdout.get("baseline_value"),
        "holdout_best_value": holdout.get("best_value"),
    }
    valued = None not in (row["holdout_baseline_value"], row["holdout_best_value"])
    held = bool(holdout["improved"]) if valued else None
    for sentence in verdict(row, improved=result.improved, held=held):
        say(sentence)
    if result.state != "finished":
        say(f"The run ended early: {_ENDED[result.state]}")
    say(
        f"Run {result.run_id}: {result.seconds:.1f} s, "
        f"{result.experiments_per_second:,.0f} experiments a second."
    )
    if written:
        say(f"Best spec: {written}")
    say()
    following(f"gtmar review {result.run_id}{_journal_flag(result.journal)}")


_ENDED = {
    "patience": "no win for as long as --patience allows.",
    "time_budget": "the time budget was up.",
    "exhausted": "a thousand proposals in a row were known already; nothing near is left to try.",
    "interrupted": "interrupted; everything found so far is in the journal.",
}


def _journal_flag(journal: str) -> str:
    return "" if journal == os.environ.get("GTMAR_JOURNAL", "journal") else f" --journal {journal}"


def review(found: Review, *, journal: str, as_json: bool) -> None:
    """Print a review: verdict, wins, weights, tiers, what else moved."""
    if as_json:
        data(found.as_json())
        return
    s = found.summary
    say(f"{s['model']} on {s['source']}, run {s['run_id']} ({s['state']})")
    say()
    for sentence in found.verdict:
        say(sentence)
    last = f"the last win was experiment {s['last_win']:,}; " if s["last_win"] else ""
    rate = f"{s['win_rate']:.1%} won; " if s["win_rate"] is not None else ""
    blocked = f"{s['blocked']:,} broke a guardrail; " if s["blocked"] else ""
    say(f"{rate}{blocked}{last}longest stretch without a win {s['longest_gap']:,}.")
    if s["basis"] == "binary":
        say("Revenue retention is on the binary basis: MRR is assumed flat for who stays.")
    if not found.wins.is_empty():
        gains = found.wins.sort("gain", descending=bool(s["higher_is_better"])).head(_WINS_SHOWN)
        rows = gains.select("number", "changes", "gain").rows()
        table(["experiment", "changes", "gain"], rows, title=f"Largest of {s['wins']:,} wins")
    table(
        ["weight", "start", "best", "change"],
        ((f, a, b, f"{c:+d}" if c else "") for f, a, b, c in found.weights.rows()),
        title="Weights",
    )
    money = found.tiers["arpa"].is_not_null().any()
    columns = ["stage", "tier", "accounts", "logo_retention"]
    columns += ["nrr", "grr", "arpa"] if money else []
    table(
        [_HEADINGS.get(c, c) for c in columns],
        found.tiers.select(columns).rows(),
        title="Tiers",
    )
    if found.hhi_reading:
        say(found.hhi_reading)
    _drift(found)
    say()
    if found.improved and found.held is not False:
        say("To see what it does to each account, with the spec that the run wrote by -o:")
        following(f"gtmar score --data {s['source']} --spec best.yaml -o scored.parquet")
    else:
        say("Other features or encoders in the spec may do better than other weights.")
        following(f"gtmar sql convergence --set run={s['run_id']}{_journal_flag(journal)}")


#: How a tier table's columns are called.
_HEADINGS = {"logo_retention": "logos kept", "nrr": "NRR", "grr": "GRR", "arpa": "ARPA"}


def _drift(found: Review) -> None:
    worse = found.drift.filter(found.drift["reading"] == "worse")
    objective = found.summary["objective"]
    if not found.improved:
        return
    if worse.is_empty():
        say(f"Proxy drift: no other metric got worse while {objective} improved.")
        return
    table(
        ["metric", "start", "best", "change"],
        worse.select("metric", "start", "best", "change").head(_DRIFT_SHOWN).rows(),
        title=f"Proxy drift: got worse while {objective} improved",
    )


def comparison(found: Comparison, *, journal: str, as_json: bool) -> None:
    """Print two runs side by side."""
    if as_json:
        data(found.as_json())
        return
    one, two = found.one, found.two
    say(found.verdict)
    hidden = {"weights", "outcomes_fingerprint", "features_fingerprint", "tiers_id", "run_id"}
    rows = [
        (k, one[k], two[k]) for k in one if k not in hidden and (one[k], two[k]) != (None, None)
    ]
    table(["", one["run_id"], two["run_id"]], rows)
    names = sorted({*one["weights"], *two["weights"]})
    differing = [
        (n, one["weights"].get(n), two["weights"].get(n))
        for n in names
        if one["weights"].get(n) != two["weights"].get(n)
    ]
    if differing:
        table(["weight", one["run_id"], two["run_id"]], differing, title="Weights that differ")
    else:
        say("Both end with the same weights.")
    following(f"gtmar review {two['run_id']}{_journal_flag(journal)}")


def check(found: Checkup, *, as_json: bool) -> None:
    """Print what a table offers."""
    if as_json:
        data(found.as_json())
        return
    spec = "features detected" if found.detected else f"spec {found.model}"
    say(f"{found.source} keeps the data contract ({spec}, {_some(found.features, 'feature')}).")
    left_out = f", {found.dropped:,} without an outcome left out" if found.dropped else ""
    say(
        f"{found.accounts:,} accounts{left_out}: {found.search_accounts:,} to search, "
        f"{found.holdout_accounts:,} held out."
    )
    cohorts = ", ".join(f"{count:,} {name}" for name, count in found.cohorts.items() if count)
    say(f"Cohorts: {cohorts}.")
    basis = {"observed": "start and end MRR are there", "binary": "MRR is assumed flat", None: None}
    if found.basis:
        say(f"Revenue retention: {found.basis} ({basis[found.basis]}).")
    table(
        ["metric, search part, all tiers", "value", ""],
        (
            (name, value, found.reasons.get(name, ""))
            for name, value in found.metrics.items()
            if not name.startswith(("share_clipped", "score_"))
        ),
    )
    for note in found.notes:
        say(f"Note: {note}")
    if found.objective_value is None:
        say(f"Objective {found.objective} has no value here: choose another with --metric.")
        return
    say(f"Objective {found.objective}: {found.objective_value:.4f} at the start.")
    flag = "" if found.detected else " --spec SPEC"
    following(f"gtmar run --data {found.source}{flag} -o best.yaml")


def _some(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listing(files: Mapping[str, SqlFile], *, as_json: bool) -> None:
    """List the SQL library."""
    if as_json:
        data([{"name": f.name, "purpose": f.purpose, "grain": f.grain} for f in files.values()])
        return
    for folder, title in _FOLDERS.items():
        rows = [
            (name.partition("/")[2], ", ".join(p.name for p in f.parameters), f.purpose)
            for name, f in files.items()
            if name.startswith(f"{folder}/")
        ]
        if rows:
            table(["query", "parameters", "purpose"], rows, title=title)
    say()
    say("Or one SELECT of your own over the views runs and experiments:")
    following("gtmar sql -c 'select outcome, count(*) from experiments group by all'")


#: Folders of the SQL library, and what to call them.
_FOLDERS = {
    "journal": "Over the journal",
    "checks": "Checks: no row when all is well",
    "metrics": "SQL twins of the metrics, to be run in DuckDB over a scored table (docs/sql.md)",
}
