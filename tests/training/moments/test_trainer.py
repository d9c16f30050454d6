"""Learning labels of moments: losses by hand, state carried or not, and going on after a kill."""

import keras
import numpy as np
import pytest

from captioner.config import LabelConfig
from captioner.moments.model import LabelModel
from training.moments.metrics import frame_accuracy
from training.moments.trainer import (
    LabelTrainingOptions,
    balanced_weights,
    label_loss,
    predict,
    smoothing_loss,
    train,
)
from training.moments.windows import LabelledFeatures

CONFIG = LabelConfig(num_labels=2, feature_dim=3, region_dim=8, units=16, dropout=0.1)
OPTIONS = LabelTrainingOptions(epochs=4, lanes=3, window=5, learning_rate=0.02, patience=0)
THIRDS = np.log([[[1 / 3, 2 / 3], [2 / 3, 1 / 3], [1 / 2, 1 / 2]]]).astype("float32")
TWO, ONES = np.array([2], "int32"), np.ones(2, "float32")


def switches(number, length=30, seed=0):
    """Videos in which a flash at times switches between labels 0 and 1: memory is all there is."""
    rng = np.random.default_rng(seed)
    for _ in range(number):
        flashes = rng.random(length) < 0.12
        features = np.zeros((length, 3), np.float32)
        features[:, 0] = flashes
        features[0, 1] = 1
        yield LabelledFeatures(features, np.cumsum(flashes) % 2)


def make(config=CONFIG):
    keras.utils.set_random_seed(5)
    return LabelModel(config)


def test_cross_entropy_by_hand():
    targets = np.array([[1, 1, 0]])
    loss = label_loss(THIRDS, targets, TWO, ONES, multi_label=False)
    assert float(loss) == pytest.approx(-(np.log(2 / 3) + np.log(1 / 3)) / 2, rel=1e-5)
    weights = np.array([1, 3], "float32")
    weighted = label_loss(THIRDS, targets, TWO, weights, multi_label=False)
    assert float(weighted) == pytest.approx(3 * float(loss), rel=1e-5)
    nothing = label_loss(THIRDS, targets, 0 * TWO, ONES, multi_label=False)
    assert float(nothing) == 0


def test_binary_cross_entropy_by_hand():
    logits = np.log([[[1.0, 3.0], [1.0, 1.0]]]).astype(
        "float32"
    )  # probabilities 1/2, 3/4; 1/2, 1/2
    targets = np.array([[[True, True], [False, False]]])
    weights = np.array([1, 2], "float32")
    loss = label_loss(logits, targets, TWO, weights, multi_label=True)
    first, second = -np.log(1 / 2) - 2 * np.log(3 / 4), -2 * np.log(1 / 2)
    assert float(loss) == pytest.approx((first + second) / 2, rel=1e-5)


def test_smoothing_loss_by_hand():
    change = np.log(2)  # of both labels, from the first moment to the second
    loss = smoothing_loss(THIRDS, TWO, multi_label=False)
    assert float(loss) == pytest.approx(change**2, rel=1e-5)
    jump = np.array([[[0, 50], [50, 0]]], "float32")
    assert float(smoothing_loss(jump, TWO, multi_label=False)) == 16
    assert float(smoothing_loss(jump, TWO - 1, multi_label=False)) == 0


def test_balanced_weights():
    def video(targets):
        return LabelledFeatures(np.zeros((len(targets), 3)), np.array(targets))

    one = LabelConfig(num_labels=3, feature_dim=3)
    weights = balanced_weights([video([0, 0, 0]), video([0, 0, 1])], one)
    np.testing.assert_allclose(weights, [6 / (2 * 5), 6 / (2 * 1), 1])
    several = LabelConfig(num_labels=2, feature_dim=3, multi_label=True)
    weights = balanced_weights([video([[True, False], [False, False], [False, False]])], several)
    np.testing.assert_allclose(weights, [2 / 1, 1])


@pytest.mark.parametrize("encoder", ["lstm", "gru", "convolution"])
def test_predicts_windows_as_the_whole(encoder):
    model = make(LabelConfig(**{**vars(CONFIG), "encoder": encoder, "encoder_layers": 2}))
    videos = list(switches(5))
    for video, logits in zip(videos, predict(model, videos, OPTIONS)[0], strict=True):
        np.testing.assert_allclose(logits, model(video.features[None])[0][0], atol=1e-5)


def test_state_carried_is_what_tells(tmp_path):
    learned, others = list(switches(40, length=20, seed=1)), list(switches(20, seed=2))
    accuracy = {}
    for carry in (True, False):
        options = LabelTrainingOptions(12, 10, 5, 0.03, carry_state=carry, patience=0)
        model = make()
        train(model, learned, [], options, tmp_path / str(carry), lambda line: None)
        found = [logits.argmax(axis=-1) for logits in predict(model, others, options)[0]]
        accuracy[carry] = frame_accuracy(found, [video.targets for video in others])
    assert accuracy[True] > 0.97
    assert accuracy[False] < 0.85


class Killed(Exception):
    """Raised in the middle of a training."""


@pytest.mark.parametrize("epoch", [0, 2])
def test_goes_on_as_if_nothing_had_happened(epoch, tmp_path):
    videos, validation = list(switches(6)), list(switches(3, seed=1))
    whole = make()
    best = train(whole, videos, validation, OPTIONS, tmp_path / "whole", lambda line: None)

    def kill(line):
        if line.startswith(f"epoch {epoch}"):
            raise Killed

    with pytest.raises(Killed):
        train(make(), videos, validation, OPTIONS, tmp_path / "killed", kill)
    lines = []
    resumed = make()
    again = train(resumed, videos, validation, OPTIONS, tmp_path / "killed", lines.append)
    assert len(lines) == OPTIONS.epochs - epoch - 1
    assert again == best
    for ours, theirs in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    logs = [(tmp_path / name / "train.csv").read_text() for name in ("killed", "whole")]
    assert logs[0] == logs[1]
    assert logs[0].splitlines()[0] == "epoch,loss,val_loss,val_accuracy"


def test_stops_early_and_keeps_the_best(tmp_path):
    videos = list(switches(4))
    options = LabelTrainingOptions(20, 3, 5, learning_rate=0.0, weight_decay=0, patience=2)
    lines, model = [], make()
    before = model.get_weights()
    best = train(model, videos, videos, options, tmp_path, lines.append)
    assert len(lines) == 3  # nothing is learned, so the first epoch stays the best
    assert best["epoch"] == 0
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_several_labels_at_once(tmp_path):
    config = LabelConfig(**{**vars(CONFIG), "multi_label": True})
    videos = [
        LabelledFeatures(v.features, np.stack([v.targets == 1, v.features[:, 0] > 0], axis=1))
        for v in switches(30)
    ]
    options = LabelTrainingOptions(16, 8, 10, 0.03, smoothing=0.02, class_weights="balanced")
    best = train(make(config), videos, videos[:5], options, tmp_path, lambda line: None)
    assert best["val_map"] > 0.9
