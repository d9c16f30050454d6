"""Layers that read sequences: a fast LSTM, GRU, both ways, convolutions, and motion; plain Keras 3.

Sequences are padded on the right, `sequence_length` `(batch_size,)` says how much of each is
real (None: all of it), and outputs are zero past each end. No layer keeps anything between calls.
"""

from math import isqrt

import keras
from keras import ops, tree

from .cells import Composed, GRUCell, add_recurrent_weights, lstm_gates, register, unit_forget_bias
from .recurrence import dynamic_rnn, live_mask, longest, loop, reverse_sequence, where_live


def _lstm(inputs, kernel, bias, recurrent_kernel, h, c, num_steps=None):
    """An LSTM and its gradient, with only in the loops what has to be there.

    Going forward the inputs of all steps are multiplied at once, and a step has only the
    recurrent product. Going back likewise a step has only that product's transpose: the other
    factors of the chain rule are known for all steps before the loop, and the gradients of the
    weights are one product each after it.

    Args:
        inputs: `(sequence_length, batch_size, input_dim)`.
        kernel: `(input_dim, 4 * units)`.
        bias: `(4 * units,)`.
        recurrent_kernel: `(units, 4 * units)`.
        h: state before the first step, `(batch_size, units)`.
        c: likewise.
        num_steps: steps to take; what follows is zero.

    Returns:
        `h` and `c` after each step, `(sequence_length, batch_size, units)`.
    """
    total, _, input_dim = ops.shape(inputs)
    units = recurrent_kernel.shape[0]

    def run(inputs, kernel, bias, recurrent_kernel, h_0, c_0):
        def step(state, x):
            gates, h, c = lstm_gates(x + ops.matmul(state[0], recurrent_kernel), state[1])
            return (h, c), (h, c, *gates)

        # Two axes: TensorFlow multiplies three step by step, in the gradient at least.
        projected = ops.matmul(inputs, kernel) + bias
        projected = ops.reshape(projected, (total, -1, 4 * units))
        (h, c, i, f, g, o), _ = loop(step, (h_0, c_0), projected, num_steps)

        def gradient(*upstream):
            dh, dc = tree.flatten(upstream)
            h_before = ops.concatenate([h_0[None], h[:-1]], axis=0)
            c_before = ops.concatenate([c_0[None], c[:-1]], axis=0)
            tanh_c = ops.tanh(c)
            factors = (
                g * i * (1 - i),  # dc / dz_i
                c_before * f * (1 - f),  # dc / dz_f
                i * (1 - g * g),  # dc / dz_g
                tanh_c * o * (1 - o),  # dh / dz_o
                o * (1 - tanh_c * tanh_c),  # dh / dc
            )
            # Transposed here, once: `transpose_b` in each step is 3 times slower on a CPU.
            transposed = ops.transpose(recurrent_kernel)

            def step_back(state, steps):
                dh, dc, f, (to_i, to_f, to_g, to_o, to_c) = steps
                dh = dh + state[0]
                dc = dc + state[1] + dh * to_c
                dz = ops.concatenate([dc * to_i, dc * to_f, dc * to_g, dh * to_o], axis=-1)
                return (ops.matmul(dz, transposed), dc * f), dz

            steps, zeros = (dh, dc, f, factors), ops.zeros_like(h_0)
            dz, (dh_0, dc_0) = loop(step_back, (zeros, zeros), steps, num_steps, reverse=True)
            dz = ops.reshape(dz, (-1, 4 * units))
            d_recurrent = ops.matmul(ops.transpose(ops.reshape(h_before, (-1, units))), dz)
            d_kernel = ops.matmul(ops.transpose(inputs), dz)
            # Over three axes, or TensorFlow makes a `transpose_b` of it.
            transposed = ops.transpose(ops.reshape(kernel, (-1, 4, units)), (1, 2, 0))
            d_inputs = ops.matmul(dz, ops.reshape(transposed, (4 * units, -1)))
            return d_inputs, d_kernel, ops.sum(dz, axis=0), d_recurrent, dh_0, dc_0

        return (h, c), gradient

    arguments = (ops.reshape(inputs, (-1, input_dim)), kernel, bias, recurrent_kernel, h, c)
    if keras.backend.backend() == "torch":  # whose `custom_gradient` takes a single output
        return run(*arguments)[0]
    return ops.custom_gradient(run)(*arguments)


