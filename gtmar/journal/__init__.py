"""The journal: its format (`schema`, `columns`), its `writer`, the `catalog` that queries it."""
