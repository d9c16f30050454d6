"""Long videos -> features, kept -> windows in lanes, in which states stay in line."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from captioner.cnn import Backbone
from captioner.errors import DatasetError, VideoError
from captioner.video import stream_frames

BATCH_FRAMES = 32  # in a batch of the backbone


@dataclass(frozen=True, eq=False)
class LabelledFeatures:
    """A video as a labelling model learns it.

    Attributes:
        features: `(num_frames, *feature_shape)`, `fps` a second.
        targets: the label of each moment, int `(num_frames,)`, or, where several may hold at
            once, which do, bool `(num_frames, num_labels)`.
    """

    features: np.ndarray
    targets: np.ndarray


def keep_features(path: Path, backbone: Backbone, fps: float, folder: Path, *facts) -> np.ndarray:
    """The features of a video, from the folder, where they are put at the first time.

    No more than a few frames are held at once, and what comes back lies on disk.

    Args:
        path: the video.
        backbone: turns frames into features.
        fps: frames in a second.
        folder: where features are kept, each file named after what it depends on.
        facts: what else they depend on, such as the backbone's weights.

    Returns:
        float16 `(num_frames, *feature_shape)`.

    Raises:
        VideoError: the video cannot be read.
        DatasetError: the folder cannot be written.
    """
    try:
        stat = path.stat()
    except OSError as err:
        raise VideoError(f"{path}: {err.strerror}; check the path") from err
    facts = [str(path.resolve()), stat.st_size, stat.st_mtime_ns, backbone.name, fps, *facts]
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    file = folder / f"{name}.float16"
    if not file.exists():
        partial = file.with_suffix(".partial")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as kept:
                frames = (frame for _, frame in stream_frames(path, fps, backbone.input_size))
                while batch := list(islice(frames, BATCH_FRAMES)):
                    kept.write(backbone(np.stack(batch)).astype(np.float16).tobytes())
            partial.rename(file)
        except VideoError:
            partial.unlink()
            raise
        except OSError as err:
            raise DatasetError(
                f"{folder}: cannot be written ({err}); make room and give the same command "
                "again: what was computed so far is kept"
            ) from err
    return np.memmap(file, np.float16, "r").reshape(-1, *backbone.feature_shape)


class Window(NamedTuple):
    """A stretch of a video; one with `start` 0 begins it."""

    video: int
    start: int
    length: int


def lay_out(
    lengths: Sequence[int], num_lanes: int, window: int, rng: np.random.Generator | None = None
) -> Iterator[list[Window | None]]:
    """Cuts videos into windows and lays them into lanes, each video's one after another.

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
