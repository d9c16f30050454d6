"""What a training runs on: devices, and how precisely they compute."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf


def strategy() -> tf.distribute.Strategy:
    """Spreads each batch over all GPUs, or over all parts of a CPU that was divided into some.

    What is made and trained in its `scope()` has a copy of its weights on each device; their
    gradients are added up. Where there is one device, or Keras runs on another backend, nothing
    is spread.
    """
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    if len(devices) == 1 or keras.backend.backend() != "tensorflow":
        return tf.distribute.get_strategy()
    # Parts of a CPU would by default add up in a ring of threads that wait for each other, which
    # can hang.
    adding = None if gpus else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy([device.name for device in devices], adding)


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Has layers that are made in a `with` compute by a Keras dtype policy, and later ones not."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