def _cudnn_lstm(inputs, kernel, bias, recurrent_kernel, h, c, sequence_length):
    """The backend's LSTM for GPUs, or None where it has none.

    Outputs are `(batch_size, sequence_length, units)`, and the last `c`.

    It takes no mask. So an input is added that says "padding" and shuts the input gate there and
    opens the forget gate, which keeps `c` as it is; `h` is looked up by the caller.
    """
    from keras.src import backend  # Keras has no public door to it

    if sequence_length is not None:
        live = live_mask(sequence_length, ops.shape(inputs)[1])
        inputs = ops.concatenate([inputs, ops.cast(~live, inputs.dtype)[:, :, None]], axis=-1)
        keep = ops.repeat(ops.convert_to_tensor([-1e4, 1e4, 0, 0], kernel.dtype), h.shape[-1])
        kernel = ops.concatenate([kernel, keep[None]], axis=0)
    activations = keras.activations.tanh, keras.activations.sigmoid
    weights = kernel, recurrent_kernel, bias
    try:
        _, outputs, (_, c) = backend.lstm(
            inputs, h, c, None, *weights, *activations, return_sequences=True
        )
    except NotImplementedError:  # how a backend says so
        return None
    return outputs, c


def _has_cudnn():
    from keras.src import backend

    return backend.cudnn_ok(keras.activations.tanh, keras.activations.sigmoid, False, use_bias=True)


class _Recurrent(keras.layers.Layer):
    """What `LSTM` and `GRU` share.

    Args:
        units: size of the outputs and of each part of the state.
        go_backwards: reads each sequence from its own end; outputs keep the inputs' order.
    """

    def __init__(self, units, go_backwards=False, **kwargs):
        super().__init__(**kwargs)
        self.units, self.go_backwards = units, go_backwards

    def call(self, inputs, sequence_length=None, initial_state=None, training=None):
        """Runs the layer.

        Args:
            inputs: `(batch_size, sequence_length, input_dim)`.
            sequence_length: `(batch_size,)` integers.
            initial_state: `[h, c]` (`GRU`: `[h]`), `(batch_size, units)`; zeros by default.
            training: not used.

        Returns:
            Outputs `(batch_size, sequence_length, units)`, and the state after the last step of
            each sequence.
        """
        if self.go_backwards:
            inputs = reverse_sequence(inputs, sequence_length)
        outputs, state = self._run(inputs, sequence_length, initial_state)
        if self.go_backwards:
            outputs = reverse_sequence(outputs, sequence_length)
        return outputs, state


@register
class LSTM(_Recurrent):
    """A fast LSTM, its weights interchangeable with `keras.layers.LSTM`.

    On a CPU it is `_lstm`, up to the longest sequence; on a GPU the backend's cuDNN kernel.

    Args:
        units: size of the outputs, `h` and `c`.
        go_backwards: reads each sequence from its own end; outputs keep the inputs' order.
        use_cudnn: False: not even on a GPU. Set it so before tracing a graph to run elsewhere.
    """

    def __init__(self, units, go_backwards=False, use_cudnn=True, **kwargs):
        super().__init__(units, go_backwards, **kwargs)
        self.use_cudnn = use_cudnn

    def build(self, inputs_shape):
        add_recurrent_weights(self, inputs_shape[-1], (4 * self.units,), unit_forget_bias)

    def step(self, inputs, state):
        """One step: `(batch_size, input_dim)`, `[h, c]` -> outputs `(batch_size, units)`, state."""
        # Not through `__call__`, which would have cast the inputs and the weights.
        h, c = (ops.cast(x, self.compute_dtype) for x in state)
        x, kernel, bias, recurrent_kernel = (
            ops.cast(x, self.compute_dtype)
            for x in (inputs, self.kernel, self.bias, self.recurrent_kernel)
        )
        z = ops.matmul(x, kernel) + ops.matmul(h, recurrent_kernel) + bias
        _, h, c = lstm_gates(z, c)
        return h, [h, c]

    def _run(self, inputs, sequence_length, initial_state):
        dtype, (batch_size, total, _) = self.compute_dtype, ops.shape(inputs)
        if initial_state is None:
            initial_state = [ops.zeros((batch_size, self.units), dtype)] * 2
        h, c = (ops.cast(x, dtype) for x in initial_state)
        weights = [ops.cast(x, dtype) for x in (self.kernel, self.bias, self.recurrent_kernel)]
        all_c = found = None
        if self.use_cudnn and _has_cudnn():
            found = _cudnn_lstm(inputs, *weights, h, c, sequence_length)
        if found:
            outputs, last_c = found
            all_h = ops.swapaxes(outputs, 0, 1)
        else:
            steps = longest(sequence_length)
            all_h, all_c = _lstm(ops.swapaxes(inputs, 0, 1), *weights, h, c, steps)
            outputs = ops.swapaxes(all_h, 0, 1)  # (batch_size, sequence_length, units)
            last_c = all_c[-1]
        if sequence_length is None:
            return outputs, [all_h[-1], last_c]
        # Padding on the right can't change what came before it: no mask was needed in the loop.
        index = ops.cast(sequence_length, "int32")[None, :, None]

        def last(before, after):
            after = ops.concatenate([before[None], after], axis=0)
            return ops.take_along_axis(after, index, axis=0)[0]  # (batch_size, units)

        last_c = last_c if all_c is None else last(c, all_c)
        return where_live(live_mask(sequence_length, total), outputs), [last(h, all_h), last_c]


