"""When a file was recorded, by what it says itself; run in the worker, as all that reads files."""

import time
from datetime import datetime
from pathlib import Path

import av
from PIL import Image, UnidentifiedImageError

from .media import HEAD, media_type

# Cameras whose clock was never set say 1904, 1970 or 1980.
_FIRST = datetime(1981, 1, 1).timestamp()
_KEYS = ("com.apple.quicktime.creationdate", "creation_time", "date_recorded", "date")
_EXIF, _ORIGINAL, _CHANGED, _OFFSET = 0x8769, 0x9003, 0x0132, 0x9011


def recorded(path: Path) -> float | None:
    """When a picture or a video was taken, seconds since 1970; None where it does not say."""
    try:
        with path.open("rb") as file:
            is_picture = (media_type(file.read(HEAD)) or "").startswith("image/")
        told = _of_picture(path) if is_picture else _of_video(path)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, av.FFmpegError):
        return None  # what is wrong with the file is said by whoever reads its frames
    for text in filter(None, told):
        when = _parse(text)
        if when is not None and _FIRST < when < time.time() + 86400:
            return when
    return None


def _of_picture(path):
    with Image.open(path) as picture:
        exif = picture.getexif()
        inner = exif.get_ifd(_EXIF)
    original = inner.get(_ORIGINAL)
    offset = str(inner.get(_OFFSET, "")).strip("\0 ")
    return [f"{original}{offset}" if original else None, original, exif.get(_CHANGED)]


def _of_video(path):
    with av.open(str(path), metadata_errors="ignore") as container:
        told = [container.metadata, *(stream.metadata for stream in container.streams)]
        return [values[key] for key in _KEYS for values in told if key in values]


def _parse(text):
    """`2024-05-06T10:11:12.000000Z`, `2024:05:06 10:11:12`: of this machine's zone without one."""
    text = str(text).strip("\0 ")
    if text[4:5] == ":":
        text = text.replace(":", "-", 2)
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
