"""What the API tells and the pages show of a video and of a model."""

import json
import os
import sqlite3

from .store import history, jobs, models, moments, previews, tags, videos
from .store.videos import printable


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
            "path": row["path"] and printable(os.fsdecode(row["path"])),
            "sentences": sentences,
            "labelling": moments.read(db, video),
            "tags": tags.of(db, video),
            "undo": history.last(db, video),
            "preview": previews.read(db, video),
            "options": jobs.options(db, video),
            "queue_place": jobs.queue_place(db, video),
        }
    )


def model(row: sqlite3.Row) -> dict:
    """What `schemas.ModelSchema` says of a row of the table `models`."""
    comparison = json.loads(row["comparison"]) if row["comparison"] else []
    return dict(row) | {"curve": models.curve(row), "comparison": comparison}
