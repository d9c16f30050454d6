"""Videos as they come in, piece by piece.

How much of a video has arrived is what the database says; a piece that was written but not recorded
when the power failed is sent again.
"""

import fcntl
import os
import secrets
import shutil
import sqlite3
import time

from ..config import WebConfig
from ..errors import Refusal, not_found
from ..media import HEAD, media_type
from . import jobs, moments
from .database import transaction
from .videos import (
    MAY_GO,
    WITH_PREVIEW,
    bytes_in_words,
    delete,
    digest_of,
    path_of,
    printable,
    read,
    taken_bytes,
)

_NOT_VIDEO = (
    "This file is neither a video nor a picture, whatever its name says. Choose another one."
)


def begin(db: sqlite3.Connection, config: WebConfig, name: str, size: int) -> str:
    """Makes room for a video that is about to arrive; returns its id.

    Raises:
        Refusal: 413, 429 or 507: it is too large, too many are coming, or there is no room.
    """
    if size > config.max_size:
        raise Refusal(
            413,
            "too_large",
            f"This file is {bytes_in_words(size)} large; at most "
            f"{bytes_in_words(config.max_size)} are allowed. Cut or convert it first.",
        )
    video, now = secrets.token_hex(12), time.time()
    with transaction(db):
        total, unfinished, missing = db.execute(
            "SELECT count(*), coalesce(sum(received < size), 0), coalesce(sum(size - received), 0) "
            "FROM videos"
        ).fetchone()
        stored = taken_bytes(db)
        if unfinished >= config.max_uploads:
            raise Refusal(
                429,
                "too_many_uploads",
                f"{unfinished} uploads are unfinished; finish or delete some of them first.",
            )
        if total >= config.max_videos:
            raise Refusal(
                507,
                "library_full",
                f"The library holds {total:,} videos, which is its limit; "
                "delete some of them first.",
            )
        if config.max_storage is not None and stored + size > config.max_storage:
            needed = stored + size - config.max_storage
            if size > config.max_storage or needed > _freeable(db):
                raise Refusal(
                    507,
                    "storage_full",
                    "This video does not fit: all videos together may take "
                    f"{bytes_in_words(config.max_storage)}. Delete some of them first.",
                )
        _check_disk(config, missing + size)
        path_of(config, video).touch(mode=0o600)
        db.execute(
            "INSERT INTO videos (id, name, size, created, touched) VALUES (?, ?, ?, ?, ?)",
            (video, clean_name(name), size, now, now),
        )
    return video


def append(
    db: sqlite3.Connection, config: WebConfig, video: str, offset: int, piece: bytes
) -> None:
    """Takes the next piece of a video; with the last one it is put into the queue.

    Raises:
        Refusal: 404; 409 if `offset` is not how much there is; 413 if it is more than was
            announced; 415 if it is no video; 507 if the disk is full.
    """
    # What the database does not know never becomes a path; and what is not ours is not written to.
    if read(db, video)["path"]:
        raise Refusal(
            409, "wrong_state", "This video lies in a watched folder; nothing is uploaded to it."
        )
    try:
        stored = path_of(config, video).open("r+b")
    except FileNotFoundError as err:  # deleted meanwhile
        raise not_found() from err
    with stored as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # one piece of a video at a time
        row = read(db, video)
        if offset != row["received"]:
            raise Refusal(
                409,
                "wrong_offset",
                f"{row['received']} bytes have arrived; go on from there.",
                offset=row["received"],
            )
        end = offset + len(piece)
        if end > row["size"]:
            raise Refusal(413, "too_large", "This piece goes beyond the size that was announced.")
        if not piece:
            raise Refusal(422, "empty_piece", "This piece is empty.")
        _check_disk(config, len(piece))
        try:
            os.pwrite(file.fileno(), piece, offset)
        except OSError as err:
            raise _full() from err
        kind = row["media_type"]
        if kind is None and (end >= HEAD or end == row["size"]):
            kind = media_type(os.pread(file.fileno(), HEAD, 0))
            if kind is None:
                delete(db, config, [video])
                raise Refusal(415, "not_a_video", _NOT_VIDEO)
        digest = None
        if end == row["size"]:
            os.ftruncate(file.fileno(), end)
            os.fsync(file.fileno())
            digest = digest_of(file)
        with transaction(db):
            updated = db.execute(
                "UPDATE videos SET received = ?, media_type = ?, touched = ?, digest = ? "
                "WHERE id = ?",
                (end, kind, time.time(), digest, video),
            )
            if not updated.rowcount:  # deleted meanwhile
                raise not_found()
            if end == row["size"]:
                jobs.add(db, video)
                if config.label_model and moments.has_moments(db, video):
                    jobs.add(db, video, jobs.LABEL)


def clean_name(name: str) -> str:
    """A file's name as it is shown: without folders and characters that cannot be seen."""
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    return printable(name).strip()[:200] or "video"


def _freeable(db):
    sql = f"SELECT coalesce(sum({WITH_PREVIEW}), 0) FROM videos WHERE {MAY_GO}"
    return db.execute(sql).fetchone()[0]


def _check_disk(config, size):
    if shutil.disk_usage(config.data).free - size < config.min_free:
        raise _full()


def _full():
    return Refusal(
        507,
        "disk_full",
        "There is too little room on the disk for this video. Delete videos "
        "that are no longer needed, or free some room, and try again.",
    )
