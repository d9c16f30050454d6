"""A training step of the default caption model, against the same one on Keras' own LSTM layers.

    python -m tests.benchmarks.training_step [--rounds N]

The default configuration: batch 64, 8 frames of 16 regions of 512 values, sentences of 14 words,
5,000 words. The sides take turns in one process; the last line on stdout is JSON with medians.
"""

import argparse
import json
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from captioner import model as ours
from captioner.config import ModelConfig
from training.trainer import caption_loss

BATCH_SIZE, NUM_FRAMES, LENGTH, VOCAB_SIZE = 64, 8, 14, 5000
CONFIG = ModelConfig(VOCAB_SIZE, feature_dim=512, num_regions=16, dropout=0.0)


class KerasLSTM(keras.layers.LSTM):
    """`keras.layers.LSTM` called as `captioner.layers.LSTM` is."""

    def __init__(self, units, **kwargs):
        super().__init__(units, return_sequences=True, return_state=True, **kwargs)

    def call(self, inputs, sequence_length=None, initial_state=None, training=None):
        mask = None
        if sequence_length is not None:
            mask = tf.sequence_mask(sequence_length, tf.shape(inputs)[1])
        outputs, *state = super().call(
            inputs, mask=mask, initial_state=initial_state, training=training
        )
        if mask is not None:
            outputs = tf.where(mask[:, :, None], outputs, 0.0)
        return outputs, state


def build_step(model):
    """A function of nothing that takes one training step on the same made-up batch."""
    rng = np.random.default_rng(0)
    token_ids = tf.constant(rng.integers(3, VOCAB_SIZE, (BATCH_SIZE, LENGTH)), tf.int32)
    inputs = {
        "features": tf.constant(
            rng.normal(size=(BATCH_SIZE, NUM_FRAMES, 16, CONFIG.feature_dim)), tf.float32
        ),
        "sequence_length": tf.constant(rng.integers(1, NUM_FRAMES + 1, BATCH_SIZE), tf.int32),
        "token_ids": token_ids,
    }
    loss = caption_loss(0.1)
    optimizer = keras.optimizers.AdamW(1e-4)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(token_ids, model(inputs, training=True)))
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return value

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    model = ours.CaptionModel(CONFIG)
    fast, ours.LSTM = ours.LSTM, KerasLSTM
    reference = ours.CaptionModel(CONFIG)
    ours.LSTM = fast
    reference.set_weights(model.get_weights())
    steps = {"ours": build_step(model), "keras": build_step(reference)}
    first = {name: float(step()) for name, step in steps.items()}
    print("first loss", first)
    np.testing.assert_allclose(first["ours"], first["keras"], rtol=1e-4)
    seconds = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step().numpy()
            seconds[name].append(time.perf_counter() - start)
    ratios = [keras / own for own, keras in zip(*seconds.values())]
    medians = {f"{name}_seconds": statistics.median(values) for name, values in seconds.items()}
    print(json.dumps({"speedup": statistics.median(ratios), **medians}))


if __name__ == "__main__":
    main()
