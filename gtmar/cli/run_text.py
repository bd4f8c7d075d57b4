"""What each command's result looks like, for people and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gtmar.cli.next_step import elsewhere, follow, unused
from gtmar.cli.output import data, say, some, table, text
from gtmar.metrics.metric import basis_note, marked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gtmar.cli.output import Tone
    from gtmar.journal.review import Comparison, Review
    from gtmar.journal.sql_library import SqlFile
    from gtmar.journal.verify import Verification
    from gtmar.report import Page
    from gtmar.runs import Pace, Replay, RunResult

__all__ = [
    "after_review",
    "comparison",
    "listing",
    "pace",
    "replayed",
    "reported",
    "review",
    "run",
    "verdict_lines",
    "verification",
]

#: Wins shown in a review, the largest gains first.
_WINS_SHOWN = 5
_DRIFT_SHOWN = 8


def run(result: RunResult, *, written: str | None, as_json: bool) -> None:
    """Print what a run found, and the next command."""
    if as_json:
        data({**result.as_json(), "output": written})
        return
    from gtmar.journal.review import verdict
    from gtmar.runs.findings import warnings_of

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
        **{name: getattr(result, name) for name in ("blocked", "broken", "tied", "null")},
    }
    valued = None not in (row["holdout_baseline_value"], row["holdout_best_value"])
    held = bool(holdout["improved"]) if valued else None
    said = verdict(row, improved=result.improved, held=held)
    verdict_lines(said, improved=result.improved, held=held, warnings=warnings_of(result.findings))
    if result.state != "finished":
        say(f"The run ended early: {_ENDED[result.state]}")
    say(
        f"Run {result.run_id}: {result.seconds:.1f} s, "
        f"{result.experiments_per_second:,.0f} experiments a second."
    )
    if written:
        say(f"Best spec: {written}")
    say()
    follow("review", result.run_id, journal=elsewhere(result.journal))


def verdict_lines(
    sentences: list[str], *, improved: bool, held: bool | None, warnings: Iterable[str]
) -> None:
    """Print a verdict: good where a gain was found, and where it holds; bad where it doesn't."""
    first, *rest = sentences
    say(first, "good" if improved else None)
    tone: dict[bool | None, Tone | None] = {True: "good", False: "bad", None: None}
    for sentence in rest:
        say(sentence, tone[held])
    for sentence in warnings:
        say(sentence, "warning")


_ENDED = {
    "patience": "no win for as long as --patience allows.",
    "time_budget": "the time budget was up.",
    "exhausted": "a thousand proposals in a row were known already; nothing near is left to try.",
    "interrupted": "interrupted; everything found so far is in the journal.",
}


def review(found: Review, *, journal: str, as_json: bool, best: str | None = None) -> None:
    """Print a review: verdict, wins, weights, tiers, what else moved."""
    if as_json:
        data(found.as_json())
        return
    s = found.summary
    say(f"{s['model']} on {s['source']}, run {s['run_id']} ({s['state']})")
    if s["note"] or s["author"]:
        by = f" (by {s['author']})" if s["author"] else ""
        say(f"Asked for{by}: {s['note'] or 'no reason given'}")
    say()
    verdict_lines(found.verdict, improved=found.improved, held=found.held, warnings=found.warnings)
    last = f"the last win was experiment {s['last_win']:,}; " if s["last_win"] else ""
    rate = f"{s['win_rate']:.1%} won; " if s["win_rate"] is not None else ""
    blocked = f"{s['blocked']:,} broke a guardrail; " if s["blocked"] else ""
    say(f"{rate}{blocked}{last}longest stretch without a win {s['longest_gap']:,}.")
    for note in filter(None, (basis_note(s["basis"]), found.retention_reading)):
        say(note)
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
    shown = found.tiers.select(columns).rows()
    if s["orientation"] == "risk":
        say()
        say("Orientation risk: a high score is bad, so the last tier is the best one.")
    table(
        [_HEADINGS.get(c, c) for c in columns],
        ([_in_percent(c, v) for c, v in zip(columns, row, strict=True)] for row in shown),
        title="Tiers",
    )
    for sentence in found.emptied:
        say(sentence, "warning")
    if found.hhi_reading:
        say(found.hhi_reading)
    if s["state"] != "imported":
        _drift(found)
    say()
    after_review(found, journal=journal, best=best)


def after_review(found: Review, *, journal: str, best: str | None = None) -> None:
    """Print the command that goes on from a run; `best` is the best spec's file, if it is known."""
    s = found.summary
    if s["state"] == "imported":
        follow("show", s["run_id"], journal=elsewhere(journal))
    elif not found.improved or found.held is False:
        say("Other features or encoders in the spec may do better than other weights.")
        settings = [f"run={s['run_id']}"]
        follow("sql", "convergence", settings=settings, journal=elsewhere(journal))
    elif best is not None:
        scored = unused(Path(best).with_name("scored.parquet"))
        follow("score", data=s["source"], spec=best, output_path=scored)
    elif s["holdout_accounts"] and s["source"] != _FRAME:
        follow("decide", s["run_id"], journal=elsewhere(journal))
    else:
        output_path = unused("best.yaml")
        follow("checkout", s["run_id"], output_path=output_path, journal=elsewhere(journal))


#: What the journal calls a table that a program held, which no command can open.
_FRAME = "frame"


#: How a tier table's columns are called.
_HEADINGS = {"logo_retention": "logos kept", "nrr": "NRR", "grr": "GRR", "arpa": "ARPA"}


_RATIOS = {"logo_retention", "nrr", "grr"}


