"""Captioning a folder of clips, from start to end, against merely reading it with OpenCV.

`python -m tests.benchmarks.batch` prints a line a run, then one JSON object, with keys for each
model that ships. `time_vs_reading_default` is the wall time of `captioner caption FOLDER -o FILE
--model default`, started cold, over that of one OpenCV loop that reads every frame of the same
files on the same cores: median over runs of all, one after the other. What a first caption prepares
is there before.
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
    parser.add_argument("--runs", type=int, default=3, help="rounds")
    parser.add_argument("--models", nargs="+", default=["default", "small"])
    parser.add_argument("--num-clips", type=int, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place, "clips"), Path(place, "out.jsonl")
        folder.mkdir()
        write_folder(folder, args.num_clips)
        command = [sys.executable, "-m", "captioner.cli", "caption", "-o", str(out)]
        for model in args.models:
            one = [str(folder / "00000.mp4"), "--engine", "lite"]
            subprocess.run([*command, *one, "--model", model], check=True)
        seconds = {name: [] for name in ("reading", *args.models)}
        for _ in range(args.runs):
            start = time.perf_counter()
            for path in folder.iterdir():
                read_all(path)
            seconds["reading"].append(time.perf_counter() - start)
            for model in args.models:
                start = time.perf_counter()
                subprocess.run(
                    [*command, str(folder), "--model", model],
                    check=True,
                    stderr=subprocess.DEVNULL,
                )
                seconds[model].append(time.perf_counter() - start)
                if len(out.read_text().splitlines()) != args.num_clips:
                    raise SystemExit("some clips have no row")
            print({name: round(times[-1], 1) for name, times in seconds.items()}, flush=True)
    result = {"cpus": os.cpu_count(), "num_clips": args.num_clips, "runs": args.runs}
    result |= {f"{name}_s": round(statistics.median(s), 2) for name, s in seconds.items()}
    for model in args.models:
        ratios = [ours / read for ours, read in zip(seconds[model], seconds["reading"])]
        result[f"time_vs_reading_{model}"] = round(statistics.median(ratios), 3)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
