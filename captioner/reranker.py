"""Reranking: of the sentences that a search found, the one that people's would be closest to.

The likeliest sentence is a dull one: "a man in a blue shirt" fits a little wherever a man is seen.
What people say of a picture is foretold from what they said of those that look like it: how much
each n-gram would weigh in their sentences. By that sentences are compared before anybody has said
one (after Devlin et al. 2015, "Exploring nearest neighbor approaches for image captioning"), as
CIDEr-D compares them afterwards (Vedantam et al. 2015), but without its clipping:

    10 / 4 * sum over n of  g_n(sentence) / |g_n(sentence)| . E[mean of g_n(s) / |g_n(s)|]
    * exp(-(length of the sentence - mean length of s)^2 / (2 * 6^2))

g_n are counts of n-grams times how rare they are, the means are over the sentences s that people
say, and E is a kernel ridge regression (`training.arrays.reranking`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from .caption import DecodingResult
from .config import AUTO_STYLE, DecodingOptions
from .errors import ModelError
from .vocabulary import PAD_ID

RERANKER = "reranker.npz"  # in a model folder
LONGEST_NGRAM, BITS = 4, 16  # words; of a key for each word
LENGTH_DEVIATION = 6.0  # words, of CIDEr-D
# Taken off a sentence times the logarithm of its place in the search, which knows more than
# how often words are said.
PLACE = 0.03


@dataclass(frozen=True, eq=False)
class Reranker:
    """A regression from what a picture looks like to n-grams.

    What is foretold of a picture is what is said of all, plus a sum over `centres`, pictures that
    were learned from: the nearer one is, the more it counts, by exp(-squared distance).

    Attributes:
        offset: `(feature_dim,)`, taken off a picture's `summary`.
        projection: `(feature_dim, num_components)`, to where distances are measured.
        centres: `(num_centres, num_components)`.
        coefficients: `(num_centres, rank)`.
        keys: of the n-grams, ascending, uint64 `(num_ngrams,)`, see `ngram_keys`.
        common: `(num_ngrams,)`, what is said of all.
        weights: int8 `(num_ngrams, rank)`.
        scales: `(rank,)`, by which the weights are multiplied.
        rarities: `(num_ngrams,)`, logarithms of how seldom each is said.
        rarest: `()`, that of others.
        length: `()`, of a sentence in words, the mean.
    """

    offset: np.ndarray
    projection: np.ndarray
    centres: np.ndarray
    coefficients: np.ndarray
    keys: np.ndarray
    common: np.ndarray
    weights: np.ndarray
    scales: np.ndarray
    rarities: np.ndarray
    rarest: np.ndarray
    length: np.ndarray

    @classmethod
    def load(cls, folder: Path) -> "Reranker":
        """Reads that of a model folder.

        Raises:
            ModelError: the file is damaged.
        """
        path = folder / RERANKER
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                found = {field.name: arrays[field.name] for field in fields(cls)}
        except (OSError, ValueError, KeyError, BadZipFile) as err:
            raise ModelError(
                f"{path}: damaged ({err}); copy the model folder again from where it came, or "
                "delete this file: sentences then come in the order of the search"
            ) from err
        return cls(**found | {name: found[name].astype(np.float32) for name in HALVED})

    def save(self, folder: Path):
        """Writes it into a model folder.

        Raises:
            OSError: it cannot be written; an old file is as it was.
        """
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        partial = folder / f"partial.{RERANKER}"
        np.savez(partial, **arrays | {name: arrays[name].astype(np.float16) for name in HALVED})
        partial.replace(folder / RERANKER)

    def order(self, features: np.ndarray, token_ids: np.ndarray) -> np.ndarray:
        """Places of sentences of a picture, best first.

        A model may have learned since to say what this has never heard. Where the search finds such
        a sentence best, its order stands.

        Args:
            features: `(1, num_regions, feature_dim)`, or without regions.
            token_ids: `(num_sentences, max_length)`, as the search ordered them, PAD after the
                last word.
        """
        places = np.arange(len(token_ids))
        sentences = [row[row != PAD_ID] for row in token_ids]
        if not self.knows(sentences[0]):
            return places
        worth = self.foretell(features, sentences) - PLACE * np.log1p(places)
        return np.argsort(-worth, kind="stable")

    def knows(self, sentence: Sequence[int]) -> bool:
        """Whether all words and pairs of words of a sentence are among its n-grams."""
        several = ngram_keys(np.asarray(sentence, np.uint64))[:2]
        return all(find(self.keys, keys)[1].all() for keys, _ in several)

    def foretell(self, features: np.ndarray, sentences: Sequence[Sequence[int]]) -> np.ndarray:
        """The CIDEr-D that sentences would have, `(num_sentences,)`.

        Args:
            features: of a picture, as for `order`.
            sentences: token ids.
        """
        point = (summary(features) - self.offset) @ self.projection
        near = np.exp(-squared_distances(point[None], self.centres)[0])
        seen = near @ self.coefficients * self.scales
        return np.array([self._worth(seen, np.asarray(ids, np.uint64)) for ids in sentences])

    def _worth(self, seen, token_ids):
        several = weigh(token_ids, self.keys, self.rarities, self.rarest)
        total = sum(
            vector @ (self.common[places] + self.weights[places] @ seen)
            for places, vector in several
        )
        unlike = (len(token_ids) - self.length) / LENGTH_DEVIATION
        return 10 / LONGEST_NGRAM * total * np.exp(-(unlike**2) / 2)


HALVED = "offset", "projection", "centres", "coefficients", "common"  # float16 on disk


class RerankingEngine:
    """An engine whose beams of pictures are reranked; all else is as it was.

    Clips of several frames are not: of few videos nothing is learned that a search does not know.

    Args:
        engine: features -> token ids, as `captioner.engines.keras_engine.KerasEngine`.
        load: loads the reranker, when the first picture comes.
    """

    def __init__(self, engine, load: Callable[[], Reranker]):
        self.engine, self._load = engine, cache(load)

    @classmethod
    def of(cls, engine, folder: Path):
        """An engine that reranks where a model folder says how, else the engine itself."""
        if not (folder / RERANKER).exists():
            return engine
        return cls(engine, lambda: Reranker.load(folder))

    def __call__(self, features: list[np.ndarray], options: DecodingOptions) -> DecodingResult:
        """As that of the engine.

        Raises:
            ModelError: the reranker's file is damaged.
        """
        pictures = [clip for clip, one in enumerate(features) if len(one) == 1]
        searched = options.beam_size > 1 and options.temperature == 0
        if not (pictures and searched and options.style == AUTO_STYLE):
            return self.engine(features, options)
        result = self.engine(features, replace(options, num_captions=options.beam_size))
        order = np.tile(np.arange(options.beam_size), (len(features), 1))
        for clip in pictures:
            order[clip] = self._load().order(features[clip], result.token_ids[clip])
        order, clips = order[:, : options.num_captions], np.arange(len(features))[:, None]
        return DecodingResult(*(None if x is None else x[clips, order] for x in result))


def summary(features: np.ndarray) -> np.ndarray:
    """What a picture looks like, `(feature_dim,)`: the mean over its regions of the square
    roots of their features, in which a few high ones count less (Perronnin et al. 2010).

    Args:
        features: `(num_frames, num_regions, feature_dim)`, or without regions.
    """
    features = np.asarray(features, np.float32)
    roots = np.sign(features) * np.sqrt(np.abs(features))
    return roots.reshape(-1, roots.shape[-1]).mean(axis=0)


def squared_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Of each point to each centre, `(num_points, num_centres)`."""
    squares = (points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)
    return np.maximum(squares - 2 * points @ centres.T, 0.0)


