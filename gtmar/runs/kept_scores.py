"""Scores kept by date, outside of the journal, and measured once the outcomes are known.

Scores are customers' data, so they aren't in the journal, which may be published. They are kept in
a folder of Parquet files, or in a Delta or DuckDB table. When the outcomes of a date are known, its
kept scores are compared with them once, and the journal gets the result: a measurement.
"""

from __future__ import annotations

import io
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar import spec as specs
from gtmar.data.contract import needed_id
from gtmar.data.outcomes import canonical_outcomes
from gtmar.data.prepare import read_for
from gtmar.data.scan import Source, collect, scan
from gtmar.data.split import key_expression
from gtmar.errors import GtmarError, UsageError
from gtmar.integrations.lakehouse import is_target
from gtmar.integrations.tables_by_date import ScoreTable
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.files import RunFiles, lock_alone, make_folder, open_lock, parquet_files
from gtmar.objective.objective import Judge, breach
from gtmar.outputs import place_file, sync_folder
from gtmar.plain_data import PlainData, apart, digits, percent
from gtmar.runs.backtest import candidate_at_sizes, scored_by
from gtmar.runs.holdout import journal_if_there, record_look, searched_before
from gtmar.runs.inputs import load, outcome_end
from gtmar.safe_text import without_credentials
from gtmar.spec.model import SCORE_UNITS, Guardrail
from gtmar.stats.interval import Interval
from gtmar.validation.intervals import CHANCE_LEVEL, uncertainty, upside_down
from gtmar.validation.paired_scores import Panel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from gtmar.data.matrix import Accounts
    from gtmar.data.scan import AccountTable
    from gtmar.runs.inputs import TableOptions
    from gtmar.spec.model import ScoringSpec
    from gtmar.validation.intervals import Uncertainty

__all__ = [
    "ROLES",
    "KeptScores",
    "Live",
    "Measurement",
    "ScoreStore",
    "TableStore",
    "measure",
    "measurements",
    "score_store",
]

#: Role of a spec on a date: the live one, the one that was live before it, one on trial.
ROLES = ("live", "predecessor", "shadow")
_DAY = re.compile(r"features_asof=(\d{4}-\d{2}-\d{2})")
_FILE = re.compile(rf"({'|'.join(ROLES)})-(c[0-9a-f]+)\.parquet")
_SPEC = "gtmar_spec"


@dataclass(frozen=True)
class KeptScores:
    """The kept scores of one date by one spec."""

    day: date
    role: str
    #: The spec that gave them.
    spec: ScoringSpec
    #: The day on which the scores were kept; None if there are none.
    scored_on: date | None
    #: Returns them, a row for each account: `account`, `score` in points, `tier`, `probability`
    #: (null where the spec has none), `model`, `spec_id`, `scored_on` (the day, UTC). They are read
    #: once, since what is kept never changes and a table may be far away.
    frame: Callable[[], pl.DataFrame]

    @classmethod
    def of_file(cls, day: date, role: str, path: Path) -> KeptScores:
        """Read what a file of the folder keeps; its rows are read when they are asked for."""
        text = pl.read_parquet_metadata(path)[_SPEC]
        lazy = pl.scan_parquet(path, hive_partitioning=False)
        days = lazy.select("scored_on").head(1).collect()["scored_on"]
        spec = specs.parse(text, source=f"spec of {path.name}")
        return cls(
            day,
            role,
            spec,
            next(iter(days), None),
            cache(partial(pl.read_parquet, path, hive_partitioning=False)),
        )


def score_store(
    location: str | Path, journal: Path, inputs: Sequence[str | Path] = ()
) -> ScoreStore | TableStore:
    """Return the store at a location: a folder, ``delta:FOLDER`` or ``duckdb:///FILE?table=NAME``.

    Raises
    ------
    UsageError
        If a table there is one of the inputs, or holds anything but kept scores.
    """
    if not is_target(str(location)):
        return ScoreStore(location)
    table = ScoreTable(str(location))
    table.refuse_inputs([*inputs, journal])
    return TableStore(table, journal)


@contextmanager
def _locked(lock: Path, name: str) -> Iterator[None]:
    """Hold a lock for the context; raise `UsageError` if another process holds it."""
    with open_lock(lock) as file:
        if not lock_alone(file):
            raise UsageError(
                f'another process is writing to "{name}"',
                hint="it is enough that one watches; this one has written nothing",
            )
        yield


