"""Teacher of a distillation: a quantised CNN (.tflite), rebuilt as a Keras model."""

from pathlib import Path

import keras
import numpy as np
from keras import layers

from captioner.cnn import Backbone

_DTYPES = {0: np.float32, 2: np.int32, 3: np.uint8, 9: np.int8}  # tflite TensorType
_ACTIVATIONS = {0: None, 1: "relu", 3: "relu6"}  # tflite ActivationFunctionType


def load_teacher(path: str | Path, input_size: int, soft_labels: bool = False) -> keras.Model:
    """Reads a quantised CNN as a float Keras model up to its feature map, or to its end.

    Understands the straight-line classifiers that are published as .tflite files
    (EfficientNet-Lite, MobileNet): convolutions, additions, activations.

    Args:
        path: a .tflite file with an image classifier.
        input_size: height and width of the input, pixels; need not be the file's own.
        soft_labels: whether to go on to how probable each class is.

    Returns:
        A model `(batch_size, input_size, input_size, 3)`, RGB in [0, 255] -> the feature
        map before pooling, `(batch_size, height, width, feature_dim)`; with `soft_labels`
        probabilities, `(batch_size, num_classes)`.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    flat = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(Path(path).read_bytes(), 0))
    graph = flat.subgraphs[0]
    operators = {
        code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()
    }

    def constant(index):
        tensor = graph.tensors[index]
        data = flat.buffers[tensor.buffer].data
        if data is None or len(data) == 0:
            return None
        shape = () if tensor.shape is None else tensor.shape
        values = np.frombuffer(bytes(data), _DTYPES[tensor.type]).reshape(shape)
        quantization = tensor.quantization
        if quantization is None or quantization.scale is None or len(quantization.scale) == 0:
            return values
        scale = np.asarray(quantization.scale, np.float32)
        zero = np.asarray(quantization.zeroPoint, np.float32)
        per_channel = [1] * values.ndim
        if len(scale) > 1:
            per_channel[quantization.quantizedDimension] = -1
        return (values - zero.reshape(per_channel)) * scale.reshape(per_channel)

    def convolution(kind, options, kernel):
        arguments = {
            "strides": options.strideH,
            "padding": ("same", "valid")[options.padding],
            "activation": _ACTIVATIONS[options.fusedActivationFunction],
        }
        if kind == "CONV_2D":
            return layers.Conv2D(kernel.shape[0], kernel.shape[1], **arguments)
        return layers.DepthwiseConv2D(kernel.shape[1], **arguments)

    entry = graph.tensors[graph.inputs[0]].quantization
    scale, zero = float(entry.scale[0]), float(entry.zeroPoint[0])
    inputs = layers.Input((input_size, input_size, 3))
    tensors = {graph.inputs[0]: layers.Rescaling(scale, -zero * scale)(inputs)}
    weights = []
    for operator in graph.operators:
        code = flat.operatorCodes[operator.opcodeIndex]
        kind = operators[max(code.builtinCode, code.deprecatedBuiltinCode)]
        x, output = tensors.get(operator.inputs[0]), operator.outputs[0]
        if kind in ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE", "SOFTMAX"):
            tensors[output] = x
        elif kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            kernel, bias = constant(operator.inputs[1]), constant(operator.inputs[2])
            layer = convolution(kind, operator.builtinOptions, kernel)
            tensors[output] = layer(x)
            weights.append((layer, [kernel.transpose(1, 2, 3, 0), bias]))
        elif kind == "FULLY_CONNECTED":
            kernel, bias = constant(operator.inputs[1]), constant(operator.inputs[2])
            layer = layers.Dense(len(kernel), use_bias=bias is not None)
            tensors[output] = layer(x)
            weights.append((layer, [kernel.transpose(), bias][: 1 + layer.use_bias]))
        elif kind in ("ADD", "MUL"):
            other = constant(operator.inputs[1])
            if other is None:
                tensors[output] = layers.Add()([x, tensors[operator.inputs[1]]])
            elif kind == "ADD":
                tensors[output] = layers.Rescaling(1.0, float(other))(x)
            else:
                tensors[output] = layers.Rescaling(float(other))(x)
        elif kind in ("MEAN", "AVERAGE_POOL_2D"):
            feature_map = x
            tensors[output] = layers.GlobalAveragePooling2D(keepdims=True)(x)
        elif kind != "PAD":
            raise ValueError(f"expected an image classifier, received: {kind} in {path}")
    logits = layers.Flatten()(tensors[graph.outputs[0]])
    outputs = layers.Softmax()(logits) if soft_labels else feature_map
    teacher = keras.Model(inputs, outputs, name="teacher")
    for layer, values in weights:
        layer.set_weights(values)
    teacher.trainable = False
    return teacher


def teacher_backbone(path: str | Path, input_size: int) -> Backbone:
    """The teacher as a backbone, its feature map as regions."""
    network = load_teacher(path, input_size)
    dim = network.output_shape[-1]
    regions = keras.layers.Reshape((-1, dim))(network.output)
    network = keras.Model(network.input, regions)
    shape = (network.output_shape[1], dim)
    size = (input_size, input_size)
    return Backbone(f"teacher:{Path(path).name}", size, shape, network.predict_on_batch)
