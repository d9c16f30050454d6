"""Recurrent cells that compose: plain Keras 3.

A cell takes one step: `cell(inputs, state, constants=None) -> (outputs, state)`. Wrappers take a
cell and give a cell; `captioner.layers.dynamic_rnn` runs any of them. No cell keeps anything
between calls.
"""

import keras
from keras import ops, tree

register = keras.saving.register_keras_serializable("captioner")


class Cell(keras.layers.Layer):
    """One step of a recurrence, `cell(inputs, state) -> (outputs, state)`.

    Inputs are `(batch_size, input_dim)`, outputs `(batch_size, output_size)`, and the state
    nested tensors `(batch_size, size)`, one for each size in `state_size`.
    """

    state_size = ()
    output_size = 0

    def initial_state(self, batch_size, dtype=None, training=False):
        """Zeros, nested as `state_size`."""
        dtype = dtype or self.compute_dtype
        return tree.map_structure(
            lambda size: ops.zeros((batch_size, size), dtype), self.state_size
        )


def add_recurrent_weights(layer, input_dim, bias_shape, bias_initializer="zeros"):
    """The weights of a recurrent layer, named and shaped as Keras has them."""
    width = bias_shape[-1]
    layer.kernel = layer.add_weight((input_dim, width), "glorot_uniform", name="kernel")
    layer.recurrent_kernel = layer.add_weight(
        (layer.units, width), "orthogonal", name="recurrent_kernel"
    )
    layer.bias = layer.add_weight(bias_shape, bias_initializer, name="bias")


