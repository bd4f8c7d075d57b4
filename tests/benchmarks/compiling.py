"""What compiling takes, in processor time: kernel and proposer, into a fresh cache.

Run it from the checkout: ``python tests/benchmarks/compiling.py``. For two checkouts, take turns.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    root = Path(__file__).parents[2]
    sys.path[:0] = [str(root), str(root / "tests" / "helpers")]
    with tempfile.TemporaryDirectory() as cache:
        os.environ["NUMBA_CACHE_DIR"] = cache
        import numba
        import tables

        from gtmar import spec as specs
        from gtmar.data.synthetic import generate
        from gtmar.engine.local import LocalEvaluator
        from gtmar.optimize import surrogate

        spec = specs.load(root / "tests" / "golden" / "fixed_edges.yaml")
        matrix = tables.loaded(generate("health_score", accounts=300, seed=4), spec).search
        began = time.process_time()
        LocalEvaluator(matrix, spec, compiled=True).sums([[term.weight for term in spec.terms]])
        between = time.process_time()
        surrogate.MACHINE_CODE.compile()
        kernel, proposer = between - began, time.process_time() - between
        print(f"kernel {kernel:.1f} s, proposer {proposer:.1f} s, numba {numba.__version__}")


if __name__ == "__main__":
    main()
