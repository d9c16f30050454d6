"""Crash-safe output files, which a later run can go on with.

`RowsFile` serves all that is written in rows: captions and labels. The `Journal` writes captions in
several formats. Its rows of JSON are appended after all other formats have been
written, which are made of these rows again after a crash.
"""

import fcntl
import io
import os
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import numpy as np

from .caption import Caption, Failure
from .errors import CaptionerError
from .output import FORMATS, Format, from_json
from .sidecars import Sidecars, digest_of, keep, plainly, write_whole

JOURNAL = "jsonl"
T = TypeVar("T")


class Journal:
    """Writes captions in several formats, and knows which videos need none any more."""

    def __init__(
        self,
        output: Path,
        formats: Iterable[str],
        model: str | None,
        resume: bool = False,
        retry_failed: bool = False,
        options: str | None = None,
    ):
        """Opens files to write to.

        Args:
            output: the file to write, where there is one format; else each gets its own suffix.
                Formats that have a file for each video make it a folder.
            formats: of `FORMATS`.
            model: the model whose captions are written, as they name it; None where that is not
                known, as on a server, and those of any model count as done.
            resume: goes on with what an earlier run has written; otherwise that is replaced.
            retry_failed: forgets the failures of an earlier run.
            options: flags that the sentences of this run depend on, see `Caption.options`; None
                where they are not known.

        Raises:
            CaptionerError: a file cannot be written, or is not what such a run writes; or an
                earlier run had other options.
        """
        if resume and JOURNAL not in formats:
            raise CaptionerError(f"going on needs the rows of {JOURNAL}; name it among the formats")
        paths = {
            name: output if len(formats) == 1 else _with_suffix(output, FORMATS[name].suffix)
            for name in dict.fromkeys(formats)
        }
        folders = {
            path: FORMATS[name] for name, path in paths.items() if not FORMATS[name].one_file
        }
        self._sidecars = [
            (Sidecars(path, form.suffix), form.write) for path, form in folders.items()
        ]
        self._done = np.zeros(0, np.uint64)
        with ExitStack() as opened:
            for folder in folders:
                with plainly(folder):
                    folder.mkdir(parents=True, exist_ok=True)
            files = {
                name: opened.enter_context(RowsFile(path, _header(FORMATS[name])))
                for name, path in paths.items()
                if FORMATS[name].one_file
            }
            if resume:
                self._done = _resume(files[JOURNAL], model, retry_failed, options)
            for name, file in files.items():
                if name == JOURNAL and resume:
                    continue
                file.restart(FORMATS[name].read, keep=not resume)
                for line in files[JOURNAL].lines() if resume else ():
                    file.append(FORMATS[name].write(from_json(line)) + "\n")
            self._stack = opened.pop_all()
        # The journal comes last: what it has, all others have.
        self._files = sorted(
            ((file, FORMATS[name]) for name, file in files.items()),
            key=lambda pair: pair[1] is FORMATS[JOURNAL],
        )

    def __contains__(self, video: str | os.PathLike) -> bool:
        """Whether a caption of a video as it is now has been written already."""
        return is_done(self._done, str(video))

    @property
    def kept(self) -> list[Path]:
        """The files in which that is now which others of an earlier run held."""
        return [file.kept for file, _ in self._files if file.kept]

    @property
    def num_before(self) -> int:
        """How many videos were done before."""
        return len(self._done)

    def write(self, result: Caption | Failure):
        """Writes a caption or failure in all formats.

        Raises:
            CaptionerError: the disk is full, or cannot be written; what was written is whole.
        """
        for sidecars, write in self._sidecars:
            if isinstance(result, Caption):
                write_whole(sidecars.path_of(result.video), [write(result)])
        for file, form in self._files:
            file.append(form.write(result) + "\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()


class RowsFile:
    """A text file that is appended to by whole rows, or by whole groups of them.

    A row that was torn shows it by the line break that it lacks. Of a group of several rows the
    first byte is written last: until then it is NUL, so that a torn group shows it too.

    Attributes:
        kept: where that is now which an earlier run has written, or None.
    """

    def __init__(self, path: Path, header: str = ""):
        """Opens a file, which is locked and as it was until `restart` or `resume`.

        Args:
            path: the file.
            header: the line that it begins with, line break included; empty for none.

        Raises:
            CaptionerError: it cannot be written, or another process is writing it.
        """
        self.path, self._header, self.kept = path, header, None
        self._outdated = self._keeps = False
        with plainly(path):
            self._file = _open(path)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            self._file.close()
            raise CaptionerError(
                f"{path}: another captioner is writing it; wait, or name another file"
            ) from err

    def restart(self, read: Callable[[bytes], object] | None = None, keep: bool = True):
        """Lets the file begin anew: it is emptied when there is something to put in.

        Args:
            read: as for `resume`: rows that an earlier run has written may go, nothing else.
            keep: whether they are kept, in a file beside it with a `~` more.

        Raises:
            CaptionerError: it holds something else, or cannot be written; it is as it was.
        """
        if self._size():  # a pipe has none, and cannot be cut
            self._check(read)
            self._outdated, self._keeps = True, keep
        elif self._header:
            self.append(self._header)

    def _empty(self):
        if self._keeps:
            self.kept = keep(self.path)
        self._file.truncate(0)
        self._outdated = False
        if self._header:
            self.append(self._header)

    def _check(self, read: Callable[[bytes], object] | None):
        """Refuses a file that does not begin as those that this command writes."""
        header = self._header.encode()
        with self.path.open("rb") as file:
            start = file.read(1 << 20)
        first = start[: start.find(b"\n") + 1] or start
        if start.startswith(b"\0") and b"\0" not in start[1:].rstrip(b"\0"):
            return  # a torn group
        try:
            if header and first != header and not header.startswith(first.lstrip(b"\0")):
                raise ValueError(first)
            if not header and read is not None and first.endswith(b"\n"):
                read(first)
            elif not header and not first.startswith(b'{"'):
                raise ValueError(first)
        except (ValueError, KeyError, IndexError, TypeError) as err:
            raise CaptionerError(
                f"{self.path}: holds something else than what this command writes; name another "
                "file with -o"
            ) from err

    def resume(self, read: Callable[[bytes], T]) -> Iterator[T]:
        """Reads the rows that are there, then drops what was torn; a new file gets its header.

        Args:
            read: what to make of a row, line break included; it raises ValueError for what is
                none. The header is not handed to it.

        Raises:
            CaptionerError: there is another header or something else than rows; the file is as
                it was.
        """
        whole, header = 0, self._header.encode()
        for number, line in enumerate(self.lines()):
            try:
                if whole >= len(header):
                    yield read(line)
                elif line != header:
                    raise ValueError(f"expected {header!r}, received: {line!r}")
            except ValueError as err:
                raise CaptionerError(
                    f"{self.path}: line {number + 1} is not what this command writes; --resume "
                    "needs the file that an earlier run of it wrote"
                ) from err
            whole += len(line)
        if not whole and self._size():
            self._check(None)
        if self._size() > whole:
            self._file.truncate(whole)
        if not whole:
            self.restart()

    def append(self, text: str):
        """Appends a row or a group of rows, its last line break included.

        Raises:
            CaptionerError: the disk is full, or cannot be written; the file is as it was.
        """
        if self._outdated:
            self._empty()
        # A path may hold bytes that are no UTF-8.
        data = text.encode("utf-8", "surrogateescape")
        start, is_regular = self._size(), stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        parts = [(start, data)]
        with plainly(self.path):
            try:
                if data.count(b"\n") > 1 and is_regular:
                    self._file.truncate(start + len(data))
                    parts = [(start + 1, data[1:]), (start, data[:1])]
                for place, part in parts:
                    if is_regular:  # no pipe, no device
                        self._file.seek(place)
                    while part:
                        part = part[self._file.write(part) :]
            except OSError:
                if self._size() > start:
                    self._file.truncate(start)
                raise

    def lines(self) -> Iterator[bytes]:
        """The whole rows, header included."""
        with self.path.open("rb") as file:
            for line in file:
                if line.startswith(b"\0") or not line.endswith(b"\n"):
                    return
                yield line

    def replace_by(self, rows: Iterable[bytes]):
        """Writes rows to a new file that takes the place of this one, at once or not at all."""
        new = self.path.with_name(f".{self.path.name}.new")
        with new.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.writelines(rows)
        os.replace(new, self.path)
        self._file.close()
        self.__init__(self.path, self._header)

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


def _open(path: Path) -> io.FileIO:
    """A file to write to, as it is: neither emptied nor always appended to."""
    return io.FileIO(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), "w")


