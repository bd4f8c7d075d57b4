"""Who computes tallies. `local`: this process; `evaluator`: what a run asks of any."""

from gtmar.evaluate.evaluator import Evaluator
from gtmar.evaluate.local import LocalEvaluator

__all__ = ["Evaluator", "LocalEvaluator"]
