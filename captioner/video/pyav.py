"""A video -> some of its frames, and little else of it decoded: keyframes, and what leads from
one to a frame that is wanted (PyAV)."""

from array import array
from collections.abc import Iterator
from typing import Self

import av
import numpy as np

from .sampling import Timeline, move_to_keyframes

# Demuxers that read the one file they are given. Left out are those that follow a text to other
# files or hosts (hls, concat, dash, sdp) and those that take a name for a pattern (image2).
DEMUXERS = (
    "aac,aiff,apng,asf,av1,avi,avs2,dv,flac,flv,gif,h264,hevc,ivf,m4v,matroska,webm,mjpeg,mp3,mov,"
    "mpeg,mpegts,mpegvideo,mxf,nut,obu,ogg,rm,vc1,wav,wtv,yuv4mpegpipe"
)
# Not a word to the network, nor to another file, whatever a container says.
OPTIONS = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS}

av.logging.set_level(None)


class Unplannable(Exception):
    """The packets of a file do not tell its frames; it has to be read straight through."""


class Stream:
    """The pictures of a video file, by what its packets say of themselves.

    Attributes:
        timeline: of the frames, in the order of showing.
        width: of a frame, pixels, before it is turned.
        height: likewise.

    Raises:
        Unplannable: packets without a time, or two with the same.
        av.FFmpegError: FFmpeg cannot read the file.
    """

    def __init__(self, name: str):
        self._container = av.open(name, options=OPTIONS, metadata_errors="replace")
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
        streams = self._container.streams.video
        if not streams or streams[0].codec_context is None:
            raise Unplannable("no video in a known format")
        self._video = streams[0]
        # Threads would win little where most packets are skipped, and other files wait.
        self._video.thread_type = "NONE"
        self.width, self.height = self._video.codec_context.width, self._video.codec_context.height
        stamps, is_key, hidden = array("q"), bytearray(), bytearray()
        for packet in self._container.demux(self._video):
            if not packet.size:  # the last one, which only says that there is no more
                break
            if packet.pts is None:
                raise Unplannable("a packet without a time")
            stamps.append(packet.pts)
            is_key.append(packet.is_keyframe)
            hidden.append(packet.is_discard)
        stamps = np.asarray(stamps)
        is_key, hidden = (np.frombuffer(flags, bool) for flags in (is_key, hidden))
        if hidden.all():
            raise Unplannable("no frame to show")
        if len(np.unique(stamps)) < len(stamps):
            raise Unplannable("two packets of the same time")
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
            Its time in seconds from the first frame, and the frame: BGR, uint8,
            `(height, width, 3)`, turned the way a person sees it.

        Raises:
            Unplannable: a frame is damaged, or there is none where its packet promised one.
            av.FFmpegError: a packet is damaged.
        """
        packets = self._packets[chosen]
        times = dict(zip(self._stamps[packets].tolist(), self.timeline.times[chosen].tolist()))
        found = 0
        for frame in self._decode(packets):
            time = times.get(frame.pts)
            if time is None:
                continue
            if frame.is_corrupt:
                raise Unplannable("a damaged frame")
            found += 1
            pixels = np.rot90(frame.to_ndarray(format="bgr24"), round(frame.rotation / 90))
            yield time, np.ascontiguousarray(pixels)
        if found < len(times):
            raise Unplannable("fewer frames than packets")

    def _decode(self, wanted: np.ndarray) -> Iterator[av.VideoFrame]:
        """Feeds the decoder the wanted packets and what they are built upon."""
        decoder = self._video.codec_context
        needed = self._needed(wanted)
        exact = np.zeros(len(needed), bool)
        exact[wanted] = True
        self._container.seek(int(self._stamps.min()), stream=self._video)
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
            decoder.skip_frame = "DEFAULT" if exact[place] else "NONREF"
            yield from decoder.decode(packet)
        yield from decoder.decode(None)

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
