"""A video file -> frames."""

from .files import SUFFIXES, find_videos, is_video
from .frames import (
    Clip,
    Sample,
    read_frames,
    read_frames_at,
    read_pictures,
    read_steadily,
    stream_frames,
)

__all__ = [
    "SUFFIXES",
    "Clip",
    "Sample",
    "find_videos",
    "is_video",
    "read_frames",
    "read_frames_at",
    "read_pictures",
    "read_steadily",
    "stream_frames",
]
