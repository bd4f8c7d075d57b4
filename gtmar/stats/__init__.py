"""Statistics over plain arrays, which know nothing of accounts or specs."""
