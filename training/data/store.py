"""Cache of features on disk, keyed by content.

A store is a folder of TFRecord files, each with an index beside it, a line of JSON a record. A
record is a `tf.train.SequenceExample`:

    context   key        bytes, given by the caller
    sequence  features   a frame each, bytes: float16, little-endian, in C order
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
import tensorflow as tf

from captioner.cnn import Backbone
from captioner.errors import DatasetError, VideoError

FORMAT_VERSION = 2
SHARD_BYTES = 1 << 28
DIGEST_BYTES = 1 << 16  # of each of three places of a file


def content_digest(*paths: Path) -> str:
    """Tells files apart by their size and 64 KiB each of their head, middle and tail.

    Several files are told apart as a whole, in their order.

    Raises:
        VideoError: a file cannot be read.
    """
    if len(paths) > 1:
        digests = "".join(map(content_digest, paths))
        return hashlib.sha256(digests.encode()).hexdigest()
    [path] = paths
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(str(size).encode())
            for start in (0, (size - DIGEST_BYTES) // 2, size - DIGEST_BYTES):
                file.seek(max(0, start))
                digest.update(file.read(DIGEST_BYTES))
    except OSError as err:
        raise VideoError(f"{path}: {err.strerror}; check the path") from err
    return digest.hexdigest()


class FeatureStore:
    """Cache of features on disk, by key; used as a context manager.

    A record is whole on disk before its line in the index is, so a process may be killed at any
    moment, and several may write at the same time, each into files of its own.
    """

    def __init__(self, folder: Path, made_of: dict | None = None):
        """Opens a folder, made if need be; `made_of` is written there, for people.

        Raises:
            DatasetError: it cannot be made or written.
        """
        self.folder = folder
        self.files: list[Path] = []
        self._places: dict[str, tuple[int, int, int, int]] = {}  # file, offset, size, num_frames
        self._writer = self._index = None
        self._end = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "made_of.json").write_text(json.dumps(made_of or {}, indent=1))
        except OSError as err:
            raise self._unwritable(err) from err
        for index in sorted(folder.glob("*.index")):
            self._load(index)

    def _load(self, index):
        file = index.with_suffix(".tfrecord")
        length = file.stat().st_size if file.exists() else 0
        for line in index.read_text().splitlines():
            try:
                key, offset, size, num_frames = json.loads(line)
            except ValueError:  # the last line of a process that was killed
                continue
            if offset + size + 4 <= length:
                self._places[key] = (len(self.files), offset, size, num_frames)
        self.files.append(file)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def place(self, key: str) -> tuple[int, int, int, int]:
        """Number of the file, offset and size in it (bytes), and number of frames."""
        return self._places[key]

    def add(self, key: str, features: np.ndarray):
        """Writes the features of one clip, `(num_frames, *feature_shape)`.

        Raises:
            DatasetError: the disk is full or cannot be written.
        """
        example = _to_example(key, features).SerializeToString()
        try:
            if self._writer is None or self._end > SHARD_BYTES:
                self._open()
            self._writer.write(example)
            self._writer.flush()
            offset = self._end + 12  # the length and its checksum come first
            print(json.dumps([key, offset, len(example), len(features)]), file=self._index)
            self._index.flush()
        except (OSError, tf.errors.OpError) as err:
            raise self._unwritable(err) from err
        self._places[key] = (len(self.files) - 1, offset, len(example), len(features))
        self._end = offset + len(example) + 4  # and a checksum last

    def _unwritable(self, err) -> DatasetError:
        return DatasetError(
            f"{self.folder}: cannot be written ({err}); make room and give the same command "
            "again: all that was computed so far is kept"
        )

    def _open(self):
        self._close()
        self.files.append(self.folder / f"{uuid4().hex}.tfrecord")
        self._writer = tf.io.TFRecordWriter(str(self.files[-1]))
        self._index = self.files[-1].with_suffix(".index").open("w")
        self._end = 0

    def _close(self):
        if self._writer is not None:
            self._writer.close()
            self._index.close()
            self._writer = None

    def __enter__(self) -> "FeatureStore":
        return self

    def __exit__(self, *_):
        # Each record was flushed, and `add` told of any that could not be.
        with suppress(OSError, tf.errors.OpError):
            self._close()


def open_store(
    folder: Path, backbone: Backbone, weights: Path | None, sampling: dict
) -> FeatureStore:
    """The store of the features that a backbone computes of frames sampled in one way.

    Args:
        folder: where features are kept, of any videos, backbones and samplings.
        backbone: what computes them.
        weights: the file of its weights, where it has one of its own.
        sampling: how frames are taken.

    Raises:
        DatasetError: the folder cannot be written.
    """
    facts = {
        "format_version": FORMAT_VERSION,
        "backbone": backbone.name,
        "weights": weights and hashlib.sha256(weights.read_bytes()).hexdigest(),
        "input_size": backbone.input_size,
        "feature_shape": backbone.feature_shape,
        "sampling": sampling,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return FeatureStore(folder / digest[:16], facts)


def read_features(file: Path, offset: int, size: int, feature_shape: tuple[int, ...]) -> np.ndarray:
    """The features of one record, float16 `(num_frames, *feature_shape)`."""
    record = tf.train.SequenceExample.FromString(read_bytes(file, offset, size))
    frames = record.feature_lists.feature_list["features"].feature
    values = b"".join(frame.bytes_list.value[0] for frame in frames)
    return np.frombuffer(values, np.float16).reshape(-1, *feature_shape)


def read_bytes(file: str | Path, offset: int, size: int) -> bytes:
    """A part of a file."""
    with open(file, "rb", buffering=0) as stream:
        stream.seek(offset)
        return stream.read(size)


def _to_example(key: str, features: np.ndarray):
    frames = [
        tf.train.Feature(bytes_list=tf.train.BytesList(value=[frame.tobytes()]))
        for frame in features
    ]
    key = tf.train.Feature(bytes_list=tf.train.BytesList(value=[key.encode()]))
    return tf.train.SequenceExample(
        context=tf.train.Features(feature={"key": key}),
        feature_lists=tf.train.FeatureLists(
            feature_list={"features": tf.train.FeatureList(feature=frames)}
        ),
    )
