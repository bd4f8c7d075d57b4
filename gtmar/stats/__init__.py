"""Statistics over plain arrays; nothing here depends on accounts or specs."""

__all__ = ["LEAST"]

#: Accounts below which a ratio of sums has no interval. It stands here, since sentences about few
#: accounts need it where numpy isn't imported.
LEAST = 50
