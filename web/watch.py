"""Watched folders: what appears in them is captioned, what disappears is marked.

They are looked through again and again, for nothing else tells of changes on network drives, and
because a file is whole when two looks find it the same.
"""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing

from captioner.video import is_video

from .config import WebConfig
from .store import database, watched
from .store.watched import File

_SHARE = 9  # for each second of looking so many of rest
_SAMPLE = 2**20  # bytes
_log = logging.getLogger(__name__)


class Watcher:
    """Looks through the folders that the owner named.

    Args:
        config: of the server.
        stop: set when the server goes down.
    """

    def __init__(self, config: WebConfig, stop: threading.Event):
        self.config, self.stop = config, stop
        self._growing: dict[str, File] = {}  # as the last look found what is not known yet
        self._told: set[str] = set()

    def step(self) -> None:
        """Looks once, and notes what is new, what has changed and what is gone."""
        if not self.config.watch:
            return
        started = time.monotonic()
        with closing(database.connect(self.config.data)) as db:
            found = {file.path: file for file in find_files(self.config)}
            known = watched.known(db)
            roots = tuple(os.path.join(root, "") for root in self.config.watch)
            for path in known.keys() - found.keys():
                if path.startswith(roots):
                    watched.mark_missing(db, path)
            changed = {path: file for path, file in found.items() if known.get(path) != file}
            for path, file in changed.items():
                if self.stop.is_set():
                    return
                if file.size and self._growing.get(path) == file:
                    self._keep(db, file)
            self._growing = changed
        self.stop.wait(_SHARE * (time.monotonic() - started))

    def _keep(self, db, file):
        if not watched.is_room(db, self.config):
            self._tell(f"the library holds {self.config.max_videos:,} videos, which is its limit")
            return
        try:
            watched.keep(db, self.config, file, fingerprint(file))
        except OSError as err:
            self._tell(f"{file.path}: cannot be read, {err.strerror}; check its permissions")

    def _tell(self, message):
        """Once, not at each look."""
        if message not in self._told:
            self._told.add(message)
            _log.warning("%s", message)


def find_files(config: WebConfig) -> Iterator[File]:
    """The videos and pictures in the watched folders and those within, links followed.

    Each file comes once, however many names and links lead to it; hidden ones, and what the page
    itself keeps, are left out.
    """
    own = os.stat(config.data)
    seen = {(own.st_dev, own.st_ino)}
    for root in config.watch:
        yield from _walk(root, seen)


def _walk(folder, seen):
    try:
        with os.scandir(folder) as entries:
            entries = sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError as err:  # gone, or not ours to read: what was in it is missing
        _log.info("%s: cannot be listed, %s", folder, err.strerror)
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            found = entry.stat()
            is_folder = entry.is_dir()
        except OSError:  # a link that leads nowhere
            continue
        key = found.st_dev, found.st_ino
        if key in seen or not (is_folder or (entry.is_file() and is_video(entry.name))):
            continue
        seen.add(key)
        if is_folder:
            yield from _walk(entry.path, seen)
        else:
            yield File(entry.path, found.st_size, found.st_mtime_ns)


def fingerprint(file: File) -> str:
    """Tells a file's content by its size and three samples; reading an archive would take days.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256(str(file.size).encode())
    with open(file.path, "rb") as content:
        for place in (0, max(0, file.size // 2), max(0, file.size - _SAMPLE)):
            content.seek(place)
            digest.update(content.read(_SAMPLE))
    return digest.hexdigest()
