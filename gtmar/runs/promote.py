"""What is live: a spec promoted by somebody's word, or a change elsewhere put on record."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar import spec as specs
from gtmar.errors import RunNotFoundError, SpecError, UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.events import EventKind, clock_note, dated_ahead, write_event
from gtmar.journal.history import measured_as
from gtmar.runs.run import try_weights
from gtmar.spec.ids import form_id

if TYPE_CHECKING:
    from gtmar.data.sources import Tabular
    from gtmar.runs.results import RunResult
    from gtmar.spec.model import ScoringSpec

__all__ = ["WentLive", "promote", "record"]


@dataclass(frozen=True)
class WentLive:
    """A spec that is live now, or was, and what it took the place of."""

    event_id: str
    model: str
    since: datetime
    author: str | None
    note: str
    expect: str | None
    spec_id: str
    #: Weight before and after, where they differ; None where nothing was live before, or other
    #: features, encoders or tiers were.
    changes: dict[str, tuple[int, int]] | None
    #: Since when the spec was live that it took the place of; None where there was none.
    replaced_since: datetime | None
    #: ``RUN/EXP`` that it comes from or was measured as.
    experiment: str | None
    measured: RunResult | None = None
    #: Worth knowing: entries of the journal that are dated after this machine's clock.
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {"measured": self.measured and self.measured.as_json()}


def promote(
    spec: ScoringSpec,
    *,
    note: str,
    author: str | None = None,
    expect: str | None = None,
    journal: str | Path = "journal",
) -> WentLive:
    """Put on record that a spec goes live now.

    Parameters
    ----------
    spec
        The spec; its lineage says which experiment it comes from.
    note, author
        Why, and by whom.
    expect
        What should happen, so that somebody can look later whether it did.
    journal
        The journal's folder.

    Raises
    ------
    UsageError
        If the very same scores are live already.
    JournalError
        If the journal can't be written.
    """
    return _go_live(
        EventKind.PROMOTION,
        spec,
        journal=Path(journal),
        since=datetime.now(UTC),
        author=author,
        note=note,
        expect=expect,
        experiment=_measured_as(Path(journal), spec),
    )


def record(
    spec: ScoringSpec,
    *,
    since: str,
    note: str,
    author: str,
    data: Tabular | None = None,
    metric: str | None = None,
    as_of: str | None = None,
    drop_unlabelled: bool = False,
    journal: str | Path = "journal",
) -> WentLive:
    """Put a change on record that somebody made elsewhere; measure it where a table is given.

    It is measured against the spec that was live before it, where the two differ in weights alone;
    else by itself.

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
    metric, as_of, drop_unlabelled
        As for a run.
    journal
        The journal's folder.

    Raises
    ------
    UsageError
        If `since` is no past date, or the very same scores were live already.
    SpecError, AccountDataError
        Before anything is written.
    """
    from_when = _moment(since)
    folder = Path(journal)
    before = _live_spec(folder, spec.model, at=from_when)
    _refuse_the_same(spec, before)
    measured = None
    if data is not None:
        old = before[0] if before is not None else spec
        comparable = form_id(old) == form_id(spec)
        # Bounds and guardrails are the new spec's: they hold now.
        start = _with_weights(spec, old.weights) if comparable else spec
        measured = try_weights(
            data,
            start,
            spec.weights if comparable else {},
            note=note,
            author=author,
            metric=metric,
            as_of=as_of,
            drop_unlabelled=drop_unlabelled,
            journal=folder,
            kind="record",
        )
    return _go_live(
        EventKind.RECORD,
        spec,
        journal=folder,
        since=from_when,
        author=author,
        note=note,
        measured=measured,
        experiment=f"{measured.run_id}/exp_{min(1, measured.experiments):05d}"
        if measured
        else None,
    )


def _with_weights(spec: ScoringSpec, weights: dict[str, int]) -> ScoringSpec:
    """Return the spec with weights of another; bounds give way where they must."""
    data = spec.model_dump(mode="json", by_alias=True)
    for term in spec.terms:
        feature = data["features"][term.feature]
        place = feature if term.bin is None else feature["encode"]["bins"][term.bin]
        weight = weights[term.name]
        place |= {
            "weight": weight,
            "min": min(term.min, weight),
            "max": max(term.max, weight),
        }
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
    if not note.strip():
        raise UsageError("a change that goes live needs a reason", hint="--note WHY")
    # A promotion follows whatever is on record, though another clock dated it later.
    before = _live_spec(journal, spec.model, at=since if kind is EventKind.RECORD else None)
    _refuse_the_same(spec, before)
    now = datetime.now(UTC)
    note_on_clock = clock_note(dated_ahead(journal, now), now)
    later = _dated_after(journal, spec.model, now)
    changes = None
    if before is not None and form_id(before[0]) == form_id(spec):
        old = before[0].weights
        changes = {n: (old[n], w) for n, w in spec.weights.items() if w != old[n]}
    run_id, _, experiment_id = (experiment or "").partition("/")
    event_id = write_event(
        journal,
        kind,
        author=author,
        note=note,
        expect=expect,
        since=since,
        model=spec.model,
        spec_id=specs.spec_id(spec),
        score_id=specs.score_id(spec),
        spec=specs.to_json(spec),
        run_id=run_id or None,
        experiment_id=experiment_id or None,
        details={"recorded_after": later} if later else None,
    )
    return WentLive(
        event_id=event_id,
        model=spec.model,
        since=since,
        author=author,
        note=note,
        expect=expect,
        spec_id=specs.spec_id(spec),
        changes=changes,
        replaced_since=before[1] if before is not None else None,
        experiment=experiment,
        measured=measured,
        notes=(note_on_clock,) if note_on_clock else (),
    )


def _live_spec(
    journal: Path, model: str, *, at: datetime | None
) -> tuple[ScoringSpec, datetime] | None:
    """Return the spec that was live at a moment, and since when; None where none was.

    Without a moment it is the one recorded last, however it is dated.
    """
    try:
        opened = Journal(journal)
    except RunNotFoundError:
        return None
    with opened:
        rows = opened.query(
            "select spec, since from went_live where model = getvariable('model') "
            "and (getvariable('at') is null or since <= getvariable('at')) "
            "order by position desc limit 1",
            model=model,
            at=at,
        ).to_dicts()
    if not rows:
        return None
    try:
        return specs.parse(rows[0]["spec"], source="the live spec"), rows[0]["since"]
    except SpecError:
        return None


def _dated_after(journal: Path, model: str, now: datetime) -> list[str]:
    """Return what went live by clocks ahead of this one, which what is recorded now follows."""
    try:
        opened = Journal(journal)
    except RunNotFoundError:
        return []
    with opened:
        rows = opened.query(
            "select event_id from went_live where model = getvariable('model') "
            "and since > getvariable('now') order by position",
            model=model,
            now=now,
        )
    return rows["event_id"].to_list()


def _measured_as(journal: Path, spec: ScoringSpec) -> str | None:
    """Return ``RUN/EXP`` that measured a spec as it is; None where none did."""
    try:
        opened = Journal(journal)
    except RunNotFoundError:
        return None
    with opened:
        reference = measured_as(opened, spec)
    return None if reference is None else str(reference)


def _refuse_the_same(spec: ScoringSpec, before: tuple[ScoringSpec, datetime] | None) -> None:
    """Refuse what is live already; what only a clock that was ahead says is live isn't."""
    if (
        before is not None
        and before[1] <= datetime.now(UTC)
        and specs.score_id(before[0]) == specs.score_id(spec)
    ):
        raise _live_already(spec, before[1])


def _live_already(spec: ScoringSpec, since: datetime) -> UsageError:
    return UsageError(
        f'"{spec.model}" with these weights and tiers is live already, since '
        f"{since:%Y-%m-%d %H:%M}",
        hint="gtmar log shows what has been live since when",
    )


def _moment(text: str) -> datetime:
    """Read an ISO date or date and time as a moment; without a zone it is this machine's."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None:
        raise UsageError(
            f'--since expects a date such as 2026-03-31, got "{text}"',
            hint=f"--since {date.today():%Y-%m-%d}",
        )
    moment = moment.astimezone(UTC)
    if moment > datetime.now(UTC):
        raise UsageError(f"--since {text} is in the future; only what has happened goes on record")
    return moment
