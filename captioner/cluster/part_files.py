"""Output as a folder of part files, Parquet or JSON Lines, on a disk or in an object store.

Files are not appended to: each holds the rows of a minute or so and appears whole. A run that goes
on adds files; one that begins anew moves those of the run before to a folder of their own, once
there are rows to write.
"""

import json
import time
from array import array
from collections.abc import Iterator
from pathlib import PurePosixPath
from uuid import uuid4

import numpy as np

from ..caption import Caption, Failure
from ..errors import CaptionerError
from ..journal import expect_options, is_done, is_stale
from ..output import from_row, to_json, to_row
from ..sidecars import digest_of
from .stores import is_address, open_store

PARQUET, JSON = ".parquet", ".jsonl"
# A file is written when it has so many rows, or is so many seconds old.
ROWS, SECONDS = 50_000, 60.0
# Stores that show a file only when it is whole; elsewhere it is renamed.
_ATOMIC = {"s3", "gcs", "abfs"}


def is_parts(output) -> bool:
    """Whether captions go into a folder of files: at an address, or in Parquet."""
    return is_address(output) or str(output).endswith(PARQUET)


class Parts:
    """Writer of part files that knows which videos are done, as a `Journal` does.

    Attributes:
        kept: folders that hold what an earlier run has written.
    """

    def __init__(
        self,
        output: str,
        model: str,
        resume: bool = False,
        retry_failed: bool = False,
        options: str | None = None,
    ):
        """Opens a folder to write to.

        Args:
            output: its path or address, which ends with .parquet or .jsonl as its files will.
            model: the model whose captions are written, as they name it.
            resume: goes on with what an earlier run has written; otherwise that is replaced.
            retry_failed: forgets the failures of an earlier run.
            options: flags that the sentences of this run depend on, as for a `Journal`.

        Raises:
            CaptionerError: the folder cannot be written, or is not what such a run writes; or an
                earlier run had other options.
        """
        self._output, self._suffix = output, PurePosixPath(output.partition("?")[0]).suffix
        if self._suffix not in (PARQUET, JSON):
            raise CaptionerError(f"{output}: name it .parquet or .jsonl, by what it is to hold")
        self._filesystem, self._folder = open_store(output)
        self.kept: list[str] = []
        self._outdated: list[str] = []
        self._rows: list[Caption | Failure] = []
        self._begun = time.monotonic()
        try:
            self._filesystem.create_dir(self._folder, recursive=True)
            self._done = self._mend(model, resume, retry_failed, options)
        except OSError as err:
            raise CaptionerError(f"{output}: cannot be written: {err}") from err

    def __contains__(self, video) -> bool:
        """Whether a caption of a video has been written already."""
        return is_done(self._done, _printable(str(video)))

    @property
    def num_before(self) -> int:
        """How many videos were done before."""
        return len(self._done)

    def write(self, result: Caption | Failure):
        """Writes a caption or failure, with others or at once.

        Raises:
            CaptionerError: it cannot be written.
        """
        self._rows.append(result)
        if len(self._rows) >= ROWS or time.monotonic() - self._begun >= SECONDS:
            self._flush()

    def _flush(self):
        name = f"part-{time.time_ns()}-{uuid4().hex[:8]}{self._suffix}"
        rows, self._rows, self._begun = self._rows, [], time.monotonic()
        if rows:
            self._keep()
            self._write(f"{self._folder}/{name}", rows)

    def _keep(self):
        """Moves what an earlier run has written to a folder whose name has a `~` more."""
        from pyarrow.fs import FileType

        if not self._outdated:
            return
        more = "~"
        while self._filesystem.get_file_info(self._folder + more).type != FileType.NotFound:
            more += "~"
        try:
            self._filesystem.create_dir(self._folder + more)
            for path in self._outdated:
                self._filesystem.move(path, f"{self._folder}{more}/{path.rsplit('/', 1)[1]}")
        except OSError as err:
            raise CaptionerError(f"{self._output}{more}: cannot be written: {err}") from err
        self._outdated, self.kept = [], [f"{self._output.rstrip('/')}{more}"]

    def _mend(self, model, resume, retry_failed, options) -> np.ndarray:
        """Drops rows to be written anew; digests of the videos that are done."""
        done = array("Q")
        for path in list(self._files()):
            if not resume:
                self._outdated.append(path)
                continue
            results = self._read(path)
            for result in results:
                if result.model == model:
                    expect_options(self._output, result, options)
            kept = [r for r in results if r.model != model or not is_stale(r, retry_failed)]
            ours = (result for result in kept if result.model == model)
            done.extend(digest_of(_printable(result.video)) for result in ours)
            if not kept:
                self._filesystem.delete_file(path)
            elif len(kept) < len(results):
                self._write(path, kept)
        return np.unique(np.asarray(done, np.uint64))

    def _files(self) -> Iterator[str]:
        from pyarrow.fs import FileSelector

        for info in self._filesystem.get_file_info(FileSelector(self._folder)):
            if info.base_name.startswith("part-") and info.base_name.endswith(self._suffix):
                yield info.path

    def _read(self, path) -> list[Caption | Failure]:
        from pyarrow import ArrowInvalid, parquet

        try:
            with self._filesystem.open_input_file(path) as file:
                if self._suffix == PARQUET:
                    rows = parquet.read_table(file).to_pylist()
                else:
                    rows = map(json.loads, file.read().splitlines())
                return [from_row(row) for row in rows]
        except (ValueError, ArrowInvalid) as err:
            raise CaptionerError(
                f"{path}: holds no rows of captions; name the folder that an earlier run wrote"
            ) from err

    def _write(self, path: str, results: list[Caption | Failure]):
        whole = self._filesystem.type_name in _ATOMIC
        folder, name = path.rsplit("/", 1)
        target = path if whole else f"{folder}/.{name}.new"
        try:
            with self._filesystem.open_output_stream(target) as file:
                if self._suffix == PARQUET:
                    _write_parquet(file, results)
                else:
                    file.write("".join(to_json(r) + "\n" for r in results).encode())
            if not whole:
                self._filesystem.move(target, path)
        except OSError as err:
            raise CaptionerError(f"{self._output}: cannot be written: {err}") from err

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._flush()


def _write_parquet(file, results):
    import pyarrow as pa
    from pyarrow import parquet

    said = [("caption", pa.string()), ("score", pa.float64())]
    segment = pa.struct([("start", pa.float64()), ("end", pa.float64()), *said])
    schema = pa.schema(
        [
            ("video", pa.string()),
            *said,
            ("duration", pa.float64()),
            ("model", pa.string()),
            ("error", pa.string()),
            ("size", pa.int64()),
            ("modified", pa.float64()),
            ("segments", pa.list_(segment)),
            ("options", pa.string()),
        ]
    )
    rows = [
        {k: _printable(v) if isinstance(v, str) else v for k, v in to_row(result).items()}
        for result in results
    ]
    parquet.write_table(pa.Table.from_pylist(rows, schema), file)


def _printable(text: str) -> str:
    """A path may hold bytes that are no text: they are told in escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
