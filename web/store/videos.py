"""Videos: what is known of them, and how they go.

A video's id is random and the only name it has on disk.
"""

import hashlib
import json
import shutil
import sqlite3
import time
import unicodedata
from pathlib import Path
from typing import BinaryIO

from captioner.caption import Caption

from ..config import WebConfig
from ..errors import Refusal, not_found
from . import history
from .database import transaction

STATES = ("uploading", "waiting", "working", "done", "failed", "cancelled")
UNFINISHED_DAYS = 7
_DIGESTS_AT_ONCE = 10**9  # bytes
_GONE_FIRST = "binned IS NULL, binned, created"
# What nobody has worked on.
UNTOUCHED = (
    "arranged IS NULL AND NOT EXISTS (SELECT 1 FROM sentences "
    "WHERE video = videos.id AND corrected IS NOT NULL)"
)
# Whose file lies in the data folder, and not in one that is watched.
_OURS = "NOT EXISTS (SELECT 1 FROM watched WHERE video = videos.id)"
# What may be deleted when room or time is up: ours, here as a whole, and corrected by nobody.
MAY_GO = f"received = size AND {UNTOUCHED} AND {_OURS}"
# How many bytes a video takes.
WITH_PREVIEW = "size + ifnull((SELECT size FROM previews WHERE video = videos.id), 0)"


def path_of(config: WebConfig, video: str) -> Path:
    """Where the bytes of a video lie, or a link to them; `video` is an id that is known."""
    return config.data / "videos" / video


def frames_of(config: WebConfig, video: str) -> Path:
    """The folder of the pictures of a video."""
    return config.data / "frames" / video


def count(db: sqlite3.Connection) -> int:
    """How many videos there are, arrived or not; without the bin."""
    return db.execute("SELECT count(*) FROM videos WHERE binned IS NULL").fetchone()[0]


def is_here(db: sqlite3.Connection, video: str) -> bool:
    """Whether there is such a video, in the library or in the bin."""
    return db.execute("SELECT 1 FROM videos WHERE id = ?", (video,)).fetchone() is not None


def stored_bytes(db: sqlite3.Connection) -> int:
    """How much of all videos has arrived, the bin included, and their previews, bytes."""
    return _bytes_of(db, "received")


def taken_bytes(db: sqlite3.Connection) -> int:
    """Likewise, with what is still to arrive."""
    return _bytes_of(db, "size")


def _bytes_of(db, column):
    return db.execute(
        f"SELECT coalesce(sum({column}), 0) + (SELECT coalesce(sum(size), 0) FROM previews) "
        f"FROM videos WHERE {_OURS}"
    ).fetchone()[0]


def next_to_go(db: sqlite3.Connection) -> sqlite3.Row | None:
    """The video that would be deleted first for want of room: `id`, `name`, `created`, `binned`."""
    return db.execute(
        f"SELECT id, name, created, binned FROM videos WHERE {MAY_GO} "
        f"ORDER BY {_GONE_FIRST} LIMIT 1"
    ).fetchone()


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


def keep(db: sqlite3.Connection, video: str, caption: Caption) -> None:
    """Writes down the caption of a video, in a transaction; what was said before can be undone."""
    history.note(db, video, "caption")
    db.execute(
        "UPDATE videos SET duration = ?, model = ?, caption = ? WHERE id = ?",
        (caption.duration, caption.model.partition("@")[0], json.dumps(_kept(caption)), video),
    )
    spans = [(0.0, caption.duration, caption.text)] + [
        (segment.start, segment.end, segment.candidates[0].text)
        for segment in getattr(caption, "segments", ())
    ]
    say(db, video, spans)


def say(db: sqlite3.Connection, video: str, spans: list[tuple[float, float, str]]) -> None:
    """Writes down what a model says: of the whole, then of stretches; in a transaction.

    What a person corrected stands. Where somebody arranged the stretches, or corrected one of them
    and the model cuts the video otherwise, they all stay, and those that the model cuts likewise
    get its sentences.
    """
    [arranged] = db.execute("SELECT arranged FROM videos WHERE id = ?", (video,)).fetchone()
    before = history.rows(db, video)
    said = [
        {"start": start, "end": end, "original": text, "text": text, "corrected": None}
        for start, end, text in spans
    ]
    by_time = {_times(row): row for row in said[1:]}
    is_same = by_time.keys() == {_times(row) for row in before[1:]}
    if arranged or (not is_same and any(row["corrected"] for row in before[1:])):
        said[1:] = [row | by_time.get(_times(row), {"text": row["text"]}) for row in before[1:]]
    kept = {_times(row): row for row in before[1:] if row["corrected"]}
    kept_whole = before[0] if before and before[0]["corrected"] else None
    result = []
    for position, row in enumerate(said):
        person = kept.get(_times(row)) if position else kept_whole
        stands = {"text": person["text"], "corrected": person["corrected"]} if person else {}
        result.append(row | stands | {"position": position})
    history.write(db, video, result)


def _times(row):
    """By which a stretch is known again."""
    return round(row["start"], 2), round(row["end"], 2)


def _kept(caption: Caption) -> dict:
    """What is kept of a caption as JSON; attention weights in thousandths."""
    return {
        "times": [round(time, 3) for time in caption.times],
        "candidates": [
            {
                "text": candidate.text,
                "score": round(candidate.score, 4),
                "words": list(candidate.words),
                "attention": []
                if candidate.attention_weights is None
                else (candidate.attention_weights * 1000).round().astype(int).tolist(),
            }
            for candidate in caption.candidates
        ],
    }


