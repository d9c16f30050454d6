"""Labelled clips -> features -> batches."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import chain

import cv2
import numpy as np
import pytest
import tensorflow as tf

from captioner.cnn import Backbone, load_backbone
from captioner.config import SamplingOptions
from captioner.errors import DatasetError
from captioner.video import read_frames
from captioner.vocabulary import END_ID, PAD_ID, Vocabulary, tokenize
from tests.conftest import SENTENCES, TINY_CNN
from training.data.manifest import LabelledClip, read_labels
from training.data.records import read_records, write_records
from training.data.store import FeatureStore, content_digest
from training.data.views import another_view, moving_crop
from training.work import claim

SAMPLING = SamplingOptions(num_frames=3)


def _moving_crops(num_frames):
    picture = np.zeros((240, 240, 3), np.uint8)
    picture[..., 0] = np.arange(240)
    picture[..., 1] = np.arange(240)[:, None]
    rngs = map(np.random.default_rng, range(40))
    return [moving_crop(picture, num_frames, (24, 32), rng) for rng in rngs]


def test_moving_crop_moves_over_the_picture():
    clips = _moving_crops(8)
    for clip in clips:
        assert clip.shape == (8, 24, 32, 3)
        means = clip.mean((1, 2))
        assert np.abs(np.diff(means[:, :2], axis=0)).max() > 0.5
        assert (clip[..., 2] == 0).all()
    mirrored = [bool(clip[0, 12, 0, 0] > clip[0, 12, -1, 0]) for clip in clips]
    assert set(mirrored) == {True, False}


def test_moving_crop_repeats_frames_and_cuts():
    moves = [np.diff(clip.mean((1, 2))[:, :2], axis=0) for clip in _moving_crops(20)]
    lengths = np.stack([np.hypot(*clip_moves.T) for clip_moves in moves])  # (num_clips, 19)
    assert 0.15 < (lengths == 0).mean() < 0.35
    jumps = lengths.max(1) > 4 * np.quantile(lengths, 0.75, axis=1)
    assert 0.2 < jumps.mean() < 0.6  # half of the clips have a cut, some of them to close by
    np.testing.assert_array_equal(_moving_crops(20)[3], _moving_crops(20)[3])


def test_views_of_a_video_move_as_their_clip_does():
    frames = np.full((12, 40, 50, 3), 100, np.uint8)
    for number, frame in enumerate(frames):
        frame[10:20, 3 * number : 3 * number + 10, 0] = 250
    views = [another_view(frames, 4, (32, 32), np.random.default_rng(seed)) for seed in range(9)]
    for view in views:
        assert view.shape == (4, 32, 32, 3)
        assert view.dtype == np.uint8
        redness = (view[..., 0] - view[..., 1].astype(float)).clip(30) - 30
        places = (redness * np.arange(32)).sum((1, 2)) / redness.sum((1, 2))
        assert (np.diff(places) > 0).all()
    assert len({view.tobytes() for view in views}) == 9
    np.testing.assert_array_equal(
        another_view(frames, 4, (32, 32), np.random.default_rng(8)), views[8]
    )


def test_short_videos_have_views_of_all_their_frames():
    frames = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.full((40, 40, 3), 60, np.uint8)
    view = another_view(frames, 3, (32, 32), np.random.default_rng(1))
    assert (np.diff(view.mean((1, 2, 3))) > 30).all()


def _load_backbone(tiny_cnn):
    return load_backbone("bundled", TINY_CNN, tiny_cnn / "backbone.weights.h5")


class CountingBackbone(Backbone):
    """Features that are the mean colour of a frame, and a note of how many frames it saw."""

    def __init__(self):
        super().__init__("counting", (8, 8), (3,), None)
        object.__setattr__(self, "seen", [])

    def __call__(self, frames):
        self.seen.append(len(frames))
        return frames.mean((1, 2), dtype=np.float32)


@pytest.fixture(scope="module")
def labelled(labelled_clips, tmp_path_factory):
    """Labelled clips, among them a picture."""
    picture = tmp_path_factory.mktemp("picture") / "picture.png"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    said = ("A picture.", "Some noise in colours.")
    return [*read_labels(labelled_clips), LabelledClip(picture, said)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def records(tiny_cnn, labelled, folder):
    return write_records(labelled, _load_backbone(tiny_cnn), SAMPLING, folder, views=2)


@pytest.fixture(scope="module")
def vocabulary(labelled):
    return Vocabulary.build(caption for clip in labelled for caption in clip.captions)


def _batches(batches, *stretch):
    return list(batches.read(*stretch).as_numpy_iterator())


def _assert_same(batches, others):
    assert len(batches) == len(others)
    for one, other in zip(tf.nest.flatten(batches), tf.nest.flatten(others), strict=True):
        np.testing.assert_array_equal(one, other)


def test_batches_hold_clips_of_similar_length_padded(records, vocabulary):
    batches = read_records(records, vocabulary, batch_size=2)
    read = _batches(batches)
    assert len(read) == len(batches) == 8  # of 4 clips, the picture, and 2 views of each
    lengths = np.concatenate([inputs["sequence_length"] for inputs, _ in read])
    assert lengths.tolist() == sorted(lengths)
    assert lengths.tolist()[-4:] == [3, 3, 3, 3]
    for inputs, token_ids in read:
        size, longest = len(inputs["sequence_length"]), max(inputs["sequence_length"])
        assert inputs["features"].shape == (size, longest, 4, 32)
        np.testing.assert_array_equal(inputs["token_ids"], token_ids)
        for features, length in zip(inputs["features"], inputs["sequence_length"], strict=True):
            assert (features[length:] == 0).all()
            assert features[:length].any((1, 2)).all()
        for row, clip in zip(token_ids, inputs["clip"], strict=True):
            assert vocabulary.encode(batches.clips[clip].captions[0]) == [
                token_id for token_id in row if token_id != PAD_ID
            ]


def test_records_hold_the_features_of_their_clip(records, labelled, tiny_cnn, vocabulary):
    backbone = _load_backbone(tiny_cnn)
    seen = set()
    for inputs, _ in _batches(read_records(records, vocabulary, batch_size=1)):
        clip = int(inputs["clip"][0])
        if clip < 4 and clip not in seen:  # its views come after it
            frames = read_frames(
                labelled[clip].path, SamplingOptions(3), backbone.input_size
            ).frames
            expected = backbone(frames)
            np.testing.assert_allclose(inputs["features"][0], expected, atol=2e-3, rtol=2e-3)
            seen.add(clip)
    assert seen == {0, 1, 2, 3}


def test_order_is_a_function_of_seed_and_pass(records, vocabulary):
    batches = read_records(records, vocabulary, batch_size=2, seed=3)
    two_passes = _batches(batches, 0, 16)
    # Stopped after any step, it goes on with the same batches, in a new process too.
    again = read_records(records, vocabulary, batch_size=2, seed=3)
    for stopped in (0, 3, 8, 13):
        _assert_same(_batches(again, stopped, 16), two_passes[stopped:])
    _assert_same(_batches(batches), two_passes[:8])  # one pass unless told otherwise

    def order(read):
        return [inputs["clip"].tolist() for inputs, _ in read]

    assert order(two_passes[:8]) != order(two_passes[8:])
    other = read_records(records, vocabulary, batch_size=2, seed=4)
    assert order(_batches(other, 0, 16)) != order(two_passes)
    for start in (0, 8):
        every = sorted(chain.from_iterable(order(two_passes[start : start + 8])))
        assert every == sorted(3 * [0, 1, 2, 3, 4])


def test_every_caption_gets_its_turn(records, vocabulary):
    batches = read_records(records, vocabulary, batch_size=2, seed=3)
    read = _batches(batches, 0, 8 * len(batches))
    said = {vocabulary.decode(row) for _, rows in read for row in rows}
    assert {"a picture", "some noise in colours"} <= said
    assert len(said) == len(SENTENCES) + 2


def test_selected_records_are_those_of_some_clips(records, vocabulary):
    some = records.select([3, 1])
    assert some.clips == [records.clips[1], records.clips[3]]
    assert len(some.places) == 6
    bare = records.select([1, 3], views=False)
    assert len(bare.places) == 2
    [(inputs, rows)] = _batches(read_records(bare, vocabulary, 2))
    told = {clip: vocabulary.decode(row) for clip, row in zip(inputs["clip"].tolist(), rows)}
    assert told == {n: " ".join(tokenize(c.captions[0])) for n, c in enumerate(bare.clips)}
    other = replace(records, feature_shape=(9,))
    with pytest.raises(ValueError, match="one backbone"):
        read_records([records, other], vocabulary, 2)


def test_each_source_has_its_share_of_a_pass(records, vocabulary):
    few = replace(records, clips=records.clips[:2], places=records.places[:2])
    batches = read_records([few, records], vocabulary, 4, seed=1, shares=(0.7, 0.3))
    total = len(few.places) + len(records.places)
    assert len(batches.clips) == len(few.clips) + len(records.clips)
    seen = set()
    for epoch in range(12):
        read = _batches(batches, len(batches) * epoch, len(batches) * (epoch + 1))
        clips = [clip for inputs, _ in read for clip in inputs["clip"].tolist()]
        assert len(clips) == total
        counts = [np.isin(clips, few.places["clip"]).sum(), len(clips)]
        assert counts[0] == round(0.7 * total)
        seen |= set(clips)
    assert seen == {*few.places["clip"], *(len(few.clips) + records.places["clip"])}
    for shares in ((0.7, 0.2), (1.0,), (1.5, -0.5)):
        with pytest.raises(ValueError, match="a share of each source"):
            read_records([few, records], vocabulary, 4, seed=1, shares=shares)
    with pytest.raises(ValueError, match="expected a seed"):
        read_records([few, records], vocabulary, 4, shares=(0.7, 0.3))


def test_a_pass_may_be_longer_than_the_records(records, vocabulary):
    few, size = records.select([0, 1], views=False), 7
    batches = read_records(few, vocabulary, 3, seed=1, num_records=size)
    read = _batches(batches, len(batches), 2 * len(batches))
    clips = [clip for inputs, _ in read for clip in inputs["clip"].tolist()]
    assert sorted(np.bincount(clips)) == [3, 4]
    shared = read_records([few, records], vocabulary, 3, 1, (0.5, 0.5), 2 * size)
    read = _batches(shared, 0, len(shared))
    clips = np.concatenate([inputs["clip"] for inputs, _ in read])
    assert (clips < len(few.clips)).sum() == (clips >= len(few.clips)).sum() == size
    with pytest.raises(ValueError, match="expected a seed"):
        read_records(few, vocabulary, 3, num_records=size)


def test_long_captions_are_cut(records):
    long = replace(records.clips[0], captions=("word " * 20_000,))
    cut = replace(records, clips=[long], places=records.places[:1])
    [(_, token_ids)] = _batches(read_records(cut, Vocabulary.build(["word"]), 2))
    assert token_ids.shape == (1, 40)
    assert END_ID not in token_ids


def test_features_are_computed_once_and_shared(labelled, tmp_path):
    backbone = CountingBackbone()

    def seen(clips, sampling=SAMPLING, **options):
        backbone.seen.clear()
        records = write_records(clips, backbone, sampling, tmp_path, **options)
        assert len(records.clips) == len(clips)
        return sum(backbone.seen)

    assert seen(labelled[:3]) == 9
    assert seen(labelled[:3]) == 0
    assert seen(labelled) == 3 + 1
    edited = [replace(clip, captions=("Other words.",)) for clip in reversed(labelled)]
    assert seen(edited) == 0
    copy = shutil.copy(labelled[0].path, tmp_path / "copy.avi")
    assert seen([replace(labelled[0], path=copy)]) == 0
    assert seen(labelled, views=2) > 0
    assert seen(labelled, views=2) == 0
    assert seen(labelled, views=2, seed=1) > 0
    assert seen([replace(labelled[0], start=0.5, end=1.5)]) == 3
    assert seen(labelled[:1], SamplingOptions(num_frames=4)) == 4
    weights = tmp_path / "weights"
    weights.write_text("1")
    assert seen(labelled[:1], weights=weights) == 3
    weights.write_text("2")
    assert seen(labelled[:1], weights=weights) == 3


def test_stretches_of_a_clip_have_features_of_their_own(labelled, tmp_path):
    backbone = CountingBackbone()
    clips = [replace(labelled[0], end=0.5), replace(labelled[0], start=1.5)]
    records = write_records(clips, backbone, SAMPLING, tmp_path)
    early, late = (
        inputs["features"][0]
        for inputs, _ in _batches(read_records(records, Vocabulary.build(["a red ball"]), 1))
    )
    for features, clip in ((early, clips[0]), (late, clips[1])):
        frames = read_frames(clip.path, SamplingOptions(3), (8, 8), clip.start, clip.end).frames
        np.testing.assert_allclose(features, frames.mean((1, 2)), rtol=1e-3)


def test_clips_that_come_as_frames_have_features_and_views(tmp_path):
    backbone, frames = CountingBackbone(), []
    for number in range(6):
        frames.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(frames[-1]), np.full((40, 40, 3), 20 * number, np.uint8))
    clips = [
        LabelledClip(several[0], ("One.",), frames=tuple(several))
        for several in (frames, frames[::-1], frames[:1])
    ]
    records = write_records(clips, backbone, SAMPLING, tmp_path / "features", views=1)
    batches = read_records(records, Vocabulary.build(["One."]), batch_size=6)
    [(inputs, _)] = batches.read()
    found = dict(zip(inputs["clip"].numpy().tolist(), inputs["features"].numpy()[..., 0]))
    lengths = dict(zip(inputs["clip"].numpy().tolist(), inputs["sequence_length"].numpy()))
    assert len(records.places) == 6
    assert lengths[0] == lengths[1] == 3
    plain = write_records(clips[:2], backbone, SAMPLING, tmp_path / "features")
    inputs, _ = next(iter(read_records(plain, batches.vocabulary, 2).read()))
    assert inputs["features"].numpy()[..., 0].tolist() == [[20, 60, 100], [80, 40, 0]]
    assert found.keys() == {0, 1, 2}


def test_records_are_read_by_tensorflow_as_documented(records):
    dataset = tf.data.TFRecordDataset([str(file) for file in records.files])
    parsed = [
        tf.io.parse_single_sequence_example(
            record,
            context_features={"key": tf.io.FixedLenFeature((), tf.string)},
            sequence_features={"features": tf.io.FixedLenSequenceFeature((), tf.string)},
        )
        for record in dataset
    ]
    assert len({bytes(context["key"].numpy()) for context, _ in parsed}) == len(records.places)
    for _, sequence in parsed:
        features = tf.io.decode_raw(sequence["features"], tf.float16)
        assert features.shape[1] == np.prod(records.feature_shape)


def test_clip_that_cannot_be_read_is_left_out_and_named(labelled, tmp_path, capsys):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0" * 100)
    clips = [LabelledClip(tmp_path / "gone.mp4", ("One.",)), LabelledClip(broken, ("Two.",))]
    records = write_records([*clips, *labelled], CountingBackbone(), SAMPLING, tmp_path)
    assert records.clips == labelled
    assert [clip for clip, _ in records.unreadable] == clips
    error = capsys.readouterr().err
    assert f"left out 2 of 7 clips: {clips[0].path}, {clips[1].path}" in error
    assert "gone.mp4" in error
    assert "broken.mp4" in error
    with pytest.raises(DatasetError, match="none of the clips can be read"):
        write_records(clips, CountingBackbone(), SAMPLING, tmp_path)


def test_interrupted_work_is_kept(labelled, tmp_path, monkeypatch):
    monkeypatch.setattr("training.data.records.GROUP_FRAMES", 3)

    class Interrupted(CountingBackbone):
        def __call__(self, frames):
            if len(self.seen) == 2:
                raise KeyboardInterrupt
            return super().__call__(frames)

    with pytest.raises(KeyboardInterrupt):
        write_records(labelled, Interrupted(), SAMPLING, tmp_path)
    backbone = CountingBackbone()
    assert len(write_records(labelled, backbone, SAMPLING, tmp_path).clips) == 5
    assert sum(backbone.seen) == 2 * 3 + 1


def test_killed_in_the_middle_of_a_line(tmp_path):
    features = np.arange(6, dtype=np.float16).reshape(2, 3)
    with FeatureStore(tmp_path) as store:
        store.add("one", features)
        store.add("two", features)
    [index], [file] = tmp_path.glob("*.index"), tmp_path.glob("*.tfrecord")
    whole = index.read_text()
    index.write_text(whole[:-5])
    torn = FeatureStore(tmp_path)
    assert "one" in torn
    assert "two" not in torn
    index.write_text(whole)
    file.write_bytes(file.read_bytes()[:-6])
    torn = FeatureStore(tmp_path)
    assert "one" in torn
    assert "two" not in torn


FILL = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from captioner.errors import DatasetError
from training.data.store import FeatureStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
with FeatureStore(Path(sys.argv[1])) as store:
    try:
        for number in range(9):
            store.add(str(number), np.ones((4, 8192), np.float16))
    except DatasetError as err:
        print(err)
"""


