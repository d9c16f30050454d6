"""Frames -> features: EfficientNet-Lite2, the bundled CNN, or a network from elsewhere."""

import inspect
import os
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config import CnnConfig
from ..errors import ModelError

BUNDLED = "bundled"
PRETRAINED = "efficientnet-lite2"
APPLICATION_SIZE = 224  # pixels; what most networks of keras.applications were trained at
DOWNLOAD_SECONDS = 600


@dataclass(frozen=True)
class Backbone:
    """A pretrained CNN: single frames -> features.

    Attributes:
        name: `efficientnet-lite2`, `bundled`, `hub:HANDLE` or `keras:NAME`.
        input_size: `(height, width)` in pixels that it expects of frames.
        feature_shape: what it makes of one frame: `(feature_dim,)`, or
            `(num_regions, feature_dim)` where it keeps regions apart.
        network: uint8 RGB frames -> features, on one batch.
        traceable: the same on tensors, for `captioner.engines.programs`; None from TensorFlow Hub.
    """

    name: str
    input_size: tuple[int, int]
    feature_shape: tuple[int, ...]
    network: Callable
    traceable: Callable | None = None

    def __call__(self, frames: np.ndarray, batch_size: int = 16) -> np.ndarray:
        """Extracts features.

        Args:
            frames: uint8 RGB, `(num_frames, *input_size, 3)`.
            batch_size: most frames looked at together.

        Returns:
            float32 features, `(num_frames, *feature_shape)`.
        """
        if frames.shape[1:] != (*self.input_size, 3):
            raise ValueError(f"expected frames of {self.input_size}, received: {frames.shape=}")
        batches = range(0, len(frames), batch_size)
        features = [np.asarray(self.network(frames[i : i + batch_size])) for i in batches]
        return np.concatenate(features).astype(np.float32, copy=False)


def load_backbone(
    name: str, cnn: CnnConfig | None = None, weights: str | Path | None = None
) -> Backbone:
    """Loads a backbone.

    Args:
        name: `efficientnet-lite2`: see `captioner.cnn.efficientnet`; `bundled`: a small CNN of our
            own; `hub:HANDLE`: a SavedModel by its TensorFlow Hub address or folder; `keras:NAME`:
            a network of `keras.applications`, such as `keras:MobileNetV2`. The last two are
            downloaded once, then kept.
        cnn: the shape of the bundled CNN.
        weights: the file of its weights; for `keras:NAME` a file instead of the download.

    Raises:
        ModelError: there is no such backbone, or it can be neither found nor downloaded.
        ValueError: `bundled` without `cnn` or `weights`.
    """
    source, _, rest = name.partition(":")
    if name == BUNDLED:
        if cnn is None or weights is None:
            raise ValueError(f"expected cnn and weights, received: {cnn=}, {weights=}")
        return _load_bundled(cnn, weights)
    if name == PRETRAINED:
        return _load_pretrained()
    if source == "hub" and rest:
        return _load_hub(name, rest)
    if source == "keras" and rest:
        return _load_application(name, rest, weights or "imagenet")
    raise ModelError(
        f"{name}: no such backbone; name efficientnet-lite2, bundled, hub:HANDLE or keras:NAME"
    )


