"""The queue: each video waits for its caption, first come, first served. When none waits for that,
a video that browsers do not play gets a preview; and where there is a model that labels moments,
each gets its labels.

A job is claimed and finished in one transaction each. A worker that dies leaves its job
`working`; the next worker, of which only one is alive at a time, puts it back.
"""

import json
import sqlite3
import time

from captioner.caption import Caption
from captioner.moments.segments import LabelledSegment

from ..config import WebConfig
from ..errors import Refusal, not_found
from ..preview import Preview
from . import models, moments, previews, videos
from .database import transaction

CAPTION, LABEL, PREVIEW = "caption", "label", "preview"
_IN_ORDER = "(CASE task WHEN 'caption' THEN 0 WHEN 'preview' THEN 1 ELSE 2 END)"
MAX_ATTEMPTS = 2
_GAVE_UP = (
    "This file stopped the captioner twice, so it was left out. It may be damaged or need more "
    "memory than there is; convert it to a smaller MP4 and upload that."
)


def add(
    db: sqlite3.Connection, video: str, task: str = CAPTION, options: dict | None = None
) -> None:
    """Puts a video at the end of the queue, unless it is in it already.

    Args:
        db: the database.
        video: its id.
        task: what is to be done with it.
        options: fields of `DecodingOptions` that are asked for.
    """
    db.execute(
        "INSERT INTO jobs (video, task, options, created) VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        (video, task, json.dumps(options) if options else None, time.time()),
    )


def options(db: sqlite3.Connection, video: str) -> dict:
    """What was asked of the sentences of a video the last time; mostly nothing."""
    row = db.execute(
        "SELECT options FROM jobs WHERE video = ? AND task = 'caption' "
        "ORDER BY number DESC LIMIT 1",
        (video,),
    ).fetchone()
    return json.loads(row["options"]) if row and row["options"] else {}


def recover(db: sqlite3.Connection, config: WebConfig) -> None:
    """Puts back what a worker that died was working on; gives up what killed it twice."""
    with transaction(db):
        if not config.label_model:  # any more
            db.execute(
                "UPDATE jobs SET state = 'cancelled', finished = ? "
                "WHERE task = 'label' AND state IN ('waiting', 'working')",
                (time.time(),),
            )
        db.execute(
            "UPDATE jobs SET state = 'failed', error = ?, finished = ? "
            "WHERE state = 'working' AND attempts >= ?",
            (_GAVE_UP, time.time(), MAX_ATTEMPTS),
        )
        db.execute("UPDATE jobs SET state = 'waiting' WHERE state = 'working'")


def claim(db: sqlite3.Connection, task: str | None = None) -> sqlite3.Row | None:
    """Takes the first job that waits, captions first, then previews: `number`, `video`, `task`.

    Args:
        db: the database.
        task: takes only a job of this one.

    Returns:
        None if none waits, or the queue is paused.
    """
    row = db.execute(
        "UPDATE jobs SET state = 'working', attempts = attempts + 1, started = :now "
        "WHERE number = (SELECT number FROM jobs WHERE state = 'waiting' "
        "AND (SELECT paused IS NULL FROM queue) "
        f"AND (:task IS NULL OR task = :task) ORDER BY {_IN_ORDER}, number LIMIT 1) "
        "RETURNING number, video, task",
        {"now": time.time(), "task": task},
    ).fetchall()
    return row[0] if row else None


def finish(db: sqlite3.Connection, number: int, caption: Caption) -> bool:
    """Keeps a caption; False if the job is no longer ours: cancelled, or its video deleted."""
    with transaction(db):
        video = _done(db, number)
        if video is None:
            return False
        videos.keep(db, video, caption)
    return True


def finish_labels(
    db: sqlite3.Connection, number: int, model: str, segments: list[LabelledSegment]
) -> bool:
    """Keeps what `model` says of the moments of a video; False as `finish` does."""
    with transaction(db):
        video = _done(db, number)
        if video is None:
            return False
        moments.keep(db, video, model, segments)
    return True


def finish_preview(db: sqlite3.Connection, number: int, preview: Preview) -> bool:
    """Keeps what a preview is; False as `finish` does."""
    with transaction(db):
        video = _done(db, number)
        if video is None:
            return False
        previews.keep(db, video, preview)
    return True