def _in_percent(column: str, value: object) -> object:
    return f"{value:.1%}" if column in _RATIOS and isinstance(value, float) else value


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
        (
            (
                marked(metric, basis),
                start,
                best,
                f"{change:+.2f}" if abs(start) >= 100 else f"{change:+.4f}",
            )
            for metric, start, best, change, basis in worse.select(
                "metric", "start", "best", "change", "basis"
            )
            .head(_DRIFT_SHOWN)
            .rows()
        ),
        title=f"Proxy drift: got worse while {objective} improved",
    )


def reported(page: Page, *, written: Path, journal: str, as_json: bool) -> None:
    """Print where a page was written, and what it has to do without."""
    if as_json:
        data(
            {
                "output": str(written),
                "run_id": page.run_id,
                "title": page.title,
                "bytes": len(page.html.encode()),
                "left_out": list(page.left_out),
            }
        )
        return
    say(f"{page.title}: {written}. Open it in any browser; it needs nothing else.")
    for reason in page.left_out:
        say(f"Left out, {reason}")
    whole = page.run_id is None
    follow(
        "report",
        history=not whole,
        output_path=unused("report.html" if whole else "history.html"),
        journal=elsewhere(journal),
        **dict.fromkeys(("data", "at_version", "query", "other")),
    )


def comparison(found: Comparison, *, journal: str, as_json: bool) -> None:
    """Print two runs side by side."""
    if as_json:
        data(found.as_json())
        return
    one, two = found.one, found.two
    say(found.verdict)
    if note := basis_note(one["basis"]):
        say(note)
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
    follow("review", two["run_id"], journal=elsewhere(journal))


def verification(found: Verification, *, as_json: bool) -> None:
    """Print what a check of the journal found, and its digest."""
    if as_json:
        data(found.as_json())
        return
    for finding in found.findings:
        where = finding.file or f"run {finding.run_id}"
        say(f"{finding.kind}: {where}: {finding.problem}", "bad")
    for note in found.notes:
        say(f"Note: {note}")
    looked = f"{some(found.runs, 'run')}, {some(found.experiments, 'experiment')}"
    if found.events:
        looked += f", {some(found.events, 'event')}"
    if found.findings:
        say(f"{looked}: {some(len(found.findings), 'finding')}.", "bad")
    else:
        say(f"{looked}: nothing is missing, torn, changed or added.", "good")
    if found.against_holds is False:
        _broken_promise(found)
    elif found.against_holds:
        count = found.against_added or 0
        since = f"; {count:,} {'entry' if count == 1 else 'entries'} added since" if count else ""
        say(f"The digest given holds: all that it covered is there unchanged{since}.", "good")
    else:
        say("Keep this digest elsewhere, in a commit or a ticket; later, --against checks it:")
    text(found.digest + "\n")


def _broken_promise(found: Verification) -> None:
    """Say how what was given with --against doesn't hold."""
    if found.against_added is not None:
        for name in found.against_missing:
            say(f"gone: {name}", "bad")
        for name in found.against_changed:
            say(f"changed: {name}", "bad")
        say("The list given does not hold: what is named above was changed or deleted.", "bad")
        return
    say(
        "The digest given does not hold: something that it covered was changed or deleted, or too "
        "much was merged in between to tell. A list, which verify --save writes, tells always.",
        "bad",
    )


def replayed(found: Replay, *, as_json: bool) -> None:
    """Print whether a run came out the same."""
    if as_json:
        data(found.as_json())
        return
    if found.identical:
        say(
            f"Run {found.run_id} again: all {found.experiments:,} experiments are the same.", "good"
        )
        say(f"Digest {found.digest}")
    elif found.difference and "column" in found.difference:
        d = found.difference
        say(
            f"Run {found.run_id} again: {d['experiment']} differs in {d['column']}: "
            f"{d['then']} then, {d['now']} now."
        )
    else:
        say(f"Run {found.run_id} again: not the same: {found.difference or 'another digest'}.")
    if found.evaluator_code_changed:
        say("Note: the evaluator's code has changed since, its version has not.")


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
    follow("sql", text="select outcome, count(*) from experiments group by all")


#: Folders of the SQL library, and what to call them.
_FOLDERS = {
    "journal": "Over the journal",
    "checks": "Checks: no row when all is well",
    "metrics": "SQL twins of the metrics, to be run in DuckDB over a scored table (docs/sql.md)",
}


def pace(found: Pace, *, given: bool, as_json: bool) -> None:
    """Print how fast searches are here; `given` says whether on a table of the user's."""
    if as_json:
        data(found.as_json())
        return
    each = 1e6 / found.experiments_per_second
    stages = ", ".join(f"{stage} {share:.0%}" for stage, share in found.spent.items())
    say(
        f"{found.experiments_per_second:,.0f} experiments a second, all metrics journaled: "
        f"{some(found.accounts, 'account')}, {some(found.features, 'feature')}, "
        f"{some(found.threads, 'thread')}, the best of {some(found.rounds, 'round')}."
    )
    say(f"An experiment takes {each:,.0f} us: {stages}.")
    say(
        f"To read once what it must touch takes {found.floor_microseconds:,.0f} us; "
        f"{found.evaluated:.2f} candidates were evaluated for each experiment."
    )
    say(
        f"Loaded and encoded in {found.load_seconds:.2f} s; "
        f"{found.bytes_per_account:,.0f} bytes an account stay in memory."
    )
    if found.peak_bytes is not None:
        say(f"Largest size of the process, libraries included: {found.peak_bytes / 1e6:,.0f} MB.")
    follow("run" if given else "demo")
