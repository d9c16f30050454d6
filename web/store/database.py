"""The database: one connection a request or process, many at once (SQLite's WAL)."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path

from captioner.errors import CaptionerError

_FILE = "captioner.sqlite3"
_FOLDERS = ("videos", "previews", "frames", "models", "teaching")


def connect(data: Path) -> sqlite3.Connection:
    """Opens the database in the folder `data`; makes both where they are missing."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in _FOLDERS:
        (data / name).mkdir(exist_ok=True, mode=0o700)
    # Each statement stands for itself unless it is in a `transaction`.
    db = sqlite3.connect(data / _FILE, isolation_level=None, timeout=30)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA synchronous = NORMAL")
    return db


def create(data: Path) -> None:
    """Makes the tables that are missing.

    Raises:
        CaptionerError: SQLite cannot search.
    """
    with closing(connect(data)) as db:
        # Folders and files from before, or given by somebody, too: other users see nothing.
        for path in (data, *(data / name for name in _FOLDERS)):
            path.chmod(0o700)
        for path in data.glob(f"{_FILE}*"):
            path.chmod(0o600)
        db.execute("PRAGMA journal_mode = WAL")
        try:
            _migrate(db)
            schema = files("web.store").joinpath("schema.sql").read_text(encoding="utf-8")
            db.executescript(f"BEGIN IMMEDIATE; {schema}; COMMIT")
        except sqlite3.OperationalError as err:
            if "fts5" not in str(err):
                raise
            raise CaptionerError(
                "the page needs an SQLite with full-text search (FTS5); TensorFlow's has none: "
                "import sqlite3 before tensorflow, or install a Python whose sqlite3 has it"
            ) from err


# Columns that came after the first version.
_ADDED = (
    ("jobs", "task", "TEXT NOT NULL DEFAULT 'caption'"),
    ("videos", "arranged", "REAL"),
    ("jobs", "options", "TEXT"),
    ("videos", "binned", "REAL"),
    ("videos", "recorded", "REAL"),
    ("videos", "digest", "TEXT"),
    ("videos", "is_kept", "INTEGER NOT NULL DEFAULT 0"),
    ("models", "title", "TEXT"),
    ("models", "was", "TEXT"),
    ("models", "discarded", "REAL"),
)


def _migrate(db):
    """Adds the columns that a database of an earlier version lacks."""
    for table, column, kind in _ADDED:
        columns = [found["name"] for found in db.execute(f"PRAGMA table_info({table})")]
        if columns and column not in columns:
            db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of it or nothing; no other process writes meanwhile."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
