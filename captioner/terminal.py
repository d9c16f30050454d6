"""What command lines share, other packages' too: exit statuses, flags, and a quiet TensorFlow."""

import io
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import CaptionerError

ALL_GOOD, SOME_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
NO_FOLDER = "/"  # for temporary files: none can be written, so whatever asks for one is told


def printable(text: str) -> str:
    """A path may hold bytes that are no text, and they come out as they went in."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def open_closed_streams():
    """Opens those of stdin, stdout and stderr that whoever started us has closed.

    Else the next files to be opened would take their places.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115


def find_temporary_folder():
    """Names a folder for temporary files where a read-only machine has none of the usual ones.

    Libraries ask for one on import that few of them ever use.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        writable = (folder for folder in ("/dev/shm", "/run") if os.access(folder, os.W_OK))
        tempfile.tempdir = os.environ["TMPDIR"] = next(writable, NO_FOLDER)


def speak_unicode():
    """Lets names be printed that the encoding of the locale lacks.

    What goes to a file or a program is UTF-8; a terminal gets escapes for what it cannot show.
    """
    if not isinstance(sys.stdout, io.TextIOWrapper):  # tests catch what is printed
        return
    if sys.stdout.isatty():
        sys.stdout.reconfigure(errors="backslashreplace")
    else:
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Lets SIGTERM end all as Ctrl-C does: PID 1 of a container would not heed it else."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return

    def end(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def stop_at_interrupt() -> Iterator[threading.Event]:
    """Ctrl-C or SIGTERM once asks to finish what is in flight, twice stops at once."""
    stop = threading.Event()

    def ask(*_):
        stop.set()
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, terminate)
        message = "\ncaptioner: finishing what is in flight; Ctrl-C again stops at once"
        print(message, file=sys.stderr)

    before = signal.signal(signal.SIGINT, ask)
    terminate = signal.signal(signal.SIGTERM, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, terminate)


def _scratch() -> io.BufferedRandom:
    """A file for a while, where a read-only machine has no folder for it too."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("captioner"), "w+b")
    return tempfile.TemporaryFile()


@contextmanager
def muted_stderr() -> Iterator[None]:
    """Keeps back what TensorFlow's libraries say on import, unless the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    terminal = os.dup(2)
    with _scratch() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except CaptionerError:
            raise
        except BaseException:
            kept.seek(0)
            os.write(terminal, kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


def positive(number):
    """Of a kind of number, those above zero."""

    def parse(text):
        value = number(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value

    parse.__name__ = "positive number"
    return parse


def count(text):
    """An integer, zero or above."""
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def share(text):
    """A number from 0 up to, but not, 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise ValueError
    return value


def add_labelling_options(parser):
    """The flags of `LabellingOptions` that depend on the use, not on the model."""
    add, default = parser.add_argument, "default: as the model was trained"
    add("--fps", type=float, help=f"moments to label a second; {default}")
    add("--threshold", type=float, metavar="P", help=f"least probability of a label; {default}")
    add(
        "--min-duration", type=float, metavar="SECONDS", help=f"shortest segment to keep; {default}"
    )