def ngram_keys(token_ids: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For one to four words, the keys of a sentence's n-grams, and how often each occurs.

    A key has `BITS` bits for each token id, the first word lowest, and one is added to each id.

    Args:
        token_ids: uint64 `(num_words,)`.
    """
    found = []
    for n in range(1, LONGEST_NGRAM + 1):
        runs = range(max(0, len(token_ids) - n + 1))
        keys = np.zeros(len(runs), np.uint64)
        for place in range(n):
            ids = token_ids[place : place + len(runs)] + np.uint64(1)
            keys |= ids << np.uint64(BITS * place)
        found.append(np.unique(keys, return_counts=True))
    return found


def find(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of keys among ascending ones, and whether each is there; if not, its place is any."""
    places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return places, keys[places] == wanted


def weigh(
    token_ids: np.ndarray, keys: np.ndarray, rarities: np.ndarray, rarest: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For one to four words, places and weights of a sentence's n-grams among some that are known.

    Those of each length have a norm of 1, what is not known included.

    Args:
        token_ids: uint64 `(num_words,)`.
        keys: of the n-grams that are known, ascending.
        rarities: of these.
        rarest: that of others.
    """
    for own, counts in ngram_keys(token_ids):
        places, known = find(keys, own)
        vector = counts * np.where(known, rarities[places], rarest)
        norm = np.sqrt((vector**2).sum())
        yield places[known], vector[known] / (norm or 1.0)
