"""The engine: weights in, exact sums out, by one process or many, machine code or numpy."""
