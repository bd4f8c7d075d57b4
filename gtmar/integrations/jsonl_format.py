"""Experiments as JSONL of other tools: what an object says and lacks, and how a journal writes it.

A fault is collected and not raised, so that all faults of a file are said at once.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from gtmar.documents import LARGEST_TEXT, parse_json, with_leaves
from gtmar.errors import JournalError, culprits
from gtmar.journal.files import RunFiles
from gtmar.metrics.registry import all_metrics
from gtmar.spec.encoders import WEIGHT_LIMIT
from gtmar.spec.import_specs import encoded_features

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from gtmar.journal.catalog import Journal

__all__ = [
    "KEPT_REASON",
    "ORIGINAL",
    "REVENUE_WEIGHTED",
    "Entry",
    "Problems",
    "encoded_in",
    "entry_of",
    "export_jsonl",
    "objects",
]

#: An object's keys, in order. The last three are not in every file.
_KEYS = (
    "experiment_id",
    "metric",
    "baseline_value",
    "variant_value",
    "outcome",
    "changes",
    "weights_snapshot",
    "metrics",
    "timestamp",
    "hypothesis",
    "duration_ms",
)
_REQUIRED = _KEYS[:8]
#: Keys that some tools add, and that say which rows are of one run.
_OF_A_RUN = ("seed", "evaluation_version", "basis")
#: A metric of earlier tools that is no column of ours: NRR on the binary basis, of all accounts or
#: by tier. It is kept as the reason why it is none, and given back from there.
REVENUE_WEIGHTED = "revenue_weighted_retention"
#: How that reason reads, the value being JSON.
KEPT_REASON = r"no column has it; the file says (.*)"
#: Under this name the reasons of a row keep the object that it was imported from, as JSON: its
#: unknown keys, and its way of putting the known ones, are given back by an export.
ORIGINAL = "imported from"
#: What tells objects apart in text: strings as wholes, ends of objects and lists.
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[][{}]')
#: What follows the bracket that a list of experiments begins with; what parts them, and lines.
_LIST = re.compile(r"\s*(?:[{\]]|$)")
_COMMA, _BLANK = re.compile(r"\s*,?\s*"), re.compile(r"\s*")
#: Our names of metrics that the format calls otherwise.
_OTHER_NAMES = {"n_scored": "scored", "score_std": "score_deviation"}
_TIER_SHARE = re.compile(r"pct_(.+)_tier")
_WHOLE = r"[-+]?\d+(?:\.0+)?"
_STEP = re.compile(rf"({_WHOLE})\s*(?:->|→)\s*({_WHOLE})")
_CHANGE = re.compile(rf"(.+?):\s*{_STEP.pattern}")
_ENDS = (("from", "to"), ("before", "after"), ("old", "new"))
_FORMS = 'changes are a list like ["nps: 5 -> 12"], or an object from name to {"from": 5, "to": 12}'

_NOTHING = object()
#: Values by metric or tier, None where there is none.
_Values = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One experiment, as a line tells it."""

    line: int
    experiment_id: str
    metric: str
    #: Objective of the incumbent, and of the experiment; the latter None where it has none.
    before: float
    after: float | None
    won: bool
    #: Weight before and after, by name; before is None where the file doesn't say.
    changes: dict[str, tuple[int | None, int]]
    weights: dict[str, int]
    #: Metrics that we know, by our names; by-tier ones by tier.
    scalars: _Values
    by_tier: dict[str, _Values]
    #: Keys and metrics that we have no place for.
    ignored: tuple[str, ...]
    at: datetime | None
    hypothesis: str | None
    duration_us: int | None
    seed: int | None
    evaluation: str | None
    #: `observed` or `binary`; None where the file doesn't say.
    basis: str | None = None
    #: `REVENUE_WEIGHTED` as JSON; None where the line has none.
    revenue_weighted: str | None = None
    #: The whole object as JSON, without NaN and infinity.
    original: str = "{}"

    @property
    def origin(self) -> tuple[str, int | None, str | None, str]:
        """What all lines of a run share: metric, seed, evaluation, and an id's ``RUN/``."""
        return self.metric, self.seed, self.evaluation, self.experiment_id.rpartition("/")[0]


