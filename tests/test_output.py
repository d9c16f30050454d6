import json

from captioner import Candidate, Caption, Failure
from captioner.output import to_json, to_text

CAPTION = Caption("a b.mp4", (Candidate("Ein Mädchen läuft.", -0.51239),), 1.25, "default")
FAILURE = Failure("c.mp4", "c.mp4: the file is empty", "default")


def test_rows_have_the_same_fields():
    assert json.loads(to_json(CAPTION)) == {
        "video": "a b.mp4",
        "caption": "Ein Mädchen läuft.",
        "score": -0.5124,
        "duration": 1.25,
        "model": "default",
        "error": None,
    }
    assert json.loads(to_json(FAILURE)) == {
        "video": "c.mp4",
        "caption": None,
        "score": None,
        "duration": None,
        "model": "default",
        "error": "c.mp4: the file is empty",
    }
    assert list(json.loads(to_json(CAPTION))) == list(json.loads(to_json(FAILURE)))


def test_rows_are_lines():
    odd = Failure("new\nline.mp4", "what\never", "default")
    assert len(to_json(odd).splitlines()) == 1


def test_text():
    assert to_text(CAPTION) == "a b.mp4\tEin Mädchen läuft."
    assert to_text(FAILURE) == "c.mp4\t[not captioned: c.mp4: the file is empty]"
