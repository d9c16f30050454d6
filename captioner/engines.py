"""Features -> token ids: a caption model and its search, compiled for the backend at hand."""

from functools import cache

import keras
import numpy as np
from keras import ops

from .config import DecodingOptions
from .decoding import DecodingResult, decode
from .model import CaptionModel


class KerasEngine:
    """Runs encoder and search in one graph on whichever backend Keras has."""

    def __init__(self, model: CaptionModel):
        self.model = model
        self._search = cache(self._compile)

    def __call__(self, features: list[np.ndarray], options: DecodingOptions) -> DecodingResult:
        """Searches for sentences.

        Args:
            features: of each clip, `(num_frames, *feature_shape)`.
            options: how to search.

        Returns:
            A result of numpy arrays, a row a clip.
        """
        sequence_length = np.array([len(clip) for clip in features], np.int32)
        batch = np.zeros((len(features), max(sequence_length), *features[0].shape[1:]), np.float32)
        for row, clip in zip(batch, features, strict=True):
            row[: len(clip)] = clip
        result = self._search(options)(batch, sequence_length)
        return DecodingResult(
            *(None if value is None else ops.convert_to_numpy(value) for value in result)
        )

    def _compile(self, options):
        def search(features, sequence_length):
            memory, initial_state = self.model.encode(features, sequence_length)
            return decode(
                self.model.decode_step,
                initial_state,
                batch_size=ops.shape(features)[0],
                options=options,
                attention_of=lambda state: state["attention_weights"],
                memory=memory,
            )

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            config = self.model.config
            regions = () if config.num_regions == 1 else (config.num_regions,)
            shape = (None, None, *regions, config.feature_dim)
            return tf.function(
                search,
                input_signature=[
                    tf.TensorSpec(shape, tf.float32, "features"),
                    tf.TensorSpec((None,), tf.int32, "sequence_length"),
                ],
            )
        if keras.backend.backend() == "jax":
            import jax

            return jax.jit(search)
        return search
