"""What command lines share, other packages' too: exit statuses, flags, and a quiet TensorFlow."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import CaptionerError

ALL_GOOD, SOME_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def printable(text: str) -> str:
    """A path may hold bytes that are no text, and they come out as they went in."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@contextmanager
def muted_stderr() -> Iterator[None]:
    """Keeps back what TensorFlow's libraries say on import, unless the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as kept:
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
    add("--fps", type=float, help=f"moments looked at in a second; {default}")
    add("--threshold", type=float, metavar="P", help="least probability of a label")
    add("--min-duration", type=float, metavar="SECONDS", help="of a segment")