@dataclass(frozen=True)
class TableStore:
    """Kept scores in a Delta or DuckDB table, with the methods of `ScoreStore`.

    A date's scores by a spec are added in one commit. The table may be on another machine, so the
    lock is a file in the journal.
    """

    table: ScoreTable
    journal: Path

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the store for the context; raise `UsageError` if another process holds it."""
        with _locked(self.journal / ".watch.lock", without_credentials(self.table.location)):
            yield

    def kept(self) -> list[KeptScores]:
        """List what is kept: dates ascending, on each the live one first."""
        scores = [
            KeptScores(
                row["features_asof"],
                row["role"],
                specs.parse(row["spec"], source=f"spec of {row['kept_as']}"),
                row["scored_on"],
                cache(partial(self.table.rows, row["kept_as"])),
            )
            for row in self.table.kept().to_dicts()
        ]
        return sorted(scores, key=_in_order)

    def keep(self, day: date, role: str, spec: ScoringSpec, scores: pl.DataFrame) -> bool:
        """Keep a date's scores by a spec; return False, changing nothing, if they are there."""
        shared = {
            "features_asof": day,
            "role": role,
            "kept_as": f"{day.isoformat()}/{specs.score_id(spec)}",
            "spec": specs.to_json(spec),
        }
        return self.table.keep(scores.with_columns(**{k: pl.lit(v) for k, v in shared.items()}))

    def forget(self, before: date) -> int:
        """Remove the scores of dates before a day; return how many dates that were."""
        days = {each.day for each in self.kept() if each.day < before}
        self.table.forget(before)
        return len(days)


def _in_order(kept: KeptScores) -> tuple[date, int, str]:
    return kept.day, ROLES.index(kept.role), specs.score_id(kept.spec)


class ScoreStore:
    """A folder of kept scores: ``features_asof=DATE/ROLE-SPEC.parquet``, as DuckDB can read it.

    A file is written whole or not at all, and never changed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the store for the context; raise `UsageError` if another process holds it."""
        make_folder(self.folder, exist_ok=True)
        with _locked(self.folder / ".lock", str(self.folder)):
            yield

    def kept(self) -> list[KeptScores]:
        """List what is kept: dates ascending, on each the live one first."""
        scores = [KeptScores.of_file(*each) for each in self._files()]
        return sorted(scores, key=_in_order)

    def _files(self) -> list[tuple[date, str, Path]]:
        """Return each file with its date and role."""
        files = []
        folders = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        for folder in folders:
            named = _DAY.fullmatch(folder.name)
            for path in parquet_files(folder) if named else []:
                if matched := _FILE.fullmatch(path.name):
                    day = date.fromisoformat(named[1]) if named else date.min
                    files.append((day, matched[1], path))
        return files

    def keep(self, day: date, role: str, spec: ScoringSpec, scores: pl.DataFrame) -> bool:
        """Keep a date's scores by a spec; return False, changing nothing, if they are there.

        The role under which they were kept doesn't matter.
        """
        name = specs.score_id(spec)
        folder = self.folder / f"features_asof={day.isoformat()}"
        if any(path.name.endswith(f"-{name}.parquet") for path in parquet_files(folder)):
            return False
        make_folder(folder, exist_ok=True)
        buffer = io.BytesIO()
        scores.write_parquet(buffer, metadata={_SPEC: specs.to_json(spec)})
        place_file(folder / f"{role}-{name}.parquet", buffer.getvalue())
        return True

    def forget(self, before: date) -> int:
        """Remove the scores of dates before a day; return how many dates that were."""
        old = [(day, path) for day, _, path in self._files() if day < before]
        days = {day for day, _ in old}
        for _, path in old:
            path.unlink()
        for day in days:
            folder = self.folder / f"features_asof={day.isoformat()}"
            if not any(folder.iterdir()):
                folder.rmdir()
        if days:
            sync_folder(self.folder)
        return len(days)


# ---- kept scores and outcomes --------------------------------------------------------------------

_LEVEL = 0.95
_KEY, _PROBABILITY = "\x00key", "\x00probability"


@dataclass(frozen=True)
class Live(PlainData):
    """A spec that is or was live: since when, by whom, and what was expected of it."""

    spec: ScoringSpec
    since: datetime
    author: str | None
    expect: str | None
    expectation: Guardrail | None
    experiment: str | None

    def as_json(self) -> dict[str, Any]:
        """Return which spec it is, since when, by whom, and what was expected."""
        ids = {"spec_id": specs.spec_id(self.spec), "score_id": specs.score_id(self.spec)}
        return ids | self.values("since author expect experiment")


