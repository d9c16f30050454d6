import keras
import numpy as np
import pytest

from captioner.config import DecodingOptions, ModelConfig
from captioner.engines import KerasEngine
from captioner.model import CaptionModel

CONFIG = ModelConfig(vocab_size=11, feature_dim=6, num_regions=3, units=8, embedding_dim=5)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(5)
    model = CaptionModel(CONFIG)
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(0, 0.5, w.shape) for w in model.get_weights()])
    return model


def _features(rng, num_frames, shape=(3, 6)):
    return rng.normal(size=(num_frames, *shape)).astype(np.float32)


def test_call_agrees_with_repeated_decode_step(model):
    rng = np.random.default_rng(6)
    features = rng.normal(size=(4, 5, 3, 6)).astype(np.float32)
    sequence_length = np.array([5, 1, 3, 4], np.int32)
    token_ids = rng.integers(3, 11, (4, 7)).astype(np.int32)
    logits = np.asarray(
        model({"features": features, "sequence_length": sequence_length, "token_ids": token_ids})
    )
    memory, state = model.encode(features, sequence_length)
    last = np.ones(4, np.int32)
    for position in range(7):
        step_logits, state = model.decode_step(last, state, memory)
        np.testing.assert_allclose(np.asarray(step_logits), logits[:, position], atol=1e-5)
        last = token_ids[:, position]


def test_attention_looks_at_real_frames_only(model):
    rng = np.random.default_rng(7)
    features = rng.normal(size=(2, 4, 3, 6)).astype(np.float32)
    memory, state = model.encode(features, np.array([4, 2], np.int32))
    _, state = model.decode_step(np.array([1, 1], np.int32), state, memory)
    weights = np.asarray(state["attention_weights"])
    assert weights.shape == (2, 12)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    assert (weights[0] > 0).all()
    assert (weights[1, :6] > 0).all()
    assert (weights[1, 6:] == 0).all()


def test_a_caption_depends_neither_on_batch_mates_nor_on_padding(model):
    rng = np.random.default_rng(8)
    clips = [_features(rng, num_frames) for num_frames in (1, 6, 3)]
    engine = KerasEngine(model)
    options = DecodingOptions(beam_size=3, num_captions=2, max_length=6)
    together = engine(clips, options)
    for place, clip in enumerate(clips):
        alone = engine([clip], options)
        np.testing.assert_array_equal(alone.token_ids[0], together.token_ids[place])
        np.testing.assert_allclose(alone.scores[0], together.scores[place], atol=1e-5)


def test_what_the_model_sees_changes_what_it_says(model):
    rng = np.random.default_rng(9)
    engine = KerasEngine(model)
    options = DecodingOptions(beam_size=2, max_length=6)
    clips = [_features(rng, 3) * 3 for _ in range(16)]
    assert len({tuple(row[0]) for row in engine(clips, options).token_ids}) > 1


def test_order_of_frames_matters(model):
    features = np.random.default_rng(10).normal(size=(1, 5, 3, 6)).astype(np.float32)
    length = np.array([5], np.int32)
    token_ids = np.array([[4, 5, 2]], np.int32)

    def logits(features):
        inputs = {"features": features, "sequence_length": length, "token_ids": token_ids}
        return np.asarray(model(inputs))

    assert np.abs(logits(features) - logits(features[:, ::-1].copy())).max() > 1e-3


def test_features_without_regions():
    config = ModelConfig(vocab_size=11, feature_dim=6, units=8, embedding_dim=5)
    engine = KerasEngine(CaptionModel(config))
    clips = [_features(np.random.default_rng(11), 4, (6,))]
    result = engine(clips, DecodingOptions(beam_size=2, max_length=4))
    assert result.token_ids.shape == (1, 1, 4)
    assert result.attention_weights.shape == (1, 1, 4, 4)
