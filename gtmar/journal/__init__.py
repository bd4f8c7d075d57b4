"""The journal: its format (`schema`, `rows`), the `writer`, and the `catalog` that queries it."""
