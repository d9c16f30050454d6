"""A file for each video, subtitles or labels: where it goes, written whole or not at all."""

import errno
import filecmp
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path, PurePath
from unicodedata import normalize

from .errors import CaptionerError

_LONGEST_NAME = 240  # bytes; file systems take 255, of which an unfinished file needs a few more
_UP, _ROOT = "__", "__root"  # folders that stand for `..` and `/`


class Sidecars:
    """The files of many videos in one folder, no two of which share one.

    Nor do they on disks that take `A.srt` and `a.srt`, or the two ways to write an umlaut, for one
    name: the second one gets a digest.
    """

    def __init__(self, folder: Path, suffix: str):
        self._folder, self._suffix = folder, suffix
        self._names = lru_cache(maxsize=64)(_names_in)

    def path_of(self, video: str) -> Path:
        """Where the file of a video goes: by its path, which cannot lead out of the folder."""
        parts = [_part(part) for part in PurePath(video).parts]
        name = os.fsencode(parts[-1])
        if len(name) + len(self._suffix) > _LONGEST_NAME:
            parts[-1] = _with_digest(name[:180].decode("utf-8", "ignore"), video)
        path = self._folder
        for place, part in enumerate(parts):
            last = place == len(parts) - 1
            suffix = self._suffix if last else ""
            names = self._names(path)
            if names.setdefault(_alike(part + suffix), part + suffix) != part + suffix:
                part = _with_digest(part, video if last else part)
            path /= part + suffix
        return path


def _part(part: str) -> str:
    if part in ("..", "/", "//"):
        return _UP if part == ".." else _ROOT
    return f"_{part}" if part.startswith(_UP) else part


def _names_in(folder: Path) -> dict[str, str]:
    """The names in a folder, by what is alike of them."""
    names = {}
    with suppress(FileNotFoundError, NotADirectoryError):
        names = {_alike(name): name for name in os.listdir(folder)}
    return names


def _alike(name: str) -> str:
    return normalize("NFC", normalize("NFC", name).casefold())


def _with_digest(name: str, text: str) -> str:
    return f"{name}-{digest_of(text):016x}"


def digest_of(text: str) -> int:
    """A path in 64 bits."""
    digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def write_whole(path: Path, pieces: Iterable[str]):
    """Writes a file, and the folders it is in, so that all of it is there or nothing.

    What the file held before, if that was something else, is kept.

    Raises:
        CaptionerError: it cannot be written.
    """
    new = path.with_name(f".{path.name}.new")
    with plainly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with new.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(pieces)
            if path.exists() and not filecmp.cmp(path, new, shallow=False):
                keep(path)
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)


def keep(path: Path) -> Path:
    """Copies a file to one beside it with a `~` more, where none is yet.

    Raises:
        CaptionerError: that cannot be written.
    """
    kept = path.with_name(path.name + "~")
    while kept.exists():
        kept = kept.with_name(kept.name + "~")
    with plainly(kept):
        shutil.copyfile(path, kept)
    return kept


@contextmanager
def plainly(path) -> Iterator[None]:
    """Tells in plain words why a file cannot be written."""
    try:
        yield
    except OSError as err:
        full = err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise CaptionerError(
            f"{path}: cannot be written: {err.strerror}"
            + ("; make room and go on with --resume, all rows so far are whole" if full else "")
        ) from err
