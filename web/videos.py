"""Videos: how they come in piece by piece, what is known of them, and how they go.

A video's id is random and the only name it has on disk. How much of it has arrived is what the
database says; a piece that was written but not recorded when the power failed is sent again.
"""

import fcntl
import json
import os
import secrets
import shutil
import sqlite3
import time
import unicodedata
from pathlib import Path

from . import jobs, labels
from .config import WebConfig
from .database import transaction
from .errors import Refusal, not_found
from .media import HEAD, media_type

STATES = ("uploading", "waiting", "working", "done", "failed", "cancelled")
ORDERS = {
    "newest": "created DESC",
    "oldest": "created",
    "name": "name COLLATE NOCASE, created",
    "longest": "duration DESC",
    "shortest": "duration IS NULL, duration",
}
UNFINISHED_DAYS = 7
_NOT_VIDEO = "This file is no video and no picture, whatever its name says. Choose another one."


def path_of(config: WebConfig, video: str) -> Path:
    """Where the bytes of a video lie; `video` is an id that the database knows."""
    return config.data / "videos" / video


def frames_of(config: WebConfig, video: str) -> Path:
    """The folder of the pictures of a video."""
    return config.data / "frames" / video


def begin(db: sqlite3.Connection, config: WebConfig, name: str, size: int) -> str:
    """Makes room for a video that is about to arrive; returns its id.

    Raises:
        Refusal: 413, 429 or 507: it is too large, too many are coming, or there is no room.
    """
    if size > config.max_size:
        raise Refusal(
            413,
            "too_large",
            f"This file has {bytes_in_words(size)}; at most "
            f"{bytes_in_words(config.max_size)} can be taken. Cut or convert it first.",
        )
    video, now = secrets.token_hex(12), time.time()
    with transaction(db):
        total, unfinished, missing, stored = db.execute(
            "SELECT count(*), coalesce(sum(received < size), 0), coalesce(sum(size - received), "
            "0), coalesce(sum(size), 0) FROM videos"
        ).fetchone()
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
                    f"All videos together may take "
                    f"{bytes_in_words(config.max_storage)}, and this one does not fit.",
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
    read(db, video)  # what the database does not know never becomes a path
    with path_of(config, video).open("r+b") as file:
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
            raise Refusal(413, "too_large", "This is more than was announced of this file.")
        if not piece:
            raise Refusal(422, "empty_piece", "There is nothing in this piece.")
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
        if end == row["size"]:
            os.ftruncate(file.fileno(), end)
            os.fsync(file.fileno())
        with transaction(db):
            updated = db.execute(
                "UPDATE videos SET received = ?, media_type = ?, touched = ? WHERE id = ?",
                (end, kind, time.time(), video),
            )
            if not updated.rowcount:  # deleted meanwhile
                raise not_found()
            if end == row["size"]:
                jobs.add(db, video)
                if config.label_model and labels.has_moments(db, video):
                    jobs.add(db, video, jobs.LABEL)


def read(db: sqlite3.Connection, video: str) -> sqlite3.Row:
    """All that the table `library` says of a video.

    Raises:
        Refusal: 404.
    """
    row = db.execute("SELECT * FROM library WHERE id = ?", (video,)).fetchone()
    if row is None:
        raise not_found()
    return row


def sentences(db: sqlite3.Connection, video: str) -> list[sqlite3.Row]:
    """What is said of a video: of all of it, then of its stretches."""
    return db.execute(
        "SELECT position, start, end, original, text, corrected FROM sentences WHERE video = ? "
        "ORDER BY position",
        (video,),
    ).fetchall()


def looked_at(db: sqlite3.Connection, video: str) -> dict:
    """The times and candidates of a video's caption; empty where there is none yet."""
    [caption] = db.execute("SELECT caption FROM videos WHERE id = ?", (video,)).fetchone()
    return json.loads(caption) if caption else {"times": [], "candidates": []}


def correct(db: sqlite3.Connection, video: str, position: int, text: str | None) -> None:
    """Puts a person's sentence in place of the model's; None puts back the model's.

    Raises:
        Refusal: 404.
    """
    text = _printable(" ".join(text.split())) if text else None
    changed = db.execute(
        "UPDATE sentences SET text = coalesce(:text, original), "
        "corrected = iif(:text IS NULL, NULL, :now) WHERE video = :video AND position = :position",
        {"text": text, "now": time.time(), "video": video, "position": position},
    )
    if not changed.rowcount:
        read(db, video)
        raise not_found("sentence")


