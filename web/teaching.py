"""Teaching: trains a model on corrections in a process of its own, then compares it."""

import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from . import database, models
from .config import WebConfig
from .errors import Refusal


def train_command(base: str, labels: Path, output: Path) -> list[str]:
    """The command that teaches a model folder more; called again, it goes on."""
    command = [sys.executable, "-m", "captioner.cli", "train", str(labels)]
    return [*command, "--base", base, "--output", str(output)]


def caption_command(model: str, videos: list[str], output: Path) -> list[str]:
    """The command that captions videos into a file of JSON Lines."""
    command = [sys.executable, "-m", "captioner.cli", "caption", "--model", model]
    return [*command, "--format", "jsonl", "-o", str(output), *videos]


class _Stopped(Exception):
    """The server goes down, or nobody wants this model any more."""


class Teacher:
    """Teaches the model that waits to be taught.

    A server that was killed leaves the training running; its lock is held until it ends, and the
    next server then runs the same command, which goes on where it stopped.

    Args:
        config: of the server.
        stop: set when the server goes down.
        train: the training command.
        caption: the captioning command.
    """

    def __init__(
        self,
        config: WebConfig,
        stop: threading.Event,
        train: Callable = train_command,
        caption: Callable = caption_command,
    ):
        self.config, self.stop = config, stop
        self.train, self.caption = train, caption

    def step(self) -> bool:
        """Teaches one model, for as long as it takes; False if none waits."""
        db = database.connect(self.config.data)
        try:
            row = db.execute(f"SELECT * FROM models WHERE state IN {models.OPEN}").fetchone()
            if row is None:
                return False
            try:
                self._teach(db, row)
            except _Stopped:
                pass
            except Refusal:  # cancelled just now
                pass
            except (subprocess.CalledProcessError, OSError, ValueError) as err:
                models.move(db, row["id"], models.OPEN, "failed", error=_reason(err))
            return True
        finally:
            db.close()

    def _teach(self, db: sqlite3.Connection, row):
        folder, output = Path(row["path"]).parent, Path(row["path"])
        labels = folder / "labels.jsonl"
        base = models.read(db, row["base"])["path"]
        if row["state"] != "comparing":
            models.move(db, row["id"], ("waiting", "training"), "training")
            self._run(db, row["id"], self.train(base, labels, output), folder)
            models.move(db, row["id"], ("training",), "comparing")
        rows = [json.loads(line) for line in labels.read_text(encoding="utf-8").splitlines()]
        held_out = {row["video"]: row["captions"][0] for row in rows if row["split"] == "val"}
        held_out = {video: text for video, text in held_out.items() if Path(video).exists()}
        said = []
        for name, model in (("old", base), ("new", str(output))):
            results = folder / f"{name}.jsonl"
            if held_out:
                self._run(db, row["id"], self.caption(model, list(held_out), results), folder)
                lines = results.read_text(encoding="utf-8").splitlines()
                said.append({line["video"]: line["caption"] for line in map(json.loads, lines)})
        comparison = [
            {"video": Path(video).name, "wanted": text, "old": old, "new": new}
            for video, text in held_out.items()
            for old, new in [[captions.get(video) for captions in said]]
        ]
        models.move(
            db, row["id"], ("comparing",), "ready", comparison=json.dumps(comparison), error=None
        )

    def _run(self, db, model, command, folder):
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
        if process.returncode:
            last = (folder / "log.txt").read_text(errors="replace").strip().rpartition("\n")[2]
            raise subprocess.CalledProcessError(process.returncode, command, stderr=last)

    def _wait(self, db, model):
        if self.stop.wait(0.2) or models.read(db, model)["state"] not in models.OPEN:
            raise _Stopped


def _reason(err) -> str:
    said = getattr(err, "stderr", None) or str(err)
    return f"Teaching stopped: {said.removeprefix('captioner: ')}"
