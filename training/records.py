"""Labelled clips -> features, computed once and kept -> bucketed, padded batches.

A record is a `tf.train.SequenceExample`:

    context   clip       int64, the row of the clip among the labelled clips
    sequence  features   a frame each, bytes: float16, `(num_regions, feature_dim)`
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from captioner.backbones import Backbone
from captioner.config import SamplingOptions
from captioner.errors import DatasetError, VideoError
from captioner.video import read_frames
from captioner.vocabulary import Vocabulary

from .manifest import LabelledClip

SHARD_CLIPS = 128
BUCKETS = (1, 4, 8)  # frames; longer clips share the last bucket
MAX_WORDS = 40  # what follows is cut off a caption


def moving_crop(picture: np.ndarray, num_frames: int, size, rng: np.random.Generator):
    """A still picture as a clip: a window that wanders and zooms over it.

    Args:
        picture: uint8 RGB, `(height, width, 3)`.
        num_frames: frames of the clip.
        size: `(height, width)` of a frame, pixels.
        rng: source of chance; half of the clips are mirrored.

    Returns:
        uint8 RGB, `(num_frames, *size, 3)`.
    """
    height, width = picture.shape[:2]
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    scale = np.linspace(*rng.uniform(0.65, 1.0, 2), num_frames)
    x = np.linspace(*rng.random(2), num_frames) * (1 - scale) * width
    y = np.linspace(*rng.random(2), num_frames) * (1 - scale) * height
    frames = []
    for left, top, share in zip(x, y, scale, strict=True):
        rows = slice(int(top), int(top + share * height))
        columns = slice(int(left), int(left + share * width))
        window = np.ascontiguousarray(picture[rows, columns])
        frames.append(cv2.resize(window, size[::-1], interpolation=cv2.INTER_AREA))
    return np.stack(frames)


def claim(folder: Path, *facts):
    """Makes a folder for work that depends on `facts`, or checks that it was made for the same.

    Raises:
        DatasetError: it was made for something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    file = folder / "made_of.sha256"
    if not file.exists():
        file.write_text(digest)
    elif file.read_text() != digest:
        raise DatasetError(
            f"{folder}: holds the work on other labels, or with other options; "
            "delete it, or keep this elsewhere (--work)"
        )


def write_records(
    clips: Sequence[LabelledClip],
    backbone: Backbone,
    sampling: SamplingOptions,
    folder: Path,
    views: int = 0,
    seed: int = 0,
    weights: Path | None = None,
) -> list[Path]:
    """Computes the features of clips; goes on where an earlier call was stopped.

    Args:
        clips: what to look at.
        backbone: what looks.
        sampling: how clips are sampled.
        folder: where the records are kept, of nothing but these clips.
        views: for each still picture, further records of it as a moving clip.
        seed: of the views.
        weights: the file of the backbone's weights, where it has one of its own.

    Returns:
        The files, `SHARD_CLIPS` clips each.

    Raises:
        DatasetError: a clip cannot be read, or the folder holds the features of something else.
    """
    clip_paths = [str(clip.path) for clip in clips]
    file = weights and [str(weights), weights.stat().st_size, weights.stat().st_mtime]
    claim(folder, clip_paths, backbone.name, file, asdict(sampling), views, seed)
    files = []
    for start in tqdm(range(0, len(clips), SHARD_CLIPS), unit="shard", disable=None):
        file = folder / f"{start // SHARD_CLIPS:05}.tfrecord"
        files.append(file)
        if file.exists():
            continue
        owners, sequences = [], []
        for index in range(start, min(start + SHARD_CLIPS, len(clips))):
            rng = np.random.default_rng((seed, index))
            for frames in _sequences(clips[index], sampling, backbone.input_size, views, rng):
                owners.append(index)
                sequences.append(frames)
        features = backbone(np.concatenate(sequences)).astype(np.float16)
        features = np.split(features, np.cumsum([len(frames) for frames in sequences])[:-1])
        partial = file.with_suffix(".partial")
        with tf.io.TFRecordWriter(str(partial)) as writer:
            for owner, sequence in zip(owners, features, strict=True):
                writer.write(_to_example(owner, sequence).SerializeToString())
        partial.rename(file)
    return files


