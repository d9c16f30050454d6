"""Files of captions that survive whatever ends the one who writes them, and can be gone on with.

The rows of JSON are the journal: each is appended whole, with one write, after its captions have
been written in all other formats. What else there is, is made of them again.
"""

import errno
import fcntl
import os
from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from pathlib import Path, PurePath

import numpy as np

from .caption import Caption, Failure
from .errors import CaptionerError
from .output import FORMATS, Format, from_json

JOURNAL = "jsonl"


class Journal:
    """Writes captions in several formats, and knows which videos need none any more."""

    def __init__(
        self,
        output: Path,
        formats: Iterable[str],
        model: str,
        resume: bool = False,
        retry_failed: bool = False,
    ):
        """Opens files to write to.

        Args:
            output: the file to write, where there is one format; else each gets its own suffix.
                Formats that have a file for each video make it a folder.
            formats: of `FORMATS`.
            model: the model whose captions are written, as they name it.
            resume: goes on with what an earlier run has written; otherwise that is replaced.
            retry_failed: forgets the failures of an earlier run.

        Raises:
            CaptionerError: a file cannot be written, or is not what such a run writes.
        """
        if resume and JOURNAL not in formats:
            raise CaptionerError(f"going on needs the rows of {JOURNAL}; name it among the formats")
        paths = {
            name: output if len(formats) == 1 else output.with_suffix(FORMATS[name].suffix)
            for name in dict.fromkeys(formats)
        }
        self._folders = [
            (path, FORMATS[name]) for name, path in paths.items() if not FORMATS[name].one_file
        ]
        self._done = np.zeros(0, np.uint64)
        with ExitStack() as opened:
            for folder, _ in self._folders:
                with _plainly(folder):
                    folder.mkdir(parents=True, exist_ok=True)
            files = {
                name: opened.enter_context(_RowsFile(path, FORMATS[name]))
                for name, path in paths.items()
                if FORMATS[name].one_file
            }
            journal = files.pop(JOURNAL, None)
            if resume:
                self._done = _mend(journal, model, retry_failed)
            elif journal is not None:
                journal.restart()
            for file in files.values():
                file.restart(journal.results() if resume else ())
            self._stack = opened.pop_all()
        self._files = [*files.values(), *([journal] if journal else [])]

    def __contains__(self, video: str | os.PathLike) -> bool:
        """Whether a caption of a video as it is now has been written already."""
        return is_done(self._done, str(video))

    @property
    def num_before(self) -> int:
        """How many videos were done before."""
        return len(self._done)

    def write(self, result: Caption | Failure):
        """Writes a caption or failure in all formats.

        Raises:
            CaptionerError: the disk is full, or cannot be written; what was written is whole.
        """
        for folder, form in self._folders:
            if isinstance(result, Caption):
                _write_whole(_beside(folder, result.video, form.suffix), form.write(result))
        for file in self._files:
            file.append(result)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()


class _RowsFile:
    """A file that only ever holds whole rows."""

    def __init__(self, path: Path, form: Format):
        self.path, self._form = path, form
        with _plainly(path):
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            self._file.close()
            raise CaptionerError(
                f"{path}: another captioner is writing it; wait, or name another file"
            ) from err

    def restart(self, results: Iterable[Caption | Failure] = ()):
        if self._size():  # a pipe has none, and cannot be cut
            self._file.truncate(0)
        if self._form.header:
            self._write(self._form.header)
        for result in results:
            self.append(result)

    def append(self, result: Caption | Failure):
        self._write(self._form.write(result))

    def _write(self, text: str):
        row = (text + "\n").encode("utf-8", "surrogateescape")
        whole = self._size()
        with _plainly(self.path):
            try:
                if self._file.write(row) < len(row):  # there was room for a part
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                if self._size() > whole:
                    self._file.truncate(whole)
                raise

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def lines(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            yield from file

    def results(self) -> Iterator[Caption | Failure]:
        return map(from_json, self.lines())

    def truncate(self, size: int):
        self._file.truncate(size)

    def replace_by(self, rows: Iterable[bytes]):
        """Writes rows to a new file that takes the place of this one, at once or not at all."""
        new = self.path.with_name(f".{self.path.name}.new")
        with new.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.writelines(rows)
        os.replace(new, self.path)
        self._file.close()
        self.__init__(self.path, self._form)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


def _mend(journal: _RowsFile, model: str, retry_failed: bool) -> np.ndarray:
    """Drops a torn last row and those to be written anew; digests of the videos that are done."""
    done, whole, stale = array("Q"), 0, array("Q")
    for number, line in enumerate(journal.lines()):
        try:
            if not line.endswith(b"\n"):
                break
            result = from_json(line)
        except ValueError as err:
            raise CaptionerError(
                f"{journal.path}: line {number + 1} is no row of captions; name the file that "
                "an earlier run wrote"
            ) from err
        whole += len(line)
        if result.model != model:
            continue
        if is_stale(result, retry_failed):
            stale.append(number)
        else:
            done.append(digest_of(result.video))
    journal.truncate(whole)
    if stale:
        numbers = set(stale)
        lines = enumerate(journal.lines())
        journal.replace_by(line for number, line in lines if number not in numbers)
    return np.unique(np.asarray(done, np.uint64))


def is_done(done: np.ndarray, video: str) -> bool:
    """Whether a path is among those with these digests, which are in order."""
    digest = digest_of(video)
    place = np.searchsorted(done, digest)
    return place < len(done) and done[place] == digest


def is_stale(result: Caption | Failure, retry_failed: bool) -> bool:
    """Whether a video is to be captioned again: it has failed, or changed since."""
    if retry_failed and isinstance(result, Failure):
        return True
    try:
        found = os.stat(result.video)
    except OSError:  # gone; what was told of it stands
        return False
    return (found.st_size, found.st_mtime) != (result.size, result.modified)


def digest_of(video: str) -> int:
    """A path in 64 bits."""
    digest = blake2b(video.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _beside(folder: Path, video: str, suffix: str) -> Path:
    """Where in a folder the captions of a video go: by its path, which cannot lead out of it."""
    parts = [part for part in PurePath(video).parts if part not in ("/", "..", ".")]
    return folder.joinpath(*parts[:-1], parts[-1] + suffix)


def _write_whole(path: Path, text: str):
    with _plainly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)


@contextmanager
def _plainly(path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        full = err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise CaptionerError(
            f"{path}: cannot be written: {err.strerror}"
            + ("; make room and go on with --resume, all rows so far are whole" if full else "")
        ) from err
