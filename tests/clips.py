"""Clips whose frames tell which they are, and files made odd on purpose."""

import struct

import cv2
import numpy as np


def numbered_frame(number, height=48, width=64):
    """A frame of eight stripes, black and white as the bits of its number."""
    bits = np.array([number >> bit & 1 for bit in range(8)], np.uint8)
    stripes = np.repeat(255 * bits, width // 8)
    return np.repeat(np.tile(stripes, (height, 1))[..., None], 3, axis=2)


def numbers_of(frames):
    """Which numbered frames these are."""
    stripes = frames.mean((1, 3)).reshape(len(frames), 8, -1).mean(2)
    return [sum(1 << bit for bit in range(8) if row[bit] > 127) for row in stripes]


def write_clip(path, frames, fps=10, codec="mp4v"):
    """Writes BGR frames; returns the path."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def write_gif(path, frames, durations):
    """Writes an animated GIF, each frame shown for so many milliseconds."""
    animation = cv2.Animation()
    animation.frames = frames
    animation.durations = durations
    assert cv2.imwriteanimation(str(path), animation)
    return path


def _edit_boxes(data, path, edit):
    """Applies `edit` to the payload of the MP4 box at `path`, `b"moov/trak/..."`, sizes mended."""
    name, _, rest = path.partition(b"/")
    out, place = b"", 0
    while place < len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        payload = data[place + 8 : place + size]
        if kind == name:
            payload = _edit_boxes(payload, rest, edit) if rest else edit(payload)
        out += struct.pack(">I4s", len(payload) + 8, kind) + payload
        place += size
    return out


def make_frame_rate_variable(path, milliseconds):
    """Gives the frames of an MP4 written by OpenCV these durations."""
    data = path.read_bytes().replace(b"edts", b"free")  # which would cut it at its old duration
    scales = []
    _edit_boxes(data, b"moov/trak/mdia/mdhd", lambda p: scales.append(p[12:16]) or p)
    scale = struct.unpack(">I", scales[0])[0]
    entries = [struct.pack(">II", 1, round(ms * scale / 1000)) for ms in milliseconds]
    table = struct.pack(">II", 0, len(entries)) + b"".join(entries)
    path.write_bytes(_edit_boxes(data, b"moov/trak/mdia/minf/stbl/stts", lambda _: table))


def turn(path, quarters=1):
    """Writes into an MP4 that it is to be shown turned clockwise, as a phone held upright does."""
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters]
    one = 1 << 16
    matrix = struct.pack(
        ">9i", cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30
    )
    edit = lambda payload: payload[:40] + matrix + payload[76:]  # noqa: E731
    path.write_bytes(_edit_boxes(path.read_bytes(), b"moov/trak/tkhd", edit))


def add_exif_orientation(path, orientation):
    """Puts an EXIF orientation into a JPEG."""
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    segment = b"Exif\0\0" + tiff
    data = path.read_bytes()
    marker = b"\xff\xe1" + struct.pack(">H", len(segment) + 2)
    path.write_bytes(data[:2] + marker + segment + data[2:])


def write_photograph_clip(path, seconds=4, fps=25):
    """Writes a clip, 640 x 360, that pans over a photograph of a cup of coffee."""
    from skimage import data

    photograph = cv2.cvtColor(data.coffee(), cv2.COLOR_RGB2BGR)
    height, width = photograph.shape[:2]
    rows = width * 9 // 16
    tops = np.linspace(0, height - rows, int(seconds * fps)).astype(int)
    frames = [cv2.resize(photograph[top : top + rows], (640, 360)) for top in tops]
    write_clip(path, frames, fps)
