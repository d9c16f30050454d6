import itertools
import os
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pytest

from captioner.config import SamplingOptions
from captioner.errors import VideoError
from captioner.video import (
    find_videos,
    is_video,
    read_frames,
    read_frames_at,
    read_steadily,
    stream_frames,
)
from captioner.video.pyav import Stream, Unplannable
from captioner.video.segments import read_segments
from tests.clips import (
    add_exif_orientation,
    make_frame_rate_variable,
    numbered_frame,
    numbers_of,
    turn,
    write_clip,
    write_gif,
)
from tests.damage import CONTAINERS, encode


def _numbered(count):
    return [numbered_frame(number) for number in range(count)]


def _refuse(name):
    raise Unplannable


@pytest.fixture(params=["by packets", "straight"])
def away(request, monkeypatch):
    """Both ways to read; how far from the middle of its stretch, in stretches, a frame may be."""
    if request.param == "by packets":
        return 0.5

    monkeypatch.setattr("captioner.video.frames.Stream", _refuse)
    return 0.0


def _assert_near(found, expected, tolerance):
    assert len(found) == len(expected)
    assert max(abs(a - b) for a, b in zip(found, expected)) <= tolerance
    assert found == sorted(set(found))


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mp4v"), ("a.avi", "MJPG")])
def test_frames_lie_evenly_over_the_clip(name, codec, away, tmp_path):
    clip = read_frames(write_clip(tmp_path / name, _numbered(40), 10, codec), SamplingOptions(4))
    numbers = numbers_of(clip.frames)
    _assert_near(numbers, [5, 15, 25, 35], 10 * away)
    assert clip.frames.shape == (4, 48, 64, 3)
    assert clip.frames.dtype == np.uint8
    np.testing.assert_allclose(clip.times, np.array(numbers) / 10, atol=1e-3)
    assert clip.duration == pytest.approx(4.0, abs=1e-3)


def test_sampled_frames_are_read_again(away, tmp_path):
    path = write_clip(tmp_path / "a.avi", _numbered(40), 10, "MJPG")
    samples = list(read_steadily(path, 0.7))
    again = read_frames_at(path, [sample.time for sample in samples])
    np.testing.assert_array_equal(again, [sample.frame for sample in samples])
    frames = read_frames_at(path, [-1.0, 0.04, 0.06, 0.06, 3.89, 99.0], (24, 32))
    assert numbers_of(frames) == [0, 0, 1, 1, 39, 39]
    assert frames.shape[1:] == (24, 32, 3)
    cv2.imwrite(str(tmp_path / "b.png"), numbered_frame(9))
    assert numbers_of(read_frames_at(tmp_path / "b.png", [0.0])) == [9]


def test_colours_are_rgb(tmp_path):
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 2] = 250  # OpenCV writes BGR
    clip = read_frames(write_clip(tmp_path / "a.avi", [red] * 3, codec="MJPG"), SamplingOptions(1))
    assert clip.frames[0, 20, 30, 0] > 200
    assert clip.frames[0, 20, 30, 1:].max() < 50


def test_frames_are_squashed_to_the_size_wanted(tmp_path):
    left_white = np.zeros((48, 64, 3), np.uint8)
    left_white[:, :32] = 255
    path = write_clip(tmp_path / "a.avi", [left_white] * 3, codec="MJPG")
    frame = read_frames(path, SamplingOptions(1), size=(20, 10)).frames[0]
    assert frame.shape == (20, 10, 3)
    assert frame[:, :4].min() > 200
    assert frame[:, 6:].max() < 50


def test_stretch_of_a_clip(away, tmp_path):
    path = write_clip(tmp_path / "a.mp4", _numbered(40), 10)
    clip = read_frames(path, SamplingOptions(4), start=1.0, end=3.0)
    numbers = numbers_of(clip.frames)
    _assert_near(numbers, [12, 17, 22, 27], 5 * away)
    np.testing.assert_allclose(clip.times, np.array(numbers) / 10, atol=1e-3)
    assert clip.duration == pytest.approx(2.0)
    assert numbers_of(read_frames(path, SamplingOptions(9), start=0.5, end=0.8).frames) == [5, 6, 7]
    assert numbers_of(read_frames(path, SamplingOptions(9), start=0.52, end=0.58).frames) == [5]
    _assert_near(
        numbers_of(read_frames(path, SamplingOptions(2), end=0.4).frames), [1, 3], 2 * away
    )


