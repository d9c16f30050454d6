"""Probabilities of labels at moments -> labelled segments."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..config import LabellingOptions

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