@register
class GRU(_Recurrent):
    """A `GRUCell` over sequences; weights interchangeable with `keras.layers.GRU`."""

    def __init__(self, units, go_backwards=False, **kwargs):
        super().__init__(units, go_backwards, **kwargs)
        self.cell = GRUCell(units, name="cell", dtype=self.dtype_policy)

    def build(self, inputs_shape):
        self.cell.build((inputs_shape[0], inputs_shape[-1]))

    def _run(self, inputs, sequence_length, initial_state):
        if initial_state is not None:
            initial_state = (ops.cast(initial_state[0], self.compute_dtype),)
        outputs, state = dynamic_rnn(self.cell, inputs, sequence_length, initial_state)
        return outputs, list(state)


@register
class Bidirectional(Composed):
    """An `LSTM` or `GRU` and its twin that reads backwards (Schuster and Paliwal 1997).

    Called as they are. Outputs and each part of the state hold `2 * units` values: the layer's,
    then the twin's.
    """

    arguments = ("layer",)

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        changes = {"name": f"{layer.name}_backward", "go_backwards": not layer.go_backwards}
        self.layer = layer
        self.twin = type(layer).from_config({**layer.get_config(), **changes})

    def build(self, inputs_shape):
        self.layer.build(inputs_shape)
        self.twin.build(inputs_shape)

    def call(self, inputs, sequence_length=None, initial_state=None, training=None):
        states = [None, None]
        if initial_state is not None:
            states = zip(*(ops.split(x, 2, axis=-1) for x in initial_state))
        layers = (self.layer, self.twin)
        results = [layer(inputs, sequence_length, state) for layer, state in zip(layers, states)]
        return tree.map_structure(lambda *pair: ops.concatenate(pair, axis=-1), *results)