def find(
    db: sqlite3.Connection,
    query: str = "",
    state: str | None = None,
    corrected: bool | None = None,
    order: str = "newest",
    page: int = 1,
    per_page: int = 24,
) -> tuple[list[dict], int]:
    """Searches the library.

    Args:
        query: words that a sentence or the name has to contain, each as a beginning.
        state: only those of this state.
        corrected: only those that a person corrected, or did not.
        order: a key of `ORDERS`.
        page: which page, from 1.
        per_page: how many to a page.

    Returns:
        Rows with their `hits`, `[{"start", "text"}]` with marks `\\x02 ... \\x03` around what was
        found, and how many there are on all pages.
    """
    where, values = ["1"], {"state": state, "words": _match(query), "name": f"%{_like(query)}%"}
    if query.strip():
        where.append(
            "(name LIKE :name ESCAPE '\\' OR id IN (SELECT video FROM sentences WHERE id IN "
            "(SELECT rowid FROM search WHERE search MATCH :words)))"
        )
    if state:
        where.append("state = :state")
    if corrected is not None:
        where.append(f"corrected IS {'NOT ' if corrected else ''}NULL")
    where = " AND ".join(where)
    [total] = db.execute(f"SELECT count(*) FROM library WHERE {where}", values).fetchone()
    rows = db.execute(
        f"SELECT * FROM library WHERE {where} ORDER BY {ORDERS[order]} LIMIT :limit OFFSET :offset",
        values | {"limit": per_page, "offset": (page - 1) * per_page},
    ).fetchall()
    return [dict(row) | {"hits": _hits(db, row["id"], values["words"])} for row in rows], total


def delete(db: sqlite3.Connection, config: WebConfig, videos: list[str]) -> int:
    """Deletes videos and all that is known of them; how many there were."""
    known = [
        row["id"]
        for video in videos
        for row in db.execute("DELETE FROM videos WHERE id = ? RETURNING id", (video,)).fetchall()
    ]
    for video in known:
        path_of(config, video).unlink(missing_ok=True)
        shutil.rmtree(frames_of(config, video), ignore_errors=True)
    return len(known)


def clean(db: sqlite3.Connection, config: WebConfig) -> None:
    """Deletes what its owner no longer wants to keep, and what never arrived."""
    now = time.time()
    days = lambda number: now - number * 86400  # noqa: E731
    rows = db.execute(
        "SELECT id FROM videos WHERE received < size AND touched < ?", (days(UNFINISHED_DAYS),)
    ).fetchall()
    if config.keep_days is not None:
        rows += db.execute(
            "SELECT id FROM videos WHERE received = size AND created < ?",
            (days(config.keep_days),),
        ).fetchall()
    delete(db, config, [row["id"] for row in rows])
    if config.max_storage is not None:
        sizes = db.execute("SELECT id, size, received FROM videos ORDER BY created").fetchall()
        excess = sum(row["size"] for row in sizes) - config.max_storage
        for row in sizes:
            if excess > 0 and row["received"] == row["size"]:
                excess -= row["size"]
                delete(db, config, [row["id"]])
    _sweep(db, config, now)


def _sweep(db, config, now):
    """Files whose rows are gone: the power failed between the two."""
    known = {row["id"] for row in db.execute("SELECT id FROM videos")}
    for path in (*(config.data / "videos").iterdir(), *(config.data / "frames").iterdir()):
        if path.name not in known and path.stat().st_mtime < now - 3600:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def clean_name(name: str) -> str:
    """A file's name as it is shown: without folders and characters that cannot be seen."""
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    return _printable(name).strip()[:200] or "video"


def _printable(text):
    return "".join(char for char in text if unicodedata.category(char)[0] != "C")


def bytes_in_words(size: float) -> str:
    """A size for people: `1.4 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.3g} {unit}"


def _freeable(db):
    return db.execute("SELECT coalesce(sum(size), 0) FROM videos WHERE received = size").fetchone()[
        0
    ]


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


def _match(query):
    words = [word.replace('"', '""') for word in query.split()]
    return " ".join(f'"{word}"*' for word in words) or '""'


def _like(query):
    query = query.strip()
    for char in "\\%_":
        query = query.replace(char, f"\\{char}")
    return query


def _hits(db, video, words):
    if words == '""':
        return []
    return [
        dict(row)
        for row in db.execute(
            "SELECT start, highlight(search, 0, char(2), char(3)) AS text FROM search "
            "JOIN sentences ON sentences.id = search.rowid "
            "WHERE search MATCH ? AND video = ? ORDER BY position LIMIT 20",
            (words, video),
        )
    ]
