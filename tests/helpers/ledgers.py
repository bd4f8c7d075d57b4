"""A journal with a bit of everything, and its rows as pyarrow alone reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gtmar import runs
from gtmar.data import synthetic
from gtmar.journal.catalog import Journal
from gtmar.journal.events import EventKind, event_files, write_event
from gtmar.spec import Guardrail, ScoringSpec, load

__all__ = ["FEATURE", "Ledger", "Row", "kept", "ledger_in"]

Row = dict[str, Any]

EXAMPLES = Path(__file__).parents[2] / "examples"
#: Weight that people change.
FEATURE = "alert_created"


@dataclass(frozen=True)
class Ledger:
    """A journal's folder, and its runs by the names that they have here."""

    folder: Path
    ids: dict[str, str] = field(default_factory=dict)

    @cached_property
    def runs(self) -> dict[str, Row]:
        """Records by run, start and end together."""
        found: dict[str, Row] = {}
        for path in sorted(self.folder.glob("runs/*/*.parquet")):
            if path.name in ("start.parquet", "end.parquet"):
                [row] = pq.ParquetFile(path).read().to_pylist()
                run = found.setdefault(row["run_id"], dict.fromkeys(row))
                run.update((key, value) for key, value in row.items() if value is not None)
        return found

    @cached_property
    def experiments(self) -> dict[str, list[Row]]:
        """Rows by run in order, maps as mappings; torn parts left out."""
        found: dict[str, list[Row]] = {run: [] for run in self.runs}
        for path in sorted(self.folder.glob("experiments/*/*.parquet")):
            if path.read_bytes().endswith(b"PAR1"):
                table = pq.ParquetFile(path).read()
                maps = [f.name for f in table.schema if pa.types.is_map(f.type)]
                for row in table.to_pylist():
                    pairs = {name: dict(row[name]) for name in maps}
                    found[row["run_id"]].append({**row, **pairs})
        return {run: sorted(rows, key=lambda row: row["number"]) for run, rows in found.items()}

    @cached_property
    def live(self) -> list[Row]:
        """Events of what went live, by since when."""
        files = event_files(self.folder)
        events = [pq.ParquetFile(path).read().to_pylist()[0] for path in files]
        live = [event for event in events if event["kind"] in ("promotion", "record")]
        return sorted(live, key=lambda event: event["since"])

    def rows(self, name: str) -> list[Row]:
        """Return the rows of a run."""
        return self.experiments[self.ids[name]]

    def run(self, name: str) -> Row:
        """Return the records of a run."""
        return self.runs[self.ids[name]]

    @cached_property
    def journal(self) -> Journal:
        """The journal, open."""
        return Journal(self.folder)

    def ask(self, query: str, **values: Any) -> list[Row]:
        """Run a query of the library."""
        return self.journal.sql(query, **values).to_dicts()


def kept(rows: list[Row]) -> list[Row]:
    """Return those that were kept, the baseline first."""
    return [row for row in rows if row["outcome"] in ("baseline", "win")]


def ledger_in(folder: Path) -> Ledger:
    """Write searches, cold and warm, changes by people, what went live, another table.

    The last run is cut off after its baseline.
    """
    table = synthetic.generate("health_score", accounts=250, seed=4)
    risks = synthetic.generate("churn_risk", accounts=250, seed=4)
    spec = load(EXAMPLES / "health_score" / "spec.yaml")
    made = Ledger(folder)

    def search(
        name: str, given: ScoringSpec, count: int, *, seed: int = 1, cold: bool = True
    ) -> runs.RunResult:
        found = runs.run(
            risks if given.orientation == "risk" else table,
            given,
            limits=runs.Limits(count),
            seed=seed,
            journal=folder,
            author="RevOps",
            note=name,
            cold=cold,
        )
        made.ids[name] = found.run_id
        return found

    def tried(name: str, given: ScoringSpec, weights: dict[str, int]) -> runs.RunResult:
        found = runs.try_weights(
            table, given, weights, note=name, author="CS operations", journal=folder
        )
        made.ids[name] = found.run_id
        return found

    runs.record(spec, since="2024-01-31", note="as set up", author="RevOps", journal=folder)
    first = search("first", spec, 60)
    # Before the second, so that what is taken over comes from the first, whoever finds more.
    search("warm", first.spec, 30, seed=3, cold=False)
    search("second", spec, 40, seed=2)
    search("nothing", spec, 0)
    assert tried("worse", first.spec, {FEATURE: 0}).wins == 0
    better = tried("better", spec, {FEATURE: spec.weights[FEATURE] + 6, "session_depth": 9})
    assert better.wins == 1
    recorded = runs.record(
        better.spec,
        since="2024-06-30",
        note="in the CS tool",
        author="CS operations",
        data=table,
        journal=folder,
    )
    assert recorded.measured is not None
    made.ids["recorded"] = recorded.measured.run_id
    runs.promote(first.spec, note="found", author="RevOps", expect="calm", journal=folder)
    search("onward", better.spec, 20, seed=5)
    guarded = (Guardrail(metric="revenue_capture_at_20", min=0.2),)
    search("guarded", spec.model_copy(update={"guardrails": guarded}), 60)
    search("less", spec.model_copy(update={"objective": "contraction_rate_by_tier.B"}), 40)
    search("risks", load(EXAMPLES / "churn_risk" / "spec.yaml"), 30)
    search("cut off", first.spec, 20, seed=6)
    write_event(folder, EventKind.COMPACTION, note="packed")
    _cut_off(folder, made.ids["cut off"])
    return made


def _cut_off(folder: Path, run_id: str) -> None:
    """Take the end of a run away, and tear its last part."""
    records = folder / "runs" / f"run_id={run_id}"
    (records / "end.parquet").unlink()
    (records / "seal").unlink(missing_ok=True)
    last = sorted((folder / "experiments" / f"run_id={run_id}").iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-20])
