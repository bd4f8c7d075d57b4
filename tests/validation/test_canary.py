"""Nothing of the holdout reaches the search: whatever stands in it, the search goes its way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

from gtmar import runs
from gtmar.autospec.first_spec import first_spec
from gtmar.data import synthetic
from gtmar.data.scan import scan
from gtmar.data.split import holdout_mask
from gtmar.validation.gates import Verdict

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_a_canary_in_the_holdout_stays_unseen_from_init_to_decide(tmp_path: Path) -> None:
    table = synthetic.generate("health_score", accounts=1_800, seed=8)
    held = pl.Series(holdout_mask(table["account_id"], share=0.3, salt="gtmar"))
    # In the holdout a feature tells the outcome outright, the wrong way round.
    told = pl.when(held).then(1 - pl.col("retained_6mo").fill_null(0)).otherwise("session_depth")
    sung = table.with_columns(session_depth=told.cast(table.schema["session_depth"]))
    found = {}
    for name, accounts in (("plain", table), ("sung", sung)):
        journal = tmp_path / name
        made = first_spec(scan(accounts))
        search = runs.run(accounts, made.spec, limits=runs.Limits(40), seed=0, journal=journal)
        verdict = runs.decide(search.run_id, data=accounts, journal=journal).verdict
        steps = search.weights, search.best_value, search.wins, search.experiments
        found[name] = (made.text, steps, search.digest), verdict
    assert found["plain"][0] == found["sung"][0]
    # And it is there: the decision alone meets it.
    assert found["plain"][1] is Verdict.READY
    assert found["sung"][1] is Verdict.KEEP
