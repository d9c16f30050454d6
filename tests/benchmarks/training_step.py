"""A training step of the default caption model, against the same model as Keras' layers build it.

    python -m tests.benchmarks.training_step [--rounds N] [--batch-size N]

The default configuration: batch 64, up to 8 frames of 16 regions of 512 values, sentences of 14
words, 5,000 words. The reference has `keras.layers.LSTM` for its encoder and, for its decoder, a
`keras.layers.RNN` over a cell with both LSTMs and the attention between them; it has the same
weights and gives the same loss. On a GPU there is a third side, `loop`: ours without cuDNN. The
sides take turns in one process, on whichever backend Keras has; the last line on stdout is JSON
with medians.
"""

import argparse
import json
import statistics
import time

import keras
import numpy as np
from keras import ops

from captioner.config import ModelConfig
from captioner.layers import LSTM, live_mask, where_live
from captioner.model import CaptionModel
from captioner.vocabulary import START_ID
from training.objectives import caption_loss

from . import backend

NUM_FRAMES, LENGTH, VOCAB_SIZE = 8, 14, 5000
CONFIG = ModelConfig(VOCAB_SIZE, feature_dim=512, num_regions=16, dropout=0.0)


class DecoderCell(keras.layers.Layer):
    """One word of `CaptionModel.call`: reads it, attends, speaks."""

    def __init__(self, units, attention):
        super().__init__()
        self.units, self.attention, self.memory = units, attention, None
        self.reader, self.speaker = keras.layers.LSTMCell(units), keras.layers.LSTMCell(units)
        self.state_size = [units] * 4
        self.output_size = 2 * units

    def build(self, input_shape):
        self.reader.build(input_shape)
        self.speaker.build((None, 2 * self.units))

    def call(self, words, states):
        query, reader = self.reader(words, list(states[:2]))
        context, _ = self.attention(query, *self.memory)
        answer = ops.concatenate([query, context], axis=-1)
        spoken, speaker = self.speaker(answer, list(states[2:]))
        return ops.concatenate([spoken, context], axis=-1), [*reader, *speaker]


class Reference(CaptionModel):
    """The same function and weights in Keras' own recurrent layers."""

    def __init__(self, model):
        super().__init__(model.config)
        units = self.config.units
        self.set_weights(model.get_weights())
        self.keras_encoder = keras.layers.LSTM(units, return_sequences=True)
        self.keras_encoder.build((None, None, units))
        self.cell = DecoderCell(units, self.attention)
        self.keras_decoder = keras.layers.RNN(self.cell, return_sequences=True)
        self.keras_decoder.build((None, None, self.config.embedding_dim))
        for ours, theirs in (
            (self.encoder[0], self.keras_encoder),
            (self.reader, self.cell.reader),
            (self.speaker, self.cell.speaker),
        ):
            theirs.set_weights(ours.get_weights())

    def _read(self, frames, sequence_length, training):
        mask = live_mask(sequence_length, ops.shape(frames)[1])
        return where_live(mask, self.keras_encoder(frames, mask=mask))

    def call(self, inputs, training=False):
        token_ids = inputs["token_ids"]
        self.cell.memory, state = self.encode(
            inputs["features"], inputs["sequence_length"], training
        )
        start = ops.full_like(token_ids[:, :1], START_ID)
        words = self.embedding(ops.concatenate([start, token_ids[:, :-1]], axis=1))
        states = [*state["reader"], *state["speaker"]]
        spoken = self.keras_decoder(words, initial_state=states)  # and the context
        return self.logits(self.output_projection(spoken))


def _is_used(variable, model):
    """The reference does not use the layers that it has instead of its own."""
    unused = (*model.encoder, model.reader, model.speaker) if isinstance(model, Reference) else ()
    return all(variable is not other for layer in unused for other in layer.trainable_variables)


def without_cudnn(model):
    """The same model, its LSTMs in loops."""
    copy = CaptionModel(model.config)
    copy.set_weights(model.get_weights())
    for layer in (*copy.encoder, copy.reader, copy.speaker):
        assert isinstance(layer, LSTM)
        layer.use_cudnn = False
    return copy


def build_step(model, batch_size):
    """A function of nothing that takes one training step on the same made-up batch."""
    rng = np.random.default_rng(0)
    inputs = {
        "token_ids": rng.integers(3, VOCAB_SIZE, (batch_size, LENGTH)).astype("int32"),
        "features": rng.normal(size=(batch_size, NUM_FRAMES, 16, CONFIG.feature_dim)),
        "sequence_length": rng.integers(1, NUM_FRAMES + 1, batch_size).astype("int32"),
    }
    inputs["features"] = inputs["features"].astype("float32")
    inputs = {name: ops.convert_to_tensor(array) for name, array in inputs.items()}
    loss = caption_loss(0.1)
    variables = [v for v in model.trainable_variables if _is_used(v, model)]
    optimizer = keras.optimizers.AdamW(1e-4)
    optimizer.build(variables)

    @backend.compiled
    def step(values, slots, inputs):
        def loss_of(values):
            with backend.holding(variables, values):
                return ops.mean(loss(inputs["token_ids"], model(inputs, training=True)))

        value, (slopes,) = backend.gradients(loss_of, (values,))
        return value, backend.apply(optimizer, variables, slopes, values, slots)

    state = [backend.values_of(variables), backend.values_of(optimizer.variables)]

    def take_step():
        value, new_state = backend.wait(step(*state, inputs))
        state[:] = new_state or state
        return value

    return take_step


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    args = parser.parse_args()
    model = CaptionModel(CONFIG)
    models = {"ours": model, "keras": Reference(model)}
    if backend.on_gpu():
        models["loop"] = without_cudnn(model)
    steps = {name: build_step(model, args.batch_size) for name, model in models.items()}
    first = {name: float(step()) for name, step in steps.items()}
    print("first loss", first)
    rtol = 1e-2 if backend.on_gpu() else 1e-4  # TF32 has a mantissa of 10 bits
    np.testing.assert_allclose(list(first.values()), first["ours"], rtol=rtol)
    seconds = {name: [] for name in steps}
    for _ in range(args.rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    result = {}
    for name in steps:
        if name != "ours":
            key = "speedup" if name == "keras" else f"speedup_over_{name}"
            result[key] = statistics.median(np.divide(seconds[name], seconds["ours"]).tolist())
    result |= {f"{name}_seconds": statistics.median(values) for name, values in seconds.items()}
    print(json.dumps({**result, **backend.described()}))


if __name__ == "__main__":
    main()
