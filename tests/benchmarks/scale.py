"""Captioning on Ray, with one and two nodes of a CPU each, against the local batch.

`python -m tests.benchmarks.scale` prints a line a run, then one JSON object. `clips_per_s_1` and
`clips_per_s_2` are of `captioner caption --on HOST:PORT` on one and two nodes, each held to one
core of this machine, `local_clips_per_s_1` and `..._2` of the local batch on as many cores;
`overhead_1` and `overhead` (of two nodes) say how much longer Ray takes than the local batch.
Rates are of what is left when start-up is taken off: the time of a long run less that of a short
one. Start-up is told apart: `cluster_s`, until the cluster stands; `start_s` and `local_start_s`,
what a run takes beyond its clips. Medians over runs in turns; clips of 10 s at 360p, as in
`tests.benchmarks.batch`.
"""

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .batch import write_folder

# The nodes of a cluster, each held to some cores; it ends with its stdin.
_CLUSTER = """
import json, os, sys
from ray.cluster_utils import Cluster
cluster = Cluster()
for cores in json.loads(sys.argv[1]):
    os.sched_setaffinity(0, cores)
    cluster.add_node(num_cpus=1, include_dashboard=False, object_store_memory=200_000_000)
print(cluster.address, flush=True)
sys.stdin.read()
"""


@contextmanager
def ray_cluster(nodes: list[list[int]]) -> Iterator[tuple[str, int]]:
    """A Ray cluster on this machine; whoever connects needs the environment that it leaves.

    Args:
        nodes: the cores of each node, which has one CPU for Ray.

    Yields:
        Its address, and the process that holds all others of it.
    """
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ |= token
    process = subprocess.Popen(
        [sys.executable, "-c", _CLUSTER, json.dumps(nodes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        if not (address := process.stdout.readline().strip()):
            raise RuntimeError("the cluster has not started; its logs are in /tmp/ray")
        yield address, process.pid
    finally:
        process.communicate(timeout=60)
        for name in token:
            del os.environ[name]


def caption_s(folder: Path, cores: list[int], *arguments) -> float:
    """Seconds that the command takes to caption a folder on some cores."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "out.jsonl")
        command = [sys.executable, "-m", "captioner.cli", "caption", folder, "-o", out, *arguments]
        held = ["taskset", "--cpu-list", ",".join(map(str, cores))]
        start = time.perf_counter()
        subprocess.run([*held, *command], check=True, stderr=subprocess.DEVNULL)
        taken = time.perf_counter() - start
        if len(out.read_text().splitlines()) != len(list(folder.iterdir())):
            raise SystemExit("some clips have no row")
    return taken


def rate(short: Path, long: Path, *arguments) -> tuple[float, float]:
    """Clips a second, and seconds that a run takes beyond its clips."""
    few, many = (len(list(folder.iterdir())) for folder in (short, long))
    short_s, long_s = (caption_s(folder, *arguments) for folder in (short, long))
    if long_s <= short_s:
        raise SystemExit("the machine is too busy: many clips took no longer than a few")
    per_clip = (long_s - short_s) / (many - few)
    return 1 / per_clip, short_s - few * per_clip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="of each kind")
    parser.add_argument("--num-clips", type=int, default=200)
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit("two cores are needed")
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        short, long = Path(place, "short"), Path(place, "long")
        for folder, count in ((short, 8), (long, args.num_clips)):
            folder.mkdir()
            write_folder(folder, count)
        for _ in range(args.runs):
            for num in (1, 2):
                here = cores[:num]
                figures = dict(zip(("local_clips_per_s", "local_start_s"), rate(short, long, here)))
                start = time.perf_counter()
                with ray_cluster([[core] for core in here]) as (address, _):
                    figures["cluster_s"] = time.perf_counter() - start
                    on_ray = rate(short, long, here, "--on", address)
                figures |= zip(("clips_per_s", "start_s"), on_ray)
                print(num, {name: round(value, 3) for name, value in figures.items()}, flush=True)
                for name, value in figures.items():
                    found.setdefault(f"{name}_{num}", []).append(value)
    result = {name: round(statistics.median(values), 3) for name, values in found.items()}
    for num, name in ((1, "overhead_1"), (2, "overhead")):
        local, ray = found[f"local_clips_per_s_{num}"], found[f"clips_per_s_{num}"]
        result[name] = round(statistics.median(a / b - 1 for a, b in zip(local, ray)), 3)
    load = round(os.getloadavg()[1], 1)
    print(json.dumps({"cpus": os.cpu_count(), "load": load, "num_clips": args.num_clips} | result))


if __name__ == "__main__":
    main()