@dataclass(frozen=True)
class Measurement(PlainData):
    """A live spec's kept scores of one date, compared with the outcomes."""

    day: date
    #: Last day of the outcomes; None if neither spec nor table has it.
    outcome_end: date | None
    score_id: str
    accounts: int
    #: Accounts of the table without a kept score, and kept scores whose account isn't in the table.
    unscored: int
    absent: int
    objective: str
    level: float
    #: Metrics of the live score.
    metrics: dict[str, Interval]
    #: Objective of the live score minus the predecessor's, and of each shadow minus the live one's,
    #: at the live score's tier sizes; by ``predecessor`` and ``shadow SCORE_ID``.
    gains: dict[str, Interval]
    #: A row a tier: `tier`, `accounts`, `retained` (a share; None without labels).
    tiers: tuple[dict[str, Any], ...]
    #: `holds`, `worse` or `unknown`, and why, in a sentence.
    verdict: str
    sentence: str
    #: Whether the promise was kept; None without a promise that can be checked, or if the
    #: difference may be chance.
    promise_kept: bool | None
    #: The expectation as it was written.
    expect: str | None
    #: Mean probability of leaving by the score, and the share that left; None if it has none.
    probability: tuple[float, float] | None
    #: The day on which the scores were kept, and whether the outcomes were not over by then.
    scored_on: date | None
    in_time: bool
    event_id: str | None = None

    @classmethod
    def of_record(cls, event_id: str, details: str) -> Measurement:
        """Return a measurement from its event."""
        fields = json.loads(details)
        for key in ("day", "outcome_end", "scored_on"):
            fields[key] = None if fields[key] is None else date.fromisoformat(fields[key])
        for key in ("metrics", "gains"):
            fields[key] = {name: Interval(**each) for name, each in fields[key].items()}
        fields["tiers"] = tuple(fields["tiers"])
        fields["probability"] = (
            None if fields["probability"] is None else tuple(fields["probability"])
        )
        return cls(**{**fields, "event_id": event_id})


def measure(
    table: AccountTable,
    day: date,
    group: Sequence[KeptScores],
    history: Sequence[Live],
    journal: Path,
    options: TableOptions,
) -> Measurement:
    """Compare a date's kept scores with its outcomes, and write the measurement to the journal.

    Parameters
    ----------
    table, day
        The date's table, now with outcomes, and the date.
    group
        The date's kept scores, the live spec's first.
    history
        All specs that were live, in order.
    journal, options
        The journal's folder, and how the table is read.
    """
    live = group[0]
    spec = live.spec
    judge = Judge.of(spec)
    loaded = _load_kept(table, group, options)
    matrix = loaded.accounts.search
    own, _ = scored_by(matrix, loaded.columns[0])
    alone = uncertainty(Panel.of(matrix, own), level=_LEVEL)
    gains: dict[str, Interval] = {}
    identifier = specs.score_id(spec)
    for each, column in zip(group[1:], loaded.columns[1:], strict=True):
        other = candidate_at_sizes(own, scored_by(matrix, column)[0])
        pair = uncertainty(Panel.of(matrix, own, other), level=_LEVEL, metrics={judge.metric.key})
        gain = pair.gain.get(judge.name)
        if gain is not None and each.role == "predecessor":
            gains[each.role] = gain.negated()
        elif gain is not None:
            gains[f"{each.role} {specs.score_id(each.spec)}"] = gain
    went_live = next((e for e in reversed(history) if specs.score_id(e.spec) == identifier), None)
    promise = None if went_live is None else went_live.expectation
    verdict, kept, sentence = _verdict(judge, alone, gains.get("predecessor"), promise, day)
    end, scored_on = outcome_end(table, spec), live.scored_on
    in_time = end is None or (scored_on is not None and scored_on <= end)
    if _search_saw_outcomes(loaded.accounts, spec, journal, day, options):
        verdict = "unknown"
        sentence = f"Can't be judged on the accounts of {day}: its weights were searched on them."
    elif not in_time:
        sentence += " The scores were kept when the outcomes were over: a backtest, no forecast."
    sizes = np.bincount(own.tiers, minlength=len(own.tier_names)).tolist()
    retained = (alone.after.get(f"logo_retention_by_tier.{tier}") for tier in own.tier_names)
    measurement = Measurement(
        day=day,
        outcome_end=end,
        score_id=identifier,
        accounts=matrix.accounts,
        unscored=loaded.unscored,
        absent=loaded.absent,
        objective=judge.name,
        level=_LEVEL,
        metrics=alone.after,
        gains=gains,
        tiers=tuple(
            {"tier": tier, "accounts": size, "retained": share and share.value}
            for tier, size, share in zip(own.tier_names, sizes, retained, strict=True)
        ),
        verdict=verdict,
        sentence=sentence,
        promise_kept=kept,
        expect=None if went_live is None else went_live.expect,
        probability=loaded.probability,
        scored_on=scored_on,
        in_time=in_time,
    )
    value = alone.after[judge.name].value if judge.name in alone.after else None
    shared = {"model": spec.model, "spec_id": specs.spec_id(spec), "source": table.source}
    for each in group[1:]:
        record_look(
            journal,
            loaded.accounts.outcomes_fingerprint,
            specs.spec_id(each.spec),
            objective=judge.name,
            before=value,
            after=None,
            higher_is_better=judge.sign > 0,
            **shared,
        )
    details = {k: v for k, v in measurement.as_json().items() if k != "event_id"}
    # The event comes last. If the process is killed before, the date is measured again, and its
    # comparisons, which are recorded twice then, still count as one look each.
    event = write_event(
        journal,
        EventKind.MEASUREMENT,
        details=json.loads(json.dumps(details, default=str)),
        score_id=identifier,
        **shared,
    )
    return replace(measurement, event_id=event)


