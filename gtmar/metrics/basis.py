"""What revenue retention rests on: observed end MRR, or MRR that is assumed flat (binary)."""

from __future__ import annotations

__all__ = ["BINARY", "basis_note", "marked"]

#: The basis of a table without end MRR.
BINARY = "binary"
#: Metrics that say something else on either basis.
_ON_BASIS = ("nrr_by_tier", "grr_by_tier", "nrr_at_20")


def basis_note(basis: str | None) -> str | None:
    """Return what to say beside NRR and GRR of this basis; None where it is observed."""
    if basis != BINARY:
        return None
    return (
        "Revenue retention (NRR, GRR) is on the binary basis: MRR is assumed flat for who stays, "
        "so it is logo retention weighted by MRR."
    )


def marked(metric: str, basis: str | None) -> str:
    """Return a metric's name, marked where it is revenue retention on the binary basis.

    Examples
    --------
    >>> marked("nrr_by_tier.A", "binary"), marked("nrr_by_tier.A", "observed")
    ('nrr_by_tier.A (binary)', 'nrr_by_tier.A')
    >>> marked("auc_roc_retain", "binary")
    'auc_roc_retain'
    """
    told = basis == BINARY and metric.partition(".")[0] in _ON_BASIS
    return f"{metric} ({BINARY})" if told else metric
