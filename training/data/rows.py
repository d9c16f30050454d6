"""Rows of labels as written, and the parsing that all formats share."""

import ast
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

# Names of fields and columns, in lower case and without signs; the first there counts.
NAME = tuple(
    "video image clip path filepath file filename videopath videofile imagepath imagefile media"
    " videoid imageid videoname imagename name id".split()
)
CAPTIONS = tuple(
    "captions caption sentences sentence descriptions description text texts label comment"
    " title".split()
)
SPLIT = ("split", "subset", "set", "partition")
START = ("start", "starttime", "startsec", "startseconds", "begin", "from")
END = ("end", "endtime", "endsec", "endseconds", "stop", "to")
LANGUAGE = ("language", "lang")
FRAMES = ("frames",)
_LITTLE_WORDS = {"a", "an", "and", "the", "is", "are", "in", "on", "of", "to", "with", ".", ","}


@dataclass(frozen=True)
class Row:
    """What one row of labels says, before any file is looked for.

    Attributes:
        where: the row, for people: `line 7`.
        names: paths or names of the file, the likeliest first; an id has no suffix.
        captions: sentences, as written.
        split: as written, or None.
        start: where in the file the clip begins, seconds.
        end: where it ends, seconds; None is the end of the file.
        cut: name of a file that, where there is one, holds nothing but this stretch.
        language: of the captions, where it is told.
        frames: paths of pictures in order, of a clip that comes as these; `names` is the first.
    """

    where: str
    names: tuple[str, ...]
    captions: tuple[str, ...]
    split: str | None = None
    start: float = 0.0
    end: float | None = None
    cut: str | None = None
    language: str | None = None
    frames: tuple[str, ...] = ()

    def __post_init__(self):
        for value in (*self.names, *self.captions, *self.frames):
            if not isinstance(value, str):
                raise ValueError(f"expected text, found {value!r}")
        if not all(name.strip() for name in (*self.names, *self.frames)):
            raise ValueError("names no file")
        if self.split is not None and not isinstance(self.split, str):
            raise ValueError(f"expected a split like train, val or test, found {self.split!r}")
        after = 0 <= self.start < (math.inf if self.end is None else self.end)
        if not after or self.end == math.inf:
            found = f"start={self.start}, end={self.end}"
            raise ValueError(f"expected 0 <= start < end in seconds, found {found}")


@dataclass(frozen=True)
class Problem:
    """What is wrong with labels: the row, for people, and a message."""

    where: str
    message: str


def each(entries: Iterable, parse: Callable[..., Iterable[Row]]) -> Iterator[Row | Problem]:
    """Parses entries `(where, ...)` one by one, so that a bad one takes no other down."""
    for where, *entry in entries:
        try:
            yield from parse(where, *entry)
        except KeyError as err:
            yield Problem(where, f"has no {err}")
        except (ValueError, TypeError, AttributeError) as err:
            yield Problem(where, str(err))


def numbered(what: str, *entries: Iterable) -> Iterator[tuple]:
    """Entries for `each`, called by what they are and their number from 1: `line 7`."""
    return ((f"{what} {number}", *entry) for number, entry in enumerate(zip(*entries), 1))


def fields_named(fields: Iterable[str], names: tuple[str, ...]) -> list[str]:
    """Those of `fields` that go by the first of `names` that any goes by."""
    return _named(tuple(fields), names)


@lru_cache  # rows mostly have the same fields
def _named(fields, names):
    plain = {field: re.sub("[^a-z0-9]", "", field.lower()) for field in fields}
    if names is CAPTIONS:  # caption 1, caption 2
        plain = {field: name.rstrip("0123456789") for field, name in plain.items()}
    for name in names:
        if found := [field for field in plain if plain[field] == name]:
            return found
    return []


def sentences(said) -> tuple[str, ...]:
    """Sentences, of which there may be several in a list, or in the text of a cell.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(said, str):
        said = _unwritten(said)
    if said is None:
        return ()
    if isinstance(said, str):
        return (said,)
    if isinstance(said, dict):  # as Label Studio's JSON-MIN has what an annotator wrote
        told = said.keys() & {"start", "end", "ranges", "x", "y"}
        if told or not (keys := fields_named(said, CAPTIONS)):
            raise ValueError(f"expected a sentence of the whole clip, found {said!r}")
        return sentences(said[keys[0]])
    if not isinstance(said, list | tuple):
        raise ValueError(f"expected text, found {said!r}")
    found = tuple(sentence for one in said for sentence in sentences(one))
    words = [sentence for sentence in found if len(sentence.split()) == 1]
    if len(found) == len(words) > 2 and _LITTLE_WORDS.intersection(map(str.lower, words)):
        raise ValueError(f"expected sentences, found the words of one, {said!r}; join them")
    return found


def _unwritten(text: str):
    """The list or object that a cell holds as JSON or Python write it; other text as it is."""
    if text.strip()[:1] + text.strip()[-1:] not in ("[]", "{}"):
        return text
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def seconds_of(value) -> float:
    """Seconds as a number, `12.5`, `12,5` or `[HH:]MM:SS`."""
    if isinstance(value, str):
        hours, minutes, seconds = ("0:0:" + value.strip().replace(",", ".")).split(":")[-3:]
        return float(hours) * 3600 + float(minutes) * 60 + float(seconds)
    return float(value)
