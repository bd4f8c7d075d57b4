"""The table side, all Polars: `scan`, `contract`, `encode`, `matrix`, `profile`."""
