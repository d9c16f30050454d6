"""What a full disk, and the like, means for whoever waits for a training."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from captioner.errors import CaptionerError, DatasetError


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Tells of files that cannot be written, in a `with`, what to do about it.

    Raises:
        DatasetError: instead of an OSError.
    """
    try:
        yield
    except OSError as err:
        raise DatasetError(
            f"{folder}: cannot be written: {err.strerror or err}; make room and give the same "
            "command again: what was computed and learned so far is kept"
        ) from err


@contextmanager
def only_told() -> Iterator[None]:
    """Tells of what goes wrong in a `with` once a model is saved, which serves all the same."""
    try:
        yield
    except CaptionerError as err:
        print(f"captioner: {err}", file=sys.stderr)
