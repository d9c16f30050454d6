"""What the benchmarks need of whichever backend Keras has: compiling, gradients and waiting.

Importing this imports no backend but Keras' own. Arithmetic is float32; on a GPU all sides may
multiply in TF32, which is cuDNN's and JAX's default but not that of PyTorch's other products.
"""

import contextlib
import os
import platform

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
from keras import ops, tree

NAME = keras.backend.backend()

if NAME == "tensorflow":
    import tensorflow as tf

    VERSION = tf.__version__
elif NAME == "jax":
    import jax

    VERSION = jax.__version__
else:
    import torch

    VERSION = torch.__version__


def import_torch(wanted=True):
    """PyTorch as a side to compare with: None where it is unwanted or not installed."""
    if not wanted:
        return None
    try:
        import torch
    except ImportError:
        return None
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32, as JAX and cuDNN have it anyway
    return torch


if NAME == "torch":
    import_torch()


def on_gpu():
    """Whether Keras computes on a GPU."""
    if NAME == "tensorflow":
        return bool(tf.config.list_physical_devices("GPU"))
    if NAME == "jax":
        return jax.default_backend() == "gpu"
    return torch.cuda.is_available()


def described():
    """The keys of a result that say what it was measured on."""
    if not on_gpu():
        device = platform.processor() or platform.machine()
    elif NAME == "tensorflow":
        gpu = tf.config.list_physical_devices("GPU")[0]
        device = tf.config.experimental.get_device_details(gpu)["device_name"]
    elif NAME == "jax":
        device = jax.devices()[0].device_kind
    else:
        device = torch.cuda.get_device_name()
    return {"backend": NAME, "device": device}


def compiled(function):
    """The function in a graph, or jitted; as it is on PyTorch, which has no such thing here."""
    if NAME == "tensorflow":
        return tf.function(function, autograph=False)
    return jax.jit(function) if NAME == "jax" else function


def for_inference(function):
    """Such a function that keeps nothing for a gradient."""
    return torch.no_grad()(function) if NAME == "torch" else compiled(function)


def wait(result):
    """Returns the result when the device has computed it."""
    if NAME == "tensorflow":
        # The last tensor is there when a graph has run.
        [tensor for tensor in tree.flatten(result) if tensor is not None][-1].numpy()
    elif NAME == "jax":
        jax.block_until_ready(result)
    elif on_gpu():
        torch.cuda.synchronize()
    return result


def to_numpy(tensor):
    """An array, also of a PyTorch tensor beside another backend."""
    if hasattr(tensor, "detach"):
        return tensor.detach().cpu().numpy()
    return ops.convert_to_numpy(tensor)


def values_of(variables):
    """What the backend differentiates by."""
    return [variable.value for variable in variables]


def holding(variables, values):
    """A context in which variables have these values; elsewhere than on JAX they are their own."""
    if NAME == "jax":
        return keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True)))
    return contextlib.nullcontext()


def gradients(function, sources, upstream=None):
    """What `function(*sources)` gives, and its gradients by each of the sources.

    Args:
        function: a function of nested tensors and variables' values that gives one tensor.
        sources: its arguments.
        upstream: the gradient from above; ones by default.
    """
    if NAME == "jax":
        value, back = jax.vjp(function, *sources)
        return value, back(ops.ones_like(value) if upstream is None else upstream)
    if NAME == "tensorflow":
        with tf.GradientTape() as tape:
            tape.watch(tree.flatten(sources))
            value = function(*sources)
        return value, tape.gradient(value, sources, output_gradients=upstream)
    flat = [x if x.requires_grad else x.detach().requires_grad_() for x in tree.flatten(sources)]
    value = function(*tree.pack_sequence_as(sources, flat))
    found = torch.autograd.grad(value, flat, upstream)
    return value.detach(), tree.pack_sequence_as(sources, found)


def apply(optimizer, variables, slopes, values, slots):
    """Takes a step of the optimizer; on JAX it gives the new values and slots, elsewhere None.

    Args:
        optimizer: one built for these variables.
        variables: what is trained.
        slopes: its gradients.
        values: of the variables, as `gradients` took them.
        slots: of the optimizer's own variables.
    """
    if NAME == "jax":
        return optimizer.stateless_apply(slots, slopes, values)
    with torch.no_grad() if NAME == "torch" else contextlib.nullcontext():
        optimizer.apply(slopes, variables)
    return None


def one_thread():
    """Keeps Keras to one thread of the CPU; JAX's must be told before it starts."""
    if NAME == "tensorflow":
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