def rested(db: sqlite3.Connection, number: int, seconds: float) -> None:
    """Takes from the time of a job that is being done what others took meanwhile."""
    db.execute("UPDATE jobs SET started = started + ? WHERE number = ?", (seconds, number))


def fail(db: sqlite3.Connection, number: int, error: str) -> None:
    """Says why a job came to nothing."""
    db.execute(
        "UPDATE jobs SET state = 'failed', error = ?, finished = ? "
        "WHERE number = ? AND state = 'working'",
        (error, time.time(), number),
    )


def cancel(db: sqlite3.Connection, video: str) -> None:
    """Takes a video out of the queue; what is being done is thrown away when it is done."""
    cancelled = db.execute(
        "UPDATE jobs SET state = 'cancelled', finished = ? "
        "WHERE video = ? AND state IN ('waiting', 'working')",
        (time.time(), video),
    )
    if not cancelled.rowcount:
        raise _wrong_state(db, video, "This video is not in the queue.")


def retry(db: sqlite3.Connection, video: str, options: dict | None = None) -> None:
    """Has a video captioned again, with the options that are asked for, as for `add`."""
    with transaction(db):
        row = db.execute("SELECT state FROM library WHERE id = ?", (video,)).fetchone()
        if not row or row["state"] in ("uploading", "waiting", "working"):
            raise _wrong_state(db, video, "This video is in the queue already.")
        add(db, video, options=options)


def retry_all(db: sqlite3.Connection) -> int:
    """Has all videos captioned again that another model captioned; how many there are."""
    with transaction(db):
        found = models.captioned_by_others(db)
        for video in found:
            add(db, video)
    return len(found)


def label(db: sqlite3.Connection, config: WebConfig, video: str) -> None:
    """Has every moment of a video labelled, maybe again.

    Raises:
        Refusal: 404; 409 if there is no model for it, or nothing to label, or it waits already.
    """
    _check_label_model(config)
    with transaction(db):
        if not moments.has_moments(db, video):
            raise _wrong_state(
                db, video, "Only fully uploaded videos can be labelled, and no pictures."
            )
        if moments.read(db, video)["state"] in ("waiting", "working"):
            raise _wrong_state(db, video, "This video is in the queue already.")
        add(db, video, LABEL)


def preview(db: sqlite3.Connection, video: str) -> None:
    """Has a preview made of a video, of one too of which we think that browsers play it.

    Raises:
        Refusal: 404; 409 if it is a picture or not here as a whole, has one, or waits for it.
    """
    with transaction(db):
        if not moments.has_moments(db, video):
            raise _wrong_state(
                db, video, "Only fully uploaded videos can have a preview, and no pictures."
            )
        found = previews.read(db, video)
        if found["media_type"]:
            raise _wrong_state(db, video, "This video has a preview already.")
        if found["state"] in ("waiting", "working"):
            raise _wrong_state(db, video, "This video is in the queue already.")
        add(db, video, PREVIEW)


def label_all(db: sqlite3.Connection, config: WebConfig) -> int:
    """Has all videos labelled that the label model has not labelled; how many there are.

    Raises:
        Refusal: 409: there is no such model.
    """
    _check_label_model(config)
    with transaction(db):
        found = moments.unlabelled(db, config)
        for video in found:
            add(db, video, LABEL)
    return len(found)


def overdue(db: sqlite3.Connection, seconds: float) -> sqlite3.Row | None:
    """The job, if there is one, that has been worked on for longer than this."""
    return db.execute(
        "SELECT number FROM jobs WHERE state = 'working' AND started < ?",
        (time.time() - seconds,),
    ).fetchone()


def find(db: sqlite3.Connection, state: str | None = None, limit: int = 200) -> list[sqlite3.Row]:
    """Jobs, newest first; only those of this state if one is given."""
    return db.execute(
        "SELECT * FROM jobs WHERE :state IS NULL OR state = :state "
        "ORDER BY number DESC LIMIT :limit",
        {"state": state, "limit": limit},
    ).fetchall()


