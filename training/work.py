"""The folder of a training: what it was made for, and its state after the last round."""

import csv
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from captioner.errors import CaptionerError, DatasetError


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Says, in a `with`, what to do about files that cannot be written.

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
    """Prints an error of a `with` instead of raising it, once a model is saved and can be used."""
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
            "delete it, or keep this elsewhere"
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


class Progress:
    """How far a training is: all that its next round depends on, and the best weights so far.

    A training makes its model and its optimizer, resumes, and after each round adds what was
    measured and keeps all. What a round does must follow from its number and a seed alone; then a
    training that was stopped ends with the same weights as one that was not.

    Attributes:
        history: a dict a round.
        best: the weights after the best round.
    """

    def __init__(self, folder: Path, model, variables: Sequence, quality: str | None = None):
        """Nothing is read before `resume`.

        Args:
            folder: where all is kept, and the log, `train.csv`.
            model: the Keras model whose best weights are wanted.
            variables: all Keras variables that a round changes: weights, seeds of dropout, and
                what the optimizer keeps.
            quality: the figure of a round that tells how good it is; of equal ones the lower
                `val_loss` does, and where there is none the last round is the best.
        """
        self.model, self._variables, self._quality = model, list(variables), quality
        self._checkpoints = Checkpoints(folder)
        self.history: list[dict] = []
        self.best: list[np.ndarray] = []

    @property
    def done(self) -> int:
        """How many rounds are done."""
        return len(self.history)

    @property
    def best_round(self) -> int:
        """Place of the best round in the history."""
        return max(range(self.done), key=self._rank)

    def _rank(self, place: int) -> tuple[float, float]:
        row = self.history[place]
        if self._quality not in row:
            return place, 0.0
        return row[self._quality], -row.get("val_loss", 0.0)

    def resume(self) -> int:
        """Takes up the state after the last round that was kept; returns how many are done."""
        last = self._checkpoints.last()
        if last is not None:
            kept = load_arrays(last / "state.npz")
            for variable, value in zip(self._variables, kept, strict=True):
                variable.assign(value)
            self.best = load_arrays(last / "best.npz")
            self.history = json.loads((last / "history.json").read_text())
        return self.done

    def add(self, row: dict):
        """Adds what was measured after a round, whose weights the model has now."""
        self.history.append(row)
        if self.best_round == self.done - 1:
            self.best = self.model.get_weights()

    def keep(self):
        """Keeps all after a round.

        Raises:
            DatasetError: the disk is full; what was kept before is whole.
        """
        self._checkpoints.keep(self.done - 1, self._write)
        log = self._checkpoints.folder / "train.csv"
        partial = log.with_suffix(".partial")
        columns = [name for name in self.history[0] if name != "seconds"]
        with writing(log):
            with partial.open("w", newline="") as file:
                rows = csv.DictWriter(file, columns, extrasaction="ignore")
                rows.writeheader()
                rows.writerows(self.history)
            partial.replace(log)

    def _write(self, folder: Path):
        np.savez(folder / "state.npz", *map(_to_numpy, self._variables))
        np.savez(folder / "best.npz", *self.best)
        (folder / "history.json").write_text(json.dumps(self.history))

    def is_over(self, patience: int) -> bool:
        """Whether the last `patience` rounds brought nothing better; 0: never."""
        return bool(patience and self.history) and self.done - 1 - self.best_round >= patience

    def finish(self):
        """Leaves the best weights in the model."""
        self.model.set_weights(self.best)


def _to_numpy(variable) -> np.ndarray:
    from keras import ops  # which this module does without where there is nothing to train

    return ops.convert_to_numpy(variable)
