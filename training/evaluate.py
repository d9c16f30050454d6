"""Scores of a model on labelled clips, beside those of baselines that see none of them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from captioner.pipeline import Captioner
from captioner.vocabulary import tokenize

from .captioning import caption_features
from .data.manifest import LabelledClip
from .data.reading import read_clip, readable
from .metrics import score


def features_of(captioner: Captioner, clips: Sequence[LabelledClip]):
    """Extracts features of clips.

    Returns:
        `(clips, features)`: the clips that can be read, and the features of each; for the
        others a line on stderr says why.

    Raises:
        DatasetError: none can be read.
    """
    sampling, size = captioner.sampling, captioner.backbone.input_size

    seen, features = [], []
    for clip, frames in readable(lambda clip: read_clip(clip, sampling, size), clips):
        seen.append(clip)
        features.append(captioner.backbone(frames))
    return seen, features


def evaluate(
    captioner: Captioner,
    clips: Sequence[LabelledClip],
    learned: Sequence[LabelledClip] = (),
    seed: int = 0,
) -> dict:
    """Scores a model on labelled clips.

    Args:
        captioner: the model and how it searches.
        clips: what it has not learned from.
        learned: what it has learned from.
        seed: of the shuffling, and of the clips drawn for the intervals.

    Returns:
        A dict of `num_clips`, and how many more are `unreadable`; `scores`, their 95 %
        `intervals`, and what was `left_out` of them; `shuffled`, the scores of the same model
        given each clip's features for another clip (where they are near `scores`, it does not
        look); `words_used`, how many different words it said, `mean_words` in a caption, and the
        share of captions that are `unique`; with `learned` the share that are `novel`, not said
        there, and the scores of the sentence that is `most_common` there; and `clips`, a dict a
        clip with its caption and its own scores, the worst CIDEr first.
    """
    labelled = clips
    clips, features = features_of(captioner, labelled)
    references = [clip.captions for clip in clips]
    said = caption_features(captioner.engine, features, captioner.decoding)
    sentences = [captioner.vocabulary.decode(token_ids) for token_ids in said]
    scores = score(sentences, references, seed=seed)
    shift = np.random.default_rng(seed).integers(1, max(2, len(clips)))
    others = np.roll(np.arange(len(clips)), shift)
    shuffled = score([sentences[other] for other in others], references, java=False)
    words = [tokenize(sentence) for sentence in sentences]
    result = {
        "num_clips": len(clips),
        "unreadable": len(labelled) - len(clips),
        "scores": scores.corpus,
        "intervals": scores.intervals,
        "left_out": scores.left_out,
        "shuffled": shuffled.corpus,
        "words_used": len({word for sentence in words for word in sentence}),
        "mean_words": float(np.mean([len(sentence) for sentence in words])),
        "unique": len(set(sentences)) / len(sentences),
    }
    if learned:
        said = Counter(" ".join(tokenize(one)) for clip in learned for one in clip.captions)
        most_common = said.most_common(1)[0][0]
        result["novel"] = float(np.mean([" ".join(sentence) not in said for sentence in words]))
        constant = score([most_common] * len(clips), references, java=False)
        result["most_common"] = {"caption": most_common, **constant.corpus}
    rows = [
        {
            **({"frames": [*map(str, clip.frames)]} if clip.frames else {"video": str(clip.path)}),
            "start": clip.start,
            "end": clip.end,
            "caption": sentence,
            "captions": clip.captions,
            **{name: float(values[row]) for name, values in scores.clips.items()},
        }
        for row, (clip, sentence) in enumerate(zip(clips, sentences, strict=True))
    ]
    return {**result, "clips": sorted(rows, key=lambda row: row["cider"])}