def counts(db: sqlite3.Connection) -> list[sqlite3.Row]:
    """How many jobs there are of each `task` and `state`: the `count`."""
    return db.execute(
        "SELECT task, state, count(*) AS count FROM jobs GROUP BY task, state"
    ).fetchall()


def waiting(db: sqlite3.Connection) -> tuple[int, float | None]:
    """How many jobs wait, and how long the first has waited while nothing is done, seconds.

    The latter is None while a job is worked on, where none waits, and of a queue that is paused.
    """
    count, oldest, is_right = db.execute(
        "SELECT count(*), min(created), EXISTS (SELECT 1 FROM jobs WHERE state = 'working') "
        "OR (SELECT paused IS NOT NULL FROM queue) FROM jobs WHERE state = 'waiting'"
    ).fetchone()
    return count, time.time() - oldest if count and not is_right else None


def queue(db: sqlite3.Connection) -> dict:
    """How the queue of captions is, since it was last empty.

    Returns:
        `done` of `total` videos, `open` ones, whether it is `paused`, how many videos of the
        library `failed`, and the `minutes` that it will take by the last 20 that were done; None
        where none was.
    """
    row = db.execute(
        "SELECT paused IS NOT NULL AS paused, count(number) AS total, "
        "coalesce(sum(state IN ('waiting', 'working')), 0) AS open, "
        "(SELECT count(*) FROM library WHERE state = 'failed') AS failed, "
        "(SELECT avg(finished - started) FROM (SELECT finished, started FROM jobs "
        "WHERE task = 'caption' AND state = 'done' ORDER BY number DESC LIMIT 20)) AS seconds "
        "FROM queue LEFT JOIN jobs ON number >= first AND task = 'caption' AND state <> 'cancelled'"
    ).fetchone()
    minutes = None if row["seconds"] is None else row["open"] * row["seconds"] / 60
    return dict(row) | {
        "paused": bool(row["paused"]),
        "done": row["total"] - row["open"],
        "minutes": minutes,
    }


def is_paused(db: sqlite3.Connection) -> bool:
    """Whether the queue is paused."""
    return bool(db.execute("SELECT paused IS NOT NULL FROM queue").fetchone()[0])


def pause(db: sqlite3.Connection, is_paused: bool) -> None:
    """Begins nothing more, or goes on; what is being done is done to its end."""
    db.execute("UPDATE queue SET paused = ?", (time.time() if is_paused else None,))


def cancel_all(db: sqlite3.Connection) -> int:
    """Takes all videos out of the queue of captions that wait in it; how many there were."""
    return db.execute(
        "UPDATE jobs SET state = 'cancelled', finished = ? "
        "WHERE task = 'caption' AND state = 'waiting'",
        (time.time(),),
    ).rowcount


def retry_failed(db: sqlite3.Connection) -> int:
    """Has all videos captioned that could not be, as was asked; how many there are."""
    with transaction(db):
        rows = db.execute("SELECT id FROM library WHERE state = 'failed'").fetchall()
        for row in rows:
            add(db, row["id"], options=options(db, row["id"]))
    return len(rows)


def queue_place(db: sqlite3.Connection, video: str) -> int | None:
    """How many jobs come before that of this video; None if it does not wait."""
    return db.execute(
        "SELECT (SELECT count(*) FROM jobs AS other WHERE other.state IN ('waiting', 'working') "
        "AND other.task = jobs.task AND other.number < jobs.number) "
        "FROM jobs WHERE video = ? AND state = 'waiting' AND task = 'caption' "
        "UNION ALL SELECT NULL",
        (video,),
    ).fetchone()[0]


def _check_label_model(config):
    if not config.label_model:
        raise Refusal(
            409,
            "no_label_model",
            "The server was started without a model that labels moments (--label-model).",
        )


def _done(db, number):
    """The video of a job that is done with this; None if the job is no longer ours."""
    rows = db.execute(
        "UPDATE jobs SET state = 'done', error = NULL, finished = ? "
        "WHERE number = ? AND state = 'working' RETURNING video",
        (time.time(), number),
    ).fetchall()
    return rows[0]["video"] if rows else None


def _wrong_state(db, video, message):
    there = db.execute("SELECT 1 FROM library WHERE id = ?", (video,)).fetchone()
    return Refusal(409, "wrong_state", message) if there else not_found()