@register
class TemporalConvolution(keras.layers.Layer):
    """Dilated convolutions over time, each `x + dropout(relu(conv(x)))` (Bai et al. 2018).

    Args:
        units: size of the outputs.
        kernel_size: steps that a convolution looks at.
        dilations: how far apart they lie, for each convolution.
        causal: a step sees only those before it; otherwise as many after it.
        dropout: share of values dropped while training.
    """

    def __init__(
        self, units, kernel_size=3, dilations=(1, 2, 4), causal=False, dropout=0.0, **kwargs
    ):
        super().__init__(**kwargs)
        self.causal = causal
        # A causal convolution is given what it looks back at, rather than padded.
        padding, dtype = "valid" if causal else "same", self.dtype_policy
        self.projection = keras.layers.Dense(units, name="projection", dtype=dtype)
        self.convolutions = [
            keras.layers.Conv1D(units, kernel_size, 1, padding, dilation_rate=dilation, dtype=dtype)
            for dilation in dilations
        ]
        self.lookbacks = [(kernel_size - 1) * dilation for dilation in dilations]
        self.dropout = keras.layers.Dropout(dropout, dtype=dtype)

    def build(self, inputs_shape):
        self.projection.build(inputs_shape)
        for convolution in self.convolutions:
            convolution.build((inputs_shape[0], None, self.projection.units))

    def initial_state(self, batch_size):
        """Zeros: the last inputs of each causal convolution, `(batch_size, lookback, units)`."""
        shapes = [(batch_size, steps, self.projection.units) for steps in self.lookbacks]
        return [ops.zeros(shape, self.compute_dtype) for shape in shapes] if self.causal else []

    def call(self, inputs, sequence_length=None, initial_state=None, training=None):
        """Runs the convolutions.

        Args:
            inputs: `(batch_size, sequence_length, input_dim)`.
            sequence_length: `(batch_size,)` integers.
            initial_state: if causal, the state of the run that this one continues; by default
                `initial_state`'s.
            training: whether to drop values out.

        Returns:
            Outputs `(batch_size, sequence_length, units)`, and the state after the last step of
            each sequence; `[]` unless causal.
        """
        batch_size, total, _ = ops.shape(inputs)
        live = None if sequence_length is None else live_mask(sequence_length, total)
        if initial_state is None:
            initial_state = self.initial_state(batch_size)
        outputs, state = self.projection(inputs), []
        for number, convolution in enumerate(self.convolutions):
            # A convolution sees padding as it sees what lies outside: as zeros.
            outputs = outputs if live is None else where_live(live, outputs)
            seen = outputs
            if self.causal:
                before = ops.cast(initial_state[number], outputs.dtype)
                seen = ops.concatenate([before, outputs], axis=1)
                # The last steps up to each end: as many as were there before.
                steps = ops.arange(self.lookbacks[number], dtype="int32")[None]
                end = total if live is None else ops.cast(sequence_length, "int32")[:, None]
                last = ops.broadcast_to(end + steps, ops.shape(before)[:2])
                state.append(ops.take_along_axis(seen, last[:, :, None], axis=1))
            outputs = outputs + self.dropout(ops.relu(convolution(seen)), training=training)
        return outputs if live is None else where_live(live, outputs), state


@register
class Motion(keras.layers.Layer):
    """What moves: a convolution over how each frame differs from the one before and after it.

        W_out relu(conv3x3([x_t - x_(t-1), x_(t+1) - x_t])),  x = W_in features

    The regions of a frame form a square, and the convolution reaches from each to its neighbours:
    what leaves one and comes to the next went that way. Nothing has a bias, so where nothing
    moves, as in a still picture, it is zero; and `W_out` begins as zero.

    Args:
        dim: size of what is compared.
        units: size of the outputs.
    """

    def __init__(self, dim, units, **kwargs):
        super().__init__(**kwargs)
        options = {"use_bias": False, "dtype": self.dtype_policy}
        self.input_projection = keras.layers.Dense(dim, name="input_projection", **options)
        self.convolution = keras.layers.Conv2D(
            dim, 3, padding="same", activation="relu", name="convolution", **options
        )
        self.output_projection = keras.layers.Dense(
            units, kernel_initializer="zeros", name="output_projection", **options
        )

    def build(self, features_shape):
        dim, side = self.input_projection.units, isqrt(features_shape[-2])
        self.input_projection.build(features_shape)
        self.convolution.build((None, side, side, 2 * dim))
        self.output_projection.build((*features_shape[:-1], dim))

    def call(self, features, sequence_length):
        """Compares frames.

        Args:
            features: `(batch_size, num_frames, num_regions, feature_dim)`.
            sequence_length: `(batch_size,)` integers.

        Returns:
            `(batch_size, num_frames, num_regions, units)`.
        """
        x = self.input_projection(features)
        batch_size, num_frames, num_regions, dim = ops.shape(x)
        live = live_mask(sequence_length, num_frames)[:, 1:]
        change = where_live(live, x[:, 1:] - x[:, :-1])
        before, after = (
            ops.pad(change, [(0, 0), edge, (0, 0), (0, 0)]) for edge in ((1, 0), (0, 1))
        )
        changes = ops.concatenate([before, after], axis=-1)
        side = isqrt(num_regions)
        changes = ops.reshape(changes, (batch_size * num_frames, side, side, 2 * dim))
        moved = ops.reshape(self.convolution(changes), (batch_size, num_frames, num_regions, dim))
        return self.output_projection(moved)
