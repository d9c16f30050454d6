"""Process isolation: child processes read videos, so that no file can hang or crash the caller."""

import ctypes
import gc
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from multiprocessing.connection import Connection, Pipe
from typing import Self

import numpy as np

from ..config import SamplingOptions
from ..errors import VideoError
from .frames import Clip, read_frames, stream_frames
from .pixels import MEGAPIXELS, allow_megapixels
from .segments import Stretch, read_segments

MEGABYTE = 1 << 20
OUT_OF_MEMORY = 77  # exit status of a child


@dataclass(frozen=True)
class ReadingLimits:
    """Limits of time and memory for reading one file.

    Attributes:
        seconds: until it has been read, or, in segments or moments, until the next one.
        memory: MB, beyond what the process that reads it needs itself.
        megapixels: of a frame; of larger ones only JPEGs are read, at a part of their size.
    """

    seconds: float = 120.0
    memory: int = 2048
    megapixels: float = MEGAPIXELS

    def __post_init__(self):
        if not 0 < self.seconds < 1e6 or self.memory < 1 or not self.megapixels > 0:
            raise ValueError(
                f"expected seconds > 0, memory >= 1 MB and megapixels > 0, received: {self}"
            )


@dataclass(frozen=True)
class Moments:
    """What to read of a video moment by moment: the arguments of `stream_frames`."""

    video: str
    fps: float
    size: tuple[int, int] | None = None

    def parts(self) -> Iterator[np.ndarray]:
        """Reads the video: frame by frame, uint8 RGB, `(height, width, 3)`."""
        return (frame for _, frame in stream_frames(self.video, self.fps, self.size))


@dataclass(frozen=True)
class Request:
    """What to read of a video: the arguments of `read_frames`, or of `read_segments` where
    `segments` is given."""

    video: str
    sampling: SamplingOptions
    size: tuple[int, int] | None = None
    start: float = 0.0
    end: float | None = None
    segments: float | str | None = None

    def parts(self) -> Iterator[Clip | Stretch]:
        """Reads the video: one clip, or stretch by stretch."""
        if self.segments is None:
            yield read_frames(self.video, self.sampling, self.size, self.start, self.end)
        else:
            yield from read_segments(self.video, self.segments, self.sampling, self.size)


class Reader:
    """A child process that reads one video after the other, and is replaced when one kills it.

    The child holds OpenCV and FFmpeg, but neither model nor TensorFlow. It outlives neither its
    time limit nor whoever started it, however that ends. A reader serves one thread at a time.
    """

    def __init__(self, limits: ReadingLimits | None = None):
        self.limits = limits or ReadingLimits()
        self._process: subprocess.Popen | None = None
        self._connection: Connection | None = None

    def start(self):
        """Starts the child, where none runs; returns at once, while it is still starting."""
        if self._process is not None:
            return
        self._connection, theirs = Pipe()
        command = (
            f"import sys; sys.path[:] = {sys.path!r}; from captioner.video.reader import serve; "
            f"serve({theirs.fileno()}, *{astuple(self.limits)!r})"
        )
        with theirs:
            self._process = subprocess.Popen(
                # Isolated: what lies in the current folder is no module of ours.
                [sys.executable, "-I", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # decoders chatter past every setting
                pass_fds=[theirs.fileno()],
                env=os.environ | _ENVIRONMENT,
                start_new_session=True,  # Ctrl-C is for whoever started us
            )

    def read(self, request: Request | Moments) -> Iterator[Clip | Stretch | np.ndarray]:
        """Reads a video.

        Raises:
            VideoError: it cannot be read, or not within the limits.
        """
        self.start()
        whole = False
        try:
            self._connection.send(request)
            while (part := self._connection.recv()) is not None:
                if isinstance(part, VideoError):
                    whole = True
                    raise part
                yield part
            whole = True
        except (EOFError, ConnectionError):
            raise VideoError(f"{request.video}: {self._epitaph()}") from None
        finally:
            if not whole:
                self.close()

    def _epitaph(self) -> str:
        status = self._process.wait()
        if status == -signal.SIGALRM:
            return (
                f"took longer than {self.limits.seconds:g} s to read; give it more time with "
                "--time-limit, or cut or convert it first"
            )
        if status == OUT_OF_MEMORY:
            return (
                f"needs more than {self.limits.memory} MB to read; allow it more with "
                "--memory-limit, or make it smaller: ffmpeg -i INPUT -vf scale=1280:-2 OUTPUT.mp4"
            )
        return f"its decoder crashed (status {status}); convert it: ffmpeg -i INPUT OUTPUT.mp4"

    def interrupt(self):
        """Ends a `read` that another thread is in: to that one the decoder has crashed."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self):
        """Ends the child, in the middle of a video too; the next video starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_):
        self.close()


# One file, one core: other files wait for the others. Buffers of a thread cost address space.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"} | {
    # Big buffers go back to the system when they are freed, and memory stays flat.
    "MALLOC_MMAP_THRESHOLD_": "131072",
}


def serve(file_descriptor: int, seconds: float, memory: int, megapixels: float):
    """The child: answers requests until whoever asks is gone."""
    import cv2

    cv2.setNumThreads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    allow_megapixels(megapixels)
    most = _limit_memory(memory)
    gc.freeze()  # what is here stays, and need not be gone through after each video
    with Connection(file_descriptor) as connection:
        while True:
            try:
                request = connection.recv()
            except EOFError:
                return
            _answer(connection, request, seconds, most)
            _give_back_memory()


def _answer(connection: Connection, request: Request | Moments, seconds: float, most: float):
    try:
        # The signal ends the process, wherever in a decoder it hangs.
        signal.setitimer(signal.ITIMER_REAL, seconds)
        for part in request.parts():
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.send(part)  # waits until there is room
            signal.setitimer(signal.ITIMER_REAL, seconds)
        answer = None
    except VideoError as err:
        if _memory("VmPeak") > most:  # decoders do not tell what they lacked
            sys.exit(OUT_OF_MEMORY)
        answer = err
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)
    except Exception as err:  # ours to mend; told in the row, and the batch goes on
        answer = VideoError(f"{request.video}: cannot be read, {type(err).__name__}: {err}")
    signal.setitimer(signal.ITIMER_REAL, 0)
    connection.send(answer)


def _give_back_memory():
    """Frees what only refers to itself, and returns to the system what decoders have freed.

    Both would add up: the C library keeps freed memory in pieces between others that are in use.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim:
        trim(0)


def _limit_memory(megabytes: int) -> float:
    """Limits what the process may take beyond what it has.

    Returns:
        MB; when it has taken more, it was most probably refused some.
    """
    taken = _memory("VmSize")
    if not taken:  # not Linux, which keeps no such limit
        return float("inf")
    limit = int(taken + megabytes) * MEGABYTE
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return taken + megabytes * 7 / 8


def _memory(name: str) -> float:
    """MB of address space, by what Linux tells of this process; 0 elsewhere."""
    try:
        with open("/proc/self/status") as file:
            rows = dict(line.split(":", 1) for line in file)
        return int(rows[name].split()[0]) / 1024
    except FileNotFoundError:
        return 0.0
