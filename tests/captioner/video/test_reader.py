"""Files that mean no good, each read in a child process."""

import os
import signal
import struct
import threading
import time
import zlib

import av
import cv2
import numpy as np
import pytest

from captioner.batch import caption_files
from captioner.caption import Failure
from captioner.config import SamplingOptions
from captioner.errors import VideoError
from captioner.video import read_frames
from captioner.video.pyav import OPTIONS
from captioner.video.reader import Reader, ReadingLimits, Request
from captioner.video.straight import packet_timeline
from tests.clips import numbered_frame, numbers_of, write_clip
from tests.damage import CONTAINERS, DAMAGES, encode
from tests.fake import FakeCaptioner

# As many as fit into the time of the test suite; CAPTIONER_DAMAGED_FILES=20000 for a long night.
NUM_DAMAGED = int(os.environ.get("CAPTIONER_DAMAGED_FILES", "2000"))


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "good.mp4", [numbered_frame(number) for number in range(10)])


def _read(reader, path, num_frames=3, **options):
    [part] = reader.read(Request(str(path), SamplingOptions(num_frames), **options))
    return part


def test_reads_as_in_this_process(clip):
    with Reader() as reader:
        for _ in range(2):
            found = _read(reader, clip, size=(20, 30), start=0.2, end=0.9)
            expected = read_frames(clip, SamplingOptions(3), (20, 30), 0.2, 0.9)
            np.testing.assert_array_equal(found.frames, expected.frames)
            np.testing.assert_array_equal(found.times, expected.times)
            assert found.duration == expected.duration


def test_child_loads_no_model(clip):
    with Reader() as reader:
        _read(reader, clip)
        with open(f"/proc/{reader._process.pid}/maps") as maps:
            libraries = maps.read()
    assert "cv2" in libraries
    assert "tensorflow" not in libraries


def test_errors_are_told_and_the_reader_goes_on(clip, tmp_path):
    with Reader() as reader:
        with pytest.raises(VideoError, match=r"none\.mp4: No such file"):
            _read(reader, tmp_path / "none.mp4")
        process = reader._process
        assert numbers_of(_read(reader, clip).frames) == [1, 5, 8]
        assert reader._process is process


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    frames = [numbered_frame(number % 256, 360, 640) for number in range(300)]
    return write_clip(tmp_path_factory.mktemp("long") / "long.avi", frames, 5, "MJPG")


def test_time_limit(clip, long_clip):
    with Reader(ReadingLimits(seconds=0.3)) as reader:
        start = time.monotonic()
        with pytest.raises(VideoError, match=r"long\.avi: took longer than 0\.3 s"):
            _read(reader, long_clip, 300)
        assert time.monotonic() - start < 5
        assert len(_read(reader, clip).frames) == 3


def test_time_limit_of_segments_starts_anew_with_each(long_clip):
    with Reader(ReadingLimits(seconds=1)) as reader:
        parts = []
        for part in reader.read(Request(str(long_clip), SamplingOptions(4), (32, 32), segments=20)):
            parts.append(part)
            time.sleep(0.6)  # of ours, not of the child
        assert parts[-1].end == pytest.approx(60, abs=0.1)


def test_memory_limit(clip, long_clip):
    with Reader(ReadingLimits(memory=100)) as reader:
        with pytest.raises(VideoError, match=r"long\.avi: needs more than 100 MB"):
            _read(reader, long_clip, 300)
        assert len(_read(reader, clip).frames) == 3


