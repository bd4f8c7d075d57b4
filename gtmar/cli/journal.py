"""Commands that read, check and convert a journal: review, compare, sql, verify, journal ..."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from gtmar.cli import option_values, output
from gtmar.cli import options as a
from gtmar.cli.next_step import WHY, free_path, next_command, print_next
from gtmar.cli.options import app, journal_app
from gtmar.cli.output import HEADS, Answer, say, say_all, some, table, text
from gtmar.errors import UsageError
from gtmar.plain_data import percent
from gtmar.sql_sandbox import DEFAULT_SECONDS, memory_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gtmar.cli.output import Tone
    from gtmar.integrations.jsonl_import import Imported, Undone
    from gtmar.journal.compaction import Compaction
    from gtmar.journal.review import Comparison, Review
    from gtmar.journal.sql_library import SqlFile
    from gtmar.journal.verify import Verification

__all__ = [
    "after_review",
    "compact",
    "compare",
    "journal_export",
    "journal_import",
    "print_review",
    "review",
    "sized_table",
    "sql",
    "verdict_lines",
    "verify",
]


@a.command(app, "review r20260101-120000-abc123")
def review(
    run_id: a.OptionalRun = None,
    full: Annotated[
        bool, typer.Option("--full", help="All of it: weights, wins, tiers, what else moved.")
    ] = False,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Say what a run found, on one screen; all of it with --full."""
    from gtmar.journal import review as reading

    with option_values.open_journal(journal) as opened:
        result = reading.review(opened, run_id)
    return Answer(result.as_json, lambda: print_review(result, journal=str(journal), full=full))


