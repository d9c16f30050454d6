"""Sampling the frames of a clip against reading all of them with OpenCV.

`python -m tests.benchmarks.frames [--clips DIR]` prints a line a clip, then one JSON object: how
many times faster `read_frames` has its frames, scaled to the size of the default model, than an
OpenCV loop has read every frame of the same file (`speedup_..._gop30` and so on: 20 s of video,
keyframes every so many frames, encoded by x264), medians over pairs of neighbouring runs, so that
whatever else runs on the machine slows both sides. `speedup_real` is the median over the files of
DIR, `speedup_real_lowest` the lowest of them.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import av
import cv2
import numpy as np

from captioner.config import SamplingOptions
from captioner.model_folder import ModelFolder
from captioner.video import find_videos, read_frames

SECONDS, FPS = 20, 30


def write_clip(path: Path, height: int, gop: int, seconds: int = SECONDS):
    """Encodes a view that wanders over a random landscape."""
    width = height * 16 // 9 // 2 * 2
    random = np.random.default_rng(0)
    far = FPS * 20
    coarse = random.integers(0, 255, ((height + far) // 8, (width + far) // 8, 3), np.uint8)
    landscape = cv2.resize(coarse, (width + far, height + far), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {
            "preset": "veryfast",
            "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:sliced-threads=0",
        }
        for number in range(seconds * FPS):
            at = abs((number + far) % (2 * far) - far)  # there and back
            view = np.ascontiguousarray(landscape[at : at + height, at : at + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="bgr24")))
        container.mux(stream.encode())


def read_all(path: Path) -> int:
    """Reads every frame with OpenCV; returns how many there are."""
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.read()[0]:
        count += 1
    return count


def compare(path: Path, runs: int, num_frames: int, size: tuple[int, int]) -> float:
    """How many times faster sampling is than reading all."""
    sides = (lambda: read_all(path), lambda: read_frames(path, SamplingOptions(num_frames), size))
    times = np.zeros((runs, 2))
    for side in sides:
        side()
    for number in range(runs):
        for side in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            sides[side]()
            times[number, side] = 1000 * (time.perf_counter() - start)
    all_ms, ours_ms = np.median(times, axis=0)
    speedup = float(np.median(times[:, 0] / times[:, 1]))
    print(f"{path.name}: all {all_ms:.0f} ms, ours {ours_ms:.0f} ms, {speedup:.2f} times faster")
    return round(speedup, 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="pairs of runs of each clip")
    parser.add_argument("--clips", type=Path, metavar="DIR", help="a folder of real clips")
    args = parser.parse_args()
    model = ModelFolder.open()
    how = (model.sampling.num_frames, model.load_backbone().input_size)
    result = {"cpus": os.cpu_count(), "runs": args.runs, "num_frames": how[0]}
    with tempfile.TemporaryDirectory() as folder:
        for height in (360, 1080):
            for gop in (30, 60, 250):
                path = Path(folder, f"{height}p_gop{gop}.mp4")
                write_clip(path, height, gop)
                result[f"speedup_{path.stem}"] = compare(path, args.runs, *how)
    if args.clips:
        real = [compare(path, args.runs, *how) for path in find_videos(args.clips)]
        result |= {"speedup_real": statistics.median(real), "speedup_real_lowest": min(real)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
