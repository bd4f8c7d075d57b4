"""Proposers and the keep-or-revert loop. Code here does no I/O and doesn't use Polars."""
