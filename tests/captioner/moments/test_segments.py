"""From labels of moments to segments, and from segments to text."""

import csv
import io
import json

import numpy as np
import pytest

from captioner.config import LabellingOptions
from captioner.moments.output import FORMATS, to_text
from captioner.moments.segments import LabelledSegment, segments_of

LABELS = ("background", "run", "jump")


def moments(text, probability=0.8):
    """Probabilities of moments, a letter each for the likeliest label: `-`, `r`, `j`."""
    rows = np.full((len(text), 3), (1 - probability) / 2)
    rows[np.arange(len(text)), ["-rj".index(letter) for letter in text]] = probability
    return rows.astype(np.float32)


def found(text, multi_label=False, **options):
    segments = segments_of(moments(text), LABELS, LabellingOptions(fps=2, **options), multi_label)
    return [(segment.label, segment.start, segment.end) for segment in segments]


def test_one_at_a_time():
    assert found("-rrj--r") == [("run", 0.5, 1.5), ("jump", 1.5, 2), ("run", 3, 3.5)]
    assert found("") == []
    assert found("--") == []


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("rrrrjrrrr", [("run", 0, 4.5)]),  # flicker falls to what was before it, on both sides
        ("rrrr-j-jjjj", [("run", 0, 3.5), ("jump", 3.5, 5.5)]),
        ("jrrrr", [("run", 0, 2.5)]),  # the first falls to the one after it
        ("rrrrj", [("run", 0, 2.5)]),
        ("rrrr----jjjj", [("run", 0, 2), ("jump", 4, 6)]),
        ("rj", []),
    ],
)
def test_min_duration(text, segments):
    assert found(text, min_duration=1.5) == segments


def test_threshold():
    assert found("rrj", threshold=0.8) == [("run", 0, 1), ("jump", 1, 1.5)]
    assert found("rrj", threshold=0.9) == []


def test_several_at_once():
    rows = np.array([[0, 0.9, 0.2], [0, 0.7, 0.6], [0, 0.2, 0.8], [0, 0.9, 0.1]], np.float32)
    options = LabellingOptions(fps=2, threshold=0.5)
    segments = list(segments_of(rows, LABELS, options, multi_label=True))
    spans = [(x.label, x.start, x.end, round(x.probability, 4)) for x in segments]
    assert spans == [("run", 0, 1, 0.8), ("jump", 0.5, 1.5, 0.7), ("run", 1.5, 2, 0.9)]
    options = LabellingOptions(fps=2, threshold=0.5, min_duration=1)
    assert len(list(segments_of(rows, LABELS, options, multi_label=True))) == 2


def test_probability_is_the_mean():
    rows = np.concatenate([moments("r", 0.6), moments("r", 0.9)])
    [segment] = segments_of(rows, LABELS, LabellingOptions(fps=1), multi_label=False)
    assert segment == LabelledSegment("run", 0, 2, pytest.approx(0.75))


def test_segments_come_as_soon_as_they_end():
    taken = []

    def watched():
        for number, row in enumerate(moments("rrrrrjjjjj")):
            taken.append(number)
            yield row

    segments = segments_of(watched(), LABELS, LabellingOptions(fps=1, min_duration=2), False)
    next(segments)
    assert len(taken) == 7  # two moments of the next label


JUMP = 'long, "high" jump'
SEGMENTS = [LabelledSegment("run", 0, 1.5, 0.87654), LabelledSegment(JUMP, 61, 62, 1)]


def written(name, segments=SEGMENTS, video="a b.mp4"):
    form = FORMATS[name]
    return form.header + "".join(to_text(video, segments, form))


def test_tables():
    rows = [json.loads(line) for line in written("jsonl").splitlines()]
    first = {"video": "a b.mp4", "start": 0, "end": 1.5, "label": "run", "probability": 0.8765}
    assert rows[0] == {**first, "error": None}
    assert [row["label"] for row in rows] == ["run", JUMP]
    rows = list(csv.DictReader(io.StringIO(written("csv"))))
    assert rows[1]["label"] == JUMP
    assert rows[0] == {k: str(v) for k, v in first.items()} | {"error": ""}
    for name in ("jsonl", "csv"):
        form = FORMATS[name]
        rows = [row.encode() for row in to_text("ü,.mp4", SEGMENTS, form)]
        assert [form.read_video(row) for row in rows] == ["ü,.mp4"] * 2
        [empty] = to_text("a.mp4", [], form)
        assert form.read_video(empty.encode()) == "a.mp4"
        assert form.failure("a.mp4", None) == empty


def test_subtitles():
    first = "1\n00:00:00,000 --> 00:00:01,500\nrun (0.88)\n\n"
    assert written("srt").startswith(first + "2\n00:01:01,000 --> 00:01:02,000\nlong")
    assert written("vtt").startswith("WEBVTT\n\n" + first.replace(",", "."))
    assert written("srt", []) == ""


def test_audacity():
    assert written("audacity").splitlines()[0] == "0.000000\t1.500000\trun"
