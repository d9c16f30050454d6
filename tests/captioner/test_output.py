import csv
import json
from dataclasses import replace

import pytest

from captioner import Candidate, Caption, Failure, Segment
from captioner.output import COLUMNS, from_json, to_csv, to_json, to_srt, to_text, to_vtt

CAPTION = Caption(
    "a b.mp4",
    (Candidate("Ein Mädchen läuft.", -0.5124),),
    1.25,
    "default",
    size=1234,
    modified=1700000000.25,
)
FAILURE = Failure("c.mp4", "c.mp4: the file is empty", "default")


def test_rows_have_the_same_fields():
    assert json.loads(to_json(CAPTION)) == {
        "video": "a b.mp4",
        "caption": "Ein Mädchen läuft.",
        "score": -0.5124,
        "duration": 1.25,
        "model": "default",
        "error": None,
        "size": 1234,
        "modified": 1700000000.25,
    }
    assert json.loads(to_json(FAILURE)) == {
        "video": "c.mp4",
        "caption": None,
        "score": None,
        "duration": None,
        "model": "default",
        "error": "c.mp4: the file is empty",
        "size": None,
        "modified": None,
    }
    assert list(json.loads(to_json(CAPTION))) == list(json.loads(to_json(FAILURE)))


def test_rows_are_lines():
    odd = Failure("new\nline.mp4", "what\never", "default")
    assert len(to_json(odd).splitlines()) == 1


def test_text():
    assert to_text(CAPTION) == "a b.mp4\tEin Mädchen läuft."
    assert to_text(FAILURE) == "c.mp4\t[not captioned: c.mp4: the file is empty]"


SEGMENTED = replace(
    CAPTION,
    duration=3725.5,
    segments=(
        Segment(0.0, 61.25, (Candidate("One, two.", -0.25),)),
        Segment(61.25, 3725.5, (Candidate("Three.", -0.75),)),
    ),
)


@pytest.mark.parametrize("result", [CAPTION, FAILURE, SEGMENTED])
def test_rows_of_json_can_be_read_again(result):
    assert from_json(to_json(result)) == result
    assert from_json(to_json(result).encode()) == result


@pytest.mark.parametrize("row", ["", "{}", "[]", "1", "{", '{"video": "a", "caption": "b"}'])
def test_what_is_no_row(row):
    with pytest.raises(ValueError, match=r"."):
        from_json(row)


def test_paths_that_are_no_unicode():
    odd = Failure("caf\udce9 é.mp4", "wrong", "default")
    row = to_json(odd)
    assert row.encode("ascii")
    assert from_json(row) == odd


def test_csv():
    text = "\n".join([",".join(COLUMNS), *map(to_csv, (CAPTION, FAILURE, SEGMENTED))])
    caption, failure, one, two = csv.DictReader(text.splitlines())
    assert caption["caption"] == "Ein Mädchen läuft."
    assert (caption["start"], caption["end"]) == ("0.0", "1.25")
    assert failure["error"] == "c.mp4: the file is empty"
    assert failure["caption"] == ""
    assert (one["caption"], one["end"], one["score"]) == ("One, two.", "61.25", "-0.25")
    assert (two["start"], two["end"]) == ("61.25", "3725.5")


def test_text_of_segments():
    assert to_text(SEGMENTED).splitlines() == [
        "a b.mp4\t00:00:00.000 - 00:01:01.250\tOne, two.",
        "a b.mp4\t00:01:01.250 - 01:02:05.500\tThree.",
    ]


def test_subtitles():
    assert to_srt(SEGMENTED) == (
        "1\n00:00:00,000 --> 00:01:01,250\nOne, two.\n\n2\n00:01:01,250 --> 01:02:05,500\nThree.\n"
    )
    assert to_vtt(SEGMENTED) == (
        "WEBVTT\n\n1\n00:00:00.000 --> 00:01:01.250\nOne, two.\n\n"
        "2\n00:01:01.250 --> 01:02:05.500\nThree.\n"
    )
    assert "00:00:00,000 --> 00:00:01,250\nEin Mädchen läuft.\n" in to_srt(CAPTION)
    assert to_srt(FAILURE) == ""
    sly = replace(CAPTION, candidates=(Candidate("A --> <b>B</b> & C.", -1.0),))
    assert "\nA -> <b>B</b> & C.\n" in to_srt(sly)
    assert "\nA --&gt; &lt;b&gt;B&lt;/b&gt; &amp; C.\n" in to_vtt(sly)


def test_text_has_a_line_for_each_video_whatever_its_name():
    video = "a\tb\nc\u2028d\\e.mp4"
    line = to_text(Failure(video, f"{video}: broken", "m"))
    assert line.splitlines() == [line]
    assert line.count("\t") == 1
    assert line.startswith("a\\tb\\nc\\u2028d\\e.mp4\t[not")
