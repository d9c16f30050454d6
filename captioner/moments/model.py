"""The labelling model: features of frames -> how likely each label is at each moment."""

import keras
import numpy as np
from keras import layers, ops

from ..config import LabelConfig
from ..layers import LSTM, TemporalConvolution
from ..model import build_encoder


class LabelModel(keras.Model):
    """A sequence model with a head at each moment.

    Regions are projected one by one and laid side by side, not averaged, so that the encoder
    knows where things are, and from one moment to the next where they go.

    A causal model is called with the state of the call before, and windows of a video, one after
    another, give what the whole video gives. A bidirectional model carries nothing: its windows
    have to overlap.
    """

    def __init__(self, config: LabelConfig, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        units = config.units
        self.region_projection = layers.Dense(
            config.region_dim, activation="relu", name="region_projection"
        )
        self.projection = layers.Dense(units, activation="relu", name="projection")
        self.encoder = [build_encoder(config, depth) for depth in range(config.encoder_layers)]
        self.head = layers.Dense(config.num_labels, dtype="float32", name="head")
        self.dropout = layers.Dropout(config.dropout, name="dropout")
        self.region_projection.build((None, None, config.num_regions, config.feature_dim))
        self.projection.build((None, None, config.num_regions * config.region_dim))
        for layer in self.encoder:
            layer.build((None, None, units))
            for part in (layer.layer, layer.twin) if hasattr(layer, "twin") else (layer,):
                _remember(part, config.time_scale)
        self.head.build((None, None, units))
        self.built = True

    def call(self, features, sequence_length=None, state=None, training=False):
        """Reads some moments of each video.

        Args:
            features: `(batch_size, num_frames, num_regions, feature_dim)`, without the regions'
                axis where num_regions is 1; padded on the right.
            sequence_length: frames of each row, `(batch_size,)`; None: all.
            state: of the call that this one continues; None where videos begin.
            training: whether to drop values out.

        Returns:
            `(logits, state)`: logits `(batch_size, num_frames, num_labels)`, and the state
            after each row's last frame, each of its tensors `(batch_size, ...)`.
        """
        if len(features.shape) == 3:
            features = features[:, :, None]
        regions = self.dropout(self.region_projection(features), training=training)
        batch_size, num_frames, num_regions, region_dim = ops.shape(regions)
        regions = ops.reshape(regions, (batch_size, num_frames, num_regions * region_dim))
        frames = self.dropout(self.projection(regions), training=training)
        before = state or [None] * len(self.encoder)
        after = []
        for depth, (layer, layer_state) in enumerate(zip(self.encoder, before)):
            outputs, layer_state = layer(frames, sequence_length, layer_state, training=training)
            outputs = self.dropout(outputs, training=training)
            frames = frames + outputs if depth else outputs
            after.append(layer_state)
        return self.head(frames), [] if self.config.bidirectional else after

    def initial_state(self, batch_size: int):
        """The state before the first frame: what no frame makes of none."""
        config = self.config
        regions = () if config.num_regions == 1 else (config.num_regions,)
        features = ops.zeros((batch_size, 1, *regions, config.feature_dim))
        return self(features, ops.zeros((batch_size,), "int32"))[1]

    def probabilities(self, logits):
        """Softmax of logits where one label holds at a time, sigmoid where several may."""
        return ops.sigmoid(logits) if self.config.multi_label else ops.softmax(logits)


def _remember(layer, time_scale: int):
    """Opens the gates of an LSTM or GRU so that its units remember over different times.

    From 1 to `time_scale` moments (Tallec and Ollivier 2018, "Can recurrent neural networks warp
    time?", section 3): with gates half open what happened 20 moments ago teaches nothing.
    """
    if isinstance(layer, TemporalConvolution):
        return
    spans = np.log(np.linspace(1, max(time_scale - 1, 1), layer.units))
    zeros = np.zeros_like(spans)
    if isinstance(layer, LSTM):
        layer.bias.assign(np.concatenate([-spans, spans, zeros, zeros]))
    else:
        layer.cell.bias.assign(
            np.stack([np.concatenate([spans, zeros, zeros]), np.zeros(3 * layer.units)])
        )
