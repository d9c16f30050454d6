"""Labels of moments over time, by the model that the owner named for that."""

import sqlite3
from math import ceil
from pathlib import Path

from captioner.moments.folder import LabelFolder
from captioner.moments.segments import BACKGROUND, LabelledSegment

from ..config import WebConfig

# What is here as a whole and moves.
_HAS_MOMENTS = "received = size AND binned IS NULL AND media_type NOT LIKE 'image/%'"
_LAST_JOB = "(SELECT max(number) FROM jobs WHERE video = videos.id AND task = 'label')"


def add_named(db: sqlite3.Connection, config: WebConfig) -> None:
    """Numbers the labels of the model that labels moments, if the owner named one.

    Raises:
        ModelError: there is no such model.
    """
    if config.label_model:
        _number(db, LabelFolder.open(config.label_model).labels)


def model_name(config: WebConfig) -> str | None:
    """The name of the model that labels moments; None if there is none."""
    return config.label_model and Path(config.label_model).resolve().name


def keep(db: sqlite3.Connection, video: str, model: str, segments: list[LabelledSegment]) -> None:
    """Writes down what a model says of the moments of a video, in place of what one said before."""
    db.execute("DELETE FROM labellings WHERE video = ?", (video,))
    db.execute("INSERT INTO labellings VALUES (?, ?)", (video, model))
    _number(db, [segment.label for segment in segments])
    in_order = sorted(segments, key=lambda segment: (segment.start, segment.end))
    db.executemany(
        "INSERT INTO segments SELECT ?, ?, number, ?, ?, ? FROM labels WHERE name = ?",
        [
            (video, position, found.start, found.end, found.probability, found.label)
            for position, found in enumerate(in_order)
        ],
    )


def read(db: sqlite3.Connection, video: str) -> dict:
    """What `schemas.Labelling` says of a video that there is; `state` is that of its last job."""
    row = db.execute(
        "SELECT labellings.model, jobs.state, jobs.error FROM videos "
        "LEFT JOIN labellings ON labellings.video = videos.id "
        f"LEFT JOIN jobs ON jobs.number = {_LAST_JOB} WHERE videos.id = ?",
        (video,),
    ).fetchone()
    segments = db.execute(
        "SELECT start, end, name AS label, probability, number AS colour FROM segments "
        "JOIN labels ON labels.number = segments.label WHERE video = ? ORDER BY position",
        (video,),
    )
    return dict(row) | {"segments": [dict(segment) for segment in segments]}


def any_labelled(db: sqlite3.Connection) -> bool:
    """Whether a model has labelled the moments of any video."""
    return bool(db.execute("SELECT EXISTS (SELECT 1 FROM labellings)").fetchone()[0])


def has_moments(db: sqlite3.Connection, video: str) -> bool:
    """Whether a video can be labelled: it is here as a whole, and no picture."""
    sql = f"SELECT 1 FROM videos WHERE id = ? AND {_HAS_MOMENTS}"
    return db.execute(sql, (video,)).fetchone() is not None


def unlabelled(db: sqlite3.Connection, config: WebConfig) -> list[str]:
    """Videos that the model has not labelled, oldest first, but for those that wait for it."""
    rows = db.execute(
        "SELECT videos.id FROM videos LEFT JOIN labellings ON labellings.video = videos.id "
        f"LEFT JOIN jobs ON jobs.number = {_LAST_JOB} WHERE {_HAS_MOMENTS} "
        "AND labellings.model IS NOT ? AND ifnull(jobs.state, '') NOT IN ('waiting', 'working') "
        "ORDER BY videos.created",
        (model_name(config),),
    )
    return [row["id"] for row in rows]


def timeline(segments: list[dict], duration: float | None) -> dict:
    """What is drawn of segments as `read` gives them.

    Returns:
        `end`, seconds; `rows` of segments, one for each label where several hold at once, else
        one for all; `zoom`, how often the width of a page makes the shortest 2 % of it; and
        `legend`, for each label its `label`, `colour`, `count` and `seconds`.
    """
    of_label: dict[str, list[dict]] = {}
    for segment in sorted(segments, key=lambda segment: segment["colour"]):
        of_label.setdefault(segment["label"], []).append(segment)
    overlap, until = False, 0.0
    for segment in segments:
        overlap |= segment["start"] < until - 1e-6
        until = max(until, segment["end"])
    end = duration or until
    shortest = min((segment["end"] - segment["start"] for segment in segments), default=end)
    return {
        "end": end,
        "zoom": min(200, ceil(0.02 * end / shortest)) if segments else 1,
        "rows": list(of_label.values()) if overlap else [segments],
        "legend": [
            {
                "label": label,
                "colour": found[0]["colour"],
                "count": len(found),
                "seconds": sum(segment["end"] - segment["start"] for segment in found),
            }
            for label, found in of_label.items()
        ],
    }


def _number(db, names):
    db.executemany(
        "INSERT OR IGNORE INTO labels (name) VALUES (?)",
        [(name,) for name in names if name != BACKGROUND],
    )
