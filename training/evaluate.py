"""How well a model captions labelled clips, beside those who do not look."""

import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from captioner.errors import DatasetError, VideoError
from captioner.pipeline import Captioner
from captioner.video import read_frames
from captioner.vocabulary import tokenize

from .manifest import LabelledClip
from .metrics import score

BATCH_SIZE = 32


def features_of(captioner: Captioner, clips: Sequence[LabelledClip]):
    """Looks at clips.

    Returns:
        `(clips, features)`: the clips that can be read, and the features of each; for the
        others a line on stderr says why.

    Raises:
        DatasetError: none can be read.
    """
    seen, features = [], []
    for clip in tqdm(clips, unit="clip", disable=None):
        try:
            sample = read_frames(
                clip.path, captioner.sampling.num_frames, captioner.backbone.input_size
            )
        except VideoError as err:
            tqdm.write(str(err), file=sys.stderr)
            continue
        seen.append(clip)
        features.append(captioner.backbone(sample.frames))
    if not seen:
        raise DatasetError("none of the clips can be read; check their paths in the labels")
    return seen, features


def describe_all(captioner: Captioner, features: list[np.ndarray]) -> list[str]:
    """The best sentence for each clip's features, in batches of clips of similar length."""
    order = sorted(range(len(features)), key=lambda clip: len(features[clip]))
    sentences = [""] * len(features)
    for start in tqdm(range(0, len(order), BATCH_SIZE), unit="batch", disable=None):
        batch = order[start : start + BATCH_SIZE]
        result = captioner.engine([features[clip] for clip in batch], captioner.decoding)
        for clip, token_ids in zip(batch, result.token_ids[:, 0], strict=True):
            sentences[clip] = captioner.vocabulary.decode(token_ids)
    return sentences


def evaluate(captioner: Captioner, clips: Sequence[LabelledClip], seed: int = 0) -> dict:
    """Scores a model on labelled clips.

    Args:
        captioner: the model and how it searches.
        clips: what it has not learned from.
        seed: of the shuffling.

    Returns:
        A dict of `num_clips`, and how many more are `unreadable`; `scores`; `shuffled`, the
        scores of the same model given each clip's features for another clip (where they are
        near `scores`, it does not look); the share of captions that are `unique`; their
        `mean_words`; and `clips`, a dict a clip with its caption and its own CIDEr, worst first.
    """
    labelled = clips
    clips, features = features_of(captioner, labelled)
    references = [clip.captions for clip in clips]
    sentences = describe_all(captioner, features)
    scores, cider = score(sentences, references)
    shift = np.random.default_rng(seed).integers(1, max(2, len(clips)))
    others = np.roll(np.arange(len(clips)), shift)
    shuffled, _ = score([sentences[other] for other in others], references)
    rows = [
        {"video": str(clip.path), "caption": sentence, "cider": value, "captions": clip.captions}
        for clip, sentence, value in zip(clips, sentences, cider, strict=True)
    ]
    return {
        "num_clips": len(clips),
        "unreadable": len(labelled) - len(clips),
        "scores": scores,
        "shuffled": shuffled,
        "unique": len(set(sentences)) / len(sentences),
        "mean_words": float(np.mean([len(tokenize(sentence)) for sentence in sentences])),
        "clips": sorted(rows, key=lambda row: row["cider"]),
    }


def most_common_sentence(clips: Sequence[LabelledClip]) -> str:
    """What to say without looking: the sentence that `clips` have most often."""
    counts = Counter(" ".join(tokenize(sentence)) for clip in clips for sentence in clip.captions)
    return counts.most_common(1)[0][0]
