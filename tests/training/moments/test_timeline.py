"""Pictures of what holds when."""

import cv2
import numpy as np
import pytest

from captioner.errors import CaptionerError
from training.moments.labels import Moment
from training.moments.timeline import Timeline, plot

TRUE = (Moment("run", 0, 5), Moment("jump", 5, 10))


def ink(file):
    """The share of the picture that is in the colour of each of the first two labels."""
    picture = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB).reshape(-1, 3).astype(int)
    blue_and_orange = ((31, 119, 180), (255, 127, 14))
    return [float((np.abs(picture - colour).max(1) < 3).mean()) for colour in blue_and_orange]


def test_truth_and_prediction_have_their_share(tmp_path):
    right = [Timeline("a.mp4", TRUE, TRUE)]
    plot(right, ["run", "jump"], False, tmp_path / "right.png")
    run, jump = ink(tmp_path / "right.png")
    assert run == pytest.approx(jump, rel=0.1)
    assert run > 0.1
    half = [Timeline("a.mp4", TRUE, (Moment("run", 0, 10),))]
    plot(half, ["run", "jump"], False, tmp_path / "half.png")
    run, jump = ink(tmp_path / "half.png")
    assert run == pytest.approx(3 * jump, rel=0.1)


def test_labels_that_hold_at_once_do_not_hide_each_other(tmp_path):
    both = (Moment("run", 0, 10), Moment("jump", 0, 10))
    plot([Timeline("a.mp4", both, both)], ["run", "jump"], True, tmp_path / "a.png")
    run, jump = ink(tmp_path / "a.png")
    assert run == pytest.approx(jump, rel=0.1)


def test_other_formats_and_places(tmp_path):
    timelines = [Timeline("ü $1.mp4", TRUE, ())] * 2
    plot(timelines, [], False, tmp_path / "a.svg")
    assert "<svg" in (tmp_path / "a.svg").read_text("utf-8")
    for name in ("a.docx", "missing/a.png"):
        with pytest.raises(CaptionerError, match="cannot be drawn"):
            plot(timelines, ["run"], False, tmp_path / name)
