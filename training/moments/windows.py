"""Batches of long videos: kept features -> windows in lanes, in which states stay in line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from captioner.cnn import Backbone
from captioner.video import stream_frames

from ..data.store import FeatureStore, content_digest, read_features

BATCH_FRAMES = 32  # in a batch of the backbone, and in a record of the store


@dataclass(frozen=True, eq=False)
class LabelledFeatures:
    """Training data of one video: its features and the target of each moment.

    Attributes:
        features: `(num_frames, *feature_shape)`, `fps` a second; an array, or `KeptFeatures`.
        targets: the label of each moment, int `(num_frames,)`, or, where several may hold at
            once, which do, bool `(num_frames, num_labels)`.
    """

    features: "np.ndarray | KeptFeatures"
    targets: np.ndarray


class KeptFeatures:
    """Features of a long video in a store, of which a stretch is read where it is asked for.

    Attributes:
        shape: `(num_frames, *feature_shape)`.
    """

    def __init__(self, places: Sequence[tuple[Path, int, int]], shape: tuple[int, ...]):
        """Args:
        places: file, offset and size in it (bytes) of each record, of `BATCH_FRAMES` frames,
            the last one of what is left.
        shape: of all.
        """
        self.shape, self._places = shape, places

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, stretch: slice) -> np.ndarray:
        """The features of the frames of a stretch, float16."""
        start, stop, step = stretch.indices(len(self))
        if step != 1 or start >= stop:
            raise ValueError(f"expected a stretch of frames, received: {stretch}")
        first = start // BATCH_FRAMES
        records = [
            read_features(*place, self.shape[1:])
            for place in self._places[first : (stop - 1) // BATCH_FRAMES + 1]
        ]
        start -= first * BATCH_FRAMES
        return np.concatenate(records)[start : stop - first * BATCH_FRAMES]


def keep_features(path: Path, backbone: Backbone, fps: float, store: FeatureStore) -> KeptFeatures:
    """The features of a video, from the store, where they are put at the first time.

    No more than a few frames are held at once. Its first record is written last: with it, all
    are there.

    Args:
        path: the video.
        backbone: turns frames into features.
        fps: frames in a second.
        store: where features are kept, of this backbone and rate.

    Raises:
        VideoError: the video cannot be read.
        DatasetError: the store cannot be written.
    """
    key = f"{content_digest(path)} {{}}".format
    if key(0) not in store:
        frames = (frame for _, frame in stream_frames(path, fps, backbone.input_size))
        batches = iter(lambda: list(islice(frames, BATCH_FRAMES)), [])
        first = backbone(np.stack(next(batches))).astype(np.float16)
        for number, batch in enumerate(batches, 1):
            if key(number) not in store:  # from a training that was stopped
                store.add(key(number), backbone(np.stack(batch)).astype(np.float16))
        store.add(key(0), first)
    places = [store.place(one) for one in takewhile(store.__contains__, map(key, count()))]
    num_frames = sum(length for *_, length in places)
    return KeptFeatures(
        [(store.files[file], offset, size) for file, offset, size, _ in places],
        (num_frames, *backbone.feature_shape),
    )


class Window(NamedTuple):
    """A stretch of a video; one with `start` 0 begins it."""

    video: int
    start: int
    length: int


def lay_out(
    lengths: Sequence[int], num_lanes: int, window: int, rng: np.random.Generator | None = None
) -> Iterator[list[Window | None]]:
    """Schedules windows: cuts videos into them and lays them into lanes, one after another.

    A lane that has come to the end of its video takes the next one. So the state that a lane's
    window leaves is the one that the lane's next window needs, unless a video begins there.

    Args:
        lengths: of each video, frames.
        num_lanes: windows side by side.
        window: most frames of a window.
        rng: shuffles the videos, and draws the length of each one's first window, so that they
            are not cut at the same places in each pass; None: neither.

    Yields:
        A window for each lane, None where there is nothing left for it.
    """
    order = np.arange(len(lengths)) if rng is None else rng.permutation(len(lengths))
    waiting = iter(order.tolist())
    lanes: list[Iterator[Window]] = [iter(())] * num_lanes

    def cut(video):
        stop = window if rng is None else int(rng.integers(1, window + 1))
        start = 0
        while start < lengths[video]:
            stop = min(stop, lengths[video])
            yield Window(video, start, stop - start)
            start, stop = stop, stop + window

    while True:
        row = []
        for number in range(num_lanes):
            found = next(lanes[number], None)
            while found is None and (video := next(waiting, None)) is not None:
                lanes[number] = cut(video)
                found = next(lanes[number], None)
            row.append(found)
        if not any(row):
            return
        yield row


class Batch(NamedTuple):
    """A window of each lane, padded on the right.

    Attributes:
        features: float32 `(num_lanes, window, *feature_shape)`.
        targets: `(num_lanes, window, ...)`.
        sequence_length: int32 `(num_lanes,)`.
        begins: bool `(num_lanes,)`, where the state is to be forgotten.
    """

    features: np.ndarray
    targets: np.ndarray
    sequence_length: np.ndarray
    begins: np.ndarray


def fill(row: Sequence[Window | None], videos: Sequence[LabelledFeatures], window: int) -> Batch:
    """The batch of a row of `lay_out`."""
    shapes = [(len(row), window, *part.shape[1:]) for part in vars(videos[0]).values()]
    features = np.zeros(shapes[0], np.float32)
    targets = np.zeros(shapes[1], videos[0].targets.dtype)
    for lane, cut in enumerate(row):
        if cut is not None:
            stretch = slice(cut.start, cut.start + cut.length)
            features[lane, : cut.length] = videos[cut.video].features[stretch]
            targets[lane, : cut.length] = videos[cut.video].targets[stretch]
    lengths = np.array([0 if cut is None else cut.length for cut in row], np.int32)
    begins = np.array([cut is None or cut.start == 0 for cut in row])
    return Batch(features, targets, lengths, begins)
