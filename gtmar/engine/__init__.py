"""Who computes tallies. `local`: this process; `evaluator`: what a run asks of any."""
