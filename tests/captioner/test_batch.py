import itertools
import os
import time

import numpy as np
import pytest

from captioner.batch import AHEAD, BATCH_SIZE, caption_files
from captioner.caption import Caption, Failure
from captioner.video.reader import Reader, ReadingLimits
from tests.clips import write_clip
from tests.fake import FakeCaptioner


def _grey(path, *levels, frames_each=20):
    """A clip of some brightnesses, at ten frames a second."""
    frames = [np.full((48, 64, 3), level, np.uint8) for level in levels for _ in range(frames_each)]
    return write_clip(path, frames)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return [_grey(folder / f"{level:03}.mp4", level, frames_each=6) for level in range(0, 250, 10)]


def _readers(count=2, **limits):
    return [Reader(ReadingLimits(**limits)) for _ in range(count)]


def test_good_and_bad_files_in_their_order(clips, tmp_path):
    (tmp_path / "empty.mp4").touch()
    given = Failure("folder", "folder: holds no video or picture", "fake")
    files = [*clips[:3], tmp_path / "empty.mp4", given, tmp_path / "none.mp4", *clips[3:]]
    captioner = FakeCaptioner()
    results = list(caption_files(captioner, files, readers=_readers()))
    assert [r.video for r in results] == [str(getattr(file, "video", file)) for file in files]
    assert [isinstance(r, Failure) for r in results[:7]] == [False] * 3 + [True] * 3 + [False]
    assert results[4] is given
    levels = [float(r.text.split()[1][:-1]) for r in results if isinstance(r, Caption)]
    assert levels == pytest.approx(range(0, 250, 10), abs=5)
    assert sum(captioner.batch_sizes) == len(clips)
    assert max(captioner.batch_sizes) == BATCH_SIZE


def test_tells_of_the_file(clips):
    [result] = caption_files(FakeCaptioner(), clips[:1], readers=_readers(1))
    assert result.size == os.stat(clips[0]).st_size
    assert result.modified == os.stat(clips[0]).st_mtime
    assert result.duration == pytest.approx(0.6)
    assert len(result.times) == 4
    assert result.model == "fake"


def test_slow_file_does_not_hold_up_reading_nor_change_the_order(clips, tmp_path):
    taken = []

    def files():
        for clip in [slow, *clips]:
            taken.append(clip)
            yield clip

    slow = _grey(tmp_path / "slow.avi", *range(200), frames_each=20)
    results = caption_files(FakeCaptioner(), files(), 0.1, _readers())
    first = next(results)
    assert first.video == str(slow)
    assert len(taken) > 10
    assert [r.video for r in results] == list(map(str, clips))


def test_takes_no_more_files_than_it_can_hold(clips):
    taken = itertools.count()
    results = caption_files(
        FakeCaptioner(), (clips[next(taken) % len(clips)] for _ in itertools.repeat(0))
    )
    for _ in range(50):
        next(results)
    time.sleep(0.5)
    results.close()
    assert next(taken) < 50 + AHEAD


def test_closing_early_is_quick(clips):
    results = caption_files(FakeCaptioner(), itertools.cycle(clips), readers=_readers())
    next(results)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 3


def test_error_of_the_one_who_names_files_is_told(clips):
    def files():
        yield clips[0]
        raise RuntimeError("no more disk")

    with pytest.raises(RuntimeError, match="no more disk"):
        list(caption_files(FakeCaptioner(), files(), readers=_readers()))


def test_segments_by_the_clock(tmp_path):
    path = _grey(tmp_path / "a.mp4", 0, 100, 200, frames_each=20)
    [caption] = caption_files(FakeCaptioner(), [path], 2, _readers(1))
    assert [(s.start, s.end) for s in caption.segments] == [
        (0, 2),
        (2, 4),
        (4, pytest.approx(6, abs=0.01)),
    ]
    levels = [float(s.text.split()[1][:-1]) for s in caption.segments]
    assert levels == pytest.approx([0, 100, 200], abs=5)
    assert float(caption.text.split()[1][:-1]) == pytest.approx(100, abs=30)
    assert 1 <= len(caption.times) <= 4
    assert caption.duration == pytest.approx(6, abs=0.01)


def test_segments_by_shots(tmp_path):
    path = _grey(tmp_path / "a.mp4", 0, 0, 90, 90, 90, 200, frames_each=10)
    [caption] = caption_files(FakeCaptioner(), [path], "shots", _readers(1))
    ends = [segment.end for segment in caption.segments]
    assert ends == [pytest.approx(time, abs=0.26) for time in (2, 5, 6)]
    assert [s.start for s in caption.segments] == [0, *ends[:-1]]


def test_long_video_is_given_piece_by_piece(tmp_path):
    """Never more than the queue and a batch of it are held."""
    path = _grey(tmp_path / "a.avi", *range(0, 250), frames_each=10)
    captioner = FakeCaptioner()
    [caption] = caption_files(captioner, [path], 1, _readers(1))
    assert len(caption.segments) == 250
    assert max(captioner.batch_sizes) <= BATCH_SIZE
    assert len(caption.times) == 4
    assert np.diff(caption.times).min() > 20
