"""Stretches of a video, as people arrange them: borders moved, split, merged, added, deleted.

Each is told by the position of its sentence, from 1, and the start that it is known by, so that
what another tab changed meanwhile is not taken for something else. Stretches never overlap: those
beside one that grows give way.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import Refusal, not_found
from . import history, videos
from .database import transaction

SHORTEST = 0.1  # seconds


def move(
    db: sqlite3.Connection,
    video: str,
    position: int,
    was: float,
    start: float | None = None,
    end: float | None = None,
) -> None:
    """Has a stretch begin or end elsewhere; a border that touches another stretch's moves both.

    Args:
        db: the database.
        video: which.
        position: of the sentence.
        was: when the stretch begins, seconds.
        start: when it will; None: as before.
        end: likewise.

    Raises:
        Refusal: 404; 409 if there is no such stretch any more, or no room for this.
    """
    with _arranging(db, video, "move") as rows:
        index = _place(rows, position, was)
        row = rows[index]
        old_start, old_end = row["start"], row["end"]
        row["start"] = old_start if start is None else start
        row["end"] = old_end if end is None else end
        before = rows[index - 1] if index else None
        after = rows[index + 1] if index + 1 < len(rows) else None
        if before and (before["end"] > row["start"] or _is_same(before["end"], old_start)):
            before["end"] = row["start"]
        if after and (after["start"] < row["end"] or _is_same(after["start"], old_end)):
            after["start"] = row["end"]


def split(db: sqlite3.Connection, video: str, position: int, was: float, at: float) -> None:
    """Makes two of a stretch, both with its sentence; arguments and errors as of `move`."""
    with _arranging(db, video, "split") as rows:
        index = _place(rows, position, was)
        rows.insert(index + 1, rows[index] | {"start": at})
        rows[index]["end"] = at


def merge(db: sqlite3.Connection, video: str, position: int, was: float) -> None:
    """Makes one of a stretch and the next; their sentences follow one another."""
    with _arranging(db, video, "merge") as rows:
        index = _place(rows, position, was)
        if index + 1 == len(rows):
            raise Refusal(409, "no_next", "There is no stretch after this one.")
        row, after = rows[index], rows.pop(index + 1)
        row["end"] = after["end"]
        for name in ("original", "text"):
            texts = dict.fromkeys(filter(None, (row[name], after[name])))
            row[name] = " ".join(texts)
        row["corrected"] = max(
            (at for at in (row["corrected"], after["corrected"]) if at), default=None
        )


def add(db: sqlite3.Connection, video: str, start: float, end: float, text: str) -> None:
    """Adds a stretch with a person's sentence; one that begins before it, or after, gives way."""
    with _arranging(db, video, "add") as rows:
        for row in rows:
            if start <= row["start"] and row["end"] <= end:
                raise _no_room("Another stretch lies there; move its borders first.")
            if row["start"] < start < row["end"]:
                row["end"] = start
            elif row["start"] < end < row["end"]:
                row["start"] = end
        new = {"start": start, "end": end, "original": "", "text": videos.tidy(text)}
        rows.append(new | {"corrected": time.time()})
        rows.sort(key=lambda row: row["start"])


def delete(db: sqlite3.Connection, video: str, position: int, was: float) -> None:
    """Takes a stretch and its sentence away."""
    with _arranging(db, video, "delete") as rows:
        del rows[_place(rows, position, was)]


@contextmanager
def _arranging(db, video, change) -> Iterator[list[dict]]:
    """Gives the stretches of a video, to be changed in place; written down where they hold."""
    with transaction(db):
        duration = videos.read(db, video)["duration"]
        history.note(db, video, change)
        whole, *rows = history.rows(db, video) or [None]
        if whole is None:
            raise Refusal(409, "not_captioned", "This video has no sentence yet.")
        yield rows
        ends = [0.0, *(row["end"] for row in rows)]
        for row, end_before in zip(rows, ends, strict=False):
            if row["start"] < end_before - 1e-6 or row["end"] - row["start"] < SHORTEST - 1e-6:
                raise _no_room(f"A stretch is at least {SHORTEST} seconds long.")
        if duration and ends[-1] > duration + SHORTEST:
            raise _no_room(f"The video ends after {duration:.1f} seconds.")
        numbered = [row | {"position": number} for number, row in enumerate(rows, 1)]
        history.write(db, video, [whole, *numbered])
        db.execute("UPDATE videos SET arranged = ? WHERE id = ?", (time.time(), video))
        history.tell(db, video)


def _place(rows, position, was):
    if not 1 <= position <= len(rows):
        raise not_found("stretch")
    if not _is_same(rows[position - 1]["start"], was):
        raise Refusal(409, "changed", "This stretch was changed meanwhile; look at it again.")
    return position - 1


def _is_same(time, other):
    return abs(time - other) < 0.01  # seconds


def _no_room(reason):
    return Refusal(409, "no_room", f"There is no room for this. {reason}")
