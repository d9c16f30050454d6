"""Labelled segments -> text: JSON Lines, CSV, SubRip, WebVTT and Audacity labels."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from ..output import VTT_HEADER, is_unicode, to_cue
from .segments import LabelledSegment


class Format(NamedTuple):
    """How segments are written.

    Attributes:
        suffix: of a file of it.
        header: the text before the first segment.
        row: the text of a segment, given the video, the segment and its number from 1.
        failure: the text of a video that cannot be labelled, or of one without any segment,
            whose error is None; None where the format has no place for it.
        read_video: the video that a row is of, likewise; raises ValueError for what is none.
    """

    suffix: str
    header: str
    row: Callable[[str, LabelledSegment, int], str]
    failure: Callable[[str, str | None], str] | None = None
    read_video: Callable[[bytes], str] | None = None

    @property
    def is_table(self) -> bool:
        """Whether one file holds the rows of many videos."""
        return self.failure is not None


COLUMNS = ("video", "start", "end", "label", "probability", "error")


def _values(video, segment):
    start, end = round(segment.start, 3), round(segment.end, 3)
    return video, start, end, segment.label, round(segment.probability, 4), None


def _json_row(values, options="") -> str:
    row = dict(zip(COLUMNS, values, strict=True))
    if options:
        row["options"] = options
    text = json.dumps(row, ensure_ascii=False)
    # A path that is no Unicode can only be told in escapes.
    return (text if is_unicode(text) else json.dumps(row)) + "\n"


def _csv_row(values) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _read_json(row: bytes, options: str | None = None) -> str:
    try:
        values = json.loads(row)
        video, made = values["video"], values.get("options") or ""
    except (KeyError, TypeError, AttributeError) as err:
        raise ValueError(f"expected a row of labels, received: {row!r}") from err
    if options not in (None, made):
        raise OtherOptions(made)
    return video


def _read_csv(row: bytes) -> str:
    try:
        [values] = csv.reader([row.decode("utf-8", "surrogateescape")], strict=True)
    except csv.Error as err:
        raise ValueError(str(err)) from err
    return dict(zip(COLUMNS, values, strict=True))["video"]


def _table(suffix, header, write, read_video) -> Format:
    return Format(
        suffix,
        header,
        lambda video, segment, number: write(_values(video, segment)),
        lambda video, error: write((video, None, None, None, None, error)),
        read_video,
    )


def _subtitle(kind):
    def row(video, segment, number):
        text = f"{segment.label} ({segment.probability:.2f})"
        return to_cue(kind, number, segment.start, segment.end, text) + "\n"

    return row


def _audacity(video, segment, number):
    return f"{segment.start:.6f}\t{segment.end:.6f}\t{segment.label}\n"


FORMATS = {
    "jsonl": _table(".jsonl", "", _json_row, _read_json),
    "csv": _table(".csv", _csv_row(COLUMNS), _csv_row, _read_csv),
    "srt": Format(".srt", "", _subtitle("srt")),
    "vtt": Format(".vtt", VTT_HEADER + "\n", _subtitle("vtt")),
    "audacity": Format(".txt", "", _audacity),
}


class OtherOptions(Exception):
    """A row was written with other options, which its argument tells."""


def with_options(form: Format, options: str) -> Format:
    """A format whose rows tell the flags that they depend on, and that reads only such rows.

    Rows of JSON do; the other formats have no place for it, and are as they were.
    """
    if form is not FORMATS["jsonl"]:
        return form
    write, read = partial(_json_row, options=options), partial(_read_json, options=options)
    return _table(form.suffix, form.header, write, read)


def to_text(video: str, segments: Iterable[LabelledSegment], form: Format) -> Iterator[str]:
    """What a video's segments are written as, piece by piece, without the header.

    A table has at least one row for each video.
    """
    number = 0
    for number, segment in enumerate(segments, 1):
        yield form.row(video, segment, number)
    if number == 0 and form.is_table:
        yield form.failure(video, None)
