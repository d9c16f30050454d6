"""A video -> its frames, read from end to end: slower, but it takes whatever OpenCV can read."""

import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from math import isfinite

import cv2
import numpy as np

from ..errors import VideoError
from .pyav import OPTIONS
from .sampling import FALLBACK_FPS, Timeline

MAX_PIXELS = 8192 * 8192  # of a frame


def check_pixels(path: str | os.PathLike, width: int, height: int):
    """Refuses frames that are too large to hold.

    Raises:
        VideoError: a frame has more than `MAX_PIXELS`.
    """
    if width * height > MAX_PIXELS:
        raise VideoError(
            f"{path}: has frames of {width} x {height} pixels, and more than {MAX_PIXELS} are "
            "not read; make it smaller: ffmpeg -i INPUT -vf scale=1280:-2 OUTPUT.mp4"
        )


def packet_timeline(path: str | os.PathLike, name: str) -> Timeline:
    """Tells from the packets, which costs next to nothing, when frames will be shown.

    Args:
        path: the file as its user calls it.
        name: its absolute path.
    """
    stamps = array("d")
    with _capture(path, name, [cv2.CAP_PROP_FORMAT, -1]) as (capture, fps):
        while capture.grab():
            stamps.append(capture.get(cv2.CAP_PROP_POS_MSEC))
    # Packets come in the order of decoding, frames in the order of showing.
    return Timeline.of(np.sort(stamps) / 1000, fps)


class Reading:
    """Decodes a file once; every frame on the way (`grab`), but only those that are wanted are
    converted to pixels (`retrieve`).

    Attributes:
        timeline: of the frames that there were, once `frames` is over.
    """

    def __init__(self, path: str | os.PathLike, name: str):
        self.path, self.name, self.timeline = path, name, Timeline(np.zeros(0), 0.0)

    def frames(self, chosen: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the frames of these indices, with them: BGR, uint8, `(height, width, 3)`."""
        wanted = set(chosen.tolist())
        stamps = array("d")
        with _capture(self.path, self.name) as (capture, fps):
            while capture.grab():
                if len(stamps) in wanted:
                    decoded, frame = capture.retrieve()
                    if decoded:
                        yield len(stamps), frame
                stamps.append(capture.get(cv2.CAP_PROP_POS_MSEC))
        self.timeline = Timeline.of(np.asarray(stamps) / 1000, fps)


def play(path: str | os.PathLike, name: str) -> Iterator[tuple[float, Callable]]:
    """Decodes a file once and remembers none of it.

    Yields:
        The time of each frame, seconds from the first one, rising, and the function that
        retrieves it as `cv2.VideoCapture.retrieve` does, until the next one is asked for.
    """
    with _capture(path, name) as (capture, fps):
        fps = fps if 0.01 <= fps <= 1000 else FALLBACK_FPS
        first = last = None
        while capture.grab():
            stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if last is None:
                first = last = stamp if isfinite(stamp) else 0.0
            else:
                last = stamp if isfinite(stamp) and stamp > last else last + 1 / fps
            yield last - first, capture.retrieve


def frame_rate(path: str | os.PathLike) -> float:
    """Frames a second, as a file's header says; 25 where it says nothing of use.

    Raises:
        VideoError: its frames are too large to hold.
    """
    with _capture(path, os.path.abspath(path)) as (_, fps):
        return fps if 0.01 <= fps <= 1000 else FALLBACK_FPS


@contextmanager
def _capture(path, name, parameters=()):
    _prepare()
    capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, list(parameters))
    try:
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        check_pixels(path, *(int(capture.get(side)) for side in sides))
        yield capture, capture.get(cv2.CAP_PROP_FPS)
    finally:
        capture.release()


@cache
def _prepare():
    """Silences OpenCV's FFmpeg and shuts it in, once; what users set stands.

    The level is read from the environment when a process opens its first video.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    options = "|".join(f"{name};{value}" for name, value in OPTIONS.items())
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", options)


def read_straight(path, name: str, num_frames: int, size, start: float, end: float):
    """Plans on the timestamps of the packets, then decodes once.

    The decoded frames have the last word: where they tell of another choice (damaged or
    hidden packets), that choice is read in a second pass.
    """
    wanted = packet_timeline(path, name).choose(num_frames, start, end)
    reading = Reading(path, name)
    for _ in range(2):
        found = fit_all(reading.frames(wanted), size)
        planned, wanted = wanted, reading.timeline.choose(num_frames, start, end)
        if np.array_equal(planned, wanted):
            break
    times = reading.timeline.times
    return reading.timeline, {times[index]: frame for index, frame in found.items()}


def fit_all(found: Iterable[tuple[float, np.ndarray]], size) -> dict[float, np.ndarray]:
    """BGR frames as RGB and of one size, by what they came with."""
    fitted = {}
    for key, frame in found:
        size = size or frame.shape[:2]  # a stream may change its size on the way
        fitted[key] = fit(frame, size)
    return fitted


def fit(frame: np.ndarray, size) -> np.ndarray:
    """Returns a BGR frame as RGB, `(height, width, 3)`, squashed to `size` where given."""
    if size is not None and tuple(size) != frame.shape[:2]:
        frame = cv2.resize(frame, tuple(size)[::-1], interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
