"""Reading of frames: a file -> those sampled, by its packets, straight through, or as a picture."""

import logging
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import av
import cv2
import numpy as np

from ..config import SamplingOptions
from ..errors import VideoError
from .animation import Animation, is_webp
from .files import is_video
from .pictures import is_still, read_picture
from .pixels import ToPixels, fit, fit_all
from .pyav import CONVERT, Stream, Unplannable
from .sampling import Timeline
from .straight import Reading, packet_timeline, play, read_straight

PICTURES_FPS = 25.0  # of a clip that comes as pictures, which tell no times
_ONE = SamplingOptions(num_frames=1)
_log = logging.getLogger(__name__)

# FFmpeg would draw a text file, and follow a playlist to the files it names, which a stranger's
# upload must not do. No video begins with eight characters of text but for a few formats (`--` is
# a camera's stream of JPEGs as it goes over the web).
_TEXT = re.compile(rb"(?!RIFF|GIF8|YUV4MPEG|nut/multi|--|NuppelVid)(\xef\xbb\xbf)?[\t\n\r -~]{8}")
# What is saved under the name of a video at times, and what to do then.
_OTHERS = {
    b"PK\3\4": "an archive (ZIP); unpack it first",
    b"\x1f\x8b": "a packed file (gzip); unpack it first",
    b"7z\xbc\xaf": "an archive (7z); unpack it first",
    b"Rar!": "an archive (RAR); unpack it first",
    b"%PDF": "a PDF, not a video; save its pages as pictures",
    b"\0\5\x16\7": "what macOS keeps beside a file; name the file itself",
}
_REMEDIES = {
    FileNotFoundError: "check the path",
    PermissionError: "allow reading it (chmod +r)",
}


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames sampled from a video or a picture.

    Attributes:
        frames: uint8 RGB, `(num_frames, height, width, 3)`, in order, no frame twice.
        times: float64, `(num_frames,)`, seconds from the first frame of the file.
        duration: seconds that the file, or the stretch of it that was asked for, lasts: up to
            the end of its last frame, whose own time on screen, which files seldom tell, is
            taken as the median of the others'. 0.0 for a still picture.
    """

    frames: np.ndarray
    times: np.ndarray
    duration: float


class Sample(NamedTuple):
    """A frame of a video, and when it is shown.

    Attributes:
        time: seconds from the first frame of the file.
        frame: uint8 RGB, `(height, width, 3)`.
        duration: of the file, seconds.
    """

    time: float
    frame: np.ndarray
    duration: float


def read_frames(
    path: str | os.PathLike,
    sampling: SamplingOptions | int,
    size: tuple[int, int] | None = None,
    start: float = 0.0,
    end: float | None = None,
) -> Clip:
    """Samples frames evenly over the time a clip lasts.

    The duration is cut into `sampling.num_frames` equal stretches, and the frame on screen in the
    middle of each is taken; where that would be one frame twice, a neighbour is taken. So
    `min(sampling.num_frames, frames in the file)` come back, always in order.

    What a header says of durations and counts is not believed: only frames that decode
    count. If their timestamps are unusable (not finite, going backwards, or all the same),
    frames are spaced by the frame rate, and by 25 a second if that is unusable too.

    Frames are turned the way a person sees them (rotation of a video, EXIF of a picture).
    Pictures give one frame, animated ones (GIF, PNG, WebP, AVIF) all that are asked for.

    Args:
        path: a video or a picture, told apart by content, not by name; or a folder of pictures,
            the frames of one clip in the order of the numbers in their names, 25 a second.
        sampling: how many frames to take, a number of them will do.
        size: `(height, width)` in pixels that every frame is squashed to (area
            interpolation); None keeps the size of the first frame.
        start: seconds from the first frame of the file, where the stretch to sample begins.
            A still picture is the same at all times.
        end: seconds, where it ends, itself left out; None is the end of the file.

    Raises:
        VideoError: the file is missing, not allowed to be read, no video, without a frame that
            can be decoded, or over before `start`.
    """
    sampling = SamplingOptions.of(sampling)
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"expected size=(height, width) in pixels, received: size={size!r}")
    if not 0 <= start < (inf if end is None else end):
        raise ValueError(f"expected 0 <= start < end, received: {start=}, {end=}")
    if os.path.isdir(path):
        end = inf if end is None else end
        return read_pictures(_pictures_in(path), sampling, size, start, end)
    is_picture = _inspect(path)
    with _in_plain_words(path):
        if is_picture:
            return _read_picture(path, size)
        return _read_stream(path, sampling, size, start, inf if end is None else end)


def read_frames_at(
    path: str | os.PathLike, times: Sequence[float], size: tuple[int, int] | None = None
) -> np.ndarray:
    """Reads the frames at given times, such as those that a caption was made from.

    Args:
        path: as for `read_frames`.
        times: of the frames, seconds from the first one, rising; of each the nearest is taken.
        size: as for `read_frames`.

    Returns:
        A frame for each of `times`, uint8 RGB, `(len(times), height, width, 3)`.

    Raises:
        VideoError: as for `read_frames`.
    """
    is_picture = _inspect(path)
    wanted = np.asarray(times, float)
    with _in_plain_words(path):
        if is_picture:
            return np.repeat(_read_picture(path, size).frames, len(wanted), axis=0)
        try:
            with _planned(path) as stream:
                chosen = np.unique(stream.timeline.nearest(wanted))
                found = fit_all(stream.frames(chosen), size)
        except (av.FFmpegError, Unplannable) as err:
            _log.debug("%s: read straight through: %s", path, err)
            timeline = packet_timeline(path)
            chosen = np.unique(timeline.nearest(wanted))
            by_index = fit_all(Reading(path).frames(chosen), size)
            found = {timeline.times[index]: frame for index, frame in by_index.items()}
    if not found:
        raise VideoError(f"{path}: no frame in it can be decoded; {CONVERT}")
    nearest = Timeline(np.array(list(found)), 0.0).nearest(wanted)
    return np.stack(list(found.values()))[nearest]


def read_steadily(
    path: str | os.PathLike, step: float, size: tuple[int, int] | None = None
) -> Iterator[Sample]:
    """Reads a frame every `step` seconds, from the beginning of a video to its end.

    Frames come as they are decoded, so memory does not grow with the length of the video.

    Args:
        path: as for `read_frames`.
        step: seconds; the frame on screen in the middle of each is taken, none twice.
        size: as for `read_frames`.

    Raises:
        VideoError: as for `read_frames`, and if the file breaks off.
    """
    if not 0 < step < inf:
        raise ValueError(f"expected step > 0 seconds, received: {step=}")
    is_picture = _inspect(path)
    with _in_plain_words(path):
        if is_picture:
            clip = _read_picture(path, size)
            yield Sample(0.0, clip.frames[0], 0.0)
            return
        last = -1.0
        for time, frame, duration in _steadily(path, step):
            if time > last:  # what was read by packets comes again where that broke off
                size = size or frame.shape[:2]
                yield Sample(time, fit(frame, size), duration)
                last = time
        if last < 0:
            raise VideoError(f"{path}: no frame in it can be decoded; {CONVERT}")


def _steadily(path, step: float) -> Iterator[tuple[float, np.ndarray, float]]:
    try:
        with _planned(path) as stream:
            duration = stream.timeline.duration
            chosen = stream.near(stream.timeline.every(step), step / 2)
            yield from ((*found, duration) for found in stream.frames(chosen))
            return
    except (av.FFmpegError, Unplannable) as err:
        _log.debug("%s: read straight through: %s", path, err)
    times, duration = timeline = packet_timeline(path)
    for index, frame in Reading(path).frames(timeline.every(step)):
        yield float(times[index]), frame, duration


def stream_frames(
    path: str | os.PathLike, fps: float, size: tuple[int, int] | None = None
) -> Iterator[tuple[float, np.ndarray]]:
    """Reads a video straight through and keeps none of it: frames at a constant rate.

    At each multiple of `1 / fps` seconds the first frame that is shown then or later is taken,
    more than once where the video has fewer. Of timestamps that do not rise the frame rate
    takes the place, and 25 a second if that is unusable too. A still picture is one moment.

    Args:
        path: as for `read_frames`.
        fps: frames to take in a second.
        size: as for `read_frames`.

    Yields:
        `(time, frame)`: seconds from the first frame of the file, and the frame, uint8 RGB,
        `(height, width, 3)`.

    Raises:
        VideoError: as for `read_frames`.
    """
    if not fps > 0:
        raise ValueError(f"expected fps > 0, received: fps={fps!r}")
    is_picture = _inspect(path)
    with _in_plain_words(path):
        if is_picture:
            yield 0.0, _read_picture(path, size).frames[0]
            return
        taken, to_pixels = 0, ToPixels()
        if is_webp(path):
            animation = Animation(path)
            frames = animation.frames(np.arange(len(animation.timeline.times)))
        else:
            frames = play(path)
        for time, decoded in frames:
            # Times of frames are rounded, to milliseconds at worst.
            if taken / fps > time + 1e-3:
                continue
            frame = decoded if isinstance(decoded, np.ndarray) else to_pixels(decoded)
            size = size or frame.shape[:2]
            frame = fit(frame, size)
            while taken / fps <= time + 1e-3:
                yield taken / fps, frame
                taken += 1
        if not taken:
            raise VideoError(f"{path}: no frame in it can be decoded; {CONVERT}")


def _inspect(path) -> bool:
    """Whether a file that can be read is a picture that stands still."""
    head = _read_head(path)
    with _in_plain_words(path):
        return is_still(path, head)


@contextmanager
def _in_plain_words(path) -> Iterator[None]:
    try:
        yield
    except (MemoryError, cv2.error) as err:
        if isinstance(err, MemoryError) or err.code == cv2.Error.STS_NO_MEM:
            raise VideoError(f"{path}: needs more memory than there is; make it smaller") from err
        raise VideoError(f"{path}: cannot be read as a video or picture; {CONVERT}") from err
    except av.FFmpegError as err:
        raise VideoError(f"{path}: cannot be decoded ({err.strerror}); {CONVERT}") from err


def _read_head(path) -> bytes:
    """Returns the first bytes of a file that can be read and may be a video."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
            raise VideoError(f"{path}: not a regular file; save the video to one first")
        with open(path, "rb") as file:
            start = file.read(1 << 12)
    except OSError as err:
        remedy = _REMEDIES.get(type(err), "check the disk and the path")
        raise VideoError(f"{path}: {err.strerror}; {remedy}") from err
    head = start[:16]
    if not head:
        raise VideoError(f"{path}: the file is empty; copy or download it again")
    for beginning, what in _OTHERS.items():
        if head.startswith(beginning):
            raise VideoError(f"{path}: this is {what}")
    if not start.strip(b"\0"):
        raise VideoError(
            f"{path}: begins with nothing but zeros, as what was not copied or downloaded to its "
            "end; do so again"
        )
    if _TEXT.match(head):
        raise VideoError(f"{path}: this is text, not a video; check what was saved under the name")
    return head