def _sequences(clip, sampling, size, views, rng):
    try:
        native = read_frames(clip.path, sampling.num_frames, None if views else size).frames
    except VideoError as err:
        raise DatasetError(f"{err}, or take its row out of the labels") from err
    resized = [cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA) for frame in native]
    yield np.stack(resized)
    if len(native) == 1:
        for _ in range(views):
            yield moving_crop(native[0], rng.integers(1, sampling.num_frames + 1), size, rng)


def _to_example(clip: int, features: np.ndarray):
    frames = [
        tf.train.Feature(bytes_list=tf.train.BytesList(value=[frame.tobytes()]))
        for frame in features
    ]
    return tf.train.SequenceExample(
        context=tf.train.Features(
            feature={"clip": tf.train.Feature(int64_list=tf.train.Int64List(value=[clip]))}
        ),
        feature_lists=tf.train.FeatureLists(
            feature_list={"features": tf.train.FeatureList(feature=frames)}
        ),
    )


def read_records(
    files: Sequence[Path],
    clips: Sequence[LabelledClip],
    vocabulary: Vocabulary,
    feature_shape: tuple[int, ...],
    batch_size: int,
    seed: int | None = None,
) -> tf.data.Dataset:
    """Reads records as batches for `CaptionModel`, each clip with one of its captions.

    Args:
        files: written by `write_records`.
        clips: those given to `write_records`.
        vocabulary: turns the captions into token ids.
        feature_shape: of one frame.
        batch_size: clips in a batch.
        seed: shuffles, and draws a caption for each clip anew in each pass; with None the
            order is that of the records, and the caption is the first.

    Returns:
        Batches of `({"features", "sequence_length", "token_ids"}, token_ids)`, padded to the
        longest in the batch, clips of similar length together.
    """
    captions = tf.ragged.constant(
        [[vocabulary.encode(caption)[:MAX_WORDS] for caption in clip.captions] for clip in clips],
        dtype=tf.int32,
    )

    def parse(number, record):
        context, sequence = tf.io.parse_single_sequence_example(
            record,
            context_features={"clip": tf.io.FixedLenFeature((), tf.int64)},
            sequence_features={"features": tf.io.FixedLenSequenceFeature((), tf.string)},
        )
        features = tf.io.decode_raw(sequence["features"], tf.float16)
        features = tf.cast(tf.reshape(features, (-1, *feature_shape)), tf.float32)
        said = captions[context["clip"]]
        choice = 0
        if seed is not None:
            choice = tf.random.stateless_uniform(
                (), (seed, number), 0, said.nrows(tf.int32), tf.int32
            )
        inputs = {
            "features": features,
            "sequence_length": tf.shape(features)[0],
            "token_ids": said[choice],
        }
        return inputs, said[choice]

    names = tf.data.Dataset.from_tensor_slices([str(file) for file in files])
    if seed is None:
        records = tf.data.TFRecordDataset(names)
    else:
        names = names.shuffle(len(files), seed=seed)
        records = names.interleave(tf.data.TFRecordDataset, cycle_length=16)
        records = records.shuffle(2048, seed=seed)
    batches = records.enumerate().map(parse, num_parallel_calls=2)
    batches = batches.bucket_by_sequence_length(
        lambda inputs, _: inputs["sequence_length"],
        bucket_boundaries=[length + 1 for length in BUCKETS],
        bucket_batch_sizes=[batch_size] * (len(BUCKETS) + 1),
    )
    num_batches = _count_batches(files, batch_size)
    return batches.apply(tf.data.experimental.assert_cardinality(num_batches)).prefetch(2)


def _count_batches(files, batch_size) -> int:
    def length(record):
        _, sequence = tf.io.parse_single_sequence_example(
            record, sequence_features={"features": tf.io.RaggedFeature(tf.string)}
        )
        return tf.size(sequence["features"])

    lengths = tf.data.TFRecordDataset([str(file) for file in files]).map(length).batch(1024)
    lengths = np.concatenate(list(lengths.as_numpy_iterator()))
    _, sizes = np.unique(np.searchsorted(BUCKETS, lengths), return_counts=True)
    return int(np.ceil(sizes / batch_size).sum())
