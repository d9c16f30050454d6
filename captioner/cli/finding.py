"""Paths and addresses -> the files to caption, in order, or a part of them."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

from ..caption import Failure
from ..cluster.stores import Stored, find_stored, is_address
from ..errors import VideoError
from ..video import find_videos


def find(
    paths: Iterable[str],
    recursive: bool,
    model: str,
    shard: tuple[int, int] | None = None,
    tell: Callable[[str], object] | None = None,
    frames_folders: bool = False,
) -> Iterator[str | Stored | Failure]:
    """The files named, and those in the folders named; a folder without any is a failure.

    Args:
        paths: files, folders, addresses.
        recursive: whether folders in folders are searched too.
        model: the name that failures bear.
        shard: `(place, num_parts)`: of those found the ones whose path, within the folder named,
            hashes to the place, on every machine the same.
        tell: is told of what lies in a folder and is not given.
        frames_folders: whether a folder is one clip, its pictures the frames.
    """
    for path in paths:
        if not is_address(path) and (frames_folders or not os.path.isdir(path)):
            if _is_in(shard, path):
                yield path
            continue
        empty, passed_over = True, Counter()
        try:
            for name, video in _find_in(path, recursive, passed_over):
                empty = False
                if _is_in(shard, name):
                    yield video
        except VideoError as err:
            yield Failure(path, str(err), model)
            continue
        if passed_over and tell:
            kinds = ", ".join(f"{kind} {number}" for kind, number in passed_over.most_common(8))
            tell(f"captioner: {path}: {passed_over.total()} passed over: {kinds}")
        if empty:
            deeper = "" if recursive else "; --recursive searches the folders in it too"
            yield Failure(path, f"{path}: holds no video or picture{deeper}", model)


def _find_in(
    folder: str, recursive: bool, passed_over: Counter
) -> Iterator[tuple[str, str | Stored]]:
    """The videos of a folder and their paths within it."""
    if is_address(folder):
        yield from find_stored(folder, recursive)
        return
    for video in map(str, find_videos(folder, recursive, passed_over)):
        yield os.path.relpath(video, folder), video


def _is_in(shard, name: str) -> bool:
    if shard is None:
        return True
    place, num_parts = shard
    digest = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % num_parts == place