def unit_forget_bias(shape, dtype=None):
    """One for the forget gate: start by remembering (Jozefowicz et al. 2015); zero elsewhere."""
    return ops.repeat(ops.convert_to_tensor([0, 1, 0, 0], dtype), shape[0] // 4)


def lstm_gates(z, c):
    """The gates, in Keras' order, and the next state, from the gates' inputs `z`.

        i, f, o = sigmoid(z_i, z_f, z_o)    g = tanh(z_g)
        c' = f * c + i * g                  h' = o * tanh(c')

    Args:
        z: `(batch_size, 4 * units)`.
        c: `(batch_size, units)`.

    Returns:
        `(i, f, g, o), h', c'`, each `(batch_size, units)`.
    """
    i, f, g, o = ops.split(z, 4, axis=-1)
    i, f, g, o = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(g), ops.sigmoid(o)
    c = f * c + i * g
    return (i, f, g, o), o * ops.tanh(c), c


@register
class LSTMCell(Cell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    Weights as in `keras.layers.LSTMCell`, state `(h, c)`.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.output_size = units
        self.state_size = (units, units)

    def build(self, input_shape):
        add_recurrent_weights(self, input_shape[-1], (4 * self.units,), unit_forget_bias)

    def call(self, inputs, state, constants=None):
        h, c = state
        z = ops.matmul(inputs, self.kernel) + ops.matmul(h, self.recurrent_kernel) + self.bias
        _, h, c = lstm_gates(z, c)
        return h, (h, c)


@register
class LayerNormLSTMCell(LSTMCell):
    """LSTM with layer normalisation LN (Ba et al. 2016, equations 20 to 22).

    `z = LN(x W) + LN(h R) + b` and `h' = o * tanh(LN(c'))`.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.norms = []
        for width in (4 * self.units, 4 * self.units, self.units):
            norm = keras.layers.LayerNormalization(epsilon=1e-5, dtype=self.dtype_policy)
            norm.build((None, width))
            self.norms.append(norm)

    def call(self, inputs, state, constants=None):
        h, c = state
        x = self.norms[0](ops.matmul(inputs, self.kernel))
        z = x + self.norms[1](ops.matmul(h, self.recurrent_kernel)) + self.bias
        (*_, o), _, c = lstm_gates(z, c)
        h = o * ops.tanh(self.norms[2](c))
        return h, (h, c)


@register
class GRUCell(Cell):
    """Gated recurrent unit (Cho et al. 2014), reset after the product as cuDNN does.

        z, r = sigmoid(x W + b + h R + d)    g = tanh(x W_g + b_g + r * (h R_g + d_g))
        h' = z * h + (1 - z) * g

    Weights as in `keras.layers.GRUCell`, state `(h,)`.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.output_size = units
        self.state_size = (units,)

    def build(self, input_shape):
        add_recurrent_weights(self, input_shape[-1], (2, 3 * self.units))

    def call(self, inputs, state, constants=None):
        (h,) = state
        bias = ops.cast(self.bias, self.compute_dtype)
        x_z, x_r, x_g = ops.split(ops.matmul(inputs, self.kernel) + bias[0], 3, axis=-1)
        h_z, h_r, h_g = ops.split(ops.matmul(h, self.recurrent_kernel) + bias[1], 3, axis=-1)
        z, r = ops.sigmoid(x_z + h_z), ops.sigmoid(x_r + h_r)
        h = z * h + (1 - z) * ops.tanh(x_g + r * h_g)
        return h, (h,)


class Composed(keras.layers.Layer):
    """A layer made of layers; `arguments` are its attributes that its constructor takes."""

    arguments = ()

    def get_config(self):
        parts = {name: getattr(self, name) for name in self.arguments}
        return {**super().get_config(), **keras.saving.serialize_keras_object(parts)}

    @classmethod
    def from_config(cls, config):
        parts = {name: config[name] for name in cls.arguments}
        parts = keras.saving.deserialize_keras_object(parts)
        return super().from_config({**config, **parts})


@register
class ResidualCell(Composed, Cell):
    """Adds a cell's inputs to its outputs (He et al. 2016); both have one size."""

    arguments = ("cell",)

    def __init__(self, cell, **kwargs):
        super().__init__(**kwargs)
        self.cell, self.state_size, self.output_size = cell, cell.state_size, cell.output_size

    def build(self, input_shape):
        self.cell.build(input_shape)

    def initial_state(self, batch_size, dtype=None, training=False):
        return self.cell.initial_state(batch_size, dtype, training)

    def call(self, inputs, state, constants=None):
        outputs, state = self.cell(inputs, state, constants)
        return inputs + outputs, state


@register
class DropoutCell(ResidualCell):
    """Drops inputs of a cell, the same ones at every step (Gal and Ghahramani 2016).

    The mask is drawn with the initial state and travels in it, which is
    `(cell's state, (mask,))` in training and `(cell's state, ())` otherwise.
    """

    arguments = ("cell", "rate", "seed")

    def __init__(self, cell, rate, seed=None, **kwargs):
        super().__init__(cell, **kwargs)
        self.rate, self.seed = rate, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        super().build(input_shape)
        self.state_size = (self.cell.state_size, (input_shape[-1],))

    def initial_state(self, batch_size, dtype=None, training=False):
        state = super().initial_state(batch_size, dtype, training)
        if not (training and self.rate):
            return state, ()
        ones = ops.ones((batch_size, *self.state_size[1]), dtype or self.compute_dtype)
        return state, (keras.random.dropout(ones, self.rate, seed=self.seed_generator),)

    def call(self, inputs, state, constants=None):
        state, mask = state
        outputs, state = self.cell(inputs * mask[0] if mask else inputs, state, constants)
        return outputs, (state, mask)


@register
class StackedCell(Composed, Cell):
    """Cells one above the other; the state is a tuple of theirs."""

    arguments = ("cells",)

    def __init__(self, cells, **kwargs):
        super().__init__(**kwargs)
        self.cells = list(cells)
        self.state_size = tuple(cell.state_size for cell in self.cells)
        self.output_size = self.cells[-1].output_size

    def build(self, input_shape):
        for cell in self.cells:
            cell.build(input_shape)
            input_shape = (input_shape[0], cell.output_size)

    def initial_state(self, batch_size, dtype=None, training=False):
        return tuple(cell.initial_state(batch_size, dtype, training) for cell in self.cells)

    def call(self, inputs, state, constants=None):
        new_state = []
        for cell, cell_state in zip(self.cells, state):
            inputs, cell_state = cell(inputs, cell_state, constants)
            new_state.append(cell_state)
        return inputs, tuple(new_state)


@register
class AttentionCell(Composed, Cell):
    """Attention with input feeding: after each step it attends to a memory (Luong et al. 2015).

        output = cell([x, context])    context' = attention(output, memory)

    Its constants are a dict of `memory`, `keys` (`attention.project(memory)`) and, if padded,
    `memory_mask`; its state is `(cell's state, context)`, its outputs `[output, context']`.
    """

    arguments = ("cell", "attention", "memory_dim")

    def __init__(self, cell, attention, memory_dim, **kwargs):
        super().__init__(**kwargs)
        self.cell, self.attention, self.memory_dim = cell, attention, memory_dim
        context_size = attention.context_size(memory_dim)
        self.state_size = (cell.state_size, context_size)
        self.output_size = cell.output_size + context_size

    def build(self, input_shape):
        self.cell.build((input_shape[0], input_shape[-1] + self.state_size[1]))
        self.attention.build((None, self.cell.output_size), (None, None, self.memory_dim))

    def initial_state(self, batch_size, dtype=None, training=False):
        context = ops.zeros((batch_size, self.state_size[1]), dtype or self.compute_dtype)
        return self.cell.initial_state(batch_size, dtype, training), context

    def call(self, inputs, state, constants=None):
        state, context = state
        inputs = ops.concatenate([inputs, context], axis=-1)
        output, state = self.cell(inputs, state, constants)
        context, _ = self.attention(output, **constants)
        return ops.concatenate([output, context], axis=-1), (state, context)
