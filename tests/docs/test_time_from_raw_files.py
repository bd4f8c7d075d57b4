"""The commands of the guide on time lead from raw files to a walk and a watched score."""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path

import pytest
from commands import printed

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "from_history"
ORDERS = ROOT.parent / "shared" / "history" / "cdnow_orders.parquet"
SECTION = "\n## From raw files to a watched score\n"

pytestmark = pytest.mark.slow


def fenced(language: str) -> list[str]:
    page = (ROOT / "docs" / "time.md").read_text("utf-8")
    section = page.partition(SECTION)[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def test_a_software_products_raw_files_lead_to_a_watched_score(tmp_path: Path) -> None:
    runpy.run_path(str(EXAMPLE / "generate.py"))["write"](tmp_path)
    for name in ("snapshots.yaml", "spec.yaml"):
        shutil.copy(EXAMPLE / name, tmp_path)
    said = [printed(line, tmp_path) for line in fenced("text")[0].splitlines()]
    assert said[1].startswith("Re-tuning on each date would have paid, on 1 of 1 date: ")
    assert "Holds on the accounts of 2025-01-01: of 100 pairs" in said[-1]
    assert "auc_roc_retain of at least 0.75 was expected, and is so" in said[-1]


@pytest.mark.skipif(not ORDERS.exists(), reason="the log of orders is not at hand")
def test_a_shops_log_of_orders_leads_to_a_walk_and_a_watched_score(tmp_path: Path) -> None:
    recipe = fenced("yaml")[0].replace("cdnow_orders.parquet", str(ORDERS))
    (tmp_path / "snapshots.yaml").write_text(recipe, "utf-8")
    said = [printed(line, tmp_path) for line in fenced("text")[1].splitlines()]
    walked = said[2]
    assert walked.startswith("Re-tuning on each date would have paid, on 3 of 4 dates: ")
    assert "9,526 accounts on 4 dates" in walked
    gains = dict(re.findall(r"^(alone|tuned once) +([+-]\d\.\d+)", walked, re.MULTILINE))
    assert float(gains["alone"]) == pytest.approx(0.007, abs=0.002)
    assert float(gains["tuned once"]) == pytest.approx(-0.003, abs=0.002)
    assert "Weights tuned once, on the first date, would have been better: +0.0" in walked
    assert said[-1].startswith("first_spec: Holds on the accounts of 1998-04-01: ")
    assert "a backtest, no forecast" in said[-1]
