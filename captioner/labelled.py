"""Labels of moments -> labelled segments -> lines of text."""

import csv
import html
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .config import LabellingOptions
from .output import is_unicode, to_timecode

BACKGROUND = "background"  # the label of a moment that has none, where each has to have one


@dataclass(frozen=True)
class LabelledSegment:
    """A stretch of a video in which a label holds.

    Attributes:
        label: the label.
        start: seconds from the first frame of the video.
        end: likewise.
        probability: of the label, the mean over the moments of the stretch.
    """

    label: str
    start: float
    end: float
    probability: float


def segments_of(
    probabilities: Iterable[np.ndarray],
    labels: Sequence[str],
    options: LabellingOptions,
    multi_label: bool,
) -> Iterator[LabelledSegment]:
    """Segments of a video, each as soon as it is known to have ended.

    Args:
        probabilities: of the labels at each moment in turn, `(num_labels,)`.
        labels: their names; a segment of `BACKGROUND` is none.
        options: `fps`, `threshold` and `min_duration`.
        multi_label: whether several labels may hold at once.
    """
    find = _several_at_once if multi_label else _one_at_a_time
    for stretch in find(probabilities, options):
        if stretch.label is not None and labels[stretch.label] != BACKGROUND:
            yield LabelledSegment(
                labels[stretch.label],
                stretch.start / options.fps,
                stretch.end / options.fps,
                float(stretch.total[stretch.label] / (stretch.end - stretch.start)),
            )


@dataclass
class _Stretch:
    """Moments from `start` to before `end`, and the sum of their probabilities."""

    label: int | None
    start: int
    end: int
    total: np.ndarray = field(repr=False)

    def take(self, other: "_Stretch"):
        self.start, self.end = min(self.start, other.start), max(self.end, other.end)
        self.total = self.total + other.total

    def is_short(self, options) -> bool:
        return (self.end - self.start) / options.fps < options.min_duration - 1e-9


def _one_at_a_time(probabilities, options):
    kept = None
    for stretch in _runs(probabilities, options):
        if kept is None:
            kept = stretch
        elif stretch.label == kept.label or stretch.is_short(options):
            kept.take(stretch)
        elif kept.is_short(options):  # the first one, which falls to the one after it
            stretch.take(kept)
            kept = stretch
        else:
            yield kept
            kept = stretch
    if kept is not None and not kept.is_short(options):
        yield kept


def _runs(probabilities, options):
    """Stretches of moments whose likeliest label is the same, cut as soon as they are not short."""
    run = None
    for moment, values in enumerate(probabilities):
        label = int(np.argmax(values))
        label = label if values[label] >= options.threshold else None
        found = _Stretch(label, moment, moment + 1, values.astype(np.float64))
        if run is not None and run.label == label:
            run.take(found)
        else:
            if run is not None:
                yield run
            run = found
        if not run.is_short(options):
            yield run
            run = None
    if run is not None:
        yield run


def _several_at_once(probabilities, options):
    """Stretches in which a label is likely enough, in the order of their ends."""
    running: dict[int, _Stretch] = {}
    end = 0

    def close(label):
        stretch = running.pop(label)
        return () if stretch.is_short(options) else (stretch,)

    for end, values in enumerate(probabilities, 1):
        for label in np.flatnonzero(values >= options.threshold).tolist():
            found = _Stretch(label, end - 1, end, values.astype(np.float64))
            running.setdefault(label, found)
            if running[label] is not found:
                running[label].take(found)
        for label in [label for label, stretch in running.items() if stretch.end < end]:
            yield from close(label)
    for label in list(running):
        yield from close(label)


class Format(NamedTuple):
    """How segments are written.

    Attributes:
        suffix: of a file of it.
        header: the text before the first segment.
        row: the text of a segment, given the video, the segment and its number from 1.
        failure: the text of a video that cannot be labelled, or of one without any segment,
            whose error is None; None where the format has no place for it.
        read_video: the video that a line is of, likewise.
    """

    suffix: str
    header: str
    row: Callable[[str, LabelledSegment, int], str]
    failure: Callable[[str, str | None], str] | None = None
    read_video: Callable[[str], str] | None = None

    @property
    def is_table(self) -> bool:
        """Whether one file holds the rows of many videos."""
        return self.failure is not None


COLUMNS = ("video", "start", "end", "label", "probability", "error")


def _values(video, segment):
    start, end = round(segment.start, 3), round(segment.end, 3)
    return video, start, end, segment.label, round(segment.probability, 4), None


def _json_row(values) -> str:
    row = dict(zip(COLUMNS, values, strict=True))
    text = json.dumps(row, ensure_ascii=False)
    # A path that is no Unicode can only be told in escapes.
    return (text if is_unicode(text) else json.dumps(row)) + "\n"


def _csv_row(values) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _table(suffix, header, write, read_video) -> Format:
    return Format(
        suffix,
        header,
        lambda video, segment, number: write(_values(video, segment)),
        lambda video, error: write((video, None, None, None, None, error)),
        read_video,
    )


def _subtitle(mark, escape=str):
    def row(video, segment, number):
        start, end = (to_timecode(t).replace(".", mark) for t in (segment.start, segment.end))
        text = f"{escape(segment.label)} ({segment.probability:.2f})"
        return f"{number}\n{start} --> {end}\n{text}\n\n"

    return row


def _audacity(video, segment, number):
    return f"{segment.start:.6f}\t{segment.end:.6f}\t{segment.label}\n"


FORMATS = {
    "jsonl": _table(".jsonl", "", _json_row, lambda line: json.loads(line)["video"]),
    "csv": _table(".csv", _csv_row(COLUMNS), _csv_row, lambda line: next(csv.reader([line]))[0]),
    "srt": Format(".srt", "", _subtitle(",")),
    "vtt": Format(".vtt", "WEBVTT\n\n", _subtitle(".", html.escape)),
    "audacity": Format(".txt", "", _audacity),
}


def to_text(video: str, segments: Iterable[LabelledSegment], form: Format) -> Iterator[str]:
    """What a video's segments are written as, piece by piece, without the header.

    A table has at least one row for each video.
    """
    number = 0
    for number, segment in enumerate(segments, 1):
        yield form.row(video, segment, number)
    if number == 0 and form.is_table:
        yield form.failure(video, None)
