"""Segmentation: a long video -> its stretches, by time or by shots, in one reading."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from ..config import SamplingOptions
from .frames import Clip, Sample, read_steadily

SHOTS = "shots"
# Seconds between the pictures that are searched for cuts, and so the precision of a cut.
_STEP = 0.25
_SHORTEST_SHOT = 1.0  # seconds
# Of the Hellinger distance between colour histograms: 0 is alike, 1 is nothing in common.
_CUT = 0.5
_BINS = [16, 8, 8]  # hue, saturation, value


@dataclass(frozen=True, eq=False)
class Stretch:
    """A part of a video and what was sampled from it.

    Attributes:
        start: seconds from the first frame of the video.
        end: seconds.
        clip: what was sampled; its times count from the first frame of the video too, and its
            duration is that of the video.
    """

    start: float
    end: float
    clip: Clip


def read_segments(
    path: str | os.PathLike,
    segments: float | str,
    sampling: SamplingOptions | int,
    size: tuple[int, int] | None = None,
) -> Iterator[Stretch]:
    """Cuts a video into stretches and samples each, in one reading.

    A stretch is given as soon as it is over, and no more than twice the frames wanted of it are
    held, so memory does not grow with the length of the video.

    Args:
        path: as for `read_frames`.
        segments: seconds that a stretch lasts, the last one maybe less; or `shots`: a stretch
            ends where the picture changes, as its colours tell.
        sampling: which frames to take of each stretch, a number of them will do.
        size: as for `read_frames`.

    Raises:
        VideoError: as for `read_frames`; stretches may have been given before.
    """
    num_frames = SamplingOptions.of(sampling).num_frames
    if segments == SHOTS:
        groups = _by_shots(read_steadily(path, _STEP, size))
    elif isinstance(segments, int | float) and 0 < segments < float("inf"):
        groups = _by_clock(read_steadily(path, segments / num_frames, size), segments)
    else:
        raise ValueError(f"expected segments > 0 seconds or {SHOTS!r}, received: {segments!r}")
    kept, start = Thinned(num_frames), 0.0
    for sample, end in groups:
        kept.add(sample)
        if end is not None:
            samples = kept.chosen()
            times = np.array([sample.time for sample in samples])
            frames = np.stack([sample.frame for sample in samples])
            yield Stretch(start, end, Clip(frames, times, sample.duration))
            kept, start = Thinned(num_frames), end


def _by_clock(samples: Iterable[Sample], seconds: float) -> Iterator[tuple[Sample, float | None]]:
    """Samples, and with the last one of a stretch where that ends."""
    for sample, following in _with_next(samples):
        if following is None:
            yield sample, sample.duration
        elif following.time // seconds > sample.time // seconds:
            yield sample, following.time // seconds * seconds
        else:
            yield sample, None


def _by_shots(samples: Iterable[Sample]) -> Iterator[tuple[Sample, float | None]]:
    start, colours = 0.0, None
    for sample, following in _with_next(samples):
        colours = _colours(sample.frame) if colours is None else colours
        if following is None:
            yield sample, sample.duration
            return
        next_colours = _colours(following.frame)
        distance = cv2.compareHist(colours, next_colours, cv2.HISTCMP_BHATTACHARYYA)
        cut = (sample.time + following.time) / 2
        if distance > _CUT and cut - start >= _SHORTEST_SHOT:
            yield sample, cut
            start = cut
        else:
            yield sample, None
        colours = next_colours


def _colours(frame: np.ndarray) -> np.ndarray:
    hsv = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)
    return cv2.calcHist([hsv], [0, 1, 2], None, _BINS, [0, 180, 0, 256, 0, 256])


def _with_next(items: Iterable) -> Iterator[tuple]:
    items = iter(items)
    item = next(items, None)
    while item is not None:
        following = next(items, None)
        yield item, following
        item = following


class Thinned:
    """Even subsample of a stream of unknown length; holds less than twice as much as is wanted."""

    def __init__(self, num_items: int):
        self._wanted, self._stride, self._seen, self._kept = num_items, 1, 0, []

    def add(self, item):
        if self._seen % self._stride == 0:
            self._kept.append(item)
            if len(self._kept) == 2 * self._wanted:
                self._kept, self._stride = self._kept[::2], 2 * self._stride
        self._seen += 1

    def chosen(self) -> list:
        count = min(self._wanted, len(self._kept))
        places = (np.arange(count) + 0.5) * len(self._kept) / max(count, 1)
        return [self._kept[int(place)] for place in places]