def _resume(
    journal: RowsFile, model: str | None, retry_failed: bool, options: str | None
) -> np.ndarray:
    """Drops a torn last row and those to be written anew; digests of the videos that are done."""
    done, stale = array("Q"), array("Q")
    for number, result in enumerate(journal.resume(from_json)):
        if model is not None and result.model != model:
            continue
        expect_options(journal.path, result, options)
        if is_stale(result, retry_failed):
            stale.append(number)
        else:
            done.append(digest_of(result.video))
    if stale:
        numbers = set(stale)
        lines = enumerate(journal.lines())
        journal.replace_by(line for number, line in lines if number not in numbers)
    return np.unique(np.asarray(done, np.uint64))


def expect_options(output: str | os.PathLike, result: Caption | Failure, options: str | None):
    """Makes sure that a caption of an earlier run was made with the options of this one.

    Raises:
        CaptionerError: it was not.
    """
    made = result.options if isinstance(result, Caption) else options
    if options not in (None, made):
        before, now = (f"with {flags}" if flags else "plainly" for flags in (made, options))
        raise CaptionerError(
            f"{output}: was captioned {before}, and this run captions {now}; --resume would mix "
            "them: give the same options, or name another file with -o"
        )


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


def _with_suffix(output: Path, suffix: str) -> Path:
    """A name with the suffix of a format in place of another one's; of `may.2024` all stands."""
    if output.suffix in {form.suffix for form in FORMATS.values()}:
        return output.with_suffix(suffix)
    return output.with_name(output.name + suffix)


def _header(form: Format) -> str:
    return form.header and form.header + "\n"
