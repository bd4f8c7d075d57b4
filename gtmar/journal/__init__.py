"""The journal: its format (`schema`, `columns`), its `writer`, and its queries (`catalog`)."""
