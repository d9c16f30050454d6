"""Teaching: trains a model on corrections in a process of its own, then compares it.

What it and its base say is compared on the corrections, as the training judged them, where another
model than the one that learned from a correction speaks; and on videos that nobody corrected.
"""

import fcntl
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from captioner.terminal import ALL_GOOD, SOME_FAILED

from .config import WebConfig
from .errors import Refusal
from .store import database, models, videos


def train_command(base: str, labels: Path, output: Path) -> list[str]:
    """The command that teaches a model folder more; called again, it goes on.

    It writes a model that is no better too: the page says so, and a person decides.
    """
    command = [sys.executable, "-m", "captioner.cli", "train", str(labels)]
    return [*command, "--base", base, "--output", str(output), "--force"]


def caption_command(model: str, videos: list[str], output: Path) -> list[str]:
    """The command that captions videos into a file of JSON Lines."""
    command = [sys.executable, "-m", "captioner.cli", "caption", "--model", model]
    return [*command, "--format", "jsonl", "-o", str(output), *videos]


_log = logging.getLogger(__name__)


class _Stopped(Exception):
    """The server goes down, or nobody wants this model any more."""


@dataclass(frozen=True)
class Commands:
    """Which commands train and caption.

    Attributes:
        train: of a base model, labels and the model folder to write.
        caption: of a model, videos and the file to write.
    """

    train: Callable[[str, Path, Path], list[str]] = train_command
    caption: Callable[[str, list[str], Path], list[str]] = caption_command


COMMANDS = Commands()


class Teacher:
    """Teaches the model that waits to be taught.

    A server that was killed leaves the training running; its lock is held until it ends, and the
    next server then runs the same command, which goes on where it stopped.

    Args:
        config: of the server.
        stop: set when the server goes down.
        commands: what to run.
    """

    def __init__(self, config: WebConfig, stop: threading.Event, commands: Commands = COMMANDS):
        self.config, self.stop, self.commands = config, stop, commands

    def step(self) -> bool:
        """Teaches one model, for as long as it takes; False if none waits."""
        db = database.connect(self.config.data)
        try:
            row = models.being_taught(db)
            if row is None:
                return False
            try:
                self._teach(db, row)
            except (_Stopped, Refusal) as err:
                _log.info("teaching %s: stopped (%s)", row["name"], err)
            except (subprocess.CalledProcessError, OSError, ValueError) as err:
                models.move(db, row["id"], models.OPEN, "failed", error=_reason(err))
            models.clean(db, self.config)
            return True
        finally:
            db.close()

    def _teach(self, db: sqlite3.Connection, row):
        folder = models.teaching_folder(self.config, row["name"])
        output = Path(row["path"])
        labels = folder / "labels.jsonl"
        base = models.read(db, row["base"])["path"]
        if row["state"] != "comparing":
            models.move(db, row["id"], ("waiting", "training"), "training")
            self._run(db, row["id"], self.commands.train(base, labels, output), folder)
            models.move(db, row["id"], ("training",), "comparing")
        paths = [videos.path_of(self.config, video) for video in models.uncorrected(db)]
        paths = [str(path.absolute()) for path in paths if path.exists()]
        old = self._said(db, row, base, paths, folder / "old.jsonl")
        new = self._said(db, row, str(output), paths, folder / "new.jsonl")
        judged = models.judgement(row) or {"pairs": []}
        comparison = [
            pair | {"video": Path(pair["video"]).name, "wanted": pair["wanted"][0]}
            for pair in judged["pairs"]
        ]
        comparison += [
            {"video": Path(path).name, "old": old.get(path), "new": new.get(path)} for path in paths
        ]
        models.move(
            db, row["id"], ("comparing",), "ready", comparison=json.dumps(comparison), error=None
        )

    def _said(self, db, row, model, paths, results):
        """What a model says of videos, by path; those that it cannot read are left out."""
        if not paths:
            return {}
        results.unlink(missing_ok=True)
        command = self.commands.caption(model, paths, results)
        self._run(db, row["id"], command, results.parent, good=(ALL_GOOD, SOME_FAILED))
        lines = map(json.loads, results.read_text(encoding="utf-8").splitlines())
        return {line["video"]: line.get("caption") for line in lines}

    def _run(self, db, model, command, folder, good=(ALL_GOOD,)):
        """Runs a command to its end; what it says goes into `log.txt`."""
        with (folder / "lock").open("w") as lock, (folder / "log.txt").open("ab") as log:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self._wait(db, model)
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock.fileno()],  # held for as long as it lives, whatever befalls us
                start_new_session=True,
            )
            os.setpriority(os.PRIO_PROCESS, process.pid, 10)  # captions come first
            try:
                while process.poll() is None:
                    self._wait(db, model)
            except _Stopped:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
        if process.returncode not in good:
            last = (folder / "log.txt").read_text(errors="replace").strip().rpartition("\n")[2]
            raise subprocess.CalledProcessError(process.returncode, command, stderr=last)

    def _wait(self, db, model):
        if self.stop.wait(0.2) or models.read(db, model)["state"] not in models.OPEN:
            raise _Stopped


def _reason(err) -> str:
    said = getattr(err, "stderr", None) or str(err)
    return f"Teaching stopped: {said.removeprefix('captioner: ')}"
