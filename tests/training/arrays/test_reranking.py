"""The regression from what pictures look like to what people say."""

import numpy as np
import pytest

from captioner.errors import DatasetError
from captioner.reranker import squared_distances, summary
from training.arrays.reranking import fit
from training.metrics import CiderD

SAID = [[4, 5, 6, 7], [4, 8, 9, 10], [4, 5, 9, 11], [12, 5, 6, 13]]


def _material():
    features = list(np.random.default_rng(5).normal(size=(len(SAID), 1, 2, 5)))
    return features, np.stack([summary(one) for one in features])


def test_a_regression_foretells_the_cider_of_sentences():
    features, summaries = _material()
    sentences = [[np.array(ids, np.uint64)] for ids in SAID]
    # With all pictures as centres, and hardly a penalty, it knows all sentences by heart.
    found = fit(summaries, sentences, penalty=1e-6, least=1)
    assert (np.diff(found.keys.astype(np.float64)) > 0).all()
    cider = CiderD([[ids] for ids in SAID])
    for item, seen in enumerate(features):
        expected = cider.score(SAID, [item] * len(SAID))
        np.testing.assert_allclose(found.foretell(seen, SAID), expected, atol=0.15)


def test_what_looks_like_nothing_that_was_learned_is_foretold_what_is_said_of_all():
    features, summaries = _material()
    sentences = [[np.array(ids, np.uint64)] for ids in SAID]
    found = fit(summaries, sentences, penalty=1e-6, least=1)
    stiff = fit(summaries, sentences, penalty=1e9, least=1)
    far = found.foretell(features[0] + 1e4, SAID)
    assert np.abs(far - found.foretell(features[0], SAID)).max() > 1
    np.testing.assert_allclose(far, stiff.foretell(features[0], SAID), atol=0.05)


def test_some_pictures_are_centres_and_some_directions_are_kept():
    rng = np.random.default_rng(6)
    summaries = rng.normal(size=(30, 4))
    sentences = [[np.array([4 + (row[0] > 0), 6 + (row[1] > 0)], np.uint64)] for row in summaries]
    found = fit(summaries, sentences, centres=20, rank=3, least=2)
    assert found.centres.shape == (20, 4)
    assert found.coefficients.shape == (20, 3)
    assert found.weights.shape == (len(found.keys), 3)
    distances = squared_distances(found.centres, found.centres)
    np.testing.assert_allclose(np.median(distances), 1, rtol=1e-4)


def test_only_ngrams_that_are_said_of_several_pictures_are_known():
    _, summaries = _material()
    sentences = [[np.array(ids, np.uint64)] for ids in SAID]
    found = fit(summaries, sentences, least=2)
    assert found.keys.tolist() == [5, 6, 7, 10, 5 | 6 << 16, 6 | 7 << 16]
    assert found.knows([4, 5, 6])
    assert not found.knows([4, 6])
    assert not found.knows([4, 8])
    with pytest.raises(DatasetError, match="nothing is said of 5 pictures or more"):
        fit(summaries, sentences, least=5)
