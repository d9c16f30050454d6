"""The small world that `tests.benchmarks.retrain` draws."""

import numpy as np

from captioner.config import SamplingOptions
from captioner.video import read_frames

from .retrain import NUM_FRAMES, NUM_TEST, NUM_TRAIN, Event, draw_clip, draw_stories


def test_what_is_held_out_was_never_learned():
    stories = draw_stories(np.random.default_rng(1))
    train, test = stories["train"], stories["test"]
    assert (len(train), len(test)) == (NUM_TRAIN, NUM_TEST)
    assert len(set(test)) == NUM_TEST
    assert len({len(story) for story in test}) == 2
    learned = {event.kind for story in train for event in story}
    for story in test:
        assert any(event.kind not in learned for event in story)
        for event in story:  # but each word of it was
            for place, name in enumerate(event.kind):
                assert name in {kind[place] for kind in learned}
    assert draw_stories(np.random.default_rng(1)) == stories
    assert draw_stories(np.random.default_rng(2)) != stories


def test_sentences():
    red = Event("red", "ball", "left", "slowly")
    assert red.sentence == "a red ball rolls slowly to the left"
    assert Event("blue", "square", "falls").sentence == "a blue square falls"
    assert Event("green", "triangle", "right").sentence == "a green triangle slides to the right"


def _redness(frames):
    """How red each pixel is, but for noise."""
    return (frames[..., 0] - frames[..., 2].astype(float) - 60).clip(0)


def test_a_clip_shows_its_story_and_no_frame_tells_it(tmp_path):
    story = (Event("red", "ball", "left"), Event("blue", "square", "falls"))
    files = [tmp_path / name for name in ("one.avi", "same.avi")]
    for file in files:
        draw_clip(file, story, np.random.default_rng(3))
    assert files[0].read_bytes() == files[1].read_bytes()
    frames = read_frames(files[0], SamplingOptions(NUM_FRAMES)).frames
    red, blue = _redness(frames), _redness(frames[..., ::-1])
    assert (red.sum((1, 2)) > 0).all()  # both are there all the time
    assert (blue.sum((1, 2)) > 0).all()
    along = np.arange(frames.shape[1])
    x = (red * along).sum((1, 2)) / red.sum((1, 2))
    y = (blue * along[:, None]).sum((1, 2)) / blue.sum((1, 2))
    half = NUM_FRAMES // 2
    assert (np.diff(x[:half]) < -2).all()  # pixels
    assert np.abs(np.diff(x[half:])).max() < 1
    assert np.abs(np.diff(y[:half])).max() < 1
    assert (np.diff(y[half:]) > 2).all()
