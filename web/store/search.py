"""Search: which videos of the library, and in which order."""

import json
import re
import sqlite3
from dataclasses import dataclass

ORDERS = {
    "newest": "created DESC",
    "oldest": "created",
    "name": "name COLLATE NOCASE, created",
    "longest": "duration DESC",
    "shortest": "duration IS NULL, duration",
    "recorded": "recorded IS NULL, recorded DESC, created DESC",
}


@dataclass(frozen=True)
class Search:
    """Which videos, and in which order.

    Attributes:
        q: words that a sentence has to contain, or a label of a moment, each as a beginning; or
            letters of the name, or the beginning of a tag.
        state: only those of this state.
        corrected: only those that a person corrected, or did not.
        tag: only those with this tag.
        twins: only those whose file is here already, or not.
        sort: a key of `ORDERS`.
    """

    q: str = ""
    state: str | None = None
    corrected: bool | None = None
    tag: str | None = None
    twins: bool | None = None
    sort: str = "newest"


def find(
    db: sqlite3.Connection, search: Search, page: int = 1, per_page: int = 24
) -> tuple[list[dict], int]:
    """Searches the library.

    Args:
        db: the database.
        search: for what.
        page: which page, from 1.
        per_page: how many to a page; -1: all.

    Returns:
        Rows with their `tags` and `hits`, `[{"start", "text"}]` with marks `\\x02 ... \\x03` around
        what was found; and how many there are on all pages.
    """
    where, values = _conditions(db, search)
    [total] = db.execute(f"SELECT count(*) FROM library WHERE {where}", values).fetchone()
    rows = db.execute(
        f"SELECT * FROM library WHERE {where} ORDER BY {ORDERS[search.sort]} "
        "LIMIT :limit OFFSET :offset",
        values | {"limit": per_page, "offset": (page - 1) * per_page},
    ).fetchall()
    labels = _labels(db, search.q)
    tags: dict[str, list[str]] = {}
    for row in db.execute("SELECT video, name FROM tags ORDER BY name"):
        tags.setdefault(row["video"], []).append(row["name"])
    return [
        dict(row)
        | {
            "hits": _hits(db, row["id"], values["words"], labels),
            "tags": tags.get(row["id"], []),
        }
        for row in rows
    ], total


def to_correct(db: sqlite3.Connection, search: Search, beside: str = "") -> list[str]:
    """Videos whose sentence nobody corrected, the one of the lowest score first; and `beside`.

    Args:
        db: the database.
        search: for what; its order does not matter.
        beside: a video that belongs to them, corrected and found or not.
    """
    where, values = _conditions(db, search)
    found = db.execute(f"SELECT id FROM library WHERE {where}", values)
    wanted = {row["id"] for row in found} | {beside}
    # By itself, so that the index by score serves it and no caption is read.
    rows = db.execute(
        "SELECT videos.id FROM videos JOIN sentences ON sentences.video = videos.id "
        "AND position = 0 WHERE caption IS NOT NULL AND binned IS NULL "
        "AND (corrected IS NULL OR videos.id = ?) "
        "AND NOT EXISTS (SELECT 1 FROM watched WHERE video = videos.id AND missing IS NOT NULL) "
        "ORDER BY json_extract(caption, '$.candidates[0].score'), videos.id",
        (beside,),
    )
    return [row["id"] for row in rows if row["id"] in wanted]


def _conditions(db, search):
    """A search as a condition on rows of `library`, and the values in it."""
    where, like = ["1"], _like(search.q)
    values = {
        "state": search.state,
        "words": _match(search.q),
        "name": f"%{like}%",
        "beginning": f"{like}%",
        "labels": json.dumps([*_labels(db, search.q)]),
        "tag": search.tag,
    }
    if search.q.strip():
        where.append(
            "(name LIKE :name ESCAPE '\\' OR id IN (SELECT video FROM sentences WHERE id IN "
            "(SELECT rowid FROM search WHERE search MATCH :words)) "
            "OR id IN (SELECT video FROM tags WHERE name LIKE :beginning ESCAPE '\\') "
            "OR id IN (SELECT video FROM segments "
            "WHERE label IN (SELECT value FROM json_each(:labels))))"
        )
    if search.state:
        where.append("state = :state")
    if search.corrected is not None:
        where.append(f"corrected IS {'NOT ' if search.corrected else ''}NULL")
    if search.tag:
        where.append("id IN (SELECT video FROM tags WHERE name = :tag)")
    if search.twins is not None:
        where.append(f"twin IS {'NOT ' if search.twins else ''}NULL")
    return " AND ".join(where), values


def _match(query):
    words = [word.replace('"', '""') for word in query.split()]
    return " ".join(f'"{word}"*' for word in words) or '""'


def _like(query):
    query = query.strip()
    for char in "\\%_":
        query = query.replace(char, f"\\{char}")
    return query


def _labels(db, query):
    """The labels of moments, by number, that contain each word of a query as a beginning."""
    words = query.lower().split()
    found = {}
    for number, name in db.execute("SELECT number, name FROM labels") if words else ():
        begins = re.findall(r"[^\W_]+", name.lower())
        if all(any(begin.startswith(word) for begin in begins) for word in words):
            found[number] = name
    return found


def _hits(db, video, words, labels):
    if words == '""':
        return []
    hits = [
        dict(row)
        for row in db.execute(
            "SELECT start, highlight(search, 0, char(2), char(3)) AS text FROM search "
            "JOIN sentences ON sentences.id = search.rowid "
            "WHERE search MATCH ? AND video = ? ORDER BY position LIMIT 20",
            (words, video),
        )
    ]
    if labels:
        hits += [
            {"start": row["start"], "text": f"\x02{labels[row['label']]}\x03"}
            for row in db.execute(
                "SELECT start, label FROM segments WHERE video = ? AND label IN "
                "(SELECT value FROM json_each(?)) ORDER BY start LIMIT 20",
                (video, json.dumps([*labels])),
            )
        ]
    return hits
