"""A CNN -> the same CNN in 8-bit integers.

Weights have a scale a channel; activations one a layer, which is calibrated on frames, or one a
frame, found while it is looked at ("dynamic range"). Rounding weights to the nearest integer shifts
what comes out of the first layers of EfficientNet-Lite2, whose batch normalisation makes some
weights of a filter far larger than others. So they are rounded one after the other, and each error
is made up for by those that follow (Frantar et al. 2023, "GPTQ: Accurate Post-Training
Quantization for Generative Pre-trained Transformers").
"""

import tempfile
from collections.abc import Sequence

import numpy as np

FLOATS = 8  # the share of the frames' side down to which a map is not in integers
LARGEST = 127  # of 8-bit weights, whose scale is symmetric
MOST_INPUTS = 1300  # of a filter; the time for more grows with their cube, and little is gained
SAMPLES = 2048  # places at which a layer's inputs are looked at
BLOCK = 64  # inputs after which the errors are handed on to all that follow
DAMPING = 0.01  # of the second moments, as in the paper
TOGETHER = 8  # frames at once


def to_integers(network, frames: np.ndarray) -> tuple[bytes, bytes]:
    """Makes two LiteRT programs of a network, each with a function `features(frames)`.

    The first layers, until the map has an eighth of the frames' side, stay in floats: they have
    few channels of very different size, what they lose is made larger by all that follow, and
    they cost little. A pooling of regions at the end is left out, since its means are finer than
    8 bits; what looks with the programs pools the map that they give.

    Args:
        network: a Keras model, pixels in [0, 255] -> features, whose maps grow smaller layer by
            layer; its weights become what 8 bits can tell, so it is of no further use.
        frames: uint8, for the ranges of activations, `(num_frames, height, width, 3)`.

    Returns:
        A program of uint8 frames -> a map, in float32, and one of that map -> features.
    """
    import keras
    import tensorflow as tf

    from ..cnn.efficientnet import RegionPooling

    place = _border(network)
    first = keras.Model(network.input, network.layers[place].output)
    round_weights(network, network.layers[place + 1 :], frames)
    last = network.layers[-1]
    outputs = last.input if isinstance(last, RegionPooling) else last.output
    rest = keras.Model(first.output, outputs)
    maps = _in_batches(first, frames)
    stem = _convert(lambda frames: first(tf.cast(frames, tf.float32)), frames)
    return stem, _convert(rest, maps, integers=True)


def _border(network):
    """Place of the last layer that stays in floats."""
    import keras

    for place, layer in enumerate(network.layers[:-1]):
        convolves = isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
        if convolves and FLOATS * layer.output.shape[1] <= network.input.shape[1]:
            return place + 1  # with its activation
    raise ValueError(f"expected a map of an eighth of the frames' side in {network.name}")


