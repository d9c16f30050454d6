"""What the API tells and the pages show of a video, of a model, and of what changed."""

import json
import sqlite3

from . import jobs, labels, models, videos


def video(db: sqlite3.Connection, video: str) -> dict:
    """What `schemas.VideoDetails` says.

    Raises:
        Refusal: 404.
    """
    row = videos.read(db, video)
    sentences = [
        dict(sentence) | {"corrected": sentence["corrected"] is not None}
        for sentence in videos.sentences(db, video)
    ]
    return (
        dict(row)
        | videos.looked_at(db, video)
        | {
            "corrected": row["corrected"] is not None,
            "sentences": sentences,
            "labelling": labels.read(db, video),
            "queue_place": jobs.queue_place(db, video),
        }
    )


def model(row: sqlite3.Row) -> dict:
    """What `schemas.ModelSchema` says of a row of the table `models`."""
    comparison = json.loads(row["comparison"]) if row["comparison"] else []
    return dict(row) | {"curve": models.curve(row), "comparison": comparison}


def events(db: sqlite3.Connection, after: int | None) -> dict:
    """What changed after an event, and where events stand; only the latter if it is None."""
    [last] = db.execute("SELECT coalesce(max(number), 0) FROM events").fetchone()
    rows = db.execute(
        "SELECT * FROM events WHERE number > ? ORDER BY number LIMIT 500",
        (last if after is None else min(after, 2**53),),
    ).fetchall()
    return {"events": rows, "last": rows[-1]["number"] if rows else last}
