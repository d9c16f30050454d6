"""Attention over a memory: additive, multiplicative, with several heads; plain Keras 3."""

import keras
from keras import ops

from .cells import register


def _masked_softmax(scores, memory_mask):
    """Softmax over what is real; in float32, for bfloat16 has 8 bits."""
    dtype, scores = scores.dtype, ops.cast(scores, "float32")
    if memory_mask is None:
        return ops.cast(ops.softmax(scores), dtype)
    axes = range(1, len(scores.shape) - 1)
    live = ops.expand_dims(memory_mask, tuple(axes))  # (batch_size, 1, ..., memory_length)
    return ops.cast(ops.where(live, ops.softmax(ops.where(live, scores, -1e9)), 0.0), dtype)


class _Attention(keras.layers.Layer):
    """A mean of a memory, weighted by how well each part of it answers a query.

    `keys = attention.project(memory)` once a clip; then, once a step or once a sentence,
    `context, attention_weights = attention(query, memory, keys, memory_mask)`. Frames x regions
    are a memory of `num_frames * num_regions`.

    Args:
        units: size of what is compared.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.memory_projection = self._dense("memory_projection", units, use_bias=False)

    def _dense(self, name, units, use_bias=True):
        return keras.layers.Dense(units, use_bias=use_bias, name=name, dtype=self.dtype_policy)

    def build(self, query_shape, memory_shape):
        for projection, dim in self._projections(query_shape[-1], memory_shape[-1]).items():
            if not projection.built:
                projection.build((None, dim))

    def context_size(self, memory_dim):
        """Size of the context for a memory of this size."""
        return memory_dim

    def project(self, memory):
        """The part of the comparison that no query changes: `(batch_size, memory_length, ...)`."""
        return self.memory_projection(memory)

    def call(self, query, memory, keys, memory_mask=None):
        """Attends.

        Args:
            query: `(batch_size, query_dim)` or `(batch_size, num_queries, query_dim)`.
            memory: `(batch_size, memory_length, memory_dim)`.
            keys: `project(memory)`.
            memory_mask: `(batch_size, memory_length)`, True where the memory is real.

        Returns:
            Context `(batch_size, [num_queries,] context_size)` and attention weights
            `(batch_size, [num_queries,] memory_length)`, 0 for what is not real.
        """
        if len(query.shape) == 3:
            return self._attend(query, memory, keys, memory_mask)
        context, attention_weights = self._attend(query[:, None], memory, keys, memory_mask)
        return context[:, 0], attention_weights[:, 0]

    def _attend(self, query, memory, keys, memory_mask):
        attention_weights = _masked_softmax(self._score(query, keys), memory_mask)
        return ops.matmul(attention_weights, memory), attention_weights


@register
class AdditiveAttention(_Attention):
    """`score = v . tanh(W query + b + U memory)` (Bahdanau et al. 2015)."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        self.query_projection = self._dense("query_projection", units)
        self.score_projection = self._dense("score_projection", 1, use_bias=False)

    def _projections(self, query_dim, memory_dim):
        return {
            self.query_projection: query_dim,
            self.memory_projection: memory_dim,
            self.score_projection: self.units,
        }

    def _score(self, query, keys):
        query = self.query_projection(query)[:, :, None]  # (batch_size, num_queries, 1, units)
        return self.score_projection(ops.tanh(query + keys[:, None]))[..., 0]


@register
class MultiplicativeAttention(_Attention):
    """`score = query . W memory` (Luong et al. 2015, "general"), for a query of `units` values."""

    def _projections(self, query_dim, memory_dim):
        if query_dim != self.units:
            raise ValueError(
                f"expected a query of units values, received: units={self.units}, "
                f"query_dim={query_dim}"
            )
        return {self.memory_projection: memory_dim}

    def _score(self, query, keys):
        return ops.matmul(query, ops.swapaxes(keys, 1, 2))


@register
class MultiHeadAttention(_Attention):
    """Scaled dot products in several heads (Vaswani et al. 2017).

    `softmax(Q K / sqrt(units / num_heads)) V` in each head, and a projection of all together.
    The attention weights are the mean over the heads.

    Args:
        units: size of all heads together and of the context.
        num_heads: how many, a divisor of `units`.
    """

    def __init__(self, units, num_heads=4, **kwargs):
        super().__init__(units, **kwargs)
        if units % num_heads:
            raise ValueError(
                f"expected units divisible by num_heads, received: {units=}, {num_heads=}"
            )
        self.num_heads = num_heads
        self.query_projection = self._dense("query_projection", units)
        self.memory_projection = self._dense("memory_projection", 2 * units)  # keys, values
        self.context_projection = self._dense("context_projection", units)

    def _projections(self, query_dim, memory_dim):
        return {
            self.query_projection: query_dim,
            self.memory_projection: memory_dim,
            self.context_projection: self.units,
        }

    def context_size(self, memory_dim):
        return self.units

    def _heads(self, x):
        x = ops.reshape(x, (*ops.shape(x)[:2], self.num_heads, self.units // self.num_heads))
        return ops.swapaxes(x, 1, 2)  # (batch_size, num_heads, length, units / num_heads)

    def _attend(self, query, memory, keys, memory_mask):
        keys, values = (self._heads(x) for x in ops.split(keys, 2, axis=-1))
        queries = self._heads(self.query_projection(query))
        scores = ops.matmul(queries, ops.swapaxes(keys, 2, 3)) / queries.shape[-1] ** 0.5
        weights = _masked_softmax(scores, memory_mask)
        heads = ops.swapaxes(ops.matmul(weights, values), 1, 2)
        context = ops.reshape(heads, (*ops.shape(query)[:2], self.units))
        return self.context_projection(context), ops.mean(weights, axis=1)
