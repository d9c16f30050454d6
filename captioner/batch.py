"""Many videos -> their captions: read ahead in child processes, described together.

What happens to one video is two plain functions, wherever they run: `read_parts` reads it, piece
by piece, and `caption_parts` makes its caption of the pieces.
"""

import os
import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .caption import Candidate, Caption, Failure, Segment
from .errors import VideoError
from .video import Clip
from .video.reader import Reader, ReadingLimits, Request
from .video.segments import Stretch, Thinned

# Clips that are described together, at most; as many more may wait for their turn.
BATCH_SIZE = 8
# Seconds that clips wait for others to be described with.
PATIENCE = 0.5
# Videos begun but not yet given, at most: how far others may run ahead of a slow one.
AHEAD = 1000


@dataclass
class Begin:
    """The state of a video that is being read: its file, and its captions so far."""

    video: str
    features: Thinned
    size: int | None = None
    modified: float | None = None
    segments: list[Segment] = field(default_factory=list)
    last: Clip | None = None
    candidates: tuple[Candidate, ...] = ()


class End:
    """A video has been read to its end."""


Part = Begin | Clip | Stretch | End | Failure


def num_cores() -> int:
    """Cores that this process may use, also in a container that is given a share of time."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    with suppress(OSError, ValueError):  # not Linux, or no limit: "max"
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def caption_files(
    captioner,
    videos: Iterable[str | os.PathLike | Failure],
    segments: float | str | None = None,
    readers: list[Reader] | None = None,
) -> Iterator[Caption | Failure]:
    """Captions videos, in their order, while the next ones are being read.

    Memory is bounded however many and however long they are.

    Args:
        captioner: a `Captioner`.
        videos: paths, taken one by one as readers become free; a `Failure` is passed on.
        segments: stretches to caption one by one, see `read_segments`; None is none.
        readers: what reads, one thread each; by default one a core. They are closed at the end.

    Yields:
        A `Caption`, or for a video that cannot be read a `Failure`.
    """
    readers = readers or [Reader(ReadingLimits()) for _ in range(num_cores())]
    with _ReadAhead(captioner, videos, segments, readers) as ahead:
        done: dict[int, Caption | Failure] = {}
        turn = 0
        for index, result in caption_parts(captioner, ahead.batches()):
            done[index] = result
            while turn in done:
                ahead.given()
                yield done.pop(turn)
                turn += 1


def read_parts(
    reader: Reader, request: Request, model: str, name: str | None = None
) -> Iterator[Part]:
    """Reads a video: its `Begin`, what was asked of it, and `End`, or a `Failure` instead.

    Args:
        reader: what reads.
        request: what to read.
        model: the model that will look, as it names itself.
        name: of the video in its row; by default the path that is read.
    """
    path, name = request.video, name or request.video
    begin = Begin(name, Thinned(request.sampling.num_frames))
    try:
        found = os.stat(path)
        begin.size, begin.modified = found.st_size, found.st_mtime
    except OSError:
        pass  # reading will say why
    yield begin
    try:
        yield from reader.read(request)
        yield End()
    except VideoError as err:
        yield Failure(name, str(err).replace(path, name), model, begin.size, begin.modified)


def caption_parts(
    captioner, batches: Iterable[list[tuple[int, Part]]]
) -> Iterator[tuple[int, Caption | Failure]]:
    """Makes captions of what was read.

    Args:
        captioner: a `Captioner`.
        batches: parts with the number of their video, of each in the order of reading; the clips
            of a batch go through the CNN together.

    Yields:
        The number of a video and its caption, or why there is none, as soon as that is known.
    """
    under_way: dict[int, Begin] = {}
    for batch in batches:
        parts = [part for _, part in batch if isinstance(part, Clip | Stretch)]
        clips = [part.clip if isinstance(part, Stretch) else part for part in parts]
        features = captioner.extract_features([clip.frames for clip in clips])
        told = iter(zip(clips, features, captioner.describe_many(features)))
        for index, part in batch:
            if isinstance(part, Begin):
                under_way[index] = part
            elif isinstance(part, Clip | Stretch):
                _add(under_way[index], part, *next(told))
            elif isinstance(part, Failure):
                under_way.pop(index, None)
                yield index, part
            else:
                yield index, _assemble(captioner, under_way.pop(index))


def _add(begun: Begin, part: Clip | Stretch, clip: Clip, features: np.ndarray, candidates):
    begun.last, begun.candidates = clip, candidates
    if isinstance(part, Stretch):
        # Bare of all that would add up over a long video.
        bare = tuple(replace(candidate, attention_weights=None) for candidate in candidates)
        begun.segments.append(Segment(part.start, part.end, bare))
        for vector, time in zip(features, clip.times):
            begun.features.add((vector.copy(), float(time)))


def _assemble(captioner, begun: Begin) -> Caption:
    """The caption of a video from its parts.

    That of a video in segments is made from frames spread over all of them.
    """
    times = begun.last.times
    if len(begun.segments) > 1:
        features, times = zip(*begun.features.chosen())
        [begun.candidates] = captioner.describe_many([np.stack(features)])
    return Caption(
        begun.video,
        begun.candidates,
        begun.last.duration,
        captioner.name,
        tuple(map(float, times)),
        tuple(begun.segments),
        begun.size,
        begun.modified,
    )


class _ReadAhead:
    """Threads that read videos, each with a child process, into a bounded queue."""

    def __init__(self, captioner, videos, segments, readers: list[Reader]):
        self._captioner, self._segments, self._readers = captioner, segments, readers
        self._videos = enumerate(videos)
        self._lock = threading.Lock()
        self._room = threading.Semaphore(AHEAD)
        self._parts = queue.Queue(BATCH_SIZE)
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(reader,), daemon=True) for reader in readers
        ]

    def batches(self) -> Iterator[list[tuple[int, object]]]:
        """What was read, in the order of reading, with the number of its video.

        A batch holds `BATCH_SIZE` clips, or fewer where waiting for more would take too long.
        """
        running, batch, num_clips = len(self._threads), [], 0
        while running:
            try:
                index, part = self._parts.get(timeout=PATIENCE if batch else None)
            except queue.Empty:
                yield batch
                batch, num_clips = [], 0
                continue
            if part is None:
                running -= 1
                continue
            if isinstance(part, BaseException):
                raise part
            batch.append((index, part))
            num_clips += isinstance(part, Clip | Stretch)
            if num_clips == BATCH_SIZE:
                yield batch
                batch, num_clips = [], 0
        if batch:
            yield batch

    def given(self):
        """A video has been given, and another one may be begun."""
        self._room.release()

    def _work(self, reader: Reader):
        try:
            with reader:
                while (found := self._next()) is not None:
                    for part in self._read(reader, found[1]):
                        self._parts.put((found[0], part))
        except BaseException as err:  # told to the thread that waits
            self._parts.put((0, err))
        finally:
            self._parts.put((0, None))

    def _next(self) -> tuple[int, str | Failure] | None:
        self._room.acquire()
        with self._lock:
            return None if self._stopped.is_set() else next(self._videos, None)

    def _read(self, reader: Reader, video: str | os.PathLike | Failure) -> Iterator[Part]:
        if isinstance(video, Failure):
            return iter([video])
        request = self._captioner.request(str(video), self._segments)
        return read_parts(reader, request, self._captioner.name)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._room.release(len(self._threads))
        while any(thread.is_alive() for thread in self._threads):
            for reader in self._readers:
                reader.interrupt()
            with suppress(queue.Empty):  # a thread may wait to be rid of what it has read
                self._parts.get(timeout=0.05)
        for thread in self._threads:
            thread.join()
