"""Labelling streams: windows that equal the whole, in memory that does not grow."""

import tracemalloc

import keras
import numpy as np
import pytest
from keras import ops

from captioner.config import LabelConfig, LabellingOptions
from captioner.errors import VideoError
from captioner.moments.labeller import Labeller
from captioner.moments.model import LabelModel
from captioner.video.reader import Moments, Reader, ReadingLimits
from tests.clips import numbered_frame, write_clip

LABELS = ("background", "run", "jump")


class Eye:
    """A backbone that sees eight stripes and their sum."""

    name, input_size, feature_shape = "eye", (16, 16), (9,)

    def __call__(self, frames):
        stripes = frames.reshape(len(frames), 16, 8, 2, 3).mean((1, 3, 4)) / 255
        return np.append(stripes, stripes.sum(1, keepdims=True), axis=1).astype(np.float32)


def make(options=None, **changes):
    keras.utils.set_random_seed(4)
    model = LabelModel(LabelConfig(**{"num_labels": 3, "feature_dim": 9, "units": 8} | changes))
    return Labeller(Eye(), model, LABELS, options or LabellingOptions(window=7), "test")


FEATURES = np.random.default_rng(3).normal(size=(40, 9)).astype("float32")


def at_once(labeller, features):
    """Probabilities by one call of the model."""
    return ops.convert_to_numpy(ops.softmax(labeller.model(features[None])[0])[0])


@pytest.mark.parametrize("encoder", ["lstm", "gru", "convolution"])
@pytest.mark.parametrize("count", [40, 35, 7, 3])
def test_causal_windows_equal_the_whole(encoder, count):
    labeller = make(encoder=encoder, encoder_layers=3)
    whole = at_once(labeller, FEATURES[:count])
    windows = np.stack(list(labeller.probabilities(FEATURES[:count])))
    np.testing.assert_allclose(windows, whole, atol=1e-5)


@pytest.mark.parametrize("count", [40, 15, 14, 13, 8, 3])
def test_centred_convolutions_equal_the_whole_with_enough_context(count):
    shape = {"encoder": "convolution", "encoder_layers": 3, "bidirectional": True}
    enough = make(LabellingOptions(window=7, context=2**3 - 1), **shape)
    whole = at_once(enough, FEATURES[:count])
    windows = np.stack(list(enough.probabilities(FEATURES[:count])))
    np.testing.assert_allclose(windows, whole, atol=1e-5)
    if count == 40:
        little = make(LabellingOptions(window=7, context=1), **shape)
        windows = np.stack(list(little.probabilities(FEATURES)))
        assert not np.allclose(windows, whole, atol=1e-4)


def test_bidirectional_lstm_sees_what_its_context_holds():
    labeller = make(LabellingOptions(window=7, context=5), bidirectional=True)
    windows = np.stack(list(labeller.probabilities(FEATURES)))
    stretch = FEATURES[14 - 5 : 21 + 5]  # the third window and what lies around it
    around = at_once(labeller, stretch)
    np.testing.assert_allclose(windows[14:21], around[5:12], atol=1e-5)


def test_segments_of_a_video(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", [numbered_frame(0)] * 30 + [numbered_frame(255)] * 30)
    labeller = make(LabellingOptions(fps=2, window=7))
    # A head that knows black from white.
    model = labeller.model
    for layer in (model.region_projection, model.projection, model.head):
        layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    kernel = np.zeros((9, 32), np.float32)
    kernel[8, 0] = 1
    model.region_projection.kernel.assign(kernel)
    model.projection.kernel.assign(np.eye(32, 8))
    model.encoder = [lambda frames, *_, **__: (frames, [])]
    model.head.kernel.assign(np.eye(8, 3, 1) * 20)
    model.head.bias.assign([0, -10, 10])
    found = list(labeller.label(clip))
    assert [(x.label, x.start, x.end) for x in found] == [("jump", 0, 3), ("run", 3, 6)]
    assert min(x.probability for x in found) > 0.9
    assert labeller.moment_probabilities(clip).shape == (12, 3)


def test_what_is_no_video(tmp_path):
    with pytest.raises(VideoError, match="No such file"):
        next(make().label(tmp_path / "missing.mp4"))


def test_reads_in_a_child_within_its_limits(tmp_path):
    clip = write_clip(tmp_path / "a.avi", [numbered_frame(n) for n in range(0, 250, 5)])
    labeller = make(LabellingOptions(fps=5, window=7))
    labeller.labels = ("walk", *LABELS[1:])  # so that each moment is in a segment
    with Reader() as reader:
        here = list(labeller.label(clip))
        assert list(labeller.label(clip, reader)) == here
        assert here[-1].end == pytest.approx(5, abs=0.3)
        with pytest.raises(VideoError, match="No such file"):
            list(labeller.label(tmp_path / "missing.mp4", reader))
        next(reader.read(Moments(str(clip), 5)))  # and no more
        assert list(labeller.label(clip, reader)) == here
    with Reader(ReadingLimits(seconds=1e-5)) as hasty, pytest.raises(VideoError, match="took long"):
        list(labeller.label(clip, hasty))


def test_memory_does_not_grow():
    labeller = make(LabellingOptions(window=16))

    def peak(count):
        features = (FEATURES[number % 40] for number in range(count))
        tracemalloc.start()
        for _ in labeller.probabilities(features):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(320)  # traces the graph
    # An array kept of each moment would take 100 bytes and more.
    assert peak(6400) < peak(320) + 300_000
