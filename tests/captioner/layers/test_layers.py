"""Cells, recurrent layers and attention: against numbers worked by hand, Keras and themselves.

`python -m tests.captioner.layers.test_layers FILE` writes what the backend at hand makes of every
layer, for the tests that compare backends.
"""

import functools
import importlib.util
import os
import subprocess
import sys
from math import atanh, log
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from captioner import layers
from captioner.layers import (
    GRU,
    LSTM,
    AdditiveAttention,
    AttentionCell,
    Bidirectional,
    DropoutCell,
    GRUCell,
    LayerNormLSTMCell,
    LSTMCell,
    Motion,
    MultiHeadAttention,
    MultiplicativeAttention,
    ResidualCell,
    StackedCell,
    TemporalConvolution,
    dynamic_rnn,
    in_windows,
    reverse_sequence,
    sequence,
)

BATCH_SIZE, LENGTH, DIM, UNITS = 4, 7, 5, 6
SEQUENCE_LENGTH = np.array([3, 7, 0, 5], "int32")
LIVE = np.arange(LENGTH) < SEQUENCE_LENGTH[:, None]


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


INPUTS = draw(BATCH_SIZE, LENGTH, DIM)
STATE = [draw(BATCH_SIZE, UNITS, seed=1), draw(BATCH_SIZE, UNITS, seed=2)]

CELLS = {
    "lstm_cell": lambda: LSTMCell(UNITS),
    "layer_norm": lambda: LayerNormLSTMCell(UNITS),
    "gru_cell": lambda: GRUCell(UNITS),
    "residual": lambda: ResidualCell(GRUCell(DIM)),
    "dropout": lambda: DropoutCell(LSTMCell(UNITS), 0.5, seed=3),
    "stack": lambda: StackedCell([LSTMCell(UNITS), ResidualCell(GRUCell(UNITS))]),
    "attention": lambda: AttentionCell(LSTMCell(UNITS), AdditiveAttention(3), DIM),
}
SEQUENCE_LAYERS = {
    "lstm": lambda: LSTM(UNITS),
    "lstm_backwards": lambda: LSTM(UNITS, go_backwards=True),
    "bidirectional": lambda: Bidirectional(LSTM(UNITS)),
    "gru": lambda: GRU(UNITS),
    "gru_backwards": lambda: GRU(UNITS, go_backwards=True),
    "convolution": lambda: TemporalConvolution(UNITS, causal=True, dilations=(1, 2)),
    "convolution_centred": lambda: TemporalConvolution(UNITS),
}
# One of each kind, where every one would take long: the others are made of these.
ONE_OF_EACH = [
    *("lstm", "bidirectional", "gru", "convolution"),
    *("layer_norm", "dropout", "stack", "attention"),
]
ATTENTIONS = {
    "additive": lambda: AdditiveAttention(3),
    "multiplicative": lambda: MultiplicativeAttention(UNITS),
    "multi_head": lambda: MultiHeadAttention(UNITS, num_heads=2),
}


def set_weights(layer, *weights):
    layer.set_weights([np.reshape(w, v.shape) for w, v in zip(weights, layer.weights, strict=True)])


def redraw(layer):
    """Weights that are the same on every backend, and nowhere zero."""
    for number, variable in enumerate(layer.trainable_variables):
        variable.assign(0.4 * draw(*variable.shape, seed=100 + number))


def arrays(nested):
    return keras.tree.map_structure(ops.convert_to_numpy, nested)


def constants_of(cell):
    """A memory, where the cell looks at one."""
    if not isinstance(cell, AttentionCell):
        return None
    memory = ops.convert_to_tensor(draw(BATCH_SIZE, 3, DIM, seed=8))
    mask = ops.convert_to_tensor(np.array([[1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0]], "bool"))
    return {"memory": memory, "keys": cell.attention.project(memory), "memory_mask": mask}


