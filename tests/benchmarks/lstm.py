"""Our LSTM against `keras.layers.LSTM`: one forward and backward pass, compiled.

`python -m tests.benchmarks.lstm` prints a line a case, then one JSON object: milliseconds
(medians) and speedups (medians over rounds in which every side runs once, so that whatever else
runs on the machine slows all of them). 20 steps, 1280 inputs, 512 units, float32. The backward
pass gives the gradients of all weights and of the inputs, as for any layer that has another below
it; the keys with `weights_only` leave the inputs' out, as for a layer that reads stored features.

It runs on whichever backend Keras has. On a GPU ours and Keras' both call cuDNN, and there are two
sides more, `loop` and `keras_loop`: the same without cuDNN. `torch` is `torch.nn.LSTM`, if it is
installed. The keys `over_loop`, `over_keras_loop` and `over_torch` say how many times faster than
these ours is.
"""

import argparse
import json
import os
import sys
import time

import keras
import numpy as np
from keras import ops

from captioner.layers import LSTM

from . import backend

LENGTH, DIM, UNITS = 20, 1280, 512


def training_pass(layer, with_inputs):
    """A compiled function of inputs and of the gradient from above."""
    variables = layer.trainable_variables

    @backend.compiled
    def run(values, inputs, upstream):
        def outputs_of(values, inputs=inputs):
            with backend.holding(variables, values):
                outputs = layer(inputs)
            return outputs[0] if isinstance(outputs, tuple) else outputs

        sources = (values, inputs) if with_inputs else (values,)
        weights, *of_inputs = backend.gradients(outputs_of, sources, upstream)[1]
        return [*of_inputs, *weights]

    # The weights are arguments: as constants, JAX would fold what is computed from them alone.
    return lambda inputs, upstream: backend.wait(
        run(backend.values_of(variables), inputs, upstream)
    )


def torch_pass(torch, weights, with_inputs):
    """The same of `torch.nn.LSTM`, for arrays that it moves to PyTorch's device once."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layer = torch.nn.LSTM(DIM, UNITS, batch_first=True).to(device)
    kernel, recurrent_kernel, bias = (torch.from_numpy(w) for w in weights)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(kernel.T)
        layer.weight_hh_l0.copy_(recurrent_kernel.T)
        layer.bias_ih_l0.copy_(bias)
        layer.bias_hh_l0.zero_()
    moved = {}

    def run(inputs, upstream):
        if not moved:
            moved["inputs"] = torch.from_numpy(inputs).to(device).requires_grad_(with_inputs)
            moved["upstream"] = torch.from_numpy(upstream).to(device)
        inputs, upstream = moved["inputs"], moved["upstream"]
        sources = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0]
        sources = [inputs, *sources] if with_inputs else sources
        # The second bias, whose gradient is the first one's, costs next to nothing.
        found = torch.autograd.grad(layer(inputs)[0], [*sources, layer.bias_hh_l0], upstream)[:-1]
        if device == "cuda":
            torch.cuda.synchronize()
        *of_inputs, of_kernel, of_recurrent, of_bias = found
        return [*of_inputs, of_kernel.T, of_recurrent.T, of_bias]  # laid out as Keras has them

    return run


def build_sides(torch, batch_size, with_inputs):
    """The sides by name: functions of nothing that wait for the gradients and give them."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(batch_size, LENGTH, DIM)).astype("float32")
    upstream = random.normal(size=(batch_size, LENGTH, UNITS)).astype("float32")
    layers = {"keras": keras.layers.LSTM(UNITS, return_sequences=True), "ours": LSTM(UNITS)}
    if backend.on_gpu():
        layers["loop"] = LSTM(UNITS, use_cudnn=False)
        layers["keras_loop"] = keras.layers.LSTM(UNITS, return_sequences=True, use_cudnn=False)
    for layer in layers.values():
        layer.build(inputs.shape)
        layer.set_weights(layers["keras"].get_weights())
    tensors = ops.convert_to_tensor(inputs), ops.convert_to_tensor(upstream)
    sides = {name: (training_pass(layer, with_inputs), tensors) for name, layer in layers.items()}
    if torch is not None:
        run = torch_pass(torch, layers["keras"].get_weights(), with_inputs)
        sides["torch"] = run, (inputs, upstream)
    return {
        name: lambda run=run, arguments=arguments: run(*arguments)
        for name, (run, arguments) in sides.items()
    }


def first_gradients(sides, suffix, result):
    """The gradients each side gives; sides that cannot run, as cuDNN's, are left out and told."""
    first = {}
    for name, run in list(sides.items()):
        try:
            first[name] = [backend.to_numpy(gradient) for gradient in run()]
        except Exception as error:
            if not backend.on_gpu():
                raise
            result[f"{name}_failed{suffix}"] = f"{type(error).__name__}: {error}"[:300]
            del sides[name]
    return first


def compare(torch, batch_size, runs, with_inputs, result):
    """Enters milliseconds of all sides, and how many times faster ours is."""
    suffix = f"_batch{batch_size}" + ("" if with_inputs else "_weights_only")
    sides = build_sides(torch, batch_size, with_inputs)
    first = first_gradients(sides, suffix, result)
    expected = next(iter(first.values()))
    for name, found in list(first.items())[1:]:
        error = max(np.max(np.abs(f - e)) / np.max(np.abs(e)) for f, e in zip(found, expected))
        if backend.on_gpu():
            result[f"{name}_gradient_error{suffix}"] = float(f"{error:.1e}")
        # TF32 has a mantissa of 10 bits.
        if not error < (2e-2 if backend.on_gpu() else 1e-5):
            raise SystemExit(f"the gradients of {name} differ by {error:.1e}")

    times, names = {name: [] for name in sides}, list(sides)
    for number in range(runs):
        for name in names if number % 2 else reversed(names):
            start = time.perf_counter()
            sides[name]()
            times[name].append(1000 * (time.perf_counter() - start))
    for name in names:
        result[f"{name}_ms{suffix}"] = round(float(np.median(times[name])), 3)
        if name != "ours" and "ours" in sides:
            key = "speedup" if name == "keras" else f"over_{name}"
            ratio = np.median(np.divide(times[name], times["ours"]))
            result[f"{key}{suffix}"] = round(float(ratio), 3)
    print({key: value for key, value in result.items() if key.endswith(suffix)}, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=21, help="rounds in each case")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--with-inputs", action="store_true", help="not the weights only cases")
    parser.add_argument("--no-torch", action="store_true", help="without PyTorch's side")
    args = parser.parse_args()
    torch = backend.import_torch(not args.no_torch)
    result = {**backend.described(), "cpus": os.cpu_count()}
    result |= {backend.NAME: backend.VERSION, "keras": keras.__version__, "runs": args.runs}
    for with_inputs in (True,) if args.with_inputs else (True, False):
        for batch_size in args.batches:
            try:
                compare(torch, batch_size, args.runs, with_inputs, result)
            except SystemExit as error:
                if not backend.on_gpu():
                    raise
                print(error, file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
