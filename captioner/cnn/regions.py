"""A map of features -> fewer regions: the matrix that takes the means."""

import numpy as np


def region_means(height: int, width: int, side: int) -> np.ndarray:
    """Means over the cells of a coarser grid, as in PyTorch's adaptive pooling.

    Cell `i` of `n` goes from row `i * h // n` up to row `ceil((i + 1) * h / n)`; cells overlap
    where `n` does not divide `h`.

    Returns:
        `(side * side, height * width)`, to be multiplied with the positions of a map.
    """
    return np.kron(_means(height, side), _means(width, side))


def _means(size, cells):
    """`(cells, size)`: rows that take the mean over each cell."""
    means = np.zeros((cells, size), np.float32)
    for cell in range(cells):
        rows = slice(cell * size // cells, -(-(cell + 1) * size // cells))
        means[cell, rows] = 1 / (rows.stop - rows.start)
    return means
