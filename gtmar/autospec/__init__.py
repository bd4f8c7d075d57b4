"""A first spec for a table: which columns become features, how encoded, and which rules pay."""
