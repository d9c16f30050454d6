"""What runs beside the page: keeps a worker alive and in time, teaches, cleans, watches folders."""

import logging
import subprocess
import sys
import threading
import time
from contextlib import closing

from .config import WebConfig
from .store import binned, database, jobs, videos
from .teaching import COMMANDS, Commands, Teacher
from .watch import Watcher
from .worker import to_line

WORKER = (sys.executable, "-m", "web.worker")
_TICK = 0.2  # seconds
_CLEAN_EVERY = 60.0  # seconds
_LONGEST_PAUSE = 30.0  # seconds before a worker that dies at once is started again
_log = logging.getLogger(__name__)


class Supervisor:
    """Starts with the server and ends with it.

    Args:
        config: of the server.
        worker: the command of the worker process.
        commands: those that train and caption for teaching.
    """

    def __init__(self, config: WebConfig, worker: tuple = WORKER, commands: Commands = COMMANDS):
        self.config, self.command = config, worker
        self.stopped = threading.Event()
        self.teacher = Teacher(config, self.stopped, commands)
        self.process: subprocess.Popen | None = None
        self._pause = 0.0
        self._threads = [
            threading.Thread(target=self._repeat, args=args)
            for args in (
                (self._keep_working, 0.0),
                (self.teacher.step, _TICK),
                (self._clean, _CLEAN_EVERY),
                (Watcher(config, self.stopped).step, config.watch_seconds),
            )
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, step, pause):
        """Takes a step again and again; one that fails is told, and the next is taken."""
        while not self.stopped.is_set():
            try:
                step()
            except Exception:
                _log.exception("this failed, and is tried again")
                self.stopped.wait(1.0)
            self.stopped.wait(pause)

    def _keep_working(self):
        started = time.monotonic()
        with closing(database.connect(self.config.data)) as db:
            self._watch(db)
        if not self.stopped.is_set():
            _log.warning("the worker died; another one takes over")
            died_at_once = time.monotonic() - started < 1.0
            self._pause = min(2 * self._pause or 1.0, _LONGEST_PAUSE) if died_at_once else 0.0
            self.stopped.wait(self._pause)

    def _watch(self, db):
        """Starts a worker and stays until it is dead."""
        # In a session of its own, so that Ctrl-C reaches the server alone; it ends with stdin.
        with subprocess.Popen(
            self.command, stdin=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            self.process = process
            try:
                process.stdin.write(to_line(self.config))
                process.stdin.flush()
            except BrokenPipeError:
                return
            while process.poll() is None:
                late = jobs.overdue(db, self.config.job_seconds)
                if late:
                    jobs.fail(
                        db,
                        late["number"],
                        "This video took longer than the server allows; cut it "
                        "into shorter ones and upload those.",
                    )
                    process.kill()
                    process.wait()
                elif self.stopped.wait(_TICK):
                    process.kill()
                    process.wait()  # to ask again and again would keep it from dying

    def _clean(self):
        with closing(database.connect(self.config.data)) as db:
            binned.clean(db, self.config)
            videos.clean(db, self.config)
