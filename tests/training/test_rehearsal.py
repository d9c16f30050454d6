"""What travels with a model, so that what goes on from it forgets little."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from captioner.config import ModelConfig
from captioner.engines.keras_engine import pad
from captioner.errors import ModelError
from captioner.model import CaptionModel
from captioner.vocabulary import Vocabulary
from training.objectives import Rehearsing, caption_loss
from training.rehearsal import MOST_FRAMES, REHEARSAL, Recollection, Rehearsal
from training.transfer import contradicted

CONFIG = ModelConfig(9, feature_dim=6, num_regions=4, units=8, embedding_dim=5, dropout=0.0)


@pytest.fixture
def features():
    """Of 40 clips, of few directions, as those of a CNN are, and none below 0."""
    rng = np.random.default_rng(5)
    directions = rng.normal(size=(2, 6))
    lengths = rng.integers(1, 9, 40)
    return [np.maximum(3 + rng.normal(size=(n, 4, 2)) @ directions, 0) for n in lengths]


def test_features_come_back_nearly_as_they_were(features, tmp_path):
    built = Rehearsal.build(features)
    built.save(tmp_path)
    found = Rehearsal.load(tmp_path)
    assert len(found) == len(features)
    np.testing.assert_array_equal(found.codes, built.codes)
    every = np.concatenate([one.ravel() for one in features])
    left = 0.0
    for kept, true in zip(found.features(), features, strict=True):
        assert len(kept) == min(len(true), MOST_FRAMES)
        assert kept.min() >= found.lowest - 1e-6
        if len(true) <= MOST_FRAMES:
            left = max(left, np.abs(kept - true).mean())
    assert left < every.std() * 1.5
    some = found.select([4, 2])
    np.testing.assert_array_equal(some.features()[0], found.features()[4])


def test_clips_of_several_frames_are_stretched_and_pictures_are_not(features):
    built = Rehearsal.build(features)
    some = built.select([int(np.flatnonzero(built.num_frames == n)[0]) for n in (1, 2, 3, 4)])
    found = some.stretched(5)
    assert found.num_frames.tolist() == [1, 5, 5, 5]
    shown = [[0], [0, 0, 0, 1, 1], [0, 0, 1, 1, 2], [0, 0, 1, 2, 3]]
    for stretched, kept, frames in zip(found.features(), some.features(), shown, strict=True):
        np.testing.assert_array_equal(stretched, kept[frames])
    np.testing.assert_array_equal(some.stretched(2).num_frames, some.num_frames)


def test_a_clip_without_regions_has_one(features):
    flat = Rehearsal.build([clip[:, 0] for clip in features])
    assert flat.features()[0].shape[1:] == (1, 6)


def test_a_folder_without_or_with_a_damaged_one(features, tmp_path):
    assert Rehearsal.load(tmp_path) is None
    Rehearsal.build(features).save(tmp_path)
    whole = (tmp_path / REHEARSAL).read_bytes()
    (tmp_path / REHEARSAL).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"rehearsal\.npz: damaged"):
        Rehearsal.load(tmp_path)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="differentiates with it")
def test_what_is_rehearsed_holds_a_model_to_its_base(features):
    import tensorflow as tf

    keras.utils.set_random_seed(3)
    config = replace(CONFIG, dropout=0.3)  # which must not count against the model
    base, model = CaptionModel(config), CaptionModel(replace(config, vocab_size=11))
    for old, new in zip(base.weights, model.weights):
        more = new.shape[0] - old.shape[0]
        padding = [(0, more)] + [(0, 0)] * (len(old.shape) - 1)
        new.assign(np.pad(old, padding, constant_values=-30.0 if len(old.shape) == 1 else 0.0))
    rehearsal = Rehearsal.build(features)
    token_ids = np.tile(np.array([5, 6, 2, 0], np.int32), (len(features), 1))
    counts = rehearsal.num_frames
    features = [pad(clip, counts.max()) for clip in rehearsal.features()]
    said = {"features": np.stack(features), "sequence_length": counts, "token_ids": token_ids}
    vectors = keras.ops.convert_to_numpy(base.expect(said))
    known = Recollection(rehearsal, ["a"] * len(counts), token_ids, vectors)
    learner = Rehearsing(model, model, base, known, 10.0, batch_size=8, seed=1)
    assert len(learner.trainable_variables) == len(model.trainable_variables)
    inputs = {
        "features": features[0].astype(np.float32)[None],
        "sequence_length": np.array([len(features[0])], np.int32),
        "token_ids": np.array([[9, 10, 2]], np.int32),
    }

    def forgotten():
        with tf.GradientTape() as tape:
            learner(inputs, training=True)
            [loss] = learner.losses
        gradients = tape.gradient(loss, model.trainable_variables)
        return float(loss), max(float(tf.reduce_max(tf.abs(g))) for g in gradients)

    np.testing.assert_allclose(forgotten(), (0.0, 0.0), atol=1e-4)  # where it begins
    model.output_bias.assign_add(np.array([0, 0, 0, 0, 0, 3.0, 0, 0, 0, 0, 0]))
    loss, gradient = forgotten()
    assert loss > 1
    assert gradient > 0.1
    learner.compile(keras.optimizers.Adam(1e-2), loss=caption_loss(0.0))
    for _ in range(60):
        learner.train_on_batch(inputs, inputs["token_ids"])
    assert forgotten()[0] < loss / 3


def test_what_is_learned_may_be_seen_with_as_little_detail_as_what_is_rehearsed(features):
    keras.utils.set_random_seed(3)
    model, kept = CaptionModel(CONFIG), Rehearsal.build(features)
    token_ids = np.tile(np.array([5, 6, 2], np.int32), (len(features), 1))
    known = Recollection(kept, ["a"] * len(features), token_ids, np.zeros((40, 3, 5), np.float32))
    seen = features[0].astype(np.float32)[None]
    codes = np.round((seen - kept.mean) @ kept.basis / kept.step)
    coarse = np.maximum(codes @ kept.basis.T * kept.step + kept.mean, kept.lowest)
    given = {"sequence_length": np.array([seen.shape[1]], np.int32), "token_ids": token_ids[:1]}
    learner = Rehearsing(model, model, model, known, 1.0, batch_size=8, seed=1, coarse=True)
    for training, features_seen in ((False, seen), (True, coarse)):
        found = learner({"features": seen, **given}, training=training)
        wanted = model({"features": features_seen, **given})
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.abs(coarse - seen).max() > 0.1


def test_a_word_in_whose_place_a_new_one_comes_is_not_rehearsed(features):
    base = Vocabulary.build(["a dog runs on grass", "two men eat", "a man eats bread"])
    others = ["a dog runs", "a man eats", "two men eat", "a man runs", "two men", "men eat bread"]
    ids = np.zeros((6, 4), np.int32)
    known = Recollection(Rehearsal.build(features[:6]), others, ids, np.zeros((6, 4, 3)))
    said = ["a dog runs", "a dog runs on grass", "a dog eats", "a man eats"]
    corrections = ["Rex runs", "Rex runs on grass", "Rex eats with another dog", "a man eats cake"]
    assert contradicted(said, corrections, base, known) == set()  # two of three are too few
    corrections[2] = "Rex eats"
    assert contradicted(said, corrections, base, known) == {"dog"}
    left = known.without(frozenset({"dog"}))
    assert left.sentences == others[1:]
    assert len(left.rehearsal) == len(left.token_ids) == len(left.vectors) == 5
    assert contradicted(["two men eat"] * 3, ["twins eat"] * 3, base, known) == set()  # said often
