"""The bin: videos that people deleted, for some days. They count as deleted, but take their room.

What nobody corrected goes by itself, when its days or the room are up; corrected ones wait until
a person empties the bin.
"""

import json
import sqlite3
import time

from ..config import WebConfig
from . import jobs, videos
from .database import transaction

_DAY = 86400  # seconds
# What goes by itself: corrected by nobody, watched or not (the file of a watched one stays).
_MAY_GO = f"received = size AND {videos.UNTOUCHED}"


def put(db: sqlite3.Connection, config: WebConfig, ids: list[str]) -> tuple[int, float | None]:
    """Deletes videos: into the bin, where there is one, if they are here as a whole.

    Returns:
        How many there were; and by which time in the bin they can be put back together, or None.
    """
    now = time.time()
    binned = set()
    if config.bin_days > 0:
        with transaction(db):
            for video in ids:
                binned |= {
                    row["id"]
                    for row in db.execute(
                        "UPDATE videos SET binned = ? WHERE id = ? AND binned IS NULL "
                        "AND received = size RETURNING id",
                        (now, video),
                    ).fetchall()
                }
                db.execute(
                    "UPDATE jobs SET state = 'cancelled', finished = ? WHERE video = ? "
                    "AND state IN ('waiting', 'working')",
                    (now, video),
                )
    there = [video for video in ids if video not in binned and videos.is_here(db, video)]
    return len(binned) + videos.delete(db, config, there), now if binned else None


def restore(db: sqlite3.Connection, ids: list[str]) -> int:
    """Takes videos out of the bin, back into the queue if they were in it; how many there were."""
    count = 0
    with transaction(db):
        for video in ids:
            row = db.execute("SELECT binned FROM videos WHERE id = ?", (video,)).fetchone()
            if row is None or row["binned"] is None:
                continue
            count += 1
            db.execute("UPDATE videos SET binned = NULL WHERE id = ?", (video,))
            stopped = db.execute(
                "SELECT task, options FROM jobs WHERE video = ? AND state = 'cancelled' "
                "AND finished = ?",
                (video, row["binned"]),
            )
            for job in stopped.fetchall():
                options = json.loads(job["options"]) if job["options"] else None
                jobs.add(db, video, job["task"], options)
    return count


def contents(db: sqlite3.Connection, config: WebConfig, since: float | None = None) -> list[dict]:
    """What is in the bin, last first, or what was put there at one time: as `schemas.Binned`."""
    rows = db.execute(
        "SELECT videos.id, name, size, binned, text AS sentence, caption IS NOT NULL AS captioned, "
        f"{_MAY_GO} AS may_go FROM videos "
        "LEFT JOIN sentences ON sentences.video = videos.id AND position = 0 "
        "WHERE binned IS NOT NULL AND (:since IS NULL OR binned = :since) "
        "ORDER BY binned DESC, videos.id",
        {"since": since},
    ).fetchall()
    days = config.bin_days * _DAY
    return [dict(row) | {"goes": row["binned"] + days if row["may_go"] else None} for row in rows]


def count(db: sqlite3.Connection) -> int:
    """How many videos are in the bin."""
    return db.execute("SELECT count(*) FROM videos WHERE binned IS NOT NULL").fetchone()[0]


def empty(db: sqlite3.Connection, config: WebConfig, ids: list[str] | None = None) -> int:
    """Deletes what is in the bin for good, or some of it; how many there were."""
    rows = db.execute("SELECT id FROM videos WHERE binned IS NOT NULL").fetchall()
    found = [row["id"] for row in rows if ids is None or row["id"] in ids]
    return videos.delete(db, config, found)


def clean(db: sqlite3.Connection, config: WebConfig) -> None:
    """Deletes what has been in the bin for its days and was corrected by nobody."""
    rows = db.execute(
        f"SELECT id FROM videos WHERE binned < ? AND {_MAY_GO}",
        (time.time() - config.bin_days * _DAY,),
    )
    videos.delete(db, config, [row["id"] for row in rows.fetchall()])
