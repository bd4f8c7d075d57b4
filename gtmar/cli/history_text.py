"""What the commands about changes and their history print."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from gtmar.cli.next_step import elsewhere, follow, made_on, unused
from gtmar.cli.output import data, number, say, some, table

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    import polars as pl

    from gtmar.cli.output import Tone
    from gtmar.journal.history import Experiment, Reference
    from gtmar.runs import Difference, RunResult, WentLive
    from gtmar.spec import ScoringSpec

__all__ = [
    "WHY",
    "best",
    "checked_out",
    "difference",
    "experiment",
    "lineage",
    "live_lines",
    "log",
    "tried",
    "went_live",
]

#: Accounts that change tier, and metrics, shown for people; --json has all.
_MOVED_SHOWN = 10
#: Stands for a reason that only people know.
WHY = "why it goes live"
_IMPORT = "import"
_METRICS_SHOWN = 20


def tried(found: Experiment, result: RunResult, *, written: Path | None, as_json: bool) -> None:
    """Print what a person's change did."""
    if as_json:
        data({**found.as_json(), "run": result.as_json(), "output": written})
        return
    row = found.row
    say(_who_and_why(row["author"], row["note"]))
    say(f"Change: {row['changes']}")
    say(_effect(row), _EFFECTS.get(row["outcome"]))
    if result.holdout is not None:
        before, after = (result.holdout[f"{x}_value"] for x in ("baseline", "best"))
        if None not in (before, after):
            word = "holds" if result.holdout["improved"] else "does not hold"
            say(
                f"On the {result.holdout['accounts']:,} accounts held out it {word}: "
                f"{before:.4f} -> {after:.4f} ({after - before:+.4f})."
            )
    _metrics(found.effect, "before", "after")
    say()
    say(f"In the journal as {found.reference}, with its reason, kept or not.")
    if written:
        kept = "" if row["outcome"] == "win" else " You keep it against that verdict."
        say(f"Changed spec: {written}.{kept}")
        follow("promote", written, note=WHY, journal=elsewhere(result.journal))
    else:
        output_path = unused("new.yaml")
        journal = elsewhere(result.journal)
        follow("checkout", found.reference, output_path=output_path, journal=journal)


def _who_and_why(author: str | None, note: str | None) -> str:
    return f"{note or 'No reason given'} ({author or 'nobody named'})"


_EFFECTS: dict[str, Tone] = {"win": "good", "lose": "bad", "blocked": "warning"}


def _effect(row: dict[str, Any]) -> str:
    """Say what a change did to the objective, and what became of it."""
    from gtmar.metrics.metric import marked

    before, after = row["value_before"], row["value_after"]
    name = marked(row["objective"], row.get("basis"))
    if row["outcome"] == "baseline":
        return f"{name} {number(after)}: where its run started."
    if row["outcome"] == "known":
        return f"{name} {number(after)}: known from {row['repeats']}, not evaluated again."
    if before is None or after is None:
        moved = f"{name} {number(before)} -> {number(after)}"
    else:
        moved = f"{name} {before:.4f} -> {after:.4f} ({after - before:+.4f})"
    if row["outcome"] == "win":
        return f"{moved}: better, kept."
    if row["outcome"] == "blocked":
        return f"{moved}: better, but blocked: {'; '.join(row['breaches'] or [])}."
    return f"{moved}: {'no better' if before == after else 'worse'}, not kept."


def _metrics(frame: pl.DataFrame | None, one: str, two: str, *, title: str = "Metrics") -> None:
    """Print metrics that differ, the worse ones first."""
    if frame is None:
        return
    from gtmar.metrics import all_metrics
    from gtmar.metrics.metric import basis_note, marked

    counts = {key for key, metric in all_metrics().items() if metric.count}
    moved = [row for row in frame.to_dicts() if row["reading"] != "same"]
    shown = [row for row in moved if row["metric"].partition(".")[0] not in counts]
    shown = shown[: max(_METRICS_SHOWN, sum(row["reading"] != "moved" for row in shown))]
    if not shown:
        say("No metric differs by more than rounding.")
        return
    rows = [
        (marked(r["metric"], r["basis"]), r["one"], r["two"], _signed(r["change"]), r["reading"])
        for r in shown
    ]
    table(["metric", one, two, "change", ""], rows, title=title)
    if note := basis_note(next((r["basis"] for r in shown if r["basis"]), None)):
        say(note)
    if len(moved) > len(shown):
        say(f"{len(moved) - len(shown)} more that moved, neither better nor worse, with --json.")


def _signed(change: float | None) -> str:
    if change is None:
        return "-"
    return f"{change:+,.2f}" if abs(change) >= 100 else f"{change:+.4f}"


