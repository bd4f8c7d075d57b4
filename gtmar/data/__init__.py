"""Account tables: opens any source, validates it by the data contract, encodes and splits it."""
