"""A spec's probability of leaving, fitted anew on a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Unpack

from gtmar import spec as specs
from gtmar.data.scan import scan
from gtmar.engine.equal_sizes import with_edges
from gtmar.errors import AccountDataError
from gtmar.plain_data import PlainData
from gtmar.runs.inputs import load
from gtmar.validation.reliability import Reliability, calibrated, reliability

if TYPE_CHECKING:
    from pathlib import Path

    from gtmar.data.scan import Tabular
    from gtmar.runs.inputs import TableOptions
    from gtmar.spec.calibration import Calibration
    from gtmar.spec.model import ScoringSpec

__all__ = ["Calibrated", "calibrate"]


@dataclass(frozen=True)
class Calibrated(PlainData):
    """A spec with the table of probabilities that was fitted, and how it did where it was not."""

    _left_out = ("spec", "counted")

    spec: ScoringSpec = field(repr=False)
    calibration: Calibration
    source: str
    #: On the accounts that the spec's split holds out; None where it holds out none.
    held_out: Reliability | None
    #: What the table's counts are of: `accounts`, or `rows` where an account has several.
    counted: str = "accounts"

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return super().as_json() | {"accounts": self.calibration.accounts}


def calibrate(
    data: Tabular, spec: ScoringSpec | str | Path, **table_options: Unpack[TableOptions]
) -> Calibrated:
    """Fit how many of the accounts with such a score leave, on the accounts that may be searched.

    Parameters
    ----------
    data
        The account table, with outcomes.
    spec
        The scoring spec, or its file; weights and tiers stay.
    table_options
        As for `run`.

    Raises
    ------
    AccountDataError
        If the table breaks the contract, or everybody left, or nobody did.
    """
    given = specs.reading_dates(spec, table_options.get("date_format"))
    table = scan(data)
    accounts, _ = load(table, given, **table_options)
    edged = given if given.has_edges else with_edges(given, accounts.search)
    fitted = calibrated(accounts.search, edged, datetime.now(UTC).date())
    if fitted is None:
        raise AccountDataError(
            f"{table.source}: a probability needs accounts that left and accounts that stayed; "
            "one of the two is missing",
            hint="gtmar check says which outcomes the table has",
        )
    spec = edged.model_copy(update={"calibration": fitted})
    held_out = None if accounts.holdout is None else reliability(accounts.holdout, spec)
    counted = "rows" if accounts.search.dates else "accounts"
    return Calibrated(spec, fitted, table.source, held_out, counted)
