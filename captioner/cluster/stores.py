"""Videos in object stores, and wherever else pyarrow's filesystems reach: s3, gs, abfs, hdfs, file.

What is known to an address is left to `pyarrow.fs.FileSystem.from_uri`: regions, endpoints and
credentials come from the address or from the environment, as its documentation tells.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ..errors import CaptionerError, VideoError
from ..video import is_video


@dataclass(frozen=True)
class Stored:
    """A file in a store.

    Attributes:
        video: its address.
        filesystem: a `pyarrow.fs.FileSystem`.
        path: in that filesystem.
        modified: when it was last changed, nanoseconds since 1970, where the store tells.
    """

    video: str
    filesystem: Any
    path: str
    modified: int | None = None

    def __str__(self) -> str:
        return self.video


def is_address(path: str | os.PathLike) -> bool:
    """Whether this is an address, and no path."""
    return "://" in str(path)


def open_store(address: str) -> tuple[Any, str]:
    """The `pyarrow.fs.FileSystem` of an address, or of a path, and the path in it.

    Raises:
        CaptionerError: pyarrow is missing, or cannot reach it.
    """
    try:
        from pyarrow.fs import FileSystem, LocalFileSystem
    except ImportError as err:
        raise CaptionerError(f'{address}: needs pyarrow: pip install "captioner[ray]"') from err
    if not is_address(address):
        return LocalFileSystem(), os.path.abspath(address)
    try:
        return FileSystem.from_uri(address)
    except (OSError, ValueError) as err:
        raise CaptionerError(f"{address}: cannot be reached: {err}") from err


def find_stored(address: str, recursive: bool = False) -> Iterator[tuple[str, Stored]]:
    """The videos and pictures at an address, with their paths below it, folder by folder.

    Hidden files and folders are skipped. Memory holds the names in one folder.

    Raises:
        VideoError: there is nothing, or it cannot be listed.
    """
    from pyarrow.fs import FileType

    filesystem, root = open_store(address)
    try:
        [info] = filesystem.get_file_info([root])
        if info.type == FileType.File:
            yield info.base_name, Stored(address, filesystem, root, info.mtime_ns)
        elif info.type == FileType.Directory:
            whole, _, query = address.partition("?")
            for found in _walk(filesystem, root, recursive):
                name = found.path[len(root) :].lstrip("/")
                video = f"{whole.rstrip('/')}/{name}" + (f"?{query}" if query else "")
                yield name, Stored(video, filesystem, found.path, found.mtime_ns)
        else:
            raise VideoError(f"{address}: there is no such file or folder")
    except OSError as err:
        raise VideoError(f"{address}: cannot be listed: {err}") from err


def _walk(filesystem, folder, recursive):
    from pyarrow.fs import FileSelector, FileType

    for info in sorted(filesystem.get_file_info(FileSelector(folder)), key=lambda i: i.path):
        if info.base_name.startswith("."):
            continue
        if info.type == FileType.File and is_video(info.base_name):
            yield info
        elif info.type == FileType.Directory and recursive:
            yield from _walk(filesystem, info.path, recursive)


@contextmanager
def fetched(stored: Stored) -> Iterator[str]:
    """A copy on this machine, for as long as it is read, with the time of the original.

    Raises:
        VideoError: it cannot be fetched.
    """
    with tempfile.TemporaryDirectory(prefix="captioner-") as folder:
        path = os.path.join(folder, f"video{PurePosixPath(stored.path).suffix}")
        try:
            with stored.filesystem.open_input_stream(stored.path) as source, open(path, "wb") as to:
                shutil.copyfileobj(source, to, 1 << 20)
        except OSError as err:
            raise VideoError(f"{stored}: cannot be fetched: {err}") from err
        if stored.modified is not None:
            os.utime(path, ns=(stored.modified, stored.modified))
        yield path
