"""Training on all devices of a machine at once."""

import keras
import tensorflow as tf


def strategy() -> tf.distribute.Strategy:
    """Spreads each batch over all GPUs, or over all parts of a CPU that was divided into some.

    What is made and trained in its `scope()` has a copy of its weights on each device; their
    gradients are added up. Where there is one device, or Keras runs on another backend, nothing
    is spread.
    """
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) == 1 or keras.backend.backend() != "tensorflow":
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([device.name for device in devices])
