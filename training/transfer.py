"""What a trained model hands on to one that learns more words."""

from collections.abc import Iterable

import keras
import numpy as np

from captioner.model import CaptionModel
from captioner.vocabulary import SPECIAL_TOKENS, Vocabulary


def grow_vocabulary(
    vocabulary: Vocabulary, captions: Iterable[str], min_count: int = 1
) -> Vocabulary:
    """The old words under their old token ids, then the new ones, the most frequent first."""
    said = Vocabulary.build(captions, min_count).tokens[len(SPECIAL_TOKENS) :]
    return Vocabulary([*vocabulary.tokens, *(word for word in said if word not in vocabulary)])


def transfer(base: CaptionModel, model: CaptionModel, seed: int):
    """Gives `model` the weights of `base`, whose shape it has but for further words and motion.

    A new word begins near the mean of the old ones, as likely to be said as their median, and
    motion, where `base` had no `motion_dim`, as nothing, so that all that `base` says stays as it
    was until something is learned.

    Args:
        base: the trained model.
        model: the model that goes on.
        seed: of the small differences between new words.
    """
    rng = np.random.default_rng(seed)
    for old, new in zip(base.weights, model.weights):  # those of motion come last
        values = keras.ops.convert_to_numpy(old)
        num_new = new.shape[0] - len(values)
        if num_new:
            words = values[len(SPECIAL_TOKENS) :]
            shape = (num_new, *values.shape[1:])
            if values.ndim == 1:
                further = np.full(shape, np.median(words))
            else:
                further = words.mean(0) + 0.1 * words.std(0) * rng.normal(size=shape)
            values = np.concatenate([values, further])
        new.assign(values)