def _search_saw_outcomes(
    accounts: Accounts, spec: ScoringSpec, journal: Path, day: date, options: TableOptions
) -> bool:
    """Return whether the search that a spec comes from saw the outcomes of this date.

    It did not if it searched earlier dates, whose outcomes were over before this one.
    """
    if spec.lineage is not None:
        try:
            start = RunFiles(journal, spec.lineage.run).record("start")
            table = scan(Source.of_record(start["source"], dict(start["parameters"])))
            own = specs.parse(start["spec"], source="the run's spec")
            end = outcome_end(table, own)
        except GtmarError:
            end = None
        if end is not None and end < day:
            return False
    before = searched_before(accounts, spec, journal, options.get("as_of"))
    return before is not None and before.searched > 0


@dataclass(frozen=True)
class _KeptOutcomes:
    """A date's table joined with its kept scores."""

    accounts: Accounts
    #: A spec for each kept score, whose only feature is that score.
    columns: tuple[ScoringSpec, ...]
    unscored: int
    absent: int
    probability: tuple[float, float] | None


def _load_kept(
    table: AccountTable, group: Sequence[KeptScores], options: TableOptions
) -> _KeptOutcomes:
    """Join a date's table with its kept scores by id; only accounts with both are taken."""
    spec = group[0].spec
    table = read_for(table, spec)
    identifier = needed_id(spec, table, "kept scores can't be found")
    frame = table.frame.with_columns(key_expression(identifier, table.schema).alias(_KEY))
    names = [f"kept score {number}" for number in range(len(group))]
    for name, each in zip(names, group, strict=True):
        kept = each.frame().select(pl.col("account").alias(_KEY), pl.col("score").alias(name))
        if each is group[0]:
            kept = kept.with_columns(each.frame()["probability"].alias(_PROBABILITY))
        frame = frame.join(kept.lazy(), on=_KEY, how="inner", maintain_order="left")
    counted = collect(table, table.frame.select(pl.len())).item()
    schema = frame.collect_schema()
    joined = replace(table, frame=frame, schema=schema, texts=None, requery=None)
    columns = tuple(_of_column(each.spec, name) for name, each in zip(names, group, strict=True))
    every = {n: c.features[n] for n, c in zip(names, columns, strict=True)}
    accounts, _ = load(joined, columns[0].model_copy(update={"features": every}), **options)
    matched = accounts.checked.accounts
    outcomes = list(canonical_outcomes(accounts.checked.outcomes, schema).values())
    labelled = collect(joined, frame.select(*outcomes, pl.col(_PROBABILITY))).drop_nulls(
        ["retained", _PROBABILITY]
    )
    probability = None
    if labelled.height:
        means = labelled.select(pl.col(_PROBABILITY).mean(), left=1 - pl.col("retained").mean())
        probability = (float(means[_PROBABILITY][0]), float(means["left"][0]))
    absent = group[0].frame().height - matched
    return _KeptOutcomes(accounts, columns, counted - matched, absent, probability)


def _of_column(spec: ScoringSpec, column: str) -> ScoringSpec:
    """Return a spec whose score is a column with kept scores; tiers are those of `spec`."""
    lows = [low / SCORE_UNITS for low in spec.tier_lows]
    highs = [spec.max_score + 1, *lows[:-1]]
    tiers = zip(spec.tier_names, lows, highs, strict=True)
    given = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    shared = ("model", "max_score", "orientation", "id", "outcomes", "labels", "window")
    return specs.ScoringSpec.model_validate(
        {
            **{key: given[key] for key in shared if key in given},
            "features": {column: {"column": column, "weight": 1, "min": 1, "max": 1}},
            "tiers": {name: {"min": low, "max": high} for name, low, high in tiers},
            "split": {"holdout": 0},
        }
    )


