"""Sequential decoding: a video read from end to end, which is slower but takes all of FFmpeg's."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import nan

import av
import numpy as np

from ..config import SamplingOptions
from .pixels import ToPixels, fit_all
from .pyav import open_video
from .sampling import Clock, Timeline, usable_rate


def packet_timeline(path: str | os.PathLike) -> Timeline:
    """Tells from the packets, which costs next to nothing, when frames will be shown.

    Raises:
        VideoError: the file holds no pictures that can be decoded.
    """
    stamps, decoded_at = [], []
    with _opened(path) as (container, stream):
        rate = stream.average_rate
        for packet in _whatever(container.demux(stream)):
            if packet.size:
                stamps.append(_seconds(packet, stream))
                decoded_at.append(nan if packet.dts is None else packet.dts)
    # Packets come in the order of decoding, frames in that of showing; where the clock begins
    # anew, parts were put together.
    anew = 1 + np.flatnonzero(np.diff(decoded_at) < 0)
    parts = [np.sort(part) for part in np.split(np.array(stamps), anew)]
    return Timeline.of(np.concatenate(parts), rate)


class Reading:
    """Decodes a file once, every frame, but only those that are wanted become pixels.

    Attributes:
        timeline: of the frames that there were, once `frames` is over.
    """

    def __init__(self, path: str | os.PathLike):
        self.path, self.timeline = path, Timeline(np.zeros(0), 0.0)

    def frames(self, chosen: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the frames of these indices, with them: RGB, uint8, `(height, width, 3)`.

        Raises:
            VideoError: the file holds no pictures that can be decoded.
        """
        wanted = set(chosen.tolist())
        stamps, to_pixels = [], ToPixels()
        with _opened(self.path) as (container, stream):
            rate = stream.average_rate
            for frame in _decoded(container, stream):
                if len(stamps) in wanted:
                    yield len(stamps), to_pixels(frame)
                stamps.append(_seconds(frame, stream))
        self.timeline = Timeline.of(stamps, rate)


def play(path: str | os.PathLike) -> Iterator[tuple[float, av.VideoFrame]]:
    """Decodes a file once and remembers none of it.

    Yields:
        The time of each frame, seconds from the first one, rising, and the frame.

    Raises:
        VideoError: the file holds no pictures that can be decoded.
    """
    with _opened(path) as (container, stream):
        clock = Clock(stream.average_rate)
        for frame in _decoded(container, stream):
            yield clock.tell(_seconds(frame, stream)), frame


def frame_rate(path: str | os.PathLike) -> float:
    """Frames a second, as a file's header says; 25 where it says nothing of use.

    Raises:
        VideoError: the file holds no pictures, or they are too large to hold.
    """
    with _opened(path) as (_, stream):
        return usable_rate(stream.average_rate)


def read_straight(path, sampling: SamplingOptions, size, start: float, end: float):
    """Plans on the timestamps of the packets, then decodes once.

    The decoded frames have the last word: where they tell of another choice (damaged or
    hidden packets), that choice is read in a second pass.

    Returns:
        The timeline, and the frames chosen by their times.

    Raises:
        VideoError: the file holds no pictures that can be decoded.
    """
    wanted = packet_timeline(path).choose(sampling, start, end)
    reading = Reading(path)
    for _ in range(2):
        found = fit_all(reading.frames(wanted), size)
        planned, wanted = wanted, reading.timeline.choose(sampling, start, end)
        if np.array_equal(planned, wanted):
            break
    times = reading.timeline.times
    return reading.timeline, {times[index]: frame for index, frame in found.items()}


@contextmanager
def _opened(path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    container, stream = open_video(path)
    with container:
        yield container, stream


def _decoded(container, stream) -> Iterator[av.VideoFrame]:
    """All frames of a stream that decode; damaged packets are passed over."""
    decoder = stream.codec_context
    for packet in _whatever(container.demux(stream)):
        try:
            yield from decoder.decode(packet) if packet.size else ()
        except av.MemoryError:
            raise
        except av.FFmpegError:
            continue
    try:
        yield from decoder.decode(None)
    except av.FFmpegError:
        return


def _whatever(packets: Iterable[av.Packet]) -> Iterator[av.Packet]:
    """Packets up to where a file is too damaged to go on."""
    try:
        yield from packets
    except av.MemoryError:
        raise
    except av.FFmpegError:
        return


def _seconds(item: av.Packet | av.VideoFrame, stream: av.VideoStream) -> float:
    """The time that a packet or a frame bears, NaN where it bears none."""
    stamp = item.dts if item.pts is None else item.pts
    return nan if stamp is None else float(stamp * stream.time_base)
