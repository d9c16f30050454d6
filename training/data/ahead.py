"""Reading in threads, ahead of whoever uses what is read."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor


def read_ahead(read: Callable, items: Iterable) -> Iterator:
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