def checked_out(
    reference: Reference, spec: ScoringSpec, *, written: Path, journal: Path, as_json: bool
) -> None:
    """Print where a spec was written."""
    if as_json:
        data({"experiment": str(reference), "output": written, "weights": spec.weights})
        return
    say(f"{spec.model} as of {reference}: {written}. Its lineage is in it.")
    table = made_on(journal, reference.run_id)
    if table is None:
        follow("spec show", written)
    else:
        options = {"spec": written, "output_path": unused("best.yaml"), **table}
        follow("run", journal=elsewhere(journal), **options)


def went_live(found: WentLive, *, as_json: bool) -> None:
    """Print what is live now, and what it took the place of."""
    if as_json:
        data(found.as_json())
        return
    by = f" by {found.author}" if found.author else ""
    say(f"{found.model} is live since {_moment(found.since)}{by}: {found.note}")
    for note in found.notes:
        say(f"Note: {note}. What is recorded now counts as the later.", "warning")
    if found.expect:
        say(f"Expected: {found.expect}")
    if found.replaced_since is None:
        say("Nothing was on record as live before it.")
    elif found.changes is None:
        say(
            f"It takes the place of the one live since {_moment(found.replaced_since)}; they "
            "differ in more than weights."
        )
    else:
        changes = ", ".join(f"{n}: {a} -> {b}" for n, (a, b) in found.changes.items())
        say(f"Against the one live since {_moment(found.replaced_since)}: {changes}")
    if found.measured is not None and found.measured.experiments:
        verb = "better" if found.measured.improved else "not better"
        say(f"Measured as {found.experiment}: {verb} than what was live before, by its objective.")
        follow("show", found.experiment, journal=elsewhere(found.measured.journal))
    else:
        if found.experiment:
            say(f"Measured as {found.experiment}.")
        else:
            say("Not measured in this journal.")
        follow("log")


def _moment(at: datetime) -> str:
    midnight = (at.hour, at.minute, at.second) == (0, 0, 0)
    return f"{at:%Y-%m-%d}" if midnight else f"{at:%Y-%m-%d %H:%M}"


def experiment(found: Experiment, *, journal: Path, as_json: bool) -> None:
    """Print one experiment: who, why, what it changed, what that did."""
    if as_json:
        data(found.as_json())
        return
    row = found.row
    say(f"{found.reference}, {row['model']}, {_moment(row['at'])}, by {row['proposer']}")
    if row["author"] or row["note"]:
        say(_who_and_why(row["author"], row["note"]))
    if row["changes"]:
        say(f"Change: {row['changes']}")
    say(_effect(row), _EFFECTS.get(row["outcome"]))
    weights = sorted(row["weights"].items(), key=lambda item: (-item[1], item[0]))
    table(["weight", "value"], weights, title="Weights")
    _metrics(found.effect, "before", "after", title="What it did to the metrics")
    say()
    if row["kind"] == _IMPORT:
        # Its weights are known, its spec isn't.
        follow("log", journal=elsewhere(journal))
    else:
        output_path = unused("spec.yaml")
        follow("checkout", found.reference, output_path=output_path, journal=elsewhere(journal))


def difference(found: Difference, *, as_json: bool) -> None:
    """Print what differs between two specs."""
    if as_json:
        data(found.as_json())
        return
    one, two = found.one.name, found.two.name
    say(f"one: {one}")
    say(f"two: {two}")
    if found.weights:
        rows = [
            (name, before, after, "" if before is None or after is None else f"{after - before:+d}")
            for name, before, after in found.weights
        ]
        table(["weight", "one", "two", "change"], rows, title="Weights that differ")
    else:
        say("The weights are the same.")
    if found.parts:
        say(f"Also different: {', '.join(found.parts)}.")
    if found.metrics is not None:
        _metrics(found.metrics, "one", "two", title="Metrics that differ")
    else:
        say(f"Metrics don't compare: {found.unmeasured}.")
    if found.moves is not None and found.moved is not None:
        _moved(found.moves, found.moved)


def _moved(moves: pl.DataFrame, moved: pl.DataFrame) -> None:
    if moved.is_empty():
        say("No account changes tier.")
        return
    title = f"{some(moved.height, 'account')} would change tier"
    table(["from", "to", "accounts"], moves.rows(), title=title)
    rows = [
        (str(account), f"{before:.2f}", tier, f"{after:.2f}", new_tier)
        for account, before, tier, after, new_tier in moved.head(_MOVED_SHOWN).rows()
    ]
    table(["account", "score", "tier", "score", "tier"], rows, title="Those whose score moves most")
    if moved.height > _MOVED_SHOWN:
        say(f"{moved.height - _MOVED_SHOWN:,} more with --json.")


