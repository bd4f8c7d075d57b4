"""Going live: promote a spec of the journal, or record a change that was made elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from gtmar import spec as specs
from gtmar.errors import SpecError, UsageError
from gtmar.journal.events import EventKind, clock_note, dated_ahead, write_event
from gtmar.journal.lookup import decided_on, measured_as
from gtmar.objective.objective import expected
from gtmar.plain_data import PlainData
from gtmar.runs.holdout import journal_if_there
from gtmar.runs.inputs import TableOptions, refuse_unknown_options
from gtmar.runs.run import try_weights
from gtmar.spec.encoders import unordered
from gtmar.spec.ids import form_id
from gtmar.spec.model import SCORE_UNITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from gtmar.data.scan import Tabular
    from gtmar.runs.results import RunResult
    from gtmar.spec.model import ScoringSpec

__all__ = ["WentLive", "promote", "record"]


@dataclass(frozen=True)
class WentLive(PlainData):
    """The record that a spec went live, and what it replaced."""

    event_id: str
    model: str
    since: datetime
    author: str | None
    note: str
    expect: str | None
    spec_id: str
    #: Weights that differ, before and after; None if nothing was live before, or the specs differ
    #: in features, encoders, names of tiers or orientation.
    changes: dict[str, tuple[int, int]] | None
    #: Since when the replaced spec was live; None if there was none.
    replaced_since: datetime | None
    #: Lower tier edges that differ, in points, before and after; None if `changes` is.
    tiers: dict[str, tuple[float, float]] | None
    #: ``RUN/EXP`` that the spec comes from, or was measured as.
    experiment: str | None
    measured: RunResult | None = None
    #: The last decision on that experiment, and when it was made; None if there is none.
    verdict: str | None = None
    decided_at: datetime | None = None
    #: A sentence if entries of the journal are dated after this machine's clock.
    notes: tuple[str, ...] = ()


def promote(
    spec: ScoringSpec,
    *,
    note: str,
    author: str | None = None,
    expect: str | None = None,
    journal: str | Path = "journal",
) -> WentLive:
    """Put on record that a spec goes live now, by whom, why, and what should come of it.

    Raises
    ------
    UsageError
        If the very same scores are live already, or the expectation names no metric.
    JournalError
        If the journal can't be written.

    Notes
    -----
    ``expect`` such as ``auc_roc_retain >= 0.80`` is a promise that `watch` checks; anything else is
    kept as text.
    """
    with journal_if_there(journal) as opened:
        reference = None if opened is None else measured_as(opened, spec)
        decision = opened and decided_on(opened, reference, specs.score_id(spec))
    went_live = _go_live(
        EventKind.PROMOTION,
        spec,
        journal=Path(journal),
        since=datetime.now(UTC),
        author=author,
        note=note,
        expect=expect,
        experiment=None if reference is None else str(reference),
    )
    if not decision:
        return went_live
    return replace(went_live, verdict=decision["verdict"], decided_at=decision["at"])


def record(
    spec: ScoringSpec,
    *,
    since: str,
    note: str,
    author: str,
    data: Tabular | None = None,
    metric: str | None = None,
    announce: Callable[[str], None] | None = None,
    journal: str | Path = "journal",
    **table_options: Unpack[TableOptions],
) -> WentLive:
    """Record a change that somebody made elsewhere; measure it if a table is given.

    It is compared with the spec that was live before, if the two differ only in weights; else it is
    measured by itself.

    Parameters
    ----------
    spec
        The spec as it has been since.
    since
        ISO date, or date and time, since when it is live; not in the future.
    note, author
        Why, and who made it.
    data
        The account table; None leaves the change unmeasured.
    metric, announce, journal, table_options
        As for `try_weights`.

    Raises
    ------
    UsageError
        If `since` is no past date, or the very same scores were live already.
    SpecError, AccountDataError
        Before anything is written.
    """
    refuse_unknown_options(table_options, TableOptions)
    from_when = _moment(since)
    folder = Path(journal)
    before = _last(_went_live(folder, spec.model), at=from_when)
    _refuse_the_same(spec, before)
    measured = experiment = None
    if data is not None:
        comparable = before is not None and form_id(before[0]) == form_id(spec)
        # Bounds and guardrails are the new spec's: they hold now.
        start = spec if before is None or not comparable else _with_weights(spec, before[0].weights)
        measured = try_weights(
            data,
            start,
            spec.weights if comparable else {},
            note=note,
            author=author,
            metric=metric,
            announce=announce,
            journal=folder,
            kind="record",
            **table_options,
        )
        experiment = f"{measured.run_id}/exp_{min(1, measured.experiments):05d}"
    return _go_live(
        EventKind.RECORD,
        spec,
        journal=folder,
        since=from_when,
        author=author,
        note=note,
        measured=measured,
        experiment=experiment,
    )


def _with_weights(spec: ScoringSpec, weights: dict[str, int]) -> ScoringSpec:
    """Return the spec with other weights; bounds are widened, and orders dropped, to allow them."""
    data = spec.model_dump(mode="json", by_alias=True)
    for term in spec.terms:
        feature, weight = data["features"][term.feature], weights[term.name]
        feature["encode"] = unordered(feature["encode"])
        weighted = feature if term.bin is None else feature["encode"]["bins"][term.bin]
        weighted |= {"weight": weight, "min": min(term.min, weight), "max": max(term.max, weight)}
    return specs.ScoringSpec.model_validate(data)


def _go_live(
    kind: EventKind,
    spec: ScoringSpec,
    *,
    journal: Path,
    since: datetime,
    author: str | None,
    note: str,
    expect: str | None = None,
    experiment: str | None = None,
    measured: RunResult | None = None,
) -> WentLive:
    """Write the event that a spec goes live; raise if the same scores are live already."""
    # Raises for a tier rule without edges: a live spec says which score is in which tier.
    _ = spec.tier_lows
    if not note.strip():
        raise UsageError("a change that goes live needs a reason", hint="--note WHY")
    events = _went_live(journal, spec.model)
    # A promotion replaces the last spec on record, even one that another clock dated later.
    before = _last(events, at=since if kind is EventKind.RECORD else None)
    _refuse_the_same(spec, before)
    now = datetime.now(UTC)
    note_on_clock = clock_note(dated_ahead(journal, now), now)
    # Events of clocks that are ahead of this one: the new event counts as later than these.
    later = [event["event_id"] for event in events if event["since"] > now]
    promise = None if expect is None else expected(expect, spec.tier_names)
    details: dict[str, Any] = {"recorded_after": later} if later else {}
    if promise is not None:
        details["expectation"] = promise.model_dump(exclude_none=True)
    changes, tiers = _changes(before[0], spec) if before is not None else (None, None)
    run_id, _, experiment_id = (experiment or "").partition("/")
    shared: dict[str, Any] = {
        "author": author,
        "note": note,
        "expect": expect,
        "since": since,
        "model": spec.model,
        "spec_id": specs.spec_id(spec),
    }
    event_id = write_event(
        journal,
        kind,
        **shared,
        score_id=specs.score_id(spec),
        spec=specs.to_json(spec),
        run_id=run_id or None,
        experiment_id=experiment_id or None,
        details=details or None,
    )
    return WentLive(
        **shared,
        event_id=event_id,
        changes=changes,
        tiers=tiers,
        replaced_since=None if before is None else before[1],
        experiment=experiment,
        measured=measured,
        notes=(note_on_clock,) if note_on_clock else (),
    )


def _changes(
    old: ScoringSpec, new: ScoringSpec
) -> tuple[dict[str, tuple[int, int]] | None, dict[str, tuple[float, float]] | None]:
    """Return the weights and the lower edges that differ; None and None if more differs."""
    same_form = form_id(old, tiers=False) == form_id(new, tiers=False)
    if not same_form or {*old.tiers} != {*new.tiers} or old.orientation != new.orientation:
        return None, None
    weights = {n: (old.weights[n], w) for n, w in new.weights.items() if w != old.weights[n]}
    edges = {n: (old.tiers[n].low, new.tiers[n].low) for n in new.tier_names}
    tiers = {n: (a / SCORE_UNITS, b / SCORE_UNITS) for n, (a, b) in edges.items() if a != b}
    return weights, tiers


def _went_live(journal: Path, model: str) -> list[dict[str, Any]]:
    """Return `event_id`, `spec` and `since` of all specs that went live, in the journal's order."""
    query = (
        "select event_id, spec, since from went_live where model = getvariable('model') "
        "order by position"
    )
    with journal_if_there(journal) as opened:
        return opened.query(query, model=model).to_dicts() if opened else []


