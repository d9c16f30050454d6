"""Types of arguments for argparse: functions of a text, named for its error messages."""

import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from ..cluster.on_ray import OWN
from ..cluster.part_files import is_parts
from ..terminal import positive
from ..video.reader import ReadingLimits
from ..video.segments import SHOTS

T = TypeVar("T")


def segments(text):
    """Seconds, or `shots`."""
    return text if text == SHOTS else positive(float)(text)


def shard(text):
    """`I/N` as `(I - 1, N)`."""
    place, num_parts = map(int, text.split("/"))
    if not 1 <= place <= num_parts:
        raise ValueError
    return place - 1, num_parts


def cluster(text):
    """`ray`, `ray://HOST:PORT` or `HOST:PORT`."""
    if not re.fullmatch(rf"{OWN}(://[^:]+:\d+)?|[^:/]+:\d+", text):
        raise ValueError
    return text


def output(text):
    """A file; what becomes a folder, which may be an address, as it stands."""
    return text if is_parts(text) else Path(text)


def flags_of(options: T, own: T, segments: float | str | None = None) -> str:
    """The flags that results depend on, `--beam-size 1 --avoid man`, in an order of their own.

    Args:
        options: how sentences are searched for, or moments labelled.
        own: the model's own way, which needs no flag.
        segments: stretches that are captioned too.
    """
    given = []
    for field in fields(options):
        value = getattr(options, field.name)
        if value != getattr(own, field.name):
            given.append((field.name, sorted(value) if isinstance(value, tuple) else [value]))
    given.append(("segments", [] if segments is None else [segments]))
    words = [
        word for name, values in given for value in values for word in (_flag(name), str(value))
    ]
    return shlex.join(words)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def add_reading_limits(parser, part: str):
    """The flags of `ReadingLimits`; `part` is what a video may be read in."""
    parser.add_argument(
        "--time-limit",
        type=positive(float),
        default=ReadingLimits.seconds,
        metavar="SECONDS",
        help=f"longest that reading a video, or its next {part}, may take; default: %(default)g",
    )
    parser.add_argument(
        "--memory-limit",
        type=positive(int),
        default=ReadingLimits.memory,
        metavar="MB",
        help="most memory that reading a video may take; default: %(default)s",
    )
    parser.add_argument(
        "--pixel-limit",
        type=positive(float),
        default=ReadingLimits.megapixels,
        metavar="MEGAPIXELS",
        help="largest frames that are read; default: %(default)g",
    )


def reading_limits(args) -> ReadingLimits:
    """What those flags say."""
    return ReadingLimits(args.time_limit, args.memory_limit, args.pixel_limit)
