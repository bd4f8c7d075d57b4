"""What results say about the neighbourhood of an incumbent: a quadratic surface, and a fence.

Every number here comes from additions, multiplications, divisions and square roots of doubles in a
stated order, element by element. Matrix products of numerical libraries, sums of arrays and
logarithms differ in their last digits from build to build, and a search would go another way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gtmar.optimize.hill_climb import TUNING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]

__all__ = [
    "Fence",
    "Frame",
    "Surface",
    "length",
    "product",
    "solved",
    "total",
]


def total(values: Doubles) -> Doubles:
    """Add along the first axis, by halves: an order that no library or processor changes."""
    count = len(values)
    if not count:
        return np.zeros(values.shape[1:])
    while count > 1:
        half = count // 2
        added = values[:half] + values[half : 2 * half]
        if count % 2:
            added[0] += values[-1]
        values, count = added, half
    return values[0]  # type: ignore[no-any-return]  # a row of an array of doubles


def product(left: Doubles, right: Doubles) -> Doubles:
    """Return the matrix product, shapes (A, K) and (K, B)."""
    return total(left.T[:, :, None] * right[:, None, :])


def length(columns: Doubles) -> Doubles:
    """Return the Euclidean length of each column, shape (A, B)."""
    return np.sqrt(total(columns * columns))


def solved(matrix: Doubles, right: Doubles) -> Doubles | None:
    """Solve a symmetric positive definite system by elimination.

    Parameters
    ----------
    matrix, right
        Shapes (A, A) and (A, B).

    Returns
    -------
    ndarray or None
        Shape (A, B); None where the matrix isn't positive definite.
    """
    size = len(matrix)
    # Transposed, so that what is left to do lies in one piece.
    work = np.concatenate([matrix, right.T])
    scratch = np.empty_like(work)
    for step in range(size):
        pivot = work[step, step]
        if not pivot > TUNING.smallest_pivot:
            return None
        rest, change = work[step + 1 :], scratch[step + 1 :]
        column = rest[:, step] / pivot
        np.multiply(column[:, None], work[step], out=change)
        np.subtract(rest, change, out=rest)
        rest[:, step] = column
    return work[size:].T


@dataclass(frozen=True)
class Frame:
    """Coordinates round an incumbent of F weights, in units of its own length.

    A vector is first brought to the incumbent's length; what was lost by that comes back in part,
    along the incumbent's direction. So a change of all weights by one factor is a small step.

    Parameters
    ----------
    center
        The incumbent, shape (F,).
    size
        Its length, in points.
    unit
        Its direction, shape (F,).
    """

    center: Doubles
    size: float
    unit: Doubles

    @classmethod
    def at(cls, weights: Doubles) -> Frame:
        """Take an incumbent as the origin."""
        size = max(float(length(weights[:, None])[0]), TUNING.shortest)
        return cls(weights, size, weights / size)

    def coordinates(self, vectors: Doubles) -> Doubles:
        """Return where vectors lie, both of shape (F, K)."""
        sizes = np.maximum(length(vectors), 1e-9)
        moved = (vectors * (self.size / sizes) - self.center[:, None]) / self.size
        return moved + (TUNING.scale_share * (sizes - self.size) / self.size) * self.unit[:, None]

    def softened(self, slopes: Doubles) -> Doubles:
        """Turn slopes in these coordinates into slopes per step of weights, shape (F, K)."""
        along = total(self.unit[:, None] * slopes)
        return slopes - (1 - TUNING.scale_share) * self.unit[:, None] * along


@dataclass(frozen=True)
class Surface:
    """Quadratic surfaces through what is known of the objective, more being better.

    Parameters
    ----------
    slopes
        At the incumbent, shape (F, B): B samples of what they may be.
    curvature
        Second derivatives, shape (F, F).

    Notes
    -----
    A Gaussian process with a quadratic kernel: slopes, curvatures and those of single weights have
    independent priors. Samples come from prior draws corrected by the data, so that they differ
    where little is known and agree where much is.
    """

    slopes: Doubles
    curvature: Doubles

    @classmethod
    def through(cls, places: Doubles, values: Doubles, draws: tuple[Doubles, Doubles]) -> Surface:
        """Fit to K results.

        Parameters
        ----------
        places
            Coordinates, shape (F, K).
        values
            The objective, shape (K,), more being better.
        draws
            Standard normal numbers, shapes (F, B) and (K, B).
        """
        squares = places * places
        reach = total(squares)
        inner = product(places.T, places)
        error = TUNING.near_error**2 + TUNING.far_error**2 * reach * reach * reach
        kernel = inner * (TUNING.slope + TUNING.curvature / 2 * inner)
        kernel += TUNING.own_curvature / 4 * product(squares.T, squares)
        index = np.arange(len(values))
        kernel[index, index] += error

        expected = -0.5 * TUNING.expected * reach
        base = values[reach.argmin()] if len(values) else 0.0
        slopes = draws[0] * TUNING.boldness
        guesses = product(places.T, slopes) + draws[1] * TUNING.boldness * np.sqrt(error)[:, None]
        right = np.concatenate([(values - base)[:, None], expected[:, None], guesses], axis=1)
        # The errors on the diagonal keep every pivot above zero.
        parts = solved(kernel, right)
        assert parts is not None
        mean = parts[:, 0] / _amplitude(values - base, expected, parts) - parts[:, 1]
        slopes = slopes + TUNING.slope * product(places, mean[:, None] - parts[:, 2:])
        curvature = TUNING.curvature * product(places * mean, places.T)
        diagonal = np.arange(len(places))
        curvature[diagonal, diagonal] += (
            TUNING.own_curvature / 2 * total((squares * mean).T) - TUNING.expected
        )
        return cls(slopes, curvature)

    def heights(self, places: Doubles) -> Doubles:
        """Return the samples' values over the incumbent's, shape (B, K) for places (F, K)."""
        bent = 0.5 * total(places * product(self.curvature, places))
        return product(self.slopes.T, places) + bent


def _amplitude(values: Doubles, expected: Doubles, parts: Doubles) -> float:
    """Return the unit in which values are measured: the likeliest, given the prior."""
    own, mixed = float(total(values * parts[:, 0])), float(total(values * parts[:, 1]))
    room = len(values) - float(total(expected * parts[:, 1]))
    room = max(room, len(values) / 4)
    found = float((np.sqrt(max(mixed * mixed + room * own, 0.0)) - mixed) / room) if room else 0.0
    return found if found > 0 else 1.0


@dataclass(frozen=True)
class Fence:
    """Where guardrails begin, as far as blocked candidates tell: linear, above 0 inside.

    Parameters
    ----------
    levels
        At the incumbent, shape (B,): B samples.
    slopes
        Shape (F, B).
    """

    levels: Doubles
    slopes: Doubles

    @classmethod
    def between(cls, places: Doubles, kept: Doubles, draws: tuple[Doubles, Doubles]) -> Fence:
        """Fit to candidates that were better.

        Parameters
        ----------
        places
            Differences to the incumbent in its units, shape (F, K).
        kept
            1 where it was kept, -1 where guardrails blocked it, shape (K,).
        draws
            Standard normal numbers, shapes (1 + F, B) and (K, B).
        """
        rows = np.concatenate([np.ones((1, places.shape[1])), places])
        prior = np.full(len(rows), TUNING.fence_slope**-2)
        prior[0] = 1.0
        goal = np.zeros(len(rows))
        goal[0] = 1.0
        near = np.ones(len(kept))
        # Candidates well on their own side say no more about the fence.
        for _ in range(TUNING.fence_rounds):
            system = product(rows * (near / TUNING.fence_error**2), rows.T) + np.diag(prior)
            right = total((rows * (near * kept / TUNING.fence_error**2)).T) + goal
            found = solved(system, right[:, None])
            assert found is not None
            closer = (kept * total(rows * found) < 1).astype(np.float64)
            if (closer == near).all():
                break
            near = closer
        noise = kept[:, None] + TUNING.fence_boldness * TUNING.fence_error * draws[1]
        spread = TUNING.fence_boldness * np.sqrt(prior)[:, None] * draws[0]
        right = product(rows * (near / TUNING.fence_error**2), noise) + goal[:, None] + spread
        found = solved(
            product(rows * (near / TUNING.fence_error**2), rows.T) + np.diag(prior), right
        )
        assert found is not None
        return cls(found[0], found[1:])

    def margins(self, places: Doubles) -> Doubles:
        """Return how far inside differences to the incumbent lie, shape (B, K) for (F, K)."""
        return product(self.slopes.T, places) + self.levels[:, None]