def test_stretch_that_reaches_past_the_end(away, tmp_path):
    path = write_clip(tmp_path / "a.mp4", _numbered(40), 10)
    clip = read_frames(path, SamplingOptions(9), start=3.75, end=99)
    assert numbers_of(clip.frames) == [38, 39]
    assert clip.duration == pytest.approx(0.25)
    assert numbers_of(read_frames(path, SamplingOptions(9), start=3.95).frames) == [39]
    with pytest.raises(VideoError, match=r"a\.mp4.*over after 4\.0 s"):
        read_frames(path, SamplingOptions(9), start=4.0, end=6.0)


def test_looks_steadily(away, tmp_path):
    path = write_clip(tmp_path / "a.mp4", _numbered(40), 10)
    samples = list(read_steadily(path, 0.5, (48, 64)))
    numbers = numbers_of(np.stack([sample.frame for sample in samples]))
    _assert_near(numbers, range(2, 40, 5), 5 * away)
    np.testing.assert_allclose([s.time for s in samples], np.array(numbers) / 10, atol=1e-3)
    assert [sample.duration for sample in samples] == pytest.approx([4.0] * 8)
    assert len(list(read_steadily(path, 0.01))) == 40
    assert len(list(read_steadily(path, 60))) == 1
    cv2.imwrite(str(tmp_path / "a.png"), numbered_frame(9))
    [sample] = read_steadily(tmp_path / "a.png", 1)
    assert (sample.time, sample.duration) == (0, 0)


def test_looks_on_where_packets_break_off(tmp_path, monkeypatch):
    class BreaksOff(Stream):
        def frames(self, chosen):
            yield from itertools.islice(super().frames(chosen), 3)
            raise Unplannable("broken off")

    monkeypatch.setattr("captioner.video.frames.Stream", BreaksOff)
    path = write_clip(tmp_path / "a.avi", _numbered(40), 10, "MJPG")
    samples = list(read_steadily(path, 0.5))
    assert numbers_of(np.stack([sample.frame for sample in samples])) == list(range(2, 40, 5))
    assert numbers_of(read_frames(path, SamplingOptions(4)).frames) == [5, 15, 25, 35]


@pytest.mark.parametrize("gop", [1, 5, 20, 100])
@pytest.mark.parametrize(("suffix", "codec"), [*CONTAINERS.items(), (".ts", "mpeg2video")])
def test_both_ways_see_the_same(gop, suffix, codec, tmp_path, monkeypatch):
    path = encode(tmp_path / f"a{suffix}", codec, num_frames=100, gop=gop)
    found = read_frames(path, SamplingOptions(5))
    fine = read_frames(path, SamplingOptions(40))
    monkeypatch.setattr("captioner.video.frames.Stream", _refuse)
    straight = read_frames(path, SamplingOptions(5))
    assert numbers_of(straight.frames) == [10, 30, 50, 70, 90]
    _assert_near(numbers_of(found.frames), [10, 30, 50, 70, 90], 10)
    np.testing.assert_allclose(found.times * 10, numbers_of(found.frames), atol=0.1)
    assert found.duration == pytest.approx(straight.duration, abs=0.01)
    _assert_near(
        numbers_of(fine.frames), numbers_of(read_frames(path, SamplingOptions(40)).frames), 1.25
    )


def test_no_more_is_decoded_than_pays(tmp_path):
    def decoded(gop, num_frames):
        path = encode(tmp_path / f"{gop}.mp4", "libx264", num_frames=100, gop=gop)
        with Stream(str(path)) as stream:
            chosen = stream.timeline.choose(SamplingOptions(num_frames))
            near = stream.near(chosen, stream.timeline.duration / num_frames / 2)
            return sum(1 for _ in stream._decode(stream._packets[near])), near.tolist()

    # A keyframe for each.
    assert decoded(10, 5) == (5, [10, 30, 50, 70, 90])
    assert decoded(12, 5) == (5, [12, 24, 48, 72, 84])
    # None near enough: as wanted, and what leads there but for the frames that nothing refers to.
    count, chosen = decoded(100, 5)
    assert chosen == [10, 30, 50, 70, 90]
    assert count < 60


@pytest.mark.parametrize("quarters", range(4))
def test_turned_alike(quarters, tmp_path, monkeypatch):
    corner = np.zeros((48, 64, 3), np.uint8)
    corner[:24, :32] = 255
    path = write_clip(tmp_path / "a.mp4", [corner] * 3)
    turn(path, quarters)
    [by_packets] = read_frames(path, SamplingOptions(1)).frames
    monkeypatch.setattr("captioner.video.frames.Stream", _refuse)
    np.testing.assert_array_equal(read_frames(path, SamplingOptions(1)).frames[0], by_packets)
    upright = np.rot90(by_packets, quarters)
    assert upright.shape == corner.shape
    assert upright[:20, :28].min() > 200
    assert upright[28:].max() < 50


