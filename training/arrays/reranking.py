"""The regression from what pictures look like to what people say, for `captioner.reranker`.

Kernel ridge regression on some of the pictures (Williams and Seeger 2001, "Using the Nyström method
to speed up kernel machines"), of whose outputs the `RANK` directions of largest variance are kept.
The inputs are summaries, each value standardised, along their principal components; the outputs are
means over a picture's sentences of their n-grams' weights, those of each length with a norm of 1.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from captioner.errors import DatasetError
from captioner.reranker import Reranker, ngram_keys, squared_distances, summary, weigh
from captioner.vocabulary import END_ID, PAD_ID, style_token

if TYPE_CHECKING:
    from .bank import Bank  # which needs JAX; a regression does not

STYLES = style_token("photo"), style_token("coco")  # whose sentences tell what people say
COMPONENTS, CENTRES, RANK, PENALTY, LEAST_PICTURES = 256, 2000, 128, 0.3, 10
PART = 500  # pictures
HIGHEST = 127  # of an int8
LEAST = 1e-6  # of a diagonal, added, lest rounding make a variance negative

Sentences = Sequence[np.ndarray]  # of a picture, token ids of each, uint64


def fit_reranker(bank: "Bank", network: str) -> Reranker:
    """Fits a reranker to all pictures that do not validate.

    Args:
        bank: the items, with features of each as it is.
        network: whose features the model sees.

    Raises:
        DatasetError: there are too few.
    """
    items = bank.items
    tokens = [items.vocabulary.tokens.index(t) for t in STYLES if t in items.vocabulary]
    owners = np.unique(items.owner[np.isin(items.start_ids, tokens) & (items.owner >= 0)])
    owners = owners[~items.is_val[owners] & ~items.is_video[owners]]
    views, _ = bank.whole(owners) if len(owners) else (np.zeros((0, 1), int), None)
    rows = bank.rows[network][views[:, 0]]
    summaries = [
        summary(one)
        for start in range(0, len(rows), PART)
        for one in np.asarray(bank.features[network][rows[start : start + PART]])
    ]
    sentences = [[_words(items.token_ids[s]) for s in bank.references[item]] for item in owners]
    return fit(np.array(summaries), sentences)


def _words(token_ids):
    return token_ids[(token_ids != PAD_ID) & (token_ids != END_ID)].astype(np.uint64)


def fit(
    summaries: np.ndarray,
    sentences: Sequence[Sentences],
    centres: int = CENTRES,
    rank: int = RANK,
    penalty: float = PENALTY,
    least: int = LEAST_PICTURES,
    seed: int = 0,
) -> Reranker:
    """Fits a regression.

    Distances are measured in such a way that half of all pictures are less than 1 apart.

    Args:
        summaries: of pictures, `(num_pictures, feature_dim)`.
        sentences: what people say of each.
        centres: how many of the pictures are kept, at most.
        rank: of the regression, at most.
        penalty: on what differs from what is said of all.
        least: pictures of which an n-gram has to be said.
        seed: of the choice of centres.

    Raises:
        DatasetError: no n-gram is.
    """
    frequency = Counter(
        key
        for several in sentences
        for key in {key for one in several for keys, _ in ngram_keys(one) for key in keys.tolist()}
    )
    keys = np.array(sorted(key for key, count in frequency.items() if count >= least), np.uint64)
    if not len(keys):
        raise DatasetError(
            f"nothing is said of {least} pictures or more, so there is nothing to rerank by; pack "
            "more"
        )
    rarest = np.log(len(sentences))
    rarities = rarest - np.log([frequency[key] for key in keys.tolist()])
    common = sum(_target(one, keys, rarities, rarest) for one in sentences) / len(sentences)

    offset, deviation = summaries.mean(axis=0), summaries.std(axis=0) + 1e-3
    standardised = ((summaries - offset) / deviation).astype(np.float64)
    _, components = np.linalg.eigh(standardised.T @ standardised)
    components = components[:, ::-1][:, :COMPONENTS]
    points = standardised @ components
    chosen = np.sort(np.random.default_rng(seed).permutation(len(points))[:centres])
    some = points[chosen[:PART]]
    unit = np.sqrt(np.median(squared_distances(some, some))) or 1.0
    points /= unit

    kernel = np.exp(-squared_distances(points, points[chosen]))
    products = np.zeros((len(chosen), len(keys)))
    for start in range(0, len(points), PART):
        targets = [_target(one, keys, rarities, rarest) for one in sentences[start : start + PART]]
        products += kernel[start : start + PART].T @ (np.stack(targets) - common)
    covariance = kernel.T @ kernel
    covariance += LEAST * np.diag(np.diag(covariance))
    solved = np.linalg.solve(covariance + penalty * kernel[chosen], products)
    # Directions of what is foretold, without ever holding that of all pictures.
    spread = np.linalg.cholesky(covariance).T @ solved
    _, directions = np.linalg.eigh(spread @ spread.T)
    weights = spread.T @ directions[:, ::-1][:, :rank]  # (num_ngrams, rank)
    weights /= np.maximum(np.linalg.norm(weights, axis=0), LEAST)
    scales = np.abs(weights).max(axis=0) / HIGHEST
    scales[scales == 0] = 1.0
    return Reranker(
        offset=np.float32(offset),
        projection=np.float32(components / deviation[:, None] / unit),
        centres=np.float32(points[chosen]),
        coefficients=np.float32(solved @ weights),
        keys=keys,
        common=np.float32(common),
        weights=np.round(weights / scales).astype(np.int8),
        scales=np.float32(scales),
        rarities=np.float32(rarities),
        rarest=np.float32(rarest),
        length=np.float32(np.mean([len(one) for several in sentences for one in several])),
    )


def _target(several: Sentences, keys, rarities, rarest) -> np.ndarray:
    """The mean of a picture's sentences, `(num_ngrams,)`."""
    target = np.zeros(len(keys))
    for sentence in several:
        for places, weights in weigh(sentence, keys, rarities, rarest):
            target[places] += weights / len(several)
    return target
