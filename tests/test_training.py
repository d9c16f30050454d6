import json

import cv2
import keras
import numpy as np
import pytest

from captioner.backbones import load_backbone
from captioner.config import ModelConfig, SamplingOptions
from captioner.errors import DatasetError
from captioner.model import CaptionModel
from captioner.vocabulary import END_ID, Vocabulary
from training.manifest import LabelledClip, read_labels
from training.records import moving_crop, read_records, write_records
from training.trainer import ScheduledSampling, caption_loss

from .conftest import SENTENCES, TINY_CNN


def test_read_labels(tmp_path):
    rows = [
        {"video": "a.mp4", "captions": ["One.", "Two."], "split": "val"},
        {"image": "deep/b.jpg", "caption": "Three."},
    ]
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    a = LabelledClip(tmp_path / "a.mp4", ("One.", "Two."), "val")
    b = LabelledClip(tmp_path / "deep/b.jpg", ("Three.",), "train")
    assert read_labels(path) == [a, b]
    assert read_labels(path, "train") == [b]
    with pytest.raises(DatasetError, match="no row of the split test"):
        read_labels(path, "test")


def test_rows_without_a_caption_are_left_out(tmp_path, caplog):
    rows = [
        {"video": "a.mp4", "captions": ["One.", " "]},
        {"video": "b.mp4", "captions": ["", "  "]},
    ]
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert read_labels(path) == [LabelledClip(tmp_path / "a.mp4", ("One.",))]
    assert "left out 1 rows without a caption, from line 2" in caplog.text


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        '{"video": "a.mp4"}',
        '{"captions": ["One."]}',
        '{"video": "a.mp4", "caption": 7}',
        "[1]",
    ],
)
def test_labels_that_are_none(line, tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text('{"video": "a.mp4", "caption": "One."}\n' + line)
    with pytest.raises(DatasetError, match=r"labels\.jsonl, line 2"):
        read_labels(path)


def test_missing_labels(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.jsonl"):
        read_labels(tmp_path / "none.jsonl")


def test_moving_crop_moves_over_the_picture():
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[..., 0] = np.arange(80) * 3
    picture[..., 1] = np.arange(60)[:, None] * 4
    clips = [moving_crop(picture, 5, (24, 32), np.random.default_rng(seed)) for seed in range(9)]
    for clip in clips:
        assert clip.shape == (5, 24, 32, 3)
        means = clip.mean((1, 2))
        assert np.abs(np.diff(means[:, :2], axis=0)).max() > 0.5
        assert (clip[..., 2] == 0).all()
    mirrored = [bool(clip[0, 12, 0, 0] > clip[0, 12, -1, 0]) for clip in clips]
    assert set(mirrored) == {True, False}


@pytest.fixture(scope="module")
def records(tiny_cnn, labelled_clips, tmp_path_factory):
    """Labelled clips, among them a picture, and their records."""
    clips = read_labels(labelled_clips)
    picture = tmp_path_factory.mktemp("picture") / "picture.png"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    clips.append(LabelledClip(picture, ("A picture.", "Some noise in colours.")))
    backbone = load_backbone("bundled", TINY_CNN, tiny_cnn / "backbone.weights.h5")
    folder = tmp_path_factory.mktemp("records")
    files = write_records(clips, backbone, SamplingOptions(num_frames=3), folder, views=2)
    return clips, backbone, folder, files


def _read(records, batch_size=2, seed=None):
    clips, backbone, _, files = records
    vocabulary = Vocabulary.build(caption for clip in clips for caption in clip.captions)
    shape = backbone.feature_shape
    return vocabulary, read_records(files, clips, vocabulary, shape, batch_size, seed)


def test_records_are_batches_of_similar_length(records):
    vocabulary, batches = _read(records)
    batches = list(batches.as_numpy_iterator())
    assert len(batches) == len(_read(records)[1])
    lengths = np.concatenate([inputs["sequence_length"] for inputs, _ in batches])
    assert len(lengths) == 4 + 1 + 2  # clips, the picture, its moving views
    assert sorted(lengths)[-4:] == [3, 3, 3, 3]
    for inputs, token_ids in batches:
        size, longest = len(inputs["sequence_length"]), max(inputs["sequence_length"])
        assert inputs["features"].shape == (size, longest, 4, 32)
        np.testing.assert_array_equal(inputs["token_ids"], token_ids)
        for row in token_ids:
            assert END_ID in row
            assert vocabulary.decode(row)


def test_records_hold_the_features_of_their_clip(records):
    clips, backbone, _, _ = records
    vocabulary, batches = _read(records, batch_size=1)
    sentences = {tuple(vocabulary.encode(clip.captions[0])): clip for clip in clips[:4]}
    from captioner.video import read_frames

    seen = 0
    for inputs, token_ids in batches.as_numpy_iterator():
        clip = sentences.get(tuple(token_ids[0]))
        if clip is not None:
            expected = backbone(read_frames(clip.path, 3, backbone.input_size).frames)
            np.testing.assert_allclose(inputs["features"][0], expected, atol=2e-3, rtol=2e-3)
            seen += 1
    assert seen == 4


def test_every_caption_gets_its_turn_and_a_seed_repeats_it(records):
    def captions(seed):
        vocabulary, batches = _read(records, seed=seed)
        passes = [
            [vocabulary.decode(row) for _, rows in batches.as_numpy_iterator() for row in rows]
            for _ in range(8)
        ]
        return passes

    assert captions(3) == captions(3)
    said = {sentence for one in captions(3) for sentence in one}
    assert {"a picture", "some noise in colours"} <= said
    assert len(said) == len(SENTENCES) + 2


def test_records_are_computed_once(records, monkeypatch):
    clips, backbone, folder, files = records
    monkeypatch.setattr("training.records.read_frames", None)  # would fail if called
    again = write_records(clips, backbone, SamplingOptions(num_frames=3), folder, views=2)
    assert again == files


def test_records_of_something_else_are_not_taken_for_these(records):
    clips, backbone, folder, _ = records
    sampling = SamplingOptions(num_frames=3)
    for other in (
        (clips[1:], sampling, 2),
        (clips, SamplingOptions(num_frames=4), 2),
        (clips, sampling, 1),
    ):
        with pytest.raises(DatasetError, match="work on other labels"):
            write_records(other[0], backbone, other[1], folder, views=other[2])


def test_clip_that_cannot_be_read_is_named(tiny_cnn, tmp_path):
    backbone = load_backbone("bundled", TINY_CNN, tiny_cnn / "backbone.weights.h5")
    clips = [LabelledClip(tmp_path / "gone.mp4", ("One.",))]
    with pytest.raises(DatasetError, match=r"gone\.mp4.*take its row out"):
        write_records(clips, backbone, SamplingOptions(), tmp_path)


def test_caption_loss_by_hand():
    token_ids = np.array([[3, 2, 0]])
    logits = np.log(
        np.array([[[0.1, 0.1, 0.2, 0.6], [0.1, 0.2, 0.5, 0.2], [0.25, 0.25, 0.25, 0.25]]])
    )
    plain = caption_loss(0.0)(token_ids, keras.ops.convert_to_tensor(logits))
    np.testing.assert_allclose(np.asarray(plain), [-(np.log(0.6) + np.log(0.5)) / 2], rtol=1e-6)
    smooth = caption_loss(0.2)(token_ids, keras.ops.convert_to_tensor(logits))
    even = -logits[0, :2].mean(-1)
    expected = (0.8 * -np.log([0.6, 0.5]) + 0.2 * even).mean()
    np.testing.assert_allclose(np.asarray(smooth), [expected], rtol=1e-6)


def test_scheduled_sampling_reads_the_models_own_words():
    config = ModelConfig(vocab_size=9, feature_dim=4, units=8, embedding_dim=5, dropout=0.0)
    keras.utils.set_random_seed(17)
    model = CaptionModel(config)
    rng = np.random.default_rng(17)
    model.set_weights([rng.normal(0, 0.7, w.shape) for w in model.get_weights()])
    inputs = {
        "features": rng.normal(size=(3, 2, 4)).astype(np.float32),
        "sequence_length": np.array([2, 1, 2], np.int32),
        "token_ids": rng.integers(3, 9, (3, 6)).astype(np.int32),
    }
    learner = ScheduledSampling(model, rate=1.0, steps=10, seed=1)
    learner.compile("sgd", loss=caption_loss(0.0))
    forced = np.asarray(model(inputs))
    np.testing.assert_allclose(np.asarray(learner(inputs)), forced, atol=1e-6)
    np.testing.assert_allclose(np.asarray(learner(inputs, training=True)), forced, atol=1e-6)
    learner.optimizer.iterations.assign(10)  # now every word read is the model's own
    sampled = np.asarray(learner(inputs, training=True))
    np.testing.assert_allclose(sampled[:, 0], forced[:, 0], atol=1e-6)  # nothing read so far
    assert np.abs(sampled[:, 1:] - forced[:, 1:]).max() > 1e-2
    before = [np.asarray(w) for w in model.trainable_weights]
    learner.train_on_batch(inputs, inputs["token_ids"])
    assert all(np.abs(np.asarray(w) - b).max() > 0 for w, b in zip(model.trainable_weights, before))
