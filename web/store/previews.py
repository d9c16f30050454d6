"""Previews: small copies, which browsers play, of videos that they do not."""

import shutil
import sqlite3
from pathlib import Path

from ..config import WebConfig
from ..preview import Limits, Preview
from .videos import taken_bytes


def path_of(config: WebConfig, video: str) -> Path:
    """Where the preview of a video lies, if it has one."""
    return config.data / "previews" / video


def read(db: sqlite3.Connection, video: str) -> dict:
    """What `schemas.PreviewSchema` says of a video that there is."""
    row = db.execute(
        "SELECT jobs.state, jobs.error, media_type, previews.size, previews.duration FROM "
        "(SELECT ? AS id) LEFT JOIN previews ON previews.video = id LEFT JOIN jobs ON number = "
        "(SELECT max(number) FROM jobs WHERE video = id AND task = 'preview')",
        (video,),
    ).fetchone()
    return dict(row)


def limits(db: sqlite3.Connection, config: WebConfig) -> Limits:
    """Where a preview that is made now has to end: with what it may take, or with the room left."""
    size = min(config.preview_size, shutil.disk_usage(config.data).free - config.min_free)
    if config.max_storage is not None:
        size = min(size, config.max_storage - taken_bytes(db))
    return Limits(size, config.preview_length, config.preview_seconds)


def keep(db: sqlite3.Connection, video: str, preview: Preview) -> None:
    """Writes down the preview that a video has now."""
    db.execute(
        "INSERT OR REPLACE INTO previews VALUES (?, ?, ?, ?)",
        (video, preview.media_type, preview.size, preview.duration),
    )
