"""Prefetching: labelled clips -> frames, read in threads, ahead of their use."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from captioner.config import SamplingOptions
from captioner.errors import DatasetError, VideoError
from captioner.video import read_frames, read_pictures

from .manifest import LabelledClip

Item, Found = TypeVar("Item"), TypeVar("Found")


def read_clip(
    clip: LabelledClip, sampling: SamplingOptions, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Samples frames evenly over a clip, also over one that comes as frames.

    Args:
        clip: what to read.
        sampling: how many frames to take.
        size: `(height, width)` of each, pixels; None: as large as the first.

    Returns:
        uint8 RGB, `(num_frames, height, width, 3)`.

    Raises:
        VideoError: it cannot be read.
    """
    if not clip.frames:
        return read_frames(clip.path, sampling, size, clip.start, clip.end).frames
    return read_pictures(clip.frames, sampling, size).frames


def read_ahead(read: Callable[[Item], Found], items: Iterable[Item]) -> Iterator[Found]:
    """`map` in as many threads as there are cores, in order, and only a little ahead.

    Decoding a video leaves Python free for others, so threads do. What was not begun when the
    iteration ends is never read.
    """
    workers = max(2, os.cpu_count() or 1)
    pending = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            pending.append(pool.submit(read, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def read_each(
    read: Callable[[Item], Found], items: Sequence[Item], unit: str = "clip", map=read_ahead
) -> Iterator[tuple[Item, Found | VideoError]]:
    """Reads items, with a progress bar.

    Args:
        read: reads one.
        items: what to read.
        unit: what one is called.
        map: calls `read`, in order; the built-in one where reading is not all that `read` does.

    Yields:
        Each item, and what `read` returned or why the item cannot be read.
    """

    def attempt(item):
        try:
            return item, read(item)
        except VideoError as err:
            return item, err

    yield from tqdm(map(attempt, items), total=len(items), unit=unit, disable=None)


def readable(
    read: Callable[[Item], Found],
    items: Sequence[Item],
    unit: str = "clip",
    map=read_ahead,
    unreadable: list[tuple[Item, str]] | None = None,
) -> Iterator[tuple[Item, Found]]:
    """As `read_each`, without those that cannot be read, of which a line on stderr says why.

    Args:
        read: as for `read_each`.
        items: as for `read_each`.
        unit: as for `read_each`.
        map: as for `read_each`.
        unreadable: gets those that cannot be read, and why.

    Raises:
        DatasetError: in the end, if there are items and none can be read.
    """
    count = 0
    for item, found in read_each(read, items, unit, map):
        if isinstance(found, VideoError):
            tqdm.write(f"captioner: {found}; left out", file=sys.stderr)
            if unreadable is not None:
                unreadable.append((item, str(found)))
        else:
            count += 1
            yield item, found
    if items and not count:
        raise DatasetError(f"none of the {unit}s can be read; check their paths in the labels")