def log(
    live: pl.DataFrame,
    entries: pl.DataFrame,
    bases: dict[str, str | None],
    *,
    journal: Path,
    as_json: bool,
) -> None:
    """Print what is live, then runs and changes, newest first; `bases` are by run."""
    if as_json:
        data({"live": live.to_dicts(), "log": entries.to_dicts()})
        return
    from gtmar.metrics.metric import marked

    live_lines(live)
    for row in entries.to_dicts():
        say()
        say(f"{_moment(row['at'])}  {_KINDS.get(row['kind'], row['kind'])}  {row['reference']}")
        say(f"  {_who_and_why(row['author'], row['note'])}")
        if row["change"]:
            say(f"  {row['change']}")
        if row["value_after"] is not None:
            basis = bases.get(row["reference"].partition("/")[0])
            say(f"  {_moved_value({**row, 'objective': marked(row['objective'], basis)})}")
    say()
    newest = entries["reference"][0] if entries.height else None
    if newest and "/" in newest:
        follow("show", newest, journal=elsewhere(journal))


def live_lines(live: pl.DataFrame) -> None:
    """Print what is live, a line a model."""
    for row in live.to_dicts():
        why = _who_and_why(row["author"], row["note"])
        say(f"Live: {row['model']} since {_moment(row['since'])}: {why}")
    if live.is_empty():
        say("Live: nothing on record; gtmar promote or gtmar record says what is.")


_KINDS = {
    "search": "search",
    "human": "change by a person",
    "record": "change made elsewhere",
    "import": "imported",
    "promotion": "went live",
}


def _moved_value(row: dict[str, Any]) -> str:
    before, after = row["value_before"], row["value_after"]
    if before is None:
        return f"{row['objective']} {after:.4f}"
    moved = f"{row['objective']} {before:.4f} -> {after:.4f} ({after - before:+.4f})"
    return f"{moved}: {row['outcome']}"


def lineage(rows: pl.DataFrame, *, journal: Path, as_json: bool) -> None:
    """Print the chain from an experiment back to the first spec, a block a run."""
    if as_json:
        data(rows.to_dicts())
        return
    for _, steps in groupby(rows.to_dicts(), key=lambda row: row["run_id"]):
        _stage(list(steps))
    say()
    known = [row for row in rows.to_dicts() if row["kind"] is not None]
    ends = [f"{row['run_id']}/{row['experiment_id']}" for row in known]
    if len(ends) > 1:
        follow("diff", ends[-1], ends[0], journal=elsewhere(journal))


def _stage(steps: list[dict[str, Any]]) -> None:
    """Print what one run adds to a lineage; its steps come newest first."""
    newest, oldest = steps[0], steps[-1]
    name = f"{newest['run_id']}/{newest['experiment_id']}"
    if newest["kind"] is None:
        say(f"{name}: not in this journal; the chain ends here.")
        return
    say(f"{name}  {_KINDS.get(newest['kind'], newest['kind'])}, {_moment(newest['at'])}")
    say(f"  {_who_and_why(newest['author'], newest['note'])}")
    kept = [step for step in steps if step["outcome"] != "baseline"]
    if len(kept) > 1:
        say(f"  {len(kept):,} changes kept, the last {newest['changes']}")
    elif kept:
        say(f"  {newest['changes']}")
    if oldest["changes"] and oldest["outcome"] == "baseline":
        say(f"  before the run, by hand: {oldest['changes']}")
    whole = {**newest, "value_before": oldest["value_after"] if kept else None}
    if newest["value_after"] is not None:
        say(f"  {_moved_value(whole)}")


def best(rows: pl.DataFrame, metric: str, *, journal: Path, as_json: bool) -> None:
    """Print the best experiments by a metric."""
    if as_json:
        data(rows.to_dicts())
        return
    if rows.is_empty():
        say(f"No kept experiment has a value of {metric}.")
        return
    from gtmar.metrics.metric import basis_note, marked

    top = rows.to_dicts()[0]
    metric = marked(metric, top["basis"])
    name = f"{top['run_id']}/{top['experiment_id']}"
    say(f"Best {metric} ever kept on this table: {number(top['value'])}, {name}.")
    if said := basis_note(top["basis"]):
        say(said)
    if top["note"]:
        say(_who_and_why(top["author"], top["note"]))
    shown = [
        (f"{r['run_id']}/{r['experiment_id']}", r["value"], _moment(r["at"]))
        for r in rows.to_dicts()
    ]
    table(["experiment", metric, "at"], shown)
    follow("checkout", name, output_path=unused("best.yaml"), journal=elsewhere(journal))
