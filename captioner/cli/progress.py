"""Progress bar of a batch, as one line: done, failed, clips a second, time left."""

import os
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Self

from tqdm import tqdm

from ..caption import Caption, Failure


def tell(message: str):
    """Prints a message on stderr, beside the progress bar."""
    tqdm.write(message, file=sys.stderr)


def tell_kept(output: str | os.PathLike, kept: str | os.PathLike):
    """Prints where the output of an earlier run was moved."""
    print(f"captioner: what {output} held is now in {kept}", file=sys.stderr)


class Progress:
    """Counts results and, on a terminal, shows the counts.

    How many there are to come is counted beside the work, so that nothing waits for it; until
    that is known there is no time left to tell.
    """

    def __init__(self, todo: Callable[[], Iterable]):
        """Starts at zero; `todo` lists what there is to do."""
        self.captioned = self.failed = 0
        self._todo = todo
        self._closed = threading.Event()
        self._bar = tqdm(
            unit="clip",
            file=sys.stderr,
            disable=None,
            dynamic_ncols=True,
            smoothing=0,  # clips come in batches
            bar_format="{desc}{rate_fmt}, {elapsed} gone, {remaining} left",
        )
        self._tell()

    def add(self, result: Caption | Failure):
        """Counts a result."""
        self.failed += isinstance(result, Failure)
        self.captioned += not isinstance(result, Failure)
        self._tell()
        self._bar.update()

    def apart(self) -> AbstractContextManager:
        """Hides the bar while a row is printed."""
        return tqdm.external_write_mode(file=sys.stdout)

    def __str__(self) -> str:
        return f"{self.captioned} captioned, {self.failed} failed"

    def _tell(self):
        total = "counting" if self._bar.total is None else f"of {self._bar.total}"
        done = self.captioned + self.failed
        self._bar.set_description_str(
            f"{done} done ({total}), {self.failed} failed, ", refresh=False
        )

    def _count(self):
        total = 0
        for _ in self._todo():
            total += 1
            if self._closed.is_set():
                return
        self._bar.total = total

    def __enter__(self) -> Self:
        if not self._bar.disable:
            threading.Thread(target=self._count, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._closed.set()
        self._bar.close()
