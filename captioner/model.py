"""The caption model: features of frames -> words, one set of layers behind three doors."""

from typing import NamedTuple

import keras
from keras import layers, ops

from .config import AUTO_STYLE, NUM_HEADS, ModelConfig
from .layers import (
    GRU,
    LSTM,
    AdditiveAttention,
    Bidirectional,
    Motion,
    MultiHeadAttention,
    MultiplicativeAttention,
    TemporalConvolution,
    in_windows,
)
from .vocabulary import SPECIAL_TOKENS, START_ID


class Memory(NamedTuple):
    """The encoder's output, which the decoder attends to: one row for each region of each frame.

    Attributes:
        values: `(batch_size, memory_length, units)`, memory_length = num_frames * num_regions.
        keys: the values as the attention compares them, `(batch_size, memory_length, units)`.
        mask: `(batch_size, memory_length)` bool, True = real.
    """

    values: object
    keys: object
    mask: object


class CaptionModel(keras.Model):
    """An encoder-decoder with attention over frames and regions.

    To each region is added what moves there, if the model has a `motion_dim`. The encoder, an LSTM
    by default, reads the frames, each the mean of its regions. A row of memory is a region plus
    what the encoder made of its frame. The decoder has two LSTMs (after Anderson et al. 2018,
    "Bottom-up and top-down attention"): the first reads the words and asks, the second reads the
    answer and speaks. Unlike there, no output flows back into the first one but through the words,
    so that in training each runs over whole sentences at once.

    Args:
        config: its shape.
        window: frames that a gradient flows back through in training, where the encoder then
            reads clips window by window; None: all of a clip. What the model says is the same.

    Raises:
        ValueError: windows, and an encoder that is bidirectional.
    """

    def __init__(self, config: ModelConfig, window: int | None = None, **kwargs):
        super().__init__(**kwargs)
        if window and config.bidirectional:
            raise ValueError("an encoder that is bidirectional cannot learn in windows")
        self.config, self.window = config, window
        units = config.units
        self.embedding = layers.Embedding(
            config.vocab_size,
            config.embedding_dim,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=0.05),
            name="embedding",
        )
        self.projection = layers.Dense(units, activation="relu", name="projection")
        self.encoder = [build_encoder(config, depth) for depth in range(config.encoder_layers)]
        self.start = layers.Dense(2 * units, name="start")
        self.memory_norm = layers.LayerNormalization(name="memory_norm")
        self.reader = LSTM(units, name="reader")
        self.attention = _build_attention(config)
        self.speaker = LSTM(units, name="speaker")
        self.output_projection = layers.Dense(config.embedding_dim, name="output_projection")
        self.output_bias = self.add_weight(
            shape=(config.vocab_size,), initializer="zeros", name="output_bias"
        )
        self.dropout = layers.Dropout(config.dropout, name="dropout")
        # Last, so that the weights of a model that lacks it are the first of one that has it.
        self.motion = Motion(config.motion_dim, units, name="motion") if config.motion_dim else None
        self.embedding.build(())
        self.projection.build((None, config.feature_dim))
        for layer in self.encoder:
            layer.build((None, None, units))
        self.start.build((None, units))
        self.memory_norm.build((None, None, units))
        self.reader.build((None, None, config.embedding_dim))
        self.attention.build((None, units), (None, None, units))
        self.speaker.build((None, None, 2 * units))
        self.output_projection.build((None, 2 * units))
        if self.motion:
            self.motion.build((None, None, config.num_regions, config.feature_dim))
        self.built = True

    def encode(self, features, sequence_length, training=False):
        """Reads a clip.

        Args:
            features: `(batch_size, num_frames, num_regions, feature_dim)`, without the regions'
                axis where num_regions is 1; padded on the right.
            sequence_length: frames of each clip, `(batch_size,)`.
            training: whether to drop values out.

        Returns:
            `(memory, initial_state)` for `decode_step`.
        """
        if len(features.shape) == 3:
            features = features[:, :, None]
        regions = self.dropout(self.projection(features), training=training)
        if self.motion:
            regions = regions + self.motion(features, sequence_length)
        frames = self._read(ops.mean(regions, axis=2), sequence_length, training)
        values = self.memory_norm(regions + frames[:, :, None])
        batch_size, num_frames, num_regions, units = ops.shape(values)
        values = ops.reshape(values, (batch_size, num_frames * num_regions, units))
        length = ops.cast(sequence_length, "int32")[:, None]
        mask = ops.repeat(ops.arange(num_frames)[None] < length, num_regions, axis=1)
        memory = Memory(values, self.attention.project(values), mask)

        mean = ops.sum(frames, axis=1) / ops.cast(length, frames.dtype)  # padding is zero
        h, c = ops.split(self.start(mean), 2, axis=-1)
        zeros = ops.zeros_like(c)
        return memory, {
            "reader": [ops.tanh(h), c],
            "speaker": [zeros, zeros],
            "attention_weights": ops.zeros_like(values[:, :, 0]),
        }

    def _read(self, frames, sequence_length, training):
        """The encoder: `(batch_size, num_frames, units)` -> the same shape, zero past each end."""
        for depth, layer in enumerate(self.encoder):
            if training and self.window:
                outputs = in_windows(layer, frames, sequence_length, self.window, training)
            else:
                outputs, _ = layer(frames, sequence_length=sequence_length, training=training)
            frames = frames + self.dropout(outputs, training=training) if depth else outputs
        return frames

    def start_ids(self, sequence_length, style=AUTO_STYLE):
        """The token before the first word of each clip's sentences.

        Args:
            sequence_length: frames of each clip, `(batch_size,)`.
            style: as in `DecodingOptions`.

        Returns:
            `(batch_size,)` int32.

        Raises:
            ValueError: the model has no such style.
        """
        ids = dict(zip(self.config.styles, self.style_ids, strict=True))
        length = ops.cast(sequence_length, "int32")
        if style == AUTO_STYLE:
            still, clip = (ids.get(name, START_ID) for name in ("photo", "video"))
            return ops.where(length == 1, still, clip)
        if style not in ids:
            raise ValueError(f"expected a style of {list(ids)}, received: {style=}")
        return ops.full_like(length, ids[style])

    @property
    def style_ids(self) -> tuple[int, ...]:
        """The tokens of the styles, which are no words."""
        first = len(SPECIAL_TOKENS)
        return tuple(range(first, first + len(self.config.styles)))

    def decode_step(self, token_ids, state, memory: Memory):
        """One step of the decoder: logits of the next word after a given one.

        Args:
            token_ids: the last words, `(rows,)`: one hypothesis a clip or several, side by side.
            state: of the step before, or `encode`'s.
            memory: `encode`'s, of `batch_size` clips.

        Returns:
            `(logits, state)`, logits `(rows, vocab_size)`; the state's `attention_weights`,
            `(rows, memory_length)`, tell where this step looked.
        """
        words = self.embedding(token_ids)
        query, reader = self.reader.step(words, state["reader"])
        # A clip's hypotheses look together, so that its memory is not read once for each.
        queries = ops.reshape(query, (ops.shape(memory.mask)[0], -1, self.config.units))
        context, attention_weights = self.attention(queries, *memory)
        context = ops.reshape(context, (-1, context.shape[-1]))  # (rows, units)
        attention_weights = ops.reshape(attention_weights, ops.shape(state["attention_weights"]))
        answer = ops.concatenate([query, context], axis=-1)
        spoken, speaker = self.speaker.step(answer, state["speaker"])
        logits = self.logits(self.output_projection(ops.concatenate([spoken, context], axis=-1)))
        return logits, {
            "reader": reader,
            "speaker": speaker,
            "attention_weights": attention_weights,
        }

    def call(self, inputs, training=False):
        """Logits of every word of given sentences (teacher forcing).

        Args:
            inputs: a dict of `features` and `sequence_length`, as for `encode`, and
                `token_ids`: sentences without START, `(rows, caption_length)`: one a clip or
                several, side by side; END last, PAD after it. Optional `start_ids`, `(rows,)`:
                the token before the first word, by default as `start_ids` gives it.
            training: whether to drop values out.

        Returns:
            Logits `(rows, caption_length, vocab_size)`, each before its word is read.
        """
        return self.logits(self.expect(inputs, training))

    def expect(self, inputs, training=False):
        """What each next word's embedding is compared with, of given sentences.

        Args:
            inputs: as for `call`.
            training: whether to drop values out.

        Returns:
            Vectors `(rows, caption_length, embedding_dim)`: a word's logit is the product of its
            embedding with them, plus its bias.
        """
        token_ids = inputs["token_ids"]
        memory, state = self.encode(inputs["features"], inputs["sequence_length"], training)
        start = inputs.get("start_ids")
        if start is None:
            start = self.start_ids(inputs["sequence_length"])
            start = ops.repeat(start, ops.shape(token_ids)[0] // ops.shape(start)[0])
        start = ops.cast(start, token_ids.dtype)[:, None]
        words = self.embedding(ops.concatenate([start, token_ids[:, :-1]], axis=1))
        words = self.dropout(words, training=training)
        batch_size, rows = ops.shape(memory.mask)[0], ops.shape(words)[0]
        initial_state = [ops.repeat(x, rows // batch_size, axis=0) for x in state["reader"]]
        query, _ = self.reader(words, initial_state=initial_state)
        # As in `decode_step`, a clip's sentences look together.
        queries = self.dropout(query, training=training)
        queries = ops.reshape(queries, (batch_size, -1, self.config.units))
        context, _ = self.attention(queries, *memory)
        context = ops.reshape(context, (rows, -1, context.shape[-1]))
        answer = ops.concatenate([query, context], axis=-1)
        spoken, _ = self.speaker(self.dropout(answer, training=training))
        spoken = self.dropout(spoken, training=training)
        return self.output_projection(ops.concatenate([spoken, context], axis=-1))

    def logits(self, vectors):
        """Those of all words, `(..., vocab_size)`, given vectors of `expect`."""
        scores = ops.matmul(vectors, ops.transpose(self.embedding.embeddings))
        return ops.cast(scores, "float32") + ops.cast(self.output_bias, "float32")


def build_encoder(config, depth):
    """What reads the frames, the one at this depth: outputs and state from inputs and state.

    Args:
        config: a `ModelConfig`, or another that tells `encoder`, `units` and `bidirectional`.
        depth: how many lie below it.
    """
    name = f"encoder_{depth}"
    if config.encoder == "convolution":
        dilations = (2**depth,)
        causal = not config.bidirectional
        return TemporalConvolution(config.units, dilations=dilations, causal=causal, name=name)
    kind = {"lstm": LSTM, "gru": GRU}[config.encoder]
    if config.bidirectional:
        return Bidirectional(kind(config.units // 2, name="forward"), name=name)
    return kind(config.units, name=name)


def _build_attention(config):
    if config.attention == "multi-head":
        return MultiHeadAttention(config.units, NUM_HEADS, name="attention")
    kinds = {"additive": AdditiveAttention, "multiplicative": MultiplicativeAttention}
    return kinds[config.attention](config.units, name="attention")
