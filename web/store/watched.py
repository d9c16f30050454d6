"""Files in watched folders: which video each is, and which are not there at the moment.

Such a video is a link among the others; its file is only ever read. A row outlives its video: what
a person deletes from the page does not come back by itself.
"""

import os
import secrets
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from ..config import WebConfig
from ..media import HEAD, media_type
from . import jobs, moments, previews
from .database import transaction
from .uploads import clean_name
from .videos import UNTOUCHED, path_of


@dataclass(frozen=True)
class File:
    """A file: its path, its size in bytes, and when it was changed, nanoseconds since 1970."""

    path: str
    size: int
    modified: int


def known(db: sqlite3.Connection) -> dict[str, File]:
    """The files that are there, as they were when they were last read, by their paths."""
    rows = db.execute("SELECT path, size, modified FROM watched WHERE missing IS NULL")
    files = (File(os.fsdecode(row["path"]), row["size"], row["modified"]) for row in rows)
    return {file.path: file for file in files}


def mark_missing(db: sqlite3.Connection, path: str) -> None:
    """Notes that a file is not there any more; all that is known of its video is kept."""
    db.execute(
        "UPDATE watched SET missing = ? WHERE path = ? AND missing IS NULL",
        (time.time(), os.fsencode(path)),
    )


def is_room(db: sqlite3.Connection, config: WebConfig) -> bool:
    """Whether another video may be added."""
    return db.execute("SELECT count(*) FROM videos").fetchone()[0] < config.max_videos


def keep(db: sqlite3.Connection, config: WebConfig, file: File, digest: str) -> str | None:
    """Notes a file that is new, has changed, or is there again.

    Its content, by `digest`, tells which: what is not there any more is found again under another
    name; another content in place of one that somebody corrected is another video.

    Returns:
        The id of its video; None if it is none, or a person deleted it.
    """
    with transaction(db):
        here = db.execute(
            "SELECT number, video, digest FROM watched WHERE path = ? AND missing IS NULL",
            (os.fsencode(file.path),),
        ).fetchone()
        if here and here["digest"] != digest:
            if here["video"] is None or _is_untouched(db, here["video"]):
                return _replace(db, config, here["number"], here["video"], file, digest)
            mark_missing(db, file.path)
            here = None
        row = (
            here
            or db.execute(
                "SELECT number, video FROM watched WHERE digest = ? AND missing IS NOT NULL "
                "ORDER BY path = ? DESC, missing DESC LIMIT 1",
                (digest, os.fsencode(file.path)),
            ).fetchone()
        )
        if row is None:
            return _add(db, config, file, digest)
        _write(db, row["number"], file, digest)
        if row["video"]:
            _link(config, row["video"], file)
            db.execute(
                "UPDATE videos SET name = ? WHERE id = ?",
                (clean_name(os.path.basename(file.path)), row["video"]),
            )
            _queue(db, config, row["video"], "caption IS NULL")
        return row["video"]


def _is_untouched(db, video):
    sql = f"SELECT 1 FROM videos WHERE id = ? AND {UNTOUCHED}"
    return db.execute(sql, (video,)).fetchone() is not None


def _write(db, number, file, digest):
    db.execute(
        "UPDATE watched SET path = ?, size = ?, modified = ?, digest = ?, missing = NULL "
        "WHERE number = ?",
        (os.fsencode(file.path), file.size, file.modified, digest, number),
    )


def _replace(db, config, number, video, file, digest):
    """Another content, as of a file whose copying had only paused."""
    if video is None:  # it was none, or is not wanted
        db.execute("DELETE FROM watched WHERE number = ?", (number,))
        return _add(db, config, file, digest)
    _write(db, number, file, digest)
    db.execute(
        "UPDATE videos SET size = ?, received = ?, digest = NULL WHERE id = ?",
        (file.size, file.size, video),
    )
    db.execute("DELETE FROM previews WHERE video = ?", (video,))
    previews.path_of(config, video).unlink(missing_ok=True)
    _queue(db, config, video)
    return video


def _add(db, config, file, digest):
    with open(file.path, "rb") as content:
        kind = media_type(content.read(HEAD))
    video = secrets.token_hex(12) if kind else None
    now = time.time()
    if video:
        _link(config, video, file)
        db.execute(
            "INSERT INTO videos (id, name, size, received, media_type, created, touched) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (video, clean_name(os.path.basename(file.path)), file.size, file.size, kind, now, now),
        )
    db.execute(
        "INSERT INTO watched (path, video, size, modified, digest) VALUES (?, ?, ?, ?, ?)",
        (os.fsencode(file.path), video, file.size, file.modified, digest),
    )
    if video:
        _queue(db, config, video)
    return video


def _link(config: WebConfig, video: str, file: File):
    link = path_of(config, video)
    link.unlink(missing_ok=True)
    link.symlink_to(Path(file.path))


def _queue(db, config, video, only_if="1"):
    if not db.execute(f"SELECT 1 FROM videos WHERE id = ? AND {only_if}", (video,)).fetchone():
        return
    jobs.add(db, video)
    if config.label_model and moments.has_moments(db, video):
        jobs.add(db, video, jobs.LABEL)
