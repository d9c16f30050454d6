"""Building blocks of sequence models, plain Keras 3."""

from .attention import AdditiveAttention, MultiHeadAttention, MultiplicativeAttention
from .cells import (
    AttentionCell,
    DropoutCell,
    GRUCell,
    LayerNormLSTMCell,
    LSTMCell,
    ResidualCell,
    StackedCell,
)
from .recurrence import dynamic_rnn, in_windows, live_mask, reverse_sequence, where_live
from .sequence import GRU, LSTM, Bidirectional, Motion, TemporalConvolution

__all__ = [
    "GRU",
    "LSTM",
    "AdditiveAttention",
    "AttentionCell",
    "Bidirectional",
    "DropoutCell",
    "GRUCell",
    "LSTMCell",
    "LayerNormLSTMCell",
    "Motion",
    "MultiHeadAttention",
    "MultiplicativeAttention",
    "ResidualCell",
    "StackedCell",
    "TemporalConvolution",
    "dynamic_rnn",
    "in_windows",
    "live_mask",
    "reverse_sequence",
    "where_live",
]