def read_pictures(
    paths: Sequence[str | os.PathLike],
    sampling: SamplingOptions,
    size: tuple[int, int] | None = None,
    start: float = 0.0,
    end: float = inf,
) -> Clip:
    """Samples frames evenly over a clip that comes as pictures, `PICTURES_FPS` a second.

    Args:
        paths: the pictures in their order, at least one.
        sampling: how many to take, as in `read_frames`.
        size: `(height, width)` in pixels; None keeps the size of the first taken.
        start: seconds, where the stretch to sample begins.
        end: seconds, where it ends.

    Raises:
        VideoError: one of those taken cannot be read as a picture.
    """
    count = len(paths)
    timeline = Timeline(np.arange(count) / PICTURES_FPS, count / PICTURES_FPS)
    _check_start(paths[0], timeline, start)
    chosen, frames = timeline.choose(sampling, start, end), []
    for place in chosen:
        [frame] = read_frames(paths[place], _ONE, size).frames
        size = frame.shape[:2]
        frames.append(frame)
    return Clip(np.stack(frames), timeline.times[chosen], min(end, timeline.duration) - start)


def _pictures_in(folder) -> list[str]:
    """The pictures of a folder, 2 before 10."""

    def by_number(name):
        return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]

    try:
        names = [name for name in os.listdir(folder) if name[0] != "." and is_video(name)]
    except OSError as err:
        raise VideoError(f"{folder}: cannot be listed, {err.strerror}; name a folder") from err
    if not names:
        raise VideoError(f"{folder}: holds no picture; name a folder of numbered pictures")
    return [os.path.join(folder, name) for name in sorted(names, key=by_number)]


