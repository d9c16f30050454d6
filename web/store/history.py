"""What was said of a video before somebody, or a model, changed it: so that it can be undone."""

import json
import sqlite3
import time

from ..errors import Refusal, not_found
from .database import transaction

# What can be undone, as the page calls it.
CHANGES = {
    "correct": "the correction",
    "caption": "captioning again",
    "move": "moving a border",
    "split": "the split",
    "merge": "the merging",
    "add": "the added sentence",
    "delete": "the deletion",
}
_KEPT = 20  # of one video
_COLUMNS = ("position", "start", "end", "original", "text", "corrected")


def rows(db: sqlite3.Connection, video: str) -> list[dict]:
    """The sentences of a video, as they are kept: of all of it, then of its stretches."""
    found = db.execute(
        f"SELECT {', '.join(_COLUMNS)} FROM sentences WHERE video = ? ORDER BY position", (video,)
    )
    return [dict(row) for row in found]


def write(db: sqlite3.Connection, video: str, sentences: list[dict]) -> None:
    """Puts sentences, as `rows` gives them, in place of those of a video; in a transaction."""
    db.execute("DELETE FROM sentences WHERE video = ?", (video,))
    names = ", ".join(f":{name}" for name in _COLUMNS)
    db.executemany(
        f"INSERT INTO sentences (video, {', '.join(_COLUMNS)}) VALUES (:video, {names})",
        [sentence | {"video": video} for sentence in sentences],
    )


def note(db: sqlite3.Connection, video: str, change: str) -> None:
    """Keeps what is said of a video before `change`; in the transaction of the change.

    Nothing is kept where nothing was said, and of a video only its last changes.
    """
    before = rows(db, video)
    if not before:
        return
    db.execute(
        "INSERT INTO history (video, change, created, sentences, arranged, model, caption) "
        "SELECT id, :change, :now, :before, arranged, iif(:change = 'caption', model, NULL), "
        "iif(:change = 'caption', caption, NULL) FROM videos WHERE id = :video",
        {"video": video, "change": change, "now": time.time(), "before": json.dumps(before)},
    )
    db.execute(
        "DELETE FROM history WHERE video = :video AND number <= (SELECT number FROM history "
        f"WHERE video = :video ORDER BY number DESC LIMIT 1 OFFSET {_KEPT})",
        {"video": video},
    )


def last(db: sqlite3.Connection, video: str) -> str | None:
    """The last change of a video that can be undone; None if there is none."""
    row = db.execute(
        "SELECT change FROM history WHERE video = ? ORDER BY number DESC LIMIT 1", (video,)
    ).fetchone()
    return row and row["change"]


def undo(db: sqlite3.Connection, video: str) -> None:
    """Takes back the last change of what is said of a video.

    Raises:
        Refusal: 404; 409 if there is nothing to undo.
    """
    with transaction(db):
        row = db.execute(
            "SELECT * FROM history WHERE video = ? ORDER BY number DESC LIMIT 1", (video,)
        ).fetchone()
        if row is None:
            if db.execute("SELECT 1 FROM library WHERE id = ?", (video,)).fetchone() is None:
                raise not_found()
            raise Refusal(409, "nothing_to_undo", "There is nothing to undo.")
        write(db, video, json.loads(row["sentences"]))
        db.execute("UPDATE videos SET arranged = ? WHERE id = ?", (row["arranged"], video))
        if row["change"] == "caption":
            put_back(db, video, row["model"], row["caption"])
        db.execute("DELETE FROM history WHERE number = ?", (row["number"],))
        tell(db, video)


def put_back(db: sqlite3.Connection, video: str, model: str | None, caption: str | None) -> None:
    """Gives a video an earlier caption again, as it was kept; in a transaction.

    Where that one's frames are no longer there, it loses where each word looked.
    """
    [now] = db.execute("SELECT caption FROM videos WHERE id = ?", (video,)).fetchone()
    if caption and now:
        earlier, times = json.loads(caption), json.loads(now)["times"]
        if earlier["times"] != times:
            for candidate in earlier["candidates"]:
                candidate["attention"] = []
            caption = json.dumps(earlier | {"times": times})
    db.execute("UPDATE videos SET model = ?, caption = ? WHERE id = ?", (model, caption, video))


def tell(db: sqlite3.Connection, video: str) -> None:
    """Tells all open pages that a person changed what is said of a video."""
    db.execute(
        "INSERT INTO events (topic, subject, state) VALUES ('video', ?, 'corrected')", (video,)
    )
