"""Running a cell over time, no longer than some sequence lives: plain Keras 3.

Sequences are padded on the right, `sequence_length` `(batch_size,)` says how much of each is
real (None: all of it), and outputs are zero past each end.
"""

import keras
from keras import ops, tree


def loop(step, state, inputs, num_steps=None, reverse=False):
    """Calls `step(state, inputs_t) -> (state, outputs_t)` along the first axis of `inputs`.

    Takes the form that the backend can both run and differentiate: a while-loop in a TensorFlow
    graph; on JAX, which can't go backwards through a while-loop, a scan whose late steps are
    skipped by a condition; a Python loop on PyTorch and in eager TensorFlow.

    Args:
        step: one step.
        state: nested tensors.
        inputs: nested tensors `(sequence_length, batch_size, ...)`.
        num_steps: steps to take, at least 1; by default all.
        reverse: from step `num_steps - 1` down to 0.

    Returns:
        `(outputs, state)`, outputs nested `(sequence_length, ...)`, zero after `num_steps`.
    """
    total = ops.shape(tree.flatten(inputs)[0])[0]
    if keras.backend.backend() == "jax":
        return _scan(step, state, inputs, num_steps, reverse, total)
    num_steps = total if num_steps is None else num_steps
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.executing_eagerly():
            return _while_loop(tf, step, state, inputs, num_steps, reverse, total)
    steps, outputs = range(int(num_steps)), []
    for t in reversed(steps) if reverse else steps:
        state, outputs_t = step(state, tree.map_structure(lambda x: x[t], inputs))  # noqa: B023
        outputs.append(outputs_t)

    def stack(*outputs):
        outputs = ops.stack(outputs[::-1] if reverse else outputs)
        return ops.pad(outputs, [(0, total - len(steps))] + [(0, 0)] * (len(outputs.shape) - 1))

    return tree.map_structure(stack, *outputs), state


def _while_loop(tf, step, state, inputs, num_steps, reverse, total):
    """`loop` in a TensorFlow graph."""

    def array(like):
        return tf.TensorArray(like.dtype, size=total, element_shape=like.shape)

    arrays = tree.map_structure(lambda x: array(x[0]).unstack(x), inputs)
    # Shapes and types of the outputs; nothing uses its values, so the graph drops this step.
    example = step(state, tree.map_structure(lambda x: x[0], inputs))[1]

    def body(count, flat_state, written):
        t = num_steps - 1 - count if reverse else count
        inputs_t = tree.map_structure(lambda x: x.read(t), arrays)
        new_state, outputs_t = step(tree.pack_sequence_as(state, flat_state), inputs_t)
        new_state = [
            tf.ensure_shape(new, old.shape) for new, old in zip(tree.flatten(new_state), flat_state)
        ]
        written = [x.write(t, output) for x, output in zip(written, tree.flatten(outputs_t))]
        return count + 1, new_state, written

    written = [array(x) for x in tree.flatten(example)]
    start = (0, tree.flatten(state), written)
    _, flat_state, written = tf.while_loop(
        lambda count, *_: count < num_steps, body, start, maximum_iterations=total
    )
    outputs = tree.pack_sequence_as(example, [x.stack() for x in written])
    return outputs, tree.pack_sequence_as(state, flat_state)


def _scan(step, state, inputs, num_steps, reverse, total):
    """`loop` on JAX."""
    import jax

    def body(state, t_and_inputs):
        def skip(state, inputs_t):
            like = jax.eval_shape(step, state, inputs_t)[1]
            return state, tree.map_structure(lambda x: ops.zeros(x.shape, x.dtype), like)

        t, inputs_t = t_and_inputs
        if num_steps is None:
            return step(state, inputs_t)
        return jax.lax.cond(t < num_steps, step, skip, state, inputs_t)

    state, outputs = jax.lax.scan(body, state, (ops.arange(total), inputs), reverse=reverse)
    return outputs, state


def longest(sequence_length):
    """Steps until the last sequence has ended, at least 1; None for no lengths."""
    return None if sequence_length is None else ops.maximum(ops.max(sequence_length), 1)


def live_mask(sequence_length, total):
    """`(batch_size, total)`, True where a step lies within its sequence."""
    return ops.arange(total, dtype="int32")[None] < ops.cast(sequence_length, "int32")[:, None]


def where_live(live, x, otherwise=None):
    """`x` where `live`, which has its leading axes, and zero or `otherwise` elsewhere."""
    live = ops.reshape(live, (*ops.shape(live), *(1 for _ in x.shape[len(live.shape) :])))
    return ops.where(live, x, ops.zeros_like(x) if otherwise is None else otherwise)