def test_fewer_frames_than_wanted(away, tmp_path):
    clip = read_frames(write_clip(tmp_path / "a.mp4", _numbered(3)), SamplingOptions(8))
    assert numbers_of(clip.frames) == [0, 1, 2]
    clip = read_frames(write_clip(tmp_path / "b.mp4", _numbered(1)), SamplingOptions(8))
    assert numbers_of(clip.frames) == [0]
    assert clip.times == [0]


def test_variable_frame_rate_is_sampled_by_time(away, tmp_path):
    path = write_clip(tmp_path / "a.mp4", _numbered(22))
    # Ten frames in the first second, then twelve of a second each.
    make_frame_rate_variable(path, [100] * 10 + [1000] * 12)
    clip = read_frames(path, SamplingOptions(13))
    first, *others = numbers_of(clip.frames)
    _assert_near([first], [5], 10 * away)
    assert others == list(range(10, 22))
    np.testing.assert_allclose(clip.times, [first / 10, *range(1, 13)], atol=0.01)
    assert clip.duration == pytest.approx(13)


def test_truncated_file_gives_the_frames_that_exist(away, tmp_path):
    whole = write_clip(tmp_path / "whole.avi", _numbered(40), codec="MJPG")
    data = whole.read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(data[: len(data) * 2 // 3])
    promised = cv2.VideoCapture(str(cut)).get(cv2.CAP_PROP_FRAME_COUNT)
    clip = read_frames(cut, SamplingOptions(4))
    numbers = numbers_of(clip.frames)
    assert len(numbers) == 4
    assert numbers == sorted(set(numbers))
    last = clip.duration * 10
    assert 10 < last < 38
    assert promised > last
    assert numbers[-1] == pytest.approx(last * 7 / 8, abs=1.5)


def test_rotated_phone_video(away, tmp_path):
    top_white = np.zeros((48, 64, 3), np.uint8)
    top_white[:24] = 255
    path = write_clip(tmp_path / "a.mp4", [top_white] * 3)
    turn(path)
    frame = read_frames(path, SamplingOptions(1)).frames[0]
    assert frame.shape == (64, 48, 3)
    assert frame[:, 28:].min() > 200  # the top is on the right now
    assert frame[:, :20].max() < 50


def test_animated_gif(tmp_path):
    frames = [numbered_frame(number * 10) for number in range(4)]
    clip = read_frames(
        write_gif(tmp_path / "a.gif", frames, [100, 100, 100, 700]), SamplingOptions(2)
    )
    assert len(clip.frames) == 2
    assert numbers_of(clip.frames)[1] == 30
    clip = read_frames(tmp_path / "a.gif", SamplingOptions(8))
    assert numbers_of(clip.frames) == [0, 10, 20, 30]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_still_picture_is_a_clip_of_one_frame(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), numbered_frame(30))
    clip = read_frames(path, SamplingOptions(8))
    assert numbers_of(clip.frames) == [30]
    assert clip.duration == 0
    np.testing.assert_array_equal(clip.times, [0])


def test_picture_turned_by_exif(tmp_path):
    top_white = np.zeros((48, 64, 3), np.uint8)
    top_white[:24] = 255
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), top_white)
    add_exif_orientation(path, 6)
    frame = read_frames(path, SamplingOptions(1)).frames[0]
    assert frame.shape == (64, 48, 3)
    assert frame[:, 28:].min() > 200


def _empty(path):
    path.touch()


def _text(path):
    path.write_text("dear diary, today I filmed nothing\n" * 100)


def _noise(path):
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def _cut_mp4(path):
    write_clip(path, _numbered(30))
    path.write_bytes(path.read_bytes()[:1000])  # without its index, which stands at the end


def _playlist(path):
    other = write_clip(path.with_name("other.mp4"), _numbered(3))
    path.write_text(f"ffconcat version 1.0\nfile {other}\n")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "check the path"),
        (lambda path: path.mkdir(), "holds no picture; name a folder of numbered pictures"),
        (os.mkfifo, "not a regular file"),
        (_empty, "the file is empty"),
        (_text, "this is text"),
        (_noise, "convert it"),
        (_cut_mp4, "never finished"),
        (_playlist, "this is text"),
    ],
)
def test_no_video(make, message, tmp_path):
    path = tmp_path / "clip.mp4"
    make(path)
    with pytest.raises(VideoError, match=rf"clip\.mp4.*{message}"):
        read_frames(path, SamplingOptions(4))


