"""Sessions of browsers that logged in: a cookie counts for as long as its session is here."""

import secrets
import sqlite3
import time

_DAYS = 90


def begin(db: sqlite3.Connection) -> str:
    """Begins a session, ends those that are too old, and returns its id."""
    session, now = secrets.token_hex(16), time.time()
    db.execute("DELETE FROM sessions WHERE created < ?", (now - _DAYS * 86400,))
    db.execute("INSERT INTO sessions VALUES (?, ?)", (session, now))
    return session


def is_open(db: sqlite3.Connection, session: str) -> bool:
    """Whether a session was begun and neither ended nor too old."""
    row = db.execute(
        "SELECT 1 FROM sessions WHERE id = ? AND created >= ?",
        (session, time.time() - _DAYS * 86400),
    ).fetchone()
    return row is not None


def end(db: sqlite3.Connection, session: str) -> None:
    """Ends a session: whoever kept its cookie is let in no more."""
    db.execute("DELETE FROM sessions WHERE id = ?", (session,))
