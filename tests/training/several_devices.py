"""A caption training on so many parts of the CPU.

python -m tests.training.several_devices NUM_DEVICES LABELS FOLDER
"""

import faulthandler
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from captioner.cnn import Backbone
from captioner.config import ModelConfig, SamplingOptions
from captioner.model import CaptionModel
from captioner.vocabulary import Vocabulary
from training.data.manifest import read_labels
from training.data.records import read_records, write_records
from training.devices import strategy
from training.trainer import TrainingOptions, train


class MeanColour(Backbone):
    """Features that are the mean colour of a frame."""

    def __init__(self):
        super().__init__("mean_colour", (8, 8), (3,), None)

    def __call__(self, frames):
        return frames.mean((1, 2), dtype=np.float32) / 255


def learn(labels: Path, folder: Path) -> list[dict]:
    """Trains on all devices; returns the history."""
    keras.utils.set_random_seed(5)
    clips = read_labels(labels)
    vocabulary = Vocabulary.build(caption for clip in clips for caption in clip.captions)
    records = write_records(clips, MeanColour(), SamplingOptions(num_frames=4), folder / "features")
    with strategy().scope():
        model = CaptionModel(
            # With dropout each device would drop others.
            ModelConfig(len(vocabulary), 3, units=8, embedding_dim=6, dropout=0.0)
        )
        return train(
            model,
            read_records(records, vocabulary, batch_size=4, seed=5),
            read_records(records, vocabulary, batch_size=4),
            TrainingOptions(epochs=100, learning_rate=1e-2),
            folder / "state",
        )


if __name__ == "__main__":
    faulthandler.dump_traceback_later(600, exit=True)  # should it hang, it tells where
    parts = [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1])
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    learn(Path(sys.argv[2]), Path(sys.argv[3]))
