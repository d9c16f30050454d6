"""Model folder -> SavedModel: frames in, sentences out, for who has TensorFlow and not our code.

CNN, encoder, search and words are one graph. `signatures.json` beside it tells the names, types
and shapes of what goes in and comes out, and `request.json` is a request as TensorFlow Serving's
REST interface takes it.
"""

import base64
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from ..errors import ModelError
from ..layers import LSTM
from ..model_folder import VOCABULARY, ModelFolder
from ..vocabulary import PAD_ID, UNSPACED
from .keras_engine import search_with

SIGNATURES, REQUEST = "signatures.json", "request.json"


def write_saved_model(folder: ModelFolder, target: Path, num_captions: int = 1):
    """Writes a SavedModel with three signatures, the batch free in all of them.

        serving_default  jpegs (batch_size, num_frames) string, "" after the last frame of a clip
        frames           frames (batch_size, num_frames, height, width, 3) uint8 RGB of any size,
                         sequence_length (batch_size,) int32
        features         features (batch_size, num_frames, *feature_shape) float32,
                         sequence_length (batch_size,) int32

    Each gives `captions` `(batch_size, num_captions)` string and `scores`, likewise, float32.

    Args:
        folder: the model, and how it searches.
        target: a folder that does not exist yet, or is empty.
        num_captions: sentences for each clip.

    Raises:
        ModelError: the folder cannot be written, the model cannot be loaded, or its search has
            fewer hypotheses than `num_captions`.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelError(f"{target}: is there already; delete it, or name another folder")
    if folder.backbone.startswith("hub:"):
        raise ModelError(
            f"{folder.path}: uses {folder.backbone}, whose weights are not the folder's; "
            "train on the bundled backbone or one of keras.applications to export"
        )
    try:
        decoding = replace(folder.decoding, num_captions=num_captions)
    except ValueError as err:
        raise ModelError(f"{folder.path}: cannot search so: {err}") from err
    module = _Module(folder, decoding)
    try:
        tf.saved_model.save(module, target, signatures=module.signatures())
        described = {name: _describe(one) for name, one in module.signatures().items()}
        (target / SIGNATURES).write_text(json.dumps(described, indent=2) + "\n")
        (target / REQUEST).write_text(json.dumps(_example(module.size)) + "\n")
    except OSError as err:
        raise ModelError(f"{target}: cannot be written: {err.strerror}") from err


class _Module(tf.Module):
    """What goes into the SavedModel: the graphs, the variables that they share, the words."""

    def __init__(self, folder, decoding):
        super().__init__()
        backbone, model = folder.load_backbone(), folder.load_model()
        for layer in model._flatten_layers():
            if isinstance(layer, LSTM):
                layer.use_cudnn = False  # or what a GPU exports, a CPU could not run
        # Not the network itself: its variables would be saved twice.
        self._look, self.size = lambda frames: backbone.traceable(frames), backbone.input_size
        self._search = search_with(model, decoding, folder.vocabulary)
        self._sentences = Sentences(folder.path / VOCABULARY)
        length = tf.TensorSpec((None,), tf.int32, "sequence_length")
        jpegs = tf.TensorSpec((None, None), tf.string, "jpegs")
        frames = tf.TensorSpec((None, None, None, None, 3), tf.uint8, "frames")
        features = tf.TensorSpec((None, None, *backbone.feature_shape), tf.float32, "features")
        self._graphs = {
            "serving_default": tf.function(self.of_jpegs, [jpegs]),
            "frames": tf.function(self.of_frames, [frames, length]),
            "features": tf.function(self.of_features, [features, length]),
        }
        self._variables = [v for one in self.signatures().values() for v in one.graph.variables]

    def signatures(self):
        return {name: graph.get_concrete_function() for name, graph in self._graphs.items()}

    def of_jpegs(self, jpegs):
        real = tf.strings.length(jpegs) > 0
        frames = tf.map_fn(
            lambda jpeg: self._fit(tf.io.decode_jpeg(jpeg, 3, dct_method="INTEGER_ACCURATE")),
            tf.boolean_mask(jpegs, real),
            fn_output_signature=tf.TensorSpec((*self.size, 3), tf.uint8),
        )
        sequence_length = tf.reduce_sum(tf.cast(real, tf.int32), axis=1)
        return self._of_clips(frames, sequence_length)

    def of_frames(self, frames, sequence_length):
        real = tf.sequence_mask(sequence_length, tf.shape(frames)[1])
        return self._of_clips(self._fit(tf.boolean_mask(frames, real)), sequence_length)

    def _fit(self, frames):
        """Frames at the backbone's size, as near to OpenCV's as TensorFlow can."""
        resized = tf.image.resize(frames, self.size, tf.image.ResizeMethod.AREA)
        return tf.cast(tf.round(resized), tf.uint8)

    def _of_clips(self, frames, sequence_length):
        """All real frames of all clips go through the CNN together."""
        real = tf.debugging.assert_positive(sequence_length, "expected a frame in every clip")
        with tf.control_dependencies([real]):
            features = self._look(tf.cast(frames, tf.float32))
        features = tf.RaggedTensor.from_row_lengths(features, sequence_length).to_tensor()
        return self.of_features(features, sequence_length)

    def of_features(self, features, sequence_length):
        found = self._search(features, sequence_length)
        return {"captions": self._sentences(found.token_ids), "scores": found.scores}


class Sentences(tf.Module):
    """Token ids -> sentences in a graph, as `vocabulary.join` and `pipeline.to_sentence` do it."""

    def __init__(self, vocabulary: Path):
        """Args:
        vocabulary: a file with a token a line, which becomes part of a SavedModel.
        """
        super().__init__()
        lines = tf.lookup.TextFileInitializer(
            vocabulary,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
        )
        self._words = tf.lookup.StaticHashTable(lines, default_value="")

    def __call__(self, token_ids):
        """`(batch_size, num_captions, max_length)`, PAD after the last word, -> strings."""
        words = self._words.lookup(tf.cast(token_ids, tf.int64))
        words = tf.where(token_ids == PAD_ID, "", words)
        text = tf.strings.strip(tf.strings.reduce_join(words, axis=-1, separator=" "))
        text = tf.strings.regex_replace(text, " '", "'")
        for _ in range(2):  # a match takes the character that the next one begins with
            text = tf.strings.regex_replace(text, f"([{UNSPACED}]) ([{UNSPACED}])", r"\1\2")
        first = tf.strings.substr(text, 0, 1, unit="UTF8_CHAR")
        rest = tf.strings.substr(text, tf.strings.length(first), tf.strings.length(text))
        return tf.strings.upper(first, encoding="utf-8") + rest + "."


def _describe(signature):
    def tensors(specs):
        return {
            name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
            for name, spec in specs.items()
        }

    inputs, _ = signature.structured_input_signature
    return {
        "inputs": tensors({spec.name: spec for spec in inputs}),
        "outputs": tensors(signature.structured_outputs),
    }


def _example(size):
    """A request with a clip of two drawn frames."""
    rows, columns = np.indices(size) * 255 // np.array(size)[:, None, None]
    frames = [np.stack([rows, columns, np.full(size, blue)], axis=-1) for blue in (0, 255)]
    jpegs = [tf.io.encode_jpeg(frame.astype(np.uint8)).numpy() for frame in frames]
    return {"instances": [{"jpegs": [{"b64": base64.b64encode(jpeg).decode()} for jpeg in jpegs]}]}
