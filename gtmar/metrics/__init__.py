"""The metrics: `formulas` has each once, `registry` lists and computes all.

`accounts` has the same for a scored table of one's own.
"""

from gtmar.metrics.metric import Metric
from gtmar.metrics.registry import Measured, all_metrics, expression, measure

__all__ = ["Measured", "Metric", "all_metrics", "expression", "measure"]
