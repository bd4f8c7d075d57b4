"""Account tables from raw history: features as they were on a date, outcomes as they came."""
