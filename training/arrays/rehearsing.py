"""Clips that travel with a model, for `training.rehearsal`, drawn from features in memory."""

from typing import TYPE_CHECKING

import numpy as np

from ..rehearsal import NUM_CLIPS, Rehearsal

if TYPE_CHECKING:
    from .bank import Bank  # which needs JAX; drawing clips does not

VIDEO_SHARE = 0.25  # of the clips; a video takes as much room as four pictures


def build_rehearsal(bank: "Bank", network: str, seed: int = 0) -> Rehearsal:
    """Draws clips that do not validate, a quarter of them videos where there are enough.

    Args:
        bank: the items, with features of each as it is.
        network: whose features the model sees.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    videos = rng.permutation(bank.videos)[: round(NUM_CLIPS * VIDEO_SHARE)]
    pictures = rng.permutation(np.concatenate([bank.pictures, bank.titles]))
    drawn = np.concatenate([pictures[: NUM_CLIPS - len(videos)], videos])
    features, rows = bank.features[network], bank.rows[network]
    places, lengths = bank.whole(drawn)
    return Rehearsal.build(
        [np.asarray(features[rows[own[:n]]]) for own, n in zip(places, lengths, strict=True)], seed
    )
