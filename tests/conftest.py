"""What several test modules share: drawn clips and tiny models."""

import json
import os
from collections import Counter
from dataclasses import asdict

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow
# TensorFlow brings an SQLite without full-text search, which would be taken were it there first.
import sqlite3  # noqa: F401

import cv2
import numpy as np
import pytest

from captioner.config import CnnConfig, DecodingOptions, ModelConfig, SamplingOptions
from captioner.model_folder import BACKBONE_WEIGHTS, ModelFolder
from captioner.vocabulary import Vocabulary

TINY_CNN = CnnConfig(input_size=32, widths=(8, 12, 16, 24), depths=(1, 1, 1), feature_dim=32)
SENTENCES = {
    ("red", "circle"): "A red ball rolls over the floor.",
    ("blue", "square"): "The blue box is pushed to the wall.",
    ("green", "circle"): "Something green floats by.",
    ("white", "square"): "Two people watch a white window.",
}


def pytest_collection_modifyitems(items):
    """Modules of few tests come first: theirs take longest, and one worker would end with them."""
    counts = Counter(item.path for item in items)
    items.sort(key=lambda item: counts[item.path])


def draw_shape_clip(path, colour, shape, num_frames=20, fps=10):
    """Writes a clip of a shape that moves to the right; returns its path."""
    bgr = {"red": (0, 0, 255), "blue": (255, 0, 0), "green": (0, 255, 0), "white": (255,) * 3}
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (64, 48))
    for x in np.linspace(10, 54, num_frames).astype(int).tolist():
        frame = np.full((48, 64, 3), 60, np.uint8)
        if shape == "circle":
            cv2.circle(frame, (x, 24), 9, bgr[colour], -1)
        else:
            cv2.rectangle(frame, (x - 9, 15), (x + 9, 33), bgr[colour], -1)
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Keeps what the tests write into the user's cache apart from it; no process writes there
    beside a test.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("captioner.cli.caption.MANY", 0)
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_cnn(tmp_path_factory):
    """A folder as `captioner distill` writes it, with an untrained CNN."""
    import keras

    from captioner.cnn.bundled import build_cnn

    folder = tmp_path_factory.mktemp("cnn")
    keras.utils.set_random_seed(1)
    build_cnn(TINY_CNN).save_weights(folder / BACKBONE_WEIGHTS)
    (folder / "cnn.json").write_text(json.dumps(asdict(TINY_CNN)))
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, tiny_cnn):
    """A model folder with an untrained caption model."""
    import keras

    from captioner.model import CaptionModel

    keras.utils.set_random_seed(2)
    vocabulary = Vocabulary.build(SENTENCES.values())
    config = ModelConfig(
        len(vocabulary), 32, num_regions=4, units=16, embedding_dim=12, motion_dim=8
    )
    model = CaptionModel(config)
    kernel = model.motion.output_projection.kernel  # zero until something is learned
    kernel.assign(keras.random.normal(kernel.shape, seed=3))
    folder = ModelFolder(
        tmp_path_factory.mktemp("models") / "tiny",
        config,
        "bundled",
        TINY_CNN,
        SamplingOptions(num_frames=3),
        DecodingOptions(beam_size=2, max_length=6),
        vocabulary,
    )
    folder.save(model, tiny_cnn / BACKBONE_WEIGHTS)
    return folder.path


@pytest.fixture(scope="session")
def labelled_clips(tmp_path_factory):
    """Four drawn clips and a sentence for each, as labels."""
    folder = tmp_path_factory.mktemp("clips")
    rows = []
    for (colour, shape), sentence in SENTENCES.items():
        draw_shape_clip(folder / f"{colour}.avi", colour, shape)
        rows.append({"video": f"{colour}.avi", "captions": [sentence], "split": "train"})
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "labels.jsonl"
