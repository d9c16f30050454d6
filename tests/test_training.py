import keras
import numpy as np

from captioner.config import ModelConfig
from captioner.model import CaptionModel
from training.trainer import ScheduledSampling, caption_loss


def test_caption_loss_by_hand():
    token_ids = np.array([[3, 2, 0]])
    logits = np.log(
        np.array([[[0.1, 0.1, 0.2, 0.6], [0.1, 0.2, 0.5, 0.2], [0.25, 0.25, 0.25, 0.25]]])
    )
    plain = caption_loss(0.0)(token_ids, keras.ops.convert_to_tensor(logits))
    np.testing.assert_allclose(np.asarray(plain), [-(np.log(0.6) + np.log(0.5)) / 2], rtol=1e-6)
    smooth = caption_loss(0.2)(token_ids, keras.ops.convert_to_tensor(logits))
    even = -logits[0, :2].mean(-1)
    expected = (0.8 * -np.log([0.6, 0.5]) + 0.2 * even).mean()
    np.testing.assert_allclose(np.asarray(smooth), [expected], rtol=1e-6)


def test_scheduled_sampling_reads_the_models_own_words():
    config = ModelConfig(vocab_size=9, feature_dim=4, units=8, embedding_dim=5, dropout=0.0)
    keras.utils.set_random_seed(17)
    model = CaptionModel(config)
    rng = np.random.default_rng(17)
    model.set_weights([rng.normal(0, 0.7, w.shape) for w in model.get_weights()])
    inputs = {
        "features": rng.normal(size=(3, 2, 4)).astype(np.float32),
        "sequence_length": np.array([2, 1, 2], np.int32),
        "token_ids": rng.integers(3, 9, (3, 6)).astype(np.int32),
    }
    learner = ScheduledSampling(model, rate=1.0, steps=10, seed=1)
    learner.compile("sgd", loss=caption_loss(0.0))
    forced = np.asarray(model(inputs))
    np.testing.assert_allclose(np.asarray(learner(inputs)), forced, atol=1e-6)
    np.testing.assert_allclose(np.asarray(learner(inputs, training=True)), forced, atol=1e-6)
    learner.optimizer.iterations.assign(10)  # now every word read is the model's own
    sampled = np.asarray(learner(inputs, training=True))
    np.testing.assert_allclose(sampled[:, 0], forced[:, 0], atol=1e-6)  # nothing read so far
    assert np.abs(sampled[:, 1:] - forced[:, 1:]).max() > 1e-2
    before = [np.asarray(w) for w in model.trainable_weights]
    learner.train_on_batch(inputs, inputs["token_ids"])
    assert all(np.abs(np.asarray(w) - b).max() > 0 for w, b in zip(model.trainable_weights, before))
