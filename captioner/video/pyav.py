"""Selective decoding with PyAV: only the frames that are wanted, and those that they are built
upon, from the keyframe before."""

import os
from array import array
from collections.abc import Iterator
from typing import Self

import av
import numpy as np
from av.stream import Disposition

from ..errors import VideoError
from .pixels import ToPixels, check_pixels
from .sampling import Timeline, move_to_keyframes

# Demuxers that read the one file they are given. Left out are those that follow a text to other
# files or hosts (hls, concat, dash, sdp) and those that take a name for a pattern (image2).
DEMUXERS = (
    "aac,aiff,apng,asf,av1,avi,avs2,dhav,dv,flac,flv,gif,gxf,h261,h263,h264,hevc,ivf,m4v,matroska,"
    "webm,mjpeg,mp3,mov,mpeg,mpegts,mpegvideo,mpjpeg,mxf,nut,nuv,obu,ogg,pva,rm,roq,ty,vc1,vvc,wav,"
    "wtv,yuv4mpegpipe"
)
# Not a word to the network, nor to another file, whatever a container says.
OPTIONS = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS}

CONVERT = "if it plays elsewhere, convert it: ffmpeg -i INPUT -c:v libx264 OUTPUT.mp4"
_UNFINISHED = (
    "was never finished, or not copied whole: the index at its end (moov) is missing; copy or "
    "record it again, or have its recorder repair it"
)

# Covers, previews of a player's bar, and what only makes sense together with another stream.
_BESIDE = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.dependent
# Whose decoders heed at any packet that frames to which none refers may be left out. Others read
# that once (libdav1d), or never.
_SKIP = {"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"}
# Which have no place for when a frame is shown, and for what codecs that matters in them.
_TIMES_OF_DECODING = {"avi", "mxf", "asf"}
# Whose files are found the same again at a seek to the beginning.
_INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv", "asf"}

av.logging.set_level(None)


def open_video(path: str | os.PathLike) -> tuple[av.container.InputContainer, av.VideoStream]:
    """Opens a file, and chooses the pictures that a player would show.

    Raises:
        VideoError: FFmpeg cannot read it, or it holds no pictures.
    """
    try:
        container = _open(path)
    except av.FFmpegError as err:
        if isinstance(err, OSError) and not os.path.isfile(path):
            raise VideoError(f"{path}: {err.strerror}; check the path") from err
        why = _UNFINISHED if _is_unfinished(path) else f"no frame in it can be decoded; {CONVERT}"
        raise VideoError(f"{path}: {why}") from err
    try:
        stream = _main_stream(path, container)
        check_pixels(path, stream.codec_context.width, stream.codec_context.height)
    except BaseException:
        container.close()
        raise
    # One file, one core: other files wait for the others.
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1
    return container, stream


def _open(path) -> av.container.InputContainer:
    # FFmpeg takes what stands before a colon for a protocol unless the path is absolute.
    return av.open(os.path.abspath(path), options=OPTIONS, metadata_errors="replace")


def _main_stream(path, container) -> av.VideoStream:
    known = [stream for stream in container.streams.video if stream.codec_context is not None]
    if not known:
        if container.streams.video:
            raise VideoError(f"{path}: its pictures are in a format not known here; {CONVERT}")
        if not container.streams and _is_unfinished(path):
            raise VideoError(f"{path}: {_UNFINISHED}")
        what = "sound only" if container.streams.audio else "no pictures"
        raise VideoError(f"{path}: holds {what}; name a video or a picture")
    tiles = [s for s in known if s.disposition & Disposition.dependent and s.frames == 1]
    if len(tiles) > 1:
        raise VideoError(
            f"{path}: a photo in {len(tiles)} tiles (HEIC), which are not put together here; "
            "save it as JPEG first: heif-convert INPUT OUTPUT.jpg"
        )

    def shown_first(stream):
        context = stream.codec_context
        beside = bool(stream.disposition & _BESIDE)
        default = bool(stream.disposition & Disposition.default)
        return not beside, default, stream.frames != 1, context.width * context.height

    return max(known, key=shown_first)


def _is_unfinished(path) -> bool:
    """Whether the index is missing that recorders write at the end of an MP4."""
    boxes = list(_boxes(path))
    return bool(boxes) and boxes[0][0] == b"ftyp" and (b"moov", True) not in boxes