class Problems:
    """What is wrong with a file: each kind of fault once, with the lines that have it."""

    def __init__(self) -> None:
        self._lines: dict[str, list[int]] = {}
        self._got: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, line: int, problem: str, got: object = _NOTHING) -> None:
        """Take in a fault; `got` is what stands there, shown for the first line that has it."""
        self._lines.setdefault(problem, []).append(line)
        if got is not _NOTHING:
            shown = json.dumps(got, ensure_ascii=False, default=str)
            short = shown if len(shown) <= 60 else f"{shown[:60]}..."
            self._got.setdefault(problem, f", got {short}")

    def error(self, source: str) -> JournalError:
        """Word all that was found."""
        texts = []
        for problem, lines in self._lines.items():
            where = f"line{'s' if len(lines) > 1 else ''} {culprits(lines)}: " if lines[0] else ""
            texts.append(f"{where}{problem}{self._got.get(problem, '')}")
        head = f'"{source}": nothing was imported'
        if len(texts) == 1:
            return JournalError(f"{head}: {texts[0]}", problems=texts)
        listing = [f"  - {text}" for text in texts]
        return JournalError(f"{head}, {len(texts)} problems", listing=listing, problems=texts)


class _Reader:
    """Reads one line's object, and notes what can't be."""

    def __init__(self, line: int, data: dict[str, Any], problems: Problems) -> None:
        self.line, self.data, self.problems = line, data, problems
        self.sound = True
        self.revenue_weighted: str | None = None
        basis = data.get("basis")
        self.basis = basis if basis in ("observed", "binary") else None

    def fault(self, problem: str, got: object = _NOTHING) -> None:
        self.sound = False
        self.problems.add(self.line, problem, got)

    def text(self, key: str) -> str:
        value = self.data[key]
        if not (isinstance(value, str) and value):
            self.fault(f"{key} must be text", value)
        return str(value)

    def number(self, value: object, what: str) -> float | None:
        """Read a number; NaN and infinity stand for null, as Python writes them."""
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fault(f"{what} must be a number or null", value)
            return None
        try:
            return float(value) if math.isfinite(value) else None
        except OverflowError:
            self.fault(f"{what} must be a number below 1e308", value)
            return None

    def count(self, value: object, what: str) -> int | None:
        number = self.number(value, what)
        if number is not None and not (number.is_integer() and 0 <= number < 2**53):
            self.fault(f"{what} must be a count", value)
        return None if number is None else int(number)

    def whole(self, value: object, what: str) -> int:
        """Read a weight: a whole number, which 5.0 is too."""
        if isinstance(value, str) and re.fullmatch(_WHOLE, value):
            value = float(value)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not abs(value) <= WEIGHT_LIMIT
            or value != int(value)
        ):
            limit = f"at most {WEIGHT_LIMIT:,} either way"
            self.fault(f"{what} must be whole numbers, {limit}", value)
            return 0
        return int(value)

    def weights(self) -> dict[str, int]:
        given = self.data["weights_snapshot"]
        if not isinstance(given, dict) or not given:
            self.fault("weights_snapshot must be an object from name to weight", given)
            return {}
        return {name: self.whole(value, "weights") for name, value in given.items()}

    def changes(self, weights: Mapping[str, int]) -> dict[str, tuple[int | None, int]]:
        given = self.data["changes"]
        changes: dict[str, tuple[int | None, int]] = {}
        for name, ends in _pairs(given):
            if name is None or ends is None:
                self.fault(_FORMS, given)
                return {}
            before, after = ends
            if before is not None:
                before = self.whole(before, "weights in changes")
            changes[name] = before, self.whole(after, "weights in changes")
            if self.sound and weights.get(name) != changes[name][1]:
                self.fault("changes and weights_snapshot disagree", name)
        return changes

    def metrics(self) -> tuple[_Values, dict[str, _Values], list[str]]:
        """Read the metrics that we know: scalars, by-tier ones, and names of the others."""
        given = self.data["metrics"]
        scalars: _Values = {}
        by_tier: dict[str, _Values] = {}
        ignored: list[str] = []
        if not isinstance(given, dict | None):
            self.fault("metrics must be an object from name to value", given)
            return scalars, by_tier, ignored
        for name, value in (given or {}).items():
            what = f"metrics.{name}"
            key = str(_OTHER_NAMES.get(name, name))
            metric = all_metrics().get(key)
            read = self.count if metric is not None and metric.count else self.number
            if share := _TIER_SHARE.fullmatch(name):
                by_tier.setdefault("share_by_tier", {})[share[1]] = self.number(value, what)
            elif name == REVENUE_WEIGHTED:
                self.revenue_weighted = self.kept(value, what)
            elif metric is None:
                ignored.append(what)
            elif not metric.by_tier:
                scalars[key] = read(value, what)
            elif isinstance(value, dict | None):
                of_tiers = {tier: read(v, what) for tier, v in (value or {}).items()}
                by_tier.setdefault(key, {}).update(of_tiers)
            else:
                self.fault(f"{what} must be an object from tier to value", value)
        tiers = (given or {}).get(REVENUE_WEIGHTED)
        if isinstance(tiers, dict) and not by_tier.get("nrr_by_tier") and self.basis != "observed":
            # By tier it is what NRR on the binary basis is: that column has it, marked so.
            by_tier["nrr_by_tier"] = {t: self.number(v, REVENUE_WEIGHTED) for t, v in tiers.items()}
            self.basis = "binary"
        return scalars, by_tier, ignored

    def kept(self, value: object, what: str) -> str | None:
        """Return a metric that no column has as JSON: a number, or an object of them by tier."""
        if isinstance(value, dict):
            return json.dumps({tier: self.number(v, what) for tier, v in value.items()})
        number = self.number(value, what)
        return None if number is None else json.dumps(number)

    def time(self) -> datetime | None:
        value = self.data.get("timestamp")
        if value is None:
            return None
        try:
            moment = datetime.fromisoformat(value)
            # Who leaves the zone out means UTC, as the format does.
            return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            self.fault("timestamp must be a time as ISO 8601 writes it", value)
            return None

    def duration(self) -> int | None:
        value = self.number(self.data.get("duration_ms"), "duration_ms")
        if value is not None and not 0 <= value < 2**53:
            self.fault("duration_ms must be 0 or more", value)
            return None
        return None if value is None else round(value * 1000)


