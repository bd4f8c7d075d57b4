"""The JSONL format in which other tools log experiments: parse its objects, export a journal to it.

Faults are collected and not raised, so that one error reports all faults of a file.
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

#: An object's keys, in order. The last three are optional.
_KEYS = (
    *("experiment_id", "metric", "baseline_value", "variant_value", "outcome", "changes"),
    *("weights_snapshot", "metrics", "timestamp", "hypothesis", "duration_ms"),
)
_REQUIRED = _KEYS[:8]
#: Optional keys by which the objects of one run are told from those of others.
_OF_A_RUN = ("seed", "evaluation_version", "basis")
#: A metric of earlier tools without a column in the journal: NRR on the binary basis, of all
#: accounts or by tier. An import stores it in the row's null reasons; an export restores it.
REVENUE_WEIGHTED = "revenue_weighted_retention"
#: Text of that reason; the group is the value as JSON.
KEPT_REASON = r"no column has it; the file says (.*)"
#: Key of a row's null reasons for the JSON of the object that the row was imported from. An export
#: returns it, and so keeps unknown keys and the original notation.
ORIGINAL = "imported from"
#: Tokens by which objects are found in text: whole strings, braces and brackets.
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[][{}]')
#: Text after the opening bracket of a list of experiments; separators in a list and outside one.
_LIST = re.compile(r"\s*(?:[{\]]|$)")
_COMMA, _BLANK = re.compile(r"\s*,?\s*"), re.compile(r"\s*")
#: Our names of metrics that have other names in the format.
_OTHER_NAMES = {"n_scored": "scored", "score_std": "score_deviation"}
_TIER_SHARE = re.compile(r"pct_(.+)_tier")
_WHOLE = r"[-+]?\d+(?:\.0+)?"
_STEP = re.compile(rf"({_WHOLE})\s*(?:->|→)\s*({_WHOLE})")
_CHANGE = re.compile(rf"(.+?):\s*{_STEP.pattern}")
_ENDS = (("from", "to"), ("before", "after"), ("old", "new"))
_FORMS = 'changes are a list like ["nps: 5 -> 12"], or an object from name to {"from": 5, "to": 12}'

_NOTHING = object()
#: Values by metric or tier; None for null.
_Values = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One experiment as parsed from its object."""

    #: Line on which the object begins, from 1.
    line: int
    experiment_id: str
    metric: str
    #: Objective of the incumbent, and of the experiment; None if null.
    before: float
    after: float | None
    won: bool
    #: Weight before and after, by name; before is None where the file lacks it.
    changes: dict[str, tuple[int | None, int]]
    weights: dict[str, int]
    #: Metrics of the journal, by their names there; those by tier are nested by tier.
    scalars: _Values
    by_tier: dict[str, _Values]
    #: Keys and metrics for which the journal has no column.
    ignored: tuple[str, ...]
    at: datetime | None
    hypothesis: str | None
    duration_us: int | None
    seed: int | None
    evaluation: str | None
    #: Basis of revenue retention, `observed` or `binary`; None where the file lacks it.
    basis: str | None = None
    #: `REVENUE_WEIGHTED` as JSON; None where the object lacks it.
    revenue_weighted: str | None = None
    #: The whole object as JSON, with null for NaN and infinity.
    original: str = "{}"

    @property
    def origin(self) -> tuple[str, int | None, str | None, str]:
        """Metric, seed, evaluation version and the id's ``RUN`` prefix: equal within a run."""
        return self.metric, self.seed, self.evaluation, self.experiment_id.rpartition("/")[0]


class Problems:
    """The faults of a file: each kind once, with its lines."""

    def __init__(self) -> None:
        self._lines: dict[str, list[int]] = {}
        self._got: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, line: int, problem: str, got: object = _NOTHING) -> None:
        """Record a fault; `got` is the faulty value, shown for the first line with the fault."""
        self._lines.setdefault(problem, []).append(line)
        if got is not _NOTHING:
            shown = json.dumps(got, ensure_ascii=False, default=str)
            short = shown if len(shown) <= 60 else f"{shown[:60]}..."
            self._got.setdefault(problem, f", got {short}")

    def error(self, source: str) -> JournalError:
        """Return one error that lists all faults."""
        texts = []
        for problem, lines in self._lines.items():
            where = f"line{'s' if len(lines) > 1 else ''} {culprits(lines)}: " if lines[0] else ""
            texts.append(f"{where}{problem}{self._got.get(problem, '')}")
        head = f'"{source}": nothing was imported'
        if len(texts) == 1:
            return JournalError(f"{head}: {texts[0]}", problems=texts)
        return JournalError.of_all(texts, f"{head}, {len(texts)} problems", problems=texts)