def _promised(
    promise: Guardrail | None, metrics: Mapping[str, Interval]
) -> tuple[bool | None, str | None]:
    """Return whether a promise was kept, and that in words.

    None if there is none that can be checked, or if the difference may be chance.
    """
    if promise is None:
        return None, None
    interval = metrics.get(promise.metric)
    if interval is None or interval.value is None:
        return None, f"what was expected of {promise.metric} can't be measured"
    missed = breach(promise, interval.value)
    if missed is None:
        return True, f"{_limit(promise)} was expected, and is so"
    if (
        interval.low is not None
        and interval.high is not None
        and (
            (promise.min is not None and interval.high < promise.min)
            or (promise.max is not None and interval.low > promise.max)
        )
    ):
        return (
            False,
            f"{missed} ({digits(interval.low, 4)} to {digits(interval.high, 4)}), beyond chance",
        )
    return None, f"{_limit(promise)} was expected; it falls short, though within chance"


def _limit(promise: Guardrail) -> str:
    ends = (("at least", promise.min), ("at most", promise.max))
    return " and ".join(
        f"{promise.metric} of {word} {digits(v)}" for word, v in ends if v is not None
    )


def _verdict(
    judge: Judge,
    alone: Uncertainty,
    gain: Interval | None,
    promise: Guardrail | None,
    day: date,
) -> tuple[str, bool | None, str]:
    """Return `holds`, `worse` or `unknown`, whether the promise was kept, and a sentence."""
    kept, promise_text = _promised(promise, alone.after)
    own = alone.after.get(judge.name)
    on = f"on the accounts of {day}"
    # What became of the promise is said beside any verdict.
    also = "" if promise_text is None else f"; {promise_text}"
    if own is None or own.value is None:
        why = "there is no such metric" if own is None else str(own.reason)
        without = f"{judge.name} has no value, {why}"
        if kept is False:
            return "worse", kept, f"Short of its promise {on}: {promise_text}; {without}."
        return "unknown", kept, f"Can't be judged {on}: {without}{also}."
    if upside_down(alone) is not None:
        pairs = apart(alone.after["auc_roc_retain"].value or 0.0, 0.5, "")[0]
        return (
            "worse",
            kept,
            f"Upside down {on}: of 100 pairs of a kept and a lost account it ranks {pairs} "
            f"right, fewer than a coin would{also}.",
        )
    measured = f"{judge.name} {own.worded}"
    if judge.name.startswith("auc_roc"):
        pairs = percent(own.value, unit="")
        measured = f"of 100 pairs of a kept and a lost account it ranks {pairs} right"
        if own.low is not None and own.high is not None:
            measured += f" ({percent(own.low, unit='')} to {percent(own.high, unit='')})"
    better = gain if gain is None or judge.sign > 0 else gain.negated()
    beside = None
    if better is not None and better.value is not None:
        way = "better" if better.value > 0 else "worse"
        beside = f"{judge.name} is {abs(better.value):.3g} {way} than that of the score before it"
        if better.low is not None:
            beside += f" ({better.low:.3g} to {better.high:.3g})"
    if better is not None and better.below_zero:
        return "worse", kept, f"Worse {on} than the score before it: {beside}; {measured}{also}."
    if kept is False:
        return "worse", kept, f"Short of its promise {on}: {promise_text}; {measured}."
    parts = "; ".join(part for part in (measured, beside, promise_text) if part is not None)
    if own.low is None:
        return "unknown", kept, f"Can't be told {on}: {parts}; {own.reason}."
    if judge.name.startswith("auc_roc") and own.low <= CHANCE_LEVEL:
        return "unknown", kept, f"No better than a coin {on}, as far as can be told: {parts}."
    return "holds", kept, f"Holds {on}: {parts}."


def measurements(journal: Path, model: str) -> list[Measurement]:
    """Return the measurements of a model's live scores that the journal has, in order."""
    query = (
        "select event_id, details from events where kind = 'measurement' "
        "and model = getvariable('model') order by event_id"
    )
    with journal_if_there(journal) as opened:
        rows = opened.query(query, model=model).rows() if opened else []
    return [Measurement.of_record(event_id, details) for event_id, details in rows]
