"""The worker: a process that does what waits in the queue, one after the other: captions,
previews, labels.

Videos come from strangers and decoders are large, so this runs apart from the page: with a limit
of memory, watched for time, and expected to die. `python -m web.worker` reads its configuration
from the first line of stdin and lives as long as stdin stays open.
"""

import fcntl
import json
import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from captioner.caption import Failure
from captioner.errors import ModelError, VideoError
from captioner.model_folder import ModelFolder
from captioner.terminal import muted_stderr
from captioner.video.reader import Moments, Reader
from captioner.video.segments import SHOTS

from .config import WebConfig
from .constraints import decoding_of
from .media import write_frames
from .preview import is_played, write_preview
from .recorded import recorded
from .store import database, jobs, models, previews, videos

_log = logging.getLogger("captioner.worker")
_MEND = "If it plays elsewhere, save it there as MP4 (H.264) and upload that."
_VERBS = {"begins", "cannot", "has", "holds", "is", "needs", "was"}
_IDLE = 0.2  # seconds between looks at an empty queue
_SMALLEST_PREVIEW = 10**6  # bytes; for less room none is made


def load_captioner(model: str, num_captions: int, options: dict | None = None):
    """Loads a model so that it tells several sentences of each video, and with these options."""
    decoding = decoding_of(ModelFolder.open(model), num_captions, options or {})
    with muted_stderr():
        from captioner.pipeline import Captioner

        return Captioner.load(model, decoding)


def load_labeller(model: str):
    """Loads a model that labels every moment, and TensorFlow with it."""
    with muted_stderr():
        from captioner.moments.labeller import Labeller

        return Labeller.load(model)


class Worker:
    """Does one job after the other.

    Args:
        config: of the server.
        load: gives a captioner for a model's path, a number of candidates, and maybe options.
        load_labeller: gives a labeller for a model's path, when the first video is labelled.
    """

    def __init__(
        self,
        config: WebConfig,
        load: Callable = load_captioner,
        load_labeller: Callable = load_labeller,
    ):
        self.config, self.load, self.load_labeller = config, load, load_labeller
        self.db = database.connect(config.data)
        self.path = self.captioner = self.labeller = None
        self.constrained = (None, {}), None  # path and options of another captioner, and that
        self.reader = Reader()  # of what is labelled
        self._looked = 0.0  # into the queue, in the middle of a job

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reader.close()
        self.db.close()

    def prepare(self) -> None:
        """Loads the active model, unless it is loaded.

        Raises:
            ModelError: it cannot be loaded.
        """
        path = models.active(self.db)["path"]
        if path != self.path:
            self.captioner = self.load(path, self.config.num_captions)
            self.path = path

    def step(self, task: str | None = None) -> bool:
        """Does the first job that waits, of any task or of this one; False if there is none."""
        broken = None
        try:
            self.prepare()
        except ModelError as err:
            broken = ModelError(f"{err}; or go back to an earlier model")
        job = jobs.claim(self.db, task)
        if job is None:
            return False
        number, video, task = job
        if not videos.path_of(self.config, video).exists():
            jobs.fail(self.db, number, "The file is no longer there.")
            return True
        try:
            if task == jobs.LABEL:
                is_wanted = self._label(number, video)
            elif task == jobs.PREVIEW:
                is_wanted = self._preview(number, video)
            elif broken:
                raise broken
            else:
                caption, needs_preview = self._look(video)
                is_wanted = jobs.finish(self.db, number, caption)
                if is_wanted and needs_preview:
                    jobs.add(self.db, video, jobs.PREVIEW)
            if not is_wanted:
                _log.info("%s: no longer wanted", video)
        except ModelError as err:
            jobs.fail(self.db, number, str(err))
        except VideoError as err:
            # The path says nothing to whoever uploaded it, and the remedy is for a terminal.
            path = f"{videos.path_of(self.config, video)}: "
            reason = str(err).removeprefix(path).partition(";")[0]
            jobs.fail(self.db, number, f"{_sentence(reason)} {_MEND}")
        except MemoryError:
            jobs.fail(
                self.db,
                number,
                "Reading this video needs more memory than the server allows; "
                "convert it to a smaller one and upload that.",
            )
        except Exception:
            _log.exception("%s: failed in a way that nobody expected", video)
            jobs.fail(
                self.db,
                number,
                "This failed unexpectedly; the server's log says where. Try again, or convert it "
                "to MP4 and upload that.",
            )
        return True

    def _label(self, number, video):
        if self.labeller is None:
            self.labeller = self.load_labeller(self.config.label_model)
        segments = list(self.labeller.label(videos.path_of(self.config, video), self))
        return jobs.finish_labels(self.db, number, self.labeller.name, segments)

    def read(self, request: Moments):
        """Reads for the labeller; whoever waits for a caption meanwhile does not wait for hours."""
        for part in self.reader.read(request):
            self._caption_others()
            yield part

    def _caption_others(self) -> float:
        """Captions what waits, in the middle of a longer job; how many seconds that took."""
        started = time.monotonic()
        if started - self._looked < _IDLE:
            return 0.0
        while self.step(jobs.CAPTION):
            pass
        self._looked = time.monotonic()
        return self._looked - started

    def _preview(self, number, video):
        path, partial = previews.path_of(self.config, video), self.config.data / "previews" / ".new"
        limits = previews.limits(self.db, self.config)
        if limits.size < _SMALLEST_PREVIEW:
            jobs.fail(self.db, number, "There is no room left for a preview.")
            return True

        def rest():
            took = self._caption_others()
            if took:
                jobs.rested(self.db, number, took)
            return took

        try:
            preview = write_preview(videos.path_of(self.config, video), partial, limits, rest)
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)
        is_wanted = jobs.finish_preview(self.db, number, preview)
        if not is_wanted:
            path.unlink()
        return is_wanted

    def _captioner_with(self, options):
        """The captioner, or one with options, of which the last is kept."""
        if not options:
            return self.captioner
        if self.constrained[0] != (self.path, options):
            self.constrained = (None, {}), None  # there is no room for two
            captioner = self.load(self.path, self.config.num_captions, options)
            self.constrained = (self.path, options), captioner
        return self.constrained[1]

    def _look(self, video):
        """A caption, and whether the video needs a preview."""
        path = videos.path_of(self.config, video)
        videos.keep_recorded(self.db, video, recorded(path))
        captioner = self._captioner_with(jobs.options(self.db, video))
        [caption] = captioner.caption_many([path], segments=SHOTS, workers=1)
        if isinstance(caption, Failure):
            raise VideoError(caption.error)
        write_frames(path, caption.times, videos.frames_of(self.config, video))
        if len(caption.segments) == 1:  # its sentence is that of the whole
            caption = replace(caption, segments=())
        has_one = previews.read(self.db, video)["media_type"]
        is_picture = videos.read(self.db, video)["media_type"].startswith("image/")
        return caption, not (has_one or is_picture or is_played(path))


