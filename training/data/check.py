"""Validation of labels and of the clips that they name."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from captioner.config import SamplingOptions
from captioner.errors import VideoError
from captioner.vocabulary import tokenize

from .manifest import LabelledClip, Labels
from .reading import read_clip, read_each
from .rows import Problem

# A thumbnail is 4 frames of 16 by 16 pixels. Of 14 real clips, those encoded anew at half the
# size came within an RMS of 2 and a largest difference of 5, those at half the frame rate or
# trimmed by a twentieth mostly under these bounds, and no two different ones under an RMS of 36.
SAMPLING, SIZE = SamplingOptions(num_frames=4), (16, 16)
RMS, LARGEST = 6.0, 48.0
CHUNK = 1024


def find_problems(labels: Labels) -> Iterator[Problem]:
    """Reads every clip, and yields what is wrong with rows, captions and files."""
    yield from labels.problems
    for clip, row in zip(labels.clips, labels.rows, strict=True):
        counts = Counter(" ".join(tokenize(caption)) for caption in clip.captions)
        for sentence, count in counts.items():
            if count > 1:
                yield Problem(row, f"{clip.path} has a caption {count} times: {sentence!r}")
    readable = []
    read = read_each(_thumbnail, labels.clips)
    for row, (clip, thumbnail) in zip(labels.rows, read, strict=True):
        if clip.frames and (missing := clip.missing):
            many = f"{len(missing)} of {len(clip.frames)} frames are missing"
            yield Problem(row, f"{many}, the first {missing[0]}; looked in {labels.searched}")
        elif isinstance(thumbnail, VideoError):
            searched = "" if clip.path.exists() else f"; looked in {labels.searched}"
            yield Problem(row, f"{thumbnail}{searched}")
        else:
            readable.append((clip, row, thumbnail))
    yield from _alike_across_splits(readable)


def _thumbnail(clip: LabelledClip) -> np.ndarray:
    """A thumbnail, uint8 `(num_frames * height * width * 3,)`."""
    frames = read_clip(clip, SAMPLING, SIZE)
    return frames[np.linspace(0, len(frames) - 1, SAMPLING.num_frames).round().astype(int)].ravel()


def _alike_across_splits(readable: list) -> Iterator[Problem]:
    """Clips of different splits that look the same: a test would measure what was learned."""
    clips = sorted(readable, key=lambda one: one[0].split)
    splits = np.array([clip.split for clip, *_ in clips])
    thumbnails = np.array([thumbnail for *_, thumbnail in clips])
    for start in range(0, len(clips), CHUNK):
        rows = slice(start, start + CHUNK)
        for other in range(start, len(clips), CHUNK):
            columns = slice(other, other + CHUNK)
            differs = splits[rows, None] != splits[None, columns]
            if not differs.any():
                continue
            near = _mean_squares(thumbnails[rows], thumbnails[columns]) < RMS**2
            for row, column in np.argwhere(near & differs):
                if start + row > other + column:
                    continue  # told already
                pair = thumbnails[start + row].astype(int) - thumbnails[other + column]
                if np.abs(pair).max() < LARGEST:
                    (one, first, _), (two, second, _) = clips[start + row], clips[other + column]
                    yield Problem(
                        f"{first} and {second}",
                        f"{one.path} ({one.split}) and {two.path} ({two.split}) look the same",
                    )


def _mean_squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean squared differences between all rows of two uint8 matrices."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    squares = (a**2).mean(1)[:, None] + (b**2).mean(1)[None]
    return squares - 2 * (a @ b.T) / a.shape[1]
