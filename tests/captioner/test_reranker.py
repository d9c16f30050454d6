"""Sentences of a picture in another order than the search has them."""

from dataclasses import replace

import numpy as np
import pytest

from captioner.caption import DecodingResult
from captioner.config import DecodingOptions
from captioner.errors import ModelError
from captioner.reranker import RERANKER, Reranker, RerankingEngine, ngram_keys, summary

FEATURE_DIM = 2
LIGHT, DARK = [4, 5], [4, 6]  # what is said of a picture with high features, and of one with low


def _picture(value, num_frames=1):
    return np.full((num_frames, 4, FEATURE_DIM), value, np.float32)


@pytest.fixture(scope="module")
def reranker():
    """One that learned from a light and a dark picture."""
    light, dark = (
        {key for keys, _ in ngram_keys(np.array(ids, np.uint64)) for key in keys.tolist()}
        for ids in (LIGHT, DARK)
    )
    keys = np.array(sorted(light | dark), np.uint64)
    weights = [[key in light, key in dark] for key in keys.tolist()]
    return Reranker(
        offset=np.zeros(FEATURE_DIM, np.float32),
        projection=np.eye(FEATURE_DIM, dtype=np.float32),
        centres=np.float32([[1, 1], [0, 0]]),
        coefficients=np.eye(2, dtype=np.float32),
        keys=keys,
        common=np.zeros(len(keys), np.float32),
        weights=np.array(weights, np.int8),
        scales=np.ones(2, np.float32),
        rarities=np.ones(len(keys), np.float32),
        rarest=np.float32(2),
        length=np.float32(2),
    )


def _rows(*sentences):
    rows = np.zeros((len(sentences), 6), np.int32)
    for row, ids in zip(rows, sentences, strict=True):
        row[: len(ids)] = ids
    return rows


def test_ngrams_and_how_often_each_occurs():
    one, two, three, four = ngram_keys(np.array([4, 5, 4], np.uint64))
    assert one[0].tolist() == [5, 6]
    assert one[1].tolist() == [2, 1]
    assert two[0].tolist() == [(5 << 16) | 6, (6 << 16) | 5]
    assert three[0].tolist() == [(5 << 32) | (6 << 16) | 5]
    assert len(four[0]) == 0


def test_a_summary_is_the_mean_of_signed_square_roots():
    features = np.zeros((1, 4, 2), np.float32)
    features[0, 1] = 4, -16
    np.testing.assert_allclose(summary(features), [0.5, -1])
    np.testing.assert_allclose(summary(features[:, 1]), [2, -4])  # without regions


def test_the_sentence_that_fits_what_is_seen_comes_first(reranker):
    assert reranker.order(_picture(1), _rows(DARK, LIGHT)).tolist() == [1, 0]
    assert reranker.order(_picture(0), _rows(DARK, LIGHT)).tolist() == [0, 1]
    # Equal ones keep the order of the search, and so do all where nothing like it was seen.
    assert reranker.order(_picture(1), _rows(DARK, DARK, LIGHT)).tolist() == [2, 0, 1]
    assert reranker.order(_picture(100), _rows(DARK, LIGHT)).tolist() == [0, 1]


def test_a_sentence_of_another_length_is_worth_less(reranker):
    two, one, three = reranker.foretell(_picture(1), [LIGHT, LIGHT[:1], [*LIGHT, 5]])
    longer = replace(reranker, length=np.float32(8))
    assert two > max(one, three)
    assert longer.foretell(_picture(1), [LIGHT])[0] == pytest.approx(two * np.exp(-0.5))


def test_where_the_search_finds_what_was_never_heard_its_order_stands(reranker):
    for strange in ([4, 8], [6, 4]):  # a word, a pair of words
        assert reranker.order(_picture(1), _rows(strange, LIGHT)).tolist() == [0, 1]
        assert reranker.order(_picture(1), _rows(LIGHT, strange)).tolist() == [0, 1]


def test_only_beams_of_pictures_are_reranked(reranker):
    asked = []

    def engine(features, options):
        asked.append(options)
        rows = np.stack([_rows(DARK, LIGHT)[: options.num_captions]] * len(features))
        scores = np.tile(np.float32([-1, -2])[: options.num_captions], (len(features), 1))
        return DecodingResult(rows, (rows > 0).sum(-1), scores)

    reranked = RerankingEngine(engine, lambda: reranker)
    beam = DecodingOptions(beam_size=2)
    result = reranked([_picture(1), _picture(0), _picture(1, num_frames=2)], beam)
    assert asked == [replace(beam, num_captions=2)]
    assert result.token_ids[:, 0, :2].tolist() == [LIGHT, DARK, DARK]
    assert result.scores.tolist() == [[-2.0], [-1.0], [-1.0]]
    assert result.attention_weights is None
    for other in (
        DecodingOptions(beam_size=1),
        DecodingOptions(temperature=1.0),
        replace(beam, style="coco"),
    ):
        assert reranked([_picture(1)], other).token_ids[0, 0, :2].tolist() == DARK
        assert asked[-1] == other


def test_it_lies_in_the_model_folder(reranker, tmp_path):
    engine = object()
    assert RerankingEngine.of(engine, tmp_path) is engine
    reranker.save(tmp_path)
    found = Reranker.load(tmp_path)
    rows = _rows(DARK, LIGHT)
    assert found.order(_picture(1), rows).tolist() == [1, 0]
    np.testing.assert_allclose(
        found.foretell(_picture(0.5), [DARK, LIGHT]),
        reranker.foretell(_picture(0.5), [DARK, LIGHT]),
        rtol=1e-3,
    )
    whole = (tmp_path / RERANKER).read_bytes()
    (tmp_path / RERANKER).write_bytes(whole[: len(whole) // 2])
    damaged = RerankingEngine.of(lambda *_: DecodingResult(rows[None], None, None), tmp_path)
    with pytest.raises(ModelError, match=r"reranker.npz: damaged .*delete this file"):
        damaged([_picture(1)], DecodingOptions(beam_size=2))
