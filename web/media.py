"""What kind of file it is by its content, and pictures of it to look at."""

import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from captioner.video import read_frames_at

HEAD = 16
_HEIGHT = 180  # pixels, of a frame of a video
_PICTURE_HEIGHT = 720  # of a picture, for browsers that do not show its kind
# The first bytes, where they stand, and what that is. Nothing else is taken in, and nothing is
# ever sent out as another type.
_SIGNATURES = (
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypavis", "image/avif"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypheix", "image/heic"),
    (4, b"ftypmif1", "image/heif"),
    (4, b"ftyp", "video/mp4"),
    (4, b"moov", "video/mp4"),
    (4, b"mdat", "video/mp4"),
    (4, b"wide", "video/mp4"),
    (4, b"free", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (8, b"AVI ", "video/x-msvideo"),
    (8, b"WEBP", "image/webp"),
    (0, b"OggS", "video/ogg"),
    (0, b"FLV\x01", "video/x-flv"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-wmv"),
    (0, b"\x00\x00\x01\xba", "video/mpeg"),
    (0, b"\x00\x00\x01\xb3", "video/mpeg"),
    (4, b"\x47\x40", "video/mp2t"),
    (0, b"\x00\x00\x00\x01", "video/h264"),
    (0, b"\x00\x00\x01\x67", "video/h264"),
    (0, b"\x06\x0e\x2b\x34", "video/mxf"),
    (0, b"YUV4MPEG2", "video/x-yuv4mpeg"),
    (0, b"nut/multi", "video/x-nut"),
    (0, b".RMF\x00", "video/x-rm"),
    (0, b"DKIF", "video/x-ivf"),
    (0, b"GIF8", "image/gif"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (4, b"jP  \r\n\x87\n", "image/jp2"),
)


def media_type(head: bytes) -> str | None:
    """The type of a video or picture by its first `HEAD` bytes; None if it is neither."""
    known = (kind for at, mark, kind in _SIGNATURES if head[at:].startswith(mark))
    return next(known, "video/mp2t" if _is_transport_packet(head) else None)


def _is_transport_packet(head: bytes) -> bool:
    """Whether a recording may begin here that was cut anywhere, and not a text with a G."""
    return (
        len(head) == HEAD
        and head[0] == 0x47
        and not head[1] & 0xA0  # neither damaged nor urgent
        and bool(head[3] & 0x30)  # it carries something
        and not head.isascii()
    )


def write_frames(video: Path, times: Sequence[float], folder: Path) -> None:
    """Writes the frames that a captioner looked at as `0.jpg`, `1.jpg`, ..., all or none.

    The one with most in it is written as `cover.jpg` too: the first is often black.

    Args:
        video: the file.
        times: of the frames, seconds from the first one.
        folder: where to write them, in place of what is there.

    Raises:
        VideoError: the video cannot be read.
        OSError: a picture cannot be written.
    """
    frames = read_frames_at(video, times)
    partial = folder.with_name(f".{uuid.uuid4().hex}")
    partial.mkdir()
    try:
        details = []
        most = _PICTURE_HEIGHT if len(frames) == 1 else _HEIGHT
        for number, frame in enumerate(frames):
            height, width = frame.shape[:2]
            scale = min(1.0, most / height)
            small = cv2.resize(
                frame,
                (max(1, round(width * scale)), max(1, round(height * scale))),
                interpolation=cv2.INTER_AREA,
            )
            bgr = np.ascontiguousarray(small[..., ::-1])
            path = partial / f"{number}.jpg"
            if not cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, 82]):
                raise OSError(f"{path}: cannot be written; is the disk full?")
            grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
            details.append(cv2.Laplacian(grey, cv2.CV_64F).var())
        shutil.copyfile(partial / f"{np.argmax(details)}.jpg", partial / "cover.jpg")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