class _Reader:
    """Parses one object, and records its faults."""

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
        """Parse a number; NaN and infinity, which Python writes as JSON, are read as null."""
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
        """Parse a weight: a whole number, also written as 5.0 or as text."""
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
        """Parse the journal's metrics: scalars, those by tier, and the names of unknown ones."""
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
            # By tier, this metric equals NRR on the binary basis, so it fills that column.
            by_tier["nrr_by_tier"] = {t: self.number(v, REVENUE_WEIGHTED) for t, v in tiers.items()}
            self.basis = "binary"
        return scalars, by_tier, ignored

    def kept(self, value: object, what: str) -> str | None:
        """Return the JSON of a metric without a column: a number, or numbers by tier."""
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
            # Without a zone, times are in UTC, as the format defines.
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
    """Yield name and weights (before, after) of each change, in any notation; None if invalid."""
    if isinstance(given, list):
        for item in given:
            match = _CHANGE.fullmatch(item) if isinstance(item, str) else None
            yield (match[1], (match[2], match[3])) if match else (None, None)
    elif isinstance(given, dict):
        for name, value in given.items():
            yield name, _ends(value)
    else:
        yield None, None


def _ends(value: object) -> tuple[object, object] | None:
    """Return a weight before and after; before is None where only the new weight is given."""
    if isinstance(value, dict):
        for before, after in _ENDS:
            if value.keys() == {before, after}:
                return value[before], value[after]
        return None
    if isinstance(value, list):
        return (value[0], value[1]) if len(value) == 2 else None
    if isinstance(value, str) and (match := _STEP.fullmatch(value)):
        return match[1], match[2]
    return None if isinstance(value, str) else (None, value)


def objects(  # noqa: PLR0912 - one pass over marks, each of which ends or begins something
    lines: Iterable[tuple[int, str]], problems: Problems
) -> Iterator[tuple[int, str]]:
    """Yield each object of a file: the line on which it begins, and its text.

    An object may span several lines, share a line with others, and be part of a list. A line that
    starts with ``{`` always begins a new object, so that a truncated object doesn't swallow those
    after it.

    Parameters
    ----------
    lines
        Line numbers and texts.
    problems
        Records an object that is too large, and a list without an end.
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
    """Parse one object that begins on `line`; None, with its faults recorded, if it is invalid."""
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


# ---- exporting a journal -------------------------------------------------------------------------

#: Outcomes that are exported, with the format's name for each.
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
#: Attempts to read a run's parts while compaction replaces them.
_TRIES = 3


def export_jsonl(journal: Journal, run: str | None = None) -> Iterator[str]:
    """Yield a journal's experiments lazily as lines of JSON, without line ends.

    Ids are ``exp_00034`` for one run; for all runs, which are ordered by start,
    ``RUN/exp_00034``. Imported experiments keep their original object and id. `blocked` is exported
    as ``lose``; baselines and experiments taken over from earlier runs are left out.

    Parameters
    ----------
    journal
        The journal.
    run
        A run's name; None for all runs.

    Raises
    ------
    RunNotFoundError
        If there is no such run; raised before the first line.
    JournalError
        If a part is damaged; raised when that part is reached.
    """
    runs = journal.query(_RUNS).to_dicts()
    if run is not None:
        run_id = journal.run_id(run)
        runs = [row for row in runs if row["run_id"] == run_id]
    return _lines(journal.path, runs, prefixed=run is None)


def encoded_in(journal: Journal, run: str | None = None) -> list[str]:
    """Return the `encoded_features` of the specs of a journal, or of one run."""
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
    """Yield a run's rows in order, read in batches; resume if compaction replaces its parts."""
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
    """Convert a row, whose maps are lists of pairs, to an object of the format, without nulls.

    The hypothesis is the row's note, else the run's, else a sentence made from the changes.
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
    # `variant_value` is required by the format, so it is kept even if null.
    return {k: v for k, v in line.items() if v is not None or k == "variant_value"}


def _sentence(changes: Mapping[str, tuple[int, int]]) -> str:
    """Describe the changes of an experiment in words.

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