def _pairs(given: object) -> Iterable[tuple[str | None, tuple[object, object] | None]]:
    """Give each change's name and ends, of any form; None where it can't be told."""
    if isinstance(given, list):
        for item in given:
            found = _CHANGE.fullmatch(item) if isinstance(item, str) else None
            yield (found[1], (found[2], found[3])) if found else (None, None)
    elif isinstance(given, dict):
        for name, value in given.items():
            yield name, _ends(value)
    else:
        yield None, None


def _ends(value: object) -> tuple[object, object] | None:
    """Return a weight before and after; before is None where only the new one stands there."""
    if isinstance(value, dict):
        for before, after in _ENDS:
            if value.keys() == {before, after}:
                return value[before], value[after]
        return None
    if isinstance(value, list):
        return (value[0], value[1]) if len(value) == 2 else None
    if isinstance(value, str) and (found := _STEP.fullmatch(value)):
        return found[1], found[2]
    return None if isinstance(value, str) else (None, value)


def objects(  # noqa: PLR0912 - one pass over marks, each of which ends or begins something
    lines: Iterable[tuple[int, str]], problems: Problems
) -> Iterator[tuple[int, str]]:
    """Give the text of each object of a file, and the line that it begins on.

    An object may stand on one line or on several, be followed by others on its line, and stand in a
    list. A line that begins with ``{`` begins an object, whatever the ones before lack, so that one
    that was cut off doesn't take those after it along. `lines` are numbers and texts.
    """
    begun, size = 0, 0
    parts: list[str] = []
    depth = base = opened = 0
    for number, text in lines:
        if parts and text.startswith("{"):
            yield begun, "\n".join(parts).rstrip()
            parts, depth = [], base
        at = 0
        for token in _TOKEN.finditer(text):
            mark = token[0]
            if mark in ("{", "["):
                if mark == "[" and depth == base == 0 and _LIST.match(text, token.end()):
                    base, opened, at = 1, number, token.end()
                depth += 1
            elif mark in ("}", "]"):
                depth -= 1
                between = parts or text[at : token.start()].strip(" ,\t")
                if depth == base - 1 == 0 and not between:
                    base, at = 0, token.end()
                elif depth <= base:
                    yield begun if parts else number, "\n".join([*parts, text[at : token.end()]])
                    gap = _COMMA if base else _BLANK
                    parts, depth, at = [], base, next(gap.finditer(text, token.end())).end()
        rest = text[at:] if parts else text[at:].strip(" ,\t" if base else None)
        if rest and depth == base and not parts:
            yield number, rest
        elif rest or parts:
            begun, size = (begun, size) if parts else (number, 0)
            parts.append(rest)
            size += len(rest)
            if size > LARGEST_TEXT:
                problems.add(begun, f"an object larger than {LARGEST_TEXT:,} characters")
                return
    if parts:
        yield begun, "\n".join(parts).rstrip()
    if base:
        problems.add(opened, "the list that begins here doesn't end; is the file cut off?")


