"""What a trained model hands on to one that goes on from it: words, weights, what it knows."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

import keras
import numpy as np
from keras import ops

from captioner.config import DecodingOptions
from captioner.engines.keras_engine import KerasEngine, pad
from captioner.model import CaptionModel
from captioner.model_folder import ModelFolder
from captioner.reranker import RerankingEngine
from captioner.vocabulary import PAD_ID, SPECIAL_TOKENS, UNKNOWN_ID, Vocabulary, tokenize

from .captioning import caption_features
from .data.manifest import LabelledClip
from .data.records import Batches
from .judgement import FUNCTION_WORDS
from .rehearsal import Recollection, Rehearsal

GROUP = 64  # clips that are read at once
# A new word's log-probability at the start, where it is said and where it is not; how far the fit
# is drawn to 0; places it is fitted on; its mean probability where it is not said, at most, for
# each clip that has it.
SAID, UNSAID, RIDGE, MOST_PLACES, MOST_UNSAID = 1.0, -6.0, 0.03, 6000, 1e-4
LEAST_CLIPS, MOST_CONTRADICTED = 3, 0.2  # see `names_in`, `contradicted`


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


def transfer(base: CaptionModel, model: CaptionModel, seed: int):
    """Gives `model` the weights of `base`, whose shape it has but for further words and motion.

    A new word begins near the mean of the old ones, as likely to be said as their median (see also
    `imprint`), and motion, where `base` had no `motion_dim`, as nothing, so that all that `base`
    says stays as it was until something is learned.

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


class Base:
    """A trained model that others go on from.

    Attributes:
        folder: its model folder.
        model: the model.
        recalled: what `recall` found last.
    """

    def __init__(self, folder: ModelFolder):
        self.folder, self.model = folder, folder.load_model()
        self.recalled: Recollection | None = None
        self._engine = RerankingEngine.of(KerasEngine(self.model), folder.path)
        self._expect = self.model.expect
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            self._expect = tf.function(self._expect, reduce_retracing=True)

    @property
    def greedily(self) -> DecodingOptions:
        """Its search, but for the beam."""
        return replace(self.folder.decoding, beam_size=1)

    def caption(
        self, features: Sequence[np.ndarray], options: DecodingOptions | None = None
    ) -> list[str]:
        """What it says of clips' features, as people read it; by default as it is used."""
        said = caption_features(self._engine, features, options or self.folder.decoding)
        return [self.folder.vocabulary.decode(token_ids) for token_ids in said]

    def expect(self, features, sequence_length, token_ids) -> np.ndarray:
        """As `CaptionModel.expect`; words that it does not know are unknown to it."""
        known = np.where(token_ids < self.model.config.vocab_size, token_ids, UNKNOWN_ID)
        inputs = {"features": features, "sequence_length": sequence_length, "token_ids": known}
        inputs = {name: ops.convert_to_tensor(values) for name, values in inputs.items()}
        return ops.convert_to_numpy(self._expect(inputs)).astype(np.float32)


def recall(base: Base, rehearsal: Rehearsal) -> Recollection:
    """Has a base caption the clips that travel with it, once if they are the same as before."""
    if base.recalled and np.array_equal(base.recalled.rehearsal.codes, rehearsal.codes):
        return base.recalled
    features = rehearsal.features()
    sentences = base.caption(features, base.greedily)
    encoded = [base.folder.vocabulary.encode(sentence) for sentence in sentences]
    token_ids = np.full((len(encoded), max(map(len, encoded))), PAD_ID, np.int32)
    for row, ids in zip(token_ids, encoded):
        row[: len(ids)] = ids
    vectors = np.zeros((*token_ids.shape, base.model.config.embedding_dim), np.float32)
    num_frames = rehearsal.num_frames
    for start in range(0, len(rehearsal), GROUP):
        clips = np.argsort(num_frames, kind="stable")[start : start + GROUP]
        batch = np.stack([pad(features[clip], num_frames[clips].max()) for clip in clips])
        vectors[clips] = base.expect(batch, num_frames[clips], token_ids[clips])
    base.recalled = Recollection(rehearsal, sentences, token_ids, vectors)
    return base.recalled


def names_in(clips: Sequence[LabelledClip], vocabulary: Vocabulary, base: Base) -> tuple[int, ...]:
    """Token ids of words that a base does not know, and that are said of `LEAST_CLIPS` or more.

    Of such a word there is enough to learn where it belongs. One that is said once is not worth
    what is lost when it is said elsewhere.
    """
    said = Counter(
        token_id
        for clip in clips
        for token_id in set(chain.from_iterable(map(vocabulary.encode, clip.captions)))
    )
    num_old = base.model.config.vocab_size
    return tuple(sorted(w for w, count in said.items() if w >= num_old and count >= LEAST_CLIPS))


