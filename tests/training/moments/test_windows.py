"""Videos in lanes: every moment once, in order, and a state where it belongs."""

from collections import defaultdict

import numpy as np
import pytest

from captioner.errors import VideoError
from tests.clips import numbered_frame, write_clip
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
    eye, folder = Eye(), tmp_path / "features"
    features = keep_features(clip, eye, 5, folder)
    assert features.shape == (10, 2, 1)
    assert (features[:5] < 20).all()
    assert (features[5:] > 235).all()
    assert np.array_equal(keep_features(clip, eye, 5, folder), features)
    assert eye.frames == 10
    keep_features(clip, eye, 2, folder)
    keep_features(clip, eye, 5, folder, "other weights")
    assert eye.frames == 10 + 4 + 10
    with pytest.raises(VideoError, match="missing"):
        keep_features(tmp_path / "missing.mp4", eye, 5, folder)
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 100)
    with pytest.raises(VideoError, match="no frame"):
        keep_features(tmp_path / "broken.mp4", eye, 5, folder)
    assert not list(folder.glob("*.partial"))
