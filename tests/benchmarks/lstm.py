"""Our LSTM against `keras.layers.LSTM` on a CPU: one forward and backward pass in a graph.

`python -m tests.benchmarks.lstm` prints a line a case, then one JSON object: milliseconds
(medians) and speedups (medians over pairs of neighbouring runs, so that whatever else runs on
the machine slows both sides). 20 steps, 1280 inputs, 512 units, float32. The backward pass gives
the gradients of all weights and of the inputs, as for any layer that has another below it; the
keys with `weights_only` leave the inputs' out, as for a layer that reads stored features.
"""

import argparse
import json
import os
import platform
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from captioner.layers import LSTM

LENGTH, DIM, UNITS = 20, 1280, 512


def training_pass(layer, with_inputs):
    """A compiled function of inputs and of the gradient from above."""
    weights = [variable.value for variable in layer.trainable_variables]

    @tf.function
    def run(inputs, upstream):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs)
            outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        sources = [*weights, inputs] if with_inputs else weights
        return tape.gradient(outputs, sources, output_gradients=upstream)

    return run


def compare(batch_size, runs, with_inputs):
    """Milliseconds of both layers, and how many times faster ours is."""
    random = np.random.default_rng(0)
    inputs = tf.constant(random.normal(size=(batch_size, LENGTH, DIM)), "float32")
    upstream = tf.constant(random.normal(size=(batch_size, LENGTH, UNITS)), "float32")
    theirs, ours = keras.layers.LSTM(UNITS, return_sequences=True), LSTM(UNITS)
    theirs.build(inputs.shape)
    ours.build(inputs.shape)
    ours.set_weights(theirs.get_weights())
    passes = [training_pass(layer, with_inputs) for layer in (theirs, ours)]

    expected, found = ([g.numpy() for g in run(inputs, upstream)] for run in passes)
    error = max(np.max(np.abs(f - e)) / np.max(np.abs(e)) for f, e in zip(found, expected))
    if error > 1e-5:
        raise SystemExit(f"the gradients differ by {error:.1e}")

    times = np.zeros((runs, 2))
    for number in range(runs):
        order = (0, 1) if number % 2 else (1, 0)
        for side in order:
            start = time.perf_counter()
            passes[side](inputs, upstream)[1].numpy()
            times[number, side] = 1000 * (time.perf_counter() - start)
    theirs_ms, ours_ms = np.median(times, axis=0)
    speedup = np.median(times[:, 0] / times[:, 1])
    what = "weights and inputs" if with_inputs else "weights only"
    print(
        f"batch {batch_size}, {what}: Keras {theirs_ms:.1f} ms, ours {ours_ms:.1f} ms, "
        f"{speedup:.2f} times faster",
        flush=True,
    )
    return round(theirs_ms, 2), round(ours_ms, 2), round(speedup, 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=21, help="pairs of runs in each case")
    runs = parser.parse_args().runs
    result = {"device": platform.processor() or platform.machine(), "cpus": os.cpu_count()}
    result |= {"tensorflow": tf.__version__, "keras": keras.__version__, "runs": runs}
    for with_inputs, suffix in ((True, ""), (False, "_weights_only")):
        for batch_size in (8, 64):
            theirs, ours, speedup = compare(batch_size, runs, with_inputs)
            result[f"keras_ms_batch{batch_size}{suffix}"] = theirs
            result[f"ours_ms_batch{batch_size}{suffix}"] = ours
            result[f"speedup_batch{batch_size}{suffix}"] = speedup
    print(json.dumps(result))


if __name__ == "__main__":
    main()