def compiled(function):
    """The function as its users run it: in a graph, or jitted."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function


def run_and_differentiate(function, layer, inputs):
    """`function(inputs)`, and the gradients of its `weighted_sum`, compiled.

    Returns:
        The results as a flat list, then the gradient for the inputs and each of the weights.
    """
    variables = layer.trainable_variables
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function(reduce_retracing=True)
        def run(inputs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                results = function(inputs)
                loss = weighted_sum(results)
            return results, tape.gradient(loss, [inputs, *(v.value for v in variables)])

        results, found = run(tf.constant(inputs))
    elif keras.backend.backend() == "jax":
        import jax

        def stateless(inputs, values):
            with keras.StatelessScope(state_mapping=zip(variables, values)):
                results = function(inputs)
                return weighted_sum(results), results

        run = jax.jit(jax.value_and_grad(stateless, argnums=(0, 1), has_aux=True))
        (_, results), (of_inputs, of_values) = run(inputs, [v.value for v in variables])
        found = [of_inputs, *of_values]
    else:
        inputs = ops.convert_to_tensor(inputs).requires_grad_()
        layer.zero_grad()
        results = function(inputs)
        weighted_sum(results).backward()
        found = [inputs.grad, *(v.value.grad for v in variables)]
    return arrays(keras.tree.flatten(results)), arrays(found)


def gradients(function, layer, inputs):
    return run_and_differentiate(function, layer, inputs)[1]


def weighted_sum(results):
    """A loss that sees every value of the results, each with its own weight."""
    total = 0.0
    for number, part in enumerate(keras.tree.flatten(results)):
        part = part if part.dtype == "float64" else ops.cast(part, "float32")
        weight = ops.cast(draw(*part.shape, seed=50 + number), part.dtype)
        total = total + ops.sum(part * weight)
    return total


def close(actual, expected, atol=1e-5):
    actual, expected = keras.tree.flatten(actual), keras.tree.flatten(expected)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, atol=atol, rtol=1e-5)


def by_hand(actual, *expected):
    """Each of the arrays, for a batch of one, against its numbers."""
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a[0], e, atol=1e-6, rtol=1e-5)


# Numbers worked by hand. sigmoid(log 3) = 0.75, sigmoid(0) = 0.5, tanh(atanh 0.5) = 0.5.

THREE, HALF = log(3), atanh(0.5)
ONE = np.ones((1, 1), "float32")


def test_lstm_cell_by_hand():
    cell = LSTMCell(1)
    cell.build((None, 1))
    # i = 0.75 from x, f = 0.75 from h, g = 0.5 from the bias, o = 0.5.
    set_weights(cell, [THREE, 0, 0, 0], [0, THREE, 0, 0], [0, 0, HALF, 0])
    outputs, (h, c) = arrays(cell(ONE, (ONE, 2 * ONE)))
    by_hand([c, h, outputs], [1.875], [0.4770227], [0.4770227])


def test_layer_norm_lstm_cell_by_hand():
    cell = LayerNormLSTMCell(1)
    cell.build((None, 1))
    # LN([1, -1, 1, -1]) is itself, LN(0) and LN(c) are 0: what remains is the offset, 1.
    norms = [np.ones(4), np.zeros(4), np.ones(4), np.zeros(4), [1], [1]]
    set_weights(cell, [1, -1, 1, -1], [0, 0, 0, 0], [0, 0, 0, 0], *norms)
    outputs, (_, c) = arrays(cell(ONE, (0 * ONE, ONE)))
    by_hand([c, outputs], [0.8257114], [0.2048240])


def test_gru_cell_by_hand():
    cell = GRUCell(1)
    cell.build((None, 1))
    # z = 0.75 from x, r = 0.5, g = tanh(r * 2 * HALF * h) = 0.5; 0.75 * 1 + 0.25 * 0.5.
    set_weights(cell, [THREE, 0, 0], [0, 0, 2 * HALF], np.zeros(6))
    outputs, (h,) = arrays(cell(ONE, (ONE,)))
    by_hand([outputs, h], [0.875], [0.875])


def test_wrapped_cells_by_hand():
    gru = GRUCell(1)
    residual = ResidualCell(gru)
    stack = StackedCell([residual, ResidualCell(GRUCell(1))])
    stack.build((None, 1))
    for cell in (gru, stack.cells[1].cell):
        set_weights(cell, [0, 0, 0], [0, 0, 0], [0, 0, HALF, 0, 0, 0])
    # From h = 1: 0.5 * 1 + 0.5 * 0.5 = 0.75, to which the residual adds x.
    outputs, state = arrays(residual(2 * ONE, (ONE,)))
    by_hand([outputs, *state], [2.75], [0.75])
    outputs, state = arrays(stack(2 * ONE, ((ONE,), (ONE,))))
    by_hand([outputs, state[0][0], state[1][0]], [3.5], [0.75], [0.75])


MEMORY = np.array([[[0.0], [HALF], [7.0]]], "float32")
MASK = np.array([[True, True, False]])


def test_additive_attention_by_hand():
    attention = AdditiveAttention(1)
    attention.build((1, 1), MEMORY.shape)
    attention.query_projection.set_weights([ONE, np.zeros(1)])
    attention.memory_projection.set_weights([ONE])
    attention.score_projection.set_weights([2 * THREE * ONE])  # scores 0, log 3
    context, weights = arrays(attention(0 * ONE, MEMORY, attention.project(MEMORY), MASK))
    by_hand([weights, context], [0.25, 0.75, 0], [0.75 * HALF])


def test_multiplicative_attention_by_hand():
    attention = MultiplicativeAttention(1)
    attention.build((1, 1), MEMORY.shape)
    attention.memory_projection.set_weights([THREE / HALF * ONE])  # scores 0, log 3
    context, weights = arrays(attention(ONE, MEMORY, attention.project(MEMORY), MASK))
    by_hand([weights, context], [0.25, 0.75, 0], [0.75 * HALF])


def test_multi_head_attention_by_hand():
    attention = MultiHeadAttention(2, num_heads=2)
    attention.build((1, 2), MEMORY.shape)
    identity = [np.eye(2), np.zeros(2)]
    attention.query_projection.set_weights(identity)
    attention.context_projection.set_weights(identity)
    # Scores 0, log 3 and 0, -log 3; the second head's values count double.
    keys_and_values = np.array([[THREE / HALF, -THREE / HALF, 1, 2]])
    attention.memory_projection.set_weights([keys_and_values, np.zeros(4)])
    query = np.ones((1, 2), "float32")
    context, weights = arrays(attention(query, MEMORY, attention.project(MEMORY), MASK))
    by_hand([weights, context], [0.5, 0.5, 0], [0.75 * HALF, 0.5 * HALF])


def test_temporal_convolution_by_hand():
    layer = TemporalConvolution(1, kernel_size=2, dilations=(2,), causal=True)
    layer.build((1, 4, 1))
    layer.projection.set_weights([ONE, np.zeros(1)])
    layer.convolutions[0].set_weights([np.reshape([10, 100], (2, 1, 1)), np.zeros(1)])
    inputs = np.reshape(np.array([1, 2, 3, 4], "float32"), (1, 4, 1))
    # x + relu(10 * two steps before + 100 * x)
    outputs, state = arrays(layer(inputs))
    by_hand([outputs[:, :, 0], state[0][:, :, 0]], [101, 202, 313, 424], [3, 4])
    outputs, state = arrays(layer(inputs, np.array([3], "int32")))
    by_hand([outputs[:, :, 0], state[0][:, :, 0]], [101, 202, 313, 0], [2, 3])


# Attention


@pytest.mark.parametrize("make", ATTENTIONS.values(), ids=ATTENTIONS)
def test_attention_over_steps_and_sentences(make):
    attention = make()
    memory = draw(BATCH_SIZE, LENGTH, DIM)
    queries = draw(BATCH_SIZE, 3, UNITS, seed=1)
    keys = attention.project(memory)
    context, weights = arrays(attention(queries, memory, keys, LIVE))
    assert context.shape == (BATCH_SIZE, 3, attention.context_size(DIM))
    assert weights.shape == (BATCH_SIZE, 3, LENGTH)
    for number in range(3):
        step = arrays(attention(queries[:, number], memory, keys, LIVE))
        close(step, [context[:, number], weights[:, number]], atol=1e-6)
    assert np.all(weights.transpose(0, 2, 1)[~LIVE] == 0)
    close(weights.sum(-1)[:, 0], SEQUENCE_LENGTH > 0)
    # What is masked changes nothing; a memory with nothing in it gives zeros and no NaN.
    changed = np.where(LIVE[:, :, None], memory, 1e3).astype("float32")
    assert np.array_equal(
        arrays(attention(queries, changed, attention.project(changed), LIVE)[0]), context
    )
    found = gradients(
        lambda m: attention(queries, m, attention.project(m), LIVE)[0], attention, memory
    )
    assert all(np.all(np.isfinite(g)) for g in found)
    assert np.all(found[0][~LIVE] == 0)


def test_attention_says_what_it_expects():
    with pytest.raises(ValueError, match="expected a query of units values"):
        MultiplicativeAttention(4).build((None, 3), (None, None, 2))
    with pytest.raises(ValueError, match="units=5, num_heads=2"):
        MultiHeadAttention(5, num_heads=2)


# dynamic_rnn


@pytest.mark.parametrize(("name", "graph"), [*((name, True) for name in CELLS), ("stack", False)])
def test_windows_are_the_whole_run_exactly(name, graph):
    cell = CELLS[name]()
    cell.build((BATCH_SIZE, DIM))
    constants = constants_of(cell)
    start = cell.initial_state(BATCH_SIZE, training=True)

    def run(inputs, sequence_length, state):
        return dynamic_rnn(cell, inputs, sequence_length, state, constants)

    run = compiled(run) if graph else run
    inputs, lengths = ops.convert_to_tensor(INPUTS), ops.convert_to_tensor(SEQUENCE_LENGTH)
    whole, whole_state = arrays(run(inputs, lengths, start))
    first, state = run(inputs[:, :4], ops.minimum(lengths, 4), start)
    second, state = run(inputs[:, 4:], ops.maximum(lengths - 4, 0), state)
    windows = np.concatenate(arrays([first, second]), axis=1)
    assert np.array_equal(windows, whole)
    for a, b in zip(keras.tree.flatten(arrays(state)), keras.tree.flatten(whole_state)):
        assert np.array_equal(a, b)
    assert np.all(whole[~LIVE] == 0)
    assert np.all(whole[LIVE] != 0)


@pytest.mark.parametrize("make", CELLS.values(), ids=CELLS)
def test_dynamic_rnn_is_the_cell_step_by_step(make):
    cell = make()
    outputs, state = dynamic_rnn(
        cell, INPUTS[1:2], constants=first_of(constants_of(cell)), training=False
    )
    expected = cell.initial_state(1)
    for t in range(LENGTH):
        step, expected = cell(
            ops.convert_to_tensor(INPUTS[1:2, t]), expected, first_of(constants_of(cell))
        )
        close(arrays(outputs[:, t]), arrays(step), atol=1e-6)
    close(arrays(state), arrays(expected), atol=1e-6)


def first_of(constants):
    return constants and {name: value[1:2] for name, value in constants.items()}


class CountingCell(LSTMCell):
    """An LSTM cell that notes each time that it is really run."""

    def __init__(self, units):
        super().__init__(units)
        self.runs = []

    def call(self, inputs, state, constants=None):
        def note(x=None):
            self.runs.append(1)
            return x

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            inputs = tf.ensure_shape(tf.numpy_function(note, [inputs], inputs.dtype), inputs.shape)
        elif keras.backend.backend() == "jax":
            import jax

            jax.debug.callback(note)
        else:
            note()
        return super().call(inputs, state, constants)


def count_steps(sequence_length):
    cell = CountingCell(UNITS)
    run = compiled(lambda x, n: dynamic_rnn(cell, x, n)[0])
    ops.convert_to_numpy(run(INPUTS, np.array(sequence_length, "int32")))
    return len(cell.runs)


def test_the_loop_ends_with_the_longest_sequence():
    # TensorFlow has one more that shows it the shapes; it is dropped where it has no effect,
    # which a cell that takes notes has.
    extra = 1
    assert count_steps([7, 1, 1, 1]) == 7 + extra
    assert count_steps([2, 1, 0, 3]) == 3 + extra
    assert count_steps([1, 0, 0, 1]) == 1 + extra


def test_dropout_is_the_same_at_every_step():
    cell = DropoutCell(ResidualCell(GRUCell(40)), 0.5, seed=1)
    ones = np.ones((2, 5, 40), "float32")
    cell.build((2, 40))
    for variable in cell.trainable_variables:
        variable.assign(ops.zeros_like(variable))  # so that only the residual is left
    outputs, (_, (mask,)) = arrays(dynamic_rnn(cell, ones, training=True))
    assert set(np.unique(mask)) == {0, 2}
    assert 0.3 < np.mean(mask == 0) < 0.7
    assert np.array_equal(outputs, np.repeat(mask[:, None], 5, axis=1))
    again, _ = arrays(dynamic_rnn(cell, ones, training=True))
    assert not np.array_equal(outputs, again)
    outputs, (_, mask) = arrays(dynamic_rnn(cell, ones))
    assert mask == ()
    assert np.all(outputs == 1)


def test_reverse_sequence():
    inputs = np.arange(1, 9, dtype="float32").reshape(2, 4, 1)
    reverse = arrays(reverse_sequence(inputs, np.array([3, 0], "int32")))
    assert reverse[:, :, 0].tolist() == [[3, 2, 1, 4], [5, 6, 7, 8]]
    reverse = arrays(reverse_sequence(inputs))
    assert reverse[:, :, 0].tolist() == [[4, 3, 2, 1], [8, 7, 6, 5]]


# Layers, against Keras


def keras_twin(ours, kind="LSTM"):
    make = getattr(keras.layers, kind)
    twin = make(
        UNITS, return_sequences=True, return_state=True, zero_output_for_mask=True, use_cudnn=False
    )
    twin.build((None, None, DIM))
    assert [v.name for v in ours.weights] == [v.name for v in twin.weights][: len(ours.weights)]
    twin.set_weights(ours.get_weights())
    return twin


@pytest.mark.parametrize(
    ("kind", "padded", "from_state", "backwards"),
    [
        ("LSTM", False, False, False),
        ("LSTM", False, True, True),
        ("LSTM", True, False, False),
        ("LSTM", True, True, False),
        ("LSTM", True, True, True),
        ("GRU", False, False, False),
        ("GRU", True, True, True),
    ],
)
def test_equals_keras(kind, padded, from_state, backwards):
    ours = getattr(layers, kind)(UNITS, go_backwards=backwards)
    ours.build((None, None, DIM))
    redraw(ours)
    twin = keras_twin(ours, kind)
    lengths = SEQUENCE_LENGTH if padded else None
    state = (STATE if kind == "LSTM" else STATE[:1]) if from_state else None
    mask = LIVE if padded else None

    def our_run(inputs):
        return ours(inputs, lengths, state)

    def keras_run(inputs):
        inputs = reverse_sequence(inputs, lengths) if backwards else inputs
        outputs, *final = twin(inputs, initial_state=state, mask=mask)
        return reverse_sequence(outputs, lengths) if backwards else outputs, final

    expected = run_and_differentiate(keras_run, twin, INPUTS)
    close(run_and_differentiate(our_run, ours, INPUTS), expected)


def test_bidirectional_equals_keras():
    ours = Bidirectional(LSTM(UNITS))
    ours.build((None, None, DIM))
    redraw(ours)
    twin = keras.layers.Bidirectional(
        keras.layers.LSTM(UNITS, return_sequences=True, return_state=True, use_cudnn=False)
    )
    twin.build((None, None, DIM))
    twin.set_weights(ours.get_weights())
    outputs, state = arrays(ours(INPUTS))
    expected, h, c, h_back, c_back = arrays(twin(INPUTS))
    close(outputs, expected)
    close(state, [np.concatenate(pair, -1) for pair in ((h, h_back), (c, c_back))])
    close(
        gradients(lambda x: ours(x)[0], ours, INPUTS),
        gradients(lambda x: twin(x)[0], twin, INPUTS),
    )
    # From a state: that of the run before, for the layer that reads ahead.
    first, state = ours(INPUTS[:, :4])
    second, _ = ours(INPUTS[:, 4:], initial_state=state)
    ahead = np.concatenate(arrays([first, second]), axis=1)[:, :, :UNITS]
    close(ahead, outputs[:, :, :UNITS], atol=1e-6)


def test_initial_weights_are_keras():
    ours = LSTM(UNITS)
    ours.build((None, None, DIM))
    bias = np.zeros(4 * UNITS)
    bias[UNITS : 2 * UNITS] = 1
    assert np.array_equal(arrays(ours.bias), bias)
    kernel = arrays(ours.recurrent_kernel)
    close(kernel @ kernel.T, np.eye(UNITS))


@pytest.mark.parametrize("name", ["lstm", "lstm_backwards", "gru"])
def test_numeric_gradient(name):
    layer = {"lstm": LSTM, "lstm_backwards": LSTM, "gru": GRU}[name](
        UNITS, go_backwards=name == "lstm_backwards", dtype="float64"
    )
    layer.build((None, None, DIM))
    redraw(layer)
    inputs = INPUTS.astype("float64")

    def run(inputs):
        return layer(inputs, SEQUENCE_LENGTH)

    found = gradients(run, layer, inputs)
    loss = compiled(lambda inputs: weighted_sum(run(inputs)))

    def loss_at(number, step):
        if number == 0:
            return float(loss(inputs + step))
        variable = layer.trainable_variables[number - 1]
        variable.assign_add(step)
        value = float(loss(inputs))
        variable.assign_sub(step)
        return value

    for number, gradient in enumerate(found):
        step = 1e-5 * draw(*gradient.shape, seed=9).astype("float64")
        slope = (loss_at(number, step) - loss_at(number, -step)) / 2
        assert np.sum(gradient * step) == pytest.approx(slope, rel=1e-6)


# Layers, in a batch


@pytest.mark.parametrize("make", SEQUENCE_LAYERS.values(), ids=SEQUENCE_LAYERS)
def test_neither_padding_nor_batch_mates_matter(make):
    layer = make()
    outputs = arrays(layer(INPUTS, SEQUENCE_LENGTH))
    changed = np.where(LIVE[:, :, None], INPUTS, 1e3).astype("float32")
    for a, b in zip(
        keras.tree.flatten(outputs), keras.tree.flatten(arrays(layer(changed, SEQUENCE_LENGTH)))
    ):
        assert np.array_equal(a, b)
    states = outputs[1] if isinstance(outputs, tuple) else []
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    assert np.all(outputs[~LIVE] == 0)
    for row in (0, 1, 3):
        length = SEQUENCE_LENGTH[row]
        alone = arrays(layer(INPUTS[row : row + 1, :length]))
        alone, alone_states = alone if isinstance(alone, tuple) else (alone, [])
        close(alone[0], outputs[row, :length])
        close([s[0] for s in alone_states], [s[row] for s in states])


def test_convolution_causal_or_centred():
    later = INPUTS.copy()
    later[:, 4:] += 1
    causal = TemporalConvolution(UNITS, causal=True)
    assert np.array_equal(arrays(causal(later)[0])[:, :4], arrays(causal(INPUTS)[0])[:, :4])
    centred = TemporalConvolution(UNITS)
    assert not np.allclose(arrays(centred(later)[0])[:, :4], arrays(centred(INPUTS)[0])[:, :4])
    assert centred(INPUTS)[1] == []


def test_causal_convolution_in_windows():
    layer = TemporalConvolution(UNITS, causal=True)
    whole, state = arrays(layer(INPUTS))
    # A short stretch, padded, after a long one: shorter than what a convolution looks back at.
    first, middle = layer(INPUTS[:, :2])
    padded = np.pad(INPUTS[:, 2:5], [(0, 0), (0, 2), (0, 0)])
    second, middle = layer(padded, np.full(BATCH_SIZE, 3, "int32"), middle)
    third, last = layer(INPUTS[:, 5:], initial_state=middle)
    windows = arrays([first, second[:, :3], third])
    close(np.concatenate(windows, axis=1), whole, atol=1e-6)
    close(arrays(last), state, atol=1e-6)


def test_lstm_windows_and_steps():
    layer = LSTM(UNITS)
    whole, state = arrays(layer(INPUTS))
    first, middle = layer(INPUTS[:, :4])
    second, last = layer(INPUTS[:, 4:], initial_state=middle)
    close(np.concatenate(arrays([first, second]), axis=1), whole, atol=1e-6)
    close(arrays(last), state, atol=1e-6)
    stepped = [ops.zeros((BATCH_SIZE, UNITS))] * 2
    for t in range(LENGTH):
        outputs, stepped = layer.step(INPUTS[:, t], stepped)
        close(arrays(outputs), whole[:, t], atol=1e-6)
    close(arrays(stepped), state, atol=1e-6)


def runner(name):
    """A layer or cell by name, with weights, and a function that runs it over `INPUTS`."""
    layer = {**SEQUENCE_LAYERS, **CELLS}[name]()
    layer.build((BATCH_SIZE, DIM) if name in CELLS else (BATCH_SIZE, LENGTH, DIM))
    redraw(layer)

    def run(inputs):
        if name in CELLS:
            constants = constants_of(layer)
            return dynamic_rnn(layer, inputs, SEQUENCE_LENGTH, constants=constants)
        return layer(inputs, SEQUENCE_LENGTH)

    return layer, run


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_mixed_bfloat16(name):
    exact = run_and_differentiate(*runner(name)[::-1], INPUTS)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer, run = runner(name)
        rough = run_and_differentiate(run, layer, INPUTS)
    finally:
        keras.config.set_dtype_policy(policy)
    assert all(part.dtype.name == "bfloat16" for part in rough[0])
    assert all(part.dtype.name == "float32" for part in rough[1])
    for parts in zip(exact, rough):
        a, b = (np.concatenate([part.ravel().astype("float32") for part in p]) for p in parts)
        assert np.linalg.norm(a - b) < 0.05 * np.linalg.norm(a)


# The way through cuDNN, whose kernel is played by a loop that knows no lengths


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
def test_cudnn_path(monkeypatch, padded):
    from keras.src import backend

    def lstm(inputs, h, c, mask, kernel, recurrent_kernel, bias, *activations, return_sequences):
        assert mask is None
        assert return_sequences
        inputs = ops.swapaxes(inputs, 0, 1)
        all_h, all_c = sequence._lstm(inputs, kernel, bias, recurrent_kernel, h, c)
        return all_h[-1], ops.swapaxes(all_h, 0, 1), [all_h[-1], all_c[-1]]

    lengths = SEQUENCE_LENGTH if padded else None
    layer = LSTM(UNITS)
    layer.build((None, None, DIM))
    redraw(layer)

    def run():
        return run_and_differentiate(lambda x: layer(x, lengths, STATE), layer, INPUTS)

    expected = run()
    called = []
    monkeypatch.setattr(backend, "lstm", lambda *a, **k: called.append(1) or lstm(*a, **k))
    monkeypatch.setattr(backend, "cudnn_ok", lambda *a, **k: True)
    close(run(), expected)
    assert called
    called.clear()
    layer.use_cudnn = False
    run()
    assert not called

    def refuse(*_, **__):
        called.append(1)
        raise NotImplementedError

    layer.use_cudnn = True
    monkeypatch.setattr(backend, "lstm", refuse)
    close(run(), expected)
    assert called


# Saving


@pytest.mark.parametrize("name", [*SEQUENCE_LAYERS, *CELLS, *ATTENTIONS])
def test_layers_are_rebuilt_from_their_config(name):
    layer = {**ATTENTIONS, **CELLS, **SEQUENCE_LAYERS}[name]()
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    for part in ("cell", "layer", "attention"):
        if hasattr(layer, part):
            assert getattr(again, part) is not getattr(layer, part)


def test_export_with_dynamic_shapes(tmp_path):
    import tensorflow as tf

    module = tf.Module()
    module.layer = Bidirectional(LSTM(UNITS))
    module.run = tf.function(
        lambda x, n: module.layer(x, n)[0],
        input_signature=[tf.TensorSpec([None, None, DIM]), tf.TensorSpec([None], tf.int32)],
    )
    expected = arrays(module.layer(INPUTS, SEQUENCE_LENGTH)[0])
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    close(arrays(loaded.run(INPUTS, SEQUENCE_LENGTH)), expected, atol=1e-6)


# Other backends


@functools.cache
def test_motion_by_hand():
    """One value, 2x2 regions: something appears at the top left and goes to the right."""
    motion = Motion(1, 1)
    motion.build((None, None, 4, 1))
    assert (np.asarray(motion.output_projection.kernel) == 0).all()
    kernel = np.zeros((3, 3, 2, 1))
    kernel[1, 1, 0] = 2  # what came to a region from the frame before
    kernel[1, 2, 1] = -1  # what goes from its right neighbour to the frame after
    motion.set_weights([np.ones((1, 1)), kernel, np.ones((1, 1))])
    features = np.zeros((1, 4, 4, 1), "float32")
    features[0, 1, 0] = features[0, 2, 1] = 1
    moved = np.asarray(motion(features, np.array([3])))[0, :, :, 0]
    # In frame 1 it came to region 0; in frame 2 to region 1; what is after the end is not seen.
    expected = np.zeros((4, 4))
    expected[1, 0] = 2 - 1  # its right neighbour is come to in the frame after: -1
    expected[2, 1] = 2
    np.testing.assert_allclose(moved[:3], expected[:3], atol=1e-6)
    assert (moved[3] == 0).all()


def results():
    """Outputs and gradients of everything, and the steps counted."""
    parts = {}
    for name in ONE_OF_EACH:
        layer, run = runner(name)
        parts[name] = run_and_differentiate(run, layer, INPUTS)
    for name, make in ATTENTIONS.items():
        attention = make()
        attention.build((None, UNITS), (None, None, DIM))
        redraw(attention)

        def attend(memory, attention=attention):
            return attention(STATE[0], memory, attention.project(memory), LIVE)

        parts[name] = run_and_differentiate(attend, attention, INPUTS)
    motion = Motion(DIM, UNITS)
    regions = np.repeat(INPUTS[:, :, None], 4, axis=2) * np.arange(4.0, dtype="float32")[:, None]
    motion.build(regions.shape)
    redraw(motion)
    parts["motion"] = run_and_differentiate(
        lambda regions: motion(regions, SEQUENCE_LENGTH), motion, regions
    )
    lstm = LSTM(UNITS)
    lstm.build(INPUTS.shape)
    redraw(lstm)
    parts["windows"] = run_and_differentiate(
        lambda inputs: in_windows(lstm, inputs, SEQUENCE_LENGTH, 3), lstm, INPUTS
    )
    found = {"steps": np.array(count_steps([2, 1, 0, 3]))}
    for name, nested in parts.items():
        for number, part in enumerate(keras.tree.flatten(nested)):
            found[f"{name} {number}"] = part
    return found


@pytest.fixture(scope="module", autouse=True)
def other_backends(request, tmp_path_factory):
    """Processes that compute `results` meanwhile: they take longer than all other tests here."""
    processes = {}
    wanted = [item.name for item in request.session.items]
    for backend in ("jax", "torch"):
        is_wanted = f"test_other_backends_agree[{backend}]" in wanted
        if not is_wanted or importlib.util.find_spec(backend) is None:
            continue
        path = tmp_path_factory.mktemp(backend) / "results.npz"
        code = (
            "import sys; sys.modules['tensorflow'] = None\n"
            "import runpy\n"
            "runpy.run_module('tests.captioner.layers.test_layers', run_name='__main__')"
        )
        environment = {
            **os.environ,
            "KERAS_BACKEND": backend,
            "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiles in half the time
        }
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            env=environment,
            cwd=Path(__file__).parents[3],
            stderr=subprocess.PIPE,
            text=True,
        )
        processes[backend] = process, path
    yield processes
    for process, _ in processes.values():
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_agree(backend, other_backends):
    if backend not in other_backends:
        pytest.skip(f"{backend} is not installed")
    process, path = other_backends[backend]
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    theirs, ours = np.load(path), results()
    assert set(theirs) == set(ours)
    assert theirs["steps"] == 3
    for name in set(ours) - {"steps"}:
        np.testing.assert_allclose(theirs[name], ours[name], atol=2e-5, rtol=1e-5, err_msg=name)


if __name__ == "__main__":
    np.savez(sys.argv[1], **results())
