"""Captioning on many machines: the steps of a batch, run by Ray Data.

Videos go in groups: a task reads a group, which takes half a CPU, and then an actor captions it,
which holds the model and takes the other half, or a GPU. Both are restarted when they are killed,
and their group begins again. Stretches of long videos are read where the model is, for they need
not fit into memory together.
"""

import logging
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain, islice
from typing import Any

from ..batch import BATCH_SIZE, Part, caption_parts, num_cores, read_parts
from ..caption import Caption, Failure
from ..errors import CaptionerError, ModelError, VideoError
from ..output import from_json, to_json
from ..video.reader import Reader, ReadingLimits, Request
from .stores import Stored, fetched

OWN = "ray"  # in place of an address: a cluster of this machine alone
# Videos that Ray Data knows of at a time: they bound the memory of whoever hands them out.
WINDOW = 100_000
READING_CPUS = 0.5
MODEL_CPUS = 0.49  # not the same, or Ray Data would have one worker do both


@dataclass(frozen=True)
class Job:
    """What every worker has to know.

    Attributes:
        load: makes the `Captioner`, on the machine that it will work on.
        request: what to read of a video, but for its path.
        model: how the captioner names itself; one that names itself otherwise is not used.
        limits: what one file may use.
        folder: which paths are relative to.
    """

    load: Callable[[], Any]
    request: Request
    model: str
    limits: ReadingLimits
    folder: str = field(default_factory=os.getcwd)

    def read(self, video: str | Stored) -> Iterator[Part]:
        """Reads a video in a child process of this one; see `read_parts`."""
        reader = _reader(self.limits)
        if isinstance(video, str):
            request = replace(self.request, video=os.path.join(self.folder, video))
            yield from read_parts(reader, request, self.model, name=video)
            return
        try:
            with fetched(video) as path:
                request = replace(self.request, video=path)
                yield from read_parts(reader, request, self.model, name=video.video)
        except VideoError as err:
            yield Failure(video.video, str(err), self.model)


def caption_on_ray(
    address: str,
    job: Job,
    videos: Iterable[str | Stored | Failure],
    workers: int | None = None,
    gpu: bool = True,
) -> Iterator[Caption | Failure]:
    """Captions videos on a Ray cluster, each once, in the order in which they are done.

    Args:
        address: `ray://HOST:PORT` or `HOST:PORT` of a cluster; or `ray`: the one that
            RAY_ADDRESS names, or else one that is started on this machine and ended with this.
        job: what to do.
        videos: paths that all machines know, and addresses; a `Failure` is passed on.
        workers: how many models work; by default one a CPU.
        gpu: whether models take the GPUs instead, where the cluster has any.

    Raises:
        CaptionerError: Ray is missing, there is no cluster, or it gives up.
    """
    videos = iter(videos)
    if (first := next(videos, None)) is None:
        return
    videos = chain([first], videos)
    with _cluster(address, workers or num_cores()) as ray:
        while window := list(islice(videos, WINDOW)):
            yield from (video for video in window if isinstance(video, Failure))
            waiting = dict(pair for pair in enumerate(window) if not isinstance(pair[1], Failure))
            while waiting:
                before = len(waiting)
                try:
                    for index, row in _run(ray, job, waiting, workers, gpu):
                        del waiting[index]
                        yield from_json(row)
                except ray.exceptions.RayError as err:
                    # Whoever handed out the groups may have been killed: another takes over.
                    lost = isinstance(err, ray.exceptions.ActorDiedError)
                    if not lost or len(waiting) == before:
                        raise CaptionerError(f"Ray has given up: {err}") from err


@contextmanager
def _cluster(address: str, num_cpus: int) -> Iterator[Any]:
    """The module `ray`, connected."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as err:
        raise CaptionerError('--on ray needs Ray: pip install "captioner[ray]"') from err
    logging.getLogger("ray").setLevel(logging.ERROR)
    if address == OWN:
        address = os.environ.get("RAY_ADDRESS", "local")
    own = {"num_cpus": num_cpus, "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError) as err:
        raise CaptionerError(f"{address}: no Ray cluster to work on: {err}") from err
    try:
        yield ray
    finally:
        ray.shutdown()


def _run(ray, job, videos, workers, gpu) -> Iterator[tuple[int, str]]:
    """Rows of JSON, with the numbers of their videos."""
    size = BATCH_SIZE if job.request.segments is None else 1
    items = list(videos.items())
    groups = [pickle.dumps(items[at : at + size]) for at in range(0, len(items), size)]
    resources = ray.cluster_resources()
    num_gpus = int(resources.get("GPU", 0)) if gpu else 0
    workers = num_gpus or workers or max(1, int(resources.get("CPU", 1)))
    run = ray.remote(num_cpus=0)(_Run).remote(job, groups, min(workers, len(groups)), num_gpus > 0)
    told = run.next.remote()
    while (rows := ray.get(told)) is not None:
        told = run.next.remote()
        yield from rows


class _Run:
    """Hands out groups and collects their rows, from within the cluster: Ray Data does not work
    for those who are connected by `ray://`."""

    def __init__(self, job: Job, groups: list[bytes], workers: int, gpu: bool):
        from ray import data

        data.DataContext.get_current().enable_progress_bars = False
        rows = data.from_items([{"group": g} for g in groups], override_num_blocks=len(groups))
        if job.request.segments is None:
            rows = rows.map(_read, fn_args=[job], num_cpus=READING_CPUS)
        rows = rows.map(
            _Model,
            fn_constructor_args=[job],
            compute=data.ActorPoolStrategy(size=workers),
            **({"num_gpus": 1} if gpu else {"num_cpus": MODEL_CPUS}),
        )
        self._rows = iter(rows.iter_rows())

    def next(self) -> list[tuple[int, str]] | None:
        row = next(self._rows, None)
        return None if row is None else pickle.loads(row["told"])


def _read(row: dict[str, bytes], job: Job) -> dict[str, bytes]:
    """Task: paths of a group -> its parts."""
    group = pickle.loads(row["group"])
    parts = [(index, part) for index, video in group for part in job.read(video)]
    return {"parts": pickle.dumps(parts)}


class _Model:
    """Actor: parts of a group -> rows."""

    def __init__(self, job: Job):
        self._job, self._captioner = job, job.load()
        if self._captioner.name != job.model:
            raise ModelError(
                f"expected the model {job.model} on all machines, found: {self._captioner.name}"
            )

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        if "parts" in row:
            batches = [pickle.loads(row["parts"])]
        else:
            batches = (
                [(index, part)]
                for index, video in pickle.loads(row["group"])
                for part in self._job.read(video)
            )
        told = [
            (index, to_json(result)) for index, result in caption_parts(self._captioner, batches)
        ]
        return {"told": pickle.dumps(told)}


@cache
def _reader(limits: ReadingLimits) -> Reader:
    """One for each worker, which outlives its tasks; the child ends with the worker."""
    return Reader(limits)