def looked_at(db: sqlite3.Connection, video: str) -> dict:
    """The times and candidates of a video's caption; empty where there is none yet."""
    [caption] = db.execute("SELECT caption FROM videos WHERE id = ?", (video,)).fetchone()
    return json.loads(caption) if caption else {"times": [], "candidates": []}


def correct(
    db: sqlite3.Connection, video: str, position: int, text: str | None, was: float | None = None
) -> None:
    """Puts a person's sentence in place of the model's; None puts back the model's.

    Args:
        db: the database.
        video: which.
        position: of the sentence.
        text: the person's.
        was: when its stretch begins, seconds, as the person knows it.

    Raises:
        Refusal: 404; 409 where no model said anything, or the stretch begins elsewhere by now.
    """
    with transaction(db):
        row = db.execute(
            "SELECT start, original FROM sentences WHERE video = ? AND position = ?",
            (video, position),
        ).fetchone()
        if row is None:
            read(db, video)
            raise not_found("sentence")
        if was is not None and abs(row["start"] - was) > 0.01:
            raise Refusal(409, "changed", "This stretch was changed meanwhile; look at it again.")
        if text is None and not row["original"]:
            raise Refusal(
                409, "no_sentence", "A person added this sentence; delete the stretch instead."
            )
        history.note(db, video, "correct")
        db.execute(
            "UPDATE sentences SET text = ?, corrected = ? WHERE video = ? AND position = ?",
            (tidy(text), time.time(), video, position)
            if text
            else (row["original"], None, video, position),
        )


def tidy(text: str) -> str:
    """A sentence as it is kept: one line, of characters that can be seen."""
    return printable(" ".join(text.split()))


def keep_recorded(db: sqlite3.Connection, video: str, recorded: float | None) -> None:
    """Writes down when a video was recorded."""
    db.execute("UPDATE videos SET recorded = ? WHERE id = ?", (recorded, video))


def keep_both(db: sqlite3.Connection, video: str) -> None:
    """A person wants a video though the same file is here already.

    Raises:
        Refusal: 404.
    """
    read(db, video)
    db.execute("UPDATE videos SET is_kept = 1 WHERE id = ?", (video,))
    history.tell(db, video)


def digest_of(file: BinaryIO) -> str:
    """By which the content of an open file is known again, whatever its name."""
    file.seek(0)
    return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def delete(db: sqlite3.Connection, config: WebConfig, videos: list[str]) -> int:
    """Deletes videos and all that is known of them; how many there were."""
    known = [
        row["id"]
        for video in videos
        for row in db.execute("DELETE FROM videos WHERE id = ? RETURNING id", (video,)).fetchall()
    ]
    for video in known:
        path_of(config, video).unlink(missing_ok=True)
        (config.data / "previews" / video).unlink(missing_ok=True)
        shutil.rmtree(frames_of(config, video), ignore_errors=True)
    return len(known)


def clean(db: sqlite3.Connection, config: WebConfig) -> None:
    """Deletes what its owner no longer wants to keep, and what never arrived.

    A video that somebody corrected is never deleted by itself.
    """
    now = time.time()
    days = lambda number: now - number * 86400  # noqa: E731
    rows = db.execute(
        "SELECT id FROM videos WHERE received < size AND touched < ?", (days(UNFINISHED_DAYS),)
    ).fetchall()
    if config.keep_days is not None:
        rows += db.execute(
            f"SELECT id FROM videos WHERE {MAY_GO} AND created < ?",
            (days(config.keep_days),),
        ).fetchall()
    delete(db, config, [row["id"] for row in rows])
    if config.max_storage is not None:
        excess = taken_bytes(db) - config.max_storage
        sizes = db.execute(
            f"SELECT id, {WITH_PREVIEW} AS size FROM videos WHERE {MAY_GO} ORDER BY {_GONE_FIRST}"
        )
        for row in sizes.fetchall():
            if excess > 0:
                excess -= row["size"]
                delete(db, config, [row["id"]])
    _fill_digests(db, config)
    _sweep(db, config, now)


def _fill_digests(db, config):
    """Of videos from before there were digests, some at a time."""
    done = 0
    rows = db.execute("SELECT id, size FROM videos WHERE digest IS NULL AND received = size")
    for row in rows.fetchall():
        path = path_of(config, row["id"])
        if done < _DIGESTS_AT_ONCE and path.is_file():
            with path.open("rb") as file:
                digest = digest_of(file)
            db.execute("UPDATE videos SET digest = ? WHERE id = ?", (digest, row["id"]))
            done += row["size"]


def _sweep(db, config, now):
    """Files whose rows are gone: the power failed between the two."""
    known = {row["id"] for row in db.execute("SELECT id FROM videos")}
    found = [
        path for name in ("videos", "previews", "frames") for path in (config.data / name).iterdir()
    ]
    for path in found:
        if path.name not in known and path.lstat().st_mtime < now - 3600:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def printable(text: str) -> str:
    """A text without the characters that cannot be seen."""
    return "".join(char for char in text if unicodedata.category(char)[0] != "C")


def bytes_in_words(size: float) -> str:
    """A size for people: `1.4 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.3g} {unit}"
