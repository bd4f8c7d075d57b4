"""The metrics, one expression each: `ranking`, `retention`, `concentration`, `scores`; `registry`.

`accounts` has the same for a scored table of one's own.
"""

from gtmar.metrics.registry import Measured, Metric, all_metrics, expression, measure

__all__ = ["Measured", "Metric", "all_metrics", "expression", "measure"]
