"""Rounding weights with their inputs in mind."""

import numpy as np
import pytest

from captioner.engines.drawing import draw_frames
from captioner.engines.lite_engine import Program
from captioner.engines.quantization import LARGEST, round_for, to_integers


def test_rounding_keeps_what_comes_out():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3, 9, 4)) * [[[1], [1], [1], [1], [9], [1], [1], [1], [1]]]
    inputs = 5 + rng.normal(size=(3, 500, 1)) + 0.1 * rng.normal(size=(3, 500, 9))  # all alike
    moments = inputs.transpose(0, 2, 1) @ inputs / 500
    rounded = round_for(weights, moments)
    scale = np.abs(weights).max(1, keepdims=True) / LARGEST
    steps = rounded / scale
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)
    assert np.abs(steps).max() <= LARGEST + 1e-6
    nearest = np.round(weights / scale) * scale

    def error(changed):
        return np.square(inputs @ (changed - weights)).mean()

    assert error(rounded) < 0.3 * error(nearest)


def test_filters_of_zeros_stay():
    rounded = round_for(np.zeros((1, 4, 2)), np.eye(4)[None])
    np.testing.assert_array_equal(rounded, 0)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")  # by TensorFlow itself
def test_a_network_in_integers_gives_nearly_the_same(tmp_path):
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    pixels = layers.Input((32, 32, 3))
    x = layers.Rescaling(1 / 128, offset=-1)(pixels)
    for number in range(3):  # down to an eighth, in floats
        x = layers.Conv2D(8, 3, 2, padding="same", name=f"stem{number}")(x)
        x = layers.ReLU(6.0, name=f"stem{number}_relu6")(x)
    y = layers.Conv2D(16, 1, name="expand")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(layers.ReLU(6.0)(y))
    y = layers.Conv2D(8, 1, name="project")(layers.ReLU(6.0)(y))
    network = keras.Model(pixels, layers.ReLU(6.0)(layers.Add()([x, y])))
    frames = draw_frames(12, (32, 32))
    expected = np.asarray(network(frames.astype(np.float32)))
    features = frames
    for number, content in enumerate(to_integers(network, frames)):
        path = tmp_path / f"{number}.tflite"
        path.write_bytes(content)
        features = Program(path)("features", frames=features)["features"]
    error = np.linalg.norm(features - expected) / np.linalg.norm(expected)
    assert 0 < error < 0.05
