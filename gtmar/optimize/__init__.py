"""Proposers and the keep-or-revert loop. No I/O and no clock here, and no Polars."""
