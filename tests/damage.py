"""Clips in four containers, and ways to damage them."""

import struct

import av

from .clips import numbered_frame

CONTAINERS = {".mp4": "libx264", ".mkv": "libx264", ".avi": "mpeg4", ".webm": "libvpx"}


def encode(path, codec, num_frames=12, gop=6, size=(48, 64)):
    """Writes a numbered clip with PyAV; returns the path."""
    height, width = size
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = gop
        if codec == "libx264":
            stream.options = {"x264-params": "scenecut=0"}
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, *size), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def flip(data, other, random):
    """Some bytes are others."""
    damaged = bytearray(data)
    for place in random.integers(0, len(data), random.integers(1, 60)):
        damaged[place] ^= random.integers(1, 256)
    return bytes(damaged)


def cut(data, other, random):
    """The end is missing."""
    return data[: random.integers(0, len(data))]


def splice(data, other, random):
    """It goes on as another file does."""
    place = random.integers(0, len(data))
    return data[:place] + other[random.integers(0, len(other)) :]


def forge(data, other, random):
    """Numbers in its headers are huge: sizes of boxes, frames, tables."""
    damaged = bytearray(data)
    tables = [data.find(name) for name in (b"avc1", b"tkhd", b"stsz", b"stts", b"strf", b"vide")]
    places = [place + random.integers(4, 40) for place in tables if place >= 0]
    places += random.integers(0, min(len(data), 600), 3).tolist()
    huge = (0x7FFFFFFF, 0xFFFFFFFF, 0x00FFFFFF, 0xFFFF, 0x40000000)
    for place in random.choice(places, 2):
        struct.pack_into(">I", damaged, min(int(place), len(data) - 4), int(random.choice(huge)))
    return bytes(damaged)


DAMAGES = (flip, cut, splice, forge)
