"""Videos in lanes: every moment once, in order, and a state where it belongs."""

from collections import defaultdict
from contextlib import nullcontext

import numpy as np
import pytest

from captioner.errors import VideoError
from tests.clips import numbered_frame, write_clip
from training.data.store import open_store
from training.moments.windows import LabelledFeatures, Window, fill, keep_features, lay_out

LENGTHS = [10, 3, 0, 7, 1, 25]


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("num_lanes", [1, 3, 8])
def test_every_moment_once_and_in_its_lane(num_lanes, seed):
    rng = None if seed is None else np.random.default_rng(seed)
    lanes = defaultdict(list)
    for row in lay_out(LENGTHS, num_lanes, 4, rng):
        assert len(row) == num_lanes
        for lane, window in enumerate(row):
            lanes[lane].append(window)
    seen = defaultdict(int)
    for lane in lanes.values():
        running = None
        for window in lane:
            if window is None:
                running = None
                continue
            if window.start:
                assert running == window.video, "a video goes on in its lane"
            assert window.start == seen[window.video]
            assert 1 <= window.length <= 4
            seen[window.video] += window.length
            running = window.video
    assert dict(seen) == {video: length for video, length in enumerate(LENGTHS) if length}


def test_by_hand():
    assert list(lay_out([5, 2, 3], 2, 3)) == [
        [Window(0, 0, 3), Window(1, 0, 2)],
        [Window(0, 3, 2), Window(2, 0, 3)],
    ]
    assert list(lay_out([2, 1], 3, 4)) == [[Window(0, 0, 2), Window(1, 0, 1), None]]
    assert list(lay_out([], 2, 4)) == []


def test_order_is_that_of_the_seed():
    def drawn(seed):
        return list(lay_out(LENGTHS, 2, 4, np.random.default_rng(seed)))

    assert drawn((1, 5)) == drawn((1, 5))
    assert drawn((1, 5)) != drawn((1, 6))


def test_fill():
    videos = [
        LabelledFeatures(np.arange(10, dtype="float16").reshape(5, 2), np.array([1, 1, 2, 2, 2])),
        LabelledFeatures(np.full((2, 2), 7, "float16"), np.array([3, 3])),
    ]
    batch = fill([Window(0, 3, 2), Window(1, 0, 2), None], videos, 3)
    assert batch.features[:, :, 0].tolist() == [[6, 8, 0], [7, 7, 0], [0, 0, 0]]
    assert batch.features.dtype == np.float32
    assert batch.targets.tolist() == [[2, 2, 0], [3, 3, 0], [0, 0, 0]]
    assert batch.sequence_length.tolist() == [2, 2, 0]
    assert batch.begins.tolist() == [False, True, True]


class Eye:
    """A backbone that sees how bright each half is."""

    name, input_size, feature_shape = "eye", (16, 16), (2, 1)
    frames = 0

    def __call__(self, frames):
        self.frames += len(frames)
        return frames.reshape(len(frames), 16, 2, 8, 3).mean((1, 3, 4))[..., None]


def test_features_are_kept(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", [numbered_frame(255 if n > 9 else 0) for n in range(20)])
    eye, weights = Eye(), tmp_path / "weights"
    weights.touch()

    def keep(path, fps, weights=None):
        with open_store(tmp_path / "features", eye, weights, {"fps": fps}) as store:
            return keep_features(path, eye, fps, store)

    features = keep(clip, 5)
    assert features.shape == (10, 2, 1)
    assert (features[:5] < 20).all()
    assert (features[5:] > 235).all()
    assert np.array_equal(keep(clip.rename(tmp_path / "b.mp4"), 5)[:], features[:])
    assert eye.frames == 10
    keep(tmp_path / "b.mp4", 2)
    keep(tmp_path / "b.mp4", 5, weights)
    assert eye.frames == 10 + 4 + 10
    with pytest.raises(VideoError, match="missing"):
        keep(tmp_path / "missing.mp4", 5)
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 100)
    with pytest.raises(VideoError, match="nothing but zeros"):
        keep(tmp_path / "broken.mp4", 5)


def test_features_of_a_long_video_are_read_by_stretches(tmp_path, monkeypatch):
    """Each frame has its number as brightness."""
    monkeypatch.setattr("training.moments.windows.BATCH_FRAMES", 4)
    clip = write_clip(
        tmp_path / "a.mp4", [np.full((64, 64, 3), 20 * n, np.uint8) for n in range(11)]
    )

    class Killed(Eye):
        def __call__(self, frames):
            if self.frames == 8:
                raise KeyboardInterrupt
            return super().__call__(frames)

    for eye, outcome in ((Killed(), pytest.raises(KeyboardInterrupt)), (Eye(), nullcontext())):
        with open_store(tmp_path, eye, None, {"fps": 10}) as store, outcome:
            features = keep_features(clip, eye, 10, store)
    assert eye.frames == 4 + 3  # the record in the middle was kept
    assert features.shape == (11, 2, 1)
    whole = features[:]
    assert (np.abs(whole[:, 0, 0] - 20.0 * np.arange(11)) < 5).all()
    for start, stop in ((0, 4), (3, 5), (4, 8), (5, 11), (10, 11), (2, 99)):
        assert np.array_equal(features[start:stop], whole[start:stop])
    with pytest.raises(ValueError, match="expected a stretch"):
        features[3:3]
