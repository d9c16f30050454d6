"""Batches on Ray: on two nodes whose workers are killed, and on a cluster of one's own.

What runs is the command itself, with a model that says how bright a clip is (`tests.fake`).
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.memory import tree
from tests.benchmarks.scale import ray_cluster
from tests.clips import write_clip

ROOT = Path(__file__).parents[3]
needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason='needs Ray: pip install "captioner[ray]"'
)
SLOWLY = """
import sys
from functools import partial
from captioner.cli import caption
from captioner.cli.main import main
from tests import fake
caption.load_captioner = partial(fake.load, seconds=0.3)
sys.exit(main())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    for number in range(96):
        frames = [np.full((48, 64, 3), 2 * number, np.uint8)] * 4
        write_clip(folder / f"{number:02}.avi", frames, codec="MJPG")
    (folder / "bad.mp4").write_bytes(b"\1\2\3")
    return folder


def _run(*arguments, **options):
    command = [sys.executable, "-m", "tests.fake", "caption", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)


def _rows(path):
    return sorted(map(json.loads, path.read_text().splitlines()), key=lambda row: row["video"])


def _workers(cluster, name):
    while True:
        with suppress(OSError):  # one has ended meanwhile; look again
            return [
                pid for pid in tree(cluster) if name in Path(f"/proc/{pid}/cmdline").read_text()
            ]


@needs_ray
def test_two_nodes_and_killed_workers(folder, tmp_path):
    _run(folder, "-o", tmp_path / "local.jsonl")
    out = tmp_path / "ray.jsonl"
    cores = sorted(os.sched_getaffinity(0))
    with ray_cluster([cores, cores]) as (address, cluster):
        command = [sys.executable, "-c", SLOWLY, "caption", folder, "-o", out, "--on", address]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and not (out.exists() and out.stat().st_size):
            time.sleep(0.05)
        models = _workers(cluster, "_Model")
        assert len(models) == 2
        os.kill(models[0], signal.SIGKILL)
        for reader in _workers(cluster, "_read"):
            os.kill(reader, signal.SIGKILL)
        while process.poll() is None and len(out.read_text().splitlines()) < 40:
            time.sleep(0.05)
        [run] = _workers(cluster, "_Run")
        os.kill(run, signal.SIGKILL)
        _, told = process.communicate(timeout=300)
    assert "96 captioned, 1 failed, 0 done before" in told
    assert process.returncode == 1
    assert _rows(out) == _rows(tmp_path / "local.jsonl")


@needs_ray
def test_own_cluster_reads_addresses_and_goes_on(folder, tmp_path):
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    for path in sorted(folder.iterdir())[-6:]:
        (chosen / path.name).symlink_to(path)
    _run(chosen, "-o", tmp_path / "local.jsonl", "--segments", "0.2")
    out = tmp_path / "ray.jsonl"
    on_ray = [f"file://{chosen}", "-o", out, "--segments", "0.2", "--on", "ray", "--workers", "1"]
    done = _run(*on_ray)
    assert "5 captioned, 1 failed, 0 done before" in done.stderr
    expected = _rows(tmp_path / "local.jsonl")
    found = _rows(out)
    assert all(len(row["segments"]) == 2 for row in found if row["error"] is None)
    for row in expected:
        if row["error"]:
            row["error"] = row["error"].replace(row["video"], f"file://{row['video']}")
        row["video"] = f"file://{row['video']}"
    assert found == expected
    again = _run(*on_ray, "--resume")
    assert "0 captioned, 0 failed, 6 done before" in again.stderr


@pytest.mark.parametrize(
    ("code", "arguments", "status", "told"),
    [
        ("sys.modules['ray'] = None", ["a.mp4", "--on", "ray"], 2, 'pip install "captioner[ray]"'),
        ("", ["a.mp4", "--on", "spark"], 2, "--on"),
        ("", ["s3://bucket/clips"], 2, "--on ray"),
        ("", ["a.mp4", "-o", "a.parquet", "--format", "csv"], 2, "leave out --format"),
    ],
)
def test_wrong_usage(code, arguments, status, told):
    code = f"import runpy, sys; {code}\nrunpy.run_module('tests.fake', run_name='__main__')"
    command = [sys.executable, "-c", code, "caption", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status
    assert told in done.stderr
    assert "Traceback" not in done.stderr
