"""A caption model and its CNN -> LiteRT programs, held against Keras."""

import os
import tempfile
from pathlib import Path

import numpy as np

from ..cnn import BUNDLED, PRETRAINED
from ..errors import ModelError
from ..model_folder import ModelFolder
from ..vocabulary import start_id
from .drawing import draw_frames
from .keras_engine import search_with
from .lite_engine import (
    BACKBONE_PROGRAM,
    CAPTIONER_PROGRAM,
    STEM_PROGRAM,
    Program,
    functions,
    lite_backbone,
)
from .quantization import round_weights, to_integers

SCORE_TOLERANCE = 1e-4  # sentences whose scores differ by less are as good as each other
CALIBRATION_FRAMES = 32
FEATURE_TOLERANCE = {False: 1e-3, True: 2e-1}  # relative, by whether weights are int8


def convert(folder: ModelFolder, target: Path, int8: bool = False):
    """Converts a model to LiteRT programs and checks them against Keras.

    Args:
        folder: the model.
        target: a folder that does not exist yet.
        int8: whether the CNN computes with 8-bit integers.

    Raises:
        ModelError: the model cannot be loaded, or its programs say something else.
    """
    import tensorflow as tf

    backbone, model = folder.load_backbone(), folder.load_model()
    num_frames = folder.sampling.num_frames

    def see(frames):
        return {"features": backbone.traceable(tf.cast(frames, tf.float32))}

    frames = tf.TensorSpec((None, *backbone.input_size, 3), tf.uint8, "frames")
    features = tf.TensorSpec((1, num_frames, *backbone.feature_shape), tf.float32, "features")
    sequence_length = tf.TensorSpec((1,), tf.int32, "sequence_length")
    start_ids = tf.TensorSpec((1,), tf.int32, "start_ids")
    looking = {"features": tf.function(see).get_concrete_function(frames)}
    searching = {
        name: tf.function(
            _by_name(search_with(model, options, folder.vocabulary))
        ).get_concrete_function(features, sequence_length, start_ids)
        for name, options in functions(folder.decoding).items()
    }
    frames = draw_frames(num_frames, backbone.input_size)
    features = looking["features"](tf.constant(frames))["features"].numpy()
    target.mkdir()
    programs = {CAPTIONER_PROGRAM: _to_program(searching)}
    calibration = draw_frames(CALIBRATION_FRAMES, backbone.input_size) if int8 else ()
    if int8 and folder.backbone == PRETRAINED:
        stem, looks = to_integers(backbone.traceable, calibration)
        programs |= {STEM_PROGRAM: stem, BACKBONE_PROGRAM: looks}
    else:
        if int8 and folder.backbone == BUNDLED:
            round_weights(backbone.traceable, backbone.traceable.layers, calibration)
        programs[BACKBONE_PROGRAM] = _to_program(looking, int8)
    for name, program in programs.items():
        with open(target / name, "wb") as file:
            file.write(program)
            os.fsync(file.fileno())
    _check(folder, target, features, searching, frames, FEATURE_TOLERANCE[int8])


def _by_name(search):
    return lambda *tensors: search(*tensors)._asdict()


def _to_program(graphs: dict, int8: bool = False) -> bytes:
    """One LiteRT program of TensorFlow graphs, which share their weights in it."""
    import tensorflow as tf

    module = tf.Module()
    module.weights = [variable for graph in graphs.values() for variable in graph.graph.variables]
    with tempfile.TemporaryDirectory() as saved:
        tf.saved_model.save(module, saved, signatures=graphs)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved)
        converter.optimizations = [tf.lite.Optimize.DEFAULT] * int8  # weights; inputs as they come
        return converter.convert()


def _check(folder, target, features, searching, frames, tolerance):
    """Runs graphs and programs on all frames, and on clips of one, two ... of them."""
    import tensorflow as tf

    backbone, captioner = lite_backbone(folder, target), Program(target / CAPTIONER_PROGRAM)
    found = backbone(frames)
    if not np.linalg.norm(found - features) <= tolerance * np.linalg.norm(features):
        raise ModelError(f"{BACKBONE_PROGRAM}: gives other features than Keras does")
    for length in range(1, len(frames) + 1):
        clip = np.zeros_like(features)
        clip[:length] = np.roll(features, length, axis=0)[:length]
        inputs = {"features": clip[None], "sequence_length": np.array([length], np.int32)}
        first = start_id(folder.model.styles, folder.decoding.style, length)
        inputs["start_ids"] = np.array([first], np.int32)
        for name, graph in searching.items():
            expected = graph(*map(tf.constant, inputs.values()))
            found = captioner(name, **inputs)
            same = np.all(found["token_ids"] == expected["token_ids"], axis=2)
            as_good = np.abs(found["scores"] - expected["scores"]) < SCORE_TOLERANCE
            if not np.all(same | as_good):
                raise ModelError(f"{CAPTIONER_PROGRAM}: gives other sentences than Keras does")
