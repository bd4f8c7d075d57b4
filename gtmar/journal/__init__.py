"""The journal: its format (`schema`, `columns`), the `writer`, and the `catalog` that queries it."""
