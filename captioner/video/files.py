"""Search for videos and pictures in folders, by their suffixes."""

import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ..errors import VideoError

SUFFIXES = tuple(
    ".264 .265 .266 .3g2 .3gp .amv .asf .avi .dav .divx .dv .f4v .flv .h264 .h265 .hevc .insv .ivf"
    " .m1v .m2p .m2t .m2ts .m2v .m4v .mj2 .mjpeg .mjpg .mkv .mov .mp4 .mpe .mpeg .mpg .mts .mxf"
    " .nut .ogm .ogv .qt .rm .rmvb .tod .trp .ts .vob .webm .wmv .wtv .y4m"
    " .apng .avif .bmp .gif .heic .heif .jfif .jp2 .jpe .jpeg .jpg .mpo .png .qoi .tif .tiff"
    " .webp".split()
)
# How the content of the most usual ones begins, where the name does not tell.
_BEGINS = re.compile(
    rb"....ftyp(?!M4[AB])|\x1aE\xdf\xa3|RIFF....(AVI |WEBP)|\xff\xd8\xff|\x89PNG\r\n|GIF8|FLV\x01"
    rb"|\0\0\x01[\xba\xb3]|\x30\x26\xb2\x75\x8e\x66\xcf\x11|nut/multi|\.RMF\0|YUV4MPEG2",
    re.DOTALL,
)
# What is only beside a video, is sound, or not yet all there, whatever it begins with.
_NEVER = set(".thm .lrv .m4a .m4b .m4p .m4r .mka .weba .wma .part .crdownload .tmp".split())

_SORTED_TOGETHER = 10_000
_log = logging.getLogger(__name__)


def is_video(path: str | os.PathLike) -> bool:
    """Tells by its suffix whether a file in a folder is taken for a video or a picture."""
    return Path(path).suffix.lower() in SUFFIXES


def find_videos(
    folder: str | os.PathLike, recursive: bool = False, passed_over: Counter | None = None
) -> Iterator[Path]:
    """Yields the videos and pictures of a folder in the order of their paths, one by one.

    Of a file whose name does not tell its content decides. Links that lead nowhere and all else
    that bears the name of a video are yielded too: reading them says what ails them.

    Memory is bounded: of a folder of more than ten thousand entries, so many at a time are put
    in order. Hidden files and folders are skipped, and links to folders are not followed, so no
    loop of links can be entered. A subfolder that cannot be listed is logged and passed over.

    Args:
        folder: where to search.
        recursive: whether to search the folders in it too.
        passed_over: counts what is not yielded, by suffix or kind.

    Raises:
        VideoError: `folder` itself cannot be listed.
    """
    passed_over = Counter() if passed_over is None else passed_over
    try:
        with os.scandir(folder) as entries:
            while some := sorted(islice(entries, _SORTED_TOGETHER), key=lambda entry: entry.name):
                for entry in some:
                    yield from _videos_of(entry, recursive, passed_over)
    except OSError as err:
        raise VideoError(f"{folder}: cannot be listed, {err.strerror}; name a folder") from err


def _videos_of(entry: os.DirEntry, recursive: bool, passed_over: Counter) -> Iterator[Path]:
    if entry.name.startswith("."):
        return
    if entry.is_dir(follow_symlinks=False):
        if recursive:
            try:
                yield from find_videos(entry.path, True, passed_over)
            except VideoError as err:
                _log.warning("%s", err)
    elif entry.is_symlink() and os.path.isdir(entry.path):
        passed_over["links to folders"] += 1
    elif is_video(entry.name) or _begins_as_video(entry):
        yield Path(entry.path)
    else:
        passed_over[Path(entry.name).suffix.lower() or "without suffix"] += 1


def _begins_as_video(entry: os.DirEntry) -> bool:
    if Path(entry.name).suffix.lower() in _NEVER:
        return False
    try:
        if not stat.S_ISREG(os.stat(entry.path).st_mode):
            return False
        with open(entry.path, "rb") as file:
            return _BEGINS.match(file.read(16)) is not None
    except OSError:  # of what has not the name of a video nothing has to be told
        return False