@pytest.mark.parametrize(
    "arguments",
    [
        ((0, 5),),
        ((5,),),
        (None, -1.0),
        (None, 2.0, 2.0),
        (None, float("nan")),
    ],
)
def test_arguments_that_make_no_sense(arguments, tmp_path):
    with pytest.raises(ValueError, match="expected"):
        read_frames(tmp_path / "a.mp4", SamplingOptions(4), *arguments)


def test_decoders_do_not_chatter(tmp_path):
    _cut_mp4(tmp_path / "cut.mp4")
    _noise(tmp_path / "noise.mp4")
    picture = tmp_path / "cut.jpg"
    cv2.imwrite(str(picture), numbered_frame(10, 200, 300))
    picture.write_bytes(picture.read_bytes()[:700])
    code = (
        "import sys\n"
        "from captioner.config import SamplingOptions\n"
        "from captioner.errors import VideoError\n"
        "from captioner.video import read_frames\n"
        "for path in sys.argv[1:]:\n"
        "    try: read_frames(path, SamplingOptions(4))\n"
        "    except VideoError: pass\n"
    )
    paths = [tmp_path / "cut.mp4", tmp_path / "noise.mp4", picture]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_find_videos(tmp_path):
    for name in ("b.mp4", "a.JPG", "notes.txt", ".hidden.mp4", "deep/c.gif", "deep/er/d.mkv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)

    def found(**options):
        return [str(path.relative_to(tmp_path)) for path in find_videos(tmp_path, **options)]

    assert found() == ["a.JPG", "b.mp4"]
    assert found(recursive=True) == ["a.JPG", "b.mp4", "deep/c.gif", "deep/er/d.mkv"]
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    write_clip(tmp_path / "a.mp4", _numbered(2)).rename(tmp_path / "nameless")
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / "half.part").hardlink_to(tmp_path / "nameless")
    (tmp_path / "odd.suffix").hardlink_to(tmp_path / "nameless")
    passed_over = Counter()
    assert found(passed_over=passed_over) == [
        *("a.JPG", "b.mp4", "gone.mp4", "nameless", "odd.suffix")
    ]
    assert passed_over == {".txt": 1, ".part": 1}
    assert len(found(recursive=True, passed_over=passed_over)) == 7
    assert passed_over == {".txt": 2, ".part": 2, "links to folders": 1}
    with pytest.raises(VideoError, match="cannot be listed"):
        list(find_videos(tmp_path / "none"))


def test_is_video():
    assert is_video("a/b.MP4")
    assert not is_video("a/b.txt")


def streamed(path, fps):
    times, frames = zip(*stream_frames(path, fps))
    return list(times), numbers_of(np.stack(frames))


def test_stream_at_a_constant_rate(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", [numbered_frame(number) for number in range(20)])
    assert streamed(clip, 10) == ([n / 10 for n in range(20)], list(range(20)))
    assert streamed(clip, 4)[1] == [0, 3, 5, 8, 10, 13, 15, 18]
    assert streamed(clip, 20)[1][:5] == [0, 1, 1, 2, 2]
    [(_, frame), *_] = stream_frames(clip, 1, (12, 16))
    assert frame.shape == (12, 16, 3)


def test_stream_follows_a_variable_rate(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", [numbered_frame(number) for number in range(20)])
    make_frame_rate_variable(clip, [100] * 10 + [300] * 10)
    times, numbers = streamed(clip, 2)
    assert times == [n / 2 for n in range(8)]
    assert numbers == [0, 5, 10, 12, 14, 15, 17, 19]


def test_stream_of_a_picture_and_of_none(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), numbered_frame(5))
    assert streamed(tmp_path / "a.png", 2) == ([0.0], [5])
    cv2.imwrite(str(tmp_path / "a.jpg"), numbered_frame(5))
    assert streamed(tmp_path / "a.jpg", 2) == ([0.0], [5])
    (tmp_path / "b.mp4").write_bytes(b"\0" * 1000)
    with pytest.raises(VideoError, match=r"b\.mp4: begins with nothing but zeros"):
        next(stream_frames(tmp_path / "b.mp4", 2))
    with pytest.raises(VideoError, match="No such file"):
        next(stream_frames(tmp_path / "c.mp4", 2))


def test_a_number_stands_for_so_many_frames(tmp_path):
    path = write_clip(tmp_path / "a.mp4", _numbered(9))
    assert numbers_of(read_frames(path, 3).frames) == [1, 4, 7]
    [stretch] = read_segments(path, 0.9, 3)
    assert len(stretch.clip.frames) == 3
