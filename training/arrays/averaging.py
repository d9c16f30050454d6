"""Averaging of weights that one model had at several moments of its training."""

from collections.abc import Callable, Sequence

import numpy as np

Weights = Sequence[np.ndarray]


def greedy_soup(found: Sequence[tuple[float, Weights]], measure: Callable[[Weights], float]):
    """Finds the mean of some weights that is better than any of them alone, if there is one.

    From the best on, in the order of their quality, each is taken into the mean if that is then
    better (Wortsman et al. 2022, "Model soups", arXiv:2203.05482).

    Args:
        found: the quality of weights, more being better, and the weights; one at least.
        measure: finds the quality of further ones.

    Returns:
        The mean, the quality of it, and of how many it is.
    """
    (best, first), *others = sorted(found, key=lambda one: -one[0])
    taken, mean = [first], list(first)
    for _, weights in others:
        tried = [*taken, weights]
        averaged = [sum(arrays) / len(tried) for arrays in zip(*tried, strict=True)]
        quality = measure(averaged)
        if quality > best:
            taken, best, mean = tried, quality, averaged
    return mean, best, len(taken)
