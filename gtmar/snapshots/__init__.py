"""Build account tables from raw history: features as of a date, and the outcomes that followed."""
