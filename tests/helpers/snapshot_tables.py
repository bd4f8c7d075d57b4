"""The account table of one date as `gtmar snapshot` writes it, read back."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar.snapshots.build import build

if TYPE_CHECKING:
    from datetime import date

    from gtmar.snapshots.recipe import SnapshotRecipe

__all__ = ["snapshot_table"]


def snapshot_table(recipe: SnapshotRecipe, day: date, **options: Any) -> pl.DataFrame:
    """Write the table of a date to a folder that is deleted, and read it as a frame.

    The date, which the folder's name has, stands after the id as in the recipe's SELECT. Options
    and errors are those of `build`.
    """
    with tempfile.TemporaryDirectory() as folder:
        build(recipe, folder, days=[day], **options)
        [path] = Path(folder).glob("*/accounts.parquet")
        frame = pl.read_parquet(path, hive_partitioning=False)
    return frame.insert_column(1, pl.lit(day).alias("features_asof"))
