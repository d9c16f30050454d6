"""Captioning of clips whose features are known."""

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from captioner.config import DecodingOptions

BATCH_SIZE = 64


def caption_features(
    engine, features: Sequence[np.ndarray], options: DecodingOptions
) -> list[np.ndarray]:
    """Finds the best sentence for each clip's features, in batches of clips of similar length.

    Args:
        engine: as `captioner.engines.keras_engine.KerasEngine`.
        features: of each clip, `(num_frames, *feature_shape)`.
        options: how to search.

    Returns:
        Token ids of each, PAD after the words.
    """
    order = np.argsort([len(clip) for clip in features], kind="stable")
    said: list[np.ndarray] = [np.zeros(0, np.int32)] * len(features)
    starts = range(0, len(order), BATCH_SIZE)
    for start in tqdm(starts, "captioning", unit="batch", disable=None, leave=False):
        clips = order[start : start + BATCH_SIZE]
        found = engine([features[clip] for clip in clips], options).token_ids[:, 0]
        for clip, token_ids in zip(clips, found, strict=True):
            said[clip] = token_ids
    return said