def _finite(value: Any) -> Any:
    """Return null for NaN and infinity, which JSON doesn't have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def entry_of(text: str, line: int, problems: Problems) -> Entry | None:
    """Read one object, which begins on a line; None where anything is wrong."""
    if len(text) > LARGEST_TEXT:
        problems.add(line, f"an object larger than {LARGEST_TEXT:,} characters")
        return None
    try:
        data = parse_json(text)
    except ValueError as err:
        line += getattr(err, "lineno", 1) - 1
        problems.add(line, f"not JSON: {getattr(err, 'msg', err)}")
        return None
    if not isinstance(data, dict):
        problems.add(line, "each line must be one JSON object", data)
        return None
    missing = [key for key in _REQUIRED if key not in data]
    if missing:
        problems.add(line, f"lacks {culprits(missing, limit=len(missing))}")
        return None
    reader = _Reader(line, data, problems)
    weights = reader.weights()
    scalars, by_tier, ignored = reader.metrics()
    before, after = (reader.number(data[key], key) for key in ("baseline_value", "variant_value"))
    if before is None and reader.sound:
        reader.fault("baseline_value must be a number", data["baseline_value"])
    outcome, seed, hypothesis = data["outcome"], data.get("seed"), data.get("hypothesis")
    if outcome not in ("win", "lose"):
        reader.fault('outcome must be "win" or "lose"', outcome)
    if outcome == "win" and after is None and reader.sound:
        reader.fault("a win needs a variant_value", data["variant_value"])
    if not isinstance(hypothesis, str | None):
        reader.fault("hypothesis must be text", hypothesis)
    evaluation = data.get("evaluation_version")
    entry = Entry(
        line=line,
        experiment_id=reader.text("experiment_id"),
        metric=reader.text("metric"),
        before=before or 0.0,
        after=after,
        won=outcome == "win",
        changes=reader.changes(weights),
        weights=weights,
        scalars=scalars,
        by_tier=by_tier,
        ignored=(*(key for key in data if key not in (*_KEYS, *_OF_A_RUN)), *ignored),
        at=reader.time(),
        hypothesis=hypothesis or None,
        duration_us=reader.duration(),
        seed=seed if type(seed) is int and 0 <= seed < 2**63 else None,
        evaluation=None if evaluation is None else str(evaluation),
        basis=reader.basis,
        revenue_weighted=reader.revenue_weighted,
        original=json.dumps(with_leaves(data, _finite), ensure_ascii=False, separators=(",", ":")),
    )
    return entry if reader.sound else None


# ---- a journal in this form ----------------------------------------------------------------------

#: What the format knows as a win or a lost experiment.
_EXPORTED = {"win": "win", "lose": "lose", "blocked": "lose"}
_RUNS = """
    select
        run_id,
        note,
        seed,
        coalesce(cast(evaluator_version as varchar), parameters['evaluation_version'])
            as evaluation_version
    from runs
    order by started_at, run_id
