"""What changed, event by event."""

import sqlite3


def events_after(db: sqlite3.Connection, after: int | None) -> dict:
    """What changed after an event, and where events stand; only the latter if it is None."""
    [last] = db.execute("SELECT coalesce(max(number), 0) FROM events").fetchone()
    rows = db.execute(
        "SELECT * FROM events WHERE number > ? ORDER BY number LIMIT 500",
        (last if after is None else min(after, 2**53),),
    ).fetchall()
    return {"events": rows, "last": rows[-1]["number"] if rows else last}