def _planned(path) -> Animation | Stream:
    """What tells when frames are shown before it decodes any."""
    return Animation(path) if is_webp(path) else Stream(path)


def _read_picture(path, size) -> Clip:
    return Clip(fit(read_picture(path), size)[np.newaxis], np.zeros(1), 0.0)


def _read_stream(path, sampling: SamplingOptions, size, start: float, end: float) -> Clip:
    """Reads what is needed where packets tell it, else everything."""
    try:
        with _planned(path) as stream:
            timeline = stream.timeline
            _check_start(path, timeline, start)
            chosen = timeline.choose(sampling, start, end)
            reach = (min(end, timeline.duration) - start) / len(chosen) / 2
            found = fit_all(stream.frames(stream.near(chosen, reach)), size)
    except (av.FFmpegError, Unplannable) as err:
        _log.debug("%s: read straight through: %s", path, err)
        timeline, found = read_straight(path, sampling, size, start, end)
        if len(timeline.times):
            _check_start(path, timeline, start)
    if not found:
        raise VideoError(f"{path}: no frame in it can be decoded; {CONVERT}")
    times = np.array(list(found))
    return Clip(np.stack(list(found.values())), times, min(end, timeline.duration) - start)


def _check_start(path, timeline: Timeline, start: float):
    if timeline.duration <= start:
        raise VideoError(
            f"{path}: is over after {timeline.duration:.1f} s; name a stretch that begins before"
        )
