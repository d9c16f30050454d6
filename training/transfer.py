"""What a trained model hands on to one that learns more words."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from captioner.config import DecodingOptions
from captioner.engines.keras_engine import KerasEngine
from captioner.model import CaptionModel
from captioner.model_folder import ModelFolder
from captioner.vocabulary import SPECIAL_TOKENS, Vocabulary, tokenize

from .data.records import Records, read_records
from .work import claim, writing


def grow_vocabulary(
    vocabulary: Vocabulary, captions: Iterable[str], min_count: int = 1
) -> Vocabulary:
    """The old words under their old token ids, then the new ones, the most frequent first."""
    said = Vocabulary.build(captions, min_count).tokens[len(SPECIAL_TOKENS) :]
    return Vocabulary([*vocabulary.tokens, *(word for word in said if word not in vocabulary)])


def permit_repetition(
    decoding: DecodingOptions, captions: Sequence[str], most: float = 0.01
) -> DecodingOptions:
    """A search that can say what people say.

    A base may forbid n-grams that come twice; where more than a share `most` of the captions have
    such ones, the least longer n-grams are forbidden of which that is not so.
    """
    size = decoding.no_repeat_ngram_size
    sentences = [tokenize(caption) for caption in captions]
    while size and np.mean([_repeats(words, size) for words in sentences]) > most:
        size += 1
    return replace(decoding, no_repeat_ngram_size=size)


def _repeats(words, size):
    ngrams = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
    return len(set(ngrams)) < len(ngrams)


def rehearse(base: ModelFolder, replay: Records, folder: Path) -> Records:
    """Clips of the base with what it says of them, instead of what people do.

    One sentence that the base already says holds it to what it was with less to learn than the
    many different ones of people (Kim and Rush 2016, "Sequence-level knowledge distillation").

    Args:
        base: the model that rehearses.
        replay: its clips.
        folder: where its sentences are kept.

    Raises:
        DatasetError: the folder holds those on other clips or of another base, or the disk is full.
    """
    claim(
        folder,
        base.version,
        [(*map(str, clip.files), clip.start, clip.end) for clip in replay.clips],
    )
    file = folder / "said.json"
    if not file.exists():
        said = [""] * len(replay.clips)
        batches, engine = read_records(replay, base.vocabulary, 64), KerasEngine(base.load_model())
        with tqdm(total=len(said), desc="rehearsing", unit="clip", disable=None) as bar:
            for inputs, _ in batches.read():
                lengths = inputs["sequence_length"].numpy()
                features = [row[:n] for row, n in zip(inputs["features"].numpy(), lengths)]
                found = engine(features, base.decoding).token_ids[:, 0]
                for clip, token_ids in zip(inputs["clip"].numpy(), found):
                    said[clip] = base.vocabulary.decode(token_ids)
                bar.update(len(found))
        with writing(folder):
            partial = file.with_suffix(".partial")
            partial.write_text(json.dumps(said))
            partial.replace(file)
    said = json.loads(file.read_text())
    clips = [replace(clip, captions=(one,)) for clip, one in zip(replay.clips, said, strict=True)]
    return replace(replay, clips=clips)


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
