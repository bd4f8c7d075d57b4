"""Keep-or-revert research on account scores, with a journal that remembers every experiment."""

__version__ = "0.1.0"
