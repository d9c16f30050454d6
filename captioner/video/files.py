"""Which files are videos or pictures, and those in a folder."""

import logging
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ..errors import VideoError

SUFFIXES = tuple(
    ".3gp .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv"
    " .bmp .jpeg .jpg .png .tif .tiff .webp".split()
)

_SORTED_TOGETHER = 10_000
_log = logging.getLogger(__name__)


def is_video(path: str | os.PathLike) -> bool:
    """Tells by its suffix whether a file in a folder is taken for a video or a picture."""
    return Path(path).suffix.lower() in SUFFIXES


def find_videos(folder: str | os.PathLike, recursive: bool = False) -> Iterator[Path]:
    """Yields the videos and pictures of a folder in the order of their paths, one by one.

    Memory is bounded: of a folder of more than ten thousand entries, so many at a time are put
    in order. Hidden files and folders are skipped, and links to folders are not followed, so no
    loop of links can be entered. A subfolder that cannot be listed is logged and passed over.

    Raises:
        VideoError: `folder` itself cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            while some := sorted(islice(entries, _SORTED_TOGETHER), key=lambda entry: entry.name):
                for entry in some:
                    yield from _videos_of(entry, recursive)
    except OSError as err:
        raise VideoError(f"{folder}: cannot be listed, {err.strerror}; name a folder") from err


def _videos_of(entry: os.DirEntry, recursive: bool) -> Iterator[Path]:
    if entry.name.startswith("."):
        return
    if entry.is_dir(follow_symlinks=False):
        if recursive:
            try:
                yield from find_videos(entry.path, recursive=True)
            except VideoError as err:
                _log.warning("%s", err)
    elif is_video(entry.name) and os.path.isfile(entry.path):
        yield Path(entry.path)