def _last(
    events: list[dict[str, Any]], *, at: datetime | None
) -> tuple[ScoringSpec, datetime] | None:
    """Return the spec that was live at a moment, and since when; None if none was.

    Without a moment, the one that was recorded last, whatever its date.
    """
    live = [event for event in events if at is None or event["since"] <= at]
    if not live:
        return None
    try:
        return specs.parse(live[-1]["spec"], source="the live spec"), live[-1]["since"]
    except SpecError:
        return None


def _refuse_the_same(spec: ScoringSpec, before: tuple[ScoringSpec, datetime] | None) -> None:
    """Raise if the same scores are live already; one dated in the future doesn't count."""
    if before is None or before[1] > datetime.now(UTC):
        return
    if specs.score_id(before[0]) == specs.score_id(spec):
        raise UsageError(
            f'"{spec.model}" with these weights and tiers is live already, since '
            f"{before[1]:%Y-%m-%d %H:%M}",
            hint="gtmar log shows what has been live since when",
        )


def _moment(text: str) -> datetime:
    """Parse an ISO date, or date and time, in this machine's zone if none is stated.

    Raises `UsageError` for any other text, or a moment in the future.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as err:
        raise UsageError(
            f'--since expects a date such as 2026-03-31, got "{text}"',
            hint=f"--since {date.today():%Y-%m-%d}",
        ) from err
    moment = moment.astimezone(UTC)
    if moment > datetime.now(UTC):
        raise UsageError(f"--since {text} is in the future; only what has happened goes on record")
    return moment
