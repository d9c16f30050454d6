"""What runs beside the page: keeps a worker alive and in time, teaches, cleans up."""

import logging
import subprocess
import sys
import threading
import time

from . import database, jobs, videos
from .config import WebConfig
from .teaching import COMMANDS, Commands, Teacher
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
        self._threads = [
            threading.Thread(target=target, name=target.__name__)
            for target in (self._keep_working, self._keep_teaching, self._keep_clean)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self._threads:
            thread.join()

    def _keep_working(self):
        db, pause = database.connect(self.config.data), 0.0
        while not self.stopped.is_set():
            started = time.monotonic()
            self._watch(db)
            if self.stopped.is_set():
                break
            _log.warning("the worker died; another one takes over")
            died_at_once = time.monotonic() - started < 1.0
            pause = min(2 * pause or 1.0, _LONGEST_PAUSE) if died_at_once else 0.0
            self.stopped.wait(pause)
        db.close()

    def _watch(self, db):
        """Starts a worker and stays until it is dead."""
        with subprocess.Popen(self.command, stdin=subprocess.PIPE, text=True) as process:
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
                        "This video took longer than it may; cut it into "
                        "shorter ones and upload those.",
                    )
                    process.kill()
                elif self.stopped.wait(_TICK):
                    process.kill()

    def _keep_teaching(self):
        while not self.stopped.is_set():
            if not self.teacher.step():
                self.stopped.wait(_TICK)

    def _keep_clean(self):
        db = database.connect(self.config.data)
        while not self.stopped.is_set():
            videos.clean(db, self.config)
            self.stopped.wait(_CLEAN_EVERY)
        db.close()
