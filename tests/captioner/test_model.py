"""The caption model, in each of its shapes, and on another backend."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from captioner.config import ATTENTIONS, ENCODERS, DecodingOptions, ModelConfig
from captioner.engines.keras_engine import KerasEngine
from captioner.model import CaptionModel

CONFIG = ModelConfig(vocab_size=11, feature_dim=6, num_regions=4, units=8, embedding_dim=5)
SHAPES = [
    *(replace(CONFIG, encoder=encoder) for encoder in ENCODERS),
    *(replace(CONFIG, encoder=encoder, bidirectional=True) for encoder in ENCODERS),
    *(replace(CONFIG, attention=attention) for attention in ATTENTIONS[1:]),
    replace(CONFIG, encoder_layers=3, encoder="convolution"),
    replace(CONFIG, encoder_layers=2, bidirectional=True),
    replace(CONFIG, motion_dim=7),
    replace(CONFIG, styles=("video", "photo")),
]


def _build(config):
    keras.utils.set_random_seed(5)
    model = CaptionModel(config)
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(0, 0.5, w.shape) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def model():
    return _build(CONFIG)


def _features(rng, num_frames, shape=(4, 6)):
    return rng.normal(size=(num_frames, *shape)).astype(np.float32)


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_call_agrees_with_repeated_decode_step(config):
    model = _build(config)
    rng = np.random.default_rng(6)
    features = rng.normal(size=(4, 5, 4, 6)).astype(np.float32)
    sequence_length = np.array([5, 1, 3, 4], np.int32)
    token_ids = rng.integers(3, 11, (4, 7)).astype(np.int32)
    logits = np.asarray(
        model({"features": features, "sequence_length": sequence_length, "token_ids": token_ids})
    )
    memory, state = model.encode(features, sequence_length)
    last = np.asarray(model.start_ids(sequence_length))
    for position in range(7):
        step_logits, state = model.decode_step(last, state, memory)
        np.testing.assert_allclose(np.asarray(step_logits), logits[:, position], atol=1e-5)
        last = token_ids[:, position]


@pytest.mark.parametrize(("encoder", "graph"), [("lstm", True), *((x, False) for x in ENCODERS)])
def test_windows_say_the_same_and_carry_no_gradient(encoder, graph):
    import tensorflow as tf

    config = replace(CONFIG, encoder=encoder, encoder_layers=2, dropout=0.0)
    whole, cut = _build(config), CaptionModel(config, window=3)
    cut.set_weights(whole.get_weights())
    rng = np.random.default_rng(6)
    inputs = {
        "features": rng.normal(size=(3, 8, 4, 6)).astype(np.float32),
        "sequence_length": np.array([8, 2, 6], np.int32),
        "token_ids": rng.integers(3, 11, (3, 5)).astype(np.int32),
    }
    said = [np.asarray(one(inputs, training=True)) for one in (whole, cut)]
    np.testing.assert_allclose(*said, atol=1e-6)
    shape = [tf.TensorSpec((None, None, 4, 6))]  # of any number of frames, as in training

    def late_gradient(model, before):
        """How the memory of the frames from `before` on depends on each frame."""

        def gradient(features):
            with tf.GradientTape() as tape:
                tape.watch(features)
                values = model.encode(features, inputs["sequence_length"], training=True)[0].values
                late = tf.reduce_sum(values[:, 4 * before :] ** 2)
            return tape.gradient(late, features)

        run = tf.function(gradient, shape) if graph else gradient
        return np.abs(run(tf.constant(inputs["features"]))).sum(axis=(2, 3))  # (3, num_frames)

    assert (late_gradient(whole, 6)[0] > 0).any(where=np.arange(8) < 3)
    found = late_gradient(cut, 6)
    assert (found[:, :6] == 0).all()
    assert (found[0, 6:] > 0).all()
    # Within a window it flows: from the last frame of the second one to its first.
    assert (late_gradient(cut, 5)[0, 3:] > 0).all()


def test_only_what_reads_forwards_learns_in_windows():
    with pytest.raises(ValueError, match="bidirectional cannot learn in windows"):
        CaptionModel(replace(CONFIG, bidirectional=True), window=3)


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_padding_changes_nothing(config):
    model = _build(config)
    rng = np.random.default_rng(61)
    features = rng.normal(size=(1, 5, 4, 6)).astype(np.float32)
    token_ids = rng.integers(3, 11, (1, 4)).astype(np.int32)

    def logits(features):
        length = np.array([2], np.int32)
        inputs = {"features": features, "sequence_length": length, "token_ids": token_ids}
        return np.asarray(model(inputs))

    np.testing.assert_allclose(logits(features), logits(features[:, :2]), atol=1e-5)


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_every_weight_learns(config):
    import tensorflow as tf

    model = _build(replace(config, dropout=0.0))
    rng = np.random.default_rng(62)
    inputs = {
        "features": rng.normal(size=(2, 4, 4, 6)).astype(np.float32),
        "sequence_length": np.array([4, 2], np.int32),
        "token_ids": rng.integers(3, 11, (2, 5)).astype(np.int32),
    }
    with tf.GradientTape() as tape:
        loss = keras.ops.mean(keras.ops.square(model(inputs, training=True)))
    for weight, gradient in zip(
        model.trainable_weights, tape.gradient(loss, model.trainable_weights)
    ):
        assert gradient is not None, weight.path
        assert np.abs(np.asarray(keras.ops.convert_to_tensor(gradient))).max() > 0, weight.path


def test_encoder_that_sees_the_past_only():
    model = _build(replace(CONFIG, encoder="convolution", encoder_layers=2))
    both = _build(replace(CONFIG, encoder="convolution", encoder_layers=2, bidirectional=True))
    features = np.random.default_rng(63).normal(size=(1, 6, 4, 6)).astype(np.float32)
    changed = features.copy()
    changed[:, 4:] += 1
    length = np.array([6], np.int32)

    def first_frames(model, features):
        return np.asarray(model.encode(features, length)[0].values)[:, : 4 * 4]

    assert np.abs(first_frames(model, features) - first_frames(model, changed)).max() < 1e-6
    assert np.abs(first_frames(both, features) - first_frames(both, changed)).max() > 1e-3


def test_attention_looks_at_real_frames_only(model):
    rng = np.random.default_rng(7)
    features = rng.normal(size=(2, 4, 4, 6)).astype(np.float32)
    memory, state = model.encode(features, np.array([4, 2], np.int32))
    _, state = model.decode_step(np.array([1, 1], np.int32), state, memory)
    weights = np.asarray(state["attention_weights"])
    assert weights.shape == (2, 16)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    assert (weights[0] > 0).all()
    assert (weights[1, :8] > 0).all()
    assert (weights[1, 8:] == 0).all()


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


def test_drawn_sentences_follow_from_the_seed(model):
    rng = np.random.default_rng(9)
    clips = [_features(rng, 3) for _ in range(8)]
    options = DecodingOptions(temperature=1.0, num_captions=4, max_length=6)
    one, same, other = (KerasEngine(model, seed=seed) for seed in (3, 3, 4))
    first = one(clips, options).token_ids
    np.testing.assert_array_equal(same(clips, options).token_ids, first)
    assert (other(clips, options).token_ids != first).any()
    assert (one(clips, options).token_ids != first).any()


def test_a_style_is_the_token_before_the_first_word():
    model = _build(replace(CONFIG, styles=("video", "photo")))
    lengths = np.array([3, 1], np.int32)
    assert np.asarray(model.start_ids(lengths)).tolist() == [4, 5]  # a clip, and a still
    assert np.asarray(model.start_ids(lengths, "photo")).tolist() == [5, 5]
    with pytest.raises(ValueError, match="expected a style of"):
        model.start_ids(lengths, "poem")
    engine, rng = KerasEngine(model), np.random.default_rng(12)
    clips = [_features(rng, 3) * 3 for _ in range(16)]

    def said(style):
        found = engine(clips, DecodingOptions(beam_size=2, max_length=6, style=style)).token_ids
        assert not np.isin(found, [4, 5]).any()  # a style is no word
        return found.tolist()

    assert said("auto") == said("video") != said("photo")


def test_without_styles_sentences_begin_with_start(model):
    assert np.asarray(model.start_ids(np.array([3, 1], np.int32))).tolist() == [1, 1]


def test_order_of_frames_matters(model):
    features = np.random.default_rng(10).normal(size=(1, 5, 4, 6)).astype(np.float32)
    length = np.array([5], np.int32)
    token_ids = np.array([[4, 5, 2]], np.int32)

    def logits(features):
        inputs = {"features": features, "sequence_length": length, "token_ids": token_ids}
        return np.asarray(model(inputs))

    assert np.abs(logits(features) - logits(features[:, ::-1].copy())).max() > 1e-3


def test_captions_in_mixed_precision_are_those_of_float32(model, tmp_path):
    model.save_weights(tmp_path / "model.weights.h5")
    clips = [_features(np.random.default_rng(12), num_frames) for num_frames in (4, 2)]
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        mixed = CaptionModel(CONFIG)
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.load_weights(tmp_path / "model.weights.h5")
    for options in (DecodingOptions(beam_size=1, max_length=6), DecodingOptions(max_length=6)):
        found, expected = (KerasEngine(one)(clips, options) for one in (mixed, model))
        np.testing.assert_array_equal(found.token_ids, expected.token_ids)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0.05)


def test_motion_is_nothing_in_a_still_picture():
    model = _build(replace(CONFIG, motion_dim=7))
    bare = CaptionModel(CONFIG)
    bare.set_weights(model.get_weights()[: len(bare.weights)])
    rng = np.random.default_rng(12)
    moving = rng.normal(size=(1, 5, 4, 6)).astype(np.float32)
    still = np.repeat(moving[:, :1], 5, axis=1)
    length = np.array([5], np.int32)

    def values(model, features):
        return np.asarray(model.encode(features, length)[0].values)

    np.testing.assert_allclose(values(model, still), values(bare, still), atol=1e-6)
    assert np.abs(values(model, moving) - values(bare, moving)).max() > 1e-2


@pytest.mark.parametrize("motion_dim", [0, 7])
def test_features_without_regions(motion_dim):
    config = ModelConfig(11, feature_dim=6, units=8, embedding_dim=5, motion_dim=motion_dim)
    engine = KerasEngine(CaptionModel(config))
    clips = [_features(np.random.default_rng(11), 4, (6,))]
    result = engine(clips, DecodingOptions(beam_size=2, max_length=4))
    assert result.token_ids.shape == (1, 1, 4)
    assert result.attention_weights.shape == (1, 1, 4, 4)


def _report(weights, file):
    """What the backend at hand makes of the weights: loss, token ids, scores."""
    from training.objectives import caption_loss

    model = CaptionModel(replace(CONFIG, motion_dim=7))
    model.load_weights(weights)
    rng = np.random.default_rng(64)
    clips = [_features(rng, num_frames) for num_frames in (4, 1, 3)]
    padded = np.zeros((3, 4, 4, 6), np.float32)
    for row, clip in zip(padded, clips):
        row[: len(clip)] = clip
    token_ids = rng.integers(3, 11, (3, 5)).astype(np.int32)
    sequence_length = np.array([4, 1, 3], np.int32)
    inputs = {"features": padded, "sequence_length": sequence_length, "token_ids": token_ids}
    loss = caption_loss(0.1)(token_ids, model(inputs))
    greedy = KerasEngine(model)(clips, DecodingOptions(beam_size=1, max_length=8))
    beam = KerasEngine(model)(clips, DecodingOptions(beam_size=4, num_captions=3, max_length=8))
    np.savez(
        file,
        loss=keras.ops.convert_to_numpy(loss),
        greedy=greedy.token_ids,
        beam=beam.token_ids,
        scores=beam.scores,
        attention=beam.attention_weights,
    )


def test_another_backend_gives_the_same(tmp_path):
    _build(replace(CONFIG, motion_dim=7)).save_weights(tmp_path / "model.weights.h5")
    _report(tmp_path / "model.weights.h5", tmp_path / "here.npz")
    # With None in sys.modules, `import tensorflow` fails.
    code = (
        "import sys; sys.modules['tensorflow'] = None; "
        "from tests.captioner import test_model; test_model._report(*sys.argv[1:])"
    )
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model.weights.h5", tmp_path / "there.npz"],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        cwd=Path(__file__).parents[2],
        check=True,
    )
    here, there = np.load(tmp_path / "here.npz"), np.load(tmp_path / "there.npz")
    for name in ("greedy", "beam"):
        np.testing.assert_array_equal(there[name], here[name])
    for name in ("loss", "scores", "attention"):
        np.testing.assert_allclose(there[name], here[name], atol=1e-4)
