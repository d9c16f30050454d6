"""The bundled CNN: pixels -> features of regions; plain Keras 3."""

from keras import Model, layers, ops

from ..config import CnnConfig


def build_cnn(config: CnnConfig, folded: bool = True) -> Model:
    """Builds the bundled CNN.

    A residual network (He et al. 2016) without bottlenecks or depthwise convolutions, because
    plain 3x3 convolutions keep the wide multipliers of a CPU busy.

    Args:
        config: its shape.
        folded: convolutions carry the batch normalisation in their weights, as for
            inference; False for training.

    Returns:
        A model `(batch_size, input_size, input_size, 3)`, RGB in [0, 255] ->
        `(batch_size, num_regions, feature_dim)`, not negative.
    """

    def convolve(x, filters, name, kernel_size=3, strides=1, activation="relu"):
        conv = layers.Conv2D(
            filters, kernel_size, strides, padding="same", use_bias=folded, name=name
        )
        x = conv(x)
        if not folded:
            x = layers.BatchNormalization(name=f"{name}_bn")(x)
        return layers.Activation(activation, name=f"{name}_{activation}")(x) if activation else x

    inputs = layers.Input((config.input_size, config.input_size, 3), name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(inputs)
    x = convolve(x, config.widths[0], "stem", strides=2)
    for stage, (width, depth) in enumerate(zip(config.widths[1:], config.depths, strict=True), 1):
        x = convolve(x, width, f"stage{stage}_down", strides=2)
        for block in range(1, depth + 1):
            name = f"stage{stage}_block{block}"
            y = convolve(x, width, f"{name}_in")
            y = convolve(y, width, f"{name}_out", activation=None)
            x = layers.Activation("relu", name=f"{name}_relu")(x + y)
    x = convolve(x, config.feature_dim, "features", kernel_size=1)
    x = layers.Reshape((-1, config.feature_dim), name="regions")(x)
    return Model(inputs, x, name="cnn")


def fold_batch_normalization(cnn: Model, config: CnnConfig) -> Model:
    """The same function as a trained `build_cnn(config, folded=False)`, convolutions only."""
    folded = build_cnn(config, folded=True)
    for layer in folded.layers:
        if isinstance(layer, layers.Conv2D):
            conv, norm = cnn.get_layer(layer.name), cnn.get_layer(f"{layer.name}_bn")
            scale = norm.gamma / ops.sqrt(norm.moving_variance + norm.epsilon)
            layer.kernel.assign(conv.kernel * scale)
            layer.bias.assign(norm.beta - norm.moving_mean * scale)
    return folded
