"""The folder of a training: what it was made for, and its state after the last round."""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

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


def claim(folder: Path, *facts):
    """Makes a folder for work that depends on `facts`, or checks that it was made for the same.

    Raises:
        DatasetError: it was made for something else, or cannot be made.
    """
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    file = folder / "made_of.sha256"
    if not file.exists():
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".partial")
            partial.write_text(digest)
            partial.replace(file)
    elif file.read_text() != digest:
        raise DatasetError(
            f"{folder}: holds the work on other labels, or with other options; "
            "delete it, or keep this elsewhere (--work)"
        )


class Checkpoints:
    """The state of a training after its last round, whole at any moment.

    Each round has a folder, written under another name and then renamed.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def last(self) -> Path | None:
        """The folder of the last round that was kept."""
        return max(self.folder.glob("round-*"), default=None)

    def keep(self, number: int, write):
        """Has `write(folder)` fill the folder of a round, then drops those before.

        Raises:
            DatasetError: the disk is full.
        """
        before, partial = list(self.folder.glob("round-*")), self.folder / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        with writing(self.folder):
            partial.mkdir(parents=True)
            write(partial)
            partial.rename(self.folder / f"round-{number:05}")
        for folder in before:
            shutil.rmtree(folder)


def load_arrays(path: Path) -> list[np.ndarray]:
    """The arrays of a file of `numpy.savez`, in their order."""
    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]
