"""A decoded frame -> pixels: its colours, the way it is turned, its size."""

import os
import struct
from collections.abc import Iterable
from math import cos, radians, sin

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import ColorRange

from ..errors import VideoError

MEGAPIXELS = 68  # of a frame, at most: 8192 x 8192

# Of animated pictures, whose transparent parts are shown on white. In videos it is seldom meant.
_TRANSPARENT = {"rgba", "rgba64be", "ya8", "ya16be", "pal8"}
# Of the H.273 matrices that FFmpeg's converter refuses: this one has simple sums of its own, and
# of the others, all of wide gamut, BT.2020's is near.
_YCGCO, _BT2020, _UNSPECIFIED = 8, 9, 2


def allow_megapixels(most: float):
    """Sets how large frames may be in this process; unless it is called, `MEGAPIXELS`."""
    global _most_pixels
    _most_pixels = most * 1e6


_most_pixels = MEGAPIXELS * 1e6


def reduction_of(width: int, height: int) -> int | None:
    """By which of 1, 2, 4 and 8 a side is to be divided for a frame that is not too large."""
    return next((n for n in (1, 2, 4, 8) if width * height <= _most_pixels * n**2), None)


def check_pixels(path: str | os.PathLike, width: int, height: int):
    """Refuses frames that are too large to hold.

    Raises:
        VideoError: a frame has more than are allowed.
    """
    if width * height > _most_pixels:
        raise VideoError(
            f"{path}: has frames of {width} x {height} pixels, and more than "
            f"{_most_pixels / 1e6:g} million are not read; allow more with --pixel-limit, or make "
            "it smaller: ffmpeg -i INPUT -vf scale=1280:-2 OUTPUT, with the suffix that it has"
        )


class ToPixels:
    """Makes pixels of the frames of one video."""

    def __init__(self):
        self._matrix: tuple[int, ...] | None = None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """A frame as a person sees it, upright: RGB, uint8, `(height, width, 3)`.

        Raises:
            av.FFmpegError: it has a format that cannot be converted.
        """
        if self._matrix is None:
            # Asked of one frame only: to ask keeps a frame in memory until garbage is collected.
            self._matrix = _display_matrix(frame)
        try:
            pixels = _on_white(frame) if frame.format.name in _TRANSPARENT else _convert(frame)
        except (av.FFmpegError, ValueError):
            pixels = _from_rare_colours(frame)
        if self._matrix:
            pixels = _upright(pixels, self._matrix)
        return np.ascontiguousarray(pixels)


def _convert(frame: av.VideoFrame, layout: str = "rgb24") -> np.ndarray:
    # More threads would each take address space, of which a reader has only so much.
    return frame.to_ndarray(format=layout, threads=1)


def _on_white(frame: av.VideoFrame) -> np.ndarray:
    pixels = _convert(frame, "rgba")
    colours, alpha = pixels[..., :3], pixels[..., 3:]
    if (alpha == 255).all():
        return colours
    return np.rint(255 + (colours - 255.0) * (alpha / 255)).astype(np.uint8)


def _display_matrix(frame: av.VideoFrame) -> tuple[int, ...]:
    try:
        matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
    except ValueError:  # beside it lies what PyAV does not know, and all that it tells is the turn
        turn = radians(frame.rotation)
        cosine, sine = round(cos(turn) * 65536), round(sin(turn) * 65536)
        return (cosine, -sine, 0, sine, cosine) if turn else ()
    return struct.unpack("=9i", bytes(matrix)[:36]) if matrix else ()


def _from_rare_colours(frame: av.VideoFrame) -> np.ndarray:
    if frame.colorspace != _YCGCO:
        frame.colorspace = _BT2020
        return _convert(frame)
    frame.colorspace = _UNSPECIFIED
    planes = _convert(frame, "yuv444p").astype(np.float32)
    luma, green, orange = planes[0], planes[1] - 128, planes[2] - 128
    if frame.color_range != ColorRange.JPEG:
        luma, green, orange = (luma - 16) * 255 / 219, green * 255 / 224, orange * 255 / 224
    rest = luma - green
    pixels = np.stack([rest + orange, luma + green, rest - orange], -1)
    return pixels.round().clip(0, 255).astype(np.uint8)


def _upright(pixels: np.ndarray, matrix: tuple[int, ...]) -> np.ndarray:
    """Turns and mirrors as a display matrix says."""
    # Of a place (x, y) of the picture: x' = a x + c y, y' = b x + d y.
    a, b, _, c, d, *_ = matrix
    if abs(a) + abs(d) < abs(b) + abs(c):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    if a < 0:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if d < 0 else pixels


def fit_all(found: Iterable[tuple[float, np.ndarray]], size) -> dict[float, np.ndarray]:
    """Frames of one size, by what they came with."""
    fitted = {}
    for key, frame in found:
        size = size or frame.shape[:2]  # a stream may change its size on the way
        fitted[key] = fit(frame, size)
    return fitted


def fit(frame: np.ndarray, size) -> np.ndarray:
    """Returns a frame squashed to `size`, `(height, width)`, where given."""
    if size is None or tuple(size) == frame.shape[:2]:
        return frame
    return cv2.resize(frame, tuple(size)[::-1], interpolation=cv2.INTER_AREA)