def contradicted(
    said: Sequence[str], corrections: Sequence[str], base: Vocabulary, recollection: Recollection
) -> frozenset[str]:
    """Words of the base in whose place a new word has come: "dog", where the dog is now called Rex.

    What the base says with them is not rehearsed, or it would hold against what is taught. Such a
    word is taken out of the sentences of at least half of the clips, three or more, whose
    corrections have the same new word; one that the base says of a fifth of all clips is not given
    up.

    Args:
        said: what the base says of each corrected clip.
        corrections: what is said of it now.
        base: the words of the base.
        recollection: what the base says of other clips.
    """
    owners: dict[str, list[int]] = {}
    words = [(set(tokenize(old)), set(tokenize(new))) for old, new in zip(said, corrections)]
    for clip, (_, new) in enumerate(words):
        for word in new - set(base.tokens):
            owners.setdefault(word, []).append(clip)
    found = set()
    for clips in owners.values():
        counts = Counter(word for clip in clips for word in words[clip][0] - words[clip][1])
        least = max(LEAST_CLIPS, len(clips) / 2)
        found |= {word for word, count in counts.items() if count >= least}
    everywhere = Counter(w for one in recollection.sentences for w in set(tokenize(one)))
    most = MOST_CONTRADICTED * len(recollection.sentences)
    return frozenset(word for word in found - FUNCTION_WORDS if everywhere[word] <= most)


def imprint(
    model: CaptionModel,
    base: Base,
    batches: Batches,
    known: Recollection | None,
    names: Sequence[int],
    seed: int,
):
    """Gives new words embeddings with which they are said where they were said, and not elsewhere.

    The embedding and the bias of a word are a linear classifier of the vectors that its model
    expects (`CaptionModel.expect`); so they begin as the least-squares fit of one, on the places of
    the corrections and of what the base says of other clips (after Qi et al. 2018, "Low-shot
    learning with imprinted weights"). The rest of the model learns from there.

    Args:
        model: has the weights of `base` and more words.
        base: what it went on from.
        batches: the corrections.
        known: what `base` says of other clips.
        names: token ids of the words.
        seed: of the places drawn.
    """
    num_old = base.model.config.vocab_size
    if not names:
        return
    vectors, levels, words = [], [], []
    of_clips = [
        set(chain.from_iterable(map(batches.vocabulary.encode, clip.captions)))
        for clip in batches.clips
    ]

    def add(expected, token_ids):
        real = token_ids != PAD_ID
        vectors.append(expected[real])
        words.append(token_ids[real])
        logits = vectors[-1] @ embeddings[:num_old].T + biases[:num_old]
        highest = logits.max(axis=1)
        levels.append(np.log(np.exp(logits - highest[:, None]).sum(axis=1)) + highest)

    embeddings = ops.convert_to_numpy(model.embedding.embeddings).copy()
    biases = ops.convert_to_numpy(model.output_bias).copy()
    for inputs, token_ids in batches.read():
        token_ids = token_ids.numpy()
        features, lengths = (inputs[name].numpy() for name in ("features", "sequence_length"))
        add(base.expect(features, lengths, token_ids), token_ids)
    if known is not None:
        clips = np.random.default_rng(seed).permutation(len(known.token_ids))
        clips = clips[: MOST_PLACES // known.token_ids.shape[1]]
        add(known.vectors[clips], known.token_ids[clips])
    vectors, levels, words = map(np.concatenate, (vectors, levels, words))
    vectors = np.concatenate([vectors, np.ones((len(vectors), 1))], axis=1)
    products, ridge = vectors.T @ vectors, np.eye(vectors.shape[1])
    ridge[-1, -1] = 0
    for word in np.intersect1d(words, names):
        own = words == word
        goals = levels + np.where(own, SAID, UNSAID)
        weights = np.where(own, 0.5 / own.sum(), 0.5 / max(1, (~own).sum()))  # as much each
        of_own = vectors[own].T @ vectors[own]
        matrix = weights[own][0] * of_own + weights[~own].max(initial=0) * (products - of_own)
        matrix += RIDGE * np.trace(matrix[:-1, :-1]) / (len(matrix) - 1) * ridge
        fitted = np.linalg.solve(matrix, vectors.T @ (weights * goals))
        said = float(np.exp((vectors @ fitted - levels)[~own].clip(max=0)).mean())
        most = MOST_UNSAID * sum(word in clip for clip in of_clips)
        fitted[-1] -= max(0.0, np.log(said / most))
        embeddings[word], biases[word] = fitted[:-1], fitted[-1]
    model.embedding.embeddings.assign(embeddings)
    model.output_bias.assign(biases)