"""
#: Rows in memory at once.
_BATCH = 2048
#: How often a run's parts are looked for.
_TRIES = 3


def export_jsonl(journal: Journal, run: str | None = None) -> Iterator[str]:
    """Give a journal's experiments as lines of JSON, each without its end, read as it is asked for.

    Those of one run are named ``exp_00034``; of all, in the order of their starts,
    ``RUN/exp_00034``. An imported one is given as it came in, with the id that it had. `blocked`
    counts as ``lose``; baselines and experiments taken over from earlier runs are left out.
    Raises `RunNotFoundError` if there is no such run and, on the way, `JournalError` if a part is
    damaged.
    """
    runs = journal.query(_RUNS).to_dicts()
    if run is not None:
        run_id = journal.run_id(run)
        runs = [row for row in runs if row["run_id"] == run_id]
    return _lines(journal.path, runs, prefixed=run is None)


def encoded_in(journal: Journal, run: str | None = None) -> list[str]:
    """Name the features that specs of a journal, or of one run, encode; see `encoded_features`."""
    query = "select distinct run_id, spec from runs where spec is not null order by run_id"
    rows = journal.query(query).rows()
    run_id = None if run is None else journal.run_id(run)
    specs = dict.fromkeys(spec for each, spec in rows if run_id in (None, each))
    return list(dict.fromkeys(chain(*(encoded_features(json.loads(spec)) for spec in specs))))


def _lines(folder: Path, runs: list[dict[str, Any]], *, prefixed: bool) -> Iterator[str]:
    for run in runs:
        for row in _rows_of(RunFiles(folder, run["run_id"])):
            if row["outcome"] not in _EXPORTED:
                continue
            reasons = dict(row["null_reasons"] or ())
            line = json.loads(reasons[ORIGINAL]) if ORIGINAL in reasons else _line(row, run)
            name = line["experiment_id"]
            if prefixed and "/" not in name:
                line["experiment_id"] = f"{run['run_id']}/{name}"
            yield json.dumps(line, ensure_ascii=False)


def _rows_of(files: RunFiles) -> Iterator[dict[str, Any]]:
    """Give a run's rows in order, a few at a time; go on where its parts are packed meanwhile."""
    last = -1
    for attempt in range(_TRIES):
        try:
            for part in files.whole_parts:
                with pq.ParquetFile(part) as file:
                    for batch in file.iter_batches(_BATCH):
                        rows = [row for row in batch.to_pylist() if row["number"] > last]
                        yield from rows
                        last = rows[-1]["number"] if rows else last
        except (pa.ArrowException, OSError) as err:
            if isinstance(err, FileNotFoundError) and attempt < _TRIES - 1:
                continue
            raise JournalError(
                f"run {files.run_id} can't be read: {err}", hint="gtmar verify says more"
            ) from err
        return


def _line(row: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """Put a row, its maps being lists of pairs, into the format; what is null is left out.

    The run's note stands in for one of its own.
    """
    changes = {weight: (step["before"], step["after"]) for weight, step in row["changes"]}
    duration = row["duration_us"]
    metrics = {
        key: {tier: each for tier, each in row[key] if each is not None}
        if metric.by_tier
        else row[key]
        for key, metric in all_metrics().items()
        if row[key] is not None
    }
    kept = re.fullmatch(KEPT_REASON, dict(row["null_reasons"] or ()).get(REVENUE_WEIGHTED, ""))
    if kept:
        metrics[REVENUE_WEIGHTED] = json.loads(kept[1])
    values = (
        row["experiment_id"],
        row["objective"],
        row["value_before"],
        row["value_after"],
        _EXPORTED[row["outcome"]],
        [f"{weight}: {before} -> {after}" for weight, (before, after) in changes.items()],
        dict(row["weights"]),
        metrics,
        row["evaluated_at"].isoformat() if row["evaluated_at"] else None,
        row["note"] or run["note"] or _sentence(changes),
        None if duration is None else duration / 1000,
    )
    line = dict(zip(_KEYS, values, strict=True))
    line |= {key: run[key] for key in ("seed", "evaluation_version")} | {"basis": row["basis"]}
    # A lost experiment without a value has the key all the same.
    return {k: v for k, v in line.items() if v is not None or k == "variant_value"}


def _sentence(changes: Mapping[str, tuple[int, int]]) -> str:
    """Say what an experiment tries.

    Examples
    --------
    >>> _sentence({"alert_created": (5, 12), "nps": (3, -1)})
    'raise alert_created from 5 to 12, lower nps from 3 to -1'
    """
    parts = [
        f"{'raise' if after > before else 'lower'} {name} from {before} to {after}"
        for name, (before, after) in changes.items()
    ]
    return ", ".join(parts) or "change nothing"
