import csv
import json
import warnings

import cv2
import keras
import numpy as np
import pytest

from captioner.cli.main import main
from captioner.cnn import load_backbone
from captioner.cnn.bundled import build_cnn
from captioner.errors import DatasetError
from captioner.terminal import ALL_GOOD, WRONG_USAGE
from tests.conftest import TINY_CNN
from training.cli import distill as distill_cli
from training.cnn import distill
from training.cnn.teacher import load_teacher


@pytest.fixture(scope="module")
def classifier():
    """A float classifier with the operators of published ones."""
    keras.utils.set_random_seed(12)
    layers = keras.layers
    inputs = layers.Input((192, 192, 3), batch_size=1)
    x = layers.Rescaling(1 / 127.5, -1)(inputs)
    x = layers.Conv2D(8, 3, strides=4, padding="same", activation="relu6")(x)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x)
    y = layers.Conv2D(8, 1)(y)
    x = layers.Add()([x, y])
    x = feature_map = layers.Conv2D(12, 1, strides=8, activation="relu")(x)
    x = layers.Dense(5)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x), keras.Model(inputs, feature_map)


@pytest.fixture(scope="module")
def teacher_path(classifier, tmp_path_factory):
    import tensorflow as tf

    rng = np.random.default_rng(13)
    converter = tf.lite.TFLiteConverter.from_keras_model(classifier[0])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [rng.uniform(0, 255, (1, 192, 192, 3)).astype(np.float32)] for _ in range(20)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    path = tmp_path_factory.mktemp("teacher") / "teacher.tflite"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter's own
        path.write_bytes(converter.convert())
    return path


def test_teacher_is_the_quantised_network_in_float(classifier, teacher_path):
    teacher = load_teacher(teacher_path, 192)
    picture = np.random.default_rng(14).uniform(0, 255, (1, 192, 192, 3)).astype(np.float32)
    expected = np.asarray(classifier[1](picture))
    found = np.asarray(teacher(picture))
    assert found.shape == (1, 6, 6, 12)
    assert np.abs(found - expected).max() < 0.1 * expected.max()
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99
    expected = np.asarray(keras.ops.softmax(classifier[0](picture)))
    found = np.asarray(load_teacher(teacher_path, 192, soft_labels=True)(picture))
    np.testing.assert_allclose(found, expected, atol=0.005)
    assert np.ptp(expected) > 0.03


def test_pool_regions():
    feature_map = np.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(
        distill.pool_regions(feature_map, 2)[0, :, 0], [2.5, 4.5, 10.5, 12.5]
    )
    # Three columns over two cells: the one in the middle belongs to both.
    row = np.array([[[[0.0], [4.0], [8.0]]] * 3])
    np.testing.assert_array_equal(distill.pool_regions(row, 2)[0, :, 0], [2, 6, 2, 6])


