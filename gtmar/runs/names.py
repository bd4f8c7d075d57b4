"""What names a spec or an experiment, resolved: a spec itself, its file, RUN/EXP, latest, live."""

from __future__ import annotations

from pathlib import Path

from gtmar import spec as specs
from gtmar.documents import is_spec_file
from gtmar.journal.catalog import Journal
from gtmar.journal.lookup import checkout, resolve
from gtmar.spec.model import ScoringSpec

__all__ = ["run_or_experiment", "spec_of"]


def spec_of(spec: ScoringSpec | str | Path, journal: str | Path) -> ScoringSpec:
    """Return a spec that is given as itself, as its file, or as an experiment in the journal.

    Raises
    ------
    SpecError, RunNotFoundError, JournalError
        If it can't be read, or isn't there.
    """
    if isinstance(spec, ScoringSpec):
        return spec
    if isinstance(spec, Path) or is_spec_file(spec):
        return specs.load(spec)
    with Journal(journal) as opened:
        return checkout(opened, spec)


def run_or_experiment(name: str | None, journal: str | Path) -> str:
    """Return the full id of a run, or of its experiment where one is named: ``RUN/EXP``.

    None names the last search.
    """
    with Journal(journal) as opened:
        return str(resolve(opened, name)) if name and "/" in name else opened.run_id(name)