@a.command(app, "compare RUN OTHER")
def compare(
    run_id: a.Run,
    other: a.Run,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Put two runs over one table and objective side by side."""
    from gtmar.journal import review as reading

    with option_values.open_journal(journal) as opened:
        comparison = reading.compare(opened, run_id, other)
    return Answer(comparison.as_json, lambda: _print_comparison(comparison, journal=str(journal)))


@a.command(app, "sql weights --set run=r20260101-120000-abc123")
def sql(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE]",
            help="None: list the library.",
            autocompletion=a.complete_queries,
        ),
    ] = None,
    text: Annotated[str | None, typer.Option("-c", "--command", help="One SELECT.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter: run=r2026...")
    ] = None,
    time_limit: Annotated[
        float, typer.Option("--time-limit", min=0.001, help="Seconds it may take.")
    ] = DEFAULT_SECONDS,
    memory: Annotated[
        str | None,
        typer.Option(help="What it may take, such as 2GB; none: half the machine's, 4 GB at most."),
    ] = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Ask the journal in SQL, read only. By a query of the library, a file, or one SELECT."""
    from gtmar.journal.sql_library import library

    if name is None and text is None:
        queries = library()
        listed = [
            {"name": q.name, "purpose": q.purpose, "grain": q.grain} for q in queries.values()
        ]
        return Answer(lambda: listed, lambda: _print_listing(queries))
    size = None if memory is None else memory_of(memory)
    with option_values.open_journal(journal, time_limit=time_limit, memory=size) as opened:
        rows = option_values.run_query(opened, name, text, settings or [])
    return Answer(rows.to_dicts, lambda: output.frame(rows))


@a.command(app, "verify --against gtmar2:12:0f3a...:Qx...")
def verify(
    run_id: a.AnyRun = None,
    against: Annotated[
        str | None, typer.Option(help="A digest printed earlier, or a list saved by --save.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="New file: a list of all that the digest covers.")
    ] = None,
    rows: Annotated[
        bool, typer.Option("--rows", help="Read all rows, where hashes hold too.")
    ] = False,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Check that the journal is as it was written."""
    from gtmar.journal.verify import run_named
    from gtmar.journal.verify import verify as verified

    if run_id in ("latest", "live"):
        with option_values.open_journal(journal) as opened:
            run_id = opened.run_id(run_id)
    elif run_id is not None:
        # Found by file names alone, since the journal may be damaged.
        run_id = run_named(journal, run_id)
    if save is not None and run_id is not None:
        raise UsageError("--save is of the whole journal", hint="leave the run out")
    new = option_values.output(save, journal)
    verification = verified(journal, run_id, against=against, rows=rows)
    if new is not None and not verification.findings:
        new.write(verification.entries)
    return Answer(
        verification.as_json,
        lambda: _print_verification(verification),
        0 if verification.sound else 5,
    )


@a.command(journal_app, "journal compact")
def compact(journal: a.JournalPath = a.DEFAULT_JOURNAL) -> Answer:
    """Pack the small parts of each run that has ended into one; no row changes."""
    from gtmar.journal.compaction import compact as compacted

    compaction = compacted(journal)
    return Answer(compaction.as_json, lambda: _print_packing(compaction))


def _print_packing(compaction: Compaction) -> None:
    from gtmar.errors import culprits

    if compaction.packed:
        before = sum(run.parts_before for run in compaction.packed)
        after = sum(run.parts_after for run in compaction.packed)
        say(f"{some(len(compaction.packed), 'run')}: {some(before, 'part')} packed into {after:,}.")
    elif not compaction.tidied:
        say("Nothing to pack.")
    if compaction.tidied:
        runs = some(len(compaction.tidied), "run")
        say(f"{runs}: old parts that lay beside the packed one were taken away.")
    for reason, ids in compaction.left_alone.items():
        say(f"Left alone, {reason}: {culprits(ids)}.")


_FORMATS = ("jsonl",)
#: How many fields that the journal has no column for an import lists, the most frequent first.
_NAMED = 5


@a.command(journal_app, "journal export -o experiments.jsonl")
def journal_export(
    run_id: a.AnyRun = None,
    form: Annotated[str, typer.Option("--format", help="jsonl: an object a line.")] = "jsonl",
    output_path: Annotated[
        Path | None, typer.Option("-o", "--output", help="New file; none: stdout.")
    ] = None,
    force: a.Force = False,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer | None:
    """Write experiments as JSONL, in the format of earlier tools."""
    from gtmar.integrations.jsonl_format import encoded_in, export_jsonl

    option_values.refuse_unknown("format", form, _FORMATS)
    new = option_values.output_or_print(output_path, journal, force=force)
    with option_values.open_journal(journal) as opened:
        lines = export_jsonl(opened, run_id)
        option_values.note_encoders(encoded_in(opened, run_id))
        if new is None:
            for line in lines:
                output.json_line(line)
            return None
        count = 0

        def write(file: IO[bytes]) -> None:
            nonlocal count
            for line in lines:
                file.write(f"{line}\n".encode())
                count += 1

        path = new.write(write)
    return Answer(
        lambda: {"output": str(path), "experiments": count},
        lambda: say(f"{some(count, 'experiment')} in {path}."),
    )


@a.command(journal_app, "journal import experiment_journal.jsonl")
def journal_import(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="JSON objects, one an experiment: lines, pretty-printed or a list."
        ),
    ] = None,
    undo: Annotated[
        str | None, typer.Option(metavar="EVENT", help="Take back the import of this event.")
    ] = None,
    author: Annotated[str | None, typer.Option(help="Who brings it in.")] = None,
    note: Annotated[str | None, typer.Option(help="Why, or what it is.")] = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Bring in experiments of an earlier tool, marked as imported; or take them back."""
    from gtmar.integrations.jsonl_import import import_jsonl, undo_import

    if undo is not None and path is None:
        undone = undo_import(undo, journal, author=author, note=note)
        return Answer(undone.as_json, lambda: _print_undone(undone))
    if path is not None and undo is None:
        imported = import_jsonl(path, journal, author=author, note=note)
        return Answer(imported.as_json, lambda: _print_imported(imported, journal=journal))
    raise UsageError(
        "name a FILE to bring in, or with --undo the event of an import to take back",
        hint="gtmar journal import experiments.jsonl",
    )


def _print_undone(undone: Undone) -> None:
    say(
        f"{some(undone.experiments, 'experiment')} from {undone.source} taken back: "
        f"{some(len(undone.runs), 'run')} deleted. Event {undone.event_id} says so."
    )


def _print_imported(imported: Imported, *, journal: Path) -> None:
    say(
        f"{some(imported.experiments, 'experiment')}, {imported.wins:,} of them wins, imported "
        f"from {imported.source} as {some(len(imported.runs), 'run')}:"
    )
    say_all(*(f"  {run_id}" for run_id in imported.runs))
    if imported.ignored:
        names = sorted(imported.ignored, key=lambda name: (-imported.ignored[name], name))
        rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        listed = f"{', '.join(names[:_NAMED])}{rest}"
        say(f"Kept as they are for an export, since no column of the journal has them: {listed}.")
    print_next("review", imported.runs[-1], journal=journal)


#: How many wins a full review shows, and a short one, the largest gains first.
_WINS_SHOWN, _WINS_ON_SCREEN = 5, 3
#: Width of a screen in characters.
_COLUMNS = 80
_DRIFT_SHOWN = 8


#: Colour of a verdict, by whether its gain holds on the accounts held out; None: not known.
_TONES: dict[bool | None, Tone | None] = {True: "good", False: "bad", None: None}
#: Beginnings of sentences that name what got worse.
_COSTS = ("Worse ", "More concentrated ")


def _lead_lines(sentences: Iterable[str], *, improved: bool, held: bool | None) -> None:
    """Print the sentences that a lead reads first; those about what got worse are warnings."""
    for sentence in sentences:
        tone = _TONES[held] if improved else None
        say(sentence, "warning" if sentence.startswith(_COSTS) else tone)


def verdict_lines(
    sentences: Iterable[str],
    verdict: Sequence[str],
    *,
    improved: bool,
    held: bool | None,
    warnings: Iterable[str],
) -> None:
    """Print the sentences that a lead reads first, then the verdict in numbers.

    A line is good (green) where a gain was found, or holds, and bad (red) where it doesn't hold.
    """
    lines = list(sentences)
    _lead_lines(lines, improved=improved, held=held)
    for number, sentence in enumerate(verdict):
        if sentence not in lines:
            say(sentence, _TONES[held] if number else "good" if improved else None)
    say_all(*warnings, tone="warning")


def print_review(
    review: Review, *, journal: str, best: str | None = None, full: bool = False
) -> None:
    """Print a review: on one screen, or all of it."""
    s = review.summary
    say(f"{s['model']} on {s['source']}, run {s['run_id']} ({s['state']})")
    say_all(*review.dates)
    if full:
        _print_all(review)
    else:
        _print_screen(review, journal=journal)
    after_review(review, journal=journal, best=best)


def _print_screen(review: Review, *, journal: str) -> None:
    from gtmar.journal.sentences import numbers

    s = review.summary
    _lead_lines(review.sentences, improved=review.improved, held=review.held)
    if not review.improved:
        after = [*review.warnings]
    else:
        after = [x for x in review.verdict[1:] if x.startswith("Tier ")] + review.warnings
        say(numbers(s))
    say_all(*after, tone="warning")
    say_all(*(each["sentence"] for each in review.customers), review.search_pays)
    _print_tiers_at_equal_sizes(review)
    say_all(*(_win_line(row) for row in _largest(review)[:_WINS_ON_SCREEN]))
    say(f"More: {next_command('review', s['run_id'], full=True, journal=journal)}")


def _largest(review: Review) -> list[dict[str, Any]]:
    """Return the wins, the largest gain first; wins without a known gain before all others."""
    sign = -1 if review.summary["higher_is_better"] else 1
    return sorted(
        review.wins,
        key=lambda win: (win["gain"] is not None, sign * (win["gain"] or 0.0)),
    )


def _win_line(win: dict[str, Any]) -> str:
    """Word a win in one line, with as many of its changes as fit, the largest first."""
    steps = win["steps"].split(", ")
    for shown in range(len(steps), 0, -1):
        more = win["changed"] - shown
        rest = [f"{more} more"] if more else []
        line = f"Win {win['number']} {win['gain']:+.4f}: {', '.join([*steps[:shown], *rest])}"
        if len(line) <= _COLUMNS:
            break
    return line


def _print_all(review: Review) -> None:
    from gtmar.metrics.metric import basis_note

    s = review.summary
    if s["note"] or s["author"]:
        by = f" (by {s['author']})" if s["author"] else ""
        say(f"Asked for{by}: {s['note'] or 'no reason given'}")
    say()
    verdict_lines(
        review.sentences,
        review.verdict,
        improved=review.improved,
        held=review.held,
        warnings=review.warnings,
    )
    last = f"the last win was experiment {s['last_win']:,}; " if s["last_win"] else ""
    rate = f"{percent(s['win_rate'], 1)} won; " if s["win_rate"] is not None else ""
    blocked = f"{s['blocked']:,} broke a guardrail; " if s["blocked"] else ""
    say(f"{rate}{blocked}{last}longest stretch without a win {s['longest_gap']:,}.")
    apart = (each["sentence"] for each in review.customers)
    say_all(*apart, review.search_pays, basis_note(s["basis"]), review.retention_reading)
    if review.wins:
        gains = _largest(review)[:_WINS_SHOWN]
        rows = [(win["number"], win["largest"], win["gain"]) for win in gains]
        title = f"Largest of {some(s['wins'], 'win')}, by their gain on the accounts searched"
        table(["experiment", "changes", "gain"], rows, title=title)
    heads = ["weight", "start", "best", "change", ""]
    weights: list[list[Any]] = [
        [*row, f"at its {w['at_bound']}" if w["at_bound"] else ""]
        for w in review.weights
        for change in [f"{w['change']:+d}" if w["change"] else ""]
        for row in [[w["feature"], w["start"], w["best"], change]]
    ]
    if review.by_date is not None:
        heads.append("sign on dates")
        for row, w in zip(weights, review.weights, strict=True):
            held = w["sign_held"], w["sign_dates"]
            row.append("" if None in held else "{} of {}".format(*held))
    earned = [w["earned_by"] or "" for w in review.weights]
    lines = [[*row, what] for row, what in zip(weights, earned, strict=True)]
    table([*heads, "earned by"], lines, title="Weights", spare=True)
    if review.by_date is not None:
        _print_by_date(review.by_date, s["objective"])
    if s["orientation"] == "risk":
        say()
        say("Orientation risk: a high score is bad, so the last tier is the best one.")
    _print_tiers_at_equal_sizes(review)
    money = any(row["arpa"] is not None for row in review.tiers)
    columns = ["stage", "tier", "accounts", "logo_retention"]
    columns += ["nrr", "grr", "arpa"] if money else []
    tiers = [
        [f"{v:.1%}" if c in _RATIOS and v is not None else v for c in columns for v in [row[c]]]
        for row in review.tiers
    ]
    title = "Tiers by each score's own edges, on the accounts searched"
    headings = {**HEADS, "accounts": review.counted}
    table([headings.get(c, c) for c in columns], tiers, title=title)
    say_all(review.resized)
    say_all(*review.emptied, tone="warning")
    say_all(review.hhi_reading, review.probabilities, *review.usual)
    if s["state"] != "imported":
        _print_proxy_drift(review)
    say()


def _print_by_date(by_date: dict[str, Any], objective: str) -> None:
    """Print the objective of start and best on each date."""
    from gtmar.journal.sentences import DATED

    parts = {name: by_date["parts"][name] for name in DATED if name in by_date["parts"]}
    rows = []
    for day in by_date["dates"]:
        cells: list[Any] = [day]
        for part in parts.values():
            index = part["dates"].index(day) if day in part["dates"] else None
            ends = [None if index is None else part[end][index] for end in ("before", "after")]
            counted = 0 if index is None else part["rows_by_date"][index]
            cells += [counted, _arrow(*(None if v is None else f"{v:.4f}" for v in ends))]
        rows.append(cells)
    heads = [head for name in parts for head in (DATED[name], "start -> best")]
    table(["date", *heads], rows, title=f"{objective} by date, accounts searched and held out")


def _print_tiers_at_equal_sizes(review: Review) -> None:
    """Print start and best side by side, each tier with as many accounts as at the start."""
    if review.tiers_at_equal_sizes is None or not review.improved:
        return
    part, rows = review.tiers_at_equal_sizes
    where = "held out" if part == "held_out" else "searched"
    title = f"Tiers at the start's sizes, start -> best, on the accounts {where}"
    basis, counted = review.summary["basis"], review.counted
    sized_table(rows, title=title, basis=basis, counted=counted)


def sized_table(
    rows: list[dict[str, Any]],
    *,
    title: str,
    basis: str | None = None,
    counted: str = "accounts",
) -> None:
    """Print two scores tier by tier, both cut into tiers of the first score's sizes.

    `rows` are from `journal.review.sized_rows`, `basis` is that of revenue retention, and `counted`
    is the head of the column of sizes, ``accounts`` or ``rows``.
    """
    from gtmar.metrics.metric import marked

    shown = [
        short
        for short in ("logo_retention", "nrr", "grr")
        if any(row[f"{short}_start"] is not None for row in rows)
    ]
    table(
        [
            "tier",
            counted,
            *(HEADS[x] + marked(f"{x}_by_tier", basis)[len(f"{x}_by_tier") :] for x in shown),
        ],
        (
            [
                row["tier"],
                row["accounts"],
                *(
                    _arrow(*(None if v is None else percent(v, 1) for v in ends))
                    for short in shown
                    for ends in [(row[f"{short}_start"], row[f"{short}_best"])]
                ),
            ]
            for row in rows
        ),
        title=title,
    )


def _arrow(before: str | None, after: str | None) -> str:
    """Word two values of a tier or date; a dash where no account counts, which is no 0."""
    return "-" if before is None and after is None else f"{before or '-'} -> {after or '-'}"


def after_review(review: Review, *, journal: str, best: str | None = None) -> None:
    """Print the next command after a run; `best` is the file of the best spec, None if unknown."""
    s = review.summary
    if s["state"] == "imported":
        print_next("show", s["run_id"], journal=journal)
    elif not review.improved or review.held is False:
        if not review.improved and s["blocked"]:
            say("Check whether that guardrail's limit is the one that you mean.")
        else:
            say("Other features or encoders in the spec may do better than other weights.")
        settings = [f"run={s['run_id']}"]
        print_next("sql", "convergence", settings=settings, journal=journal)
    elif best is not None and review.calibration is not None:
        print_next("list", data=s["source"], spec=best)
    elif best is not None:
        scored = free_path(Path(best).with_name("scored.parquet"))
        print_next("score", data=s["source"], spec=best, output_path=scored)
    elif review.decision is not None:
        decided = f"{s['run_id']}/{s['best_experiment']}"
        if review.decision["verdict"] == "READY_FOR_REVIEW":
            print_next("promote", decided, note=WHY, journal=journal)
        else:
            print_next("sql", "decisions", settings=[f"run={s['run_id']}"], journal=journal)
    elif s["holdout_accounts"] and s["source"] != _FRAME:
        print_next("decide", s["run_id"], journal=journal)
    else:
        output_path = free_path("best.yaml")
        print_next("checkout", s["run_id"], output_path=output_path, journal=journal)


#: The source that a journal has for a table in a program's memory, which no command can open.
_FRAME = "frame"
_RATIOS = {"logo_retention", "nrr", "grr"}


def _print_proxy_drift(review: Review) -> None:
    from gtmar.metrics.metric import marked

    worse = [row for row in review.drift if row["reading"] == "worse"]
    objective = review.summary["objective"]
    if not review.improved:
        return
    if not worse:
        say(f"Proxy drift: no other metric got worse while {objective} improved.")
        return
    rows = [
        (marked(x["metric"], x["basis"]), x["start"], x["best"], format(x["change"], form))
        for x in worse[:_DRIFT_SHOWN]
        for form in ["+.2f" if abs(x["start"]) >= 100 else "+.4f"]
    ]
    title = f"Proxy drift: got worse while {objective} improved, on the accounts searched"
    table(["metric", "start", "best", "change"], rows, title=title)


def _print_comparison(comparison: Comparison, *, journal: str) -> None:
    from gtmar.metrics.metric import basis_note

    one, two = comparison.one, comparison.two
    say(comparison.verdict)
    say_all(basis_note(one["basis"]))
    hidden = {"weights", "outcomes_fingerprint", "features_fingerprint", "tiers_id", "run_id"}
    rows = [
        (k, one[k], two[k]) for k in one if k not in hidden and (one[k], two[k]) != (None, None)
    ]
    ids, sides = [one["run_id"], two["run_id"]], (one["weights"], two["weights"])
    table(["", *ids], rows)
    pairs = [(name, *(side.get(name) for side in sides)) for name in sorted({*sides[0], *sides[1]})]
    differing = [pair for pair in pairs if pair[1] != pair[2]]
    if differing:
        table(["weight", *ids], differing, title="Weights that differ")
    else:
        say("Both end with the same weights.")
    print_next("review", two["run_id"], journal=journal)


def _print_verification(verification: Verification) -> None:
    for finding in verification.findings:
        where = finding.file or f"run {finding.run_id}"
        say(f"{finding.kind}: {where}: {finding.problem}", "bad")
    say_all(*(f"Note: {note}" for note in verification.notes))
    looked = f"{some(verification.runs, 'run')}, {some(verification.experiments, 'experiment')}"
    if verification.events:
        looked += f", {some(verification.events, 'event')}"
    if verification.findings:
        say(f"{looked}: {some(len(verification.findings), 'finding')}.", "bad")
    else:
        say(f"{looked}: nothing is missing, torn, changed or added.", "good")
    if verification.against_holds is False:
        _print_broken_digest(verification)
    elif verification.against_holds:
        count = verification.against_added or 0
        since = f"; {count:,} {'entry' if count == 1 else 'entries'} added since" if count else ""
        say(f"The digest given holds: all that it covered is there unchanged{since}.", "good")
    else:
        say("Keep this digest elsewhere, in a commit or a ticket; later, --against checks it:")
    text(verification.digest + "\n")


def _print_broken_digest(verification: Verification) -> None:
    if verification.against_added is not None:
        say_all(*(f"gone: {name}" for name in verification.against_missing), tone="bad")
        say_all(*(f"changed: {name}" for name in verification.against_changed), tone="bad")
        say("The list given does not hold: what is named above was changed or deleted.", "bad")
        return
    say(
        "The digest given does not hold: something that it covered was changed or deleted, or too "
        "much was merged in between to tell. A list, which verify --save writes, tells always.",
        "bad",
    )


def _print_listing(files: Mapping[str, SqlFile]) -> None:
    """List the SQL library."""
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
    print_next("sql", text="select outcome, count(*) from experiments group by all")


#: Folders of the SQL library, and their titles.
_FOLDERS = {
    "journal": "Over the journal",
    "checks": "Checks: no row when all is well",
    "metrics": "SQL twins of the metrics, to be run in DuckDB over a scored table (docs/sql.md)",
}
