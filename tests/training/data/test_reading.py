"""Clips that come as frames are sampled as others are."""

import cv2
import numpy as np
import pytest

from captioner.config import SamplingOptions
from captioner.errors import DatasetError, VideoError
from training.data.manifest import LabelledClip
from training.data.reading import read_clip, readable


def _clip(folder, shades, captions=("One.",)):
    folder.mkdir(exist_ok=True)
    frames = tuple(folder / f"{number}.png" for number in range(len(shades)))
    for number, (file, shade) in enumerate(zip(frames, shades)):
        cv2.imwrite(str(file), np.full((8 + number, 12, 3), shade, np.uint8))
    return LabelledClip(frames[0], captions, frames=frames)


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [(1, [40]), (3, [20, 40, 60]), (7, range(10, 80, 10)), (99, range(10, 80, 10))],
)
def test_frames_in_the_middle_of_equal_stretches_are_taken(num_frames, expected, tmp_path):
    clip = _clip(tmp_path / "clip", range(10, 80, 10))
    frames = read_clip(clip, SamplingOptions(num_frames))
    assert frames[:, 0, 0, 0].tolist() == list(expected)
    assert frames.shape[2:] == (12, 3)  # as high as the first that was taken
    assert read_clip(clip, SamplingOptions(num_frames), (4, 5)).shape == (len(expected), 4, 5, 3)


def test_what_cannot_be_read_is_left_out_and_told(tmp_path, capsys):
    whole, torn = _clip(tmp_path / "whole", [10, 20, 30]), _clip(tmp_path / "torn", [40, 50, 60])
    torn.frames[1].unlink()
    with pytest.raises(VideoError, match=r"1\.png: No such file"):
        read_clip(torn, SamplingOptions(1))
    unreadable = []

    def read(clip):
        return read_clip(clip, SamplingOptions(1))

    [(clip, frames)] = readable(read, [torn, whole], unreadable=unreadable)
    assert clip == whole
    assert frames[0, 0, 0, 0] == 20
    assert [one for one, _ in unreadable] == [torn]
    assert "torn/1.png: No such file" in capsys.readouterr().err
    with pytest.raises(DatasetError, match="none of the clips can be read"):
        list(readable(read, [torn]))
