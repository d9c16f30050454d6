"""Linear probe: how well captions' words can be predicted from a backbone's features alone."""

from collections.abc import Sequence

import numpy as np

from captioner.cnn import Backbone
from captioner.config import SamplingOptions
from captioner.errors import CaptionerError

from ..data.manifest import LabelledClip
from ..data.reading import read_clip, readable
from .words import words_said

try:
    from sklearn.linear_model import Ridge
    from sklearn.metrics import average_precision_score
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.preprocessing import StandardScaler
except ImportError as err:
    raise CaptionerError(
        "probing needs scikit-learn; install it: pip install 'captioner[evaluate]'"
    ) from err

PENALTIES = (100, 300, 1000, 3000, 10000)
RAREST, COMMONEST = 0.02, 0.5  # share of the pictures whose captions have a word that counts
GROUP = 64  # frames in a batch


def features_of(
    backbone: Backbone, clips: Sequence[LabelledClip]
) -> tuple[list[LabelledClip], np.ndarray]:
    """Extracts features of the frame in the middle of each clip.

    Returns:
        The clips that can be read, and the mean over the regions of each,
        `(num_clips, feature_dim)`; for the others a line on stderr says why.

    Raises:
        DatasetError: none can be read.
    """

    seen, frames, features = [], [], []
    for clip, found in readable(
        lambda clip: read_clip(clip, SamplingOptions(1), backbone.input_size), clips
    ):
        seen.append(clip)
        frames.append(found)
        if len(frames) == GROUP:
            features.append(backbone(np.concatenate(frames)))
            frames = []
    if frames:
        features.append(backbone(np.concatenate(frames)))
    features = np.concatenate(features)
    return seen, features.reshape(len(seen), -1, features.shape[-1]).mean(1)


def word_precision(
    features: np.ndarray, captions: Sequence[Sequence[str]], seed: int = 0
) -> dict[str, float]:
    """Predicts from features which words people say of pictures.

    Ridge regression in five folds from the square roots of the features, standardised, to each
    word that neither few nor most pictures have; the penalty is the best of `PENALTIES`.

    Args:
        features: not negative, `(num_pictures, feature_dim)`.
        captions: of each picture.
        seed: of the folds and of the guessing.

    Returns:
        `num_words`; `word_map`, the mean over words of the average precision at which the
        predictions rank the pictures; and `chance`, that of random numbers.
    """
    words, truth = words_said(captions, RAREST, COMMONEST)
    standardised = StandardScaler().fit_transform(np.sqrt(features))
    folds = KFold(5, shuffle=True, random_state=seed)

    def mean_average_precision(scores):
        return float(average_precision_score(truth, scores, average="macro"))

    predictions = (
        cross_val_predict(Ridge(penalty), standardised, truth.astype(float), cv=folds)
        for penalty in PENALTIES
    )
    chance = np.random.default_rng(seed).random(truth.shape)
    return {
        "num_words": len(words),
        "word_map": max(map(mean_average_precision, predictions)),
        "chance": mean_average_precision(chance),
    }
