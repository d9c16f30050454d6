"""What a file is by its first bytes."""

import pytest

from tests.captioner.video.test_encodings import ENCODINGS, write
from web.media import HEAD, media_type


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_is_taken_in(encoding, tmp_path):
    suffix, *how, _ = ENCODINGS[encoding]
    path = write(tmp_path / f"a.{suffix}", *how)
    assert media_type(path.read_bytes()[:HEAD]).startswith(("video/", "image/"))


def test_a_recording_cut_anywhere(tmp_path):
    data = write(tmp_path / "a.ts", "libx264").read_bytes()
    taken = [media_type(data[at : at + HEAD]) for at in range(0, len(data) - HEAD, 188)]
    assert taken.count("video/mp2t") > 0.8 * len(taken)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n",
        b"Gr\xc3\xbc\xc3\x9fe an alle!",
        b"<html><head>....",
        b"%PDF-1.7 pages...",
    ],
)
def test_what_is_no_video_is_not(head):
    assert media_type(head[:HEAD]) is None
