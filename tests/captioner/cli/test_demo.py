import numpy as np

from captioner.cli.demo import write_demo_clip
from captioner.config import SamplingOptions
from captioner.video import read_frames


def test_the_clip_moves(tmp_path):
    write_demo_clip(tmp_path / "demo.mp4")
    clip = read_frames(tmp_path / "demo.mp4", SamplingOptions(8))
    assert clip.frames.shape == (8, 360, 640, 3)
    assert abs(clip.duration - 4) < 0.1
    assert np.abs(np.diff(clip.frames.astype(float), axis=0)).mean((1, 2, 3)).min() > 2