def reverse_sequence(inputs, sequence_length=None):
    """Reverses each sequence of `inputs` `(batch_size, sequence_length, input_dim)` in itself."""
    if sequence_length is None:
        return ops.flip(inputs, axis=1)
    t = ops.arange(ops.shape(inputs)[1], dtype="int32")[None]
    last = ops.cast(sequence_length, "int32")[:, None] - 1
    return ops.take_along_axis(inputs, ops.where(t <= last, last - t, t)[:, :, None], axis=1)


def dynamic_rnn(
    cell, inputs, sequence_length=None, initial_state=None, constants=None, training=False
):
    """Runs a cell over a batch of sequences, no further than the longest of them.

    A sequence's state is copied through past its end. Given as the next `initial_state`, the
    final state continues exactly where the run ended.

    Args:
        cell: a `Cell`.
        inputs: `(batch_size, sequence_length, input_dim)`.
        sequence_length: `(batch_size,)` integers.
        initial_state: as `cell.initial_state` gives it, which is the default.
        constants: what every step may look at, such as an `AttentionCell`'s memory.
        training: whether dropout is on; decided where the initial state is made.

    Returns:
        Outputs `(batch_size, sequence_length, output_size)` and the final state.
    """
    if not cell.built:
        cell.build((inputs.shape[0], inputs.shape[-1]))
    inputs = ops.cast(inputs, cell.compute_dtype)
    if initial_state is None:
        initial_state = cell.initial_state(ops.shape(inputs)[0], training=training)

    def as_computed(x):
        is_float = keras.backend.is_float_dtype(x.dtype)
        return ops.cast(x, cell.compute_dtype) if is_float else ops.convert_to_tensor(x)

    initial_state = tree.map_structure(as_computed, initial_state)
    steps = [ops.swapaxes(inputs, 0, 1)]  # (sequence_length, batch_size, input_dim)
    if sequence_length is not None:
        steps.append(ops.transpose(live_mask(sequence_length, ops.shape(inputs)[1])))

    def step(state, steps_t):
        outputs, new_state = cell(steps_t[0], state, constants)
        if sequence_length is None:
            return new_state, outputs
        live = steps_t[1]
        state = tree.map_structure(lambda new, old: where_live(live, new, old), new_state, state)
        return state, where_live(live, outputs)

    outputs, state = loop(step, initial_state, steps, longest(sequence_length))
    return ops.swapaxes(outputs, 0, 1), state  # (batch_size, sequence_length, output_size)


def in_windows(layer, inputs, sequence_length, window, training=None):
    """Runs a layer over windows of sequences, each from the state that the one before left.

    The outputs are those of one run over the whole, but through the state no gradient flows back
    into an earlier window (truncated back-propagation through time, Williams and Peng 1990).

    Args:
        layer: called as an `LSTM`, and one that reads forwards.
        inputs: `(batch_size, sequence_length, input_dim)`.
        sequence_length: `(batch_size,)` integers.
        window: steps of one.
        training: whether to drop values out.

    Returns:
        Outputs `(batch_size, sequence_length, output_size)`.
    """
    batch_size, total, input_dim = ops.shape(inputs)
    count = -(-total // window)
    padded = ops.pad(inputs, [(0, 0), (0, count * window - total), (0, 0)])
    windows = ops.reshape(padded, (batch_size, count, window, input_dim))
    starts = window * ops.arange(count, dtype="int32")
    sequence_length = ops.cast(sequence_length, "int32")
    # What no step makes of the state before the first one.
    _, state = layer(inputs[:, :1], ops.zeros_like(sequence_length), training=training)

    def step(state, steps):
        inputs, start = steps
        length = ops.clip(sequence_length - start, 0, window)
        state = tree.map_structure(ops.stop_gradient, state)
        outputs, state = layer(inputs, length, state, training=training)
        return state, outputs

    if keras.backend.backend() == "jax":  # which cannot differentiate an LSTM within a scan
        parts = []
        for number in range(count):
            state, part = step(state, (windows[:, number], starts[number]))
            parts.append(part)
        outputs = ops.stack(parts, axis=1)
    else:
        outputs, _ = loop(step, state, (ops.swapaxes(windows, 0, 1), starts))
        outputs = ops.swapaxes(outputs, 0, 1)
    # (batch_size, count, window, output_size)
    return ops.reshape(outputs, (batch_size, count * window, -1))[:, :total]