def _boxes(path) -> Iterator[tuple[bytes, bool]]:
    """The kinds of the boxes that a file of the MP4 family consists of, and which are whole."""
    with open(path, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        place = 0
        while place < end and len(head := file.read(16)) >= 8:
            size, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if size == 1:  # it stands behind, in 64 bits
                size = int.from_bytes(head[8:], "big")
            if size < 8:  # all the rest
                size = end - place
            place += size
            yield kind, place <= end
            file.seek(place)


class Unplannable(Exception):
    """The packets of a file do not tell its frames; it has to be read straight through."""


class Stream:
    """Index of a video file, made of its packets, and decoder of single frames.

    Attributes:
        timeline: of the frames, in the order of showing.

    Raises:
        VideoError: FFmpeg cannot read the file, or it holds no pictures.
        Unplannable: packets without a time, or two with the same.
        av.FFmpegError: a packet is damaged.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = path
        self._container, self._video = open_video(path)
        try:
            self._list_packets()
        except BaseException:
            self.close()
            raise

    def close(self):
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_):
        self.close()

    def _list_packets(self):
        stamps, is_key, hidden = array("q"), bytearray(), bytearray()
        decoded_at = None
        for packet in self._container.demux(self._video):
            if not packet.size:  # the last one, which only says that there is no more
                break
            if packet.pts is None:
                raise Unplannable("a packet without a time")
            if packet.dts is not None:
                if decoded_at is not None and packet.dts < decoded_at:
                    raise Unplannable("the clock begins anew")
                decoded_at = packet.dts
            stamps.append(packet.pts)
            is_key.append(packet.is_keyframe)
            hidden.append(packet.is_discard)
        stamps = np.asarray(stamps)
        is_key, hidden = (np.frombuffer(flags, bool) for flags in (is_key, hidden))
        if hidden.all():
            raise Unplannable("no frame to show")
        if len(np.unique(stamps)) < len(stamps):
            raise Unplannable("two packets of the same time")
        told = self._container.format.name not in _TIMES_OF_DECODING
        if not told and self._video.codec_context.has_b_frames and (np.diff(stamps) > 0).all():
            raise Unplannable("the packets tell only when they are decoded")
        self._stamps, self._is_key = stamps, is_key
        shown = np.flatnonzero(~hidden)
        self._packets = shown[np.argsort(stamps[shown])]  # of each frame, as shown
        rate = self._video.average_rate
        seconds = stamps[self._packets] * float(self._video.time_base)
        self.timeline = Timeline.of(seconds, float(rate or 0))

    def near(self, chosen: np.ndarray, reach: float) -> np.ndarray:
        """Moves chosen frames to keyframes at most `reach` seconds away, where that pays.

        Keyframes decode alone, but where others have to be decoded all the same, what was
        chosen stands.
        """
        keyframes = np.flatnonzero(self._is_key[self._packets])
        moved = move_to_keyframes(self.timeline.times, chosen, keyframes, reach)
        cost, moved_cost = (self._needed(self._packets[c]).sum() for c in (chosen, moved))
        return moved if 2 * moved_cost < cost else chosen

    def frames(self, chosen: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
        """Yields frames as they are decoded, in the order of showing.

        Args:
            chosen: indices into the timeline, rising, no two the same.

        Yields:
            Its time in seconds from the first frame, and the frame: RGB, uint8,
            `(height, width, 3)`, turned the way a person sees it.

        Raises:
            Unplannable: a frame is damaged, or there is none where its packet promised one.
            av.FFmpegError: a packet is damaged.
        """
        packets = self._packets[chosen]
        times = dict(zip(self._stamps[packets].tolist(), self.timeline.times[chosen].tolist()))
        found, last, to_pixels = 0, -1.0, ToPixels()
        for frame in self._decode(packets):
            time = times.get(frame.pts)
            if time is None:
                continue
            if frame.is_corrupt:
                raise Unplannable("a damaged frame")
            if time <= last:
                raise Unplannable("times that are not in the order of the frames")
            found, last = found + 1, time
            yield time, to_pixels(frame)
        if found < len(times):
            raise Unplannable("fewer frames than packets")

    def _decode(self, wanted: np.ndarray) -> Iterator[av.VideoFrame]:
        """Feeds the decoder the wanted packets and what they are built upon."""
        self._rewind()
        decoder = self._video.codec_context
        may_skip = decoder.name in _SKIP
        needed = self._needed(wanted)
        exact = np.zeros(len(needed), bool)
        exact[wanted] = True
        skipped = False
        packets = (packet for packet in self._container.demux(self._video) if packet.size)
        for place, packet in zip(range(wanted.max() + 1), packets):
            if packet.pts != self._stamps[place]:
                raise Unplannable("other packets at the second reading")
            if not needed[place]:
                skipped = True
                continue
            if skipped:
                yield from decoder.decode(None)
                decoder.flush_buffers()
                skipped = False
            # On the way only frames are decoded that others refer to.
            if may_skip:
                decoder.skip_frame = "DEFAULT" if exact[place] else "NONREF"
            yield from decoder.decode(packet)
        yield from decoder.decode(None)

    def _rewind(self):
        """Makes the packets come again from the first one."""
        if self._container.format.name in _INDEXED:
            self._container.seek(int(self._stamps.min()), stream=self._video)
        else:
            self.close()
            self._container, self._video = open_video(self._path)

    def _needed(self, wanted: np.ndarray) -> np.ndarray:
        """Which packets have to be decoded for the wanted ones: bool, `(num_packets,)`."""
        keys = np.flatnonzero(self._is_key)
        needed = np.zeros(len(self._stamps), bool)
        for packet in wanted:
            before = np.searchsorted(keys, packet, side="right") - 1
            # A frame shown before the keyframe that it follows also refers to what lies before.
            if before >= 0 and self._stamps[packet] < self._stamps[keys[before]]:
                before -= 1
            if before < 0:
                raise Unplannable("no keyframe to begin with")
            needed[keys[before] : packet + 1] = True
        return needed
