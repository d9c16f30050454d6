"""A small copy, which browsers play, of a video that they do not."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from captioner.errors import VideoError
from captioner.video.pixels import ToPixels, fit
from captioner.video.pyav import open_video

# What every usual browser plays, by container: codecs of pictures and of sound.
_PLAYED = {
    "mov,mp4,m4a,3gp,3g2,mj2": ({"h264", "av1", "vp9"}, {"aac", "mp3", "opus", "flac"}),
    "matroska,webm": ({"vp8", "vp9", "av1"}, {"opus", "vorbis"}),
}
_PLAYED_PIXELS = {"yuv420p", "yuvj420p"}
_LONGER_SIDE = 848  # pixels at most
_RATE = 30  # frames a second at most
_CLOCK = Fraction(1, 1000)  # seconds; frames keep their times, whatever their rate
_LONGEST_PAUSE = 60.0  # seconds between two frames
_SOUND_RATE = 48_000


@dataclass(frozen=True)
class Target:
    """A kind of file to write, with the names that FFmpeg has for it."""

    media_type: str
    container: str
    pictures: str
    sound: str
    options: dict[str, str]
    container_options: dict[str, str]


# The first whose encoders PyAV has. x264 (GPL) is in the FFmpeg of PyAV's wheels, which decodes
# every video here as well; VP8's and Opus' are free in every way, but older iPhones do not play it.
TARGETS = (
    Target(
        "video/mp4", "mp4", "libx264", "aac",
        {"preset": "veryfast", "g": "60", "crf": "27", "maxrate": "1M", "bufsize": "2M"},
        {"movflags": "+faststart"},
    ),
    Target(
        "video/webm", "webm", "libvpx", "libopus",
        {"deadline": "realtime", "cpu-used": "8", "g": "60", "crf": "30", "b": "1M"}, {},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """Where a preview ends, though its video may go on.

    Attributes:
        size: of the preview, bytes.
        length: of the preview, seconds.
        work: how long it may be made, seconds.
    """

    size: int
    length: float
    work: float


@dataclass(frozen=True)
class Preview:
    """What was written: its type, size in bytes and length in seconds."""

    media_type: str
    size: int
    duration: float


def is_played(video: Path) -> bool:
    """Whether browsers play a file as it is, by its container and codecs.

    Raises:
        VideoError: it cannot be read.
    """
    container, stream = open_video(video)
    with container:
        pictures, sounds = _PLAYED.get(container.format.name, ((), ()))
        context = stream.codec_context
        sound = next(iter(container.streams.audio), None)
        return (
            context.name in pictures
            and context.pix_fmt in _PLAYED_PIXELS
            and (sound is None or sound.codec_context.name in sounds)
        )


def write_preview(
    video: Path,
    path: Path,
    limits: Limits,
    rest: Callable[[], float] = lambda: 0.0,
    targets: tuple[Target, ...] = TARGETS,
) -> Preview:
    """Writes a preview with the pictures and the sound of a video.

    Its clock begins with the first frame, as that of the sentences does.

    Args:
        video: the file.
        path: where to write; what is there is replaced.
        limits: where it ends at the latest.
        rest: called between frames; returns how many seconds it took, which do not count as work.
        targets: kinds of files to choose from.

    Raises:
        VideoError: the video cannot be read, or PyAV writes nothing that browsers play.
        OSError: the preview cannot be written.
    """
    target = next((target for target in targets if _is_there(target)), None)
    if target is None:
        raise VideoError(f"{video}: PyAV was built without an encoder that browsers know")
    source, stream = open_video(video)
    with source, _created(path, target) as made:
        writer = _Writer(made, target, stream, next(iter(source.streams.audio), None))
        until = time.monotonic() + limits.work
        for frame in _decode(source, writer.sources):
            until += rest()
            writer.write(frame)
            is_full = writer.size >= limits.size or writer.end >= limits.length
            if writer.end and (is_full or time.monotonic() >= until):
                break
        if not writer.end:
            raise VideoError(f"{video}: no frame in it can be decoded")
        writer.finish()
    return Preview(target.media_type, path.stat().st_size, writer.end)


def _is_there(target: Target) -> bool:
    try:
        for name in (target.pictures, target.sound):
            av.Codec(name, "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def _created(path: Path, target: Target) -> av.container.OutputContainer:
    options = target.container_options
    return av.open(str(path), "w", format=target.container, container_options=options)


def _decode(source, streams) -> Iterator[av.VideoFrame | av.AudioFrame]:
    """Frames of pictures and sound as they come; what is damaged is left out."""
    for packet in source.demux(streams):
        try:
            yield from packet.decode()
        except av.InvalidDataError:
            continue


class _Writer:
    """Writes frames into a preview; the first picture tells its size and sets its clock.

    Attributes:
        sources: the streams that are read, of pictures and maybe of sound.
        size: written so far, bytes.
        end: of the last picture, seconds.
    """

    def __init__(self, made, target, pictures, sound):
        self.sources = [pictures] if sound is None else [pictures, sound]
        self.size, self.end = 0, 0.0
        self._made, self._target = made, target
        self._aspect = pictures.sample_aspect_ratio or 1
        self._to_pixels = ToPixels()
        self._start: float | None = None  # what the source's clock says when ours begins
        self._early: list[av.AudioFrame] = []  # sound that was decoded before the first picture
        self._resampler, self._heard = None, 0  # samples

    def write(self, frame: av.VideoFrame | av.AudioFrame) -> None:
        """Writes a frame, or leaves it out where there are more than a preview needs."""
        if frame.time is None:
            return
        if isinstance(frame, av.AudioFrame):
            self._write_sound(frame)
        else:
            self._write_picture(frame)

    def finish(self) -> None:
        """Writes what the encoders still hold."""
        for stream in self._made.streams:
            self._mux(stream.encode(None))

    def _mux(self, packets):
        for packet in packets:
            self.size += packet.size
            self._made.mux(packet)

    def _write_picture(self, frame):
        if self._start is None:
            self._begin(frame)
        elif not -1.0 < frame.time - self._start - self.end < _LONGEST_PAUSE:
            # The source's clock begins anew, or jumps.
            self._start = frame.time - self.end
        now = frame.time - self._start
        if now < self.end - 0.1 / _RATE:
            return
        picture = av.VideoFrame.from_ndarray(self._pixels(frame), format="rgb24")
        picture.pts, picture.time_base = round(now / _CLOCK), _CLOCK
        self.end = now + 1 / _RATE
        self._mux(self._pictures.encode(picture))

    def _begin(self, frame):
        height, width = self._to_pixels(frame).shape[:2]
        self._is_turned = (height, width) != (frame.height, frame.width)
        if self._is_turned:
            height *= self._aspect
        else:
            width *= self._aspect
        scale = min(1.0, _LONGER_SIDE / max(height, width))
        self._shape = tuple(max(16, 2 * round(side * scale / 2)) for side in (height, width))
        target = self._target
        self._pictures = self._made.add_stream(target.pictures, rate=_RATE, options=target.options)
        self._pictures.height, self._pictures.width = self._shape
        self._pictures.pix_fmt = "yuv420p"
        self._pictures.codec_context.time_base = _CLOCK
        self._pictures.codec_context.thread_count = 1
        if len(self.sources) > 1:
            self._sound = self._made.add_stream(target.sound, rate=_SOUND_RATE, layout="stereo")
            self._sound.bit_rate = 96_000
        self._start = frame.time
        for early in self._early:
            self._write_sound(early)
        self._early.clear()

    def _pixels(self, frame):
        height, width = self._shape[::-1] if self._is_turned else self._shape
        try:
            small = frame.reformat(width, height, "rgb24", interpolation="AREA", threads=1)
        except (av.FFmpegError, ValueError):  # colours that only `ToPixels` knows
            small = frame
        return fit(self._to_pixels(small), self._shape)

    def _write_sound(self, frame):
        if self._start is None:
            self._early.append(frame)
            return
        now = round((frame.time - self._start) * _SOUND_RATE)
        if now < self._heard - _SOUND_RATE // 10 or now < 0:
            return
        if now > self._heard + _SOUND_RATE // 10:  # a gap
            self._heard = now
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if self._resampler is None or self._resampler[0] != kind:
            self._resampler = kind, av.AudioResampler("fltp", "stereo", _SOUND_RATE)
        for part in self._resampler[1].resample(frame):
            part.pts, part.time_base = self._heard, Fraction(1, _SOUND_RATE)
            self._heard += part.samples
            self._mux(self._sound.encode(part))
