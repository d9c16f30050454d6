"""Captioning a folder of clips, from start to end, against merely reading it with OpenCV.

`python -m tests.benchmarks.batch` prints a line a run, then one JSON object. `time_vs_reading` is
the wall time of `captioner caption FOLDER -o FILE`, started cold, over that of one OpenCV loop
that reads every frame of the same files on the same cores: median over pairs of neighbouring runs.
Clips are of 10 s at 360p, encoded by x264 with keyframes every 30, 60 or 250 frames.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .frames import read_all, write_clip

GOPS = (30, 60, 250)


def write_folder(folder: Path, num_clips: int, seconds: int = 10):
    """Fills a folder with copies of a few clips."""
    for number in range(num_clips):
        path = folder / f"{number:05}.mp4"
        if number < len(GOPS):
            write_clip(path, 360, GOPS[number], seconds)
        else:
            shutil.copy(folder / f"{number % len(GOPS):05}.mp4", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="pairs of runs")
    parser.add_argument("--num-clips", type=int, default=200)
    args = parser.parse_args()
    ratios, reading_s, captioning_s = [], [], []
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place, "clips"), Path(place, "out.jsonl")
        folder.mkdir()
        write_folder(folder, args.num_clips)
        command = [sys.executable, "-m", "captioner.cli", "caption", str(folder), "-o", str(out)]
        for _ in range(args.runs):
            start = time.perf_counter()
            for path in folder.iterdir():
                read_all(path)
            between = time.perf_counter()
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            end = time.perf_counter()
            if len(out.read_text().splitlines()) != args.num_clips:
                raise SystemExit("some clips have no row")
            reading_s.append(between - start)
            captioning_s.append(end - between)
            ratios.append(captioning_s[-1] / reading_s[-1])
            print(f"reading {reading_s[-1]:.1f} s, captioning {captioning_s[-1]:.1f} s", flush=True)
    result = {
        "cpus": os.cpu_count(),
        "num_clips": args.num_clips,
        "runs": args.runs,
        "reading_s": round(statistics.median(reading_s), 2),
        "captioning_s": round(statistics.median(captioning_s), 2),
        "time_vs_reading": round(statistics.median(ratios), 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
