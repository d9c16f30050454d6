"""An animated WebP -> its frames: FFmpeg does not read it, so Pillow does."""

import os
from collections.abc import Iterator
from typing import BinaryIO, Self

import numpy as np
from PIL import Image

from ..errors import VideoError
from .pictures import to_rgb
from .pixels import check_pixels
from .sampling import Timeline

# Milliseconds: browsers show frames of so few, or of none, for longer.
_TOO_SHORT, _INSTEAD = 10, 100


def is_webp(path: str | os.PathLike) -> bool:
    """Whether a file is a WebP; that it moves tells `pictures.is_still`."""
    with open(path, "rb") as file:
        head = file.read(12)
    return head.startswith(b"RIFF") and head.endswith(b"WEBP")


class Animation:
    """The frames of an animated WebP, as `pyav.Stream` has those of a video.

    Attributes:
        timeline: of the frames.

    Raises:
        VideoError: its frames are too large to hold.
    """

    def __init__(self, path: str | os.PathLike):
        self._path, durations = path, []
        with open(path, "rb") as file:
            for kind, data in _chunks(file):
                if kind == b"VP8X":
                    width, height = (
                        1 + int.from_bytes(data[at : at + 3], "little") for at in (4, 7)
                    )
                    check_pixels(path, width, height)
                elif kind == b"ANMF":
                    durations.append(int.from_bytes(data[12:15], "little"))
        lasts = np.array(durations)
        ends = np.cumsum(np.where(lasts > _TOO_SHORT, lasts, _INSTEAD)) / 1000
        self.timeline = Timeline(np.concatenate(([0.0], ends[:-1])), float(ends[-1]))

    def near(self, chosen: np.ndarray, reach: float) -> np.ndarray:
        """What is chosen: each frame is built upon all before it."""
        return chosen

    def frames(self, chosen: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
        """Yields frames, in the order of showing; see `pyav.Stream.frames`.

        Raises:
            VideoError: the file is damaged.
        """
        try:
            with Image.open(self._path, formats=["WEBP"]) as image:
                for index in chosen.tolist():
                    image.seek(index)
                    yield float(self.timeline.times[index]), to_rgb(image)
        except (OSError, EOFError, ValueError) as err:
            raise VideoError(
                f"{self._path}: this animation is damaged or not all there ({err}); copy it again"
            ) from err

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_):
        pass


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The kinds of the parts that a WebP consists of, and the beginning of each."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        start, size = file.tell(), int.from_bytes(head[4:], "little")
        yield head[:4], file.read(min(size, 16))
        file.seek(start + size + size % 2)
