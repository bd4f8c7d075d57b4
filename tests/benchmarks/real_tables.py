"""From ``gtmar init`` to the holdout on real tables, nothing edited by hand.

Run it with their folder: ``python tests/benchmarks/real_tables.py FOLDER``. Every Parquet
file in it is profiled, searched for 2,000 experiments with seed 0, and judged on its holdout.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from gtmar import runs
from gtmar.autospec.first_spec import first_spec
from gtmar.data.scan import scan


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=2_000)
    arguments = parser.parse_args()
    print("| table | accounts | features | search: start | best | holdout: start | best | better |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    for path in sorted(arguments.folder.glob("*.parquet")):
        spec = first_spec(scan(path)).spec
        with tempfile.TemporaryDirectory() as journal:
            found = runs.run(path, spec, limits=runs.Limits(arguments.n), journal=journal)
        held = found.holdout or {}
        searched = found.metrics["scored"]
        print(
            f"| {path.stem} | {searched:,} + {held['accounts']:,} | {len(spec.features)} "
            f"| {found.baseline_value:.4f} | {found.best_value:.4f} "
            f"| {held['baseline_value']:.4f} | {held['best_value']:.4f} "
            f"| {'yes' if held['improved'] else 'no'} |"
        )


if __name__ == "__main__":
    main()
