"""Statistics over plain arrays; nothing here depends on accounts or specs."""
