"""The hot loop on plain arrays: no Polars, no spec, and nothing that isn't an integer in the end.

N accounts, n of them in a part, F features, K candidates, P score places, T tiers, C account codes,
U distinct values of days, L limbs. A *place* is a score value's row in a tally: the score in
hundredths of a point, from 0 up.
"""

from gtmar.kernel.cohorts import LIMB_BITS, Cohorts, Part, limb_count, limbs
from gtmar.kernel.counts import Counts, count
from gtmar.kernel.fused import FusedTable, Workers, compiled_before
from gtmar.kernel.layout import Recipe
from gtmar.kernel.scores import PLACE_BLOCK, add_steps, place_total, raw_scores, score_places
from gtmar.kernel.totals import CASH, Totals

__all__ = [
    "CASH",
    "LIMB_BITS",
    "PLACE_BLOCK",
    "Cohorts",
    "Counts",
    "FusedTable",
    "Part",
    "Recipe",
    "Totals",
    "Workers",
    "add_steps",
    "compiled_before",
    "count",
    "limb_count",
    "limbs",
    "place_total",
    "raw_scores",
    "score_places",
]