def test_random_view_changes_the_crop_and_not_the_source():
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    before = picture.copy()
    views = [distill.random_view(picture, np.random.default_rng(seed), 48) for seed in range(3)]
    assert all(view.shape == (48, 48, 3) and view.dtype == np.uint8 for view in views)
    assert not np.array_equal(views[0], views[1])
    np.testing.assert_array_equal(picture, before)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(15)
    for number in range(40):
        small = rng.integers(0, 256, (6, 6, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number:02}.jpg"), cv2.resize(small, (96, 96)))
    return folder


def _views(folder, pictures, teacher_path):
    views = distill.Views(folder, TINY_CNN, batch_size=16, seed=1)
    views.make(sorted(pictures.iterdir()), teacher_path, views_per_picture=2)
    return views.open()


def test_views_go_on_where_they_were_stopped(pictures, teacher_path, tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    whole = _views(tmp_path / "whole", pictures, teacher_path)
    draw, drawn = distill.random_view, []

    def stop_after_a_while(*arguments):
        if len(drawn) == 100:  # in the second batch
            raise KeyboardInterrupt
        drawn.append(1)
        return draw(*arguments)

    monkeypatch.setattr(distill, "random_view", stop_after_a_while)
    with pytest.raises(KeyboardInterrupt):
        _views(tmp_path / "stopped", pictures, teacher_path)
    monkeypatch.undo()
    assert json.loads((tmp_path / "stopped/progress.json").read_text())["views"] < 80
    stopped = _views(tmp_path / "stopped", pictures, teacher_path)
    np.testing.assert_array_equal(stopped.views, whole.views)
    np.testing.assert_array_equal(stopped.targets, whole.targets)
    assert (whole.targets.max((1, 2)) > 0).all()


def _losses(folder, column="loss"):
    """Of each pass."""
    with (folder / "state/train.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def student(pictures, teacher_path, tmp_path_factory):
    """The folder of a student, and the views that it has learned from."""
    keras.utils.set_random_seed(16)
    folder = tmp_path_factory.mktemp("student")
    views = _views(folder, pictures, teacher_path)
    distill.train(views, TINY_CNN, folder, epochs=8, learning_rate=1e-2)
    return folder, views


def test_student_learns_and_becomes_a_backbone(student):
    folder, views = student
    losses = _losses(folder)
    assert len(losses) == 8
    assert losses[-1] < 0.8 * losses[0]
    backbone = load_backbone("bundled", TINY_CNN, folder / "backbone.weights.h5")
    features = backbone(np.stack(views.views[:4]))
    assert features.shape == (4, 4, 32)
    assert (features >= 0).all()
    assert features.std() > 0


def test_a_training_that_was_killed_goes_on(student, tmp_path, monkeypatch):
    _, views = student
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    keras.utils.set_random_seed(17)
    distill.train(views, TINY_CNN, whole, epochs=3, learning_rate=1e-2)
    keep = distill.Progress.keep

    def die(progress):
        keep(progress)
        if progress.done == 2:
            raise KeyboardInterrupt

    keras.utils.set_random_seed(17)
    with monkeypatch.context() as patch:
        patch.setattr(distill.Progress, "keep", die)
        with pytest.raises(KeyboardInterrupt):
            distill.train(views, TINY_CNN, killed, epochs=3, learning_rate=1e-2)
    assert not (killed / "cnn.json").exists()
    distill.train(views, TINY_CNN, killed, epochs=3, learning_rate=1e-2)
    assert _losses(killed) == _losses(whole)
    for ours, theirs in zip(_weights(killed), _weights(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(DatasetError, match="or with other options"):
        distill.train(views, TINY_CNN, killed, epochs=4, learning_rate=1e-2)


def _weights(folder):
    """Of the CNN that an engine takes up."""
    cnn = build_cnn(TINY_CNN)
    cnn.load_weights(folder / "backbone.weights.h5")
    return cnn.get_weights()


def test_student_goes_on_and_learns_soft_labels_too(student, teacher_path, tmp_path):
    first, views = student
    views.add_soft_labels(teacher_path)
    assert views.soft_labels.shape == (80, 5)
    np.testing.assert_allclose(views.soft_labels.astype(float).sum(1), 1, atol=0.01)
    second, third = tmp_path / "second", tmp_path / "third"
    second.mkdir(), third.mkdir()
    distill.train(views, TINY_CNN, second, epochs=4, learning_rate=1e-3, base=first)
    features, labels = (
        _losses(second, f"{part}_loss") for part in ("teacher_features", "soft_labels")
    )
    assert features[0] < 1.1 * _losses(first)[-1] < _losses(first)[0]
    assert labels[-1] < 0.9 * labels[0]
    views.soft_labels = None
    distill.train(views, TINY_CNN, third, epochs=1, learning_rate=1e-4, base=second)
    assert _losses(third)[0] < 1.1 * features[-1]
    with pytest.raises(DatasetError, match="nowhere: has no CNN of this shape"):
        distill.train(views, TINY_CNN, third, 1, 1e-4, base=tmp_path / "nowhere")


def test_words_are_told_of_pictures_with_captions_that_are_not_mixed(
    pictures, teacher_path, tmp_path
):
    views = _views(tmp_path, pictures, teacher_path)
    captions = [["A red dog runs.", "A dog."]] * 10 + [["A cat."]] * 10 + [[]] * 20
    views.add_words(captions)
    assert views.words.shape == (40, 4)  # cat dog red runs; "a" is said of all
    for batch, (_, (_, said)) in enumerate(views):
        rows = np.sort(views.order[batch * 16 :][:16])
        for row, words in zip(rows, said, strict=True):
            known = row < 20  # rows from 40 on are mixed
            expected = ([0, 1, 1, 1] if row < 10 else [1, 0, 0, 0]) if known else [-1] * 4
            np.testing.assert_array_equal(words, expected)


def test_word_loss_passes_over_what_is_not_known():
    said = np.array([[1, 0], [-1, -1]], np.float32)
    logits = np.array([[np.log(3), 0], [5, -5]], np.float32)  # probabilities 3/4, 1/2
    expected = [-np.log(3 / 4) - np.log(1 / 2), 0]
    np.testing.assert_allclose(distill.word_loss(said, logits), expected, rtol=1e-6)


def test_student_learns_words(student, tmp_path):
    base, views = student
    bright = views.views[:40].mean((1, 2, 3)) > np.median(views.views[:40].mean((1, 2, 3)))
    views.add_words([["bright day"] if one else ["dark night"] for one in bright])
    distill.train(views, TINY_CNN, tmp_path, epochs=4, learning_rate=1e-2, base=base)
    views.words = None
    losses = _losses(tmp_path, "words_loss")
    assert losses[-1] < 0.9 * losses[0] < 4 * np.log(2)  # half of the views, four words


def test_soft_labels_are_of_one_classifier(student, teacher_path, tmp_path):
    _, views = student
    views.add_soft_labels(teacher_path)
    found = np.array(views.soft_labels)
    (views.folder / "soft_labels/progress.json").write_text('{"views": 64}')
    views.add_soft_labels(teacher_path)  # the rest of them
    np.testing.assert_array_equal(views.soft_labels, found)
    other = tmp_path / "other.tflite"
    other.write_bytes(teacher_path.read_bytes())
    with pytest.raises(DatasetError, match="soft_labels: holds the work on other labels"):
        views.add_soft_labels(other)


def test_views_of_other_pictures_are_kept_elsewhere(pictures, teacher_path, tmp_path):
    _views(tmp_path, pictures, teacher_path)
    views = distill.Views(tmp_path, TINY_CNN, batch_size=16, seed=1)
    with pytest.raises(DatasetError, match="delete it, or keep this elsewhere"):
        views.make(sorted(pictures.iterdir())[1:], teacher_path, views_per_picture=2)


def test_command(pictures, teacher_path, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(distill_cli, "CnnConfig", lambda: TINY_CNN)
    files = sorted(pictures.iterdir())[:8]
    rows = [{"image": str(file), "captions": [], "split": "train"} for file in files]
    for number, row in enumerate(rows):
        row["captions"] = ["A dog."] if number < 3 else ["A cat sleeps."]
    labels = tmp_path / "labels.jsonl"
    labels.write_text("\n".join(map(json.dumps, rows)))
    common = ["--teacher", str(teacher_path), "--work", str(tmp_path / "views")]
    common += "--views 2 --epochs 1 --batch-size 8".split()
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    sources = [str(labels), str(pictures)]
    assert main(["distill", *sources, *common, "--output", first]) == ALL_GOOD
    learned = ["--words", "--base", first, "--output", second]
    assert main(["distill", *sources, *common, *learned]) == ALL_GOOD
    assert _losses(tmp_path / "second", "words_loss")[0] > 0
    assert {path.name for path in (tmp_path / "second").iterdir()} == {
        "backbone.weights.h5",
        "cnn.json",
        "state",
    }
    capsys.readouterr()
    told = ["distill", str(pictures), *common, "--words", "--output", str(tmp_path / "third")]
    assert main(told) == WRONG_USAGE
    assert f"{pictures}: has no captions with words that" in capsys.readouterr().err