def _convert(function, inputs, integers=False):
    """A program `features(frames)` of a function, the batch free."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    spec = tf.TensorSpec((None, *inputs.shape[1:]), inputs.dtype, "frames")
    # The converter's calibration knows no variables.
    frozen = convert_variables_to_constants_v2(tf.function(function).get_concrete_function(spec))
    graph = tf.function(lambda frames: {"features": frozen(frames)[0]})
    with tempfile.TemporaryDirectory() as saved:
        signatures = {"features": graph.get_concrete_function(spec)}
        tf.saved_model.save(tf.Module(), saved, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved)
        if integers:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ({"frames": one[None]} for one in inputs)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        return converter.convert()


def _in_batches(network, frames):
    batches = range(0, len(frames), TOGETHER)
    found = [network(frames[i : i + TOGETHER].astype(np.float32)) for i in batches]
    return np.concatenate([np.asarray(one) for one in found])


def round_weights(network, layers: Sequence, frames: np.ndarray):
    """Moves the weights of convolutions to multiples of their channels' scales.

    Args:
        network: as for `to_integers`.
        layers: those of its layers whose convolutions are moved.
        frames: uint8, in which their inputs are looked at, `(num_frames, height, width, 3)`.
    """
    import keras

    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    convolutions = [
        layer
        for layer in layers
        if isinstance(layer, kinds) and _inputs_of_filter(layer) <= MOST_INPUTS
    ]
    inputs_of = keras.Model(network.input, [layer.input for layer in convolutions])
    rng = np.random.default_rng(0)
    moments = [0.0] * len(convolutions)
    count = -(-SAMPLES * TOGETHER // len(frames))
    batches = range(0, len(frames), TOGETHER)
    for start in batches:
        found = inputs_of(frames[start : start + TOGETHER].astype(np.float32))
        found = found if isinstance(found, list) else [found]
        for number, (inputs, layer) in enumerate(zip(found, convolutions, strict=True)):
            patches = _patches(np.asarray(inputs), layer, count, rng)
            # (count, positions, channels) -> (groups, count, inputs of a filter)
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                patches = np.ascontiguousarray(patches.transpose(2, 0, 1))  # or it takes long
            else:
                patches = patches.reshape(1, count, -1)
            moments[number] += patches.transpose(0, 2, 1) @ patches / (count * len(batches))
    for layer, moment in zip(convolutions, moments, strict=True):
        kernel, *bias = layer.get_weights()
        height, width, channels, _ = kernel.shape
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            weights = kernel.reshape(height * width, channels, -1).transpose(1, 0, 2)
        else:
            weights = kernel.reshape(1, height * width * channels, -1)
        rounded = round_for(weights, moment.astype(np.float64)).astype(np.float32)
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            rounded = rounded.transpose(1, 0, 2)
        layer.set_weights([rounded.reshape(kernel.shape), *bias])


def _inputs_of_filter(layer):
    """How many values a filter multiplies at once."""
    import keras

    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return int(np.prod(layer.kernel.shape[: 2 if depthwise else 3]))


def _patches(inputs, layer, count, rng):
    """What filters see at random places: `(count, kernel height * width, channels)`."""
    side, stride = layer.kernel_size[0], layer.strides[0]
    size = -(-inputs.shape[1] // stride)
    padding = max((size - 1) * stride + side - inputs.shape[1], 0)
    around = (padding // 2, padding - padding // 2)
    inputs = np.pad(inputs, ((0, 0), around, around, (0, 0)))
    frame = rng.integers(0, len(inputs), count)
    row, column = rng.integers(0, size, (2, count)) * stride
    i, j = np.indices((side, side)).reshape(2, -1)
    return inputs[frame[:, None], row[:, None] + i, column[:, None] + j]


def round_for(weights: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Rounds weights to multiples of a scale a filter, the largest of them to 127 times it.

    Args:
        weights: `(groups, inputs, filters)`.
        moments: of the inputs, their mean products two by two, `(groups, inputs, inputs)`.

    Returns:
        Rounded weights, whose outputs differ little from those of the given ones.
    """
    scale = np.abs(weights).max(1) / LARGEST
    scale[scale == 0] = 1
    diagonal = np.einsum("gii->gi", moments).mean(1)
    damping = (DAMPING * diagonal + 1e-9)[:, None, None] * np.eye(weights.shape[1])
    spread = np.linalg.cholesky(np.linalg.inv(moments + damping)).transpose(0, 2, 1)
    left, rounded = weights.astype(np.float64), np.zeros(weights.shape)
    for start in range(0, weights.shape[1], BLOCK):
        block = range(start, min(start + BLOCK, weights.shape[1]))
        end, errors = block.stop, []
        for i in block:
            rounded[:, i] = np.clip(np.round(left[:, i] / scale), -LARGEST, LARGEST) * scale
            errors.append((left[:, i] - rounded[:, i]) / spread[:, i, i, None])
            left[:, i + 1 : end] -= spread[:, i, i + 1 : end, None] * errors[-1][:, None]
        later = spread[:, start:end, end:].transpose(0, 2, 1)
        left[:, end:] -= later @ np.stack(errors, axis=1)  # the same for all later ones at once
    return rounded
