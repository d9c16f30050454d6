"""Tags: words of people's own by which they find videos again."""

import sqlite3

from .database import transaction
from .videos import read, tidy

LONGEST = 60  # letters


def of(db: sqlite3.Connection, video: str) -> list[str]:
    """The tags of a video, by name."""
    rows = db.execute("SELECT name FROM tags WHERE video = ? ORDER BY name", (video,))
    return [row["name"] for row in rows]


def counts(db: sqlite3.Connection) -> list[sqlite3.Row]:
    """All tags of videos in the library, by name: `name` and `count`."""
    return db.execute(
        "SELECT tags.name, count(*) AS count FROM tags JOIN videos ON id = video "
        "WHERE binned IS NULL GROUP BY tags.name ORDER BY tags.name"
    ).fetchall()


def put(db: sqlite3.Connection, video: str, names: list[str]) -> None:
    """Gives a video these tags and no others.

    Raises:
        Refusal: 404.
    """
    with transaction(db):
        read(db, video)
        spelt = _spelt(db, names)
        db.execute("DELETE FROM tags WHERE video = ?", (video,))
        _add(db, [video], spelt)


def change(db: sqlite3.Connection, ids: list[str], add: list[str], remove: list[str]) -> None:
    """Gives and takes tags of several videos."""
    with transaction(db):
        _add(db, ids, _spelt(db, add))
        pairs = [(video, tidy(name)) for video in ids for name in remove]
        db.executemany("DELETE FROM tags WHERE video = ? AND name = ?", pairs)


def _spelt(db, names):
    """Names as they are known already, whatever letters are large in them."""
    found = []
    for name in filter(None, map(tidy, names)):
        row = db.execute("SELECT name FROM tags WHERE name = ? LIMIT 1", (name,)).fetchone()
        found.append(row["name"] if row else name)
    return found


def _add(db, ids, names):
    db.executemany(
        "INSERT OR IGNORE INTO tags SELECT id, ? FROM library WHERE id = ?",
        [(name, video) for video in ids for name in names],
    )
    for video in ids:
        db.execute(
            "INSERT INTO events (topic, subject, state) SELECT 'video', id, 'tagged' "
            "FROM library WHERE id = ?",
            (video,),
        )
