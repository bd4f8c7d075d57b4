"""The metrics: `formulas` defines each once, `registry` lists and computes them all.

`accounts` offers the same metrics as expressions over a user's own scored table.
"""

from gtmar.metrics.metric import Metric
from gtmar.metrics.registry import Measured, all_metrics, expression, measure

__all__ = ["Measured", "Metric", "all_metrics", "expression", "measure"]
