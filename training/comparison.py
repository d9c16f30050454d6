"""What a new model and its base say of clips that the new one has not learned from."""

import sys
from collections.abc import Sequence

import numpy as np

from captioner.vocabulary import tokenize

from .data.manifest import LabelledClip
from .data.records import Records
from .judgement import Judgement, judge
from .teaching import Teaching

FOLDS, HELD_OUT = 3, 10  # parts of few clips; one of so many of more clips


def compare(teaching: Teaching) -> Judgement:
    """Compares a model that was taught with its base.

    The clips are those of the split val. Without any the ones to learn from are parted into
    `FOLDS`, and what is said of each part is said by a model that learned from the other parts, as
    long and as hard; the model then has the weights that it had.
    """
    if teaching.validation is not None:
        pairs = _pairs(teaching, teaching.validation)
    else:
        pairs = _cross_validate(teaching)
    others = (), ()
    if teaching.judged is not None:
        features = teaching.judged.features()
        said = zip(teaching.base.caption(features), teaching.caption(features))
        # Of a clip with what is now called by a name, another sentence is no harm.
        kept = [both for both in said if not teaching.replaced & set(tokenize(both[0]))]
        others = tuple(zip(*kept)) or others
    taught = [
        caption for one in teaching.records for clip in one.clips for caption in clip.captions
    ]
    return judge(pairs, taught, others, teaching.names, teaching.options.seed)


def _cross_validate(teaching: Teaching) -> list[dict]:
    pairs, records, weights = [], teaching.records, teaching.model.get_weights()
    parts = [parted(one.clips, FOLDS, teaching.options.seed) for one in records]
    for number in range(FOLDS):
        tested = [one.select(np.flatnonzero(part == number)) for one, part in zip(records, parts)]
        kept = [one.select(np.flatnonzero(part != number)) for one, part in zip(records, parts)]
        if not all(one.clips for one in kept) or not any(one.clips for one in tested):
            continue
        print(f"captioner: judging, part {number + 1} of {FOLDS}", file=sys.stderr)
        teaching.fit(kept, f"-part-{number + 1}")
        for one in tested:
            pairs += _pairs(teaching, one) if one.clips else []
    teaching.model.set_weights(weights)
    return pairs


def _pairs(teaching: Teaching, records: Records) -> list[dict]:
    features = teaching.features(records)
    said = zip(records.clips, teaching.base.caption(features), teaching.caption(features))
    return [
        {
            "video": str(clip.path),
            "start": clip.start,
            "end": clip.end,
            "wanted": list(clip.captions),
            "old": old,
            "new": new,
        }
        for clip, old, new in said
    ]


def hold_out(
    learned: Sequence[Sequence[LabelledClip]], seed: int
) -> tuple[list[list[LabelledClip]], list[LabelledClip]]:
    """Moves one of `HELD_OUT` videos, with all of its clips, to what a model is judged on."""
    print(
        f"captioner: no row has the split val: one of {HELD_OUT} videos is held out, to judge the "
        "new model on",
        file=sys.stderr,
    )
    pairs = [[*zip(part, parted(part, HELD_OUT, seed))] for part in learned]
    return (
        [[clip for clip, part in pair if part] for pair in pairs],
        [clip for pair in pairs for clip, part in pair if not part],
    )


def parted(clips: Sequence[LabelledClip], num_parts: int, seed: int) -> np.ndarray:
    """The part that each clip belongs to, `(num_clips,)`; those of a video to the same one."""
    videos = {clip.files: None for clip in clips}
    order = np.random.default_rng(seed).permutation(len(videos)) % num_parts
    parts = dict(zip(videos, order.tolist()))
    return np.array([parts[clip.files] for clip in clips])