def test_full_disk_loses_nothing(tmp_path):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", FILL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "make room" in done.stdout
    assert str(tmp_path) in done.stdout
    assert [str(number) in FeatureStore(tmp_path) for number in range(4)] == [True] * 3 + [False]


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="file/store: cannot be written"):
        FeatureStore(tmp_path / "file/store")


def test_content_digest_sees_size_head_middle_and_tail(tmp_path):
    data = bytearray(1_000_000)
    digests = set()
    for place in (None, 0, 500_000, 999_999):
        changed = bytearray(data)
        if place is not None:
            changed[place] = 1
        (tmp_path / "file").write_bytes(changed)
        digests.add(content_digest(tmp_path / "file"))
    (tmp_path / "file").write_bytes(data[:-1])
    digests.add(content_digest(tmp_path / "file"))
    assert len(digests) == 5


def test_a_store_tells_what_it_was_made_of(records, folder):
    [facts] = folder.glob("*/made_of.json")
    made_of = json.loads(facts.read_text())
    assert made_of["sampling"] == {"num_frames": 3}
    assert made_of["backbone"] == "bundled"


def test_claim_of_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="cannot be written: Not a directory"):
        claim(tmp_path / "file" / "state", "facts")


def test_claimed_folders_are_for_the_same_facts(tmp_path):
    claim(tmp_path / "state", "facts", 1)
    claim(tmp_path / "state", "facts", 1)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["made_of.sha256"]
    with pytest.raises(DatasetError, match="with other options"):
        claim(tmp_path / "state", "facts", 2)
