"""What a command line may say: functions of a text for argparse, named for its messages."""

import re
from pathlib import Path

from .cluster.on_ray import OWN
from .cluster.part_files import is_parts
from .video.segments import SHOTS


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