def test_pixel_limit(tmp_path):
    picture = tmp_path / "large.png"
    cv2.imwrite(str(picture), numbered_frame(3))
    data = bytearray(picture.read_bytes())
    data[16:24] = struct.pack(">II", 30000, 30000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    picture.write_bytes(data)
    video = encode(tmp_path / "large.avi", "mpeg4")
    data = video.read_bytes()
    sides = struct.pack("<II", 64, 48)
    assert data.count(sides) == 2
    video.write_bytes(data.replace(sides, struct.pack("<II", 30000, 30000)))
    with Reader() as reader:
        with pytest.raises(VideoError, match=r"large\.png: .* 68 million .* --pixel-limit"):
            _read(reader, picture)
        clip = _read(reader, video)  # the frames say of themselves how large they are
    assert clip.frames.shape == (3, 48, 64, 3)
    cv2.imwrite(str(picture), numbered_frame(3))
    told = pytest.raises(VideoError, match=r"64 x 48 pixels, and more than 0\.001 million")
    with Reader(ReadingLimits(megapixels=0.001)) as reader, told:
        _read(reader, picture)


def test_crash_costs_one_video(clip, long_clip):
    with Reader() as reader:
        reader.start()
        pid = reader._process.pid
        threading.Timer(0.5, os.kill, (pid, signal.SIGSEGV)).start()
        parts = reader.read(Request(str(long_clip), SamplingOptions(300), (32, 32), segments=0.2))
        slowly = (time.sleep(0.1) for _ in parts)
        with pytest.raises(VideoError, match=r"long\.avi: its decoder crashed"):
            list(slowly)
        assert len(_read(reader, clip).frames) == 3
        assert reader._process.pid != pid


def test_child_ends_with_its_parent(clip):
    reader = Reader()
    _read(reader, clip)
    process = reader._process
    reader._connection.close()  # as the system does for one that was killed
    assert process.wait(5) == 0
    reader.close()


def _playlist(path, clip):
    path.write_text(f"ffconcat version 1.0\nfile {clip}\n")


def _bare_concat(path, clip):
    path.write_text(f"file {clip}\n")


def _hls(path, clip):
    path.write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{clip}\n#EXT-X-ENDLIST\n")


def _hls_behind_bytes(path, clip):
    path.write_bytes(b"\0\0\0\0" + f"#EXTM3U\n#EXTINF:1,\nfile://{clip}\n".encode())


def _dash(path, clip):
    path.write_text(f"<?xml version='1.0'?><MPD><BaseURL>file://{clip}</BaseURL></MPD>")


def _session(path, clip):
    path.write_text("v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n")


def _pattern(path, clip):
    path.write_bytes(b"\x01\x02\x03\x04" * 100)
    for number in range(3):
        cv2.imwrite(str(path.with_name(f"img{number}.jpg")), numbered_frame(number))


def _fifo(path, clip):
    os.mkfifo(path)


def _device(path, clip):
    path.symlink_to("/dev/zero")


def _loop(path, clip):
    path.symlink_to(path)


def _folder(path, clip):
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.mp4", _playlist),
        ("a.mp4", _bare_concat),
        ("a.m3u8.ts", _hls),
        ("a.ts", _hls_behind_bytes),
        ("a.mp4", _dash),
        ("a.mp4", _session),
        ("img%d.jpg", _pattern),
        ("img*.jpg", _pattern),
        ("a.mp4", _fifo),
        ("a.mp4", _device),
        ("a.mp4", _loop),
        ("a.mp4", _folder),
    ],
)
def test_leads_nowhere(name, make, clip, tmp_path):
    path = tmp_path / "strange" / name
    path.parent.mkdir()
    make(path, clip)
    with Reader(ReadingLimits(seconds=5)) as reader:
        with pytest.raises(VideoError) as caught:
            _read(reader, path)
        assert str(path) in str(caught.value)
        assert "took longer" not in str(caught.value)


def test_names_are_no_protocols(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VideoError, match="No such file"):
        read_frames("concat:good.mp4|good.mp4", SamplingOptions(3))


def test_decoders_open_nothing_but_files(clip):
    assert len(packet_timeline(clip).times) == 10
    av.open(str(clip), options=OPTIONS).close()
    with pytest.raises(av.FFmpegError):
        av.open(f"concat:{clip}", options=OPTIONS)


def test_damaged_files_get_a_row_each_in_time(tmp_path):
    random = np.random.default_rng(20)
    whole = [
        (suffix, encode(tmp_path / f"whole{gop}{suffix}", codec, gop=gop))
        for suffix, codec in CONTAINERS.items()
        for gop in (1, 6)
    ]
    for _, path in whole:
        assert len(read_frames(path, SamplingOptions(4)).frames) == 4
    contents = [(suffix, path.read_bytes()) for suffix, path in whole]
    paths = []
    for number in range(NUM_DAMAGED):
        suffix, data = contents[number % len(contents)]
        damage = DAMAGES[number // len(contents) % len(DAMAGES)]
        _, other = contents[random.integers(len(contents))]
        paths.append(tmp_path / f"{number:05}{suffix}")
        paths[-1].write_bytes(damage(data, other, random))
    readers = [Reader(ReadingLimits(seconds=20, memory=512)) for _ in range(2)]
    results = list(caption_files(FakeCaptioner(), paths, readers=readers))
    assert [result.video for result in results] == list(map(str, paths))
    errors = [result.error for result in results if isinstance(result, Failure)]
    assert NUM_DAMAGED // 4 < len(errors) < NUM_DAMAGED * 3 // 4
    assert not [error for error in errors if "took longer" in error or "crashed" in error]
    assert not [error for error in errors if "cannot be read, " in error]
