"""Who computes tallies. `local`: this process."""

from gtmar.evaluate.local import LocalEvaluator

__all__ = ["LocalEvaluator"]
