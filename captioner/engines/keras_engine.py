"""Features -> token ids on Keras: a caption model and its search, on any device and options."""

from functools import cache

import numpy as np

from ..caption import DecodingResult
from ..config import DecodingOptions
from ..vocabulary import Constraints, Vocabulary


def search_with(model, options: DecodingOptions, vocabulary: Vocabulary | None = None, seed=None):
    """The one graph of all engines: `search(features, sequence_length) -> DecodingResult`.

    It takes `start_ids` besides, `(batch_size,)`, instead of those of the options' style.

    Args:
        model: a `CaptionModel`.
        options: how to search.
        vocabulary: of the model; what options demand of the words needs it.
        seed: of sentences that are drawn, see `captioner.decoding.decode`.

    Raises:
        ValueError: the vocabulary lacks a word of the options.
    """
    from keras import ops

    from ..decoding import decode

    constraints = Constraints() if vocabulary is None else vocabulary.constraints(options)
    if vocabulary is None and (options.start_with or options.avoid or options.mention):
        raise ValueError("expected a vocabulary for the words of the options, received: None")

    def search(features, sequence_length, start_ids=None):
        if start_ids is None:
            start_ids = model.start_ids(sequence_length, options.style)
        memory, initial_state = model.encode(features, sequence_length)
        return decode(
            model.decode_step,
            initial_state,
            batch_size=ops.shape(features)[0],
            options=options,
            start_ids=start_ids,
            prefix_ids=constraints.prefix_ids or None,
            forbidden_ids=(*model.style_ids, *constraints.forbidden_ids),
            required_ids=constraints.required_ids,
            attention_of=lambda state: state["attention_weights"],
            memory=memory,
            seed=seed,
        )

    return search


class KerasEngine:
    """Runs encoder and search in one graph on whichever backend Keras has."""

    def __init__(self, model, vocabulary: Vocabulary | None = None, seed: int | None = None):
        """Args:
        model: a `CaptionModel`.
        vocabulary: its words, which `start_with`, `avoid` and `mention` need.
        seed: of sentences that are drawn; by default others each time.
        """
        import keras

        self.model = model
        self.vocabulary = vocabulary
        self._seeds = keras.random.SeedGenerator(seed)
        self._search = cache(self._compile)

    def __call__(self, features: list[np.ndarray], options: DecodingOptions) -> DecodingResult:
        """Searches for sentences.

        Args:
            features: of each clip, `(num_frames, *feature_shape)`.
            options: how to search.

        Returns:
            A result of numpy arrays, a row a clip.
        """
        from keras import ops

        sequence_length = np.array([len(clip) for clip in features], np.int32)
        batch = np.stack([pad(clip, max(sequence_length)) for clip in features])
        result = self._search(options)(batch, sequence_length)
        return DecodingResult(
            *(None if value is None else ops.convert_to_numpy(value) for value in result)
        )

    def _compile(self, options):
        import keras

        search = search_with(self.model, options, self.vocabulary, self._seeds)
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
            return self._compile_jax(search)
        return search

    def _compile_jax(self, search):
        """With the state of the seeds handed in and out, as JAX changes nothing in place."""
        import jax
        import keras

        state = self._seeds.state

        @jax.jit
        def search_from(value, features, sequence_length):
            with keras.StatelessScope([(state, value)]) as scope:
                result = search(features, sequence_length)
            return result, scope.get_current_value(state)

        def search_on(features, sequence_length):
            result, value = search_from(state.value, features, sequence_length)
            state.assign(value)
            return result

        return search_on


def pad(clip, num_frames):
    """Features of a clip as float32, with zeros up to so many frames."""
    padding = [(0, num_frames - len(clip))] + [(0, 0)] * (clip.ndim - 1)
    return np.pad(np.asarray(clip, np.float32), padding)
