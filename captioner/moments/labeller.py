"""A video of any length in, labelled segments out."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import keras
import numpy as np
from keras import ops

from ..cnn import Backbone
from ..config import LabellingOptions
from ..video.reader import Moments, Reader
from .folder import LabelFolder
from .model import LabelModel
from .segments import LabelledSegment, segments_of


class Labeller:
    """A model that labels every moment of a video: backbone and sequence model in one.

    Reading, features and the model's state flow window by window, so that a video of ten hours
    takes no more memory than one of a minute. A causal model gives what it would give of the
    whole video at once. A bidirectional one sees each window with `context` moments on both
    sides: what lies further away it does not know of. (One of n convolutions does not look
    further than `2 ** n - 1` moments, so that with as much context nothing is lost.)
    """

    def __init__(
        self,
        backbone: Backbone,
        model: LabelModel,
        labels: tuple[str, ...],
        options: LabellingOptions,
        name: str,
    ):
        """Puts the parts together; `load` does it from a model folder."""
        self.backbone = backbone
        self.model = model
        self.labels = labels
        self.options = options
        self.name = name
        self._look = _compiled(self._look_at)

    @classmethod
    def load(cls, folder: str | Path, options: LabellingOptions | None = None) -> "Labeller":
        """Loads a model.

        Args:
            folder: the folder of a labelling model.
            options: how to label; by default as the folder says.

        Raises:
            ModelError: the folder is missing, not whole, or of another kind.
        """
        found = LabelFolder.open(folder)
        options = options or found.labelling
        return cls(found.load_backbone(), found.load_model(), found.labels, options, found.name)

    def label(self, video: str | Path, reader: Reader | None = None) -> Iterator[LabelledSegment]:
        """Segments of a video, each as soon as it is known to have ended.

        Args:
            video: a file.
            reader: reads it, in a child process that no file can take down with it; by default
                this process does.

        Raises:
            VideoError: the file is no video, has no frame that can be decoded, or asks for more
                than the reader's limits.
        """
        moments = self.probabilities(self._features(video, reader))
        return segments_of(moments, self.labels, self.options, self.model.config.multi_label)

    def moment_probabilities(self, video: str | Path) -> np.ndarray:
        """Probabilities of the labels at all moments of a video, `(num_frames, num_labels)`.

        Raises:
            VideoError: the file is no video, or has no frame that can be decoded.
        """
        return np.stack(list(self.probabilities(self._features(video))))

    def _features(self, video, reader=None):
        request = Moments(str(video), self.options.fps, self.backbone.input_size)
        frames = reader.read(request) if reader else request.parts()
        while batch := list(islice(frames, self.options.window)):
            yield from self.backbone(np.stack(batch))

    def probabilities(self, features: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Probabilities of the labels at each moment in turn.

        Args:
            features: of each moment in turn, `(*feature_shape,)`.

        Yields:
            float32 `(num_labels,)`.
        """
        window = self.options.window
        context = self.options.context if self.model.config.bidirectional else 0
        state = self.model.initial_state(1)
        for stretch, before, count in _windows(iter(features), window, context):
            padded = np.zeros((1, window + 2 * context, *stretch.shape[1:]), np.float32)
            padded[0, : len(stretch)] = stretch
            length = np.array([len(stretch)], np.int32)
            probabilities, state = self._look(padded, length, state)
            yield from ops.convert_to_numpy(probabilities)[0, before : before + count]

    def _look_at(self, features, sequence_length, state):
        logits, state = self.model(features, sequence_length, state)
        return self.model.probabilities(logits), state


def _windows(
    features: Iterator[np.ndarray], window: int, context: int
) -> Iterator[tuple[np.ndarray, int, int]]:
    """Cuts features into windows, each with what lies around it.

    Yields:
        A window with its context, `(num_frames, *feature_shape)`; how many of these moments
        lie before the window; and how many are the window's.
    """
    held, before = [], 0
    while True:
        held += islice(features, before + window + context - len(held))
        count = min(window, len(held) - before)
        if count == 0:
            return
        yield np.stack(held), before, count
        seen = before + count
        del held[: max(0, seen - context)]
        before = min(context, seen)


def _compiled(function: Callable) -> Callable:
    """The function in a graph of the backend at hand."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import torch

    return torch.no_grad()(function)