def _sentence(reason: str) -> str:
    """Why a file cannot be read, as a sentence: `was never finished` lacks what it is said of."""
    if reason.partition(" ")[0] in _VERBS:
        return f"The file {reason}."
    return f"{reason[:1].upper()}{reason[1:]}."


def _limit_memory(more: int | None) -> None:
    """Lets this process take so many bytes of address space more than it has now, or any."""
    statm = Path("/proc/self/statm")
    if statm.exists():  # elsewhere than on Linux the limit is not kept either
        taken = int(statm.read_text().split()[0]) * resource.getpagesize()
        limit = resource.RLIM_INFINITY if more is None else taken + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def to_line(config: WebConfig) -> str:
    """The configuration as the line that `main` reads."""
    return json.dumps(asdict(config) | {"data": str(config.data)}) + "\n"


def main(load: Callable = load_captioner, load_labeller: Callable = load_labeller) -> int:
    """Works until stdin is closed."""
    logging.basicConfig(level=logging.INFO, format="worker: %(message)s")
    given = json.loads(sys.stdin.readline())
    config = WebConfig(
        **given
        | {"data": Path(given["data"])}
        | {name: tuple(given[name]) for name in ("names", "proxies", "watch")}
    )
    threading.Thread(target=_die_with_parent, daemon=True).start()

    def within_memory(load):
        def loaded(*args):
            _limit_memory(None)
            model = load(*args)
            _limit_memory(config.job_memory)
            return model

        return loaded

    with (config.data / "worker.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two would put back each other's jobs
        lock.truncate(0)
        lock.write(str(os.getpid()))  # for whoever wants to know
        lock.flush()
        with Worker(config, within_memory(load), within_memory(load_labeller)) as worker:
            jobs.recover(worker.db, config)
            while True:
                if not worker.step():
                    time.sleep(_IDLE)


def _die_with_parent():
    while sys.stdin.read(1):
        pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
