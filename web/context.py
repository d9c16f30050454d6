"""What every request has at hand."""

import sqlite3

from flask import current_app, g

from .config import WebConfig
from .store import database


def config() -> WebConfig:
    """The configuration of the server."""
    return current_app.extensions["captioner"]


def get_db() -> sqlite3.Connection:
    """The request's own connection to the database."""
    if "db" not in g:
        g.db = database.connect(config().data)
    return g.db


def close_db(_error=None) -> None:
    """Closes it, if it was opened."""
    db = g.pop("db", None)
    if db is not None:
        db.close()