def load_weights(network, weights: str | Path, described: object):
    """Loads weights, all of them or none.

    Args:
        network: a Keras model, which takes them.
        weights: a `.weights.h5` file.
        described: the configuration that the network was built from, for the message.

    Raises:
        ModelError: the file cannot be read, or holds the weights of something else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Keras only warns of weights it does not find
            network.load_weights(weights)
    except (OSError, ValueError, KeyError, UserWarning) as err:
        raise ModelError(
            f"{weights}: does not hold the weights of {described}; "
            "copy the model folder again from where it came"
        ) from err


def _load_bundled(cnn, weights):
    from .bundled import build_cnn

    network = build_cnn(cnn)
    load_weights(network, weights, cnn)
    size = (cnn.input_size, cnn.input_size)
    return Backbone(BUNDLED, size, network.output_shape[1:], _compiled(network), network)


def _load_pretrained():
    from .efficientnet import INPUT_SIZE, load_efficientnet_lite2

    network, size = load_efficientnet_lite2(), (INPUT_SIZE, INPUT_SIZE)
    return Backbone(PRETRAINED, size, network.output_shape[1:], _compiled(network), network)


def _load_application(name, application, weights):
    import keras

    build = getattr(keras.applications, application, None)
    preprocess = getattr(inspect.getmodule(build), "preprocess_input", None)
    if not inspect.isfunction(build) or preprocess is None:
        raise ModelError(
            f"{name}: keras.applications has no {application}; "
            "see https://keras.io/api/applications for the names it has"
        )
    size = (APPLICATION_SIZE, APPLICATION_SIZE)
    try:
        network = build(include_top=False, weights=weights, input_shape=(*size, 3), pooling="avg")
    except Exception as err:  # keras reports a failed download as a plain Exception
        raise ModelError(
            f"{name}: its weights cannot be had: {err}. Check the connection, "
            "or put the file into ~/.keras/models yourself"
        ) from err
    inputs = keras.layers.Input((*size, 3), name="pixels")
    network = keras.Model(inputs, network(preprocess(inputs)))
    return Backbone(name, size, network.output_shape[1:], _compiled(network), network)


def _compiled(network) -> Callable:
    import keras

    # XLA makes convolutions many times slower on a CPU under TensorFlow; JAX has nothing else.
    network.compile(jit_compile=keras.backend.backend() == "jax")
    return network.predict_on_batch


def _load_hub(name, handle):
    import tensorflow as tf

    module = _download_hub(name, handle)
    signatures = getattr(module, "signatures", {})
    known = ("image_feature_vector", "serving_default", "default")
    key = next((key for key in known if key in signatures), None)
    if key is None:
        raise ModelError(
            f"{name}: has none of the signatures {', '.join(known)}, but {list(signatures)}; "
            "name a module that turns images into feature vectors"
        )
    signature = signatures[key]
    (argument, spec), *others = signature.structured_input_signature[1].items()
    outputs = signature.structured_outputs
    output = "default" if "default" in outputs else next(iter(outputs))
    if others or spec.shape.rank != 4 or outputs[output].shape.rank not in (2, 4):
        raise ModelError(
            f"{name}: its signature {key} takes {dict(signature.structured_input_signature[1])} "
            f"and gives {dict(outputs)}; expected one batch of images in, feature vectors or a "
            "feature map out"
        )
    height, width = (side or APPLICATION_SIZE for side in spec.shape[1:3])

    def network(frames):
        # The common image signature of TensorFlow Hub: RGB in [0, 1].
        pixels = tf.constant(frames, tf.float32) / 255
        features = signature(**{argument: pixels})[output]
        return tf.reduce_mean(features, (1, 2)) if features.shape.rank == 4 else features

    feature_dim = network(np.zeros((1, height, width, 3), np.uint8)).shape[-1]
    return Backbone(name, (height, width), (feature_dim,), network)


def _download_hub(name, handle):
    """`hub.load` that gives up: TensorFlow Hub itself would wait for ever."""
    import tensorflow_hub as hub
    from platformdirs import user_cache_path

    os.environ.setdefault("TFHUB_CACHE_DIR", str(user_cache_path("captioner") / "hub"))
    outcome = []

    def resolve():
        try:
            outcome.append(hub.resolve(handle))
        except Exception as err:  # told to the waiting thread
            outcome.append(err)

    download = threading.Thread(target=resolve, daemon=True)
    download.start()
    download.join(DOWNLOAD_SECONDS)
    try:
        if not outcome:
            raise TimeoutError(f"no answer in {DOWNLOAD_SECONDS} s")
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return hub.load(outcome[0])
    except Exception as err:
        raise ModelError(
            f"{name}: cannot be loaded: {err}. Check the address and the connection, or "
            "download it yourself and name its folder: hub:FOLDER"
        ) from err
