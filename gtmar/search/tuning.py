"""The numbers that `learned` was tuned to, in one place for numpy and machine code.

Machine code takes them as an argument: numba doesn't see that a number of another module has
changed, and would go on with what it compiled in. Nor does it see that fields have changed places:
whoever moves one, here or in `planning.Knowledge`, changes the modules of `compiled` too.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["TUNING", "Tuning"]


class Tuning(NamedTuple):
    """What proposals depend on besides results and chance. Any change makes other searches."""

    #: Proposals made on the same knowledge, and samples of surface and fence.
    block: int = 8
    #: Moves drawn by chance: to be ranked, and beside them.
    ranked: int = 200
    spare: int = 32
    #: How many results, the nearest to the incumbent and itself, a surface is fitted to.
    fitted: int = 64

    #: A pivot below this means a matrix that isn't positive definite.
    smallest_pivot: float = 1e-9
    #: How much of a change of all weights by one factor counts: most objectives hardly see it.
    scale_share: float = 0.1
    #: Shortest length that an incumbent is taken to have, in points.
    shortest: float = 3.0

    # Prior variances of a surface: of slopes, of curvatures of any direction, of those of single
    # weights on top; and the curvature expected, downwards, all in units of its amplitude.
    slope: float = 1.0
    curvature: float = 0.2
    own_curvature: float = 0.5
    expected: float = 1.0
    #: What a quadratic surface gets wrong: at no distance, and per cube of the distance.
    near_error: float = 0.001
    far_error: float = 0.15
    #: Spread of the samples, as a share of what is really unknown.
    boldness: float = 0.3

    # A fence: prior spread of its slope, error of a label, spread of its samples.
    fence_slope: float = 5.0
    fence_error: float = 0.1
    fence_boldness: float = 0.5
    #: Fits at most, until the candidates near the fence are found.
    fence_rounds: int = 4

    #: Damping of steps: the first that is enough for the radius, or the last times fours.
    damping: tuple[float, float, float] = (0.02, 0.5, 5.0)
    #: A typical step may be this times the radius before it is shortened.
    over_radius: float = 1.5
    #: How far inside a fence steps should end, and how much all weights may grow or shrink by one.
    margin: float = 0.2
    most_scaling: float = 0.15
    #: Least factor by which a step is shortened to fit into bounds, before it is cut at them.
    least_fit: float = 0.7


TUNING = Tuning()
